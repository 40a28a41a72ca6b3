//! What becomes of an object's turns: what they ask for is sent, whoever waits is answered.

use std::time::Duration;

use actix::prelude::*;
use comet_store::{Deletion, Record, Seal};

use super::{
    super::Perform,
    Aso, Departure,
    errand::{Arrival, Errand},
};
use crate::{
    Event, Failure, InvocationId, OpResult, Outcome, Progress, Refusal, Report, Trail, WaitId, dht::Usage,
    object_log::Author, rules, visit::Served,
};

/// Names one run of a handler or of a callback, over all its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Run {
    Event(InvocationId),
    /// By the request that it was given to.
    Callback(WaitId),
}

/// A run that is under way.
pub(super) struct Pending {
    pub(super) errand: Errand,
    pub(super) handler: &'static str,
}

impl Aso {
    /// Runs an event's handler.
    pub(super) fn run(&mut self, event: &Event, trail: Trail, errand: Errand, ctx: &mut Context<Self>) {
        let source = event.caller().and_then(|caller| caller.source(&self.shared.local));
        let moment = self.shared.moment();
        // Looking for the handler costs more than whether it may run, which is the rule.
        if let Err(refusal) = self.shared.may_run_at(moment.now, &self.key, source)
            && self.object.has(event.handler())
        {
            return self.refuse(errand, refusal, ctx);
        }
        let id = self.next_invocation;
        self.next_invocation += 1;
        let pending = Pending { errand, handler: event.handler() };
        let report = self.object.begin(id, event, trail, moment);
        self.begun(Run::Event(id), pending, report, ctx);
    }

    /// Takes up a run whose first turn has ended.
    pub(super) fn begun(&mut self, run: Run, pending: Pending, report: Report, ctx: &mut Context<Self>) {
        if matches!(report.end, Ok(Progress::Waiting)) {
            self.pending.insert(run, pending);
            let limit = Duration::from_millis(self.shared.pool.limits().invocation_ms);
            ctx.run_later(limit, move |aso, ctx| aso.give_up(run, ctx));
            self.settle(report, None, ctx);
        } else {
            self.settle(report, Some(pending), ctx);
        }
    }

    /// The swarm has answered a request.
    pub(super) fn answered(&mut self, wait: WaitId, result: OpResult, ctx: &mut Context<Self>) {
        if let Some(previous) = &mut self.previous
            && previous.object.awaits(wait)
        {
            // It hears it if it comes back.
            return previous.answers.push((wait, result));
        }
        let moment = self.shared.moment();
        let Some(report) = self.object.resume(wait, result, moment) else { return };
        let run = report.invocation.map(Run::Event).or(report.callback.map(Run::Callback));
        let Some(run) = run else { return };
        if matches!(run, Run::Callback(_)) && !self.pending.contains_key(&run) {
            let pending = Pending { errand: Errand::Callback, handler: "callback" };
            return self.begun(run, pending, report, ctx);
        }
        let over = !matches!(report.end, Ok(Progress::Waiting));
        let pending = if over { self.pending.remove(&run) } else { None };
        if self.pending.is_empty() {
            // An emptied map keeps a node of two kilobytes.
            self.pending.clear();
        }
        self.settle(report, pending, ctx);
    }

    /// A run has waited for too long.
    fn give_up(&mut self, run: Run, ctx: &mut Context<Self>) {
        if let Some(pending) = self.pending.remove(&run) {
            let limit_ms = self.shared.pool.limits().invocation_ms;
            self.fail(Some(pending), Failure::Deadline { limit_ms }, ctx);
        }
    }

    /// Keeps, sends and answers what a turn came to; `pending` is the run that ended with it.
    fn settle(&mut self, report: Report, pending: Option<Pending>, ctx: &mut Context<Self>) {
        self.shared.charge(&self.key, &report);
        self.make_way(report.cost, ctx);
        let Report { callback, end, usage, requests, log, state, delete_self, .. } = report;
        match callback {
            // Its next turn reports this one's as well.
            Some(_) if end == Ok(Progress::Waiting) => {}
            Some(_) => self.last_usage.extend_by(usage),
            None => self.last_usage = usage,
        }
        log.iter().for_each(|line| self.note(Author::Handler, line));
        if self.log_unsaved {
            self.save_soon(ctx);
        }
        let progress = match end {
            Ok(progress) => progress,
            Err(failure) => return self.fail(pending, failure, ctx),
        };
        if state.is_some() {
            self.obey_policy(ctx);
            self.changed(ctx);
        }
        for request in requests {
            self.send(request, ctx);
        }
        let (Progress::Done(outcome), Some(Pending { errand, .. })) = (progress, pending) else { return };
        if delete_self {
            self.conclude_and_go(errand, outcome, usage, ctx);
        } else {
            self.conclude(errand, outcome, usage, ctx);
        }
    }

    /// Lets the others on this thread have their turns, if this object has had many.
    fn make_way(&mut self, cost: Duration, ctx: &mut Context<Self>) {
        self.worked = self.worked.saturating_add(cost);
        if self.worked >= self.shared.slice {
            self.worked = Duration::ZERO;
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }

    fn send(&self, request: crate::Request, ctx: &mut Context<Self>) {
        let wait = request.wait;
        let copy = matches!(request.op, crate::Op::Copy { .. })
            .then(|| Box::new(Record { state: self.object.state().clone(), ..self.record.clone() }));
        let perform = Perform { object: self.key, request, copy };
        let answer = self.shared.links.network.send(perform).into_actor(self).map(move |result, aso, ctx| {
            let result = result.unwrap_or_else(|_| Err(Refusal::Stopping("the node".into())));
            aso.answered(wait, result, ctx);
        });
        ctx.spawn(answer);
    }

    fn conclude(&mut self, errand: Errand, outcome: Outcome, usage: Usage, ctx: &mut Context<Self>) {
        let version = self.record.version;
        match (errand, outcome) {
            (errand, Outcome::Refuse(reason)) => {
                if let Errand::Update { record, .. } = &errand {
                    self.object.note_decided(record.version);
                    self.changed(ctx);
                }
                self.refuse(errand, Refusal::Refused(reason), ctx);
            }
            (Errand::Answer(reply), Outcome::Reply(value)) => {
                let served = Served::Got { value, version, active: true, usage, seal: self.seal() };
                if self.object.policy().durable && self.is_unsaved() {
                    self.save(Some((reply, served)), ctx);
                } else {
                    reply.send(Ok(served)).ok();
                }
            }
            (Errand::Update { reply, caller, record, trail }, Outcome::Accept) => {
                match rules::may_replace(&self.record, &record) {
                    Ok(()) => {
                        self.replace(record, Arrival { caller, condition: None, trail, reply }, ctx);
                    }
                    Err(refusal) => drop(reply.send(Err(refusal))),
                }
            }
            (Errand::Update { reply, record, .. }, Outcome::Handled) => {
                self.object.note_decided(record.version);
                self.changes += 1;
                self.save(Some((reply, Served::Stored { version, usage })), ctx);
            }
            (Errand::Delete { reply, deletion }, Outcome::Accept) => {
                let deletion = rules::agreed(&self.record, deletion);
                self.remove(deletion, Some(reply), Ok(Served::Deleted { held: true }), ctx);
            }
            (Errand::Arrive { reply, source, rule }, Outcome::Accept) => {
                self.settle_in(reply, source, rule, usage, ctx);
            }
            (_, _) => {}
        }
    }

    /// What proves to a reader that the owner put this object.
    pub(super) fn seal(&self) -> Option<Box<Seal>> {
        Seal::of(&self.record).map(Box::new)
    }

    /// Ends a run that asked for the object's deletion: its one answer leaves when the object is gone.
    fn conclude_and_go(&mut self, errand: Errand, outcome: Outcome, usage: Usage, ctx: &mut Context<Self>) {
        let version = self.record.version;
        let deletion = match (&errand, &outcome) {
            (Errand::Delete { deletion, .. }, Outcome::Accept) => {
                rules::agreed(&self.record, deletion.clone())
            }
            _ => Deletion::unsigned(version),
        };
        let answer = match (&errand, outcome) {
            // It was never here, and it does not take anybody's place.
            (Errand::Arrive { .. }, outcome) => {
                let reason = match outcome {
                    Outcome::Refuse(reason) => reason,
                    _ => "the object deleted itself when it arrived".into(),
                };
                return self.refuse(errand, Refusal::Refused(reason), ctx);
            }
            (Errand::Update { record, .. }, Outcome::Accept) => {
                match rules::may_replace(&self.record, record) {
                    // It goes by being replaced.
                    Ok(()) => return self.conclude(errand, Outcome::Accept, usage, ctx),
                    Err(refusal) => Err(refusal),
                }
            }
            (Errand::Answer(_), Outcome::Reply(value)) => {
                Ok(Served::Got { value, version, active: true, usage, seal: self.seal() })
            }
            (Errand::Update { .. }, Outcome::Refuse(reason)) => Err(Refusal::Refused(reason)),
            (Errand::Update { .. }, _) => Ok(Served::Stored { version, usage }),
            (_, _) => Ok(Served::Deleted { held: true }),
        };
        self.remove(deletion, errand.into_reply(), answer, ctx);
    }

    /// Tells an errand no. The object stays as it was; an arrival that is refused never was here.
    fn refuse(&mut self, errand: Errand, refusal: Refusal, ctx: &mut Context<Self>) {
        let arrives = matches!(errand, Errand::Arrive { .. });
        errand.answer(Err(refusal));
        if arrives {
            self.turn_away(ctx);
        }
    }

    fn fail(&mut self, pending: Option<Pending>, failure: Failure, ctx: &mut Context<Self>) {
        let handler = pending.as_ref().map_or("callback", |pending| pending.handler);
        self.note(Author::Node, &format!("{handler} failed: {failure}"));
        let refusal = Refusal::HandlerFailed { handler: handler.into(), failure };
        if let Some(Pending { errand, .. }) = pending {
            errand.answer(Err(refusal));
        }
        self.disturb();
        if self.arriving {
            self.turn_away(ctx);
        } else {
            self.leave(Departure::Failed, ctx);
        }
    }

    /// Ends all runs since another turn failed or another object takes this one's place.
    pub(super) fn disturb(&mut self) {
        self.end_runs(|handler| Refusal::HandlerFailed {
            handler: handler.into(),
            failure: Failure::Interrupted,
        });
    }

    /// Ends all runs for this reason.
    pub(super) fn interrupt(&mut self, refusal: &Refusal) {
        self.end_runs(|_| refusal.clone());
    }

    fn end_runs(&mut self, why: impl Fn(&str) -> Refusal) {
        self.object.forget_runs();
        for (_, Pending { errand, handler }) in std::mem::take(&mut self.pending) {
            errand.answer(Err(why(handler)));
        }
    }
}
