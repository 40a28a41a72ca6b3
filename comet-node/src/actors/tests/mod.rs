//! The node's actors, each against probes in place of its neighbours, under paused time.

mod conditional;
mod coordinator;
mod courier;
mod deleting;
mod mending;
mod perform;
mod prober;
mod replicator;
mod responder;
mod scout;
mod shortcut;
mod signed_reads;

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Contact, Diversity, Ended, Key, NodeId, Outcome, PrivateRanges, Prospects,
    actor::{
        Closest, ContactAnswered, ContactHeard, ContactSuspected, FindNode, FindNodeError, Neighbours,
        QueryFailed, QueryReplied,
    },
    clock::Clock,
};
use comet_runtime::{
    Limits, Refusal, Value,
    actors::{Deliver, Directory, Replica},
    dht::{Expected, Put, Usage},
    visit::{Served, Visit},
};
use comet_store::{StoreConfig, Version};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{Access, CheckSoon, Coordinator, CoordinatorConfig, Courier, CourierConfig};
use crate::{
    config::ReplicationConfig,
    operation::{Company, Gate, OwnRole, Sequence},
    transport::{Ask, Pending, Rtt, TransportError},
    wire::{Answer, Reply, Request, encode_answer},
};

const WALL_MS: u64 = 1_700_000_000_000;

const KEY: [u8; 32] = [0x5a; 32];

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Runs a scenario whose clock stands still but for what its timers wait for, and on whole milliseconds.
fn paused(scenario: impl Future<Output = ()>) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime on one thread")
    };
    System::with_tokio_rt(runtime).block_on(scenario);
}

fn key() -> Key {
    Key::from_bytes(KEY)
}

/// The node at distance `n` from [`key`].
fn node(n: u8) -> Contact {
    let mut id = KEY;
    id[31] ^= n;
    Contact::new(NodeId::from_bytes(id), (Ipv4Addr::LOCALHOST, 7400 + u16::from(n)).into())
}

/// All nodes here are on one host.
fn exempt() -> Diversity {
    Diversity { private_ranges: PrivateRanges::Exempt, ..Diversity::default() }
}

fn version(n: u64) -> Version {
    Version { sequence: n, hash: [0; 32] }
}

fn stored() -> Reply {
    Reply::Stored { version: version(1), usage: Usage::default() }
}

/// A put of a plain value that belongs to nobody.
fn hello(replicas: u8) -> Put {
    Put {
        key: key(),
        data: Value::from("hello").encode(),
        code: None,
        publication: None,
        ttl: None,
        replicas: Some(replicas),
        owner: None,
        expected: Expected::Any,
        deadline: None,
    }
}

fn gate() -> Arc<Gate> {
    Arc::new(Gate::new("test", Limits::default(), &ReplicationConfig::default()))
}

/// How the network treats requests to one node.
#[derive(Clone, Debug)]
enum Manner {
    /// Acknowledged after so many milliseconds, answered after so many.
    Answers { acknowledged_ms: u64, answered_ms: u64, answer: Answer },
    /// Answered so, and so late, without having been acknowledged before.
    Late { answered_ms: u64, answer: Answer },
    /// Acknowledged, perhaps, after so many milliseconds; then the connection breaks.
    Breaks { acknowledged_ms: Option<u64>, broken_ms: u64 },
    /// Answered with these bytes.
    Says(Bytes),
    /// Nothing comes back.
    Lost,
    /// Ends at once.
    Fails(TransportError),
}

/// Stands where the transport would. Nodes it was told nothing of are [`Manner::Lost`].
struct Network {
    started: Instant,
    manners: BTreeMap<NodeId, Manner>,
    asked: Vec<(Duration, Contact, Request)>,
}

impl Network {
    fn start_with(manners: impl IntoIterator<Item = (Contact, Manner)>) -> Addr<Self> {
        let manners = manners.into_iter().map(|(contact, manner)| (contact.id, manner)).collect();
        Self { started: Instant::now(), manners, asked: Vec::new() }.start()
    }
}

impl Actor for Network {
    type Context = Context<Self>;
}

impl Handler<Ask> for Network {
    type Result = Pending;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Pending {
        let request = Request::decode(&ask.request).expect("nodes send what they understand");
        self.asked.push((self.started.elapsed(), ask.to, request));
        let manner = self.manners.get(&ask.to.id).cloned().unwrap_or(Manner::Lost);
        let (acknowledge, acknowledged) = oneshot::channel();
        let (answer, reply) = oneshot::channel();
        actix::spawn(behave(manner, ask.deadline, acknowledge, answer));
        Pending { acknowledged, reply }
    }
}

async fn behave(
    manner: Manner,
    deadline: Duration,
    acknowledge: oneshot::Sender<Rtt>,
    reply: oneshot::Sender<Result<Bytes, TransportError>>,
) {
    let result = match manner {
        Manner::Answers { acknowledged_ms, answered_ms, answer } => {
            sleep(ms(acknowledged_ms)).await;
            let smoothed = ms(acknowledged_ms);
            acknowledge.send(Rtt { smoothed, variation: smoothed / 4 }).ok();
            sleep(ms(answered_ms - acknowledged_ms)).await;
            Ok(encode_answer(&answer))
        }
        Manner::Late { answered_ms, answer } => {
            sleep(ms(answered_ms)).await;
            Ok(encode_answer(&answer))
        }
        Manner::Breaks { acknowledged_ms, broken_ms } => {
            if let Some(acknowledged_ms) = acknowledged_ms {
                sleep(ms(acknowledged_ms)).await;
                acknowledge.send(Rtt { smoothed: ms(acknowledged_ms), variation: ms(0) }).ok();
            }
            sleep(ms(broken_ms - acknowledged_ms.unwrap_or(0))).await;
            Err(TransportError::Closed)
        }
        Manner::Says(bytes) => Ok(bytes),
        Manner::Lost => {
            sleep(deadline).await;
            Err(TransportError::TimedOut)
        }
        Manner::Fails(error) => Err(error),
    };
    reply.send(result).ok();
}

/// From now on the network treats a node so.
#[derive(Message)]
#[rtype(result = "()")]
struct Treat(Contact, Manner);

impl Handler<Treat> for Network {
    type Result = ();

    fn handle(&mut self, Treat(contact, manner): Treat, _: &mut Self::Context) {
        self.manners.insert(contact.id, manner);
    }
}

/// What a probe has noted since it was last asked.
#[derive(Message)]
#[rtype(result = "Vec<(Duration, Contact, Request)>")]
struct TakeAsked;

impl Handler<TakeAsked> for Network {
    type Result = Vec<(Duration, Contact, Request)>;

    fn handle(&mut self, _: TakeAsked, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.asked)
    }
}

/// Whom the network was asked to reach, and when.
async fn asked(network: &Addr<Network>) -> Vec<(Duration, Contact)> {
    let asked = network.send(TakeAsked).await.expect("the network runs");
    asked.into_iter().map(|(at, to, _)| (at, to)).collect()
}

/// What the router heard.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Replied { query: u64, closer: Vec<Contact>, rtt: Duration },
    Failed { query: u64 },
    Answered { contact: Contact, rtt: Option<Duration> },
    Suspected { id: NodeId },
    Heard { contact: Contact },
}

/// Stands where the router would: notes what it is told, and knows these nodes.
struct Knower {
    started: Instant,
    nodes: Vec<Contact>,
    late: Vec<Contact>,
    neighbours: Prospects,
    missed: usize,
    lookups: usize,
    told: Vec<(Duration, Told)>,
}

impl Knower {
    fn start_with(nodes: impl IntoIterator<Item = Contact>) -> Addr<Self> {
        let nodes = nodes.into_iter().collect();
        Self {
            started: Instant::now(),
            nodes,
            late: Vec::new(),
            neighbours: Prospects::default(),
            missed: 0,
            lookups: 0,
            told: Vec::new(),
        }
        .start()
    }

    fn note(&mut self, told: Told) {
        self.told.push((self.started.elapsed(), told));
    }
}

impl Actor for Knower {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "Vec<(Duration, Told)>")]
struct TakeTold;

impl Handler<TakeTold> for Knower {
    type Result = Vec<(Duration, Told)>;

    fn handle(&mut self, _: TakeTold, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.told)
    }
}

/// These do not answer lookups in time.
#[derive(Message)]
#[rtype(result = "()")]
struct SetLate(Vec<Contact>);

impl Handler<SetLate> for Knower {
    type Result = ();

    fn handle(&mut self, SetLate(late): SetLate, _: &mut Self::Context) {
        self.nodes.retain(|node| !late.contains(node));
        self.late = late;
    }
}

#[derive(Message)]
#[rtype(result = "usize")]
struct CountLookups;

impl Handler<CountLookups> for Knower {
    type Result = usize;

    fn handle(&mut self, _: CountLookups, _: &mut Self::Context) -> Self::Result {
        self.lookups
    }
}

impl Handler<FindNode> for Knower {
    type Result = Result<Outcome, FindNodeError>;

    fn handle(&mut self, _: FindNode, _: &mut Self::Context) -> Self::Result {
        self.lookups += 1;
        Ok(Outcome {
            closest: self.nodes.clone(),
            late: self.late.clone(),
            missed: self.missed,
            hops: 2,
            queries: 9,
            ended: Ended::Converged,
        })
    }
}

impl Handler<Closest> for Knower {
    type Result = Vec<Contact>;

    fn handle(&mut self, Closest { count, .. }: Closest, _: &mut Self::Context) -> Self::Result {
        self.nodes.iter().copied().take(count).collect()
    }
}

impl Handler<Neighbours> for Knower {
    type Result = MessageResult<Neighbours>;

    fn handle(&mut self, neighbours: Neighbours, _: &mut Self::Context) -> Self::Result {
        assert_eq!(neighbours.copies, usize::from(ReplicationConfig::default().replicas));
        MessageResult(self.neighbours.clone())
    }
}

/// These are known around every key, and so many others are missed.
#[derive(Message)]
#[rtype(result = "()")]
struct SetNeighbours(Prospects, usize);

impl Handler<SetNeighbours> for Knower {
    type Result = ();

    fn handle(&mut self, SetNeighbours(neighbours, missed): SetNeighbours, _: &mut Self::Context) {
        (self.neighbours, self.missed) = (neighbours, missed);
    }
}

impl Handler<QueryReplied> for Knower {
    type Result = ();

    fn handle(&mut self, QueryReplied { query, closer, rtt }: QueryReplied, _: &mut Self::Context) {
        self.note(Told::Replied { query, closer, rtt });
    }
}

impl Handler<QueryFailed> for Knower {
    type Result = ();

    fn handle(&mut self, QueryFailed { query }: QueryFailed, _: &mut Self::Context) {
        self.note(Told::Failed { query });
    }
}

impl Handler<ContactAnswered> for Knower {
    type Result = ();

    fn handle(&mut self, ContactAnswered { contact, rtt }: ContactAnswered, _: &mut Self::Context) {
        self.note(Told::Answered { contact, rtt });
    }
}

impl Handler<ContactSuspected> for Knower {
    type Result = ();

    fn handle(&mut self, ContactSuspected { id }: ContactSuspected, _: &mut Self::Context) {
        self.note(Told::Suspected { id });
    }
}

impl Handler<ContactHeard> for Knower {
    type Result = ();

    fn handle(&mut self, ContactHeard { contact }: ContactHeard, _: &mut Self::Context) {
        self.note(Told::Heard { contact });
    }
}

/// Stands where a shard of objects would: answers every visit alike after a while.
struct Objects {
    after: Duration,
    outcome: Result<Served, Refusal>,
    visits: Vec<(Key, Visit)>,
}

impl Objects {
    fn start_with(after: Duration, outcome: Result<Served, Refusal>) -> Addr<Self> {
        Self { after, outcome, visits: Vec::new() }.start()
    }

    /// Objects that accept every put at once.
    fn accepting() -> Addr<Self> {
        Self::start_with(ms(0), Ok(Served::Stored { version: version(1), usage: Usage::default() }))
    }
}

impl Actor for Objects {
    type Context = Context<Self>;
}

impl Handler<Deliver> for Objects {
    type Result = ();

    fn handle(&mut self, Deliver { key, visit, reply, .. }: Deliver, ctx: &mut Self::Context) {
        self.visits.push((key, visit));
        let outcome = self.outcome.clone();
        if self.after.is_zero() {
            reply.send(outcome).ok();
        } else {
            ctx.run_later(self.after, move |_, _| drop(reply.send(outcome)));
        }
    }
}

#[derive(Message)]
#[rtype(result = "Visits")]
struct TakeVisits;

#[derive(MessageResponse)]
struct Visits(Vec<(Key, Visit)>);

impl Handler<TakeVisits> for Objects {
    type Result = Visits;

    fn handle(&mut self, _: TakeVisits, _: &mut Self::Context) -> Self::Result {
        Visits(std::mem::take(&mut self.visits))
    }
}

async fn visits(objects: &Addr<Objects>) -> Vec<(Key, Visit)> {
    objects.send(TakeVisits).await.expect("the objects run").0
}

/// Stands where the replicator would, and notes what it is to check.
#[derive(Default)]
struct Watch(Vec<Key>);

impl Watch {
    fn start_with() -> Addr<Self> {
        Self::default().start()
    }
}

impl Actor for Watch {
    type Context = Context<Self>;
}

impl Handler<CheckSoon> for Watch {
    type Result = ();

    fn handle(&mut self, CheckSoon { key }: CheckSoon, _: &mut Self::Context) {
        self.0.push(key);
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Key>")]
struct TakeChecks;

impl Handler<TakeChecks> for Watch {
    type Result = Vec<Key>;

    fn handle(&mut self, _: TakeChecks, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.0)
    }
}

/// A replica whose store is empty and whose objects are a probe.
fn replica(objects: &Addr<Objects>, clock: Clock) -> Replica {
    let (_, reader) = comet_store::in_memory(StoreConfig::default());
    Replica::new(Arc::new(Directory::default()), reader, vec![objects.clone().recipient()], clock)
}

/// A coordinator with a real courier, between a probe network, a probe router and probe objects. Own node is
/// [`node`] 0 unless said otherwise, so the nearest to [`key`].
struct Station {
    network: Addr<Network>,
    router: Addr<Knower>,
    objects: Addr<Objects>,
    coordinator: Addr<Coordinator>,
    role: OwnRole,
    started: Instant,
}

impl Station {
    fn start(
        own: Contact,
        peers: impl IntoIterator<Item = (Contact, Manner)>,
        change: impl FnOnce(&mut CoordinatorConfig),
    ) -> Self {
        let company = Company { has_peers: false, had_contacts: false, started: Instant::now().into_std() };
        Self::start_in(company, own, peers, change)
    }

    fn start_in(
        company: Company,
        own: Contact,
        peers: impl IntoIterator<Item = (Contact, Manner)>,
        change: impl FnOnce(&mut CoordinatorConfig),
    ) -> Self {
        let peers: Vec<_> = peers.into_iter().collect();
        let clock = Clock::starting_at(WALL_MS);
        let router = Knower::start_with(peers.iter().map(|(contact, _)| *contact));
        let network = Network::start_with(peers);
        let (objects, role) = (Objects::accepting(), OwnRole::default());
        let courier = Courier::new(network.clone().recipient(), clock, CourierConfig::default()).start();
        let access = Access {
            own,
            gate: gate(),
            replica: replica(&objects, clock),
            find_node: router.clone().recipient(),
            neighbours: router.clone().recipient(),
            carry: courier.recipient(),
            check: Watch::start_with().recipient(),
            role: role.clone(),
            diversity: exempt(),
            company,
            sequence: Sequence::default(),
            clock,
        };
        let mut config = CoordinatorConfig::new(ReplicationConfig::default());
        change(&mut config);
        let coordinator = Coordinator::new(access, config).start();
        Self { network, router, objects, coordinator, role, started: Instant::now() }
    }

    /// What peers were asked to do, and when.
    async fn requests(&self) -> Vec<(Duration, Contact, Request)> {
        self.network.send(TakeAsked).await.expect("the network runs")
    }
}

/// A peer that is 40 ms away and answers so.
fn answering(n: u8, answer: Answer) -> (Contact, Manner) {
    (node(n), Manner::Answers { acknowledged_ms: 40, answered_ms: 40, answer })
}
