//! Hierarchical publish and subscribe (paper, section 5): a root and five branches at its child keys. A
//! branch subscribes once to the root for all of its own subscribers, and passes each value on.
//!
//! Branches are chosen by the subscriber's number, so that subscribers spread over them. Only the newest
//! value matters here: a subscriber that could not be reached is tried again at each tick, once a minute,
//! with whatever is newest by then. What one publication causes is 16 messages over all objects, so the
//! root's branches hear at once and most of their subscribers within the next ticks. A branch believes only
//! what carries the word that it gave to its parent when it subscribed.
//!
//! The objects address keys other than their own, which the contact rule permits to those that a trusted
//! publisher signed ([`TreeTopic::signed`]), or to all where the operator sets `runtime.contact = "open"`.
//! Elsewhere a branch takes subscribers and hears nothing from the root.

use std::time::Duration;

use comet_routing::{CHILDREN_MAX, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};
use comet_store::Publication;

use crate::{
    App, AppError, Setting,
    client::{seconds_of, update},
    read_if_any, store_published,
};

pub(crate) const APP: App = App {
    name: "tree-pubsub",
    summary: "passes the newest value down a tree of topics (to be signed: it addresses any key)",
    source: include_str!("../aso/tree_pubsub.lua"),
    settings: &[Setting {
        name: "parent",
        meaning: "key of the topic above, 64 hexadecimal digits, or its name",
        default: Some("none: the root"),
    }],
};

/// A topic with branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeTopic {
    root: Key,
    publication: Option<Publication>,
}

impl TreeTopic {
    /// The topic whose root is at this key.
    pub fn at(root: Key) -> Self {
        Self { root, publication: None }
    }

    /// The same, put with the signature of a publisher ([`App::sign`]) that the operators trust.
    pub fn signed(self, publication: Publication) -> Self {
        Self { publication: Some(publication), ..self }
    }

    /// The branch that subscriber `n` belongs to.
    pub fn branch(&self, n: usize) -> Key {
        let child = u8::try_from(n % usize::from(CHILDREN_MAX)).unwrap_or(0) + 1;
        self.root.child(child).expect("it is from 1 to the number of child keys")
    }

    /// Stores the root and its branches; returns what storing each achieved, the root first.
    pub async fn create(&self, dht: &impl Dht) -> Result<Vec<PutReport>, Refusal> {
        let store = async |key, value: Value| {
            store_published(dht, &APP, self.publication.clone(), key, &value, None).await
        };
        let mut reports = vec![store(self.root, Value::map([])).await?];
        for n in 0..usize::from(CHILDREN_MAX) {
            let parent = Value::map([("parent".into(), Value::str(self.root.to_string()))]);
            reports.push(store(self.branch(n), parent).await?);
        }
        Ok(reports)
    }

    /// Publishes a value.
    pub async fn publish(&self, dht: &impl Dht, value: &Value) -> Result<PutReport, Refusal> {
        update(dht, self.root, value).await
    }

    /// The newest value as the root knows it, if there is one.
    pub async fn newest(&self, dht: &impl Dht) -> Result<Option<Value>, AppError> {
        read_if_any(dht, self.root).await
    }

    /// The payload of a get that subscribes to a [branch](Self::branch); with it goes a callback key. Pushes bring
    /// `token` back, so that the subscriber knows whom they come from.
    pub fn subscription(lifetime: Duration, token: &str) -> Value {
        Value::map([("subscribe".into(), seconds_of(lifetime)), ("token".into(), token.into())])
    }
}

#[cfg(test)]
mod tests {
    use comet_runtime::{
        Op, Reach,
        testing::{TestConfig, TestSwarm},
    };

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3_600);

    async fn open(seed: u64) -> (TestSwarm, TreeTopic) {
        let config = TestConfig { reach: Reach::Open, replicas: 1, nodes: 12, ..TestConfig::default() };
        let swarm = TestSwarm::new(seed, config);
        let topic = TreeTopic::at(Key::of("news"));
        topic.create(&swarm).await.expect("it is stored");
        (swarm, topic)
    }

    fn inbox(n: usize) -> Key {
        Key::of(format!("inbox {n}"))
    }

    fn subscribe(swarm: &TestSwarm, topic: &TreeTopic, n: usize) -> Result<Value, Refusal> {
        let payload = Some(TreeTopic::subscription(HOUR, "mine"));
        swarm.get_calling_back(n % 12, topic.branch(n), payload, Some(inbox(n)))
    }

    async fn has_arrived(swarm: &TestSwarm, n: usize) -> bool {
        swarm.inspect(inbox(n)).await.is_ok()
    }

    #[actix_rt::test]
    async fn a_value_goes_down_the_tree_and_each_branch_subscribes_once() {
        let (swarm, topic) = open(1).await;
        for n in 0..40 {
            let granted = subscribe(&swarm, &topic, n).expect("the branch answers");
            assert_eq!(granted.field("granted"), Some(&3_600.into()), "{granted:?}");
        }
        topic.publish(&swarm, &"hello".into()).await.expect("it is published");
        let to_branches = swarm.sent("news").iter().filter(|sent| matches!(sent.op, Op::Put { .. })).count();
        assert_eq!(to_branches, 5);
        swarm.advance(2 * MINUTE);
        topic.publish(&swarm, &"again".into()).await.expect("it is published");
        swarm.advance(2 * MINUTE);
        assert_eq!(topic.newest(&swarm).await, Ok(Some("again".into())));
        for n in 0..40 {
            assert!(has_arrived(&swarm, n).await, "subscriber {n}");
        }
        for branch in 0..5 {
            assert_eq!(swarm.get_from(0, topic.branch(branch), None), Ok("again".into()));
        }
    }

    #[actix_rt::test]
    async fn a_branch_subscribes_once_for_all_and_again_before_that_ends() {
        let (swarm, _) = open(6).await;
        let parent = Value::map([("parent".into(), Value::str(Key::of("news").to_string()))]);
        swarm.put("branch", parent, APP.source).expect("it is stored");
        let day = || Some(TreeTopic::subscription(24 * HOUR, "mine"));
        for n in 0..10 {
            let answer = swarm.get_calling_back(n, Key::of("branch"), day(), Some(inbox(n)));
            answer.expect("the branch answers");
        }
        let asked = || swarm.sent("branch").iter().filter(|sent| matches!(sent.op, Op::Get { .. })).count();
        assert_eq!(asked(), 1);
        swarm.advance(HOUR - MINUTE);
        assert_eq!(asked(), 2);
    }

    #[actix_rt::test]
    async fn a_late_subscriber_is_told_the_newest_value_at_once() {
        let (swarm, topic) = open(2).await;
        subscribe(&swarm, &topic, 0).expect("the branch answers");
        topic.publish(&swarm, &"hello".into()).await.expect("it is published");
        let late = subscribe(&swarm, &topic, 5).expect("the branch answers");
        assert_eq!(late.field("value"), Some(&"hello".into()));
    }

    #[actix_rt::test]
    async fn nobody_but_the_parent_publishes_at_a_branch() {
        let (swarm, topic) = open(3).await;
        subscribe(&swarm, &topic, 0).expect("the branch answers");
        for forged in
            ["x".into(), Value::map([("token".into(), "guess".into()), ("number".into(), 9.into())])]
        {
            let put = swarm.put_from(0, topic.branch(0), &forged, None);
            assert_eq!(put, Err(Refusal::Refused("values are published at the root".into())));
        }
        let replaced = swarm.put("news", Value::map([]), APP.source);
        assert_eq!(replaced, Err(Refusal::Refused("the topic is there already".into())));
    }

    #[actix_rt::test]
    async fn too_many_subscribers_and_bad_questions_have_answers() {
        let (swarm, topic) = open(4).await;
        let refused = |reason: &str| Ok(Value::map([("refused".into(), reason.into())]));
        for n in 0..200 {
            subscribe(&swarm, &topic, 5 * n).expect("the branch answers");
        }
        assert_eq!(subscribe(&swarm, &topic, 1_000), refused("there are too many subscribers"));
        let ask = |payload| swarm.get_from(0, topic.branch(0), Some(payload));
        assert_eq!(ask("x".into()), refused("subscribe must say for how many seconds"));
        assert_eq!(ask(TreeTopic::subscription(HOUR, "")), refused("a subscription needs a callback key"));
        let odd = swarm.put("odd", 3, APP.source);
        let reason = "parent must be the key of the topic above, or absent at the root";
        assert_eq!(odd, Err(Refusal::Refused(reason.into())));
    }

    #[actix_rt::test]
    async fn under_the_strict_rule_a_branch_hears_nothing() {
        let swarm = TestSwarm::seeded(5);
        let topic = TreeTopic::at(Key::of("news"));
        topic.create(&swarm).await.expect("it is stored");
        let payload = Some(TreeTopic::subscription(HOUR, ""));
        swarm.get_calling_back(1, topic.branch(0), payload, Some(inbox(0))).expect("the branch answers");
        topic.publish(&swarm, &"hello".into()).await.expect("it is published");
        assert_eq!(swarm.get_from(0, topic.branch(0), None), Ok(Value::Nil));
        assert!(!has_arrived(&swarm, 0).await);
    }
}
