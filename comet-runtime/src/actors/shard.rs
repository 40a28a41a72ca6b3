//! One thread's objects: who is activated, who is woken by a timer, who leaves for being idle.

pub(super) mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use comet_routing::{
    Contact, Key, Prefix,
    clock::{Clock, WallMs},
};
use comet_store::{
    DeleteRecord, Deletion, PutOutcome, PutRecord, Record, RecordExpired, ReleaseRecord, Rule, SaveState,
    Seal, Version,
};
use rand_chacha::ChaCha12Rng;
use tokio::sync::oneshot;

use self::places::{Holder, Places, Room};
use super::{
    Directory, Links, Replica, Shared, Surroundings,
    aso::{
        Aso, Deliver, Leave, PassivateIfIdle, Reply, SLICE,
        errand::{
            Arrival, activation_refusal, answer_when_put, answer_when_stored, blueprint, newcomer,
            put_and_answer,
        },
        share_used,
    },
};
use crate::{
    Backstop, CallerAddresses, Limits, Object, Reach, Refusal, VmPool,
    blame::Blame,
    cpu::{CpuAccounts, CpuRate},
    dht::Usage,
    object_log::ObjectLog,
    patience::PatienceLimits,
    rules::{self, OnDelete},
    shares::{ShareLimits, Shares},
    timers::{TimerQueue, first_due, next_due},
    visit::{Holding, Served, Visit},
};

/// How often a shard looks for due timers and idle objects.
const ROUND: Duration = Duration::from_secs(1);
/// Due timers that one round wakes; after a restart the overdue ones are spread over as many rounds as needed.
const WAKES_PER_ROUND: usize = 64;
/// How long the next tick waits for the one before it; longer than a turn may take.
const TICK_MAX: Duration = Duration::from_millis(200);
/// Objects whose use of CPU time a shard remembers.
const CPU_ACCOUNTS_MAX: usize = 65_536;
/// Active objects that one round asks whether they are idle.
const IDLE_CHECKS_PER_ROUND: usize = 2_000;

/// An object's actor has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct AsoStopped {
    /// The object.
    pub key: Key,
}

/// An object's timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct TimerDue {
    /// The object.
    pub key: Key,
}

/// The store holds an object where a plain value was to be put.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Declined(Deliver);

/// Let every active object save its state and leave, and take no more visits. Answered when all have left.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// What a shard needs to know.
pub struct ShardConfig {
    /// Which of the node's shards this is, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    /// Sizes and budgets of objects.
    pub limits: Limits,
    /// Whether wall-clock time bounds a turn.
    pub backstop: Backstop,
    /// How far objects may reach.
    pub reach: Reach,
    /// How much of callers' addresses handlers see.
    pub caller_addresses: CallerAddresses,
    /// Public keys of the publishers whose signature under an object's code lets it reach any key.
    pub publishers: Arc<BTreeSet<[u8; 32]>>,
    /// The CPU time of one object.
    pub object_cpu: CpuRate,
    /// The CPU time of all timers together.
    pub timer_cpu: CpuRate,
    /// What one network's failed requests may cost, at one object and at all of them.
    pub failures: (CpuRate, CpuRate),
    /// The node, as handlers see it.
    pub local: Contact,
    /// State that handlers changed is saved within this time.
    pub state_flush: Duration,
    /// An object without visits for this long leaves memory.
    pub idle: Duration,
    /// Active objects that the shard keeps; for one more, the longest unvisited leaves.
    pub active_max: usize,
    /// Into how many parts those places are divided, of which the objects of one owner or network take one at most.
    pub place_parts: usize,
    /// Visits that may wait for the shard.
    pub queue: usize,
    /// Time.
    pub clock: Clock,
    /// Seeds what scripts see of chance.
    pub rng: ChaCha12Rng,
}

/// The actor of one thread's objects.
pub struct Shard {
    config: ShardConfig,
    links: Links,
    directory: Arc<Directory>,
    shared: Option<Shared>,
    /// The way to this shard from the store.
    own: Option<Recipient<Declined>>,
    active: BTreeMap<Key, Addr<Aso>>,
    asked_up_to: Option<Key>,
    /// Who waits for the last object to leave, once the node stops.
    draining: Option<Vec<oneshot::Sender<()>>>,
}

impl Shard {
    /// A shard without active objects.
    pub fn new(config: ShardConfig, links: Links, directory: Arc<Directory>) -> Self {
        Self {
            config,
            links,
            directory,
            shared: None,
            own: None,
            active: BTreeMap::new(),
            asked_up_to: None,
            draining: None,
        }
    }

    fn shared(&self) -> Shared {
        self.shared.clone().expect("the shard has started before it receives messages")
    }

    /// A visit that arrived, unless the shard takes no more and has said so.
    fn admit(&self, deliver: Deliver) -> Option<Deliver> {
        if self.draining.is_none() {
            return Some(deliver);
        }
        deliver.reply.send(Err(Refusal::Stopping("the node".into()))).ok();
        None
    }

    fn deliver(&mut self, deliver: Deliver) {
        if deliver.brings_plain_value() && !self.active.contains_key(&deliver.key) {
            // The store looks at what is held by itself.
            return self.serve_plain(None, deliver, self.config.clock.wall_ms());
        }
        self.deliver_to_held(deliver);
    }

    /// Delivers a visit to the active object at its key, or else to what the store holds there.
    fn deliver_to_held(&mut self, deliver: Deliver) {
        if let Some(object) = self.active.get(&deliver.key) {
            match object.try_send(deliver) {
                Ok(()) => {}
                Err(SendError::Full(deliver)) => {
                    deliver.reply.send(Err(Refusal::Overloaded("the object".into()))).ok();
                }
                // Its last message to this shard is under way; the sender tries again after it.
                Err(SendError::Closed(_)) => {}
            }
            return;
        }
        let now = self.config.clock.wall_ms();
        match self.links.reader.record(&deliver.key, now) {
            Ok(Some(record)) if record.code.is_some() => self.activate_and_deliver(record, deliver, now),
            Ok(held) => self.serve_plain(held, deliver, now),
            Err(error) => {
                deliver.reply.send(Err(error.into())).ok();
            }
        }
    }

    fn activate_and_deliver(&mut self, record: Record, deliver: Deliver, now: WallMs) {
        if let Visit::Claim { .. } | Visit::Unclaim { .. } = deliver.visit {
            return self.serve_plain(Some(record), deliver, now);
        }
        if let Visit::Log = deliver.visit {
            let lines = self.stored_log(&deliver.key, now);
            deliver.reply.send(lines).ok();
            return;
        }
        if let Visit::Delete { deletion, .. } = &deliver.visit
            && deletion.ownership.is_some()
        {
            // Nothing that the object does may stand between its owner and its end, not even its script.
            return self.delete_plain(&record, deletion, deliver.reply);
        }
        if let Visit::Withdraw { .. } = deliver.visit {
            deliver.reply.send(rules::may_withdraw(&record).map(|()| Served::Deleted { held: false })).ok();
            return;
        }
        if let Visit::Release { version } = deliver.visit {
            return self.release(&record, version, deliver.reply);
        }
        let source = deliver.visit.caller().and_then(|caller| caller.source(&self.config.local));
        if !self.shared().has_share(&deliver.visit, deliver.sent, self.config.clock.now()) {
            deliver.reply.send(Err(share_used())).ok();
            return;
        }
        let holder = holder_of(&record, source, Some(&deliver.visit));
        let activated = match deliver.visit {
            Visit::Inspect { .. } => self.activate(&record, source, None),
            _ => self.make_room(&record, source, holder).and_then(|()| self.activate(&record, source, None)),
        };
        if matches!(deliver.visit, Visit::Wake)
            && matches!(activated, Ok(_) | Err(Refusal::BadCode(_) | Refusal::Corrupt(_)))
        {
            let shared = self.shared();
            shared.timers.borrow_mut().charge(shared.pool.last_cost(), now);
        }
        match activated {
            Ok(object) if matches!(deliver.visit, Visit::Inspect { .. }) => {
                let handlers = object.handlers().into_iter().map(str::to_owned).collect();
                let holding = Holding { record, handlers, active: false, usage: Usage::default() };
                deliver.reply.send(Ok(Served::Inspected(Box::new(holding)))).ok();
            }
            Ok(object) => {
                let timer_due_ms = object.policy().timer_seconds.map(|period| match deliver.visit {
                    Visit::Wake => next_due(&record.key, period * 1_000, now),
                    _ => {
                        let stored = self.stored_due(&record);
                        stored.unwrap_or_else(|| first_due(&record.key, period * 1_000, now))
                    }
                });
                let object = Aso::resting(self.shared(), object, record, timer_due_ms).launch();
                self.enter(deliver.key, object.clone(), holder);
                // A mailbox that was just made has room.
                object.do_send(deliver);
            }
            // An object that cannot run any more can still be looked at, deleted, and replaced.
            Err(Refusal::BadCode(_) | Refusal::Corrupt(_))
                if matches!(
                    deliver.visit,
                    Visit::Put { .. } | Visit::Delete { .. } | Visit::Inspect { .. }
                ) =>
            {
                self.serve_plain(Some(record), deliver, now);
            }
            Err(Refusal::Spent { .. }) if matches!(deliver.visit, Visit::Inspect { .. }) => {
                self.serve_plain(Some(record), deliver, now);
            }
            Err(refusal) => {
                if let Visit::Wake = deliver.visit {
                    self.postpone(&record, now);
                }
                deliver.reply.send(Err(refusal)).ok();
            }
        }
    }

    /// Puts off the timer of an object that is not activated for it. It would be due in every round, and enough
    /// of its kind would keep all others from being woken.
    fn postpone(&self, record: &Record, now: WallMs) {
        let save = SaveState {
            key: record.key,
            version: record.version,
            state: record.state.clone(),
            timer_ms: Some(first_due(&record.key, self.config.limits.timer_seconds * 1_000, now)),
            expires_ms: None,
        };
        self.links.save.do_send(save);
    }

    /// Activates an object for a caller from a network, and perhaps at its expense.
    fn activate(
        &self,
        record: &Record,
        source: Option<Prefix>,
        payer: Option<Prefix>,
    ) -> Result<Object, Refusal> {
        let shared = self.shared();
        shared.may_run(&record.key, source)?;
        let blueprint = blueprint(record, shared.reach_of(record))
            .ok_or_else(|| Refusal::Invalid("a plain value has nothing to run".into()))?;
        shared.activate(&blueprint, source, payer).map_err(activation_refusal)
    }

    /// Finds a place in the sandbox; somebody else may have to leave for it.
    fn make_room(&self, record: &Record, source: Option<Prefix>, holder: Holder) -> Result<(), Refusal> {
        let shared = self.shared();
        shared.may_run(&record.key, source)?;
        match shared.places.borrow_mut().find(holder) {
            Room::Free => Ok(()),
            Room::Instead(key) => {
                if let Some(object) = self.active.get(&key) {
                    object.try_send(PassivateIfIdle { since: self.config.clock.now() }).ok();
                }
                Ok(())
            }
            Room::Full => Err(Refusal::Overloaded("the node's sandbox".into())),
        }
    }

    fn enter(&mut self, key: Key, object: Addr<Aso>, holder: Holder) {
        self.shared().places.borrow_mut().enter(key, holder, self.config.clock.now());
        self.directory.enter(key, object.clone());
        self.active.insert(key, object);
    }

    /// When the object's timer was due, as the store has it.
    fn stored_due(&self, record: &Record) -> Option<WallMs> {
        self.links.reader.timer(&record.key).ok().flatten()
    }

    fn stored_log(&self, key: &Key, now: WallMs) -> Result<Served, Refusal> {
        let log = self.links.reader.log(key)?;
        Ok(Served::Logged(log.map_or_else(Vec::new, |bytes| ObjectLog::decode(&bytes).lines(now))))
    }

    /// A visit to a key where no object is active or could be: a plain value, or nothing.
    fn serve_plain(&mut self, held: Option<Record>, deliver: Deliver, now: WallMs) {
        if deliver.brings_a_script()
            && !self.shared().has_share(&deliver.visit, deliver.sent, self.config.clock.now())
        {
            deliver.reply.send(Err(share_used())).ok();
            return;
        }
        let Deliver { key, visit, reply, .. } = deliver;
        let answer = match (visit, held) {
            (Visit::Put { caller, record, condition, trail }, held) => {
                let condition = condition.map(|condition| *condition);
                let may_put = self.shared().may_put(&key, held.as_ref(), &caller, condition.as_ref());
                let arrival = Arrival { caller, condition, trail, reply };
                return match may_put {
                    Ok(()) => self.store(held.as_ref(), record, arrival),
                    Err(refusal) => drop(arrival.reply.send(Err(refusal))),
                };
            }
            (Visit::Claim { caller, version, condition }, held) => {
                self.shared().claim(key, held.as_ref(), &caller, version, *condition)
            }
            (Visit::Unclaim { caller, ticket }, _) => self.shared().unclaim(&key, &caller, ticket),
            (Visit::Delete { caller, deletion, .. }, None) if rules::is_remembered(&key, &deletion) => {
                let source = caller.account(&self.config.local);
                let gone = self.links.delete.send(DeleteRecord { key, deletion: Some(*deletion), source });
                return answer_when_stored(gone, reply, Served::Deleted { held: false });
            }
            (_, None) => Err(Refusal::NotFound),
            (Visit::Get { .. }, Some(record)) => Ok(Served::Got {
                seal: Seal::of(&record).map(Box::new),
                value: record.data,
                version: record.version,
                active: false,
                usage: Usage::default(),
            }),
            (Visit::Delete { deletion, .. }, Some(record)) => {
                return self.delete_plain(&record, &deletion, reply);
            }
            (Visit::Release { version }, Some(record)) => return self.release(&record, version, reply),
            (Visit::Withdraw { version }, Some(record)) => match rules::may_withdraw(&record) {
                Ok(()) => return self.release(&record, version, reply),
                Err(refusal) => Err(refusal),
            },
            (Visit::Inspect { .. }, Some(record)) => {
                let holding =
                    Holding { record, handlers: Vec::new(), active: false, usage: Usage::default() };
                Ok(Served::Inspected(Box::new(holding)))
            }
            (Visit::Log, Some(_)) => self.stored_log(&key, now),
            (Visit::Wake, Some(_)) => Ok(Served::Ticked),
        };
        reply.send(answer).ok();
    }

    fn store(&mut self, held: Option<&Record>, record: Arc<Record>, arrival: Arrival) {
        let key = record.key;
        let outdated = held.filter(|held| record.version < held.version).map(rules::stale);
        if let Some(refusal) = rules::may_create(&record).err().or(outdated) {
            arrival.reply.send(Err(refusal)).ok();
            return;
        }
        let record = match newcomer(record, &self.config.limits) {
            Ok(record) => record,
            Err(refusal) => {
                arrival.reply.send(Err(refusal)).ok();
                return;
            }
        };
        if record.code.is_none() {
            return self.store_plain(held.is_some(), record, arrival);
        }
        // The store would refuse it in the end; until then its `onPut` would have acted for a deleted object.
        let deleted = self.links.reader.tombstone(&key).ok().flatten().map(|deletion| deletion.version);
        if let Some(deleted) = deleted.filter(|deleted| *deleted >= record.version) {
            arrival.reply.send(Err(Refusal::Stale { held_sequence: deleted.sequence })).ok();
            return;
        }
        let source = arrival.caller.source(&self.config.local);
        let holder = holder_of(&record, source, None);
        let room = self.make_room(&record, source, holder);
        match room.and_then(|()| self.activate(&record, source, source)) {
            Ok(object) => {
                // Visits wait from here on until the object is stored.
                self.shared().end_claim(&key, arrival.caller.node.id, arrival.condition.as_ref());
                let object =
                    Aso::arriving(self.shared(), object, Arc::unwrap_or_clone(record), arrival).launch();
                self.enter(key, object, holder);
            }
            Err(refusal) => {
                arrival.reply.send(Err(refusal)).ok();
            }
        }
    }

    /// Stores a plain value. Where nobody knows what is held, an object may be, whose handlers are then asked.
    fn store_plain(&self, is_held_known: bool, record: Arc<Record>, arrival: Arrival) {
        let Arrival { caller, condition, trail, reply } = arrival;
        let (key, version) = (record.key, record.version);
        let source = caller.account(&self.config.local);
        let served = Served::Stored { version, usage: Usage::default() };
        let put = |record, rule| PutRecord { record, source, rule, timer_ms: None };
        if condition.is_none() && !is_held_known {
            let (again, sent) = (Arc::clone(&record), self.config.clock.now());
            let shard = self.own.clone();
            let decline = move |reply| {
                let visit = Visit::Put { caller, record: again, condition: None, trail };
                if let Some(shard) = shard {
                    shard.do_send(Declined(Deliver { key, visit, sent, reply }));
                }
            };
            let put = put(record, Rule::IfPlain);
            return put_and_answer(&self.links.put_and_tell, put, reply, served, decline);
        }
        let (put, shared) = (self.links.put.send(put(record, rules::rule_of(condition))), self.shared());
        let put = async move {
            let outcome = put.await;
            if let Ok(Ok(PutOutcome::Stored { .. } | PutOutcome::Unchanged)) = outcome {
                shared.end_claim(&key, caller.node.id, condition.as_ref());
            }
            outcome
        };
        drop(answer_when_put(put, reply, served));
    }

    fn release(&self, held: &Record, version: Version, reply: Reply) {
        let gone = self.links.release.send(ReleaseRecord { key: held.key, version });
        answer_when_stored(gone, reply, Served::Deleted { held: held.version == version });
    }

    fn delete_plain(&self, held: &Record, deletion: &Deletion, reply: Reply) {
        let deletion = match rules::on_delete(held, deletion, false) {
            OnDelete::Remove(deletion) => deletion,
            OnDelete::Ask => rules::agreed(held, deletion.clone()),
            OnDelete::Refuse(refusal) => {
                reply.send(Err(refusal)).ok();
                return;
            }
        };
        let delete = DeleteRecord { key: held.key, deletion: Some(deletion), source: None };
        let gone = self.links.delete.send(delete);
        answer_when_stored(gone, reply, Served::Deleted { held: true });
    }

    /// Wakes objects whose timers are due and asks the longest unasked whether they are idle.
    fn round(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(ROUND, Self::round);
        self.shared().places.borrow_mut().keep_those_who_stay(self.config.clock.now());
        self.note_due();
        self.tick_next(ctx);
        self.ask_idle();
    }

    /// Notes which timers of objects that are not in memory are due, and skips what has waited for too long.
    fn note_due(&mut self) {
        let (shared, now) = (self.shared(), self.config.clock.wall_ms());
        let mut skipped = shared.timers.borrow_mut().skip_late(now);
        let wakes = WAKES_PER_ROUND + shared.timers.borrow().len();
        let due = self.links.reader.due_timers(now, wakes * self.config.count).unwrap_or_default();
        for (_, key) in due {
            let mine = Replica::shard_of(&key, self.config.count) == self.config.index;
            if !mine || self.active.contains_key(&key) || skipped.contains(&key) {
                continue;
            }
            if shared.may_run(&key, None).is_ok() {
                skipped.extend(self.enter_timer(key, now));
            } else {
                skipped.push(key);
            }
        }
        skipped.iter().for_each(|key| self.skip_tick(key, now));
    }

    /// An object's timer waits for its turn from now on. Returns whose tick makes room for it.
    fn enter_timer(&self, key: Key, now: WallMs) -> Option<Key> {
        let shared = self.shared();
        let used = shared.cpu.borrow().used(&key, now);
        shared.timers.borrow_mut().enter(key, used, now)
    }

    /// Leaves out one tick. An active object knows when the next one is due.
    fn skip_tick(&self, key: &Key, now: WallMs) {
        if self.active.contains_key(key) {
            return;
        }
        if let Ok(Some(record)) = self.links.reader.record(key, now) {
            self.postpone(&record, now);
        }
    }

    /// Lets the next timer tick, and afterwards those behind it, as long as their share of the time lasts.
    fn tick_next(&mut self, ctx: &mut Context<Self>) {
        let shared = self.shared();
        let Some(key) = shared.timers.borrow_mut().next(self.config.clock.wall_ms()) else { return };
        let (reply, ticked) = oneshot::channel();
        let sent = self.config.clock.now();
        self.deliver(Deliver { key, visit: Visit::Wake, sent, reply });
        let over = tokio::time::timeout(TICK_MAX, ticked).into_actor(self).map(move |_, shard, ctx| {
            shard.shared().timers.borrow_mut().ended(&key);
            shard.tick_next(ctx);
        });
        ctx.spawn(over);
    }

    fn ask_idle(&mut self) {
        let Some(since) = self.config.clock.now().checked_sub(self.config.idle) else { return };
        let from = self.asked_up_to.map_or(Bound::Unbounded, Bound::Excluded);
        let asked = self.active.range((from, Bound::Unbounded)).take(IDLE_CHECKS_PER_ROUND);
        let mut last = None;
        for (key, object) in asked {
            last = Some(*key);
            // A busy object's mailbox may be full; it is not idle then.
            object.try_send(PassivateIfIdle { since }).ok();
        }
        self.asked_up_to = last;
    }
}

/// On whose behalf an object comes into memory.
fn holder_of(record: &Record, source: Option<Prefix>, visit: Option<&Visit>) -> Holder {
    match (&record.ownership, source, visit) {
        (Some(ownership), ..) => Holder::Owner(ownership.public_key),
        (None, Some(source), _) => Holder::Network(source),
        (None, None, Some(Visit::Wake)) => Holder::Timers,
        (None, None, _) => Holder::Node,
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.config.queue);
        self.own = Some(ctx.address().recipient());
        self.shared = Some(Shared::new(Surroundings {
            links: self.links.clone(),
            pool: VmPool::new(self.config.limits.clone().into(), self.config.backstop.clone())
                .showing(self.config.caller_addresses),
            stopped: ctx.address().recipient(),
            timer_due: ctx.address().recipient(),
            clock: self.config.clock,
            local: self.config.local,
            reach: self.config.reach,
            publishers: self.config.publishers.clone(),
            state_flush: self.config.state_flush,
            rng: self.config.rng.clone().into(),
            allowances: Default::default(),
            cpu: CpuAccounts::new(self.config.object_cpu, CPU_ACCOUNTS_MAX).into(),
            claims: Default::default(),
            patience: PatienceLimits::default(),
            shares: Shares::new(ShareLimits::default(), self.config.clock.now()).into(),
            slice: SLICE,
            places: Places::new(self.config.active_max, self.config.place_parts).into(),
            blame: Blame::new(self.config.failures.0, self.config.failures.1).into(),
            timers: TimerQueue::new(self.config.timer_cpu, self.config.clock.wall_ms()).into(),
            outage: Default::default(),
        }));
        ctx.run_later(ROUND, Self::round);
    }
}

impl Handler<Drain> for Shard {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (left, all_left) = oneshot::channel();
        if !self.active.is_empty() {
            self.active.values().for_each(|object| object.do_send(Leave));
            self.draining.get_or_insert_default().push(left);
        } else {
            self.draining.get_or_insert_default();
        }
        Box::pin(async move { all_left.await.unwrap_or(()) })
    }
}

impl Handler<Deliver> for Shard {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, _: &mut Self::Context) {
        if let Some(deliver) = self.admit(deliver).filter(|deliver| !deliver.is_pointless()) {
            self.deliver(deliver);
        }
    }
}

impl Handler<Declined> for Shard {
    type Result = ();

    fn handle(&mut self, Declined(deliver): Declined, _: &mut Self::Context) {
        if let Some(deliver) = self.admit(deliver) {
            self.deliver_to_held(deliver);
        }
    }
}

impl Handler<AsoStopped> for Shard {
    type Result = ();

    fn handle(&mut self, message: AsoStopped, _: &mut Self::Context) {
        self.directory.remove_stopped(&message.key);
        if self.active.get(&message.key).is_some_and(|object| !object.connected()) {
            self.active.remove(&message.key);
            self.shared().places.borrow_mut().leave(&message.key);
        }
        if self.active.is_empty()
            && let Some(waiting) = &mut self.draining
        {
            waiting.drain(..).for_each(|left| {
                left.send(()).ok();
            });
        }
    }
}

impl Handler<TimerDue> for Shard {
    type Result = ();

    fn handle(&mut self, message: TimerDue, ctx: &mut Self::Context) {
        let now = self.config.clock.wall_ms();
        if let Some(skipped) = self.enter_timer(message.key, now) {
            self.skip_tick(&skipped, now);
        }
        self.tick_next(ctx);
    }
}

impl Handler<RecordExpired> for Shard {
    type Result = ();

    fn handle(&mut self, message: RecordExpired, _: &mut Self::Context) {
        if let Some(object) = self.active.get(&message.key) {
            object.do_send(super::aso::Expire);
        }
    }
}

#[cfg(test)]
mod tests;
