//! Many nodes of one network against a swarm whose nodes live in many: whole nodes in simulated time.

use std::{net::Ipv4Addr, time::Duration};

use comet_node::config::{NodeConfig, PrivateNetworks};
use comet_routing::{Key, NodeId};
use comet_runtime::dht::Dht;
use comet_tests::harness::{Cluster, Failure, Homes, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);

/// All objects are checked every two minutes.
const PERIOD: Duration = Duration::from_secs(120);

/// Nodes of the crowd. Eight would do to hold every copy of an object.
const CROWD: u8 = 10;

fn network_of_crowd(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 200, 0, host)
}

/// The `n`-th nearest id to a key that there is.
fn ground(key: Key, n: u8) -> NodeId {
    let mut id = *key.as_bytes();
    id[31] ^= n;
    NodeId::from_bytes(id)
}

fn is_of_crowd(node: &SimNode) -> bool {
    node.contact().addr.ip() >= network_of_crowd(0)
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a SimNode>) -> Vec<String> {
    let mut names: Vec<_> = nodes.into_iter().map(|node| node.name().to_owned()).collect();
    names.sort_unstable();
    names
}

/// How a crowd around an object fared.
struct Siege {
    /// Most members among the eight nodes that any other node takes for the replicas.
    crowd: usize,
    /// The holders that are no members.
    honest: Vec<String>,
    /// The six nodes that were nearest to the key before the crowd came.
    nearest: Vec<String>,
    /// Whether anybody finds the object once the crowd is gone.
    is_left: bool,
}

/// A crowd settles around an object of a swarm of sixteen, takes what it is given for five periods of upkeep, and
/// goes.
async fn besiege(sim: &Sim, private_ranges: PrivateNetworks) -> Result<Siege, Failure> {
    let mut config = NodeConfig::default();
    config.replication.upkeep_seconds = PERIOD.as_secs();
    config.routing.private_ranges = private_ranges;
    let mut cluster = Cluster::start_at(sim, 16, &config, Homes::Apart).await;
    cluster["n1"].put("k", "v").await?;
    sim.run_for(SECOND).await;
    assert_eq!(names(cluster.holders_of("k")), names(cluster.closest_to("k", 8)));
    let nearest = names(cluster.closest_to("k", 6));
    for n in 1..=CROWD {
        cluster.grow_as(ground(Key::of("k"), n), network_of_crowd(n)).await;
    }
    sim.run_for(5 * PERIOD).await;
    let honest = names(cluster.holders_of("k").into_iter().filter(|node| !is_of_crowd(node)));
    let mut crowd = 0;
    for node in cluster.live().filter(|node| !is_of_crowd(node)).collect::<Vec<_>>() {
        let replicas = node.client().lookup(Key::of("k")).await?.nodes.into_iter().take(8);
        crowd = crowd.max(replicas.filter(|replica| replica.addr.ip() >= network_of_crowd(0)).count());
    }
    for member in cluster.live().filter(|node| is_of_crowd(node)).collect::<Vec<_>>() {
        member.crash_without_disk().await;
    }
    let is_left = cluster["n9"].get("k").await?.is_some();
    Ok(Siege { crowd, honest, nearest, is_left })
}

#[test]
fn a_crowd_of_one_network_around_a_key_gets_two_copies_and_the_honest_holders_keep_theirs() {
    Sim::seeded(61).run(async |sim| {
        let siege = besiege(&sim, PrivateNetworks::Counted).await?;
        assert_eq!(siege.crowd, 2);
        assert_eq!(siege.honest, siege.nearest);
        assert!(siege.is_left);
        Ok(())
    });
}

/// The control of the story above.
#[test]
fn where_its_network_is_exempt_a_crowd_takes_every_copy_and_the_object_goes_with_it() {
    Sim::seeded(61).run(async |sim| {
        let siege = besiege(&sim, PrivateNetworks::Exempt).await?;
        assert_eq!((siege.crowd, siege.honest.len(), siege.is_left), (8, 0, false));
        Ok(())
    });
}
