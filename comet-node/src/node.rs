//! One running node: real sockets, a real disk and threads around the actors of an [`Assembly`].

mod assembly;
mod fronts;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use comet_routing::{Contact, clock::Clock};
use comet_runtime::{Backstop, TurnWatch};
use comet_store::{OpenError, ReplicaStore};
use rand::{SeedableRng, rngs::SysRng};
use rand_chacha::ChaCha12Rng;

use crate::{
    bootstrap::Meet,
    client::Client,
    config::NodeConfig,
    discovery::Discovery,
    identity::{Identity, IdentityError},
    process::{self, SILENT_LOOKS_MAX, SILENT_STORE_LOOKS_MAX, StopSignals},
    threads::{Stage, Worker},
    transport::quic::{BindError, QuicTransport},
};

pub use assembly::{Assembly, Crew, Parts, Stages, TransportLinks};
pub use fronts::Fronts;

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

/// The threads of the nodes of one process: one for the network, or a few where there are many nodes, and the others for
/// handlers. Each node has one more for its store.
pub struct Threads {
    network: Worker,
    /// Further ones for the network, where there are many nodes.
    networks: Vec<Worker>,
    /// Nodes that have been given one of them.
    nodes: AtomicUsize,
    shards: Vec<(Worker, Arc<TurnWatch>)>,
}

impl Threads {
    /// Starts those of one node, and a watchdog over the handlers' turns; 0 shards means one less than the machine
    /// has cores, at least one.
    pub fn spawn(shards: usize) -> io::Result<Self> {
        Self::start(shards, 1)
    }

    /// The same for many nodes: as many threads as the machine has cores serve their peers, each those of some nodes.
    pub fn for_swarm(shards: usize) -> io::Result<Self> {
        Self::start(shards, cores())
    }

    fn start(shards: usize, networks: usize) -> io::Result<Self> {
        let cores = cores();
        let shards = if shards == 0 { cores.saturating_sub(1).max(1) } else { shards };
        let shard = |n| Ok((Worker::spawn(&format!("objects-{n}"))?, Arc::default()));
        let shards: Vec<(Worker, Arc<TurnWatch>)> = (0..shards).map(shard).collect::<io::Result<_>>()?;
        process::watch_turns(shards.iter().map(|(_, watch)| watch.clone()).collect())?;
        let network = Worker::spawn("network")?;
        let networks = (1..networks).map(|n| Worker::spawn(&format!("network-{n}")));
        let networks = networks.collect::<io::Result<Vec<_>>>()?;
        let workers = shards.iter().map(|(worker, _)| worker).chain([&network]).chain(&networks);
        process::watch_threads(workers.map(|worker| worker.heartbeat(SILENT_LOOKS_MAX)).collect())?;
        Ok(Self { network, networks, nodes: AtomicUsize::new(0), shards })
    }

    /// Where objects live.
    pub fn object_stages(&self) -> Vec<Stage> {
        self.shards.iter().map(|(worker, _)| worker.stage()).collect()
    }

    /// Where the actors of one more node run.
    pub fn stages(&self) -> Stages {
        let turn = self.nodes.fetch_add(1, Relaxed).checked_rem(self.networks.len().saturating_add(1));
        let further = turn.and_then(|turn| self.networks.get(turn.checked_sub(1)?));
        let network = further.unwrap_or(&self.network).stage();
        let shards = self.shards.iter();
        let shards =
            shards.map(|(worker, watch)| (worker.stage(), Backstop::Watched(watch.clone()))).collect();
        Stages { network, shards }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A running node.
pub struct Node {
    crew: Crew,
    _discovery: Option<Discovery>,
    /// Ends when the node is dropped, after the store has committed.
    store_thread: Worker,
}

impl Node {
    /// Starts a node; it joins the swarm on its own.
    pub async fn start(config: &NodeConfig, threads: &Threads) -> Result<Self, StartError> {
        let identity = Identity::of_directory(&config.node.data)?;
        let (writer, reader) =
            comet_store::open(&config.node.data, &config.node.network, config.store.clone())?;
        let store_thread = Worker::spawn("store")?;
        process::watch_threads(vec![store_thread.heartbeat(SILENT_STORE_LOOKS_MAX)])?;
        let rng = ChaCha12Rng::try_from_rng(&mut SysRng).map_err(io::Error::other)?;
        let (clock, stages) = (Clock::System, threads.stages());

        let assembly = Assembly::new(stages.shards.len());
        let node_id = identity.node_id();
        let transport = QuicTransport::bind(
            config.node.listen,
            &config.node.network,
            config.transport.clone(),
            identity,
            assembly.inbound(),
        )?;
        let bound = transport.local_address();
        let own = Contact::new(node_id, reachable(bound));
        let counters = transport.counters();
        let transport = stages.network.start(move || transport);
        let transport = TransportLinks {
            ask: transport.clone().recipient(),
            greet: transport.clone().recipient(),
            probe: transport.clone().recipient(),
            close: transport.recipient(),
            counters,
        };
        let expired = assembly.expired();
        let store = store_thread.stage().start(move || ReplicaStore::new(writer, clock, expired));
        let parts = Parts { config, own, transport, store, reader, stages, clock, rng };
        let crew = assembly.complete(parts);
        let discovery = if config.node.mdns { discover(&crew, bound, &config.node.network) } else { None };
        Ok(Self { crew, _discovery: discovery, store_thread })
    }

    /// The node as its clients see it.
    pub fn client(&self) -> &Client {
        self.crew.client()
    }

    /// Where the store runs.
    pub fn store_stage(&self) -> Stage {
        self.store_thread.stage()
    }

    /// See [`Crew::joined`].
    pub async fn joined(&self) {
        self.crew.joined().await;
    }

    /// See [`Crew::stop`].
    pub async fn stop(self) {
        self.crew.stop().await;
    }
}

/// Lets the node find others on the local network, and be found, if that works here.
fn discover(crew: &Crew, bound: SocketAddr, network: &str) -> Option<Discovery> {
    let meet = crew.meet();
    // What a busy node does not take is heard of again.
    let found = move |addr| drop(meet.try_send(Meet { addr }));
    Discovery::start(crew.client().contact(), bound, network, found)
        .inspect_err(|error| log::warn!("{error}; going without"))
        .ok()
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
        let mut signals = StopSignals::catch().context("cannot catch signals")?;
        let threads = Threads::spawn(config.runtime.workers)?;
        let node = Node::start(config, &threads).await?;
        let own = node.client().contact();
        let fronts = match Fronts::open(config, node.client(), &threads.object_stages()) {
            Ok(fronts) => fronts,
            Err(error) => {
                node.stop().await;
                return Err(error);
            }
        };
        println!("comet-node {}", env!("CARGO_PKG_VERSION"));
        println!("  node   {}", own.id);
        println!("  peers  udp {}, network {:?}", own.addr, config.node.network);
        println!("  http   http://{}", fronts.http());
        if let Some(tracker) = fronts.tracker() {
            println!("  tracker http://{tracker}/announce");
        }
        if let Some(resp) = fronts.resp() {
            println!("  resp   redis://{resp}");
        }
        println!("  data   {}", config.node.data.display());
        println!("Press Ctrl-C to stop.");
        signals.next().await;
        log::info!("stopping");
        signals
            .or_at_once(async move {
                fronts.close().await;
                node.stop().await;
                drop(threads);
            })
            .await;
        Ok(())
    })
}
