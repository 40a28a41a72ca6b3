//! A quarter of the nodes die at once.
//!
//! 100 nodes with 10,000 objects, eight copies of each; 25 nodes that chance picks go down in the same moment, with
//! their disks. An object survives if any other node holds it. Ten minutes later clients get every object once.

use std::time::Duration;

use rand::seq::SliceRandom;

use super::{Clients, Figure, Share, simulate};
use crate::harness::{Cluster, SimNode};

const NODES: usize = 100;
const OBJECTS: usize = 10_000;
const PAUSE: Duration = Duration::from_secs(600);

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    let (survived, gets) = simulate(seed, "death", async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        clients.put_many(&cluster, OBJECTS).await?;
        let mut nodes: Vec<&SimNode> = cluster.nodes().iter().collect();
        nodes.shuffle(clients.dice());
        for node in &nodes[..NODES / 4] {
            node.crash_without_disk().await;
        }
        let all = clients.names().len();
        let survived = Share { good: all - cluster.vanished().len(), all };
        sim.run_for(PAUSE).await;
        Ok((survived, clients.get_all(&cluster).await.share))
    });
    vec![
        Figure::share("objects that survive when a quarter of the nodes die", survived, 99.99),
        Figure::share("gets ten minutes after", gets, 99.9),
    ]
}
