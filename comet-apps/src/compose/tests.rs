use std::time::Duration;

use comet_runtime::testing::{TestConfig, TestSwarm};

use super::*;
use crate::{
    AccessLog, Act, AppError, Challenge, access_log, client::declined, counter, flexible_timeout, one_time,
    one_time_fast, password, replication,
};

const TIMEOUT: &App = &flexible_timeout::APP;
const PASSWORD: &App = &password::APP;
const LOG: &App = &access_log::APP;

fn name() -> Key {
    Key::of("diary")
}

/// The settings of a password "open sesame" and ninety seconds.
fn locked() -> [(&'static str, Value); 3] {
    let verifier = crate::client::sha256("pepper:open sesame");
    [("seconds", Value::Int(90)), ("salt", "pepper".into()), ("verifier", verifier.as_str().into())]
}

fn read(swarm: &TestSwarm, password: &str) -> Result<Value, Refusal> {
    let challenge = Challenge::read(&swarm.get("diary")?).expect("a challenge");
    swarm.get_with("diary", challenge.payload(&name(), swarm.node(0).id, password))
}

/// What was noted of each read, seconds after the beginning.
async fn reads(swarm: &TestSwarm) -> Vec<i64> {
    let log = AccessLog::at(name()).log(swarm, None).await.expect("anyone may");
    let start = log[0].at_seconds;
    log.iter().filter(|entry| entry.act == Act::Read).map(|entry| entry.at_seconds - start).collect()
}

#[actix_rt::test]
async fn timeout_then_log_then_password_notes_every_attempt_while_the_value_lives() {
    let swarm = TestSwarm::seeded(1);
    let object = compose(&[TIMEOUT, LOG, PASSWORD]).expect("they go together");
    object.create(&swarm, name(), "dear".into(), locked()).await.expect("it is stored");
    swarm.advance(Duration::from_secs(1));
    assert_eq!(read(&swarm, "open sesame"), Ok("dear".into()));
    swarm.advance(Duration::from_secs(1));
    let wrong = read(&swarm, "open barley").expect("an answer");
    assert_eq!(declined(&wrong), Some("the password is wrong".into()));
    assert_eq!(reads(&swarm).await, [1, 2], "once for challenge and answer in the same second");
    swarm.advance(Duration::from_secs(88));
    assert_eq!(swarm.get("diary"), Ok(Value::Nil), "the timeout is asked before the others");
    swarm.advance(Duration::from_secs(60));
    assert!(swarm.holders("diary").is_empty(), "and deletes it for all");
}

#[actix_rt::test]
async fn timeout_then_password_then_log_notes_only_those_who_knew_the_password() {
    let swarm = TestSwarm::seeded(2);
    let object = compose(&[TIMEOUT, PASSWORD, LOG]).expect("they go together");
    object.create(&swarm, name(), "dear".into(), locked()).await.expect("it is stored");
    swarm.advance(Duration::from_secs(1));
    read(&swarm, "open barley").expect("an answer");
    swarm.advance(Duration::from_secs(1));
    assert_eq!(read(&swarm, "open sesame"), Ok("dear".into()));
    let log = AccessLog::at(name()).log(&swarm, None).await;
    assert_eq!(log, Err(AppError::Declined("a password is needed".into())), "the log is behind it as well");
    let challenge = Challenge::read(&swarm.get("diary").expect("an answer")).expect("a challenge");
    let Value::Map(mut payload) = challenge.payload(&name(), swarm.node(0).id, "open sesame") else {
        panic!("a map")
    };
    payload.push(("log".into(), true.into()));
    let log = swarm.get_with("diary", Value::map(payload)).expect("an answer");
    let Some(Value::List(reads)) = log.field("reads") else { panic!("a log") };
    assert_eq!(reads.len(), 1);
}

#[actix_rt::test]
async fn timeout_then_one_time_is_read_once_by_a_majority_or_not_at_all() {
    let swarm = TestSwarm::seeded(3);
    let object = compose(&[TIMEOUT, &one_time::APP]).expect("they go together");
    let settings = || [("seconds", Value::Int(90)), ("count", Value::Int(3))];
    object.create(&swarm, name(), "burn".into(), settings()).await.expect("it is stored");
    let others = swarm.holders("diary")[1..].to_vec();
    others.iter().for_each(|node| swarm.silence(*node));
    let reason = "1 of 3 replicas agreed and a majority must; ask again later";
    assert_eq!(swarm.get("diary").map(|answer| declined(&answer)), Ok(Some(reason.into())));
    others.iter().for_each(|node| swarm.wake(*node));
    assert_eq!(swarm.get("diary"), Ok("burn".into()));
    assert_eq!(swarm.get("diary"), Ok(Value::Nil));
    swarm.advance(Duration::from_secs(300));
    object.create(&swarm, name(), "again".into(), settings()).await.expect("the key is free");
    swarm.advance(Duration::from_secs(90));
    assert_ne!(swarm.get("diary"), Ok("again".into()), "nobody read it in time");
}

#[actix_rt::test]
async fn replication_then_password_keeps_few_copies_of_what_strangers_cannot_read() {
    let swarm = TestSwarm::new(4, TestConfig { nodes: 12, ..TestConfig::default() });
    let object = compose(&[&replication::APP, PASSWORD]).expect("they go together");
    let [_, salt, verifier] = locked();
    let policy = [("threshold", Value::Int(2)), ("target", Value::Int(3)), ("spread", Value::Int(0))];
    object
        .create(&swarm, name(), "dear".into(), policy.into_iter().chain([salt, verifier]))
        .await
        .expect("it is stored");
    swarm.holders("diary")[1..].iter().for_each(|node| swarm.silence(*node));
    swarm.advance(Duration::from_secs(600));
    assert_eq!(swarm.holders("diary").len(), 3, "it copied itself");
    assert!(declined(&swarm.get("diary").expect("an answer")).is_some());
    assert_eq!(read(&swarm, "open sesame"), Ok("dear".into()));
}

#[actix_rt::test]
async fn the_first_refusal_of_a_put_or_an_update_wins() {
    let swarm = TestSwarm::seeded(5);
    let object = compose(&[TIMEOUT, PASSWORD, LOG]).expect("they go together");
    let refused = object.create(&swarm, name(), "dear".into(), []).await;
    let why = "the value must be { value = …, seconds = a positive number }";
    assert_eq!(refused, Err(Refusal::Refused(why.into())));
    let refused = object.create(&swarm, name(), "dear".into(), [("seconds", Value::Int(9))]).await;
    let why = "the value must be { value = …, salt = text, verifier = 64 hexadecimal digits }";
    assert_eq!(refused, Err(Refusal::Refused(why.into())));
    object.create(&swarm, name(), "dear".into(), locked()).await.expect("it is stored");
    let refused = swarm.update("diary", "cheap");
    assert_eq!(refused, Err(Refusal::Refused("only its owner may change it".into())));
}

#[actix_rt::test]
async fn each_timer_keeps_its_own_interval() {
    let app = |name, source| App { name, summary: "", source, settings: &[SETTING] };
    const SETTING: Setting = Setting { name: "x", meaning: "", default: None };
    let fast =
        app("fast", "aso.timer = 60\naso.fast = 0\nfunction aso:onTimer() self.fast = self.fast + 1 end\n");
    let slow = App {
        settings: &[Setting { name: "y", meaning: "", default: None }],
        ..app("slow", "aso.timer = 180\naso.slow = 0\nfunction aso:onTimer() self.slow = self.slow + 1 end\n")
    };
    let swarm = TestSwarm::seeded(6);
    let object = compose(&[&slow, &fast]).expect("they go together");
    object.create(&swarm, name(), "x".into(), []).await.expect("it is stored");
    swarm.advance(Duration::from_secs(540));
    let count = |field| swarm.field(0, "diary", field);
    assert_eq!((count("fast"), count("slow")), (Some(Value::Int(9)), Some(Value::Int(3))));
    swarm.advance(Duration::from_secs(59));
    swarm.fire_timer("diary");
    assert_eq!(count("slow"), Some(Value::Int(4)), "a tick that is a second early is not a tick too early");
}

#[test]
fn what_does_not_go_together_is_told() {
    assert_eq!(compose(&[TIMEOUT, &counter::APP]), Err(ComposeError::Alone("counter")));
    assert_eq!(compose(&[&one_time_fast::APP]), Err(ComposeError::Alone("one-time-fast")));
    let twice = compose(&[TIMEOUT, TIMEOUT]);
    assert_eq!(twice, Err(ComposeError::Clash { second: "flexible-timeout", name: "expires".into() }));
    let large = App { source: "-- long\n".repeat(2_000).leak(), ..*TIMEOUT };
    assert!(matches!(compose(&[&large]), Err(ComposeError::TooLarge { limit: 16_384, .. })));
}

#[test]
fn all_that_have_settings_fit_into_one_object() {
    let all =
        compose(&[TIMEOUT, &replication::APP, LOG, PASSWORD, &one_time::APP]).expect("they go together");
    assert_eq!(all.settings.len(), 9);
}
