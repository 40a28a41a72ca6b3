//! Gets of one caller that arrive together: one message, one account, and one state to keep for all of them.

use std::time::Instant;

use actix::prelude::*;
use comet_routing::Key;
use rand::Rng;
use tokio::sync::oneshot;

use super::{
    super::Begun,
    Aso, Deliver,
    errand::Errand,
    turns::{Pending, Run},
};
use crate::{
    Event, Most, Refusal, Series, Trail,
    visit::{Served, Visit},
};

/// The same get several times, with one way back for all that were begun; those that are not among them were not. A dropped
/// `reply` means that none was.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeliverSeries {
    /// The object.
    pub key: Key,
    /// A get without a payload.
    pub visit: Visit,
    /// How often.
    pub times: usize,
    /// When it was sent.
    pub sent: Instant,
    /// Where the outcomes go.
    pub reply: oneshot::Sender<Vec<Begun>>,
}

impl Handler<DeliverSeries> for Aso {
    type Result = ();

    fn handle(&mut self, message: DeliverSeries, ctx: &mut Self::Context) {
        let DeliverSeries { key, visit, times, sent, reply } = message;
        if self.leaving || reply.is_closed() {
            return;
        }
        if self.is_expired() {
            return self.expire(ctx);
        }
        let mut begun = Vec::with_capacity(times);
        if let Visit::Get { caller, payload: None, trail } = &visit
            && self.may_run_series()
        {
            match self.admit(&visit, sent) {
                Ok(()) => {
                    let event = Event::Get { caller: caller.clone(), payload: None };
                    self.run_series(&event, *trail, times, &mut begun, ctx);
                }
                Err(refusal) => refuse(&refusal, times, &mut begun),
            }
        }
        if !self.leaving && !self.may_run_series() {
            while begun.len() < times {
                let (reply, outcome) = oneshot::channel();
                self.handle(Deliver { key, visit: visit.clone(), sent, reply }, ctx);
                begun.push(Begun::Sent(outcome));
            }
        }
        reply.send(begun).ok();
    }
}

impl Aso {
    /// True if nothing but the turns themselves stands between a get and its answer.
    fn may_run_series(&self) -> bool {
        !self.arriving && !self.leaving && self.pending.is_empty() && !self.object.policy().durable
    }

    /// Runs so many gets, or as many as can be run at once. When one fails, those whose state was not kept yet have not taken
    /// place, and neither has it.
    fn run_series(
        &mut self,
        event: &Event,
        trail: Trail,
        times: usize,
        begun: &mut Vec<Begun>,
        ctx: &mut Context<Self>,
    ) {
        let source = event.caller().and_then(|caller| caller.source(&self.shared.local));
        while begun.len() < times && self.may_run_series() {
            let left = times.saturating_sub(begun.len());
            let most = Most { times: left, cost: self.shared.slice };
            if let Err(refusal) = self.shared.may_run(&self.key, source) {
                return refuse(&refusal, left, begun);
            }
            let id = self.next_invocation;
            self.next_invocation += 1;
            let (shared, version) = (self.shared.clone(), self.record.version);
            let (moment, seeds) = (shared.moment(), || shared.rng.borrow_mut().next_u64());
            let Series { replies, last } = self.object.begin_series(id, event, trail, most, moment, seeds);
            let (is_over, has_failed) = (last.cost >= most.cost, last.end.is_err());
            let (reply, outcome) = oneshot::channel();
            let pending = Pending { errand: Errand::Answer(reply), handler: event.handler() };
            self.begun(Run::Event(id), pending, last, ctx);
            if has_failed {
                return;
            }
            let seal = self.seal();
            begun.extend(replies.into_iter().map(|(value, usage)| {
                Begun::Served(Ok(Served::Got { value, version, active: true, usage, seal: seal.clone() }))
            }));
            begun.push(Begun::Sent(outcome));
            if is_over {
                return;
            }
        }
    }
}

fn refuse(refusal: &Refusal, times: usize, begun: &mut Vec<Begun>) {
    begun.extend((0..times).map(|_| Begun::Served(Err(refusal.clone()))));
}
