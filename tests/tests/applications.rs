//! Applications that bring nodes together, or watch them, in a swarm; `applications_privacy.rs` has those that
//! guard a value.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use comet_apps::{
    Announce, AnnounceEvent, Found, Lifetimes, Message, Monitor, News, Publisher, RecursiveGet, Topic,
    Tracker, TreeTopic,
};
use comet_node::config::{ContactPolicy, NodeConfig};
use comet_routing::Key;
use comet_runtime::Value;
use comet_tests::harness::{Cluster, Failure, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Objects that watch look every ten minutes; eleven have passed once all replicas have.
const TICK: Duration = Duration::from_secs(660);

/// Subscribes where it is told to, and keeps what is put at its key.
const INBOX: &str = "function aso:onGet(caller, callbackKey, subscription)
  if subscription then return get(subscription.at, nil, subscription.ask) end
  return self.news
end
function aso:onUpdate(caller, value)
  self.news = value
end";

/// A swarm whose objects may turn to any key.
async fn open_cluster(sim: &Sim, nodes: usize) -> Cluster {
    let mut open = NodeConfig::default();
    open.runtime.contact = ContactPolicy::Open;
    Cluster::start_with(sim, nodes, &open).await
}

/// An inbox with one replica, and the node that it lives on.
struct Inbox<'a> {
    name: String,
    home: &'a SimNode,
}

/// Puts inboxes on different nodes, none of which holds an object at one of these keys.
async fn put_inboxes<'a>(
    cluster: &'a Cluster,
    count: usize,
    away_from: &[Key],
) -> Result<Vec<Inbox<'a>>, Failure> {
    let mut inboxes = Vec::<Inbox<'a>>::new();
    for name in (0..100).map(|n| format!("inbox {n}")) {
        let home = cluster.closest_to(&name, 1)[0];
        let taken = inboxes.iter().any(|inbox| inbox.home.name() == home.name());
        if taken || away_from.iter().any(|key| home.holds(key)) || inboxes.len() == count {
            continue;
        }
        cluster["n1"].put_active(&name, Value::Nil, INBOX, Some(1)).await?;
        inboxes.push(Inbox { name, home });
    }
    assert_eq!(inboxes.len(), count, "there are nodes enough");
    Ok(inboxes)
}

impl Inbox<'_> {
    /// Lets the inbox subscribe, through this node; gives what it was answered.
    async fn subscribe(&self, through: &SimNode, at: Key, ask: Value) -> Result<Value, Failure> {
        let subscription = Value::map([("at".into(), Value::str(at.to_string())), ("ask".into(), ask)]);
        let answer = through.get_with(&self.name, Some(subscription)).await?;
        answer.ok_or_else(|| Failure::new(format!("{} is gone", self.name)))
    }

    /// What was put there last.
    async fn news(&self, through: &SimNode) -> Result<Value, Failure> {
        Ok(through.get(&self.name).await?.unwrap_or(Value::Nil))
    }
}

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
        let ip = |node: &SimNode| node.contact().addr.ip().to_string();
        assert_eq!(report.hosts.len(), 16);
        assert!(report.accessors.contains_key(&ip(&cluster["n5"])), "{report:?}");
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

#[test]
fn a_topic_pushes_to_its_subscribers_and_names_the_one_that_is_down_until_it_is_back() {
    Sim::seeded(65).run(async |sim| {
        let cluster = open_cluster(&sim, 16).await;
        let (topic, key) = (Topic::at(Key::of("news")), Key::of("news"));
        topic.create(&cluster["n1"].client(), Publisher::Anyone).await?;
        sim.run_for(SECOND).await;
        let inboxes = put_inboxes(&cluster, 3, &[key]).await?;
        for (inbox, through) in inboxes.iter().zip(["n4", "n9", "n13"]) {
            // Each contact grants a push: one that fails can be made again.
            for _ in 0..2 {
                let ask = Topic::subscription(HOUR, Some(0));
                let granted = inbox.subscribe(&cluster[through], key, ask).await?;
                assert_eq!(granted.field("granted"), Some(&3_600.into()), "{granted:?}");
            }
        }
        sim.run_for(SECOND).await;
        let (down, up) = (&inboxes[1], [&inboxes[0], &inboxes[2]]);
        down.home.crash().await;
        let publisher = up[0].home;
        assert_eq!(topic.publish(&publisher.client(), "it rains".into()).await?, 1);
        sim.run_for(10 * SECOND).await;
        let message = Message { number: 1, value: "it rains".into() };
        for inbox in up {
            let news = News::decode(&inbox.news(publisher).await?).map(|news| news.messages);
            assert_eq!(news, Some(vec![message.clone()]), "{}", inbox.name);
        }
        let unreached = async |through: &SimNode| {
            let told = topic.status(&through.client()).await?;
            let keys = told.iter().flat_map(|reached| &reached.unreached);
            Ok::<_, Failure>(keys.map(|who| (who.node, who.key)).collect::<BTreeSet<_>>())
        };
        let expected = BTreeSet::from([(down.home.contact(), Key::of(&down.name))]);
        assert_eq!(unreached(publisher).await?, expected);

        down.home.restart().await;
        sim.run_for(2 * MINUTE).await;
        let news = News::decode(&down.news(publisher).await?).map(|news| news.messages);
        assert_eq!(news, Some(vec![message]), "the topic tried again");
        assert_eq!(unreached(publisher).await?, BTreeSet::new());
        cluster.check().await
    });
}

#[test]
fn a_value_goes_down_a_tree_of_topics_to_subscribers_of_all_branches() {
    Sim::seeded(66).run(async |sim| {
        let cluster = open_cluster(&sim, 20).await;
        let topic = TreeTopic::at(Key::of("news"));
        for report in topic.create(&cluster["n1"].client()).await? {
            assert!(report.stored.len() >= usize::from(report.quorum), "{report:?}");
        }
        let inboxes = put_inboxes(&cluster, 10, &[]).await?;
        for (n, inbox) in inboxes.iter().enumerate() {
            let ask = TreeTopic::subscription(HOUR, &format!("word {n}"));
            let granted = inbox.subscribe(&cluster.nodes()[2 * n], topic.branch(n), ask).await?;
            assert_eq!(granted.field("granted"), Some(&3_600.into()), "{granted:?}");
        }
        sim.run_for(5 * SECOND).await;
        topic.publish(&cluster["n3"].client(), &"it rains".into()).await?;
        sim.run_for(3 * MINUTE).await;
        for (n, inbox) in inboxes.iter().enumerate() {
            let news = inbox.news(&cluster["n6"]).await?;
            assert_eq!(news.field("value"), Some(&"it rains".into()), "{}: {news:?}", inbox.name);
            let word = format!("word {n}");
            assert_eq!(news.field("token"), Some(&word.as_str().into()), "{}", inbox.name);
        }
        assert_eq!(topic.newest(&cluster["n17"].client()).await?, Some("it rains".into()));
        cluster.check().await
    });
}

#[test]
fn a_query_travels_to_its_target_and_its_answer_comes_home() {
    Sim::seeded(67).run(async |sim| {
        let cluster = open_cluster(&sim, 16).await;
        let treasure = RecursiveGet::at(Key::of("treasure"));
        treasure.create_target(&cluster["n2"].client(), &"gold".into()).await?;
        sim.run_for(SECOND).await;
        // No home of the query is the node nearest to the treasure, so it has to travel.
        let nearest = cluster.closest_to("treasure", 1)[0].name();
        let is_far = |name: &String| !cluster.closest_to(name, 8).iter().any(|node| node.name() == nearest);
        let far = (0..100).map(|n| format!("query {n}")).find(is_far).expect("half of them are");
        let query = RecursiveGet::at(Key::of(&far));
        query.send(&cluster["n9"].client(), Key::of("treasure")).await?;
        sim.run_for(10 * SECOND).await;
        let found = query.answer(&cluster["n13"].client()).await?;
        assert_eq!(found, Some(Found { value: "gold".into(), hops: 1 }));
        // A query for what is not there has no answer, and ends.
        let vain = RecursiveGet::at(Key::of("vain query"));
        vain.send(&cluster["n9"].client(), Key::of("nothing")).await?;
        sim.run_for(10 * SECOND).await;
        assert_eq!(vain.answer(&cluster["n13"].client()).await?, None);
        sim.run_for(15 * MINUTE).await;
        assert!(cluster.holders_of("vain query").is_empty() && cluster.holders_of(&far).is_empty());
        cluster.check().await
    });
}
