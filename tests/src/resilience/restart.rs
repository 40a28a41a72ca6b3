//! All nodes restart within a minute, and a quarter of them have lost their disks.
//!
//! 32 nodes with 1,000 objects of 4,000 bytes. Each node crashes at a moment of that minute that chance picks and
//! starts five seconds later; 24 with their disks, 8 with nothing. From the last start on clients make ten gets a
//! second for four minutes; the swarm serves again from the first ten seconds on in which, and after which until the
//! end, 99 % of the gets are good. An upkeep period later no object may be gone, and clients get every one once.
//!
//! Upkeep has to bring back what the disks held. It may send 1,000 bytes a second, a thousandth of what it may send
//! otherwise, so that this is what it waits for; the same story with all the bytes it wants is the control, in which
//! the busiest node must send more, and the swarm must be whole again sooner. What upkeep sends is counted in each
//! minute after the last start, on each node; the first count is of everything since the node's start, which was at
//! most a minute before. The swarm is whole again when every object is on the eight nodes closest to it.

use std::time::Duration;

use comet_node::config::NodeConfig;
use comet_runtime::Value;
use rand::{RngExt, seq::SliceRandom};

use super::{Clients, Figure, Gets, Share, UPKEEP_PERIOD, simulate};
use crate::harness::{Cluster, Failure, Sim, SimNode};

const NODES: usize = 32;
const OBJECTS: usize = 1_000;
const VALUE_BYTES: usize = 4_000;
/// Nodes that lose their disks.
const WIPED: usize = NODES / 4;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a node stays down.
const DOWN: Duration = Duration::from_secs(5);
/// How long clients are watched, in windows of so long.
const WATCHED: Duration = Duration::from_secs(240);
const WINDOW: Duration = Duration::from_secs(10);
const GETS_PER_SECOND: u32 = 10;
const GOOD_PERCENT_MIN: f64 = 99.0;
const SERVES_WITHIN: Duration = Duration::from_secs(120);
/// What upkeep may send, in bytes per second.
const SCARCE: u64 = 1_000;
/// As good as no limit.
const PLENTY: u64 = 1_000_000_000;
/// More than a request takes here, whether it carries a copy or the versions of what a node holds.
const REQUEST_BYTES_MAX: u64 = 10_000;
/// What upkeep may send in a minute: 60 seconds' worth, one more after a pause, and a request of which a part counts
/// for the minute before.
const MINUTE_BYTES_MAX: u64 = 61 * SCARCE + REQUEST_BYTES_MAX;

/// What came of one restart.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    /// What the upkeep of the busiest node sent in its busiest minute.
    minute_bytes: u64,
    /// When every object was where it should be; nothing if that took more than an upkeep period.
    whole_after: Option<Duration>,
    serves_after: Duration,
    lost: usize,
    gets: Share,
}

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    let [scarce, plenty] = [SCARCE, PLENTY]
        .map(|bytes_per_second| simulate(seed, "restart", async |sim| restart(&sim, bytes_per_second).await));
    let whole = |outcome: Outcome| outcome.whole_after.unwrap_or(Duration::MAX);
    let minutes = |outcome: Outcome| {
        outcome.whole_after.map_or("never".to_owned(), |after| format!("{} min", after.as_secs() / 60))
    };
    vec![
        Figure {
            what: format!("bytes that upkeep of the busiest node sends in a minute, at {SCARCE} a second"),
            aim: format!("at most {MINUTE_BYTES_MAX}"),
            measured: scarce.minute_bytes.to_string(),
            reached: scarce.minute_bytes <= MINUTE_BYTES_MAX,
        },
        Figure {
            what: "the same without a limit: the control".to_owned(),
            aim: format!("more than {MINUTE_BYTES_MAX}"),
            measured: plenty.minute_bytes.to_string(),
            reached: plenty.minute_bytes > MINUTE_BYTES_MAX,
        },
        Figure {
            what: format!("time until all copies are back, at {SCARCE} bytes a second"),
            aim: format!("an upkeep period at most, and more than without a limit: {}", minutes(plenty)),
            measured: minutes(scarce),
            reached: scarce.whole_after.is_some() && whole(scarce) > whole(plenty),
        },
        Figure::time(
            "time until 99 % of gets are good after all nodes restarted",
            scarce.serves_after,
            SERVES_WITHIN,
        ),
        Figure::none("acknowledged objects lost when all nodes restart", scarce.lost),
        Figure::share("gets an upkeep period after", scarce.gets, 99.9),
    ]
}

async fn restart(sim: &Sim, bytes_per_second: u64) -> Result<Outcome, Failure> {
    let mut config = NodeConfig::default();
    config.replication.upkeep_bytes_per_second = bytes_per_second;
    let cluster = Cluster::start_with(sim, NODES, &config).await;
    let mut clients = Clients::new(sim);
    for n in 0..OBJECTS {
        let value = vec![Value::Int(n as i64), Value::str("x".repeat(VALUE_BYTES))];
        clients.put(&cluster, Value::List(value)).await?;
    }
    restart_all(sim, &cluster, &mut clients).await;

    let restarted = sim.elapsed();
    let (mut upkeep, mut windows, mut whole_after) = (Upkeep::default(), Vec::new(), None);
    upkeep.read(&cluster);
    while sim.elapsed() < restarted + UPKEEP_PERIOD {
        let minute = sim.elapsed() + MINUTE;
        while sim.elapsed() < minute.min(restarted + WATCHED) {
            windows.push(window(sim, &cluster, &mut clients).await);
        }
        sim.run_for(minute.saturating_sub(sim.elapsed())).await;
        upkeep.read(&cluster);
        if whole_after.is_none() && cluster.misplaced().is_empty() {
            whole_after = Some(sim.elapsed() - restarted);
        }
    }
    let bad = windows.iter().rposition(|gets| gets.share.percent() < GOOD_PERCENT_MIN);
    Ok(Outcome {
        minute_bytes: upkeep.minute_bytes,
        whole_after,
        serves_after: WINDOW * bad.map_or(0, |last| last as u32 + 1),
        lost: cluster.vanished().len(),
        gets: clients.get_all(&cluster).await.share,
    })
}

async fn restart_all(sim: &Sim, cluster: &Cluster, clients: &mut Clients) {
    let begun = sim.elapsed();
    let mut nodes: Vec<&SimNode> = cluster.nodes().iter().collect();
    nodes.shuffle(clients.dice());
    let mut moments = Vec::new();
    for (at, node) in nodes.into_iter().enumerate() {
        let down = begun + MINUTE.mul_f64(clients.dice().random_range(0.0..1.0));
        moments.extend([(down, node, at < WIPED), (down + DOWN, node, false)]);
    }
    moments.sort_by_key(|(at, node, _)| (*at, node.contact().id));
    for (at, node, is_wiped) in moments {
        sim.run_for(at.saturating_sub(sim.elapsed())).await;
        match (node.runs(), is_wiped) {
            (true, false) => node.crash().await,
            (true, true) => node.crash_without_disk().await,
            (false, _) => node.restart().await,
        }
    }
}

/// What the upkeep of each node has sent.
#[derive(Default)]
struct Upkeep {
    bytes: [u64; NODES],
    /// The most that one node sent between two readings.
    minute_bytes: u64,
}

impl Upkeep {
    /// Reads what they have sent by now.
    fn read(&mut self, cluster: &Cluster) {
        for (before, node) in self.bytes.iter_mut().zip(cluster.nodes()) {
            let now = node.upkeep_bytes();
            self.minute_bytes = self.minute_bytes.max(now - *before);
            *before = now;
        }
    }
}

async fn window(sim: &Sim, cluster: &Cluster, clients: &mut Clients) -> Gets {
    let (began, mut gets) = (sim.elapsed(), Gets::default());
    for n in 1..=WINDOW.as_secs() as u32 * GETS_PER_SECOND {
        clients.get(cluster, &mut gets).await;
        let next = began + Duration::from_secs(1) * n / GETS_PER_SECOND;
        sim.run_for(next.saturating_sub(sim.elapsed())).await;
    }
    gets
}
