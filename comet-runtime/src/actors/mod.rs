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
    time::Duration,
};

use actix::prelude::*;
use comet_routing::{Contact, Key, clock::Clock};
use comet_store::{DeleteRecord, Flush, PutRecord, Record, ReleaseRecord, SaveLog, SaveState, StoreReader};
use rand::Rng;
use rand_chacha::ChaCha12Rng;

pub(crate) use self::aso::errand::activation_refusal;
pub use self::{
    aso::{Aso, Deliver, PassivateIfIdle, Reply},
    aso_timer::{AsoTimer, Tick},
    replica::{Directory, Replica},
    shard::{AsoStopped, Drain, Shard, ShardConfig, TimerDue},
};
use crate::{
    ActivationError, Blueprint, Moment, Object, OpResult, Reach, Refusal, Request,
    contact_policy::Allowances, cpu::CpuAccounts, sandbox::pool::VmPool, timers::TimerQueue,
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
    /// Set while the store does not take what changes, so that it is said once for all objects.
    outage: Cell<bool>,
}

impl Surroundings {
    fn moment(&self) -> Moment {
        Moment { now: self.clock.wall_ms(), local: self.local, seed: self.rng.borrow_mut().next_u64() }
    }

    /// Makes an object, at its own expense.
    fn activate(&self, blueprint: &Blueprint) -> Result<Object, ActivationError> {
        let object = self.pool.activate(blueprint, self.moment());
        self.charge(&blueprint.key, self.pool.last_cost());
        object
    }

    /// Charges an object what was done for it.
    fn charge(&self, key: &Key, cost: Duration) {
        self.cpu.borrow_mut().charge(*key, cost, self.clock.wall_ms());
    }

    /// Says whether an object has CPU time left.
    fn may_run(&self, key: &Key) -> Result<(), Refusal> {
        match self.cpu.borrow().wait_ms(key, self.clock.wall_ms()) {
            0 => Ok(()),
            wait_ms => Err(Refusal::Spent {
                what: "this object has used its CPU time".into(),
                wait_seconds: wait_ms.div_ceil(1_000),
            }),
        }
    }

    /// How far an object may reach. Its publisher's signature was verified before the record got here.
    fn reach_of(&self, record: &Record) -> Reach {
        self.reach.extended_by(record.publication.as_ref(), &self.publishers)
    }
}

type Shared = Rc<Surroundings>;
