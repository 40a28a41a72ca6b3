//! Whole swarms in simulated time: real nodes, one thread, a seed for everything.
//!
//! A story that fails prints the command that tells it again.

use std::time::Duration;

use comet_apps::Counter;
use comet_node::config::{ContactPolicy, NodeConfig};
use comet_routing::Key;
use comet_runtime::{
    CallerAddresses, Value,
    dht::{Dht, Get, Read},
};
use comet_store::simulation::DiskFault;
use comet_tests::{
    harness::{Cluster, Failure, Mixture, Sim, Weather},
    resilience::percentile,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_is_put_through_one_node_is_read_through_every_other() {
    Sim::seeded(1).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        let report = cluster["n3"].put("greeting", "hello").await?;
        assert!(report.stored.len() >= usize::from(report.quorum), "{report:?}");
        for node in cluster.nodes() {
            assert_eq!(node.get("greeting").await?, Some("hello".into()), "through {}", node.name());
        }
        sim.run_for(SECOND).await;
        assert_eq!(cluster.holders_of("greeting").len(), 8);
        cluster.check().await
    });
}

#[test]
fn a_value_survives_the_loss_of_all_but_one_replica() {
    Sim::seeded(7).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        cluster["n3"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        cluster.crash_all_but_one(cluster.holders_of("k")).await;
        sim.run_for(10 * MINUTE).await;
        assert_eq!(cluster.live().count(), 13);
        for node in cluster.live() {
            assert_eq!(node.get("k").await?, Some("v".into()), "through {}", node.name());
        }
        cluster.check().await
    });
}

#[test]
fn a_tenth_of_the_packets_may_be_lost_and_another_tenth_may_come_twice() {
    Sim::seeded(4).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        let rain = Weather { loss_percent: 10, duplication_percent: 10, ..Weather::default() };
        sim.weather(rain);
        let mut taken = Vec::new();
        for (n, node) in cluster.nodes().iter().enumerate() {
            let (name, began) = (format!("key {n}"), sim.elapsed());
            node.put(&name, n as i64).await?;
            assert_eq!(cluster["n1"].get(&name).await?, Some(Value::Int(n as i64)));
            taken.push(sim.elapsed() - began);
        }
        let p99 = percentile(taken, 99);
        println!("a put and a get in the rain: p99 {p99:?}");
        assert!(p99 < 4 * SECOND, "{p99:?}");
        cluster.check().await
    });
}

#[test]
fn each_replica_of_the_counter_counts_what_it_served() {
    Sim::seeded(5).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        let (first, counter) = (cluster["n1"].client(), Counter::at(Key::of("hits")));
        counter.create(&first, &"page".into()).await?;
        sim.run_for(SECOND).await;
        for reads in 1..=3 {
            let get = Get { key: Key::of("hits"), payload: None, read: Read::All, deadline: None };
            let report = first.get(get).await?;
            let counts: Vec<_> = report.answers.iter().map(|answer| answer.value.clone()).collect();
            assert_eq!(counts, vec![Value::List(vec!["page".into(), Value::Int(reads)]); 8]);
        }
        let one = counter.read(&cluster["n9"].client()).await?;
        assert_eq!((one.value, one.reads), ("page".into(), 4));
        cluster.check().await
    });
}

const FEED: &str = "aso.subscribers = {}
function aso:onGet(caller, callbackKey)
  self.subscribers[#self.subscribers + 1] = { node = caller, key = callbackKey }
  return 'subscribed'
end
function aso:onUpdate(caller, value)
  self.value = value
  for _, subscriber in ipairs(self.subscribers) do
    put(subscriber.key, value, { subscriber.node }, function() end)
  end
  self.subscribers = {}
end";

const INBOX: &str = "function aso:onGet(caller, callbackKey, feed)
  if feed then return get(feed) end
  return self.value
end
function aso:onUpdate(caller, value)
  self.value = value
end";

#[test]
fn what_one_object_publishes_reaches_another_at_its_callback_key() {
    Sim::seeded(6).run(async |sim| {
        let mut open = NodeConfig::default();
        open.runtime.contact = ContactPolicy::Open;
        let cluster = Cluster::start_with(&sim, 20, &open).await;
        cluster["n2"].put_active("feed", Value::Nil, FEED, None).await?;
        cluster["n5"].put_active("inbox", "nothing yet", INBOX, Some(1)).await?;
        let answer = cluster["n7"].get_with("inbox", Some("feed".into())).await?;
        assert_eq!(answer, Some("subscribed".into()));
        assert_eq!(cluster["n8"].get("inbox").await?, Some("nothing yet".into()));
        cluster["n11"].update("feed", "news").await?;
        sim.run_for(5 * SECOND).await;
        assert_eq!(cluster["n8"].get("inbox").await?, Some("news".into()));
        cluster.check().await
    });
}

#[test]
fn an_object_that_sees_no_addresses_answers_its_callers_all_the_same() {
    for (seed, caller_addresses) in [(14, CallerAddresses::Hidden), (15, CallerAddresses::Full)] {
        Sim::seeded(seed).run(async |sim| {
            let mut config = NodeConfig::default();
            config.runtime.contact = ContactPolicy::Open;
            config.runtime.caller_addresses = caller_addresses;
            let cluster = Cluster::start_with(&sim, 20, &config).await;
            let telling = FEED.replace("return 'subscribed'", "return caller.ip .. ':' .. caller.port");
            cluster["n2"].put_active("feed", Value::Nil, &telling, None).await?;
            cluster["n5"].put_active("inbox", "nothing yet", INBOX, Some(1)).await?;
            let told = cluster["n7"].get_with("inbox", Some("feed".into())).await?;
            let subscriber = cluster.holders_of("inbox")[0].contact().addr.to_string();
            let shown = if caller_addresses == CallerAddresses::Full { &subscriber[..] } else { "0.0.0.0:0" };
            assert_eq!(told, Some(shown.into()));
            // The feed has left memory by then.
            sim.run_for(5 * MINUTE).await;
            cluster["n11"].update("feed", "news").await?;
            sim.run_for(5 * SECOND).await;
            assert_eq!(cluster["n8"].get("inbox").await?, Some("news".into()));
            cluster.check().await
        });
    }
}

#[test]
fn a_node_finds_the_swarm_again_by_its_saved_contacts_alone() {
    Sim::seeded(8).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        cluster["n2"].put("k", "v").await?;
        sim.run_for(3 * MINUTE).await;
        let node = &cluster["n7"];
        node.forget_peers();
        node.crash().await;
        sim.run_for(MINUTE).await;
        node.restart().await;
        sim.run_for(30 * SECOND).await;
        assert_eq!(node.get("k").await?, Some("v".into()));
        let found = node.client().lookup(Key::of("anything")).await?;
        assert_eq!(found.nodes.len(), 12);
        cluster.check().await
    });
}

#[test]
fn a_node_that_was_stopped_comes_back_with_what_it_held() {
    Sim::seeded(9).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        cluster["n1"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        let holder = cluster.holders_of("k")[0];
        holder.stop().await;
        assert!(!holder.is_live() && holder.holds(&Key::of("k")));
        assert_eq!(cluster.live().next().expect("others live").get("k").await?, Some("v".into()));
        holder.restart().await;
        sim.run_for(30 * SECOND).await;
        assert!(cluster.holders_of("k").iter().any(|node| node.name() == holder.name()));
        cluster.check().await
    });
}

#[test]
fn parts_of_a_swarm_that_were_an_hour_apart_have_gone_on_and_are_one_again_in_five_minutes() {
    Sim::seeded(10).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        cluster.partition(&["n16", "n17", "n18", "n19", "n20"]);
        for n in 1..=20 {
            cluster["n1"].put(&format!("here {n}"), n).await?;
            cluster["n20"].put(&format!("there {n}"), n).await?;
            sim.run_for(10 * SECOND).await;
        }
        assert_eq!((cluster["n1"].peers().await, cluster["n20"].peers().await), (14, 4));
        assert_eq!(cluster["n9"].get("here 1").await?, Some(1.into()));
        assert_eq!(cluster["n16"].get("there 1").await?, Some(1.into()));
        assert_eq!(cluster["n9"].get("there 1").await?, None);
        sim.run_for(56 * MINUTE).await;
        cluster.heal();
        sim.run_for(5 * MINUTE).await;
        let mut known = 0;
        for node in cluster.nodes() {
            known += node.peers().await;
            let found = node.client().lookup(Key::of("anything")).await?;
            assert_eq!(found.nodes.len(), 20, "{}", node.name());
        }
        assert!(known >= 20 * 19 * 95 / 100, "of {} places in tables {known} are taken again", 20 * 19);
        Ok(())
    });
}

#[test]
fn whatever_befalls_the_nodes_what_was_acknowledged_is_there() {
    for seed in [14, 15, 16, 17] {
        Sim::seeded(seed).run(async |sim| Mixture::short().tell(&sim).await);
    }
    Sim::seeded(20).run(async |sim| Mixture::long().tell(&sim).await);
}

#[test]
fn packets_that_overtake_each_other_between_continents_do_no_harm() {
    Sim::seeded(21).run(async |sim| {
        sim.weather(Weather { reordering_percent: 30, duplication_percent: 10, ..Weather::continents() });
        let cluster = Cluster::start(&sim, 20).await;
        for (n, node) in cluster.nodes().iter().enumerate() {
            for version in 1..=3 {
                node.put(&format!("key {n}"), version).await?;
            }
        }
        sim.run_for(10 * SECOND).await;
        for (n, node) in cluster.nodes().iter().enumerate() {
            let name = format!("key {}", (n + 7) % 20);
            assert_eq!(node.get(&name).await?, Some(3.into()), "through {}", node.name());
        }
        cluster.check().await
    });
}

#[test]
fn an_operation_waits_for_one_slow_node_at_most() {
    Sim::seeded(22).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        // Three: a put waits for five of eight, so it never needs one of them.
        for node in cluster.nodes().iter().skip(2).step_by(6) {
            node.slow_down(3 * SECOND);
        }
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for n in 1..=100 {
            let (name, began) = (format!("key {n}"), sim.elapsed());
            cluster["n1"].put(&name, n).await?;
            puts.push(sim.elapsed() - began);
            let began = sim.elapsed();
            assert_eq!(cluster["n2"].get(&name).await?, Some(n.into()));
            gets.push(sim.elapsed() - began);
        }
        for (which, taken) in [("puts", puts), ("gets", gets)] {
            let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(taken.clone(), percent));
            println!("{which} beside three slow nodes: p50 {p50:?} p90 {p90:?} p99 {p99:?}");
            assert!(p99 < 7 * SECOND / 2, "{which}: p99 {p99:?}");
        }
        cluster.heal();
        cluster.check().await
    });
}

#[test]
fn the_last_writer_wins_whatever_the_clocks_show() {
    Sim::seeded(23).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        cluster["n2"].set_clock_by(3_600);
        cluster["n3"].set_clock_by(-3_600);
        for (n, writer) in ["n2", "n3", "n4", "n3", "n2", "n3"].into_iter().enumerate() {
            cluster[writer].put("k", n as i64).await?;
            assert_eq!(cluster["n9"].get("k").await?, Some(Value::Int(n as i64)), "after {writer}");
        }
        sim.run_for(SECOND).await;
        cluster.check().await
    });
}

#[test]
fn a_clock_that_is_set_forward_ends_lifetimes_on_its_own_node_alone() {
    Sim::seeded(24).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        cluster["n1"].put("k", "v").await?;
        sim.run_for(SECOND).await;
        let holder = cluster.holders_of("k")[0];
        holder.set_clock_by(2 * 24 * 3_600);
        assert!(!holder.holds(&Key::of("k")));
        assert_eq!(cluster.holders_of("k").len(), 7);
        sim.run_for(MINUTE).await;
        assert_eq!(cluster["n5"].get("k").await?, Some("v".into()));
        cluster.check().await
    });
}

#[test]
fn nodes_whose_disks_are_full_or_broken_are_done_without_until_they_are_mended() {
    Sim::seeded(25).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        cluster["n1"].put("before", "v").await?;
        for (node, fault) in [("n4", DiskFault::Full), ("n5", DiskFault::Full), ("n6", DiskFault::Io)] {
            cluster[node].fail_disk(Some(fault));
        }
        for n in 1..=20 {
            let report = cluster["n1"].put(&format!("during {n}"), n).await?;
            let stored = report.stored.iter().any(|(by, _)| by.id == cluster["n4"].contact().id);
            assert!(!stored && report.stored.len() >= usize::from(report.quorum), "{report:?}");
        }
        cluster.check().await?;
        for node in ["n4", "n5", "n6"] {
            cluster[node].fail_disk(None);
        }
        sim.run_for(MINUTE).await;
        let stored = async |n: u32| {
            let report = cluster["n1"].put(&format!("after {n}"), 1).await?;
            Ok::<_, Failure>(report.stored.iter().any(|(by, _)| by.id == cluster["n4"].contact().id))
        };
        let mut after = 0;
        for n in 1..=20 {
            after += usize::from(stored(n).await?);
        }
        assert!(after > 0, "the disk was mended and the node stores nothing");
        cluster.check().await
    });
}

#[test]
fn a_node_that_lost_its_disk_is_given_its_objects_again() {
    Sim::seeded(26).run(async |sim| {
        let cluster = Cluster::start(&sim, 12).await;
        for n in 1..=20 {
            cluster["n1"].put(&format!("key {n}"), n).await?;
        }
        sim.run_for(SECOND).await;
        let node = cluster.holders_of("key 1")[3];
        node.crash_without_disk().await;
        assert!(!node.holds(&Key::of("key 1")));
        node.restart().await;
        sim.run_for(144 * MINUTE).await;
        assert!(node.holds(&Key::of("key 1")));
        cluster.check_settled().await
    });
}

#[test]
fn one_seed_gives_one_trace_and_another_seed_another() {
    let traces = [11, 12].map(|seed| {
        let (first, again) = (trace_of(seed), trace_of(seed));
        assert_eq!(first, again, "seed {seed}");
        println!("seed {seed}: trace {:016x} of {} events", first.0, first.1);
        first.0
    });
    assert_ne!(traces[0], traces[1]);
}

fn trace_of(seed: u64) -> (u64, u64) {
    Sim::exactly(seed).run(async |sim| {
        Mixture::short().tell(&sim).await?;
        let trace = sim.wire().trace();
        Ok((trace.hash(), trace.events()))
    })
}

#[test]
fn a_panic_in_any_actor_fails_the_story() {
    use actix::prelude::*;

    struct Clumsy;
    impl Actor for Clumsy {
        type Context = Context<Self>;
        fn started(&mut self, _: &mut Self::Context) {
            panic!("it fell");
        }
    }
    let told = std::panic::catch_unwind(|| {
        Sim::exactly(1).run(async |sim| {
            Clumsy.start();
            sim.run_for(SECOND).await;
            Ok::<_, Failure>(())
        });
    });
    let why = told.expect_err("the story failed");
    let why = why.downcast_ref::<String>().expect("a panic has words");
    assert!(why.contains("an actor panicked") && why.contains("it fell"), "{why}");
}
