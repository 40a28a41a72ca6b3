//! A fake swarm for the authors of handlers: real sandbox, controlled clock and chance, nothing asynchronous.
//!
//! Every node of a [`TestSwarm`] runs the handlers of its own copies in the sandbox that a real node uses,
//! with the same rules and limits. Messages between nodes arrive at once; time passes only when a test says
//! so; the same seed gives the same run.
//!
//! ```
//! use std::time::Duration;
//! use comet_runtime::{Value, testing::TestSwarm};
//!
//! let swarm = TestSwarm::seeded(7);
//! let code = "
//!     aso.reads = 0
//!     function aso:onGet(caller)
//!       self.reads = self.reads + 1
//!       log('read by', caller)
//!       return { self.value, self.reads }
//!     end
//!     function aso:onTimer() deleteSelf() end
//! ";
//! swarm.put("greeting", "hello", code).expect("the object is stored");
//! assert_eq!(swarm.get("greeting"), Ok(vec!["hello".into(), Value::Int(1)].into()));
//! assert_eq!(swarm.log("greeting").len(), 1);
//!
//! swarm.advance(Duration::from_secs(600));
//! assert!(swarm.get("greeting").is_err(), "its timer deleted it everywhere");
//! ```

mod dht;
mod host;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use comet_routing::{Contact, Key, NodeId, clock::WallMs};
use comet_store::{Code, Deletion, Expected, Record, Version, content_hash};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use self::host::{Host, Sent};
use crate::{
    Caller, CallerAddresses, Condition, Limits, Origin, Reach, Refusal, Trail, Value,
    dht::LogLine,
    visit::{Served, Visit},
};

pub use self::host::SentRequest;

/// The wall clock of a new test swarm: 1 January 2026, in milliseconds.
pub const EPOCH_MS: WallMs = 1_767_225_600_000;

/// How long objects live unless a put says otherwise.
const TTL: Duration = Duration::from_secs(24 * 3_600);

/// How a test swarm is made.
#[derive(Clone, Debug)]
pub struct TestConfig {
    /// Nodes.
    pub nodes: usize,
    /// Replicas of each object.
    pub replicas: usize,
    /// Sizes and budgets.
    pub limits: Limits,
    /// How far objects may reach.
    pub reach: Reach,
    /// How much of callers' addresses handlers see.
    pub caller_addresses: CallerAddresses,
}

impl Default for TestConfig {
    fn default() -> Self {
        Self {
            nodes: 8,
            replicas: 3,
            limits: Limits::default(),
            reach: Reach::Strict,
            caller_addresses: CallerAddresses::default(),
        }
    }
}

/// Nodes without a network, in one thread.
pub struct TestSwarm {
    inner: RefCell<Swarm>,
}

struct Swarm {
    config: TestConfig,
    now: WallMs,
    sequence: u64,
    hosts: Vec<Host>,
    silent: Vec<bool>,
}

impl TestSwarm {
    /// Eight nodes, three replicas of each object, default limits.
    pub fn seeded(seed: u64) -> Self {
        Self::new(seed, TestConfig::default())
    }

    /// A swarm made to measure.
    pub fn new(seed: u64, config: TestConfig) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let limits = Rc::new(config.limits.clone());
        let hosts: Vec<_> = (0..config.nodes)
            .map(|n| {
                let octet = u8::try_from(n % 250 + 1).unwrap_or(1);
                let contact =
                    Contact::new(NodeId::from_bytes(rng.random()), ([192, 0, 2, octet], 7400).into());
                Host::new(contact, &limits, &config, rng.random())
            })
            .collect();
        let silent = vec![false; hosts.len()];
        Self { inner: RefCell::new(Swarm { config, now: EPOCH_MS, sequence: 1, hosts, silent }) }
    }

    /// Stores an object under a public name, as a client of node 0 would.
    pub fn put(&self, name: &str, value: impl Into<Value>, code: &str) -> Result<(), Refusal> {
        self.put_from(0, Key::of(name), &value.into(), Some(code))
    }

    /// Puts a value without code: stores it, or offers it to the object's `onUpdate`.
    pub fn update(&self, name: &str, value: impl Into<Value>) -> Result<(), Refusal> {
        self.put_from(0, Key::of(name), &value.into(), None)
    }

    /// As [`TestSwarm::put`], through another node.
    pub fn put_from(&self, node: usize, key: Key, value: &Value, code: Option<&str>) -> Result<(), Refusal> {
        self.put_expecting(node, key, value, code, Expected::Any)
    }

    /// As [`TestSwarm::put_from`], if most replicas hold what is expected.
    pub fn put_expecting(
        &self,
        node: usize,
        key: Key,
        value: &Value,
        code: Option<&str>,
        expected: Expected,
    ) -> Result<(), Refusal> {
        let mut swarm = self.inner.borrow_mut();
        let replicas = swarm.closest(&key, swarm.config.replicas);
        let now = swarm.now;
        let held: Vec<_> = replicas.iter().map(|&at| swarm.hosts[at].version(&key, now)).collect();
        let otherwise: Vec<_> = held.iter().filter(|held| !expected.is_met_by(**held)).collect();
        if let Some(&&held) = otherwise.first()
            && otherwise.len() * 2 >= replicas.len()
        {
            return Err(Refusal::Conflict { held });
        }
        let record = swarm.record(key, value, code.map(|code| Code::new(Arc::from(code))));
        let caller = swarm.client(node, None);
        let mut outcome = Err(Refusal::Unreachable("no replica answers".into()));
        for replica in replicas {
            let visit = Visit::Put {
                caller: caller.clone(),
                record: Arc::new(record.clone()),
                condition: (expected != Expected::Any).then(|| Box::new(Condition { expected, ticket: 0 })),
                trail: Trail::FRESH,
            };
            match (swarm.visit(replica, key, visit), &outcome) {
                (Ok(_), _) => outcome = Ok(()),
                (Err(refusal), Err(_)) => outcome = Err(refusal),
                (Err(_), Ok(())) => {}
            }
        }
        outcome
    }

    /// Reads an object as a client of node 0 would: the closest replica answers. Nil means "no value".
    pub fn get(&self, name: &str) -> Result<Value, Refusal> {
        self.get_from(0, Key::of(name), None)
    }

    /// Reads with a payload.
    pub fn get_with(&self, name: &str, payload: impl Into<Value>) -> Result<Value, Refusal> {
        self.get_from(0, Key::of(name), Some(payload.into()))
    }

    /// Reads through another node.
    pub fn get_from(&self, node: usize, key: Key, payload: Option<Value>) -> Result<Value, Refusal> {
        self.get_calling_back(node, key, payload, None)
    }

    /// Reads, and offers a callback key at `node` for one later put.
    #[allow(clippy::needless_pass_by_value, reason = "tests write the payload in place")]
    pub fn get_calling_back(
        &self,
        node: usize,
        key: Key,
        payload: Option<Value>,
        callback: Option<Key>,
    ) -> Result<Value, Refusal> {
        let mut swarm = self.inner.borrow_mut();
        let mut outcome = Err(Refusal::NotFound);
        for replica in swarm.closest(&key, swarm.config.replicas) {
            outcome = swarm.read(replica, key, node, payload.clone(), callback);
            if !matches!(outcome, Err(Refusal::NotFound | Refusal::Unreachable(_))) {
                break;
            }
        }
        outcome
    }

    /// Reads one replica's copy: `replica` counts from the nearest, 0.
    pub fn get_at(&self, replica: usize, name: &str) -> Result<Value, Refusal> {
        let key = Key::of(name);
        let mut swarm = self.inner.borrow_mut();
        let at = swarm.closest(&key, swarm.config.nodes).get(replica).copied().ok_or(Refusal::NotFound)?;
        swarm.read(at, key, 0, None, None)
    }

    /// Deletes an object as a client of node 0 would.
    pub fn delete(&self, name: &str) -> Result<(), Refusal> {
        let key = Key::of(name);
        let mut swarm = self.inner.borrow_mut();
        let caller = swarm.client(0, None);
        let deletion = swarm.deletion();
        let mut outcome = Err(Refusal::NotFound);
        for replica in swarm.closest(&key, swarm.config.nodes) {
            let visit = Visit::Delete {
                caller: caller.clone(),
                deletion: Box::new(deletion.clone()),
                trail: Trail::FRESH,
            };
            match swarm.visit(replica, key, visit) {
                Ok(_) => outcome = Ok(()),
                Err(Refusal::NotFound) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        outcome
    }

    /// Lets time pass: timers that fall due run in order, objects whose life is over go.
    pub fn advance(&self, time: Duration) {
        let mut swarm = self.inner.borrow_mut();
        let until = swarm.now + u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2);
        while let Some((due, host, key)) = swarm.next_due(until) {
            swarm.now = swarm.now.max(due);
            swarm.visit(host, key, Visit::Wake).ok();
        }
        swarm.now = until;
        let now = until;
        swarm.hosts.iter_mut().for_each(|host| host.expire(now));
    }

    /// Runs an object's timer now, on every replica.
    pub fn fire_timer(&self, name: &str) {
        let key = Key::of(name);
        let mut swarm = self.inner.borrow_mut();
        for host in swarm.closest(&key, swarm.config.nodes) {
            swarm.visit(host, key, Visit::Wake).ok();
        }
    }

    /// The nearest replica's log of an object, oldest line first.
    pub fn log(&self, name: &str) -> Vec<LogLine> {
        let key = Key::of(name);
        let mut swarm = self.inner.borrow_mut();
        let nearest = swarm.closest(&key, 1).first().copied();
        match nearest.map(|host| swarm.visit(host, key, Visit::Log)) {
            Some(Ok(Served::Logged(lines))) => lines,
            _ => Vec::new(),
        }
    }

    /// Every request that an object has sent, from any replica, oldest first.
    pub fn sent(&self, name: &str) -> Vec<SentRequest> {
        let key = Key::of(name);
        let swarm = self.inner.borrow();
        let mut sent: Vec<_> = swarm.hosts.iter().flat_map(|host| host.sent_by(&key)).collect();
        sent.sort_by_key(|(order, _)| *order);
        sent.into_iter().map(|(_, request)| request).collect()
    }

    /// The nodes that hold a copy, nearest first.
    pub fn holders(&self, name: &str) -> Vec<usize> {
        let key = Key::of(name);
        let swarm = self.inner.borrow();
        let now = swarm.now;
        swarm
            .closest(&key, swarm.config.nodes)
            .into_iter()
            .filter(|&at| swarm.hosts[at].holds(&key, now))
            .collect()
    }

    /// A field of the state on the `replica`-th nearest node.
    pub fn field(&self, replica: usize, name: &str, field: &str) -> Option<Value> {
        let key = Key::of(name);
        let mut swarm = self.inner.borrow_mut();
        let at = swarm.closest(&key, swarm.config.nodes).get(replica).copied()?;
        swarm.hosts[at].field(&key, field)
    }

    /// The contact of a node.
    pub fn node(&self, node: usize) -> Contact {
        self.inner.borrow().hosts[node].contact()
    }

    /// Cuts a node off: it neither answers nor runs timers until [`TestSwarm::wake`].
    pub fn silence(&self, node: usize) {
        self.inner.borrow_mut().silent[node] = true;
    }

    /// Brings a silenced node back with what it held.
    pub fn wake(&self, node: usize) {
        self.inner.borrow_mut().silent[node] = false;
    }

    /// The wall clock, in milliseconds.
    pub fn now_ms(&self) -> WallMs {
        self.inner.borrow().now
    }
}

impl Swarm {
    /// An unsigned deletion of all that was put so far.
    fn deletion(&mut self) -> Deletion {
        self.sequence += 1;
        Deletion::up_to(self.sequence, None)
    }

    fn record(&mut self, key: Key, value: &Value, code: Option<Code>) -> Record {
        self.sequence += 1;
        let data = value.encode();
        let hash = content_hash(code.as_ref().map(|code| &code.hash), &data);
        Record {
            key,
            ownership: None,
            version: Version { sequence: self.sequence, hash },
            created_ms: self.now,
            expires_ms: self.now + TTL.as_millis() as u64,
            ttl_seconds: TTL.as_secs(),
            replicas: self.config.replicas as u8,
            code,
            publication: None,
            data,
            state: bytes::Bytes::new(),
        }
    }

    fn client(&self, node: usize, callback: Option<Key>) -> Caller {
        Caller { node: self.hosts[node].contact(), callback, owner: None, origin: Origin::Client }
    }

    /// The live nodes closest to a key, nearest first.
    fn closest(&self, key: &Key, count: usize) -> Vec<usize> {
        let mut live: Vec<_> = (0..self.hosts.len()).filter(|&at| !self.silent[at]).collect();
        live.sort_by_key(|&at| key.distance_to(&self.hosts[at].contact().id));
        live.truncate(count);
        live
    }

    fn at(&self, contact: &Contact) -> Option<usize> {
        self.hosts.iter().position(|host| host.contact().id == contact.id)
    }

    fn read(
        &mut self,
        at: usize,
        key: Key,
        node: usize,
        payload: Option<Value>,
        callback: Option<Key>,
    ) -> Result<Value, Refusal> {
        let caller = self.client(node, callback);
        match self.visit(at, key, Visit::Get { caller, payload, trail: Trail::FRESH })? {
            Served::Got { value, .. } => Value::decode(&value, self.config.limits.reply_bounds())
                .map_err(|error| Refusal::Invalid(error.to_string())),
            _ => Err(Refusal::NotFound),
        }
    }

    fn next_due(&self, until: WallMs) -> Option<(WallMs, usize, Key)> {
        let live = self.hosts.iter().enumerate().filter(|(at, _)| !self.silent[*at]);
        live.filter_map(|(at, host)| host.next_due().map(|(due, key)| (due, at, key)))
            .filter(|(due, ..)| *due <= until)
            .min()
    }

    /// Carries a visit out, and with it every request that it causes.
    fn visit(&mut self, at: usize, key: Key, visit: Visit) -> Result<Served, Refusal> {
        if self.silent[at] {
            return Err(Refusal::Unreachable("the node does not answer".into()));
        }
        let now = self.now;
        let (ticket, mut sent) = self.hosts[at].visit(key, visit, now)?;
        while let Some(Sent { key: from, request, copy }) = sent.pop_front() {
            let result = self.perform(at, from, &request, copy);
            sent.extend(self.hosts[at].answer(from, request.wait, result, now));
        }
        self.hosts[at].collect(ticket)
    }
}
