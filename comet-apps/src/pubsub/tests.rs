//! Topics on the fake swarm.

use comet_runtime::testing::{TestConfig, TestSwarm};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

async fn topic(seed: u64) -> (TestSwarm, Topic) {
    let swarm = TestSwarm::seeded(seed);
    let topic = Topic::at(Key::of("news"));
    topic.create(&swarm, Publisher::Anyone).await.expect("it is stored");
    (swarm, topic)
}

fn inbox(n: usize) -> Key {
    Key::of(format!("inbox {n}"))
}

/// Subscribes as a client of node `n` modulo 8, with a callback key of its own.
fn subscribe(swarm: &TestSwarm, n: usize, after: Option<i64>) -> Result<News, Value> {
    let payload = Some(Topic::subscription(HOUR, after));
    let answer = swarm.get_calling_back(n % 8, Key::of("news"), payload, Some(inbox(n)));
    let answer = answer.expect("the topic answers");
    News::decode(&answer).ok_or(answer)
}

/// Pushes that have left, whether or not they arrived.
fn pushes(swarm: &TestSwarm) -> usize {
    swarm.sent("news").len()
}

fn messages(values: &[(i64, &str)]) -> Vec<Message> {
    values.iter().map(|&(number, value)| Message { number, value: value.into() }).collect()
}

fn refused(reason: &str) -> Value {
    Value::map([("refused".into(), reason.into())])
}

async fn unreached(swarm: &TestSwarm, topic: Topic) -> usize {
    topic.status(swarm).await.expect("it answers").iter().map(|replica| replica.unreached.len()).sum()
}

#[actix_rt::test]
async fn what_is_published_is_pushed_to_a_subscriber_and_counts_as_delivered() {
    let (swarm, topic) = topic(1).await;
    assert_eq!(subscribe(&swarm, 1, None).expect("it is noted").granted_seconds, Some(3_600));
    assert_eq!(topic.publish(&swarm, "hello".into()).await, Ok(1));
    let pushed = swarm.sent("news");
    let [comet_runtime::testing::SentRequest { op: comet_runtime::Op::Put { key, data, .. }, .. }] =
        &pushed[..]
    else {
        panic!("not one push: {pushed:?}")
    };
    assert_eq!(*key, inbox(1));
    assert_eq!(News::decode(data).expect("it is news").messages, messages(&[(1, "hello")]));
    assert_eq!(unreached(&swarm, topic).await, 0);
    assert_eq!(swarm.get("news"), Ok("hello".into()), "a plain read gives the newest");
}

#[actix_rt::test]
async fn a_contact_is_good_for_one_push_and_renewing_brings_what_was_missed() {
    let (swarm, topic) = topic(2).await;
    subscribe(&swarm, 1, None).expect("it is noted");
    for value in ["a", "b", "c"] {
        topic.publish(&swarm, value.into()).await.expect("it is published");
    }
    assert_eq!(pushes(&swarm), 1);
    assert_eq!(unreached(&swarm, topic).await, 1, "it has a and lacks b and c");
    let news = subscribe(&swarm, 1, Some(1)).expect("it is renewed");
    assert_eq!((news.last, news.messages, news.forgotten), (3, messages(&[(2, "b"), (3, "c")]), 0));
    subscribe(&swarm, 1, Some(3)).expect("it is renewed");
    assert_eq!(unreached(&swarm, topic).await, 0);
    topic.publish(&swarm, "d".into()).await.expect("it is published");
    assert_eq!(pushes(&swarm), 2);
}

#[actix_rt::test]
async fn a_subscriber_that_does_not_accept_is_tried_again_while_rights_last_and_then_named() {
    let (swarm, topic) = topic(3).await;
    let nearest = swarm.holders("news");
    let away = (0..8).find(|node| !nearest.contains(node)).expect("five nodes hold nothing");
    subscribe(&swarm, away, None).expect("it is noted");
    subscribe(&swarm, away, None).expect("a second contact, a second right");
    swarm.silence(away);
    topic.publish(&swarm, "hello".into()).await.expect("it is published");
    let status = topic.status(&swarm).await.expect("it answers");
    let node = status[0].unreached[0].node;
    let expected = Unreached { node, key: inbox(away), after: 0, rights: 1 };
    assert_eq!(status[0].unreached, [expected]);
    assert_eq!(node.id, swarm.node(away).id);
    swarm.wake(away);
    swarm.advance(MINUTE);
    assert_eq!((pushes(&swarm), unreached(&swarm, topic).await), (2, 0));
}

#[actix_rt::test]
async fn more_subscribers_than_one_cause_may_reach_are_reached_by_ticks() {
    let (swarm, topic) = topic(4).await;
    for n in 0..60 {
        subscribe(&swarm, n, None).expect("it is noted");
    }
    topic.publish(&swarm, "hello".into()).await.expect("it is published");
    assert_eq!(pushes(&swarm), 16);
    swarm.advance(2 * MINUTE);
    assert!(unreached(&swarm, topic).await > 0);
    swarm.advance(2 * MINUTE);
    let left = topic.status(&swarm).await.expect("it answers").remove(0).unreached;
    assert!(left.iter().all(|subscriber| subscriber.rights == 0), "{left:?}");
    for n in 0..60 {
        subscribe(&swarm, n, Some(1)).expect("it is renewed");
    }
    assert_eq!(unreached(&swarm, topic).await, 0);
}

#[actix_rt::test]
async fn a_subscription_ends() {
    let (swarm, topic) = topic(5).await;
    subscribe(&swarm, 1, None).expect("it is noted");
    swarm.advance(HOUR);
    topic.publish(&swarm, "hello".into()).await.expect("it is published");
    assert_eq!(pushes(&swarm), 0);
    assert_eq!(topic.status(&swarm).await.expect("it answers")[0].subscribers, 0);
}

#[actix_rt::test]
async fn who_comes_too_late_is_told_how_much_was_forgotten() {
    let (swarm, topic) = topic(6).await;
    for n in 1..=20 {
        topic.publish(&swarm, Value::Int(n)).await.expect("it is published");
    }
    let news = topic.news(&swarm, Some(0)).await.expect("it answers");
    assert_eq!((news.last, news.messages.len(), news.forgotten), (20, 16, 4));
    assert_eq!(news.messages[0], Message { number: 5, value: 5.into() });
}

#[actix_rt::test]
async fn replicas_that_missed_a_message_are_brought_together_by_the_next_number() {
    let (swarm, topic) = topic(7).await;
    let away = swarm.holders("news")[2];
    swarm.silence(away);
    topic.publish(&swarm, "a".into()).await.expect("it is published");
    swarm.wake(away);
    topic.publish(&swarm, "b".into()).await.expect("it is published");
    let last: Vec<_> =
        topic.status(&swarm).await.expect("it answers").iter().map(|replica| replica.last).collect();
    assert_eq!(last, [2, 2, 2]);
}

#[actix_rt::test]
async fn too_many_subscribers_are_told_so_and_those_there_can_renew() {
    let config = TestConfig { replicas: 1, ..TestConfig::default() };
    let swarm = TestSwarm::new(8, config);
    let topic = Topic::at(Key::of("news"));
    topic.create(&swarm, Publisher::Anyone).await.expect("it is stored");
    for n in 0..200 {
        subscribe(&swarm, n, None).expect("it is noted");
    }
    assert_eq!(subscribe(&swarm, 200, None), Err(refused("there are too many subscribers")));
    assert!(subscribe(&swarm, 199, None).is_ok());
    for n in 0..16 {
        let large = Value::str(vec![n; 1_500]);
        topic.publish(&swarm, large).await.expect("the largest topic is within every budget");
    }
    let full = topic.news(&swarm, Some(0)).await.expect("it answers");
    assert_eq!(full.messages.len(), 16);
}

#[actix_rt::test]
async fn only_the_owner_publishes_where_the_topic_says_so() {
    let swarm = TestSwarm::seeded(9);
    let topic = Topic::at(Key::of("news"));
    topic.create(&swarm, Publisher::Owner).await.expect("it is stored");
    let refused = Refusal::Refused("only the owner publishes here".into());
    assert_eq!(topic.publish(&swarm, "x".into()).await, Err(AppError::Refused(refused)));
    assert_eq!(swarm.get("news"), Ok(Value::Nil));
}

#[actix_rt::test]
async fn bad_questions_and_messages_have_answers() {
    let (swarm, _) = topic(10).await;
    let field = |name: &str, value: Value| Value::map([(name.into(), value)]);
    for (payload, reason) in [
        ("hello".into(), "ask with a map"),
        (field("after", "x".into()), "after must be the number of a message"),
        (field("after", (-1).into()), "after must be the number of a message"),
        (field("subscribe", 60.into()), "a subscription needs a callback key"),
    ] {
        assert_eq!(swarm.get_with("news", payload), Ok(refused(reason)));
    }
    let never = field("subscribe", 0.into());
    let answer = swarm.get_calling_back(1, Key::of("news"), Some(never), Some(inbox(1)));
    assert_eq!(answer, Ok(refused("subscribe must say for how many seconds")));
    let refusal = |reason: &str| Err(Refusal::Refused(reason.into()));
    assert_eq!(swarm.update("news", Value::Nil), refusal("there is nothing to publish"));
    assert_eq!(swarm.update("news", Value::str([0; 1_600])), refusal("a message may have 1.5 KiB"));
    assert_eq!(swarm.put("news", Value::Nil, APP.source), refusal("the topic is there already"));
    assert_eq!(swarm.put("other", "x", APP.source), refusal("publisher must be anyone or owner"));
    let first = with_settings("first".into(), []);
    assert_eq!(swarm.put("third", first, APP.source), Ok(()));
    assert_eq!(swarm.get("third"), Ok("first".into()));
}
