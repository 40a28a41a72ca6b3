//! Putting a node's actors together, whatever carries their messages and whatever they run on.
//!
//! Three things come from outside: a transport, a store and the [`Stages`]. A real node brings QUIC, a file
//! and threads; a simulation brings a network in memory, a store in memory and the one thread it has. The
//! first two need to know the node as well, so its addresses exist before any of its actors runs: an
//! [`Assembly`] holds them, and [`Assembly::complete`] starts the actors in the order in which they need each
//! other.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use comet_routing::{
    Contact, PrivateRanges, Router, RouterConfig, TableConfig, TableView,
    actor::{FindNode, Outbound},
    clock::Clock,
};
use comet_runtime::{
    Backstop, Reach,
    actors::{Deliver, Directory, Drain, Links, PLACE_PARTS, Replica, Shard, ShardConfig},
    cpu::CpuRate,
    failure_rates,
    timers::TIMER_SHARE,
};
use comet_store::{Flush, RecordExpired, ReplicaStore, StoreReader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::{
    actors::{
        Access, Connect, Coordinator, CoordinatorConfig, Courier, CourierConfig, Desk, Prober, Replicator,
        ReplicatorConfig, Responder, ResponderConfig, RouterLinks, Scout, Surveyor,
    },
    address_book::AddressBook,
    bootstrap::{Bootstrap, CONTACTS_META, Connections, Joined, Meet, SaveContacts},
    client::{Client, NodeFacts},
    config::{ContactPolicy, NodeConfig, PrivateNetworks},
    operation::{Company, Gate, OwnRole, RateLimits, Sequence},
    shortcut::Shortcut,
    threads::{Seat, Stage},
    transport::{Ask, Close, Counters, Greet, Probe, Received},
    upkeep::UpkeepCounters,
};

/// State that handlers changed is saved within this time.
const STATE_FLUSH: Duration = Duration::from_millis(200);
/// An object without visits for this long leaves memory.
const IDLE: Duration = Duration::from_secs(120);
/// Active objects of one shard.
const ACTIVE_MAX: usize = 100_000;
/// Visits that may wait for one shard.
const SHARD_QUEUE: usize = 4_096;
/// How long a stopping node waits for its objects to be saved.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// What a node is made of that its own actors do not bring.
pub struct Parts<'a> {
    /// What the operator set. Its data directory and its addresses are the business of whoever made the rest.
    pub config: &'a NodeConfig,
    /// The node, as peers know it.
    pub own: Contact,
    /// The transport, built with [`Assembly::inbound`].
    pub transport: TransportLinks,
    /// The store, built with [`Assembly::expired`].
    pub store: Addr<ReplicaStore>,
    /// Reads the same store.
    pub reader: StoreReader,
    /// Where the actors run.
    pub stages: Stages,
    /// Time.
    pub clock: Clock,
    /// The root of the node's random choices.
    pub rng: ChaCha12Rng,
}

/// A transport, as the rest of a node sees it.
#[derive(Clone, Debug)]
pub struct TransportLinks {
    /// Carries requests.
    pub ask: Recipient<Ask>,
    /// Finds out who answers at an address.
    pub greet: Recipient<Greet>,
    /// Finds out whether strangers could connect to a contact.
    pub probe: Recipient<Probe>,
    /// Stops it.
    pub close: Recipient<Close>,
    /// What it counts.
    pub counters: Arc<Counters>,
}

/// Where a node's actors run.
#[derive(Clone, Debug)]
pub struct Stages {
    /// Everything that serves peers.
    pub network: Stage,
    /// Objects: one shard on each, as many as the [`Assembly`] was made for, and whether wall-clock time
    /// bounds the turns there.
    pub shards: Vec<(Stage, Backstop)>,
}

/// The addresses of a node's actors, before any of them runs: they need to know each other.
pub struct Assembly {
    router: Seat<Router>,
    courier: Seat<Courier>,
    coordinator: Seat<Coordinator>,
    responder: Seat<Responder>,
    replicator: Seat<Replicator>,
    shards: Vec<Seat<Shard>>,
}

impl Assembly {
    /// The addresses of a node with so many shards, at least one.
    pub fn new(shards: usize) -> Self {
        Self {
            router: Seat::new(),
            courier: Seat::new(),
            coordinator: Seat::new(),
            responder: Seat::new(),
            replicator: Seat::new(),
            shards: (0..shards.max(1)).map(|_| Seat::new()).collect(),
        }
    }

    /// Where the transport delivers the requests of peers.
    pub fn inbound(&self) -> Recipient<Received> {
        self.responder.address().recipient()
    }

    /// Whom the store tells about expired records.
    pub fn expired(&self) -> Vec<Recipient<RecordExpired>> {
        self.shards.iter().map(|shard| shard.address().recipient()).collect()
    }

    /// Starts the node; it joins the swarm on its own.
    pub fn complete(self, mut parts: Parts<'_>) -> Crew {
        assert_eq!(self.shards.len(), parts.stages.shards.len(), "each shard has its stage");
        let (config, own, clock) = (parts.config, parts.own, parts.clock);
        let network = parts.stages.network.clone();
        let courier_address = self.courier.address();
        let directory = Arc::new(Directory::default());

        let shards = parts.start_shards(self.shards, &self.coordinator.address(), &directory);
        let replica = parts.replica(&shards, &directory);
        let gate =
            Arc::new(Gate::new(config.node.network.clone(), config.limits.clone(), &config.replication));

        let prober = parts.start_prober(&self.router.address());
        let view = TableView::new(own.id, parts.router_config().table);
        let router = parts.start_router(self.router, &courier_address, &prober, &view);
        let courier = parts.start_courier(self.courier, &router);
        let desk = Desk {
            own,
            gate: gate.clone(),
            replica: replica.clone(),
            reader: parts.reader.clone(),
            check: self.replicator.address().recipient(),
            dial_back: prober.recipient(),
            closest: router.clone().recipient(),
            clock,
        };
        let heard = router.clone().recipient();
        let rates = RateLimits { private_ranges: parts.private_ranges(), ..RateLimits::default() };
        let serving = ResponderConfig { rates, ..ResponderConfig::default() };
        network.seat(self.responder, move || Responder::new(desk, heard, serving));
        let upkeep = Arc::<UpkeepCounters>::default();
        let role = parts.start_scout(&router, &courier);
        let diversity = parts.router_config().diversity();
        let surveyor = Surveyor {
            own,
            gate: gate.clone(),
            replica: replica.clone(),
            reader: parts.reader.clone(),
            closest: router.clone().recipient(),
            find_node: router.clone().recipient(),
            carry: courier.clone().recipient(),
            role: role.clone(),
            diversity,
            counters: upkeep.clone(),
            clock,
        };
        let replicator = parts.start_replicator(self.replicator, surveyor);
        let (find_node, neighbours) = (router.clone().recipient(), router.clone().recipient());
        let saved = parts.saved_contacts();
        let company = parts.company(&saved);
        let sequence = Sequence::default();
        let shortcut = Shortcut {
            own,
            role: role.clone(),
            replica: replica.clone(),
            gate: gate.clone(),
            view,
            replication: config.replication.clone(),
            company,
            sequence: sequence.clone(),
            clock,
        };
        let access = Access {
            own,
            gate,
            replica,
            find_node,
            neighbours,
            carry: courier.recipient(),
            check: replicator.recipient(),
            role: role.clone(),
            diversity,
            company,
            sequence,
            clock,
        };
        let replication = CoordinatorConfig::new(config.replication.clone());
        let coordinator = network.seat(self.coordinator, move || Coordinator::new(access, replication));
        let bootstrap = parts.start_bootstrap(&router, saved);

        let facts = NodeFacts { own, network: config.node.network.clone(), company, role, clock };
        let Parts { reader, transport, store, .. } = parts;
        let client =
            Client::new(facts, coordinator, shortcut, router.clone(), reader, transport.counters, upkeep);
        Crew { client, bootstrap, router, transport: transport.close, shards, store }
    }
}

impl Parts<'_> {
    fn start_shards(
        &mut self,
        seats: Vec<Seat<Shard>>,
        coordinator: &Addr<Coordinator>,
        directory: &Arc<Directory>,
    ) -> Vec<Addr<Shard>> {
        let links = Links::new(&self.store, self.reader.clone(), coordinator.clone().recipient());
        let publishers = Arc::new(self.config.runtime.trusted());
        let count = seats.len();
        let mut shards = Vec::new();
        for (index, (seat, (stage, backstop))) in seats.into_iter().zip(&self.stages.shards).enumerate() {
            let config = ShardConfig {
                index,
                count,
                limits: self.config.limits.clone(),
                backstop: backstop.clone(),
                reach: match self.config.runtime.contact {
                    ContactPolicy::Strict => Reach::Strict,
                    ContactPolicy::Open => Reach::Open,
                },
                caller_addresses: self.config.runtime.caller_addresses,
                publishers: publishers.clone(),
                object_cpu: CpuRate::daily(self.config.runtime.cpu_seconds_per_day),
                failures: failure_rates(),
                timer_cpu: CpuRate::new(TIMER_SHARE.0, TIMER_SHARE.1),
                local: self.own,
                state_flush: STATE_FLUSH,
                idle: IDLE,
                active_max: ACTIVE_MAX,
                place_parts: PLACE_PARTS,
                queue: SHARD_QUEUE,
                clock: self.clock,
                rng: child(&mut self.rng),
            };
            let (links, directory) = (links.clone(), directory.clone());
            shards.push(stage.seat(seat, move || Shard::new(config, links, directory)));
        }
        shards
    }

    /// The objects of this node, whichever shard has them.
    fn replica(&self, shards: &[Addr<Shard>], directory: &Arc<Directory>) -> Replica {
        let shards: Vec<Recipient<Deliver>> = shards.iter().map(|shard| shard.clone().recipient()).collect();
        Replica::new(directory.clone(), self.reader.clone(), shards, self.clock)
    }

    fn start_courier(&self, seat: Seat<Courier>, router: &Addr<Router>) -> Addr<Courier> {
        let (ask, clock) = (self.transport.ask.clone(), self.clock);
        let courier =
            self.stages.network.seat(seat, move || Courier::new(ask, clock, CourierConfig::default()));
        courier.do_send(Connect(RouterLinks {
            replied: router.clone().recipient(),
            failed: router.clone().recipient(),
            answered: router.clone().recipient(),
            suspected: router.clone().recipient(),
        }));
        courier
    }

    fn start_prober(&self, router: &Addr<Router>) -> Addr<Prober> {
        let (probe, clock) = (self.transport.probe.clone(), self.clock);
        let (reached, unreachable) = (router.clone().recipient(), router.clone().recipient());
        self.stages.network.start(move || Prober::new(probe, reached, unreachable, clock))
    }

    fn start_scout(&mut self, router: &Addr<Router>, courier: &Addr<Courier>) -> OwnRole {
        let role = OwnRole::default();
        let (contacts, carry) = (router.clone().recipient(), courier.clone().recipient());
        let (shown, diversity, rng) = (role.clone(), self.router_config().diversity(), child(&mut self.rng));
        self.stages.network.start(move || Scout::new(contacts, carry, shown, diversity, rng));
        role
    }

    fn router_config(&self) -> RouterConfig {
        let table = TableConfig { private_ranges: self.private_ranges(), ..TableConfig::default() };
        RouterConfig { table, ..RouterConfig::default() }
    }

    fn start_router(
        &mut self,
        seat: Seat<Router>,
        courier: &Addr<Courier>,
        prober: &Addr<Prober>,
        view: &TableView,
    ) -> Addr<Router> {
        let config = self.router_config();
        let outbound = Outbound {
            find_node: courier.clone().recipient(),
            ping: courier.clone().recipient(),
            probe: prober.clone().recipient(),
        };
        let (own, clock, rng) = (self.own.id, self.clock, child(&mut self.rng));
        let view = view.clone();
        self.stages.network.seat(seat, move || Router::new(own, clock, rng, config, outbound).shown_in(view))
    }

    /// How limits per network treat loopback and private addresses.
    fn private_ranges(&self) -> PrivateRanges {
        match self.config.routing.private_ranges {
            PrivateNetworks::Exempt => PrivateRanges::Exempt,
            PrivateNetworks::Counted => PrivateRanges::Counted,
        }
    }

    fn start_replicator(&mut self, seat: Seat<Replicator>, surveyor: Surveyor) -> Addr<Replicator> {
        let replication = &self.config.replication;
        let period = Duration::from_secs(replication.upkeep_seconds);
        let config = ReplicatorConfig::new(period, replication.upkeep_bytes_per_second);
        let rng = child(&mut self.rng);
        self.stages.network.seat(seat, move || Replicator::new(surveyor, config, rng))
    }

    /// The contacts of earlier runs.
    fn saved_contacts(&self) -> AddressBook {
        match self.reader.meta(CONTACTS_META) {
            Ok(saved) => saved.map_or_else(AddressBook::default, |bytes| AddressBook::decode(&bytes)),
            Err(error) => {
                log::warn!("the saved contacts cannot be read: {error}");
                AddressBook::default()
            }
        }
    }

    fn company(&self, saved: &AddressBook) -> Company {
        let node = &self.config.node;
        Company {
            has_peers: !node.peers.is_empty() || node.mdns,
            had_contacts: !saved.is_empty(),
            started: self.clock.now(),
        }
    }

    fn start_bootstrap(&mut self, router: &Addr<Router>, saved: AddressBook) -> Addr<Bootstrap> {
        let to = Connections {
            greet: self.transport.greet.clone(),
            reached: router.clone().recipient(),
            find_node: router.clone().recipient(),
            contacts: router.clone().recipient(),
            table_size: router.clone().recipient(),
            save: self.store.clone().recipient(),
        };
        let (own, peers, rng) = (self.own.id, self.config.node.peers.clone(), child(&mut self.rng));
        let diversity = self.router_config().diversity();
        self.stages.network.start(move || Bootstrap::new(own, peers, saved, diversity, to, rng))
    }
}

/// The actors of a running node.
pub struct Crew {
    client: Client,
    bootstrap: Addr<Bootstrap>,
    router: Addr<Router>,
    transport: Recipient<Close>,
    shards: Vec<Addr<Shard>>,
    store: Addr<ReplicaStore>,
}

impl Crew {
    /// The node as its clients see it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Takes addresses at which somebody seems to be.
    pub fn meet(&self) -> Recipient<Meet> {
        self.bootstrap.clone().recipient()
    }

    /// Waits until the first attempt to join is over and a lookup of the node's own id has run; the table is then
    /// as full as it gets at once.
    pub async fn joined(&self) {
        self.bootstrap.send(Joined).await.ok();
        let target = self.client.contact().id.as_key();
        self.router.send(FindNode::all(target)).await.ok();
    }

    /// Stops the node: objects save their states, contacts are saved, peers are told, the store commits.
    pub async fn stop(self) {
        self.bootstrap.send(SaveContacts).await.ok();
        let drained = futures_util::future::join_all(self.shards.iter().map(|shard| shard.send(Drain)));
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            log::warn!("some objects did not stop in time; their last states may be missing");
        }
        self.transport.send(Close).await.ok();
        self.store.send(Flush).await.ok();
    }
}

/// A generator of its own for one actor.
fn child(rng: &mut ChaCha12Rng) -> ChaCha12Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha12Rng::from_seed(seed)
}
