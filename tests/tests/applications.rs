//! Applications that bring nodes together, or watch them, in a swarm; `applications_privacy.rs` has those that
//! guard a value, and `applications_signed.rs` those that address any key.

use std::{net::SocketAddr, time::Duration};

use comet_apps::{Announce, AnnounceEvent, Lifetimes, Monitor, Tracker};
use comet_routing::{Key, Prefix};
use comet_tests::harness::{Cluster, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Objects that watch look every ten minutes; eleven have passed once all replicas have.
const TICK: Duration = Duration::from_secs(660);

fn peer(n: u8) -> (SocketAddr, impl Fn(AnnounceEvent) -> Announce) {
    let address = SocketAddr::from(([203, 0, 113, n], 6_881));
    (address, move |event| Announce::new(event, [n; 20], address, 1_000))
}

#[test]
fn lifetimes_tell_who_was_there_all_along_who_left_and_who_came() {
    Sim::seeded(61).run(async |sim| {
        let mut cluster = Cluster::start(&sim, 12).await;
        let watch = Lifetimes::at(Key::of("watch"));
        watch.create(&cluster["n2"].client()).await?;
        sim.run_for(TICK).await;
        cluster["n7"].crash().await;
        sim.run_for(MINUTE).await;
        let came = cluster.grow().await.contact();
        sim.run_for(2 * TICK).await;
        let seen = watch.read(&cluster["n5"].client()).await?;
        assert_eq!(seen.len(), 13, "{seen:?}");
        let of = |node| seen.iter().find(|seen| seen.node == node).expect("it was seen");
        let (stayed, left, came) = (of(cluster["n5"].contact()), of(cluster["n7"].contact()), of(came));
        assert!(left.last_seconds < came.first_seconds, "{left:?} {came:?}");
        assert!(stayed.first_seconds < came.first_seconds && left.last_seconds < stayed.last_seconds);
        let lifetime_seconds = stayed.last_seconds - stayed.first_seconds;
        assert!((1_200..2_100).contains(&lifetime_seconds), "{stayed:?}");
        cluster.check().await
    });
}

#[test]
fn a_monitor_tells_who_holds_it_who_held_it_and_who_reads_it() {
    Sim::seeded(62).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let watched = Monitor::at(Key::of("watched"));
        watched.create(&cluster["n2"].client(), &"value".into()).await?;
        sim.run_for(SECOND).await;
        let first = cluster.holders_of("watched");
        assert_eq!(first.len(), 8);
        assert_eq!(watched.read(&cluster["n5"].client()).await?, "value".into());
        sim.run_for(TICK).await;
        assert_eq!(cluster.holders_of("watched").len(), 16, "it spreads to twenty nodes");
        let gone = first[3];
        gone.crash().await;
        sim.run_for(2 * TICK).await;
        let report = watched.report(&cluster.live().next().expect("others live").client()).await?;
        assert_eq!(report.hosts.len(), 16);
        let network = Prefix::of(cluster["n5"].contact().addr.ip()).network().to_string();
        assert!(report.accessors.contains_key(&network), "{report:?}");
        let last = |node: &SimNode| report.acknowledged[&node.contact()].1;
        for node in cluster.live() {
            assert!(last(node) > last(gone) + 600, "{} {report:?}", node.name());
        }
        cluster.check().await
    });
}

#[test]
fn peers_that_announce_through_two_nodes_find_each_other() {
    Sim::seeded(63).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let tracker = Tracker::of_torrent(&[7; 20]);
        tracker.create(&cluster["n1"].client(), None).await?;
        let ((a, announce_a), (b, announce_b)) = (peer(1), peer(2));
        let (through_a, through_b) = (cluster["n4"].client(), cluster["n11"].client());
        let first = tracker.announce(&through_a, &announce_a(AnnounceEvent::Started)).await?;
        assert_eq!(
            (first.addresses(), first.interval),
            (vec![], 2 * MINUTE),
            "few peers: it is to come back soon"
        );
        sim.run_for(SECOND).await;
        let met = tracker.announce(&through_b, &announce_b(AnnounceEvent::Started)).await?;
        assert_eq!(met.addresses(), [a]);
        sim.run_for(first.interval).await;
        let met = tracker.announce(&through_a, &announce_a(AnnounceEvent::Regular)).await?;
        assert_eq!(met.addresses(), [b]);
        let counts = tracker.scrape(&cluster["n8"].client()).await?;
        assert_eq!((counts.complete, counts.incomplete), (0, 2));
        cluster.check().await
    });
}

#[test]
fn peers_that_announce_at_different_replicas_find_each_other_within_an_interval() {
    Sim::seeded(64).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let tracker = Tracker::of_torrent(&[8; 20]);
        tracker.create(&cluster["n1"].client(), None).await?;
        sim.run_for(SECOND).await;
        let strangers: Vec<_> = cluster.live().filter(|node| !node.holds(&tracker.key())).collect();
        let (one, other) = (strangers[0], strangers[1]);
        // The second peer's node reaches four replicas, the first peer's node the four others.
        let replicas: Vec<_> = cluster.live().filter(|node| node.holds(&tracker.key())).collect();
        for (from, to) in [(one, &replicas[..4]), (other, &replicas[4..])] {
            for replica in to {
                cluster.cut(from.name(), replica.name());
                cluster.cut(replica.name(), from.name());
            }
        }
        let ((a, announce_a), (b, announce_b)) = (peer(1), peer(2));
        let first = tracker.announce(&one.client(), &announce_a(AnnounceEvent::Started)).await?;
        let second = tracker.announce(&other.client(), &announce_b(AnnounceEvent::Started)).await?;
        assert!(first.addresses().is_empty() && second.interval <= 2 * MINUTE, "{second:?}");
        sim.run_for(2 * MINUTE).await;
        let met = tracker.announce(&one.client(), &announce_a(AnnounceEvent::Regular)).await?;
        assert_eq!(met.addresses(), [b]);
        let met = tracker.announce(&other.client(), &announce_b(AnnounceEvent::Regular)).await?;
        assert_eq!(met.addresses(), [a]);
        cluster.check().await
    });
}
