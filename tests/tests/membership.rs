//! Who belongs to a swarm: swarms that meet, nodes that cannot be reached, contacts that fail.

use std::{net::SocketAddr, time::Duration};

use comet_node::{http::Backend, operation::Role};
use comet_runtime::dht::Dht;
use comet_tests::harness::{Cluster, Failure, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);

/// How many others each node knows, in the order of their names.
async fn known(nodes: impl IntoIterator<Item = &SimNode>) -> Vec<u64> {
    let mut known = Vec::new();
    for node in nodes {
        known.push(node.peers().await);
    }
    known
}

async fn role(node: &SimNode) -> Role {
    node.client().node().await.role
}

#[test]
fn two_swarms_that_meet_become_one() {
    Sim::seeded(41).run(async |sim| {
        let mut cluster = Cluster::start(&sim, 6).await;
        let mut others: Vec<SocketAddr> = Vec::new();
        for _ in 0..6 {
            let node = cluster.grow_through(others.iter().copied().take(3).collect()).await;
            others.push(node.contact().addr);
        }
        sim.run_for(60 * SECOND).await;
        cluster["n2"].put("here", 1).await?;
        cluster["n11"].put("there", 2).await?;
        assert_eq!(known(cluster.nodes()).await, [5; 12], "they have never heard of each other");
        assert_eq!(cluster["n3"].get("there").await?, None);

        cluster["n5"].stop().await;
        cluster["n5"].tell_of(cluster["n9"].contact());
        cluster["n5"].restart().await;
        sim.run_for(120 * SECOND).await;
        assert_eq!(known(cluster.nodes()).await, [11; 12], "every table contains all others");
        for node in cluster.nodes() {
            assert_eq!(node.get("here").await?, Some(1.into()), "through {}", node.name());
            assert_eq!(node.get("there").await?, Some(2.into()), "through {}", node.name());
        }
        Ok::<_, Failure>(())
    });
}

#[test]
fn a_node_that_nobody_reaches_from_outside_takes_part_as_a_client() {
    Sim::seeded(42).run(async |sim| {
        let mut cluster = Cluster::start(&sim, 10).await;
        let hidden = cluster.grow().await;
        hidden.hide();
        assert_eq!(role(hidden).await, Role::Unknown);
        sim.run_for(20 * SECOND).await;
        assert_eq!(role(&cluster["n11"]).await, Role::Unknown, "one round of answers is not enough");
        sim.run_for(80 * SECOND).await;
        let hidden = &cluster["n11"];
        assert_eq!(role(hidden).await, Role::Client);
        assert_eq!(role(&cluster["n1"]).await, Role::Server, "the control");

        for n in 0..30 {
            let name = format!("object {n}");
            hidden.put(&name, n).await?;
            assert_eq!(hidden.get(&name).await?, Some(n.into()));
            assert_eq!(cluster["n4"].get(&name).await?, Some(n.into()));
        }
        sim.run_for(600 * SECOND).await;
        assert_eq!(hidden.totals().map(|totals| totals.records), Some(0), "it holds nothing for others");
        assert_eq!(hidden.peers().await, 10, "it knows everybody");
        let visible: Vec<_> = cluster.nodes().iter().filter(|node| !node.is_hidden()).collect();
        assert_eq!(known(visible.iter().copied()).await, [9; 10], "and is in nobody's table");
        for node in visible {
            let found = node.client().lookup(hidden.contact().id.as_key()).await?;
            assert!(!found.nodes.contains(&hidden.contact()), "{} names it", node.name());
        }
        cluster.check().await
    });
}

#[test]
fn an_outage_of_a_moment_costs_a_node_no_contact_and_a_longer_one_does() {
    Sim::seeded(43).run(async |sim| {
        let cluster = Cluster::start(&sim, 8).await;
        assert_eq!(known(cluster.nodes()).await, [7; 8]);
        let busy_for = async |time: Duration| -> Result<(), Failure> {
            let end = sim.elapsed() + time;
            let mut n = 0;
            while sim.elapsed() < end {
                cluster["n1"].get(&format!("nothing {n}")).await?;
                n += 1;
            }
            Ok(())
        };
        cluster["n3"].silence();
        busy_for(SECOND / 2).await?;
        assert_eq!(cluster["n1"].peers().await, 7, "however many requests failed in that moment");
        busy_for(10 * SECOND).await?;
        assert_eq!(cluster["n1"].peers().await, 6, "the dead node is dropped");
        cluster.heal();
        sim.run_for(150 * SECOND).await;
        assert_eq!(cluster["n1"].peers().await, 7, "and found again when it is back");
        Ok(())
    });
}
