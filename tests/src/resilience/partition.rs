//! The swarm falls apart into two halves for ten minutes, and comes together again.
//!
//! 40 nodes, 400 objects. While the halves are apart clients on both sides get every object that some node of their
//! side holds, and replace a hundred of them, the same on both sides. After the halves have met, upkeep has two
//! periods. Tables have merged if, from every node, a lookup finds the eight nodes that are truly closest. An object
//! is back if the eight closest nodes hold it in the highest version that anybody holds.
//!
//! A node that took an object only for the time apart keeps its copy, which may be an older one, until the closest
//! have held theirs for two periods, and lets go of it when it checks it next. Three periods later, therefore, the
//! higher version must have won everywhere: no two nodes of all hold different ones.

use std::{collections::BTreeSet, time::Duration};

use comet_routing::Key;
use comet_runtime::dht::Dht;
use rand::RngExt;

use super::{Clients, Figure, Share, UPKEEP_PERIOD, simulate};
use crate::harness::{Cluster, SimNode};

const NODES: usize = 40;
const OBJECTS: usize = 400;
const REPLACED: usize = 100;
const APART: Duration = Duration::from_secs(600);
/// How long the halves are given to notice that they are apart.
const NOTICING: Duration = Duration::from_secs(60);
/// How long nodes may keep copies that others should hold and do: two periods of grace, and up to a fifth more
/// than one until the next check.
const LETTING_GO: Duration = Duration::from_secs(3 * UPKEEP_PERIOD.as_secs());
/// Lookups from each node.
const LOOKUPS: usize = 5;

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    simulate(seed, "partition", async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        clients.put_many(&cluster, OBJECTS).await?;
        let (here, there) = cluster.nodes().split_at(NODES / 2);
        let names: Vec<_> = here.iter().map(SimNode::name).collect();
        cluster.partition(&names);
        let parted = sim.elapsed();
        sim.run_for(NOTICING).await;
        let mut figures = Vec::new();
        for (which, side) in [("one", here), ("the other", there)] {
            let served = serve(&mut clients, side).await;
            figures.push(Figure::share(
                format!("gets on {which} side of what that side holds"),
                served,
                99.0,
            ));
        }
        for (which, side) in [("one", here), ("the other", there)] {
            let replaced = replace(&mut clients, side, which).await;
            figures.push(Figure::share(format!("puts on {which} side"), replaced, 99.0));
        }
        sim.run_for((parted + APART).saturating_sub(sim.elapsed())).await;
        cluster.heal();
        sim.run_for(2 * UPKEEP_PERIOD).await;
        let found = lookups(&cluster, &mut clients).await;
        figures.push(Figure::share("lookups that find the truly closest nodes", found, 99.0));
        let (misplaced, what) =
            (cluster.misplaced().len(), "objects that are not on all of the nodes closest to them");
        figures.push(Figure::none(what, misplaced));
        sim.run_for(LETTING_GO).await;
        let what = "objects whose highest version has not won everywhere";
        figures.push(Figure::none(what, cluster.divided().len()));
        figures.push(Figure::none("acknowledged objects lost", cluster.vanished().len()));
        Ok(figures)
    })
}

async fn serve(clients: &mut Clients, side: &[SimNode]) -> Share {
    let mut share = Share::default();
    for name in clients.names().to_vec() {
        if side.iter().any(|node| node.holds(&Key::of(&name))) {
            let through = &side[clients.dice().random_range(0..side.len())];
            share.add(matches!(through.get(&name).await, Ok(Some(_))));
        }
    }
    share
}

/// Replaces some objects through nodes of one side; those puts are good that a majority of the replicas has.
async fn replace(clients: &mut Clients, side: &[SimNode], which: &str) -> Share {
    let mut share = Share::default();
    for n in 0..REPLACED {
        let through = &side[clients.dice().random_range(0..side.len())];
        share.add(through.put(&clients.names()[n], format!("{which}, {n}").as_str()).await.is_ok());
    }
    share
}

async fn lookups(cluster: &Cluster, clients: &mut Clients) -> Share {
    let mut share = Share::default();
    for node in cluster.nodes() {
        for _ in 0..LOOKUPS {
            let name = format!("lookup {}", clients.dice().random_range(0..u32::MAX));
            let truly: BTreeSet<_> =
                cluster.closest_to(&name, cluster.replicas()).iter().map(|node| node.contact().id).collect();
            let found = node.client().lookup(Key::of(&name)).await;
            share.add(found.is_ok_and(|found| {
                found.nodes.iter().take(truly.len()).all(|contact| truly.contains(&contact.id))
            }));
        }
    }
    share
}
