//! What the store and the timer are told of an object: state, log, lifetime, when it ticks next.

use std::time::Duration;

use actix::prelude::*;
use comet_store::{SaveLog, SaveState, StoreError};

use super::{
    super::{
        AsoTimer,
        aso_timer::{Retire, SetPeriod, Wind},
    },
    Aso, Reply, errand,
};
use crate::{
    object_log::{Author, ObjectLog},
    timers::{first_due, next_due},
    visit::Served,
};

/// How long a save that failed waits for its next attempt.
const RETRY: Duration = Duration::from_secs(1);

impl Aso {
    /// Notes that there is something new to save.
    pub(super) fn changed(&mut self, ctx: &mut Context<Self>) {
        self.changes += 1;
        self.save_soon(ctx);
    }

    /// True while the store has not said that it has all changes.
    pub(super) fn is_unsaved(&self) -> bool {
        self.stored < self.changes
    }

    /// Saves state and log within the flush interval; turns until then share one write.
    pub(super) fn save_soon(&mut self, ctx: &mut Context<Self>) {
        self.save_within(self.shared.state_flush, ctx);
    }

    fn save_within(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if self.flush.is_none() && !self.arriving {
            self.flush = Some(ctx.run_later(pause, |aso, ctx| {
                aso.flush = None;
                aso.save(None, ctx);
            }));
        }
    }

    /// Saves state and log now, and answers when they are stored.
    pub(super) fn save(&mut self, answer: Option<(Reply, Served)>, ctx: &mut Context<Self>) {
        self.drop_flush(ctx);
        let (changes, logged) = (self.changes, self.log_unsaved);
        let stored = errand::answer_when_saved(self.send_changes(), answer);
        let saved = stored.into_actor(self).map(move |stored, aso, ctx| {
            aso.saved(changes, logged, stored.unwrap_or(Err(StoreError::Stopped)), ctx);
        });
        ctx.spawn(saved);
    }

    /// Sends state and log to the store.
    pub(super) fn send_changes(&mut self) -> impl Future<Output = Result<(), StoreError>> + 'static {
        let saved = self.shared.links.save.send(SaveState {
            key: self.key,
            version: self.record.version,
            state: self.object.state().clone(),
            timer_ms: self.timer_due_ms,
            expires_ms: Some(self.record.expires_ms),
        });
        let logged = std::mem::take(&mut self.log_unsaved).then(|| {
            let log = self.log().encode();
            self.shared.links.log.send(SaveLog { key: self.key, log })
        });
        async move {
            saved.await.unwrap_or(Err(StoreError::Stopped))?;
            match logged {
                Some(logged) => logged.await.unwrap_or(Err(StoreError::Stopped)),
                None => Ok(()),
            }
        }
    }

    /// Notes what came of a save of so many changes, and perhaps of the log. What the store may take later is
    /// sent again.
    pub(super) fn saved(
        &mut self,
        changes: u64,
        logged: bool,
        stored: Result<(), StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let error = stored.err();
        let was_out = self.shared.outage.replace(error.is_some());
        if let Some(error) = &error
            && !was_out
        {
            log::warn!("changes of objects cannot be saved, the first of {}: {error}", self.key.brief());
        }
        match error {
            Some(StoreError::Unwritable { .. } | StoreError::Unreadable { .. } | StoreError::Stopped) => {
                self.log_unsaved |= logged;
                self.save_within(RETRY, ctx);
            }
            _ => self.stored = self.stored.max(changes),
        }
    }

    /// Calls off a save that was still to come.
    pub(super) fn drop_flush(&mut self, ctx: &mut Context<Self>) {
        if let Some(flush) = self.flush.take() {
            ctx.cancel_future(flush);
        }
    }

    /// Writes a line into the object's log.
    pub(super) fn note(&mut self, author: Author, line: &str) {
        let (now, limits) = (self.shared.clock.wall_ms(), self.shared.pool.limits().clone());
        self.log().push(now, author, line, &limits);
        self.log_unsaved = true;
    }

    pub(super) fn log(&mut self) -> &mut ObjectLog {
        let (reader, key) = (&self.shared.links.reader, &self.key);
        self.log.get_or_insert_with(|| {
            let stored = reader.log(key).ok().flatten();
            Box::new(stored.map_or_else(ObjectLog::default, |bytes| ObjectLog::decode(&bytes)))
        })
    }

    /// Applies what the object asks of its node: timer, lifetime, replicas. One that arrives has no say yet.
    pub(super) fn obey_policy(&mut self, ctx: &mut Context<Self>) {
        if !self.arriving {
            self.obey_lifetime();
            self.wind_timer(ctx);
        }
    }

    /// Applies what the object asks for its record: a shorter life, a number of replicas.
    pub(super) fn obey_lifetime(&mut self) {
        let policy = self.object.policy();
        if let Some(ttl) = policy.ttl_seconds {
            let wanted = self.record.created_ms.saturating_add(ttl.saturating_mul(1_000));
            self.record.expires_ms = self.record.expires_ms.min(wanted);
        }
        if let Some(replicas) = policy.replicas
            && self.record.ownership.is_none()
        {
            self.record.replicas = replicas;
        }
    }

    fn wind_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(period_seconds) = self.object.policy().timer_seconds else {
            self.timer_due_ms = None;
            return self.retire_timer();
        };
        let (now, period_ms) = (self.shared.clock.wall_ms(), period_seconds * 1_000);
        // What is stored may be from before the clock was set back, or the period was shortened.
        let kept = self.timer_due_ms.filter(|due| *due <= now + period_ms * 3 / 2);
        let due = kept.unwrap_or_else(|| first_due(&self.key, period_ms, now));
        let moved = self.timer_due_ms.replace(due).is_some_and(|before| before != due);
        if moved {
            self.changed(ctx);
        }
        let (period, first) =
            (Duration::from_millis(period_ms), Duration::from_millis(due.saturating_sub(now)));
        match &self.timer {
            Some(timer) => {
                timer.do_send(SetPeriod(period));
                if moved {
                    timer.do_send(Wind(first));
                }
            }
            None => {
                let object = ctx.address().downgrade().recipient();
                self.timer = Some(AsoTimer::new(first, period, object).start());
            }
        }
    }

    /// After a tick: says when the next one is due.
    pub(super) fn rewind_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(period_seconds) = self.object.policy().timer_seconds else { return };
        let now = self.shared.clock.wall_ms();
        let due = next_due(&self.key, period_seconds * 1_000, now);
        self.timer_due_ms = Some(due);
        self.changed(ctx);
        if let Some(timer) = &self.timer {
            timer.do_send(Wind(Duration::from_millis(due.saturating_sub(now))));
        }
    }

    pub(super) fn retire_timer(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.do_send(Retire);
        }
    }
}
