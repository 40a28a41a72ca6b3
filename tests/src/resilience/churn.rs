//! Nodes come and go.
//!
//! 56 places, each taken and empty in turns: a node stays for a time drawn from an exponential distribution with a
//! median of an hour, then goes down without a word, and the place stays empty for a time with a median of seven
//! minutes, so that about 50 nodes are up at any time. With probability 1/2 the same node comes back then, with its
//! disk; otherwise it never does, nor does its disk, and a node that nobody has seen before takes the place. This goes on for 24
//! hours over 500 objects with eight copies each, while clients make ten gets a minute. An object is lost if it
//! is on no disk in the end.

use std::{collections::BTreeSet, time::Duration};

use comet_node::config::NodeConfig;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::{Clients, Figure, Gets, simulate};
use crate::harness::{Cluster, Failure, Sim};

const PLACES: usize = 56;
const OBJECTS: usize = 500;
const HOUR: Duration = Duration::from_secs(3_600);
const SESSION_MEDIAN: Duration = HOUR;
const ABSENCE_MEDIAN: Duration = Duration::from_secs(7 * 60);
const LASTS: Duration = Duration::from_secs(24 * 3_600);
const BETWEEN_GETS: Duration = Duration::from_secs(6);
/// Objects outlive the story.
const TTL_SECONDS: u64 = 7 * 24 * 3_600;

/// What happens to the node of a place next; by number, which is one less than the number in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Goes(usize),
    ComesBack(usize),
    IsReplaced,
}

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    simulate(seed, "churn", tell)
}

async fn tell(sim: Sim) -> Result<Vec<Figure>, Failure> {
    let mut config = NodeConfig::default();
    config.replication.ttl_seconds = TTL_SECONDS;
    let cluster = Cluster::start_with(&sim, PLACES, &config).await;
    let mut clients = Clients::new(&sim);
    clients.put_many(&cluster, OBJECTS).await?;

    let begun = sim.elapsed();
    let mut churn = Churn { sim: sim.clone(), cluster, turns: BTreeSet::new(), departures: 0 };
    for n in 0..PLACES {
        churn.plan(exponential(SESSION_MEDIAN, clients.dice()), Turn::Goes(n));
    }
    let (mut gets, mut live) = (Gets::default(), 0);
    let (mut next_get, mut rounds) = (begun, 0);
    while sim.elapsed() < begun + LASTS {
        churn.catch_up(clients.dice()).await;
        clients.get(&churn.cluster, &mut gets).await;
        live += churn.cluster.live().count();
        rounds += 1;
        next_get += BETWEEN_GETS;
        sim.run_for(next_get.saturating_sub(sim.elapsed())).await;
    }
    let (lost, live, departures) = (churn.cluster.vanished().len(), live / rounds, churn.departures);
    Ok(vec![
        Figure::share(format!("gets over 24 h, {live} nodes up, {departures} departures"), gets.share, 99.9),
        Figure::none("acknowledged objects lost", lost),
    ])
}

/// A swarm in which nodes come and go.
struct Churn {
    sim: Sim,
    cluster: Cluster,
    turns: BTreeSet<(Duration, Turn)>,
    departures: usize,
}

impl Churn {
    fn plan(&mut self, within: Duration, turn: Turn) {
        self.turns.insert((self.sim.elapsed() + within, turn));
    }

    /// Takes all turns whose time has come.
    async fn catch_up(&mut self, dice: &mut ChaCha12Rng) {
        while let Some((at, turn)) = self.turns.first().copied().filter(|(at, _)| *at <= self.sim.elapsed()) {
            self.turns.remove(&(at, turn));
            self.take(turn, dice).await;
        }
    }

    async fn take(&mut self, turn: Turn, dice: &mut ChaCha12Rng) {
        let session = exponential(SESSION_MEDIAN, dice);
        match turn {
            Turn::Goes(n) => {
                self.departures += 1;
                let absence = exponential(ABSENCE_MEDIAN, dice);
                if dice.random_range(0..2) == 0 {
                    self.plan(absence, Turn::ComesBack(n));
                    self.cluster.nodes()[n].crash().await;
                } else {
                    self.plan(absence, Turn::IsReplaced);
                    self.cluster.nodes()[n].crash_without_disk().await;
                }
            }
            Turn::ComesBack(n) => {
                self.plan(session, Turn::Goes(n));
                self.cluster.nodes()[n].restart().await;
            }
            Turn::IsReplaced => {
                self.plan(session, Turn::Goes(self.cluster.nodes().len()));
                self.cluster.grow().await;
            }
        }
    }
}

fn exponential(median: Duration, dice: &mut ChaCha12Rng) -> Duration {
    let survives: f64 = dice.random_range(f64::MIN_POSITIVE..1.0);
    let mean = median.div_f64(std::f64::consts::LN_2);
    Duration::from_millis(mean.mul_f64(-survives.ln()).as_millis() as u64)
}
