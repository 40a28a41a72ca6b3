//! A swarm of which a part colludes, and how many gets come to a good end all the same.
//!
//! The tables and lookups are those of [`comet_routing::sim`], the writes and reads the very machines that the
//! `Coordinator` drives. A fresh key is put by one honest node and read by another: eight copies, a read of one
//! answer. Colluders answer lookups with the accomplices nearest to the target and with nobody else, say that they
//! have stored what they have thrown away, and answer a get with a lie. The value is an owner's, so that a false one
//! is found out; a get is good if it ends with the true one.
//!
//! Not here: timeouts, loss and churn, and the signatures themselves, of which the model knows the outcome.

use std::collections::{BTreeMap, BTreeSet};

use comet_node::operation::{CANDIDATES_MAX, Period, Read, ReadStep, Rule, Write, WriteStep};
use comet_routing::{
    Contact, Key, NodeId,
    clock::Clock,
    sim::{Conduct, Swarm, SwarmConfig},
};
use comet_runtime::Refusal;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Copies of each value, and live nodes that a read hears before it says that there is none: the defaults.
const REPLICAS: u8 = 8;

/// Keys around which colluders choose their ids, where they can, and how many do so around each.
const BESIEGED: usize = 10;
const BESIEGERS: u8 = 20;

/// What colluders say when they are asked for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// A value that the owner has not signed.
    FalseValue,
    /// That there is none.
    NotFound,
    /// That the object refuses.
    Refusal,
}

/// What a colluder says in the `n`-th get.
type Lies = fn(n: usize, colluder: &Contact) -> Lie;

/// A grown swarm in which nobody colludes yet.
#[derive(Clone, Debug)]
pub struct Colluders {
    swarm: Swarm,
    seed: u64,
}

/// How puts and gets went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gets {
    /// Gets that brought the true value, in percent.
    pub good_percent: f64,
    /// Lookup requests that a colluder got for each that an honest node got.
    pub attraction: f64,
    /// The same of the same nodes when they answer lookups truthfully.
    pub attraction_unclaimed: f64,
}

impl Colluders {
    /// Grows the swarm.
    pub fn grow(nodes: usize, seed: u64) -> Self {
        Self { swarm: Swarm::grow(SwarmConfig { nodes, seed }, Clock::System.now()), seed }
    }

    /// Puts and gets so many values while `percent` of all nodes collude and lookups use so many `paths`.
    pub fn gets(&self, percent: usize, paths: usize, count: usize) -> Gets {
        self.gets_among(percent, paths, count, lie)
    }

    /// As [`Colluders::gets`], while all colluders say that the object refuses.
    pub fn gets_refused(&self, percent: usize, paths: usize, count: usize) -> Gets {
        self.gets_among(percent, paths, count, |_, _| Lie::Refusal)
    }

    fn gets_among(&self, percent: usize, paths: usize, count: usize, lie: Lies) -> Gets {
        let truthful = self.swarm.clone().with_paths(paths);
        let mut corrupt = truthful.clone();
        corrupt.corrupt(corrupt.asked().len() * percent / 100, Conduct::Colluding);
        let colluders: BTreeSet<_> = corrupt.who(Conduct::Colluding).iter().map(|node| node.id).collect();
        let honest = corrupt.who(Conduct::Honest);
        let run = |swarm| {
            let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
            let keys: Vec<_> = (0..count).map(|_| random_key(&mut rng)).collect();
            let mut trial = Trial::new(swarm, &honest, &colluders, lie, rng);
            let good = keys.into_iter().enumerate().filter(|(n, key)| trial.put_and_get(*key, *n)).count();
            (100.0 * good as f64 / count as f64, trial.attraction())
        };
        let (good_percent, attraction) = run(corrupt);
        let (_, attraction_unclaimed) = run(truthful);
        Gets { good_percent, attraction, attraction_unclaimed }
    }

    /// Gets that are good, in percent, where a few colluders could choose ids next to the keys: the control, since ids
    /// are hashes of public keys.
    pub fn gets_with_free_ids(&self, count: usize) -> f64 {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        let keys: Vec<_> = (0..BESIEGED).map(|_| random_key(&mut rng)).collect();
        let mut swarm = self.swarm.clone();
        for key in &keys {
            for n in 1..=BESIEGERS {
                let mut id = *key.as_bytes();
                id[31] ^= n;
                swarm.join_colluding(NodeId::from_bytes(id));
            }
        }
        let colluders: BTreeSet<_> = swarm.who(Conduct::Colluding).iter().map(|node| node.id).collect();
        let honest = swarm.who(Conduct::Honest);
        let mut trial = Trial::new(swarm, &honest, &colluders, lie, rng);
        let good = (0..count).filter(|n| trial.put_and_get(keys[n % BESIEGED], *n)).count();
        100.0 * good as f64 / count as f64
    }
}

/// One run of puts and gets.
struct Trial<'a> {
    swarm: Swarm,
    honest: &'a [Contact],
    colluders: &'a BTreeSet<NodeId>,
    asked_before: BTreeMap<NodeId, u64>,
    lie: Lies,
    period: Period,
    rng: ChaCha12Rng,
}

impl<'a> Trial<'a> {
    fn new(
        swarm: Swarm,
        honest: &'a [Contact],
        colluders: &'a BTreeSet<NodeId>,
        lie: Lies,
        rng: ChaCha12Rng,
    ) -> Self {
        let period = Period::starting(Clock::System.now(), std::time::Duration::from_secs(5));
        Self { asked_before: swarm.asked(), swarm, honest, colluders, lie, period, rng }
    }

    fn put_and_get(&mut self, key: Key, n: usize) -> bool {
        let (writer, reader) = (self.any_honest(), self.any_honest());
        let holders = self.put(writer, key);
        self.get(reader, key, n, &holders)
    }

    /// The honest nodes that have stored the value in the end.
    fn put(&mut self, writer: Contact, key: Key) -> BTreeSet<NodeId> {
        let nodes = self.find(writer, key, usize::from(REPLICAS));
        let mut write = Write::new(nodes, 0, REPLICAS, None, self.period);
        let mut holders = BTreeSet::new();
        loop {
            match write.poll(self.period.began) {
                WriteStep::Ask(node) => {
                    write.on_stored(&node, ());
                    if !self.colluders.contains(&node.id) {
                        holders.insert(node.id);
                    }
                }
                WriteStep::Done(_) => {}
                // Everybody has answered already.
                WriteStep::Wait { .. } | WriteStep::Over => return holders,
            }
        }
    }

    /// Whether the reader ends with the true value.
    fn get(&mut self, reader: Contact, key: Key, n: usize, holders: &BTreeSet<NodeId>) -> bool {
        let mut known = self.swarm.neighbours(&reader.id, &key, CANDIDATES_MAX, REPLICAS.into());
        if !known.contacts.is_empty() {
            known.contacts = with_own(reader, &key, known.contacts);
        }
        let read = Read::new(known.contacts, Rule::First, usize::from(REPLICAS), self.period);
        let mut read = read.wary().unsearched(known.are_nearest).hasty();
        loop {
            match read.poll(self.period.began) {
                ReadStep::Ask(node) if self.colluders.contains(&node.id) => match (self.lie)(n, &node) {
                    Lie::FalseValue => {
                        read.on_failed(&node, Refusal::NotOwner("the signature is false".into()));
                    }
                    Lie::NotFound => read.on_refused(&node, Refusal::NotFound),
                    Lie::Refusal => read.on_refused(&node, Refusal::Refused("no".into())),
                },
                ReadStep::Ask(node) if holders.contains(&node.id) => read.on_answer(&node, ()),
                ReadStep::Ask(node) => read.on_refused(&node, Refusal::NotFound),
                ReadStep::Search { count } => read.on_found(self.find(reader, key, count)),
                ReadStep::Wait { .. } => return false,
                ReadStep::Done(outcome) => return outcome.result.is_ok(),
            }
        }
    }

    fn find(&mut self, origin: Contact, key: Key, count: usize) -> Vec<Contact> {
        let found = self.swarm.find(&origin.id, key, count);
        with_own(origin, &key, found.map(|outcome| outcome.closest).unwrap_or_default())
    }

    fn any_honest(&mut self) -> Contact {
        self.honest[self.rng.random_range(0..self.honest.len())]
    }

    /// Lookup requests since the trial began: those to the mean colluder for each to the mean honest node.
    fn attraction(&self) -> f64 {
        let (mut to_colluders, mut to_honest) = (0, 0);
        for (id, asked) in self.swarm.asked() {
            let since = asked - self.asked_before.get(&id).copied().unwrap_or(0);
            *if self.colluders.contains(&id) { &mut to_colluders } else { &mut to_honest } += since;
        }
        let mean = |sum: u64, of: usize| sum as f64 / of as f64;
        mean(to_colluders, self.colluders.len()) / mean(to_honest, self.honest.len())
    }
}

/// Colluders agree on what to say about a key, or that some say this and some that.
fn lie(n: usize, colluder: &Contact) -> Lie {
    let all = [Lie::FalseValue, Lie::NotFound];
    all[match n % 3 {
        2 => usize::from(colluder.id.as_bytes()[31]) % all.len(),
        one => one,
    }]
}

fn with_own(own: Contact, key: &Key, mut nodes: Vec<Contact>) -> Vec<Contact> {
    nodes.push(own);
    nodes.sort_by_cached_key(|node| key.distance_to(&node.id));
    nodes.truncate(CANDIDATES_MAX);
    nodes
}

fn random_key(rng: &mut ChaCha12Rng) -> Key {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Key::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gets_outlive_colluders_who_cannot_choose_their_ids() {
        let colluders = Colluders::grow(400, 11);
        for (percent, aim) in [(20, 99.5), (30, 99.0), (50, 95.0)] {
            let gets = colluders.gets(percent, 8, 400);
            println!("{percent} %: {gets:?}");
            assert!(gets.good_percent >= aim, "{percent} %: {gets:?}");
        }
        let refused = colluders.gets_refused(30, 8, 400);
        assert!(refused.good_percent >= 99.0, "all say that the object refuses: {refused:?}");
        let free = colluders.gets_with_free_ids(100);
        assert!(free <= 20.0, "the control: ids next to the key take it ({free} % of the gets are good)");
    }

    #[test]
    fn one_path_is_misled_more_often() {
        let colluders = Colluders::grow(400, 11);
        let [one, eight] = [1, 8].map(|paths| colluders.gets(50, paths, 300).good_percent);
        assert!(one < eight, "{one} % with one path and {eight} % with eight");
    }
}
