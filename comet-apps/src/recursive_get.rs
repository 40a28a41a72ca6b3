//! Recursive gets (paper, section 5): a query object travels toward its target instead of being steered from
//! afar, and the target's `onUpdate` answers the node where the query began.
//!
//! The query looks for the node nearest to its target, moves there and asks. If nobody there holds the target,
//! it looks again a minute later from where it is, which may be another part of a swarm that is not quite
//! joined. The answer waits for ten minutes at the query's home. Target and query run the same handlers; a
//! target is any value that is not a map with a `target`.
//!
//! The objects address keys other than their own, which the contact rule permits to those that a trusted
//! publisher signed ([`RecursiveGet::signed`]), or to all where the operator sets `runtime.contact = "open"`.
//! Elsewhere the put of a query fails.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Put, PutReport},
};
use comet_store::{Code, Publication};

use crate::{App, AppError, client::ask_all, store_published};

/// Replicas of a query. The sixteen messages that its put may cause are divided among them. A way of one hop takes
/// four (lookup, hop, question, answer), but each request leaves half of the rest with the callback that waits for it:
/// for all four to be sent at once it takes eight.
const HOMES: u8 = 2;

pub(crate) const APP: App = App {
    name: "recursive-get",
    summary: "a get that travels to its target (to be signed: it addresses any key)",
    source: include_str!("../aso/recursive_get.lua"),
    settings: &[],
};

/// A query, or the target of queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecursiveGet {
    key: Key,
    publication: Option<Publication>,
}

/// What a query brought back.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The target's value.
    pub value: Value,
    /// Nodes that the query moved to on its way.
    pub hops: i64,
}

impl RecursiveGet {
    /// The query or target at a key.
    pub fn at(key: Key) -> Self {
        Self { key, publication: None }
    }

    /// The same, put with the signature of a publisher ([`App::sign`]) that the operators trust.
    pub fn signed(self, publication: Publication) -> Self {
        Self { publication: Some(publication), ..self }
    }

    /// Stores a value that queries can find.
    pub async fn create_target(&self, dht: &impl Dht, value: &Value) -> Result<PutReport, Refusal> {
        store_published(dht, &APP, self.publication.clone(), self.key, value, None).await
    }

    /// Sends a query under this key, which must be new, for the value at `target`, from the two nodes closest to the
    /// query's key: with more, each would have too few messages to send it on its way before its first tick.
    pub async fn send(&self, dht: &impl Dht, target: Key) -> Result<PutReport, Refusal> {
        let query = Value::map([("target".into(), Value::str(target.to_string()))]);
        let put = Put {
            key: self.key,
            data: query.encode(),
            code: Some(Code::new(APP.source)),
            publication: self.publication.clone(),
            ttl: None,
            replicas: Some(HOMES),
            owner: None,
            expected: Expected::Any,
            deadline: None,
        };
        dht.put(put).await
    }

    /// The answer to the query at this key, once it is there.
    pub async fn answer(&self, dht: &impl Dht) -> Result<Option<Found>, AppError> {
        let answers = ask_all(dht, self.key, None).await?;
        let Some(answer) = answers.into_iter().find(|answer| *answer != Value::Nil) else { return Ok(None) };
        let hops = answer.field("hops").and_then(Value::as_int);
        match hops {
            Some(hops) => {
                Ok(Some(Found { value: answer.field("value").cloned().unwrap_or(Value::Nil), hops }))
            }
            None => Err(AppError::Unexpected(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::{
        Failure, Reach,
        testing::{TestConfig, TestSwarm},
    };

    use super::*;

    fn open(seed: u64, replicas: usize) -> TestSwarm {
        TestSwarm::new(seed, TestConfig { reach: Reach::Open, replicas, ..TestConfig::default() })
    }

    #[actix_rt::test]
    async fn a_query_finds_its_target_and_comes_back_with_its_value() {
        for seed in 0..8 {
            let swarm = open(seed, 1);
            let target = RecursiveGet::at(Key::of("target"));
            target.create_target(&swarm, &"treasure".into()).await.expect("it is stored");
            let query = RecursiveGet::at(Key::of("query"));
            query.send(&swarm, target.key).await.expect("it leaves");
            let hops = i64::from(swarm.holders("target") != swarm.holders("query"));
            assert_eq!(
                query.answer(&swarm).await,
                Ok(Some(Found { value: "treasure".into(), hops })),
                "seed {seed}"
            );
            assert_eq!(swarm.holders("query").len(), 1, "it stays at its home alone");
        }
    }

    #[actix_rt::test]
    async fn every_replica_may_begin_a_query() {
        let swarm = open(20, 3);
        let target = RecursiveGet::at(Key::of("target"));
        target.create_target(&swarm, &"treasure".into()).await.expect("it is stored");
        let query = RecursiveGet::at(Key::of("query"));
        query.send(&swarm, target.key).await.expect("it leaves");
        let found = query.answer(&swarm).await.expect("it answers").expect("there is an answer");
        assert_eq!(found.value, "treasure".into());
    }

    #[actix_rt::test]
    async fn a_query_asks_again_while_its_target_is_away() {
        let swarm = open(1, 1);
        let target = RecursiveGet::at(Key::of("target"));
        target.create_target(&swarm, &"treasure".into()).await.expect("it is stored");
        let away = swarm.holders("target")[0];
        swarm.silence(away);
        let query = RecursiveGet::at(Key::of("query"));
        query.send(&swarm, target.key).await.expect("it leaves");
        assert_eq!(query.answer(&swarm).await, Ok(None));
        swarm.wake(away);
        swarm.advance(Duration::from_secs(120));
        let found = query.answer(&swarm).await.expect("it answers").expect("there is an answer");
        assert_eq!(found.value, "treasure".into());
    }

    #[actix_rt::test]
    async fn a_query_without_a_target_to_find_has_no_answer() {
        let swarm = open(21, 1);
        let query = RecursiveGet::at(Key::of("query"));
        query.send(&swarm, Key::of("nowhere")).await.expect("it leaves");
        assert_eq!(query.answer(&swarm).await, Ok(None));
    }

    #[actix_rt::test]
    async fn bad_queries_and_answers_are_refused() {
        let swarm = open(22, 1);
        let refused = |reason: &str| Err(Refusal::Refused(reason.into()));
        let odd = swarm.put("query", Value::map([("target".into(), 3.into())]), APP.source);
        assert_eq!(odd, refused("target must be a key"));
        swarm.put("target", "treasure", APP.source).expect("it is stored");
        assert_eq!(swarm.update("target", "x"), refused("ask or answer with a map"));
        assert_eq!(swarm.update("target", Value::map([])), refused("a query must say where its answer goes"));
        RecursiveGet::at(Key::of("query")).send(&swarm, Key::of("target")).await.expect("it leaves");
        let late = Value::map([("answer".into(), "forged".into()), ("hops".into(), 0.into())]);
        assert_eq!(swarm.update("query", late), refused("there is an answer already"));
        assert_eq!(swarm.put("query", Value::Nil, APP.source), refused("ask or answer with a map"));
    }

    #[actix_rt::test]
    async fn under_the_strict_rule_a_query_cannot_leave() {
        let swarm = TestSwarm::seeded(23);
        let query = RecursiveGet::at(Key::of("query"));
        let failed = query.send(&swarm, Key::of("target")).await;
        let Err(Refusal::HandlerFailed { handler, failure: Failure::Error(reason) }) = failed else {
            panic!("it left: {failed:?}")
        };
        assert_eq!(handler, "onPut");
        assert!(
            reason.contains("not signed by a publisher that this node trusts may contact only"),
            "{reason}"
        );
    }
}
