//! One node of a story: the real one, on a disk in memory, with what can befall it.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::Actor;
use comet_node::{
    client::Client,
    config::NodeConfig,
    http::{Backend, Health},
    identity::Identity,
    node::{Assembly, Crew, Parts, Stages, TransportLinks},
    threads::Stage,
    transport::Counters,
};
use comet_routing::{
    Contact, Key, NodeId,
    clock::{Clock, Shift},
};
use comet_runtime::{
    Backstop, Refusal, Value,
    dht::{Delete, Dht, Expected, Get, Put, PutReport, Read},
};
use comet_store::{
    Code, ReplicaStore, StoreReader, Totals, Version,
    simulation::{DiskFault, MemoryDisk},
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::task::{JoinHandle, LocalSet};

use super::{Oracle, Sim, transport::SimTransport};

/// The port of every node.
const PORT: u16 = 7_400;

/// One node, running or not.
pub struct SimNode {
    name: String,
    sim: Sim,
    own: Contact,
    config: RefCell<NodeConfig>,
    clock: Clock,
    shift: Shift,
    disk: MemoryDisk,
    /// Reads what is on the disk, also while nobody runs on it.
    on_disk: StoreReader,
    machine: RefCell<Option<Rc<Machine>>>,
    oracle: Rc<RefCell<Oracle>>,
}

/// Everything of a node that a crash ends: its actors and their tasks live in a set of their own.
struct Machine {
    crew: Crew,
    reader: StoreReader,
    tasks: JoinHandle<()>,
}

impl SimNode {
    /// The `n`-th node of a story, which lives at `home`, under an id of its own choice or a random one.
    pub(super) fn new(
        sim: &Sim,
        n: usize,
        (id, home): (Option<NodeId>, Ipv4Addr),
        config: NodeConfig,
        oracle: &Rc<RefCell<Oracle>>,
    ) -> Self {
        let addr = SocketAddr::from((home, PORT));
        let id = id.unwrap_or_else(|| Identity::from_seed(sim.draw_seed()).node_id());
        let (clock, shift) = sim.clock_to_set();
        let disk = MemoryDisk::default();
        Self {
            name: format!("n{n}"),
            sim: sim.clone(),
            own: Contact::new(id, addr),
            config: RefCell::new(config),
            clock,
            shift,
            on_disk: disk.reader(),
            disk,
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

    /// True if it runs, whether others hear it or not.
    pub fn runs(&self) -> bool {
        self.machine.borrow().is_some()
    }

    /// True if it runs and can be heard.
    pub fn is_live(&self) -> bool {
        self.runs() && !self.sim.wire().is_silent(self.own.addr)
    }

    /// True if only those reach it whom it turned to first.
    pub fn is_hidden(&self) -> bool {
        self.sim.wire().is_hidden(self.own.addr)
    }

    /// True if it holds the object at this key, running or not.
    pub fn holds(&self, key: &Key) -> bool {
        self.version_of(key).is_some()
    }

    /// The version of the object that it holds at this key, running or not.
    pub fn version_of(&self, key: &Key) -> Option<Version> {
        let held = self.on_disk.holding(key, self.clock.wall_ms());
        held.expect("what is in memory can be read").map(|held| held.version)
    }

    /// What it holds, if it runs.
    pub fn totals(&self) -> Option<Totals> {
        self.machine.borrow().as_ref().map(|machine| machine.reader.totals())
    }

    /// What the node was told to do.
    pub fn config(&self) -> NodeConfig {
        self.config.borrow().clone()
    }

    /// The swarm as this node's clients see it.
    pub fn client(&self) -> Client {
        self.machine().crew.client().clone()
    }

    /// How many others it knows.
    pub async fn peers(&self) -> u64 {
        self.client().node().await.peers
    }

    /// What `/healthz` says.
    pub async fn is_healthy(&self) -> bool {
        self.client().healthy().await == Health::Healthy
    }

    /// Bytes that upkeep has sent since the node started; none if it does not run.
    pub fn upkeep_bytes(&self) -> u64 {
        self.machine.borrow().as_ref().map_or(0, |machine| machine.crew.client().upkeep().sent_bytes)
    }

    /// Waits until it has joined.
    pub(super) async fn joined(&self) {
        self.machine().crew.joined().await;
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
            self.oracle.borrow_mut().acknowledged(name, &value, report.version, by);
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
        self.oracle.borrow_mut().touched(name);
        let put = Put { code: Some(Code::new(code)), replicas, ..plain(name, &value.into()) };
        self.client().put(put).await
    }

    /// Updates an object, about which nothing is promised: its handlers decide.
    pub async fn update(&self, name: &str, value: impl Into<Value>) -> Result<PutReport, Refusal> {
        self.oracle.borrow_mut().touched(name);
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
        self.client().delete(Delete { key: Key::of(name), owner: None, deadline: None }).await?;
        self.oracle.borrow_mut().deleted(name);
        Ok(())
    }

    /// Ends the node as a power cut would: whatever it was doing is gone, except what is on its disk.
    pub async fn crash(&self) {
        self.end();
        self.disk.crash();
        // Its tasks are gone once the wheel has turned.
        self.sim.run_for(Duration::from_millis(1)).await;
    }

    /// Ends the node and its disk with it: when it starts again, it holds nothing.
    pub async fn crash_without_disk(&self) {
        self.end();
        self.disk.wipe();
        self.oracle.borrow_mut().wiped(self.own.id);
        self.sim.run_for(Duration::from_millis(1)).await;
    }

    /// Stops the node as its operator would.
    pub async fn stop(&self) {
        let machine = self.machine.take().expect("only a node that runs can stop");
        let Ok(Machine { crew, tasks, .. }) = Rc::try_unwrap(machine) else {
            panic!("nobody keeps a node's machine for long")
        };
        crew.stop().await;
        self.disk.crash();
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

    /// Puts a peer into the node's configuration: when it starts again, it greets that one.
    pub fn tell_of(&self, peer: Contact) {
        self.config.borrow_mut().node.peers.push(peer.addr.to_string());
    }

    /// From now on the node hears nobody and is heard by nobody; it goes on as if nothing were the matter.
    pub fn silence(&self) {
        self.sim.wire().change(|network| network.silence(self.own.addr));
    }

    /// From now on the node takes up to so long over whatever it receives.
    pub fn slow_down(&self, most: Duration) {
        self.sim.wire().change(|network| network.slow_down(self.own.addr, most));
    }

    /// From now on nobody reaches the node whom it did not turn to first.
    pub fn hide(&self) {
        self.sim.wire().change(|network| network.hide(self.own.addr));
    }

    /// Sets the node's wall clock forward by so many seconds, or back.
    pub fn set_clock_by(&self, seconds: i64) {
        self.shift.by_ms(seconds * 1_000);
    }

    /// From now on the node's disk fails like this, or not any more.
    pub fn fail_disk(&self, fault: Option<DiskFault>) {
        self.disk.fail(fault);
    }

    /// Lets one write of the node's disk fail: the next one is number 1.
    pub fn fail_write(&self, nth: u64, fault: DiskFault) {
        self.disk.fail_at(nth, fault);
    }

    fn majority(&self) -> usize {
        usize::from(self.config.borrow().replication.replicas) / 2 + 1
    }

    fn machine(&self) -> Rc<Machine> {
        self.machine.borrow().clone().expect("only a node that runs can be asked")
    }

    fn end(&self) {
        let machine = self.machine.take().expect("only a node that runs can crash");
        self.sim.wire().unplug(self.own.addr);
        machine.tasks.abort();
    }

    pub(super) async fn start(&self) {
        assert!(!self.runs(), "{} runs already", self.name);
        let set = LocalSet::new();
        let (crew, reader) = set.run_until(async { self.assemble() }).await;
        let tasks = actix_rt::spawn(set);
        *self.machine.borrow_mut() = Some(Rc::new(Machine { crew, reader, tasks }));
    }

    /// Must run within the set of the node's tasks.
    fn assemble(&self) -> (Crew, StoreReader) {
        let config = self.config.borrow();
        let assembly = Assembly::new(1);
        let opened = self.disk.open(config.store.clone());
        let (writer, reader) = opened.expect("a node is started on a disk that can be read");
        let store = ReplicaStore::new(writer, self.clock, assembly.expired()).start();
        let transport = SimTransport::new(Rc::clone(self.sim.wire()), self.own, assembly.inbound()).start();
        let transport = TransportLinks {
            ask: transport.clone().recipient(),
            greet: transport.clone().recipient(),
            probe: transport.clone().recipient(),
            close: transport.recipient(),
            counters: Arc::new(Counters::default()),
        };
        let crew = assembly.complete(Parts {
            config: &config,
            own: self.own,
            transport,
            store,
            reader: reader.clone(),
            stages: Stages { network: Stage::Here, shards: vec![(Stage::Here, Backstop::StepsOnly)] },
            clock: self.clock,
            rng: ChaCha12Rng::from_seed(self.sim.draw_seed()),
        });
        (crew, reader)
    }
}

fn plain(name: &str, value: &Value) -> Put {
    let (key, data) = (Key::of(name), value.encode());
    Put {
        key,
        data,
        code: None,
        publication: None,
        ttl: None,
        replicas: None,
        owner: None,
        expected: Expected::Any,
        deadline: None,
    }
}
