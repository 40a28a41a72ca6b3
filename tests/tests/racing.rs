//! Writers who race: whole nodes in simulated time, and one counter that everybody reads, adds one to and puts back.

use std::time::Duration;

use comet_node::identity::Identity;
use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Get, Put, Read},
};
use comet_store::{Act, Ownership, Statement, Version, content_hash};
use comet_tests::harness::{Cluster, Failure, Sim, SimNode, Weather};
use futures_util::future::{join, join_all};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// The network that a node belongs to unless it is told otherwise.
const NETWORK: &str = "comet";

const WRITERS: usize = 100;
const NODES: usize = 12;
const TTL: Duration = Duration::from_secs(86_400);
const REPLICAS: u8 = 8;
const SALT: [u8; 32] = [3; 32];

/// How a writer puts back what it has counted up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// In the place of what it has read.
    Expecting,
    /// Whatever is there by now.
    Blindly,
}

/// What came of all writers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    acknowledged: i64,
    undecided: i64,
}

/// A counter that nobody owns, or that an owner does, whose key all writers have.
#[derive(Clone, Copy)]
struct Counter {
    key: Key,
    is_owned: bool,
}

impl Counter {
    fn unowned() -> Self {
        Self { key: Key::of("counter"), is_owned: false }
    }

    fn owned() -> Self {
        let owner = Identity::from_seed([9; 32]);
        Self { key: Key::owned_by_salt(owner.public_key(), &SALT), is_owned: true }
    }

    /// What it says and which put that stems from; 0 and `None` before the first.
    async fn read(&self, node: &SimNode) -> Result<(i64, Option<Version>), Refusal> {
        let get = Get { key: self.key, payload: None, read: Read::First, deadline: None };
        match node.client().get(get).await {
            Ok(report) => {
                let answer = &report.answers[0];
                Ok((answer.value.as_int().expect("a number"), Some(answer.version)))
            }
            Err(Refusal::NotFound) => Ok((0, None)),
            Err(refusal) => Err(refusal),
        }
    }

    /// The put of a count after the version that was read.
    fn put(&self, count: i64, read: Option<Version>, manner: Manner) -> Put {
        let data = Value::Int(count).encode();
        let owner = self.is_owned.then(|| {
            let sequence = read.map_or(1, |version| version.sequence + 1);
            let content = content_hash(None, &data);
            let act = Act::Put { content: &content, ttl_seconds: TTL.as_secs(), replicas: REPLICAS };
            let statement = Statement { network: NETWORK, key: &self.key, sequence, act };
            let owner = Identity::from_seed([9; 32]);
            (sequence, Ownership::sign(owner.key_pair(), SALT, &statement))
        });
        let expected = match manner {
            Manner::Expecting => read.map_or(Expected::Absent, Expected::Version),
            Manner::Blindly => Expected::Any,
        };
        Put {
            key: self.key,
            data,
            code: None,
            publication: None,
            ttl: Some(TTL),
            replicas: Some(REPLICAS),
            owner,
            expected,
            deadline: None,
        }
    }

    /// Adds one, as often as it takes.
    async fn count_up(
        &self,
        sim: &Sim,
        node: &SimNode,
        manner: Manner,
        rng: &mut ChaCha12Rng,
    ) -> Result<Tally, Failure> {
        for attempt in 0..64_u32 {
            let (count, version) = match self.read(node).await {
                Ok(read) => read,
                Err(refusal) if refusal.retryable() => continue,
                Err(refusal) => return Err(refusal.into()),
            };
            match node.client().put(self.put(count + 1, version, manner)).await {
                Ok(_) => return Ok(Tally { acknowledged: 1, undecided: 0 }),
                Err(Refusal::NoQuorum { stored, reason, .. })
                    if stored > 0 || reason.contains("undecided") =>
                {
                    return Ok(Tally { acknowledged: 0, undecided: 1 });
                }
                Err(refusal) if refusal.retryable() || is_outrun(&refusal) => {}
                Err(refusal) => return Err(refusal.into()),
            }
            let pause_ms = rng.random_range(0..100_u64 << attempt.min(6));
            sim.run_for(Duration::from_millis(pause_ms)).await;
        }
        Err(Failure::new("a writer did not get through"))
    }
}

/// True for a writer that has to read again.
fn is_outrun(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Conflict { .. } | Refusal::Stale { .. })
}

/// Lets all writers count up once, and says what came of them and what the counter says in the end.
async fn race(
    sim: &Sim,
    counter: Counter,
    manner: Manner,
    weather: Weather,
) -> Result<(Tally, i64), Failure> {
    let cluster = Cluster::start(sim, NODES).await;
    sim.weather(weather);
    let all = race_in(sim, &cluster.nodes().iter().collect::<Vec<_>>(), counter, manner).await?;
    sim.weather(Weather::default());
    sim.run_for(Duration::from_secs(60)).await;
    let (count, _) = counter.read(&cluster.nodes()[0]).await?;
    Ok((all, count))
}

/// As [`race`], through these nodes.
async fn race_in(sim: &Sim, nodes: &[&SimNode], counter: Counter, manner: Manner) -> Result<Tally, Failure> {
    let writers = (0..WRITERS).map(|n| {
        let node = nodes[n % nodes.len()];
        async move { counter.count_up(sim, node, manner, &mut ChaCha12Rng::seed_from_u64(n as u64)).await }
    });
    let mut all = Tally::default();
    for tally in join_all(writers).await {
        let tally = tally?;
        all.acknowledged += tally.acknowledged;
        all.undecided += tally.undecided;
    }
    Ok(all)
}

const ALL: Tally = Tally { acknowledged: WRITERS as i64, undecided: 0 };

#[test]
fn a_hundred_writers_who_expect_what_they_read_lose_no_increment() {
    Sim::seeded(131).run(async |sim| {
        let (tally, count) = race(&sim, Counter::unowned(), Manner::Expecting, Weather::default()).await?;
        assert_eq!((tally, count), (ALL, ALL.acknowledged));
        Ok(())
    });
}

#[test]
fn a_hundred_writers_who_expect_nothing_lose_increments() {
    Sim::seeded(132).run(async |sim| {
        let (tally, count) = race(&sim, Counter::unowned(), Manner::Blindly, Weather::default()).await?;
        assert!(count < tally.acknowledged, "{tally:?} {count}");
        Ok(())
    });
}

#[test]
fn an_owners_devices_which_sign_the_same_sequence_number_lose_no_increment() {
    Sim::seeded(133).run(async |sim| {
        let (tally, count) = race(&sim, Counter::owned(), Manner::Expecting, Weather::default()).await?;
        assert_eq!((tally, count), (ALL, ALL.acknowledged));
        Ok(())
    });
}

#[test]
fn an_owners_devices_which_expect_nothing_lose_increments() {
    Sim::seeded(134).run(async |sim| {
        let (tally, count) = race(&sim, Counter::owned(), Manner::Blindly, Weather::default()).await?;
        assert!(count < tally.acknowledged, "{tally:?} {count}");
        Ok(())
    });
}

#[test]
fn where_packets_are_lost_no_acknowledged_increment_is_lost_and_only_undecided_ones_may_come_besides() {
    Sim::seeded(135).run(async |sim| {
        let rain = Weather { loss_percent: 10, duplication_percent: 10, ..Weather::default() };
        let (tally, count) = race(&sim, Counter::unowned(), Manner::Expecting, rain).await?;
        assert_eq!(tally.acknowledged + tally.undecided, ALL.acknowledged);
        assert!((tally.acknowledged..=ALL.acknowledged).contains(&count), "{tally:?} {count}");
        Ok(())
    });
}

#[test]
fn a_replica_that_falls_silent_in_the_middle_costs_no_acknowledged_increment() {
    Sim::seeded(136).run(async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let counter = Counter::unowned();
        let nearest = cluster.closest_to("counter", 1)[0];
        let others: Vec<_> = cluster.nodes().iter().filter(|node| node.name() != nearest.name()).collect();
        let fall_silent = async {
            sim.run_for(Duration::from_secs(3)).await;
            nearest.silence();
        };
        let (tally, ()) = join(race_in(&sim, &others, counter, Manner::Expecting), fall_silent).await;
        let tally = tally?;
        cluster.heal();
        sim.run_for(Duration::from_secs(7_200)).await;
        for node in cluster.nodes() {
            let (count, _) = counter.read(node).await?;
            assert!(count >= tally.acknowledged, "{tally:?} {count}");
            assert!(count <= tally.acknowledged + tally.undecided, "{tally:?} {count}");
        }
        Ok(())
    });
}
