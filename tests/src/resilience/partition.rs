//! The swarm falls apart into two halves for ten minutes, and comes together again.
//!
//! 40 nodes, 400 objects. While the halves are apart clients on both sides get every object that some node of their
//! side holds, and replace a hundred of them, the same on both sides. After the halves have met, upkeep has two
//! periods. Tables have merged if, from every node, a lookup finds the eight nodes that are truly closest. An object
//! is back if the eight closest nodes hold it, and the higher version has won if all of them hold the highest
//! version that anybody holds.

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
/// Lookups from each node.
const LOOKUPS: usize = 5;

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    simulate(seed, "partition", async |sim| {
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        clients.put_many(&cluster, OBJECTS).await;
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
        for n in 0..REPLACED {
            for (value, side) in [here, there].into_iter().enumerate() {
                let node = &side[clients.dice().random_range(0..side.len())];
                let name = &clients.names()[n];
                node.put(name, format!("{value} of {n}").as_str()).await.ok();
            }
        }
        sim.run_for((parted + APART).saturating_sub(sim.elapsed())).await;
        cluster.heal();
        sim.run_for(2 * UPKEEP_PERIOD).await;
        figures.push(Figure::share(
            "lookups that find the truly closest nodes",
            lookups(&cluster, &mut clients).await,
            99.0,
        ));
        figures.push(Figure::none(
            "objects that are not on all of the nodes closest to them",
            cluster.misplaced().len(),
        ));
        figures.push(Figure::none(
            "objects whose highest version has not won everywhere",
            divided(&cluster, &clients),
        ));
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

fn divided(cluster: &Cluster, clients: &Clients) -> usize {
    let divided = clients.names().iter().filter(|name| {
        let key = Key::of(name);
        let highest = cluster.nodes().iter().filter_map(|node| node.version_of(&key)).max();
        cluster.closest_to(name, cluster.replicas()).iter().any(|node| node.version_of(&key) != highest)
    });
    divided.count()
}
