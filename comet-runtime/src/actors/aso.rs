//! One active object on this replica, as an actor.
//!
//! The actor owns the object's [`Object`] and decides what becomes of its turns: it saves what they changed,
//! sends what they asked for, answers whoever waits. A turn that fails ends the actor; the next visit
//! restores the object from what was kept last. Deletion and idleness end it, too.

pub(crate) mod errand;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, collections::VecDeque, time::Duration, time::Instant};

use actix::prelude::*;
use comet_routing::{Key, clock::WallMs};
use comet_store::{DeleteRecord, Flush, PutRecord, Record, Rule, SaveLog, SaveState, StoreError, Version};
use tokio::sync::oneshot;

use self::errand::{Arrival, Errand};
use super::{
    AsoStopped, AsoTimer, Perform, Shared, Tick,
    aso_timer::{Retire, SetPeriod},
};
use crate::{
    Caller, Event, Failure, InvocationId, Object, OpResult, Outcome, Progress, Refusal, Report, Trail,
    WaitId,
    dht::Usage,
    object_log::{Author, ObjectLog},
    rules::{self, OnDelete, OnPut},
    visit::{Holding, Served, Visit},
};

/// A visit to one object, with the way back. A dropped `reply` means that the visit was never begun.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The object.
    pub key: Key,
    /// What for.
    pub visit: Visit,
    /// Where the outcome goes.
    pub reply: Reply,
}

/// Takes the outcome of a visit.
pub type Reply = oneshot::Sender<Result<Served, Refusal>>;

/// Leave memory if nothing happened since this instant and nothing is under way.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct PassivateIfIdle {
    /// The instant.
    pub since: Instant,
}

/// The object reached the end of its lifetime, and the store has forgotten it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Expire;

/// The node stops: save what is to be saved and leave, whatever is under way.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

struct Pending {
    errand: Errand,
    handler: &'static str,
}

/// The actor of one active object.
pub struct Aso {
    shared: Shared,
    key: Key,
    object: Object,
    record: Record,
    /// What was here before an arrival that is still being decided.
    previous: Option<Box<(Object, Record)>>,
    arrival: Option<Box<Arrival>>,
    arriving: bool,
    backlog: VecDeque<Deliver>,
    pending: BTreeMap<InvocationId, Pending>,
    next_invocation: InvocationId,
    log: Option<Box<ObjectLog>>,
    log_unsaved: bool,
    timer: Option<Addr<AsoTimer>>,
    timer_due_ms: Option<WallMs>,
    flush: Option<SpawnHandle>,
    /// Set once the actor is on its way out: the object may be spent, and nothing runs on it any more.
    leaving: bool,
    touched: Instant,
    last_usage: Usage,
}

impl Aso {
    /// An object that was in the store. Its timer was due at `timer_due_ms`.
    pub(crate) fn resting(
        shared: Shared,
        object: Object,
        record: Record,
        timer_due_ms: Option<WallMs>,
    ) -> Self {
        let touched = shared.clock.now();
        Self {
            key: record.key,
            shared,
            object,
            record,
            previous: None,
            arrival: None,
            arriving: false,
            backlog: VecDeque::new(),
            pending: BTreeMap::new(),
            next_invocation: 1,
            log: None,
            log_unsaved: false,
            timer: None,
            timer_due_ms,
            flush: None,
            leaving: false,
            touched,
            last_usage: Usage::default(),
        }
    }

    /// An object that arrives: its `onPut` decides whether it is stored.
    pub(crate) fn arriving(shared: Shared, object: Object, record: Record, arrival: Arrival) -> Self {
        let mut aso = Self::resting(shared, object, record, None);
        aso.arrival = Some(Box::new(arrival));
        aso.arriving = true;
        aso
    }

    // Visits ------------------------------------------------------------------------------------------

    fn visit(&mut self, visit: Visit, reply: Reply, ctx: &mut Context<Self>) {
        match visit {
            Visit::Get { caller, payload, trail } => {
                self.run(&Event::Get { caller, payload }, trail, Errand::Answer(reply), ctx);
            }
            Visit::Put { caller, record, trail } => self.offer(caller, record, trail, reply, ctx),
            Visit::Delete { caller, signed, trail } => self.delete(caller, signed, trail, reply, ctx),
            Visit::Inspect => {
                reply.send(Ok(Served::Inspected(Box::new(self.holding())))).ok();
            }
            Visit::Log => {
                let now = self.shared.clock.wall_ms();
                let lines = self.log().lines(now);
                reply.send(Ok(Served::Logged(lines))).ok();
            }
            Visit::Wake => {
                self.tick(ctx);
                reply.send(Ok(Served::Ticked)).ok();
            }
        }
    }

    /// A put meets this object.
    fn offer(
        &mut self,
        caller: Caller,
        record: Box<Record>,
        trail: Trail,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        match rules::on_put(&self.record, &record, caller.origin, self.object.has("onUpdate")) {
            OnPut::Renew => self.renew(&record, reply, ctx),
            OnPut::Refuse(refusal) => {
                reply.send(Err(refusal)).ok();
            }
            OnPut::Ask => {
                let event = Event::Update {
                    caller: caller.clone(),
                    data: record.data.clone(),
                    code: record.code.clone(),
                };
                self.run(&event, trail, Errand::Update { reply, caller, record, trail }, ctx);
            }
        }
    }

    /// The same version comes again: its lifetime may be longer now.
    fn renew(&mut self, record: &Record, reply: Reply, ctx: &mut Context<Self>) {
        self.record.expires_ms = self.record.expires_ms.max(record.expires_ms);
        let served = Served::Stored { version: self.record.version, usage: Usage::default() };
        self.save_then(ctx, reply, Ok(served));
    }

    fn delete(
        &mut self,
        caller: Caller,
        signed: Option<u64>,
        trail: Trail,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        match rules::on_delete(&self.record, signed, self.object.has("onDelete")) {
            OnDelete::Remove(tombstone) => self.remove(tombstone, reply, ctx),
            OnDelete::Refuse(refusal) => {
                reply.send(Err(refusal)).ok();
            }
            OnDelete::Ask => self.run(&Event::Delete { caller }, trail, Errand::Delete(reply), ctx),
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.wall_ms();
        self.timer_due_ms = self.object.policy().timer_seconds.map(|period| now + period * 1_000);
        self.save_soon(ctx);
        if !self.pending.values().any(|pending| matches!(pending.errand, Errand::Tick)) {
            self.run(&Event::Timer, Trail::FRESH, Errand::Tick, ctx);
        }
    }

    fn holding(&self) -> Holding {
        let handlers = self.object.handlers().into_iter().map(str::to_owned).collect();
        let record = Record { state: self.object.state().clone(), ..self.record.clone() };
        Holding { record, handlers, active: true, usage: self.last_usage }
    }

    // Turns -------------------------------------------------------------------------------------------

    fn run(&mut self, event: &Event, trail: Trail, errand: Errand, ctx: &mut Context<Self>) {
        let id = self.next_invocation;
        self.next_invocation += 1;
        let moment = self.shared.moment();
        let pending = Pending { errand, handler: event.handler() };
        let report = self.object.begin(id, event, trail, moment);
        if matches!(report.end, Ok(Progress::Waiting)) {
            self.pending.insert(id, pending);
            let limit = Duration::from_millis(self.shared.pool.limits().invocation_ms);
            ctx.run_later(limit, move |aso, ctx| aso.give_up(id, ctx));
            self.settle(report, None, ctx);
        } else {
            self.settle(report, Some(pending), ctx);
        }
    }

    fn answered(&mut self, wait: WaitId, result: OpResult, ctx: &mut Context<Self>) {
        let moment = self.shared.moment();
        if let Some(report) = self.object.resume(wait, result, moment) {
            let over = report.invocation.filter(|_| !matches!(report.end, Ok(Progress::Waiting)));
            let pending = over.and_then(|id| self.pending.remove(&id));
            if self.pending.is_empty() {
                // An emptied map keeps a node of two kilobytes.
                self.pending = BTreeMap::new();
            }
            self.settle(report, pending, ctx);
        }
    }

    /// An invocation has waited for too long.
    fn give_up(&mut self, id: InvocationId, ctx: &mut Context<Self>) {
        if let Some(pending) = self.pending.remove(&id) {
            let limit_ms = self.shared.pool.limits().invocation_ms;
            self.fail(Some(pending), Failure::Deadline { limit_ms }, ctx);
        }
    }

    /// Keeps, sends and answers what a turn came to; `pending` is the invocation that ended with it.
    fn settle(&mut self, report: Report, pending: Option<Pending>, ctx: &mut Context<Self>) {
        let Report { invocation: _, end, usage, requests, log, state, delete_self } = report;
        self.last_usage = usage;
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
            self.save_soon(ctx);
        }
        for request in requests {
            self.send(request, ctx);
        }
        let Progress::Done(outcome) = progress else { return };
        if let Some(Pending { errand, .. }) = pending {
            self.conclude(errand, outcome, usage, state.is_some(), ctx);
        }
        if delete_self && !self.arriving {
            let (reply, _) = oneshot::channel();
            self.remove(self.record.version, reply, ctx);
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

    fn conclude(
        &mut self,
        errand: Errand,
        outcome: Outcome,
        usage: Usage,
        changed: bool,
        ctx: &mut Context<Self>,
    ) {
        let version = self.record.version;
        match (errand, outcome) {
            (errand, Outcome::Refuse(reason)) => self.refuse(errand, Refusal::Refused(reason), ctx),
            (Errand::Answer(reply), Outcome::Reply(value)) => {
                let served = Ok(Served::Got { value, version, active: true, usage });
                if changed && self.object.policy().durable {
                    self.save_then(ctx, reply, served);
                } else {
                    reply.send(served).ok();
                }
            }
            (Errand::Update { reply, caller, record, trail }, Outcome::Accept) => {
                match rules::may_replace(&self.record, &record) {
                    Ok(()) => self.replace(*record, Arrival { caller, trail, reply }, ctx),
                    Err(refusal) => drop(reply.send(Err(refusal))),
                }
            }
            (Errand::Update { reply, .. }, Outcome::Handled) => {
                self.save_then(ctx, reply, Ok(Served::Stored { version, usage }));
            }
            (Errand::Delete(reply), Outcome::Accept) => self.remove(version, reply, ctx),
            (Errand::Arrive(reply), Outcome::Accept) => self.settle_in(reply, usage, ctx),
            (_, _) => {}
        }
    }

    /// Tells an errand no. The object stays as it was; an arrival that is refused never was here.
    fn refuse(&mut self, errand: Errand, refusal: Refusal, ctx: &mut Context<Self>) {
        let arrives = matches!(errand, Errand::Arrive(_));
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
        self.interrupt();
        if self.arriving {
            self.turn_away(ctx);
        } else {
            self.leave(ctx);
        }
    }

    fn interrupt(&mut self) {
        for (_, Pending { errand, handler }) in std::mem::take(&mut self.pending) {
            errand.answer(Err(Refusal::HandlerFailed {
                handler: handler.into(),
                failure: Failure::Interrupted,
            }));
        }
    }

    // Arriving and leaving ----------------------------------------------------------------------------

    fn begin_arrival(&mut self, arrival: Arrival, ctx: &mut Context<Self>) {
        self.arriving = true;
        let Arrival { caller, trail, reply } = arrival;
        self.run(&Event::Put { caller }, trail, Errand::Arrive(reply), ctx);
    }

    /// An update was accepted whole: the incoming object takes this one's place, if its `onPut` agrees.
    fn replace(&mut self, record: Record, arrival: Arrival, ctx: &mut Context<Self>) {
        let Some(blueprint) = errand::blueprint(&record, self.shared.reach) else {
            return self.become_plain(record, arrival.reply, ctx);
        };
        match self.shared.pool.activate(&blueprint, self.shared.moment()) {
            Ok(object) => {
                if self.drop_flush(ctx) {
                    // Whatever becomes of the arrival, this state was answered for.
                    self.save_now();
                }
                self.interrupt();
                let object = std::mem::replace(&mut self.object, object);
                let record = std::mem::replace(&mut self.record, record);
                self.previous = Some(Box::new((object, record)));
                self.begin_arrival(arrival, ctx);
            }
            Err(error) => {
                arrival.reply.send(Err(errand::activation_refusal(error))).ok();
            }
        }
    }

    /// A value without code takes the object's place.
    fn become_plain(&mut self, record: Record, reply: Reply, ctx: &mut Context<Self>) {
        let version = record.version;
        let put = PutRecord { record, source: None, rule: Rule::Replace, timer_ms: None };
        let stored = self.shared.links.put.send(put);
        self.drop_flush(ctx);
        errand::answer_when_stored(stored, reply, Served::Stored { version, usage: Usage::default() });
        self.interrupt();
        self.leave(ctx);
    }

    /// The arrival is accepted: it is stored and lives here from now on.
    fn settle_in(&mut self, reply: Reply, usage: Usage, ctx: &mut Context<Self>) {
        let rule = if self.previous.take().is_some() { Rule::Replace } else { Rule::IfNewer };
        self.arriving = false;
        self.timer_due_ms = None;
        self.obey_policy(ctx);
        self.drop_flush(ctx);
        let record = Record { state: self.object.state().clone(), ..self.record.clone() };
        let (version, state) = (record.version, record.state.clone());
        let put = PutRecord { record, source: None, rule, timer_ms: self.timer_due_ms };
        let put = self.shared.links.put.send(put);
        let stored = errand::answer_when_put(put, reply, Served::Stored { version, usage });
        let stored = stored.into_actor(self).map(move |stored, aso, ctx| {
            if stored != Ok(true) {
                aso.drop_flush(ctx);
                aso.interrupt();
                ctx.stop();
            } else if *aso.object.state() != state {
                // A save that overtook this write in a full mailbox found no record to belong to.
                aso.save_soon(ctx);
            }
        });
        ctx.spawn(stored);
        if self.log_unsaved {
            self.save_soon(ctx);
        }
        self.catch_up(ctx);
    }

    /// The arrival is refused: what was here before comes back, or nothing.
    fn turn_away(&mut self, ctx: &mut Context<Self>) {
        self.arriving = false;
        self.drop_flush(ctx);
        match self.previous.take() {
            Some(previous) => {
                (self.object, self.record) = *previous;
                self.save_soon(ctx);
                self.catch_up(ctx);
            }
            None => {
                self.leaving = true;
                ctx.stop();
            }
        }
    }

    /// Serves what came while an arrival was decided. Whoever is not served because the object leaves tries
    /// again.
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        while let Some(Deliver { visit, reply, .. }) = self.backlog.pop_front() {
            if self.leaving {
                return self.backlog.clear();
            }
            if self.arriving {
                return self.backlog.push_front(Deliver { key: self.key, visit, reply });
            }
            self.visit(visit, reply, ctx);
        }
    }

    fn remove(&mut self, tombstone: Version, reply: Reply, ctx: &mut Context<Self>) {
        self.drop_flush(ctx);
        let gone = self.shared.links.delete.send(DeleteRecord { key: self.key, tombstone: Some(tombstone) });
        errand::answer_when_stored(gone, reply, Served::Deleted { held: true });
        self.interrupt();
        self.leave(ctx);
    }

    /// Stops once everything written so far is stored. Visits that queue meanwhile are not begun, and their
    /// senders try again.
    fn leave(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        if self.drop_flush(ctx) || self.log_unsaved {
            self.save_now();
        }
        let stored = self.shared.links.flush.send(Flush).into_actor(self).map(|_, _, ctx| ctx.stop());
        ctx.wait(stored);
    }

    // Keeping -----------------------------------------------------------------------------------------

    fn save(&self) -> SaveState {
        SaveState {
            key: self.key,
            version: self.record.version,
            state: self.object.state().clone(),
            timer_ms: self.timer_due_ms,
            expires_ms: Some(self.record.expires_ms),
        }
    }

    /// Saves state and log without waiting for the store.
    fn save_now(&mut self) {
        self.shared.links.save.do_send(self.save());
        self.save_log();
    }

    fn save_log(&mut self) {
        if std::mem::take(&mut self.log_unsaved) {
            let log = self.log().encode();
            self.shared.links.log.do_send(SaveLog { key: self.key, log });
        }
    }

    /// Saves state and log within the flush interval; turns until then share one write.
    fn save_soon(&mut self, ctx: &mut Context<Self>) {
        if self.flush.is_none() && !self.arriving {
            self.flush = Some(ctx.run_later(self.shared.state_flush, |aso, ctx| {
                aso.flush = None;
                aso.save_log();
                let saved = aso.shared.links.save.send(aso.save()).into_actor(aso).map(|result, aso, ctx| {
                    if matches!(result, Ok(Err(StoreError::Unwritable { .. }))) {
                        aso.save_soon(ctx);
                    }
                });
                ctx.spawn(saved);
            }));
        }
    }

    /// Saves the state now and answers when it is stored.
    fn save_then(&mut self, ctx: &mut Context<Self>, reply: Reply, served: Result<Served, Refusal>) {
        self.drop_flush(ctx);
        self.save_log();
        let saved = self.shared.links.save.send(self.save());
        match served {
            Ok(served) => errand::answer_when_stored(saved, reply, served),
            Err(refusal) => {
                reply.send(Err(refusal)).ok();
            }
        }
    }

    /// True if a save was still to come.
    fn drop_flush(&mut self, ctx: &mut Context<Self>) -> bool {
        self.flush.take().is_some_and(|flush| ctx.cancel_future(flush))
    }

    fn note(&mut self, author: Author, line: &str) {
        let (now, limits) = (self.shared.clock.wall_ms(), self.shared.pool.limits().clone());
        self.log().push(now, author, line, &limits);
        self.log_unsaved = true;
    }

    fn log(&mut self) -> &mut ObjectLog {
        let (reader, key) = (&self.shared.links.reader, &self.key);
        self.log.get_or_insert_with(|| {
            let stored = reader.log(key).ok().flatten();
            Box::new(stored.map_or_else(ObjectLog::default, |bytes| ObjectLog::decode(&bytes)))
        })
    }

    /// Applies what the object asks of its node: timer, lifetime, replicas.
    fn obey_policy(&mut self, ctx: &mut Context<Self>) {
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
        self.wind_timer(policy.timer_seconds, ctx);
    }

    fn wind_timer(&mut self, period_seconds: Option<u64>, ctx: &mut Context<Self>) {
        let Some(period_seconds) = period_seconds else {
            self.timer_due_ms = None;
            if let Some(timer) = self.timer.take() {
                timer.do_send(Retire);
            }
            return;
        };
        let now = self.shared.clock.wall_ms();
        let due = *self.timer_due_ms.get_or_insert(now + period_seconds * 1_000);
        let period = Duration::from_secs(period_seconds);
        match &self.timer {
            Some(timer) => timer.do_send(SetPeriod(period)),
            None => {
                let first = Duration::from_millis(due.saturating_sub(now));
                let object = ctx.address().downgrade().recipient();
                self.timer = Some(AsoTimer::new(first, period, object).start());
            }
        }
    }
}

impl Actor for Aso {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.shared.pool.limits().queue);
        match self.arrival.take() {
            Some(arrival) => self.begin_arrival(*arrival, ctx),
            None => self.obey_policy(ctx),
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(timer) = self.timer.take() {
            timer.do_send(Retire);
        }
        self.shared.stopped.do_send(AsoStopped { key: self.key });
    }
}

impl Handler<Deliver> for Aso {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        self.touched = self.shared.clock.now();
        let queue_max = self.shared.pool.limits().queue;
        let waiting = self.pending.len() >= queue_max;
        if (self.arriving && self.backlog.len() >= queue_max) || waiting {
            message.reply.send(Err(Refusal::Overloaded("the object".into()))).ok();
        } else if self.arriving {
            self.backlog.push_back(message);
        } else {
            self.visit(message.visit, message.reply, ctx);
        }
    }
}

impl Handler<Tick> for Aso {
    type Result = ();

    fn handle(&mut self, _: Tick, ctx: &mut Self::Context) {
        if !self.arriving {
            self.tick(ctx);
        }
    }
}

impl Handler<Expire> for Aso {
    type Result = ();

    fn handle(&mut self, _: Expire, ctx: &mut Self::Context) {
        // A lifetime that was put off after the sweep began is saved again by the next put.
        if self.record.expires_ms <= self.shared.clock.wall_ms() {
            self.drop_flush(ctx);
            self.interrupt();
            ctx.stop();
        }
    }
}

impl Handler<Leave> for Aso {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.interrupt();
        self.leave(ctx);
    }
}

impl Handler<PassivateIfIdle> for Aso {
    type Result = ();

    fn handle(&mut self, message: PassivateIfIdle, ctx: &mut Self::Context) {
        let idle = self.touched <= message.since && self.pending.is_empty() && self.object.open_waits() == 0;
        if idle && !self.arriving && self.flush.is_none() {
            self.leave(ctx);
        }
    }
}
