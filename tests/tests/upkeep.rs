//! Replicas stay where they belong: whole nodes in simulated time, after the put.

use std::time::Duration;

use comet_node::config::NodeConfig;
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Get, Read},
};
use comet_tests::harness::{Cluster, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// All objects are checked every ten minutes.
const PERIOD: Duration = Duration::from_secs(600);

fn every_ten_minutes() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.replication.upkeep_seconds = PERIOD.as_secs();
    config
}

fn names<'a>(nodes: &[&'a SimNode]) -> Vec<&'a str> {
    let mut names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    names.sort_unstable();
    names
}

#[test]
fn lost_replicas_are_made_up_for_with_state_and_code() {
    Sim::seeded(31).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 20, &every_ten_minutes()).await;
        let code = "aso.copies = 0
            function aso:onGet() return { self.value, self.copies } end
            function aso:onPut(caller) if caller.replica then self.copies = self.copies + 1 end end";
        cluster["n3"].put("plain", "v").await?;
        cluster["n3"].put_active("active", "v", code, None).await?;
        sim.run_for(SECOND).await;
        for name in ["plain", "active"] {
            let live = cluster.holders_of(name).into_iter().filter(|node| node.is_live());
            let dying: Vec<_> = live.skip(2).collect();
            for node in dying {
                node.crash_without_disk().await;
            }
        }
        sim.run_for(2 * PERIOD).await;
        for name in ["plain", "active"] {
            assert_eq!(names(&cluster.holders_of(name)), names(&cluster.closest_to(name, 8)), "{name}");
        }
        let one = cluster.live().next().expect("some live").get("active").await?;
        let Some(Value::List(parts)) = one else { panic!("no list: {one:?}") };
        assert_eq!(parts[0], "v".into());
        cluster.check().await
    });
}

#[test]
fn in_a_swarm_larger_than_a_region_objects_are_taken_where_they_belong_through_death_and_growth() {
    Sim::seeded(36).run(async |sim| {
        let mut cluster = Cluster::start_with(&sim, 64, &every_ten_minutes()).await;
        let keys: Vec<_> = (0..12).map(|n| format!("key {n}")).collect();
        for (n, key) in keys.iter().enumerate() {
            cluster[format!("n{}", n + 1).as_str()].put(key, n as i64).await?;
        }
        sim.run_for(SECOND).await;
        for key in &keys {
            assert_eq!(cluster.holders_of(key).len(), 8, "{key}");
        }
        for node in cluster.nodes().iter().skip(1).step_by(5) {
            node.crash_without_disk().await;
        }
        for _ in 0..6 {
            cluster.grow().await;
        }
        sim.run_for(4 * PERIOD).await;
        for key in &keys {
            assert_eq!(names(&cluster.holders_of(key)), names(&cluster.closest_to(key, 8)), "{key}");
        }
        cluster.check().await
    });
}

#[test]
fn a_node_that_was_away_during_an_update_is_brought_up_to_date_within_minutes() {
    Sim::seeded(32).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &NodeConfig::default()).await;
        cluster["n1"].put("k", "old").await?;
        sim.run_for(SECOND).await;
        let away = cluster.holders_of("k")[2];
        away.crash().await;
        cluster.live().next().expect("others live").put("k", "new").await?;
        sim.run_for(MINUTE).await;
        away.restart().await;
        sim.run_for(3 * MINUTE).await;
        let version = away.version_of(&Key::of("k"));
        assert!(version.is_some());
        for holder in cluster.holders_of("k") {
            assert_eq!(holder.version_of(&Key::of("k")), version, "{}", holder.name());
        }
        cluster.check().await
    });
}

#[test]
fn a_node_that_was_away_during_a_deletion_does_not_bring_the_object_back() {
    Sim::seeded(33).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        cluster["n1"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        let away = cluster.holders_of("k")[2];
        away.crash().await;
        sim.run_for(MINUTE).await;
        cluster.live().next().expect("others live").delete("k").await?;
        sim.run_for(MINUTE).await;
        assert!(away.holds(&Key::of("k")));
        away.restart().await;
        sim.run_for(2 * PERIOD).await;
        assert_eq!(names(&cluster.holders_of("k")), Vec::<&str>::new());
        for node in cluster.live() {
            assert_eq!(node.get("k").await?, None, "through {}", node.name());
        }
        cluster.check().await
    });
}

#[test]
fn objects_move_to_closer_newcomers_and_leave_the_others() {
    Sim::seeded(34).run(async |sim| {
        let mut cluster = Cluster::start_with(&sim, 10, &every_ten_minutes()).await;
        for n in 0..20 {
            cluster["n1"].put(&format!("key {n}"), n).await?;
        }
        for _ in 0..10 {
            cluster.grow().await;
        }
        sim.run_for(5 * PERIOD).await;
        for n in 0..20 {
            let name = format!("key {n}");
            assert_eq!(names(&cluster.holders_of(&name)), names(&cluster.closest_to(&name, 8)), "{name}");
        }
        let drops: u64 = cluster.live().map(|node| node.client().upkeep().drops).sum();
        assert!(drops > 0, "somebody had to give something up");
        cluster.check().await
    });
}

#[test]
fn an_object_that_looks_after_itself_is_left_alone() {
    Sim::seeded(35).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        cluster["n1"].put_active("k", "v", "aso.replicas = 0", None).await?;
        sim.run_for(SECOND).await;
        let holders = cluster.holders_of("k");
        cluster.crash_all_but_one(holders).await;
        sim.run_for(3 * PERIOD).await;
        assert_eq!(cluster.holders_of("k").len(), 1);
        cluster.check().await
    });
}

#[test]
fn fewer_replicas_than_the_put_made_are_kept_if_the_object_asks_for_fewer() {
    Sim::seeded(36).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        cluster["n1"].put_active("k", "v", "aso.replicas = 3", None).await?;
        sim.run_for(SECOND).await;
        assert_eq!(cluster.holders_of("k").len(), 8);
        sim.run_for(5 * PERIOD).await;
        assert_eq!(names(&cluster.holders_of("k")), names(&cluster.closest_to("k", 3)));
        cluster.check().await
    });
}

const COLLECTOR: &str = "aso.seen = {}
function aso:onUpdate(caller, value) self.seen[#self.seen + 1] = value end
function aso:onGet() return self.seen end";

#[test]
fn an_object_hears_of_a_put_once_even_if_it_was_away_and_the_value_went_to_others() {
    Sim::seeded(37).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        cluster["n1"].put_active("k", "x", COLLECTOR, Some(2)).await?;
        sim.run_for(SECOND).await;
        let holders = cluster.holders_of("k");
        let own = names(&holders);
        for holder in &holders {
            holder.crash().await;
        }
        sim.run_for(MINUTE).await;
        cluster.live().next().expect("others live").update("k", "U1").await?;
        sim.run_for(MINUTE).await;
        for holder in &holders {
            holder.restart().await;
        }
        sim.run_for(6 * PERIOD).await;
        assert_eq!(names(&cluster.holders_of("k")), own, "the values beside the object are gone");
        let get = Get { key: Key::of("k"), payload: None, read: Read::All, deadline: None };
        let answers = cluster.live().next().expect("some live").client().get(get).await?.answers;
        let seen: Vec<_> = answers.into_iter().map(|answer| answer.value).collect();
        assert_eq!(seen, vec![Value::List(vec!["U1".into()]); 2]);
        cluster.check().await
    });
}
