//! How an object comes to be here: as a new one, or in the place of the one that is here already.

use std::sync::Arc;

use actix::prelude::*;
use comet_store::{PutRecord, Record, Rule, Source};

use super::{
    Aso, Reply,
    errand::{self, Arrival, Errand},
};
use crate::{Event, Object, OpResult, Refusal, WaitId, dht::Usage, rules, timers::first_due, visit::Served};

/// What was here before an arrival.
pub(super) struct Previous {
    pub(super) object: Object,
    pub(super) record: Record,
    /// What its requests brought meanwhile: no more than it may have open.
    pub(super) answers: Vec<(WaitId, OpResult)>,
}

impl Aso {
    /// Asks an arriving object's `onPut`.
    pub(super) fn begin_arrival(&mut self, arrival: Arrival, ctx: &mut Context<Self>) {
        self.arriving = true;
        let Arrival { caller, condition, trail, reply } = arrival;
        let source = caller.account(&self.shared.local);
        let rule = if self.previous.is_some() { Rule::Replace } else { rules::rule_of(condition) };
        self.run(&Event::Put { caller }, trail, Errand::Arrive { reply, source, rule }, ctx);
    }

    /// An update was accepted whole: the incoming object takes this one's place, if its `onPut` agrees.
    pub(super) fn replace(&mut self, record: Arc<Record>, arrival: Arrival, ctx: &mut Context<Self>) {
        let record = match errand::newcomer(record, self.shared.pool.limits()) {
            Ok(record) => record,
            Err(refusal) => return drop(arrival.reply.send(Err(refusal))),
        };
        let Some(blueprint) = errand::blueprint(&record, self.shared.reach_of(&record)) else {
            return self.become_plain(record, arrival, ctx);
        };
        let source = arrival.caller.source(&self.shared.local);
        match self.shared.activate(&blueprint, source, source) {
            Ok(mut object) => {
                if self.is_unsaved() {
                    // Whatever becomes of the arrival, this state was answered for.
                    self.save(None, ctx);
                }
                self.disturb();
                object.succeed(&self.object);
                let object = std::mem::replace(&mut self.object, object);
                let record = std::mem::replace(&mut self.record, Arc::unwrap_or_clone(record));
                self.previous = Some(Box::new(Previous { object, record, answers: Vec::new() }));
                self.begin_arrival(arrival, ctx);
            }
            Err(error) => {
                arrival.reply.send(Err(errand::activation_refusal(error))).ok();
            }
        }
    }

    /// A value without code takes the object's place.
    fn become_plain(&mut self, record: Arc<Record>, arrival: Arrival, ctx: &mut Context<Self>) {
        let served = Served::Stored { version: record.version, usage: Usage::default() };
        let source = arrival.caller.account(&self.shared.local);
        let put = PutRecord { record, source, rule: Rule::Replace, timer_ms: None };
        let put = self.shared.links.put.send(put);
        self.disturb();
        self.give_way(errand::answer_when_put(put, arrival.reply, served), ctx);
    }

    /// The arrival is accepted: once it is stored it lives here. Visits wait until then.
    pub(super) fn settle_in(
        &mut self,
        reply: Reply,
        source: Option<Source>,
        rule: Rule,
        usage: Usage,
        ctx: &mut Context<Self>,
    ) {
        self.obey_lifetime();
        let now = self.shared.clock.wall_ms();
        let timer_ms =
            self.object.policy().timer_seconds.map(|period| first_due(&self.key, period * 1_000, now));
        let record = Record { state: self.object.state().clone(), ..self.record.clone() };
        let (version, record) = (record.version, Arc::new(record));
        let put = self.shared.links.put.send(PutRecord { record, source, rule, timer_ms });
        let stored = errand::answer_when_put(put, reply, Served::Stored { version, usage });
        let settled = stored.into_actor(self).map(move |stored, aso, ctx| {
            if stored != Ok(true) {
                return aso.turn_away(ctx);
            }
            aso.previous = None;
            aso.arriving = false;
            aso.stored = aso.changes;
            aso.retire_timer();
            aso.timer_due_ms = timer_ms;
            aso.obey_policy(ctx);
            if aso.log_unsaved {
                aso.save_soon(ctx);
            }
            aso.catch_up(ctx);
        });
        ctx.wait(settled);
    }

    /// The arrival is refused: what was here before comes back, or nothing.
    pub(super) fn turn_away(&mut self, ctx: &mut Context<Self>) {
        self.arriving = false;
        self.drop_flush(ctx);
        // A refusal that was not the object's own leaves it in the middle of its arrival.
        self.interrupt(&Refusal::Stopping("the object".into()));
        let Some(previous) = self.previous.take() else {
            self.leaving = true;
            return ctx.stop();
        };
        let Previous { mut object, record, answers } = *previous;
        object.succeed(&self.object);
        (self.object, self.record) = (object, record);
        self.changed(ctx);
        for (wait, result) in answers {
            if !self.leaving {
                self.answered(wait, result, ctx);
            }
        }
        self.catch_up(ctx);
    }

    /// Serves what came while an arrival was decided. Whoever is not served because the object leaves tries
    /// again.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        while let Some(deliver) = self.backlog.pop_front() {
            if self.leaving {
                return self.backlog.clear();
            }
            if self.arriving {
                return self.backlog.push_front(deliver);
            }
            if !deliver.is_pointless() {
                self.visit(deliver.visit, deliver.reply, ctx);
            }
        }
    }
}
