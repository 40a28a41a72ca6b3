//! How an object's actor ends: nothing that was answered for is lost, as long as the store takes it.

use actix::{MailboxError, prelude::*};
use comet_store::{DeleteRecord, Deleted, Deletion, Flush, Record, ReleaseRecord, StoreError, Version};
use tokio::sync::oneshot;

use super::{Aso, Reply, errand};
use crate::{Refusal, visit::Served};

/// Why an object leaves memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// Nothing happens.
    Idle,
    /// A turn failed, and the object is spent.
    Failed,
    /// The node stops.
    Draining,
}

impl Aso {
    /// Stops once everything is stored. Visits that queue meanwhile are not begun, and their senders try
    /// again.
    pub(super) fn leave(&mut self, departure: Departure, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        self.drop_flush(ctx);
        let (changes, logged) = (self.changes, self.log_unsaved);
        let saved = (self.is_unsaved() || logged).then(|| self.send_changes());
        let flushed = self.shared.links.flush.send(Flush);
        let stored = async move {
            if let Some(saved) = saved {
                saved.await?;
            }
            flushed.await.map_err(|_| StoreError::Stopped)?
        };
        let left = stored.into_actor(self).map(move |stored, aso, ctx| {
            aso.saved(changes, logged, stored, ctx);
            aso.left(departure, ctx);
        });
        ctx.wait(left);
    }

    /// The store has said whether it has everything; where it has not, the object stays.
    fn left(&mut self, departure: Departure, ctx: &mut Context<Self>) {
        let stays = (self.is_unsaved() || self.log_unsaved) && departure != Departure::Draining;
        if stays && (departure == Departure::Idle || self.rebuild()) {
            self.leaving = false;
        } else {
            ctx.stop();
        }
    }

    /// Makes the object anew from what its last good turn left; false if that cannot be done.
    fn rebuild(&mut self) -> bool {
        let record = Record { state: self.object.state().clone(), ..self.record.clone() };
        let blueprint = errand::blueprint(&record, self.shared.reach_of(&record));
        let Some(blueprint) = blueprint else { return false };
        match self.shared.activate(&blueprint, None, None) {
            Ok(mut object) => {
                object.succeed(&self.object);
                self.object = object;
                true
            }
            Err(error) => {
                log::warn!("the last changes of the object {} are lost: {error}", self.key.brief());
                false
            }
        }
    }

    /// Deletes the object, remembers it as `deletion` says, and answers when that is stored.
    pub(super) fn remove(
        &mut self,
        deletion: Deletion,
        reply: Option<Reply>,
        answer: Result<Served, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        let delete = DeleteRecord { key: self.key, deletion: Some(deletion), source: None };
        let gone = self.shared.links.delete.send(delete);
        self.go(gone, reply, answer, ctx);
    }

    /// Lets go of the object, which other nodes keep, if it is still this version.
    pub(super) fn release(&mut self, version: Version, reply: Reply, ctx: &mut Context<Self>) {
        if self.record.version != version {
            reply.send(Ok(Served::Deleted { held: false })).ok();
            return;
        }
        let gone = self.shared.links.release.send(ReleaseRecord { key: self.key, version });
        self.go(gone, Some(reply), Ok(Served::Deleted { held: true }), ctx);
    }

    /// Leaves once the store has forgotten the object, and answers then.
    fn go(
        &mut self,
        gone: impl Future<Output = Result<Result<Deleted, StoreError>, MailboxError>> + 'static,
        reply: Option<Reply>,
        answer: Result<Served, Refusal>,
        ctx: &mut Context<Self>,
    ) {
        let gone = async move { gone.await.unwrap_or(Err(StoreError::Stopped)) };
        self.interrupt(&Refusal::Stopping("the object".into()));
        let (tell, stored) = oneshot::channel();
        actix::spawn(async move {
            let gone = gone.await;
            tell.send(gone.is_ok()).ok();
            if let Some(reply) = reply {
                reply.send(gone.map_err(Refusal::from).and(answer)).ok();
            }
        });
        self.give_way(stored, ctx);
    }

    /// Stops once something else is stored in the object's place; stays if the store does not take it.
    pub(super) fn give_way(&mut self, stored: oneshot::Receiver<bool>, ctx: &mut Context<Self>) {
        self.leaving = true;
        self.drop_flush(ctx);
        let gone = stored.into_actor(self).map(|stored, aso, ctx| {
            if stored == Ok(true) {
                return ctx.stop();
            }
            aso.leaving = false;
            if aso.is_unsaved() || aso.log_unsaved {
                aso.save_soon(ctx);
            }
        });
        ctx.wait(gone);
    }

    /// True once the object's lifetime is over. An arrival is judged when it is decided.
    pub(super) fn is_expired(&self) -> bool {
        !self.arriving && self.record.expires_ms <= self.shared.clock.wall_ms()
    }

    /// The object's lifetime is over: the store has forgotten it, or will with its next sweep.
    pub(super) fn expire(&mut self, ctx: &mut Context<Self>) {
        self.leaving = true;
        self.drop_flush(ctx);
        self.interrupt(&Refusal::Stopping("the object".into()));
        ctx.stop();
    }
}
