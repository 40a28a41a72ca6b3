//! The actor that carries out operations over several replicas, for clients and for objects.
//!
//! Each operation is a task of its own: a lookup finds the nodes closest to the key, this one among them where
//! it belongs, then a machine of [`crate::operation`] says whom to ask. The actor's own part is to bound how
//! many run at once and to number unsigned puts.

mod client;
mod conditional;
mod conversation;
mod deletion;
mod mending;
mod object;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use comet_routing::{
    Contact, Diversity, Key,
    actor::{FindNode, Neighbours},
    clock::Clock,
};
use comet_runtime::{
    OpResult, Refusal,
    actors::{Perform, Replica},
    contact_policy::MessageBucket,
    dht::{
        Delete, DeleteReport, Expected, Get, GetReport, Inspection, LogProof, LookupReport, Put, PutReport,
        ReplicaLog,
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Carry, CheckSoon};
use crate::{
    config::ReplicationConfig,
    operation::{Company, Gate, OwnRole, OwnSaid, Pauses, Period, Rivals, Sequence},
};

/// How often this node asks at most that the replicas of one object be seen to.
const MENDED_EVERY: Duration = Duration::from_secs(60);

/// Objects for which this was asked and is remembered.
const MENDED_MAX: usize = 8_192;

/// Store an object: see [`comet_runtime::dht::Dht::put`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<PutReport, Refusal>")]
pub struct PutObject(pub Put);

/// Read an object: see [`comet_runtime::dht::Dht::get`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<GetReport, Refusal>")]
pub struct GetObject(pub Get);

/// As [`GetObject`], of one answer, after the own replica was asked.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<GetReport, Refusal>")]
pub struct GetFurther {
    /// What to read.
    pub get: Get,
    /// What the own replica said.
    pub own: OwnSaid,
}

/// Delete an object: see [`comet_runtime::dht::Dht::delete`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<DeleteReport, Refusal>")]
pub struct DeleteObject(pub Delete);

/// Find the live nodes closest to a key: see [`comet_runtime::dht::Dht::lookup`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<LookupReport, Refusal>")]
pub struct LookUp(pub Key);

/// Ask each replica what it holds: see [`comet_runtime::dht::Dht::inspect`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Vec<Inspection>, Refusal>")]
pub struct InspectObject(pub Key);

/// Ask each replica for an object's log: see [`comet_runtime::dht::Dht::logs`].
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<ReplicaLog>, Refusal>")]
pub struct ReadLogs {
    /// Whose log.
    pub key: Key,
    /// The owner's proof, for an owned object.
    pub proof: Option<LogProof>,
}

/// Defaults and limits of a [`Coordinator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// What a client or object that chooses nothing gets.
    pub replication: ReplicationConfig,
    /// Operations that may run at once.
    pub operations_max: usize,
    /// Requests that all objects of the node together may make in a second.
    pub object_requests_per_second: u32,
    /// Messages that may wait in the mailbox.
    pub mailbox: usize,
}

impl CoordinatorConfig {
    /// A guess with room to spare: at 20 nodes each these operations keep 40,000 requests under way.
    pub fn new(replication: ReplicationConfig) -> Self {
        Self { replication, operations_max: 2_048, object_requests_per_second: 1_000, mailbox: 2_048 }
    }
}

/// How operations reach the replicas.
#[derive(Clone)]
pub struct Access {
    /// This node, as peers know it.
    pub own: Contact,
    /// What requests may do.
    pub gate: Arc<Gate>,
    /// The objects of this node.
    pub replica: Replica,
    /// The router.
    pub find_node: Recipient<FindNode>,
    /// The router, for what it knows without asking anybody.
    pub neighbours: Recipient<Neighbours>,
    /// The courier.
    pub carry: Recipient<Carry>,
    /// The replicator: a replica was met that is behind.
    pub check: Recipient<CheckSoon>,
    /// How this node takes part.
    pub role: OwnRole,
    /// How many nodes of one network may hold the same object.
    pub diversity: Diversity,
    /// Whether there should be others.
    pub company: Company,
    /// Numbers unsigned puts.
    pub sequence: Sequence,
    /// Time.
    pub clock: Clock,
}

/// Carries out operations over several replicas.
pub struct Coordinator {
    access: Rc<Access>,
    replication: Rc<ReplicationConfig>,
    mailbox: usize,
    running: Arc<Semaphore>,
    mended: Rc<RefCell<Pauses<Key>>>,
    rivals: Rc<RefCell<Rivals>>,
    object_requests_per_second: u32,
    object_requests: MessageBucket,
}

/// One operation under way.
struct Operation {
    access: Rc<Access>,
    replication: Rc<ReplicationConfig>,
    period: Period,
    mended: Rc<RefCell<Pauses<Key>>>,
    rivals: Rc<RefCell<Rivals>>,
    _permit: OwnedSemaphorePermit,
}

impl Coordinator {
    /// A coordinator without operations.
    pub fn new(access: Access, config: CoordinatorConfig) -> Self {
        let object_requests = MessageBucket::full(config.object_requests_per_second, access.clock.wall_ms());
        Self {
            access: Rc::new(access),
            replication: Rc::new(config.replication),
            mailbox: config.mailbox,
            running: Arc::new(Semaphore::new(config.operations_max.min(Semaphore::MAX_PERMITS))),
            mended: Rc::new(RefCell::new(Pauses::new(MENDED_EVERY, MENDED_MAX))),
            rivals: Rc::default(),
            object_requests_per_second: config.object_requests_per_second,
            object_requests,
        }
    }

    /// An operation for an object, if this node's objects have not made too many.
    fn begin_for_object(&mut self) -> Result<Operation, Refusal> {
        let now = self.access.clock.wall_ms();
        if !self.object_requests.take(self.object_requests_per_second, 1_000, now) {
            return Err(Refusal::Overloaded("the node's objects".into()));
        }
        self.begin(None)
    }

    /// An operation that ends after `deadline`, or after the configured time.
    fn begin(&self, deadline: Option<Duration>) -> Result<Operation, Refusal> {
        let permit = Arc::clone(&self.running).try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::Overloaded("the node".into()))?;
        Ok(Operation {
            access: Rc::clone(&self.access),
            replication: Rc::clone(&self.replication),
            period: Period::of_client(self.access.clock.now(), deadline, &self.replication),
            mended: Rc::clone(&self.mended),
            rivals: Rc::clone(&self.rivals),
            _permit: permit,
        })
    }
}

impl Operation {
    /// Orders an unsigned put after all that this node has taken.
    fn next_sequence(&self) -> u64 {
        self.access.sequence.next(self.access.clock.wall_ms())
    }
}

impl Actor for Coordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.mailbox);
    }
}

impl Handler<PutObject> for Coordinator {
    type Result = ResponseFuture<Result<PutReport, Refusal>>;

    fn handle(&mut self, PutObject(put): PutObject, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(put.deadline);
        Box::pin(async move {
            let (reply, report) = oneshot::channel();
            // It goes on after the report, until the rest of the replicas have stored the object as well.
            match put.expected {
                Expected::Any => actix::spawn(operation?.put(put, reply)),
                Expected::Absent => actix::spawn(operation?.put_if(put, None, reply)),
                Expected::Version(version) => actix::spawn(operation?.put_if(put, Some(version), reply)),
            };
            report.await.unwrap_or_else(|_| Err(Refusal::Stopping("the node".into())))
        })
    }
}

impl Handler<GetObject> for Coordinator {
    type Result = ResponseFuture<Result<GetReport, Refusal>>;

    fn handle(&mut self, GetObject(get): GetObject, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(get.deadline);
        Box::pin(async move { operation?.get(get, None).await })
    }
}

impl Handler<GetFurther> for Coordinator {
    type Result = ResponseFuture<Result<GetReport, Refusal>>;

    fn handle(&mut self, GetFurther { get, own }: GetFurther, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(get.deadline);
        Box::pin(async move { operation?.get(get, Some(own)).await })
    }
}

impl Handler<DeleteObject> for Coordinator {
    type Result = ResponseFuture<Result<DeleteReport, Refusal>>;

    fn handle(&mut self, DeleteObject(delete): DeleteObject, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(delete.deadline);
        Box::pin(async move { operation?.delete(delete).await })
    }
}

impl Handler<LookUp> for Coordinator {
    type Result = ResponseFuture<Result<LookupReport, Refusal>>;

    fn handle(&mut self, LookUp(key): LookUp, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(None);
        Box::pin(async move { operation?.look_up(&key).await })
    }
}

impl Handler<InspectObject> for Coordinator {
    type Result = ResponseFuture<Result<Vec<Inspection>, Refusal>>;

    fn handle(&mut self, InspectObject(key): InspectObject, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(None);
        Box::pin(async move { operation?.inspect(key).await })
    }
}

impl Handler<ReadLogs> for Coordinator {
    type Result = ResponseFuture<Result<Vec<ReplicaLog>, Refusal>>;

    fn handle(&mut self, ReadLogs { key, proof }: ReadLogs, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin(None);
        Box::pin(async move { operation?.logs(key, proof).await })
    }
}

impl Handler<Perform> for Coordinator {
    type Result = ResponseFuture<OpResult>;

    fn handle(&mut self, perform: Perform, _: &mut Self::Context) -> Self::Result {
        let operation = self.begin_for_object();
        Box::pin(async move { operation?.perform(perform).await })
    }
}
