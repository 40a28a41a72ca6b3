//! Operations while nodes are silent, slow or cut off, in simulated time.
//!
//! The figures of real processes are those of `resilience silent`.

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Get, Read},
};
use comet_tests::{
    harness::{Cluster, Failure, Latency, Sim, SimNode, Weather},
    resilience::percentile,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// One building: round trips of 2 to 6 ms.
fn one_building() -> Weather {
    Weather { latency: Latency::Even { ms: (1, 2) }, jitter_ms_max: 1, ..Weather::default() }
}

/// Puts, gets and gets of what is not there through the live nodes, and how long each took.
async fn operate(sim: &Sim, cluster: &Cluster, rounds: usize) -> Result<[Vec<Duration>; 3], Failure> {
    let (mut puts, mut gets, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let live: Vec<_> = cluster.live().collect();
    for n in 0..rounds {
        let (name, began) = (format!("new {n}"), sim.elapsed());
        live[n * 7 % live.len()].put(&name, n as i64).await?;
        puts.push(sim.elapsed() - began);
        let began = sim.elapsed();
        let got = live[n * 5 % live.len()].get(&format!("old {}", n % 20)).await?;
        assert_eq!(got, Some(Value::Int((n % 20) as i64)));
        gets.push(sim.elapsed() - began);
        let began = sim.elapsed();
        assert_eq!(live[n * 3 % live.len()].get(&format!("never {n}")).await?, None);
        missing.push(sim.elapsed() - began);
    }
    Ok([puts, gets, missing])
}

#[test]
fn in_one_building_a_quarter_of_silent_nodes_costs_less_than_150_ms() {
    Sim::seeded(41).run(async |sim| {
        sim.weather(one_building());
        let cluster = Cluster::start(&sim, 32).await;
        for n in 0..20 {
            cluster["n1"].put(&format!("old {n}"), n).await?;
        }
        // All connections are closed by then.
        sim.run_for(MINUTE).await;
        cluster.nodes().iter().step_by(4).for_each(SimNode::silence);
        let taken = operate(&sim, &cluster, 200).await?;
        let [put, get, missing] = taken.map(|taken| percentile(taken, 99));
        println!("p99 of puts {put:?}, of gets {get:?}, of gets of missing keys {missing:?}");
        assert!(put <= 150 * MS && get <= 150 * MS, "puts {put:?}, gets {get:?}");
        assert!(missing <= 300 * MS, "{missing:?}");
        cluster.check().await
    });
}

#[test]
fn what_was_acknowledged_is_read_at_once_while_one_of_its_replicas_can_be_heard() {
    Sim::seeded(42).run(async |sim| {
        let cluster = Cluster::start(&sim, 24).await;
        cluster["n1"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        let holders = cluster.holders_of("k");
        assert_eq!(holders.len(), 8);
        holders.iter().take(7).for_each(|node| node.silence());
        let began = sim.elapsed();
        for node in cluster.live() {
            assert_eq!(node.get("k").await?, Some("v".into()), "through {}", node.name());
        }
        println!("{} gets in {:?}", cluster.live().count(), sim.elapsed() - began);
        cluster.check().await
    });
}

#[test]
fn a_node_that_is_cut_off_with_another_acknowledges_nothing_until_it_has_to_believe_in_a_swarm_of_two() {
    Sim::seeded(44).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        cluster.partition(&["n19", "n20"]);
        for n in 0..50 {
            match cluster["n20"].put(&format!("cut off {n}"), n).await {
                Err(Refusal::NoQuorum { quorum: 5, wanted: 8, .. }) => {}
                outcome => panic!("put {n}: {outcome:?}"),
            }
            sim.run_for(5 * SECOND).await;
        }
        assert_eq!(cluster["n20"].peers().await, 1, "it has given up the others");
        let began = sim.elapsed();
        cluster["n20"].put("once more", 1).await.expect_err("they are missed");
        assert!(sim.elapsed() - began < SECOND, "and it knows at once");
        sim.run_for(15 * MINUTE).await;
        let report = cluster["n20"].put("on its own", 1).await?;
        assert_eq!((report.stored.len(), report.wanted), (2, 2));
        Ok::<_, Failure>(())
    });
}

#[test]
fn a_quorum_of_equal_answers_is_heard_beside_silent_nodes() {
    Sim::seeded(45).run(async |sim| {
        let cluster = Cluster::start(&sim, 24).await;
        cluster["n1"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        cluster.holders_of("k").iter().take(3).for_each(|node| node.silence());
        let reader = cluster.live().next().expect("21 nodes");
        let get = |read, deadline| Get { key: Key::of("k"), payload: None, read, deadline };
        let report = reader.client().get(get(Read::Quorum(5), Some(2 * SECOND))).await?;
        assert_eq!(report.answers.len(), 5);
        match reader.client().get(get(Read::Quorum(6), Some(2 * SECOND))).await {
            Err(Refusal::NoQuorum { stored: 5, quorum: 6, .. }) => {}
            outcome => panic!("five replicas live: {outcome:?}"),
        }
        cluster.check().await
    });
}
