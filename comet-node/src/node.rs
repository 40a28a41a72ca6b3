//! One running node: its actors, built in the order in which they need each other, and stopped in reverse.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use anyhow::Context as _;
use comet_routing::{
    Contact, PrivateRanges, Router, RouterConfig, TableConfig,
    actor::{FindNode, Outbound},
    clock::Clock,
};
use comet_runtime::{
    Backstop, Reach,
    actors::{Deliver, Directory, Drain, Links, Replica, Shard, ShardConfig},
};
use comet_store::{Flush, OpenError, RecordExpired, ReplicaStore, StoreReader, StoreWriter};
use rand::{Rng, SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha12Rng;

use crate::{
    actors::{
        Access, Connect, Coordinator, CoordinatorConfig, Courier, CourierConfig, Desk, Responder,
        ResponderConfig, RouterLinks,
    },
    bootstrap::{Bootstrap, CONTACTS_META, Connections, SaveContacts, decode_contacts},
    client::{Client, NodeFacts},
    config::{ContactPolicy, NodeConfig, PrivateNetworks},
    http,
    identity::{Identity, IdentityError},
    operation::Gate,
    process,
    threads::{Seat, Worker},
    transport::{
        Close,
        quic::{BindError, QuicTransport},
    },
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

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's key pair.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The node's store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread or no randomness.
    #[error("the system refuses what a node needs: {0}")]
    System(#[from] io::Error),
}

/// The threads of the nodes of one process: one for the network, the others for handlers. Each node has one
/// more for its store.
pub struct Threads {
    network: Worker,
    shards: Vec<Worker>,
}

impl Threads {
    /// Starts them; 0 shards means one less than the machine has cores, at least one.
    pub fn spawn(shards: usize) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = if shards == 0 { cores.saturating_sub(1).max(1) } else { shards };
        let shards = (0..shards).map(|n| Worker::spawn(&format!("objects-{n}"))).collect::<Result<_, _>>()?;
        Ok(Self { network: Worker::spawn("network")?, shards })
    }
}

/// A running node.
pub struct Node {
    client: Client,
    bootstrap: Addr<Bootstrap>,
    router: Addr<Router>,
    transport: Addr<QuicTransport>,
    shards: Vec<Addr<Shard>>,
    store: Addr<ReplicaStore>,
    /// Ends when the node is dropped, after the store has committed.
    _store_thread: Worker,
}

impl Node {
    /// Starts a node; it joins the swarm on its own.
    pub async fn start(config: &NodeConfig, threads: &Threads) -> Result<Self, StartError> {
        let identity = Identity::of_directory(&config.node.data)?;
        let (writer, reader) =
            comet_store::open(&config.node.data, &config.node.network, config.store.clone())?;
        let store_thread = Worker::spawn("store")?;
        let rng = ChaCha12Rng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        let plan = Plan { config, threads, identity, reader, clock: Clock::System, rng };
        plan.build(writer, store_thread)
    }

    /// The node as its clients see it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until a lookup of the node's own id has run; the table is then as full as it gets at once.
    pub async fn joined(&self) {
        let target = self.client.contact().id.as_key();
        self.router.send(FindNode { target }).await.ok();
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

/// What a node is built from.
struct Plan<'a> {
    config: &'a NodeConfig,
    threads: &'a Threads,
    identity: Identity,
    reader: StoreReader,
    clock: Clock,
    rng: ChaCha12Rng,
}

/// The addresses of a node's actors, before any of them runs: they need to know each other.
#[derive(Default)]
struct Seats {
    store: Seat<ReplicaStore>,
    router: Seat<Router>,
    courier: Seat<Courier>,
    coordinator: Seat<Coordinator>,
    responder: Seat<Responder>,
}

impl Plan<'_> {
    fn build(mut self, writer: StoreWriter, store_thread: Worker) -> Result<Node, StartError> {
        let Self { config, threads, clock, .. } = self;
        let network = &threads.network;
        let seats = Seats::default();
        let inbound = seats.responder.address().recipient();
        let transport = QuicTransport::bind(
            config.node.listen,
            config.transport.clone(),
            self.identity.clone(),
            inbound,
        )?;
        let own = Contact::new(self.identity.node_id(), reachable(transport.local_address()));
        let counters = transport.counters();
        let transport = network.start(move || transport);

        let directory = Arc::new(Directory::default());
        let shards = self.start_shards(own, &seats, &directory);
        let replica = {
            let shards: Vec<Recipient<Deliver>> =
                shards.iter().map(|shard| shard.clone().recipient()).collect();
            Replica::new(directory.clone(), self.reader.clone(), shards, clock)
        };
        let gate =
            Arc::new(Gate::new(config.node.network.clone(), config.limits.clone(), &config.replication));
        let expired: Vec<Recipient<RecordExpired>> =
            shards.iter().map(|shard| shard.clone().recipient()).collect();
        let store = store_thread.seat(seats.store, move || ReplicaStore::new(writer, clock, expired));

        let router = self.start_router(own, seats.router, &seats.courier);
        let courier = {
            let ask = transport.clone().recipient();
            network.seat(seats.courier, move || Courier::new(ask, clock, CourierConfig::default()))
        };
        courier.do_send(Connect(RouterLinks {
            replied: router.clone().recipient(),
            failed: router.clone().recipient(),
            answered: router.clone().recipient(),
            suspected: router.clone().recipient(),
        }));
        let desk = Desk {
            own,
            gate: gate.clone(),
            replica: replica.clone(),
            closest: router.clone().recipient(),
            clock,
        };
        let heard = router.clone().recipient();
        network.seat(seats.responder, move || Responder::new(desk, heard, ResponderConfig::default()));
        let access = Access {
            own,
            gate,
            replica,
            find_node: router.clone().recipient(),
            carry: courier.recipient(),
            clock,
        };
        let replication = CoordinatorConfig::new(config.replication.clone());
        let coordinator = network.seat(seats.coordinator, move || Coordinator::new(access, replication));
        let bootstrap = self.start_bootstrap(own, &transport, &router, &store);

        let facts = NodeFacts {
            own,
            network: config.node.network.clone(),
            alone_by_choice: config.node.peers.is_empty(),
            started: clock.now(),
            clock,
        };
        let client = Client::new(facts, coordinator, router.clone(), self.reader, directory, counters);
        Ok(Node { client, bootstrap, router, transport, shards, store, _store_thread: store_thread })
    }

    fn start_shards(&mut self, own: Contact, seats: &Seats, directory: &Arc<Directory>) -> Vec<Addr<Shard>> {
        let store = seats.store.address();
        let links = Links {
            put: store.clone().recipient(),
            save: store.clone().recipient(),
            log: store.clone().recipient(),
            delete: store.clone().recipient(),
            flush: store.recipient(),
            reader: self.reader.clone(),
            network: seats.coordinator.address().recipient(),
        };
        let count = self.threads.shards.len();
        let workers = self.threads.shards.iter().enumerate();
        let mut shards = Vec::new();
        for (index, worker) in workers {
            let config = ShardConfig {
                index,
                count,
                limits: self.config.limits.clone(),
                backstop: Backstop::WallClock,
                reach: match self.config.runtime.contact {
                    ContactPolicy::Strict => Reach::Strict,
                    ContactPolicy::Open => Reach::Open,
                },
                local: own,
                state_flush: STATE_FLUSH,
                idle: IDLE,
                active_max: ACTIVE_MAX,
                queue: SHARD_QUEUE,
                clock: self.clock,
                rng: child(&mut self.rng),
            };
            let (links, directory) = (links.clone(), directory.clone());
            shards.push(worker.start(move || Shard::new(config, links, directory)));
        }
        shards
    }

    fn start_router(&mut self, own: Contact, seat: Seat<Router>, courier: &Seat<Courier>) -> Addr<Router> {
        let private_ranges = match self.config.routing.private_ranges {
            PrivateNetworks::Exempt => PrivateRanges::Exempt,
            PrivateNetworks::Counted => PrivateRanges::Counted,
        };
        let table = TableConfig { private_ranges, ..TableConfig::default() };
        let config = RouterConfig { table, ..RouterConfig::default() };
        let outbound =
            Outbound { find_node: courier.address().recipient(), ping: courier.address().recipient() };
        let (clock, rng) = (self.clock, child(&mut self.rng));
        self.threads.network.seat(seat, move || Router::new(own.id, clock, rng, config, outbound))
    }

    fn start_bootstrap(
        &mut self,
        own: Contact,
        transport: &Addr<QuicTransport>,
        router: &Addr<Router>,
        store: &Addr<ReplicaStore>,
    ) -> Addr<Bootstrap> {
        let saved = match self.reader.meta(CONTACTS_META) {
            Ok(saved) => saved.map_or_else(Vec::new, |bytes| decode_contacts(&bytes)),
            Err(error) => {
                log::warn!("the saved contacts cannot be read: {error}");
                Vec::new()
            }
        };
        let to = Connections {
            greet: transport.clone().recipient(),
            answered: router.clone().recipient(),
            find_node: router.clone().recipient(),
            contacts: router.clone().recipient(),
            table_size: router.clone().recipient(),
            save: store.clone().recipient(),
        };
        let (peers, rng) = (self.config.node.peers.clone(), child(&mut self.rng));
        self.threads.network.start(move || Bootstrap::new(own.id, peers, saved, to, rng))
    }
}

/// A generator of its own for one actor.
fn child(rng: &mut ChaCha12Rng) -> ChaCha12Rng {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    ChaCha12Rng::from_seed(seed)
}

/// The address under which a socket bound to every address is best known: that of the interface which leads
/// to the outside. Nothing is sent to find out.
fn reachable(bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    // An address of the documentation range (RFC 5737) is routed like any other outside.
    let outside = SocketAddr::from(([192, 0, 2, 1], 9));
    let towards = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(outside).and_then(|()| socket.local_addr()));
    let ip = towards.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |towards| towards.ip());
    SocketAddr::new(ip, bound.port())
}

/// Runs something to its end on this thread, with an actix system around it.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    actix_rt::System::new().block_on(work)
}

/// Runs a node until it is told to stop.
pub fn run(config: &NodeConfig) -> anyhow::Result<()> {
    process::end_on_panic();
    block_on(async {
        let threads = Threads::spawn(config.runtime.workers)?;
        let node = Node::start(config, &threads).await?;
        let client = node.client().clone();
        let own = client.contact();
        let served = http::serve(&config.http, &config.limits, &config.replication, client);
        let (server, http) = match served {
            Ok(served) => served,
            Err(error) => {
                node.stop().await;
                return Err(error.into());
            }
        };
        let stop = server.handle();
        let serving = actix_rt::spawn(server);
        println!("comet-node {}", env!("CARGO_PKG_VERSION"));
        println!("  node   {}", own.id);
        println!("  peers  udp {}, network {:?}", own.addr, config.node.network);
        println!("  http   http://{http}");
        println!("  data   {}", config.node.data.display());
        println!("Press Ctrl-C to stop.");
        process::told_to_stop().await.context("cannot wait for signals")?;
        log::info!("stopping");
        stop.stop(true).await;
        serving.await.ok();
        node.stop().await;
        drop(threads);
        Ok(())
    })
}
