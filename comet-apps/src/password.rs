//! A value that only those get who know a password (paper, section 5: Adeona), which is never sent.
//!
//! The paper's form compares the payload with the password, so whoever sees either has it. Here the object holds
//! a *verifier*, sha256(salt:password), and a reader proves that he can compute it:
//!
//! 1. A get without an answer is declined with a [`Challenge`]: the salt and the replica's time.
//! 2. The reader sends sha256(verifier:key:reader's node id:time) along with that time.
//!
//! The replica keeps nothing of a challenge, so another replica may answer the second get. *Replays.* The answer
//! holds for one key, two minutes and one node, whose id the connection proves: nobody who sees it can use it from
//! another node. The reader's own node could, within these two minutes; readers trust the node they ask.
//!
//! *Limits.* A replica has the value, so nothing is kept from it. It has the verifier as well, which is as good
//! as the password for this object, but not for others with another salt. Whoever sees an answer, for instance a node that
//! is close to the key and pretends to hold the object, can try passwords on it at leisure: choose long ones. At a
//! replica each node has five wrong tries in ten minutes; somebody with many nodes has as many times five.

use comet_routing::{Key, NodeId};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Get, PutReport, Read},
};

use crate::{
    App, AppError, Setting,
    client::{ask, declined, sha256, with_settings},
    store,
};

pub(crate) const APP: App = App {
    name: "password",
    summary: "gives its value to those who prove that they know a password, without sending it",
    source: include_str!("../aso/password.lua"),
    settings: &[
        Setting { name: "salt", meaning: "any text, another one for each object", default: None },
        Setting {
            name: "verifier",
            meaning: "the SHA-256 of salt:password, 64 hexadecimal digits",
            default: None,
        },
    ],
};

/// A value behind a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Password {
    key: Key,
}

/// What a replica says to a reader who has proved nothing yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What the password was hashed with.
    pub salt: String,
    /// The replica's time, in seconds since 1970.
    pub at_seconds: i64,
}

impl Password {
    /// The value at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores a value behind a password. The salt may be known to all, and should be random.
    pub async fn create(
        &self,
        dht: &impl Dht,
        value: Value,
        salt: &str,
        password: &str,
    ) -> Result<PutReport, Refusal> {
        let settings = [("salt", salt.into()), ("verifier", verifier(salt, password).as_str().into())];
        store(dht, &APP, self.key, &with_settings(value, settings), None).await
    }

    /// The value, for a reader who asks through the node `reader` and knows the password. [`AppError::Declined`]
    /// says that the password is wrong, or was too often.
    pub async fn read(&self, dht: &impl Dht, reader: NodeId, password: &str) -> Result<Value, AppError> {
        let report = dht.get(Get { key: self.key, payload: None, read: Read::First, deadline: None }).await?;
        let answer = report.answers.into_iter().next().map_or(Value::Nil, |answer| answer.value);
        let Some(challenge) = Challenge::read(&answer) else {
            let declined = declined(&answer).map(AppError::Declined);
            return Err(declined.unwrap_or(AppError::Unexpected(answer)));
        };
        ask(dht, self.key, Some(challenge.payload(&self.key, reader, password))).await
    }
}

impl Challenge {
    /// The challenge in a replica's answer, if it is one.
    pub fn read(answer: &Value) -> Option<Self> {
        let salt = answer.field("salt").and_then(Value::as_text)?;
        let at_seconds = answer.field("at").and_then(Value::as_int)?;
        Some(Self { salt: salt.to_owned(), at_seconds })
    }

    /// What to send with the next get, through the node `reader`.
    pub fn payload(&self, key: &Key, reader: NodeId, password: &str) -> Value {
        let verifier = verifier(&self.salt, password);
        let response = sha256(&format!("{verifier}:{key}:{reader}:{}", self.at_seconds));
        let given =
            [("at".into(), Value::Int(self.at_seconds)), ("response".into(), response.as_str().into())];
        Value::map([("password".into(), Value::map(given))])
    }
}

fn verifier(salt: &str, password: &str) -> String {
    sha256(&format!("{salt}:{password}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::testing::TestSwarm;

    use super::*;

    async fn safe(seed: u64) -> (TestSwarm, Password, NodeId) {
        let swarm = TestSwarm::seeded(seed);
        let object = Password::at(Key::of("safe"));
        object.create(&swarm, "gold".into(), "pepper", "open sesame").await.expect("it is stored");
        let reader = swarm.node(0).id;
        (swarm, object, reader)
    }

    fn challenge(swarm: &TestSwarm) -> Challenge {
        Challenge::read(&swarm.get("safe").expect("it answers")).expect("a challenge")
    }

    fn reason(answer: Result<Value, Refusal>) -> String {
        declined(&answer.expect("an answer")).expect("a refusal")
    }

    #[actix_rt::test]
    async fn the_right_password_opens_it_and_a_wrong_one_does_not() {
        let (swarm, object, reader) = safe(1).await;
        assert_eq!(object.read(&swarm, reader, "open sesame").await, Ok("gold".into()));
        let wrong = object.read(&swarm, reader, "open barley").await;
        assert_eq!(wrong, Err(AppError::Declined("the password is wrong".into())));
        assert_eq!(reason(swarm.get("safe")), "a password is needed");
    }

    #[actix_rt::test]
    async fn an_answer_is_good_at_another_replica_but_not_from_another_node() {
        let (swarm, _, reader) = safe(2).await;
        let payload = challenge(&swarm).payload(&Key::of("safe"), reader, "open sesame");
        let thief = swarm.get_from(1, Key::of("safe"), Some(payload.clone()));
        assert_eq!(reason(thief), "the password is wrong");
        swarm.silence(swarm.holders("safe")[0]);
        assert_eq!(swarm.get_with("safe", payload), Ok("gold".into()));
    }

    #[actix_rt::test]
    async fn an_answer_ends_with_its_time() {
        let (swarm, _, reader) = safe(3).await;
        let payload = challenge(&swarm).payload(&Key::of("safe"), reader, "open sesame");
        swarm.advance(Duration::from_secs(120));
        assert_eq!(swarm.get_with("safe", payload.clone()), Ok("gold".into()));
        swarm.advance(Duration::from_secs(1));
        assert_eq!(reason(swarm.get_with("safe", payload)), "the challenge is over");
    }

    #[actix_rt::test]
    async fn five_wrong_tries_shut_a_caller_out_for_ten_minutes_and_nobody_else() {
        let (swarm, object, reader) = safe(4).await;
        for _ in 0..5 {
            let wrong = object.read(&swarm, reader, "guess").await;
            assert_eq!(wrong, Err(AppError::Declined("the password is wrong".into())));
        }
        let shut = object.read(&swarm, reader, "open sesame").await;
        let why = "too many wrong passwords; try again in 600 s";
        assert_eq!(shut, Err(AppError::Declined(why.into())));
        let other = challenge(&swarm).payload(&Key::of("safe"), swarm.node(1).id, "open sesame");
        assert_eq!(swarm.get_from(1, Key::of("safe"), Some(other)), Ok("gold".into()));
        swarm.advance(Duration::from_secs(600));
        assert_eq!(object.read(&swarm, reader, "open sesame").await, Ok("gold".into()));
    }

    #[actix_rt::test]
    async fn it_remembers_the_tries_of_thirty_two_callers() {
        use comet_runtime::testing::TestConfig;
        let swarm = TestSwarm::new(5, TestConfig { nodes: 40, ..TestConfig::default() });
        let object = Password::at(Key::of("safe"));
        object.create(&swarm, "gold".into(), "pepper", "open sesame").await.expect("it is stored");
        let wrong = challenge(&swarm).payload(&Key::of("safe"), swarm.node(0).id, "guess");
        for caller in 0..40 {
            swarm.get_from(caller, Key::of("safe"), Some(wrong.clone())).expect("it answers");
        }
        let Some(Value::Map(kept)) = swarm.field(0, "safe", "tries") else { panic!("a map") };
        assert_eq!(kept.len(), 32);
    }

    #[actix_rt::test]
    async fn odd_values_and_odd_answers_are_refused() {
        let (swarm, _, _) = safe(6).await;
        let hash = verifier("a", "b");
        let why = "the value must be { value = …, salt = text, verifier = 64 hexadecimal digits }";
        for value in [
            "gold".into(),
            with_settings("gold".into(), [("salt", "a".into())]),
            with_settings("gold".into(), [("salt", "a".into()), ("verifier", "b".into())]),
            with_settings(Value::Nil, [("salt", "a".into()), ("verifier", hash.as_str().into())]),
        ] {
            assert_eq!(swarm.put("odd", value, APP.source), Err(Refusal::Refused(why.into())));
        }
        let settings = [("salt", "a".into()), ("verifier", hash.as_str().into()), ("password", "b".into())];
        let clear = swarm.put("odd", with_settings("gold".into(), settings), APP.source);
        let why = "the password itself must not be sent; send verifier = sha256(salt .. ':' .. password)";
        assert_eq!(clear, Err(Refusal::Refused(why.into())));
        for odd in ["open sesame".into(), Value::map([("password".into(), "open sesame".into())])] {
            assert_eq!(reason(swarm.get_with("safe", odd)), "a password is needed");
        }
        let nan = Value::map([("at".into(), f64::NAN.into())]);
        let nan = Value::map([("password".into(), nan)]);
        assert_eq!(reason(swarm.get_with("safe", nan)), "the challenge is over");
    }

    #[actix_rt::test]
    async fn a_stranger_cannot_change_the_lock() {
        let (swarm, object, reader) = safe(7).await;
        let refused = Err(Refusal::Refused("only its owner may change it".into()));
        assert_eq!(swarm.update("safe", "lead"), refused);
        assert_eq!(object.read(&swarm, reader, "open sesame").await, Ok("gold".into()));
    }
}
