//! Applications that address other keys, in a swarm whose operators trust the publisher who signed them, and in
//! one whose operators trust nobody.

use std::{collections::BTreeSet, time::Duration};

use comet_apps::{Found, Message, News, Publisher, RecursiveGet, Topic, TreeTopic, find};
use comet_node::{config::NodeConfig, identity::Identity, key_text::hex};
use comet_routing::Key;
use comet_runtime::{
    Failure as HandlerFailure, Refusal, Value,
    dht::{Dht, Expected, Put},
};
use comet_store::{Code, Publication};
use comet_tests::harness::{Cluster, Failure, Sim, SimNode};

/// The network that a node belongs to unless it is told otherwise.
const NETWORK: &str = "comet";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// Subscribes where it is told to, and keeps what is put at its key.
const INBOX: &str = "function aso:onGet(caller, callbackKey, subscription)
  if subscription then return get(subscription.at, nil, subscription.ask) end
  return self.news
end
function aso:onUpdate(caller, value)
  self.news = value
end";

fn publisher() -> Identity {
    Identity::from_seed([7; 32])
}

/// The publisher's signature under an application.
fn published(app: &str) -> Publication {
    find(app).expect("it ships with Comet").sign(publisher().key_pair(), NETWORK)
}

/// A swarm whose operators trust the publisher; other objects keep to the strict rule.
async fn trusting_cluster(sim: &Sim, nodes: usize) -> Cluster {
    let mut config = NodeConfig::default();
    config.runtime.publishers = vec![hex(publisher().public_key())];
    Cluster::start_with(sim, nodes, &config).await
}

/// A put of an inbox with one replica.
fn signed_inbox(name: &str) -> Put {
    let code = Code::new(INBOX);
    Put {
        key: Key::of(name),
        data: Value::Nil.encode(),
        publication: Some(Publication::sign(publisher().key_pair(), NETWORK, &code.hash)),
        code: Some(code),
        ttl: None,
        replicas: Some(1),
        owner: None,
        expected: Expected::Any,
        deadline: None,
    }
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
        cluster["n1"].client().put(signed_inbox(&name)).await?;
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

fn assert_untrusted<T: std::fmt::Debug>(outcome: Result<T, Refusal>) {
    let Err(Refusal::HandlerFailed { failure: HandlerFailure::Error(text), .. }) = outcome else {
        panic!("it was not refused: {outcome:?}")
    };
    assert!(text.contains("not signed by a publisher that this node trusts"), "{text}");
}

#[test]
fn a_topic_pushes_to_its_subscribers_and_names_the_one_that_is_down_until_it_is_back() {
    Sim::seeded(65).run(async |sim| {
        let cluster = trusting_cluster(&sim, 16).await;
        let (topic, key) = (Topic::at(Key::of("news")), Key::of("news"));
        topic.create(&cluster["n1"].client(), Publisher::Anyone).await?;
        sim.run_for(SECOND).await;
        let inboxes = put_inboxes(&cluster, 3, &[key]).await?;
        for (inbox, through) in inboxes.iter().zip(["n4", "n9", "n13"]) {
            // Each contact grants a push: those that fail can be made again.
            for _ in 0..4 {
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
        // The put leaves each replica two messages; the third subscriber hears at the next tick.
        sim.run_for(MINUTE + 10 * SECOND).await;
        let message = Message { number: 1, value: "it rains".into() };
        for inbox in up {
            let news = News::decode(&inbox.news(publisher).await?).map(|news| news.messages);
            assert_eq!(news, Some(vec![message.clone()]), "{}", inbox.name);
        }
        let unreached = async |through: &SimNode| {
            let told = topic.status(&through.client()).await?;
            let keys = told.iter().flat_map(|reached| &reached.unreached);
            Ok::<_, Failure>(keys.map(|who| (who.node.id, who.key)).collect::<BTreeSet<_>>())
        };
        let expected = BTreeSet::from([(down.home.contact().id, Key::of(&down.name))]);
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
fn a_value_goes_down_a_signed_tree_of_topics_to_subscribers_of_all_branches() {
    Sim::seeded(66).run(async |sim| {
        let cluster = trusting_cluster(&sim, 20).await;
        let topic = TreeTopic::at(Key::of("news")).signed(published("tree-pubsub"));
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
        for place in [topic.clone(), TreeTopic::at(topic.branch(0))] {
            assert_eq!(place.newest(&cluster["n17"].client()).await?, Some("it rains".into()));
        }
        cluster.check().await
    });
}

#[test]
fn a_signed_query_travels_to_its_target_and_its_answer_comes_home() {
    Sim::seeded(67).run(async |sim| {
        let cluster = trusting_cluster(&sim, 16).await;
        let treasure = RecursiveGet::at(Key::of("treasure")).signed(published("recursive-get"));
        treasure.create_target(&cluster["n2"].client(), &"gold".into()).await?;
        sim.run_for(SECOND).await;
        // No home of the query is the node nearest to the treasure, so it has to travel.
        let nearest = cluster.closest_to("treasure", 1)[0].name();
        let is_far = |name: &String| !cluster.closest_to(name, 8).iter().any(|node| node.name() == nearest);
        let far = (0..100).map(|n| format!("query {n}")).find(is_far).expect("half of them are");
        let query = RecursiveGet::at(Key::of(&far)).signed(published("recursive-get"));
        query.send(&cluster["n9"].client(), Key::of("treasure")).await?;
        sim.run_for(10 * SECOND).await;
        let found = query.answer(&cluster["n13"].client()).await?;
        assert_eq!(found, Some(Found { value: "gold".into(), hops: 1 }));
        // A query for what is not there has no answer, and ends.
        let vain = RecursiveGet::at(Key::of("vain query")).signed(published("recursive-get"));
        vain.send(&cluster["n9"].client(), Key::of("nothing")).await?;
        sim.run_for(10 * SECOND).await;
        assert_eq!(vain.answer(&cluster["n13"].client()).await?, None);
        sim.run_for(15 * MINUTE).await;
        assert!(cluster.holders_of("vain query").is_empty() && cluster.holders_of(&far).is_empty());
        cluster.check().await
    });
}

#[test]
fn where_their_publisher_is_not_trusted_queries_do_not_leave_and_trees_do_not_grow() {
    Sim::seeded(68).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let treasure = RecursiveGet::at(Key::of("treasure")).signed(published("recursive-get"));
        treasure.create_target(&cluster["n2"].client(), &"gold".into()).await?;
        let query = RecursiveGet::at(Key::of("query")).signed(published("recursive-get"));
        assert_untrusted(query.send(&cluster["n9"].client(), Key::of("treasure")).await);
        assert!(cluster.holders_of("query").is_empty());

        let topic = TreeTopic::at(Key::of("news")).signed(published("tree-pubsub"));
        topic.create(&cluster["n1"].client()).await?;
        sim.run_for(SECOND).await;
        for inbox in put_inboxes(&cluster, 2, &[]).await? {
            let ask = Value::map([
                ("at".into(), Value::str(topic.branch(0).to_string())),
                ("ask".into(), TreeTopic::subscription(HOUR, "word")),
            ]);
            assert_untrusted(cluster["n5"].get_with(&inbox.name, Some(ask)).await);
        }
        topic.publish(&cluster["n3"].client(), &"it rains".into()).await?;
        sim.run_for(3 * MINUTE).await;
        let branch = TreeTopic::at(topic.branch(0));
        assert_eq!(branch.newest(&cluster["n6"].client()).await?, None);
        cluster.check().await
    });
}
