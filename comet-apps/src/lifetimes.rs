//! How long nodes stay, seen from inside (paper, section 6: node lifetimes).
//!
//! The object looks its own key up every ten minutes and notes who is among the nodes closest to it. Each replica
//! sees for itself; the client unites them. A replica remembers 64 nodes, and of a node that left and came
//! back only when it was seen first and last.

use std::collections::BTreeMap;

use comet_routing::{Contact, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{App, AppError, client::ask_all, store};

pub(crate) const APP: App = App {
    name: "lifetimes",
    summary: "watches which nodes are close to its key, and since when",
    source: include_str!("../aso/lifetimes.lua"),
    settings: &[],
};

/// An object that watches its neighbourhood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    key: Key,
}

/// When a node was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Who.
    pub node: Contact,
    /// When it was first seen, in seconds since 1970.
    pub first_seconds: i64,
    /// When it was last seen, in seconds since 1970.
    pub last_seconds: i64,
}

impl Lifetimes {
    /// The watch at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Begins to watch.
    pub async fn create(&self, dht: &impl Dht) -> Result<PutReport, Refusal> {
        store(dht, &APP, self.key, &Value::Nil, None).await
    }

    /// Who was seen by any replica that answers, by node.
    pub async fn read(&self, dht: &impl Dht) -> Result<Vec<Lifetime>, AppError> {
        let mut seen: BTreeMap<Contact, (i64, i64)> = BTreeMap::new();
        for answer in ask_all(dht, self.key, None).await? {
            let sightings = sightings(&answer).ok_or_else(|| AppError::Unexpected(answer.clone()))?;
            for (node, first, last) in sightings {
                let times = seen.entry(node).or_insert((first, last));
                *times = (times.0.min(first), times.1.max(last));
            }
        }
        let lifetime = |(node, (first_seconds, last_seconds))| Lifetime { node, first_seconds, last_seconds };
        Ok(seen.into_iter().map(lifetime).collect())
    }
}

fn sightings(answer: &Value) -> Option<Vec<(Contact, i64, i64)>> {
    let entries = match answer {
        Value::Map(entries) => entries.as_slice(),
        // An empty table is an empty list.
        Value::List(none) if none.is_empty() => &[],
        _ => return None,
    };
    let entry = |(node, times): &(Value, Value)| match (node, times) {
        (Value::Node(node), Value::List(times)) => match times.as_slice() {
            [Value::Int(first), Value::Int(last)] => Some((*node, *first, *last)),
            _ => None,
        },
        _ => None,
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::testing::{EPOCH_MS, TestConfig, TestSwarm};

    use super::*;

    const NOW: i64 = EPOCH_MS as i64 / 1_000;
    const TICK: Duration = Duration::from_secs(600);

    #[actix_rt::test]
    async fn it_tells_who_was_there_from_when_to_when() {
        let swarm = TestSwarm::seeded(1);
        let watch = Lifetimes::at(Key::of("watch"));
        watch.create(&swarm).await.expect("it is stored");
        assert_eq!(watch.read(&swarm).await, Ok(vec![]), "nothing yet");
        let (late, early) = match swarm.holders("watch")[..] {
            [a, b, c] => {
                let others: Vec<_> = (0..8).filter(|node| ![a, b, c].contains(node)).collect();
                (others[0], others[1])
            }
            _ => panic!("three replicas"),
        };
        swarm.silence(late);
        swarm.advance(TICK);
        swarm.wake(late);
        swarm.advance(TICK);
        swarm.silence(early);
        swarm.advance(TICK);
        let seen = watch.read(&swarm).await.expect("an answer");
        let times = |node| {
            let found = seen.iter().find(|seen| seen.node == swarm.node(node)).expect("it was seen");
            (found.first_seconds - NOW, found.last_seconds - NOW)
        };
        assert_eq!(seen.len(), 8);
        assert_eq!((times(late), times(early)), ((1_200, 1_800), (600, 1_200)));
    }

    #[actix_rt::test]
    async fn it_remembers_sixty_four_nodes_and_forgets_who_left_first() {
        let config = TestConfig { nodes: 100, replicas: 1, ..TestConfig::default() };
        let swarm = TestSwarm::new(2, config);
        let watch = Lifetimes::at(Key::of("watch"));
        watch.create(&swarm).await.expect("it is stored");
        let mut nearest: Vec<_> = (0..100).collect();
        nearest.sort_by_key(|node| Key::of("watch").distance_to(&swarm.node(*node).id));
        for left in nearest[1..].chunks(19).take(4) {
            swarm.advance(TICK);
            left.iter().for_each(|node| swarm.silence(*node));
        }
        let seen = watch.read(&swarm).await.expect("an answer");
        assert_eq!(seen.len(), 64);
        assert!(seen.iter().any(|seen| seen.node == swarm.node(nearest[76])));
        let first_to_leave =
            nearest[1..20].iter().filter(|node| seen.iter().any(|seen| seen.node == swarm.node(**node)));
        assert_eq!(first_to_leave.count(), 6, "77 nodes were there");
    }

    #[actix_rt::test]
    async fn another_kind_of_object_is_told_apart() {
        let swarm = TestSwarm::seeded(3);
        swarm.put("else", "x", "").expect("it is stored");
        let wrong = Lifetimes::at(Key::of("else")).read(&swarm).await;
        assert_eq!(wrong, Err(AppError::Unexpected("x".into())));
    }
}
