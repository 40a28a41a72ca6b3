//! One active object on this replica, as an actor.
//!
//! The actor owns the object's [`Object`] and decides what becomes of its turns: it saves what they changed,
//! sends what they asked for, answers whoever waits. A turn that fails ends the actor; the next visit
//! restores the object from what was kept last. Deletion and idleness end it, too. Only while the store does
//! not take what the object has still to save does the actor stay: the object then goes on in memory, after a
//! failed turn made anew from its last good state.
//!
//! What it may send outlives the actor and the object's replacement by another version.

mod arrival;
pub(crate) mod errand;
mod keeping;
mod leaving;
pub(super) mod series;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use comet_routing::{Key, clock::WallMs};
use comet_store::{Deletion, Record};
use tokio::sync::oneshot;

use self::{
    arrival::Previous,
    errand::{Arrival, Errand},
    leaving::Departure,
    turns::{Pending, Run},
};
use super::{AsoStopped, AsoTimer, Shared, Tick, TimerDue};
use crate::{
    Caller, Event, InvocationId, Object, Refusal, Trail,
    dht::Usage,
    object_log::ObjectLog,
    patience::Patience,
    rules::{self, OnDelete, OnPut},
    visit::{Holding, Served, Visit},
};

/// A visit that follows another one sooner than this does not count for who leaves memory first.
const VISIT_NOTED: Duration = Duration::from_secs(1);

/// Visits that may wait for an object's turn; how long they may is a matter of patience.
const MAILBOX_MAX: usize = 4_096;

/// How long an object's turns may take together before the others on its thread have theirs. A mailbox hands out
/// messages for as long as it has any, and that of a popular object may never be empty.
pub(super) const SLICE: Duration = Duration::from_millis(5);

/// A visit to one object, with the way back. A dropped `reply` means that the visit was never begun.
///
/// A get whose `reply` is closed before its turn comes is dropped, as nobody waits for it any more. A put and a deletion are
/// carried out nevertheless: whoever has enough replicas does not wait for the rest of them, and wants them all the same.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// The object.
    pub key: Key,
    /// What for.
    pub visit: Visit,
    /// When it was sent.
    pub sent: Instant,
    /// Where the outcome goes.
    pub reply: Reply,
}

impl Deliver {
    /// True if nobody would notice that this was not done.
    pub(super) fn is_pointless(&self) -> bool {
        matches!(self.visit, Visit::Get { .. }) && self.reply.is_closed()
    }

    /// True if it wants a plain value stored, whatever is here.
    pub(super) fn brings_plain_value(&self) -> bool {
        matches!(&self.visit, Visit::Put { record, condition: None, .. } if record.code.is_none())
    }

    /// True if a script arrives that would run to see whether it is to be stored.
    pub(super) fn brings_a_script(&self) -> bool {
        matches!(&self.visit, Visit::Put { record, .. } if record.code.is_some())
    }
}

/// True if a visit may take a handler's time. Nothing stands between an owner and the end of what is owned.
fn may_run_a_handler(visit: &Visit) -> bool {
    match visit {
        Visit::Get { .. } | Visit::Put { .. } => true,
        Visit::Delete { deletion, .. } => deletion.ownership.is_none(),
        _ => false,
    }
}

/// True if somebody can be told to try again later.
fn can_wait(visit: &Visit) -> bool {
    matches!(visit, Visit::Get { .. } | Visit::Put { .. })
}

/// What those hear whose network has used more of this thread than others, while visits have to wait.
pub(super) fn share_used() -> Refusal {
    Refusal::Overloaded("the node's share for this network".into())
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

/// The actor of one active object.
pub struct Aso {
    shared: Shared,
    key: Key,
    object: Object,
    record: Record,
    /// What was here before an arrival that is still being decided.
    previous: Option<Box<Previous>>,
    arrival: Option<Box<Arrival>>,
    arriving: bool,
    backlog: VecDeque<Deliver>,
    patience: Patience,
    /// What turns have cost since others on the thread had theirs.
    worked: Duration,
    pending: BTreeMap<Run, Pending>,
    next_invocation: InvocationId,
    log: Option<Box<ObjectLog>>,
    log_unsaved: bool,
    timer: Option<Addr<AsoTimer>>,
    timer_due_ms: Option<WallMs>,
    flush: Option<SpawnHandle>,
    /// Changes of state, timer and lifetime so far, and how many of them the store has.
    changes: u64,
    stored: u64,
    /// Set once the actor is on its way out: the object may be spent, and nothing runs on it any more.
    leaving: bool,
    touched: Instant,
    last_usage: Usage,
}

impl Aso {
    /// An object that was in the store. Its timer was due at `timer_due_ms`.
    pub(crate) fn resting(
        shared: Shared,
        mut object: Object,
        record: Record,
        timer_due_ms: Option<WallMs>,
    ) -> Self {
        let touched = shared.clock.now();
        if let Some(left) = shared.allowances.borrow_mut().take(&record.key) {
            object.allow(left);
        }
        Self {
            key: record.key,
            shared,
            object,
            record,
            previous: None,
            arrival: None,
            arriving: false,
            backlog: VecDeque::new(),
            patience: Patience::default(),
            worked: Duration::ZERO,
            pending: BTreeMap::new(),
            next_invocation: 1,
            log: None,
            log_unsaved: false,
            timer: None,
            timer_due_ms,
            flush: None,
            changes: 0,
            stored: 0,
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

    /// Notes a visit, or says why it is not begun: it has waited for too long, or its network has had its share.
    fn admit(&mut self, visit: &Visit, sent: Instant) -> Result<(), Refusal> {
        let now = self.shared.clock.now();
        let waited = now.saturating_duration_since(sent);
        if !self.patience.admits(&self.shared.patience, waited, now) && can_wait(visit) {
            return Err(Refusal::Overloaded("the object".into()));
        }
        if may_run_a_handler(visit) && !self.shared.has_share(visit, sent, now) {
            return Err(share_used());
        }
        if now.duration_since(self.touched) >= VISIT_NOTED {
            self.shared.places.borrow_mut().visited(&self.key, now);
        }
        self.touched = now;
        Ok(())
    }

    /// Starts the actor. Visits may wait for it before it has had its first turn.
    pub(super) fn launch(self) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_MAX);
            self
        })
    }

    fn visit(&mut self, visit: Visit, reply: Reply, ctx: &mut Context<Self>) {
        match visit {
            Visit::Get { caller, payload, trail } => {
                self.run(&Event::Get { caller, payload }, trail, Errand::Answer(reply), ctx);
            }
            Visit::Put { caller, record, condition, trail } => {
                let condition = condition.as_deref();
                match self.shared.may_put(&self.key, Some(&self.record), &caller, condition) {
                    Ok(()) => {
                        self.shared.end_claim(&self.key, caller.node.id, condition);
                        self.offer(caller, record, trail, reply, ctx);
                    }
                    Err(refusal) => drop(reply.send(Err(refusal))),
                }
            }
            Visit::Claim { caller, version, condition } => {
                let held = Some(&self.record);
                reply.send(self.shared.claim(self.key, held, &caller, version, *condition)).ok();
            }
            Visit::Unclaim { caller, ticket } => {
                reply.send(self.shared.unclaim(&self.key, &caller, ticket)).ok();
            }
            Visit::Delete { caller, deletion, trail } => self.delete(caller, *deletion, trail, reply, ctx),
            Visit::Release { version } => self.release(version, reply, ctx),
            Visit::Withdraw { .. } => {
                reply.send(rules::may_withdraw(&self.record).map(|()| Served::Deleted { held: false })).ok();
            }
            Visit::Inspect { .. } => {
                reply.send(Ok(Served::Inspected(Box::new(self.holding())))).ok();
            }
            Visit::Log => {
                let now = self.shared.clock.wall_ms();
                let lines = self.log().lines(now);
                reply.send(Ok(Served::Logged(lines))).ok();
            }
            Visit::Wake => {
                self.changed(ctx);
                self.tick(ctx);
                reply.send(Ok(Served::Ticked)).ok();
            }
        }
    }

    /// A put meets this object.
    fn offer(
        &mut self,
        caller: Caller,
        record: Arc<Record>,
        trail: Trail,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        let has_handler = self.object.has("onUpdate");
        if has_handler && rules::is_decided(&self.object, &record.version, caller.origin) {
            let served = Served::Stored { version: self.record.version, usage: Usage::default() };
            reply.send(Ok(served)).ok();
            return;
        }
        match rules::on_put(&self.record, &record, caller.origin, has_handler) {
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

    /// The same version comes again: its lifetime may be longer now. That of a signed record is what its
    /// owner signed, and anybody can send the signature again.
    fn renew(&mut self, record: &Record, reply: Reply, ctx: &mut Context<Self>) {
        if self.record.ownership.is_none() {
            self.record.expires_ms = self.record.expires_ms.max(record.expires_ms);
            self.obey_lifetime();
            self.changes += 1;
        }
        let served = Served::Stored { version: self.record.version, usage: Usage::default() };
        self.save(Some((reply, served)), ctx);
    }

    fn delete(
        &mut self,
        caller: Caller,
        deletion: Deletion,
        trail: Trail,
        reply: Reply,
        ctx: &mut Context<Self>,
    ) {
        match rules::on_delete(&self.record, &deletion, self.object.has("onDelete")) {
            OnDelete::Remove(deletion) => {
                self.remove(deletion, Some(reply), Ok(Served::Deleted { held: true }), ctx);
            }
            OnDelete::Refuse(refusal) => {
                reply.send(Err(refusal)).ok();
            }
            OnDelete::Ask => {
                self.run(&Event::Delete { caller }, trail, Errand::Delete { reply, deletion }, ctx);
            }
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        if !self.pending.values().any(|pending| matches!(pending.errand, Errand::Tick)) {
            self.run(&Event::Timer, Trail::FRESH, Errand::Tick, ctx);
        }
    }

    fn holding(&self) -> Holding {
        let handlers = self.object.handlers().into_iter().map(str::to_owned).collect();
        let record = Record { state: self.object.state().clone(), ..self.record.clone() };
        Holding { record, handlers, active: true, usage: self.last_usage }
    }
}

impl Actor for Aso {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.arrival.take() {
            Some(arrival) => self.begin_arrival(*arrival, ctx),
            None => self.obey_policy(ctx),
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let (left, full_ms) = self.object.allowance();
        let now = self.shared.clock.wall_ms();
        self.shared.allowances.borrow_mut().keep(self.key, left, full_ms, now);
        self.retire_timer();
        self.shared.stopped.do_send(AsoStopped { key: self.key });
    }
}

impl Handler<Deliver> for Aso {
    type Result = ();

    fn handle(&mut self, message: Deliver, ctx: &mut Self::Context) {
        if self.leaving || message.is_pointless() {
            return;
        }
        if self.is_expired() {
            // A put or a deletion is not begun: whoever sent it tries again, and finds the key free.
            if let Visit::Get { .. } | Visit::Inspect { .. } | Visit::Log | Visit::Wake = message.visit {
                message.reply.send(Err(Refusal::NotFound)).ok();
            }
            return self.expire(ctx);
        }
        if let Err(refusal) = self.admit(&message.visit, message.sent) {
            message.reply.send(Err(refusal)).ok();
            return;
        }
        if self.arriving && matches!(message.visit, Visit::Wake) {
            // Timers wait for each other, but not for an arrival.
            message.reply.send(Ok(Served::Ticked)).ok();
            return;
        }
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
        if self.is_expired() {
            self.expire(ctx);
        } else if !self.arriving && !self.leaving {
            self.rewind_timer(ctx);
            if self.shared.may_run(&self.key, None).is_ok() {
                self.shared.timer_due.do_send(TimerDue { key: self.key });
            }
        }
    }
}

impl Handler<Expire> for Aso {
    type Result = ();

    fn handle(&mut self, _: Expire, ctx: &mut Self::Context) {
        // A lifetime that was put off after the sweep began is saved again by the next put.
        if self.is_expired() {
            self.expire(ctx);
        }
    }
}

impl Handler<Leave> for Aso {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.interrupt(&Refusal::Stopping("the node".into()));
        self.backlog.clear();
        if self.arriving {
            self.turn_away(ctx);
        }
        self.leave(Departure::Draining, ctx);
    }
}

impl Handler<PassivateIfIdle> for Aso {
    type Result = ();

    fn handle(&mut self, message: PassivateIfIdle, ctx: &mut Self::Context) {
        let idle = self.touched <= message.since && self.pending.is_empty() && self.object.open_waits() == 0;
        if idle && !self.arriving && self.flush.is_none() {
            self.leave(Departure::Idle, ctx);
        }
    }
}
