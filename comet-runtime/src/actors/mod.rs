//! The runtime's actors: one [`Aso`] per active object, its [`AsoTimer`], and the [`Shard`] that they live on.

mod aso;
mod aso_timer;
mod replica;
mod shard;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use comet_routing::{
    Contact, Key, NodeId, Prefix,
    clock::{Clock, WallMs},
};
use comet_store::{
    DeleteRecord, Flush, PutAndTell, PutRecord, Record, ReleaseRecord, SaveLog, SaveState, StoreReader,
    Version,
};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

pub(crate) use self::aso::errand::activation_refusal;
use self::shard::places::Places;
pub use self::{
    aso::{Aso, Deliver, PassivateIfIdle, Reply, series::DeliverSeries},
    aso_timer::{AsoTimer, Tick},
    replica::{Begun, Directory, Replica},
    shard::{AsoStopped, Drain, Shard, ShardConfig, TimerDue, places::PARTS as PLACE_PARTS},
};
use crate::{
    ActivationError, Blueprint, Caller, Condition, Moment, Object, OpResult, Reach, Refusal, Report, Request,
    blame::{Blame, Verdict},
    claims::Claims,
    contact_policy::Allowances,
    cpu::CpuAccounts,
    patience::PatienceLimits,
    rules,
    sandbox::pool::VmPool,
    shares::Shares,
    timers::TimerQueue,
    visit::{Served, Visit},
};

/// Carries out a request that a handler made; the node answers when the swarm has.
#[derive(Clone, Debug, Message)]
#[rtype(result = "OpResult")]
pub struct Perform {
    /// The object that asks.
    pub object: Key,
    /// What it asks.
    pub request: Request,
    /// The object itself, where the request copies it.
    pub copy: Option<Box<Record>>,
}

/// Where the objects of a shard write to and send to.
#[derive(Clone)]
pub struct Links {
    /// Stores records.
    pub put: Recipient<PutRecord>,
    /// Stores records, and answers whoever brought them.
    pub put_and_tell: Recipient<PutAndTell>,
    /// Stores states.
    pub save: Recipient<SaveState>,
    /// Stores logs.
    pub log: Recipient<SaveLog>,
    /// Forgets records.
    pub delete: Recipient<DeleteRecord>,
    /// Forgets records that other nodes keep.
    pub release: Recipient<ReleaseRecord>,
    /// Waits until everything written so far is stored.
    pub flush: Recipient<Flush>,
    /// Reads what is stored.
    pub reader: StoreReader,
    /// Carries out requests.
    pub network: Recipient<Perform>,
}

impl Links {
    /// Whatever is written goes to one actor.
    pub fn new<S>(store: &Addr<S>, reader: StoreReader, network: Recipient<Perform>) -> Self
    where
        S: Actor<Context = Context<S>>
            + Handler<PutRecord>
            + Handler<PutAndTell>
            + Handler<SaveState>
            + Handler<SaveLog>
            + Handler<DeleteRecord>
            + Handler<ReleaseRecord>
            + Handler<Flush>,
    {
        Self {
            put: store.clone().recipient(),
            put_and_tell: store.clone().recipient(),
            save: store.clone().recipient(),
            log: store.clone().recipient(),
            delete: store.clone().recipient(),
            release: store.clone().recipient(),
            flush: store.clone().recipient(),
            reader,
            network,
        }
    }
}

/// What all objects of one shard share.
pub(crate) struct Surroundings {
    links: Links,
    pool: VmPool,
    stopped: Recipient<AsoStopped>,
    timer_due: Recipient<TimerDue>,
    clock: Clock,
    local: Contact,
    reach: Reach,
    publishers: Arc<BTreeSet<[u8; 32]>>,
    state_flush: Duration,
    rng: RefCell<ChaCha12Rng>,
    /// What those who left memory had left to send.
    allowances: RefCell<Allowances>,
    /// What CPU time the objects have used, in memory or not.
    cpu: RefCell<CpuAccounts<Key>>,
    timers: RefCell<TimerQueue>,
    blame: RefCell<Blame>,
    /// How long a visit may wait.
    patience: PatienceLimits,
    /// What the callers of each network have used of this thread's time.
    shares: RefCell<Shares>,
    /// How long the turns of one object may take before others have theirs.
    slice: Duration,
    places: RefCell<Places>,
    /// Conditional puts that are about to take place.
    claims: RefCell<Claims>,
    /// Set while the store does not take what changes, so that it is said once for all objects.
    outage: Cell<bool>,
}

impl Surroundings {
    fn moment(&self) -> Moment {
        Moment { now: self.clock.wall_ms(), local: self.local, seed: self.rng.borrow_mut().next_u64() }
    }

    /// True if a visit may take this thread's time, as far as its network is concerned.
    fn has_share(&self, visit: &Visit, sent: Instant, now: Instant) -> bool {
        let source = visit.caller().and_then(|caller| caller.source(&self.local));
        let waited = now.saturating_duration_since(sent);
        source.is_none_or(|source| self.shares.borrow_mut().admit(source, waited, now))
    }

    /// Makes an object for a caller from the network `source`, at the expense of the network that brings it, if one does, or
    /// else at its own.
    fn activate(
        &self,
        blueprint: &Blueprint,
        source: Option<Prefix>,
        payer: Option<Prefix>,
    ) -> Result<Object, ActivationError> {
        let object = self.pool.activate(blueprint, self.moment());
        let (cost, now) = (self.pool.last_cost(), self.clock.wall_ms());
        if let Some(source) = source {
            self.shares.borrow_mut().charge(source, cost, self.clock.now());
        }
        match payer {
            Some(source) => self.blame.borrow_mut().charge(source, cost, now),
            None => self.cpu.borrow_mut().charge(blueprint.key, cost, now),
        }
        object
    }

    /// Charges a turn to whoever has to pay for it.
    fn charge(&self, key: &Key, report: &Report) {
        let (cost, now) = (report.cost, self.clock.wall_ms());
        let source = report.caller.as_ref().and_then(|caller| caller.source(&self.local));
        let verdict = Verdict::of(&report.end);
        if let Some(source) = source {
            self.shares.borrow_mut().charge(source, cost, self.clock.now());
        }
        let own = self.blame.borrow_mut().settle(key, source, verdict, cost, now);
        self.cpu.borrow_mut().charge(*key, own, now);
        if report.caller.is_none() {
            self.timers.borrow_mut().charge(cost, now);
        }
    }

    /// Says whether an object may run now for a caller from this network.
    fn may_run(&self, key: &Key, source: Option<Prefix>) -> Result<(), Refusal> {
        self.may_run_at(self.clock.wall_ms(), key, source)
    }

    fn may_run_at(&self, now: WallMs, key: &Key, source: Option<Prefix>) -> Result<(), Refusal> {
        self.blame.borrow().admit(key, source, now)?;
        match self.cpu.borrow().wait_ms(key, now) {
            0 => Ok(()),
            wait_ms => Err(Refusal::Spent {
                what: "this object has used its CPU time".into(),
                wait_seconds: wait_ms.div_ceil(1_000),
            }),
        }
    }

    /// Notes that a conditional put of this version will follow, or says why it could not take place.
    fn claim(
        &self,
        key: Key,
        held: Option<&Record>,
        caller: &Caller,
        version: Version,
        condition: Condition,
    ) -> Result<Served, Refusal> {
        let held_version = held.map(|held| held.version);
        rules::check_expected(held_version, condition.expected)?;
        if let Some(held) = held.filter(|held| version <= held.version) {
            return Err(rules::stale(held));
        }
        // The store would refuse it in the end; until then other replicas would have stored it.
        let deleted = self.links.reader.tombstone(&key).ok().flatten().map(|deletion| deletion.version);
        if let Some(deleted) = deleted.filter(|deleted| held.is_none() && *deleted >= version) {
            return Err(Refusal::Stale { held_sequence: deleted.sequence });
        }
        let (by, source) = ((caller.node.id, condition.ticket), caller.source(&self.local));
        let (expected, now) = (condition.expected, self.clock.now());
        self.claims.borrow_mut().take(key, held_version, by, source, expected, now)?;
        Ok(Served::Noted)
    }

    fn unclaim(&self, key: &Key, caller: &Caller, ticket: u64) -> Result<Served, Refusal> {
        self.claims.borrow_mut().end(key, (caller.node.id, ticket));
        Ok(Served::Noted)
    }

    /// Says whether what is held is what a put expects, and nobody else is about to replace it.
    fn may_put(
        &self,
        key: &Key,
        held: Option<&Record>,
        caller: &Caller,
        condition: Option<&Condition>,
    ) -> Result<(), Refusal> {
        let Some(&Condition { expected, ticket }) = condition else { return Ok(()) };
        let held = held.map(|held| held.version);
        rules::check_expected(held, expected)?;
        self.claims.borrow().admit(key, held, (caller.node.id, ticket), self.clock.now())
    }

    /// Ends the claim of a put once others see what it brings, or wait until it is decided. Ended sooner, it would let
    /// a rival pass; if it lasted for longer, it would keep the key from others once this put was deleted again.
    fn end_claim(&self, key: &Key, by: NodeId, condition: Option<&Condition>) {
        if let Some(condition) = condition {
            self.claims.borrow_mut().end(key, (by, condition.ticket));
        }
    }

    /// How far an object may reach. Its publisher's signature was verified before the record got here.
    fn reach_of(&self, record: &Record) -> Reach {
        self.reach.extended_by(record.publication.as_deref(), &self.publishers)
    }
}

type Shared = Rc<Surroundings>;
