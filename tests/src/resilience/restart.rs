//! All nodes restart within a minute.
//!
//! 32 nodes with 1,000 objects. Each node crashes at a moment of that minute that chance picks, keeps its disk, and
//! starts five seconds later. From the last start on clients make ten gets a second; the swarm serves again from
//! the first ten seconds on in which, and after which until the end, 99 % of the gets are good. An upkeep period
//! later no object may be gone, and clients get every one once. What upkeep sends is measured over each minute of
//! that period, on each node; the first minute counts everything since the node's start.

use std::time::Duration;

use rand::RngExt;

use super::{Clients, Figure, Gets, UPKEEP_PERIOD, simulate};
use crate::harness::{Cluster, Sim, SimNode};

const NODES: usize = 32;
const OBJECTS: usize = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a node stays down.
const DOWN: Duration = Duration::from_secs(5);
/// How long clients are watched, in windows of so long.
const WATCHED: Duration = Duration::from_secs(240);
const WINDOW: Duration = Duration::from_secs(10);
const GETS_PER_SECOND: u32 = 10;
const GOOD_PERCENT_MIN: f64 = 99.0;
const SERVES_WITHIN: Duration = Duration::from_secs(120);

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    simulate(seed, "restart", async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        clients.put_many(&cluster, OBJECTS).await;

        let restarting = sim.elapsed();
        let mut moments = Vec::new();
        for node in cluster.nodes() {
            let down = restarting + MINUTE.mul_f64(clients.dice().random_range(0.0..1.0));
            moments.extend([(down, node), (down + DOWN, node)]);
        }
        moments.sort_by_key(|(at, node)| (*at, node.contact().id));
        for (at, node) in moments {
            sim.run_for(at.saturating_sub(sim.elapsed())).await;
            if node.runs() { node.crash().await } else { node.restart().await }
        }

        let restarted = sim.elapsed();
        let mut windows = Vec::new();
        while sim.elapsed() < restarted + WATCHED {
            windows.push(window(&sim, &cluster, &mut clients).await);
        }
        let bad = windows.iter().rposition(|gets| gets.share.percent() < GOOD_PERCENT_MIN);
        let serves_after = WINDOW * bad.map_or(0, |last| last as u32 + 1);
        let most = most_upkeep(&sim, &cluster).await;
        let share = cluster.nodes()[0].config().replication.upkeep_bytes_per_second;
        let gets = clients.get_all(&cluster).await;
        Ok(vec![
            Figure {
                what: "bytes a second that upkeep of the busiest node sends in its busiest minute".to_owned(),
                aim: format!("at most {share}"),
                measured: most.to_string(),
                reached: most <= share,
            },
            Figure::time(
                "time until 99 % of gets are good after all nodes restarted",
                serves_after,
                SERVES_WITHIN,
            ),
            Figure::none("acknowledged objects lost when all nodes restart", cluster.vanished().len()),
            Figure::share("gets an upkeep period after", gets.share, 99.9),
        ])
    })
}

/// Bytes a second that the upkeep of any node sent in any minute of one period.
async fn most_upkeep(sim: &Sim, cluster: &Cluster) -> u64 {
    let sent = || cluster.nodes().iter().map(SimNode::upkeep_bytes).collect::<Vec<_>>();
    let (mut before, mut most) = (vec![0; NODES], 0);
    for _ in 0..UPKEEP_PERIOD.as_secs() / MINUTE.as_secs() {
        let now = sent();
        let minute = now.iter().zip(&before).map(|(now, before)| (now - before) / MINUTE.as_secs());
        most = most.max(minute.max().unwrap_or(0));
        before = now;
        sim.run_for(MINUTE).await;
    }
    most
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
