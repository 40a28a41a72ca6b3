//! A story that nobody wrote: whatever can befall a swarm, in an order that the seed chooses.
//!
//! It goes in rounds. In each, clients put, replace, read and delete while nodes crash, lose their disks, fall
//! silent, slow down or have their clocks set, disks fill up and fail, and the network loses, repeats and
//! reorders packets and parts. Then everything is mended; the swarm must have kept what it promised, and after two
//! periods of upkeep everything must be where it belongs.
//!
//! At any time at most [`DOWN_MAX`] nodes are down, and in each round at most [`WIPES_MAX`] lose their disks:
//! fewer than acknowledge a put, since whoever loses all copies of an object at once loses the object.

use std::{collections::VecDeque, time::Duration};

use comet_node::config::NodeConfig;
use comet_runtime::Value;
use comet_store::simulation::DiskFault;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Cluster, Failure, Latency, Sim, SimNode, Weather};

/// Nodes that are down at a time at most.
const DOWN_MAX: usize = 4;
/// Nodes that lose their disks in a round at most.
const WIPES_MAX: usize = 2;
/// What a clock is set by at most, in seconds.
const CLOCK_STEP_SECONDS_MAX: i64 = 600;
/// What a slow node takes over a packet at most.
const SLOW_MAX: Duration = Duration::from_secs(3);
/// The longest pause between two events.
const PAUSE_MAX: Duration = Duration::from_secs(20);
/// How long the swarm is given to find itself again after a round.
const RECOVERY: Duration = Duration::from_secs(300);
/// How often upkeep looks after each object: often, so that it does so while things go wrong.
const UPKEEP_SECONDS: u64 = 600;
/// Two periods of upkeep, each of which may take a fifth longer.
const SETTLING: Duration = Duration::from_secs(UPKEEP_SECONDS * 12 / 5);

/// An object with a handler, which counts its reads.
const COUNTER: &str = "aso.reads = 0
function aso:onGet()
  self.reads = self.reads + 1
  return self.reads
end";

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    /// Nodes.
    pub nodes: usize,
    /// Rounds.
    pub rounds: usize,
    /// Events in each round.
    pub events: usize,
}

/// A mixture while it is being told.
struct Telling<'a> {
    sim: &'a Sim,
    cluster: &'a Cluster,
    dice: ChaCha12Rng,
    down: VecDeque<&'a SimNode>,
    wipes: usize,
    puts: usize,
    names: Vec<String>,
}

impl Mixture {
    /// A story that takes a second or two to tell.
    pub fn short() -> Self {
        Self { nodes: 16, rounds: 1, events: 60 }
    }

    /// A story that takes several.
    pub fn long() -> Self {
        Self { nodes: 28, rounds: 3, events: 120 }
    }

    /// Tells it.
    pub async fn tell(self, sim: &Sim) -> Result<(), Failure> {
        let mut dice = ChaCha12Rng::from_seed(sim.draw_seed());
        if dice.random_range(0..2) == 0 {
            sim.weather(Weather::continents());
        }
        let mut config = NodeConfig::default();
        config.replication.upkeep_seconds = UPKEEP_SECONDS;
        let cluster = Cluster::start_with(sim, self.nodes, &config).await;
        let (down, names) = (VecDeque::new(), Vec::new());
        let mut telling = Telling { sim, cluster: &cluster, dice, down, wipes: 0, puts: 0, names };
        for _ in 0..self.rounds {
            for _ in 0..self.events {
                telling.event().await?;
                let pause = telling.dice.random_range(0..=PAUSE_MAX.as_millis() as u64);
                sim.run_for(Duration::from_millis(pause)).await;
            }
            telling.mend().await;
            cluster.check().await?;
            sim.run_for(SETTLING).await;
            cluster.check_settled().await?;
        }
        Ok(())
    }
}

impl<'a> Telling<'a> {
    async fn event(&mut self) -> Result<(), Failure> {
        match self.dice.random_range(0..100) {
            0..25 => self.put_new().await,
            25..35 => self.put_again().await,
            35..60 => self.read().await?,
            60..63 => self.delete().await,
            63..66 => self.count().await,
            66..70 => self.crash().await,
            70..72 => self.crash_without_disk().await,
            72..78 => self.restart().await,
            78..80 => self.silence(),
            80..83 => self.cut(),
            83..85 => self.part(),
            85..90 => self.cluster.heal(),
            90..93 => self.change_weather(),
            93..95 => self.slow_down(),
            95..97 => self.set_clock(),
            _ => self.spoil_disk(),
        }
        Ok(())
    }

    // What clients do may fail in such times; then nothing is promised.

    async fn put_new(&mut self) {
        let name = format!("key {}", self.puts);
        self.names.push(name.clone());
        self.put(&name).await;
    }

    async fn put_again(&mut self) {
        if let Some(name) = self.any_name() {
            self.put(&name).await;
        }
    }

    async fn put(&mut self, name: &str) {
        self.puts += 1;
        let length = self.dice.random_range(0..2_000);
        let value = vec![Value::Int(self.puts as i64), Value::str("x".repeat(length))];
        self.any_live().put(name, Value::List(value)).await.ok();
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let Some(name) = self.any_name() else { return Ok(()) };
        let node = self.any_live();
        match node.get(&name).await {
            Ok(Some(read)) if !self.cluster.oracle().knows(&name, &read) => {
                let node = node.name();
                Err(Failure::new(format!("{node} reads at {name:?} what was never put there: {read:?}")))
            }
            _ => Ok(()),
        }
    }

    async fn delete(&mut self) {
        let Some(name) = self.any_name() else { return };
        self.names.retain(|known| *known != name);
        self.any_live().delete(&name).await.ok();
    }

    async fn count(&mut self) {
        let name = format!("counter {}", self.dice.random_range(0..3));
        if self.dice.random_range(0..3) == 0 {
            self.any_live().put_active(&name, Value::Nil, COUNTER, None).await.ok();
        } else {
            self.any_live().get(&name).await.ok();
        }
    }

    async fn crash(&mut self) {
        if let Some(node) = self.victim() {
            node.crash().await;
            self.down.push_back(node);
        }
    }

    async fn crash_without_disk(&mut self) {
        if self.wipes == WIPES_MAX {
            return;
        }
        if let Some(node) = self.victim() {
            self.wipes += 1;
            node.crash_without_disk().await;
            self.down.push_back(node);
        }
    }

    async fn restart(&mut self) {
        if let Some(node) = self.down.pop_front() {
            node.fail_disk(None);
            node.restart().await;
        }
    }

    fn silence(&mut self) {
        if let Some(node) = self.victim() {
            node.silence();
        }
    }

    fn cut(&mut self) {
        let (from, to) = (self.any_live(), self.any_live());
        self.cluster.cut(from.name(), to.name());
    }

    fn part(&mut self) {
        let share = self.dice.random_range(1..=9);
        let names: Vec<_> = self.cluster.nodes().iter().map(SimNode::name).collect();
        let inside: Vec<_> = names.into_iter().filter(|_| self.dice.random_range(0..10) < share).collect();
        self.cluster.partition(&inside);
    }

    fn change_weather(&mut self) {
        let mut percent = |max: u8| self.dice.random_range(0..=max);
        let (loss_percent, duplication_percent, reordering_percent) = (percent(15), percent(10), percent(20));
        let jitter_ms_max = self.dice.random_range(0..100);
        let latency = Latency::Even { ms: (5, 60) };
        let weather =
            Weather { latency, jitter_ms_max, loss_percent, duplication_percent, reordering_percent };
        self.sim.weather(weather);
    }

    fn slow_down(&mut self) {
        let most = SLOW_MAX.mul_f64(self.dice.random_range(0.0..1.0));
        self.any_live().slow_down(most);
    }

    fn set_clock(&mut self) {
        let seconds = self.dice.random_range(-CLOCK_STEP_SECONDS_MAX..=CLOCK_STEP_SECONDS_MAX);
        self.any_live().set_clock_by(seconds);
    }

    fn spoil_disk(&mut self) {
        let node = self.any_live();
        let fault = if self.dice.random_range(0..2) == 0 { DiskFault::Full } else { DiskFault::Io };
        match self.dice.random_range(0..4) {
            0 => node.fail_disk(Some(fault)),
            1 => node.fail_disk(None),
            _ => node.fail_write(self.dice.random_range(1..5), fault),
        }
    }

    /// Undoes everything and lets the swarm find itself again.
    async fn mend(&mut self) {
        self.cluster.heal();
        self.sim.weather(Weather::default());
        self.cluster.nodes().iter().for_each(|node| node.fail_disk(None));
        while !self.down.is_empty() {
            self.restart().await;
        }
        self.wipes = 0;
        self.sim.run_for(RECOVERY).await;
    }

    /// A node that may go down.
    fn victim(&mut self) -> Option<&'a SimNode> {
        let up = self.cluster.live().count();
        (up + DOWN_MAX > self.cluster.nodes().len()).then(|| self.any_live())
    }

    fn any_live(&mut self) -> &'a SimNode {
        let live: Vec<_> = self.cluster.live().collect();
        live[self.dice.random_range(0..live.len())]
    }

    fn any_name(&mut self) -> Option<String> {
        let at = self.dice.random_range(0..self.names.len().max(1));
        self.names.get(at).cloned()
    }
}
