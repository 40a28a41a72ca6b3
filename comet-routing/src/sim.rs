//! An instrument: a swarm of pure tables and lookups on an event heap, without actors and sockets.
//!
//! For tests and benchmarks that ask how well lookups do among thousands of nodes: one seed decides ids,
//! places, latencies and targets, and the same seed gives the same swarm. A node here does what the
//! `Router` actor does, with a transport that loses nothing but what silent nodes swallow.
//!
//! Not here: churn while lookups run, loss, loopback addresses; the simulation of whole nodes has them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::{
    Admission, Contact, KEY_BYTES, Key, Lookup, LookupConfig, NodeId, Outcome, Prospects, RoutingTable, Rtt,
    Step, TableConfig, actor::SPARES,
};

/// No lookup of the swarm runs longer.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);

/// The side of the square in which nodes lie, in milliseconds of one-way latency.
const SIDE_MS: f64 = 60.0;

/// Latency of every message besides the distance, and its jitter on top.
const LATENCY_MS_MIN: f64 = 2.0;
const JITTER_MS_MAX: f64 = 10.0;

/// What a [`Swarm`] is grown from.
#[derive(Clone, Copy, Debug)]
pub struct SwarmConfig {
    /// Nodes at first.
    pub nodes: usize,
    /// Decides everything.
    pub seed: u64,
}

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It answers with the closest contacts it knows.
    Honest,
    /// It is gone without a word.
    Silent,
    /// It answers with the closest of its accomplices and with nobody else.
    Colluding,
}

/// One finished lookup.
#[derive(Clone, Debug)]
pub struct Report {
    /// Who looked.
    pub origin: NodeId,
    /// What was looked for.
    pub target: Key,
    /// What was found.
    pub outcome: Outcome,
    /// How long it took, in simulated time.
    pub took: Duration,
}

/// A swarm of nodes in simulated time.
#[derive(Clone, Debug)]
pub struct Swarm {
    nodes: Vec<Node>,
    by_id: BTreeMap<NodeId, usize>,
    colluders: Vec<Contact>,
    paths: usize,
    rng: ChaCha12Rng,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    events_made: u64,
    running: BTreeMap<u64, Running>,
    lookups_made: u64,
}

#[derive(Clone, Debug)]
struct Node {
    contact: Contact,
    place_ms: (f64, f64),
    table: RoutingTable,
    rtts: BTreeMap<NodeId, Rtt>,
    conduct: Conduct,
    /// How often it was asked for contacts.
    asked: u64,
}

#[derive(Clone, Debug)]
struct Running {
    origin: usize,
    lookup: Lookup,
    started: Instant,
    /// When it wants to be polled; other alarms are stale.
    wake_at: Instant,
    /// Unanswered requests, by when they were made.
    open: BTreeMap<NodeId, Instant>,
}

#[derive(Clone, Debug)]
enum Event {
    Start { origin: usize, target: Key, k: usize, excused: usize },
    Request { lookup: u64, to: usize },
    Reply { lookup: u64, from: Contact, closer: Vec<Contact> },
    Overdue { lookup: u64, contact: Contact },
    Wake { lookup: u64 },
}

impl Event {
    /// The start of a lookup for as many nodes as a bucket holds.
    fn wide(origin: usize, target: Key) -> Self {
        Self::Start { origin, target, k: TableConfig::default().k, excused: 0 }
    }

    /// The start of a lookup for `count` nodes, and for a few spare ones.
    fn narrow(origin: usize, target: Key, count: usize) -> Self {
        let k = count.saturating_add(SPARES).min(TableConfig::default().k);
        Self::Start { origin, target, k, excused: k.saturating_sub(count) }
    }
}

impl Swarm {
    /// Grows a swarm whose time starts at `epoch`: each node joins through one that is already there, looks
    /// up itself and a random key.
    pub fn grow(config: SwarmConfig, epoch: Instant) -> Self {
        let mut swarm = Self {
            nodes: Vec::new(),
            by_id: BTreeMap::new(),
            colluders: Vec::new(),
            paths: 4,
            rng: ChaCha12Rng::seed_from_u64(config.seed),
            now: epoch,
            events: BTreeMap::new(),
            events_made: 0,
            running: BTreeMap::new(),
            lookups_made: 0,
        };
        for _ in 0..config.nodes {
            swarm.join();
        }
        swarm
    }

    /// The same swarm with another number of disjoint paths per lookup (it grew with four).
    pub fn with_paths(mut self, paths: usize) -> Self {
        self.paths = paths;
        self
    }

    /// Makes `count` honest nodes behave otherwise.
    pub fn corrupt(&mut self, count: usize, conduct: Conduct) {
        for _ in 0..count {
            let honest = self.honest();
            if honest.len() <= 1 {
                return;
            }
            let chosen = honest[self.rng.random_range(0..honest.len())];
            self.nodes[chosen].conduct = conduct;
            if conduct == Conduct::Colluding {
                self.colluders.push(self.nodes[chosen].contact);
            }
        }
    }

    /// Runs one lookup for a random key from a random honest node.
    pub fn lookup(&mut self) -> Option<Report> {
        self.lookups(1, Duration::ZERO).pop()
    }

    /// Runs `count` lookups for random keys from random honest nodes, started at random within `spread`.
    pub fn lookups(&mut self, count: usize, spread: Duration) -> Vec<Report> {
        self.run_from_random_nodes(count, spread, Event::wide)
    }

    /// As [`Swarm::lookups`], for `wanted` live nodes and a few spare ones each, as the `Router` looks for replicas.
    pub fn finds(&mut self, count: usize, spread: Duration, wanted: usize) -> Vec<Report> {
        self.run_from_random_nodes(count, spread, |origin, target| Event::narrow(origin, target, wanted))
    }

    fn run_from_random_nodes(
        &mut self,
        count: usize,
        spread: Duration,
        start: impl Fn(usize, Key) -> Event,
    ) -> Vec<Report> {
        let honest = self.honest();
        if honest.is_empty() {
            return Vec::new();
        }
        for _ in 0..count {
            let origin = honest[self.rng.random_range(0..honest.len())];
            let target = self.random_key();
            let after = spread.mul_f64(self.rng.random_range(0.0..=1.0));
            self.schedule(after, start(origin, target));
        }
        self.run()
    }

    /// Looks for `count` live nodes close to `target`, and for a few spare ones as the `Router` does.
    pub fn find(&mut self, origin: &NodeId, target: Key, count: usize) -> Option<Outcome> {
        let origin = *self.by_id.get(origin)?;
        self.schedule(Duration::ZERO, Event::narrow(origin, target, count));
        self.run().pop().map(|report| report.outcome)
    }

    /// Whom `origin` asks for what `copies` nodes keep at `target` before it looks for anybody: see [`RoutingTable::worth_asking`].
    pub fn neighbours(&self, origin: &NodeId, target: &Key, count: usize, copies: usize) -> Prospects {
        let table = self.by_id.get(origin).map(|&at| &self.nodes[at].table);
        table.map(|table| table.worth_asking(target, count, copies, self.now)).unwrap_or_default()
    }

    /// Everybody who behaves so, in the order of joining.
    pub fn who(&self, conduct: Conduct) -> Vec<Contact> {
        let so = self.nodes.iter().filter(|node| node.conduct == conduct);
        so.map(|node| node.contact).collect()
    }

    /// How often each node has been asked for contacts since the swarm began to grow.
    pub fn asked(&self) -> BTreeMap<NodeId, u64> {
        self.nodes.iter().map(|node| (node.contact.id, node.asked)).collect()
    }

    /// A colluder joins under an id of its choice, as nobody can where ids are hashes of public keys.
    pub fn join_colluding(&mut self, id: NodeId) {
        let joined = self.join_as(id);
        self.nodes[joined].conduct = Conduct::Colluding;
        self.colluders.push(self.nodes[joined].contact);
    }

    /// What a perfect lookup finds: the `count` nodes closest to `target` that answer, nearest first, without
    /// `origin`. Found by sorting all.
    pub fn closest(&self, target: &Key, count: usize, origin: &NodeId) -> Vec<Contact> {
        self.closest_where(target, count, |node| {
            node.conduct != Conduct::Silent && node.contact.id != *origin
        })
    }

    /// The honest node closest to `target`, without `origin`.
    pub fn closest_honest(&self, target: &Key, origin: &NodeId) -> Option<Contact> {
        let honest = |node: &Node| node.conduct == Conduct::Honest && node.contact.id != *origin;
        self.closest_where(target, 1, honest).pop()
    }

    fn join(&mut self) {
        let id = NodeId::from_bytes(*self.random_key().as_bytes());
        self.join_as(id);
    }

    /// Returns the newcomer's place among the nodes.
    fn join_as(&mut self, id: NodeId) -> usize {
        let place_ms = (self.rng.random_range(0.0..SIDE_MS), self.rng.random_range(0.0..SIDE_MS));
        // 1.0.0.0 upwards, one /24 each.
        let network = u32::try_from(self.nodes.len()).unwrap_or(0).wrapping_add(1 << 16).to_be_bytes();
        let contact = Contact::new(id, ([network[1], network[2], network[3], 1], 4_000).into());
        let mut table = RoutingTable::new(id, TableConfig::default());
        let joined = self.nodes.len();
        if joined > 0 {
            let known = self.nodes[self.rng.random_range(0..joined)].contact;
            table.on_reached(known, self.now);
        }
        self.by_id.insert(id, joined);
        let (rtts, conduct) = (BTreeMap::new(), Conduct::Honest);
        self.nodes.push(Node { contact, place_ms, table, rtts, conduct, asked: 0 });
        self.schedule(Duration::ZERO, Event::wide(joined, id.as_key()));
        self.run();
        let target = self.random_key();
        self.schedule(Duration::ZERO, Event::wide(joined, target));
        self.run();
        joined
    }

    /// Lets time pass until nothing is left to happen.
    fn run(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if let Some(lookup) = self.handle(event) {
                reports.extend(self.drive(lookup));
            }
        }
        reports
    }

    /// Returns the lookup that may have something to do now.
    fn handle(&mut self, event: Event) -> Option<u64> {
        match event {
            Event::Start { origin, target, k, excused } => Some(self.start(origin, target, k, excused)),
            Event::Request { lookup, to } => {
                self.answer(lookup, to);
                None
            }
            Event::Reply { lookup, from, closer } => {
                let running = self.running.get_mut(&lookup)?;
                let asked = running.open.remove(&from.id)?;
                running.lookup.on_reply(from, closer);
                let origin = running.origin;
                let rtt = self.nodes[origin].rtts.entry(from.id).or_default();
                rtt.observe(self.now.saturating_duration_since(asked));
                self.admit(origin, from);
                Some(lookup)
            }
            Event::Overdue { lookup, contact } => {
                let running = self.running.get(&lookup)?;
                if running.open.contains_key(&contact.id) {
                    self.nodes[running.origin].table.on_failure(&contact.id, self.now);
                }
                None
            }
            Event::Wake { lookup } => {
                let due = self.running.get(&lookup)?.wake_at <= self.now;
                due.then_some(lookup)
            }
        }
    }

    fn start(&mut self, origin: usize, target: Key, k: usize, excused: usize) -> u64 {
        let node = &mut self.nodes[origin];
        node.table.on_lookup(&target, self.now);
        let deadline = self.now + LOOKUP_DEADLINE;
        let config =
            LookupConfig { k, excused, paths: self.paths, ..LookupConfig::new(node.contact.id, deadline) };
        let lookup = Lookup::new(target, node.table.closest(&target, TableConfig::default().k), config);
        let id = self.lookups_made;
        self.lookups_made += 1;
        self.running.insert(
            id,
            Running { origin, lookup, started: self.now, wake_at: self.now, open: BTreeMap::new() },
        );
        id
    }

    /// Does what a lookup asks for; its report when it is done.
    fn drive(&mut self, id: u64) -> Option<Report> {
        loop {
            let now = self.now;
            let running = self.running.get_mut(&id)?;
            let origin = running.origin;
            match running.lookup.poll(now) {
                Step::Query(contact) => {
                    let timeout =
                        self.nodes[origin].rtts.get(&contact.id).copied().unwrap_or_default().timeout();
                    running.open.insert(contact.id, now);
                    running.lookup.on_sent(contact, now + timeout);
                    let to = *self.by_id.get(&contact.id)?;
                    let latency = self.latency(origin, to);
                    self.schedule(latency, Event::Request { lookup: id, to });
                    self.schedule(timeout, Event::Overdue { lookup: id, contact });
                }
                Step::Wait { until } => {
                    if running.wake_at != until {
                        running.wake_at = until;
                        self.schedule(until.saturating_duration_since(now), Event::Wake { lookup: id });
                    }
                    return None;
                }
                Step::Done(outcome) => {
                    let Running { lookup, started, .. } = self.running.remove(&id)?;
                    let target = *lookup.target();
                    let took = now.saturating_duration_since(started);
                    let origin = self.nodes[origin].contact.id;
                    return Some(Report { origin, target, outcome, took });
                }
            }
        }
    }

    fn answer(&mut self, lookup: u64, to: usize) {
        let Some(running) = self.running.get(&lookup) else { return };
        let (origin, target) = (running.origin, *running.lookup.target());
        let k = TableConfig::default().k;
        self.nodes[to].asked += 1;
        let node = &self.nodes[to];
        let closer = match node.conduct {
            Conduct::Silent => return,
            Conduct::Honest => node.table.closest(&target, k),
            Conduct::Colluding => nearest(self.colluders.iter().copied(), &target, k),
        };
        let asker = self.nodes[origin].contact;
        if self.nodes[to].table.wants(&asker) {
            // The asked node probes whom it would like to know, and everybody can be reached.
            self.admit(to, asker);
        }
        let from = self.nodes[to].contact;
        let latency = self.latency(to, origin);
        self.schedule(latency, Event::Reply { lookup, from, closer });
    }

    /// `contact` answered the node at `index`; the probe or ping that this may cause is over at once.
    fn admit(&mut self, index: usize, contact: Contact) {
        let admission = self.nodes[index].table.on_reached(contact, self.now);
        let Admission::Waiting { ping: Some(pinged) } = admission else { return };
        let Some(&at) = self.by_id.get(&pinged.id) else { return };
        if self.nodes[at].conduct == Conduct::Silent {
            self.nodes[index].table.on_failure(&pinged.id, self.now);
        } else {
            self.nodes[index].table.on_answer(pinged, self.now);
        }
    }

    fn latency(&mut self, from: usize, to: usize) -> Duration {
        let ((x, y), (u, v)) = (self.nodes[from].place_ms, self.nodes[to].place_ms);
        let jitter_ms = self.rng.random_range(0.0..JITTER_MS_MAX);
        Duration::from_secs_f64((LATENCY_MS_MIN + (x - u).hypot(y - v) + jitter_ms) / 1_000.0)
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.events.insert((self.now + after, self.events_made), event);
        self.events_made += 1;
    }

    fn closest_where(&self, target: &Key, count: usize, counts: impl Fn(&Node) -> bool) -> Vec<Contact> {
        let nodes = self.nodes.iter().filter(|node| counts(node));
        nearest(nodes.map(|node| node.contact), target, count)
    }

    fn honest(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].conduct == Conduct::Honest).collect()
    }

    fn random_key(&mut self) -> Key {
        let mut bytes = [0; KEY_BYTES];
        self.rng.fill_bytes(&mut bytes);
        Key::from_bytes(bytes)
    }
}

fn nearest(contacts: impl Iterator<Item = Contact>, target: &Key, count: usize) -> Vec<Contact> {
    let mut nearest: Vec<_> = contacts.map(|contact| (target.distance_to(&contact.id), contact)).collect();
    if nearest.len() > count {
        nearest.select_nth_unstable(count);
        nearest.truncate(count);
    }
    nearest.sort_unstable();
    nearest.into_iter().map(|(_, contact)| contact).collect()
}
