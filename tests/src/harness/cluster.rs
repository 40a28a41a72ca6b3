//! The nodes of a story.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    ops::Index,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::Actor;
use comet_node::{
    client::Client,
    config::NodeConfig,
    http::Backend,
    identity::Identity,
    node::{Assembly, Crew, Parts, Stages, TransportLinks},
    threads::Stage,
    transport::Counters,
    wire::FRAME_BYTES_MAX,
};
use comet_routing::{Contact, Key};
use comet_runtime::{
    Backstop, Refusal, Value,
    dht::{Delete, Dht, Get, Put, PutReport, Read},
};
use comet_store::Code;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::task::{JoinHandle, LocalSet};

use super::{
    Failure, Network, Oracle, Sim,
    disk::Disk,
    transport::{ASKS_MAX, SimTransport},
};

/// Nodes through which the others join.
const DOORS: usize = 3;
/// How long a swarm that has just started is given to find itself.
const JOINING: Duration = Duration::from_secs(5);
/// Reads with which a story is checked at most.
const CHECK_READS_MAX: usize = 400;
/// The port of every node.
const PORT: u16 = 7_400;

/// The nodes of a story, named `n1`, `n2` and so on.
pub struct Cluster {
    sim: Sim,
    nodes: Vec<SimNode>,
    oracle: Rc<RefCell<Oracle>>,
}

/// One node, running or not.
pub struct SimNode {
    name: String,
    sim: Sim,
    own: Contact,
    config: RefCell<NodeConfig>,
    disk: Disk,
    machine: RefCell<Option<Rc<Machine>>>,
    oracle: Rc<RefCell<Oracle>>,
}

/// Everything of a node that a crash ends: its actors and their tasks live in a set of their own.
struct Machine {
    crew: Crew,
    tasks: JoinHandle<()>,
}

impl Cluster {
    /// Starts this many nodes, which know three of them, and waits until they know each other.
    pub async fn start(sim: &Sim, nodes: usize) -> Self {
        Self::start_with(sim, nodes, &NodeConfig::default()).await
    }

    /// As [`Cluster::start`], with something configured otherwise.
    pub async fn start_with(sim: &Sim, nodes: usize, config: &NodeConfig) -> Self {
        let oracle = Rc::<RefCell<Oracle>>::default();
        let mut made = Vec::<SimNode>::new();
        for n in 1..=nodes {
            let mut config = config.clone();
            config.node.peers = made.iter().take(DOORS).map(|node| node.own.addr.to_string()).collect();
            let node = SimNode::new(sim, n, config, &oracle);
            node.start().await;
            made.push(node);
        }
        let cluster = Self { sim: sim.clone(), nodes: made, oracle };
        sim.run_for(JOINING).await;
        for node in &cluster.nodes {
            node.machine().crew.joined().await;
        }
        cluster
    }

    /// All nodes, in the order of their names.
    pub fn nodes(&self) -> &[SimNode] {
        &self.nodes
    }

    /// The nodes that run and can be heard.
    pub fn live(&self) -> impl Iterator<Item = &SimNode> {
        self.nodes.iter().filter(|node| node.is_live())
    }

    /// The live nodes that hold the object of this name.
    pub fn holders_of(&self, name: &str) -> Vec<&SimNode> {
        let key = Key::of(name);
        self.live().filter(|node| node.holds(&key)).collect()
    }

    /// Crashes all but the first of these nodes.
    pub async fn crash_all_but_one(&self, nodes: Vec<&SimNode>) {
        for node in nodes.into_iter().skip(1) {
            node.crash().await;
        }
    }

    /// Parts these nodes from all others, in both directions.
    pub fn partition(&self, names: &[&str]) {
        let (inside, outside): (Vec<_>, Vec<_>) =
            self.nodes.iter().partition(|node| names.contains(&node.name.as_str()));
        for (a, b) in inside.iter().flat_map(|a| outside.iter().map(move |b| (a.own.addr, b.own.addr))) {
            self.sim.wire().change(|network| {
                network.cut(a, b);
                network.cut(b, a);
            });
        }
    }

    /// Lets nothing get from one node to another; the other direction is not affected.
    pub fn cut(&self, from: &str, to: &str) {
        let (from, to) = (self[from].own.addr, self[to].own.addr);
        self.sim.wire().change(|network| network.cut(from, to));
    }

    /// Undoes every partition, cut and silence.
    pub fn heal(&self) {
        self.sim.wire().change(Network::heal);
    }

    /// What every story ends with: nothing that was acknowledged is lost as long as one of those who
    /// acknowledged it lives, live nodes can read it, and no limit was exceeded.
    ///
    /// Reads every name through every live node, or where these are too many, through every so manyth.
    pub async fn check(&self) -> Result<(), Failure> {
        self.check_limits()?;
        let promised: Vec<_> = {
            let oracle = self.oracle.borrow();
            oracle.kept().map(|(name, by)| (name.to_owned(), by.to_vec())).collect()
        };
        let pairs = promised.len() * self.live().count();
        let stride = pairs.div_ceil(CHECK_READS_MAX).max(1);
        for (n, (name, by)) in promised.into_iter().enumerate() {
            let alive = self.live().any(|node| by.contains(&node.own.id));
            let held = !self.holders_of(&name).is_empty();
            if alive && !held {
                return Err(Failure::new(format!("{name:?} was acknowledged and nobody holds it")));
            }
            if held {
                self.check_reads(&name, self.live().skip(n % stride).step_by(stride)).await?;
            }
        }
        Ok(())
    }

    async fn check_reads(&self, name: &str, through: impl Iterator<Item = &SimNode>) -> Result<(), Failure> {
        for node in through {
            let read = node.get(name).await.map_err(|error| {
                Failure::new(format!("{} cannot read {name:?}, which is held: {error}", node.name))
            })?;
            let Some(read) = read else {
                let held = self.whereabouts(name);
                return Err(Failure::new(format!("{} does not find {name:?}, held by {held}", node.name)));
            };
            if !self.oracle.borrow().permits(name, &read) {
                return Err(Failure::new(format!("{} reads {read:?} at {name:?}", node.name)));
            }
        }
        Ok(())
    }

    /// Who holds an object, and how near to its key they are among the live.
    fn whereabouts(&self, name: &str) -> String {
        let key = Key::of(name);
        let mut nearest: Vec<_> = self.live().collect();
        nearest.sort_by_cached_key(|node| key.distance_to(&node.own.id));
        let ranked = nearest.iter().enumerate().filter(|(_, node)| node.holds(&key));
        let holders: Vec<_> =
            ranked.map(|(rank, node)| format!("{} (rank {})", node.name, rank + 1)).collect();
        format!("{} of {}", holders.join(", "), nearest.len())
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let wire = self.sim.wire();
        let (longest, asks) = (wire.trace().longest_bytes(), wire.asks_most());
        if longest > FRAME_BYTES_MAX || asks >= ASKS_MAX {
            return Err(Failure::new(format!("a frame of {longest} bytes, {asks} requests at once")));
        }
        for node in &self.nodes {
            let (totals, limits) = (node.disk.reader.totals(), &node.config.borrow().store);
            if totals.bytes > limits.bytes_max || totals.records > limits.records_max {
                return Err(Failure::new(format!("{} holds {totals:?}", node.name)));
            }
        }
        Ok(())
    }
}

impl Index<&str> for Cluster {
    type Output = SimNode;

    fn index(&self, name: &str) -> &SimNode {
        self.nodes.iter().find(|node| node.name == name).expect("the story has a node of that name")
    }
}

impl SimNode {
    fn new(sim: &Sim, n: usize, config: NodeConfig, oracle: &Rc<RefCell<Oracle>>) -> Self {
        let [.., high, low] = u32::try_from(n).expect("a story has few nodes").to_be_bytes();
        let addr = SocketAddr::from((Ipv4Addr::new(10, 0, high, low), PORT));
        let id = Identity::from_seed(sim.draw_seed()).node_id();
        Self {
            name: format!("n{n}"),
            sim: sim.clone(),
            own: Contact::new(id, addr),
            disk: Disk::empty(config.store.clone(), sim.clock()),
            config: RefCell::new(config),
            machine: RefCell::new(None),
            oracle: Rc::clone(oracle),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The node, as others know it.
    pub fn contact(&self) -> Contact {
        self.own
    }

    /// True if it runs and can be heard.
    pub fn is_live(&self) -> bool {
        self.machine.borrow().is_some() && !self.sim.wire().is_silent(self.own.addr)
    }

    /// True if it holds the object at this key, running or not.
    pub fn holds(&self, key: &Key) -> bool {
        let held = self.disk.reader.record(key, self.sim.clock().wall_ms());
        held.expect("what is in memory can be read").is_some()
    }

    /// The swarm as this node's clients see it.
    pub fn client(&self) -> Client {
        self.machine().crew.client().clone()
    }

    /// How many others it knows.
    pub async fn peers(&self) -> u64 {
        self.client().node().await.peers
    }

    /// Stores a plain value. It counts as promised once a majority of the replicas that the swarm is configured
    /// for has it: a node that is cut off from most others acknowledges fewer copies, which is no promise to
    /// those others.
    pub async fn put(&self, name: &str, value: impl Into<Value>) -> Result<PutReport, Refusal> {
        let value = value.into();
        self.oracle.borrow_mut().attempted(name, &value);
        let report = self.client().put(plain(name, &value)).await?;
        let by: Vec<_> = report.stored.iter().map(|(node, _)| node.id).collect();
        if by.len() >= self.majority() {
            self.oracle.borrow_mut().acknowledged(name, &value, by);
        }
        Ok(report)
    }

    /// Stores an active object on as many nodes as it likes.
    pub async fn put_active(
        &self,
        name: &str,
        value: impl Into<Value>,
        code: &str,
        replicas: Option<u8>,
    ) -> Result<PutReport, Refusal> {
        let put = Put { code: Some(Code::new(code)), replicas, ..plain(name, &value.into()) };
        self.client().put(put).await
    }

    /// Updates an object, about which nothing is promised: its handlers decide.
    pub async fn update(&self, name: &str, value: impl Into<Value>) -> Result<PutReport, Refusal> {
        self.client().put(plain(name, &value.into())).await
    }

    /// Reads an object from the first replica that answers.
    pub async fn get(&self, name: &str) -> Result<Option<Value>, Refusal> {
        self.get_with(name, None).await
    }

    /// As [`SimNode::get`], with something for the object to read.
    pub async fn get_with(&self, name: &str, payload: Option<Value>) -> Result<Option<Value>, Refusal> {
        let get = Get { key: Key::of(name), payload, read: Read::First, deadline: None };
        match self.client().get(get).await {
            Ok(report) => Ok(report.answers.into_iter().next().map(|answer| answer.value)),
            Err(Refusal::NotFound) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes an object.
    pub async fn delete(&self, name: &str) -> Result<(), Refusal> {
        self.oracle.borrow_mut().released(name);
        self.client().delete(Delete { key: Key::of(name), owner: None }).await.map(drop)
    }

    /// Ends the node as a power cut would: whatever it was doing is gone, except what is on its disk.
    pub async fn crash(&self) {
        let machine = self.machine.take().expect("only a node that runs can crash");
        self.sim.wire().unplug(self.own.addr);
        self.disk.unplug();
        machine.tasks.abort();
        // Its tasks are gone once the wheel has turned.
        self.sim.run_for(Duration::from_millis(1)).await;
    }

    /// Stops the node as its operator would.
    pub async fn stop(&self) {
        let machine = self.machine.take().expect("only a node that runs can stop");
        let Ok(Machine { crew, tasks }) = Rc::try_unwrap(machine) else {
            panic!("nobody keeps a node's machine for long")
        };
        crew.stop().await;
        self.disk.unplug();
        tasks.abort();
    }

    /// Starts the node again, with its disk.
    pub async fn restart(&self) {
        self.start().await;
    }

    /// Takes the peers out of the node's configuration: when it starts again, it has only what it remembers.
    pub fn forget_peers(&self) {
        self.config.borrow_mut().node.peers.clear();
    }

    /// From now on the node hears nobody and is heard by nobody; it goes on as if nothing were the matter.
    pub fn silence(&self) {
        self.sim.wire().change(|network| network.silence(self.own.addr));
    }

    fn majority(&self) -> usize {
        usize::from(self.config.borrow().replication.replicas) / 2 + 1
    }

    fn machine(&self) -> Rc<Machine> {
        self.machine.borrow().clone().expect("only a node that runs can be asked")
    }

    async fn start(&self) {
        assert!(self.machine.borrow().is_none(), "{} runs already", self.name);
        let set = LocalSet::new();
        let crew = set.run_until(async { self.assemble() }).await;
        let tasks = actix_rt::spawn(set);
        *self.machine.borrow_mut() = Some(Rc::new(Machine { crew, tasks }));
    }

    /// Must run within the set of the node's tasks.
    fn assemble(&self) -> Crew {
        let config = self.config.borrow();
        let assembly = Assembly::new(1);
        self.disk.plug(assembly.expired());
        let transport = SimTransport::new(Rc::clone(self.sim.wire()), self.own, assembly.inbound()).start();
        let transport = TransportLinks {
            ask: transport.clone().recipient(),
            greet: transport.clone().recipient(),
            close: transport.recipient(),
            counters: Arc::new(Counters::default()),
        };
        assembly.complete(Parts {
            config: &config,
            own: self.own,
            transport,
            store: self.disk.store.clone(),
            reader: self.disk.reader.clone(),
            stages: Stages { network: Stage::Here, shards: vec![(Stage::Here, Backstop::StepsOnly)] },
            clock: self.sim.clock(),
            rng: ChaCha12Rng::from_seed(self.sim.draw_seed()),
        })
    }
}

fn plain(name: &str, value: &Value) -> Put {
    Put { key: Key::of(name), data: value.encode(), code: None, ttl: None, replicas: None, owner: None }
}
