//! How an object is replicated and read, seen by itself (paper, section 6: replica monitoring).
//!
//! Every ten minutes each replica copies itself to fifteen of the 20 nodes nearest to the key, which is what a tick pays
//! for, and notes who acknowledged; all replicas together reach all twenty. It also notes on which addresses it has lived,
//! which copies take along, and from which addresses it was read, or from which networks where operators show no
//! more of callers (`runtime.caller_addresses`). Each of the three tables holds 64 entries. Nodes behind one of them count
//! as one reader.

use std::collections::BTreeMap;

use comet_routing::{Contact, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{
    App, AppError,
    client::{ask, ask_all},
    store,
};

pub(crate) const APP: App = App {
    name: "monitor",
    summary: "copies itself to the 20 nearest nodes and notes who has it and who reads it",
    source: include_str!("../aso/monitor.lua"),
    settings: &[],
};

/// An object that watches its own replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    key: Key,
}

/// What the replicas of a [`Monitor`] have seen: for each the first and the last time, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// The addresses that it has lived on.
    pub hosts: BTreeMap<String, (i64, i64)>,
    /// The nodes that said that they hold it.
    pub acknowledged: BTreeMap<Contact, (i64, i64)>,
    /// The addresses of nodes that it was read through, as far as operators show them.
    pub accessors: BTreeMap<String, (i64, i64)>,
}

impl Monitor {
    /// The object at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores the value to be watched.
    pub async fn create(&self, dht: &impl Dht, value: &Value) -> Result<PutReport, Refusal> {
        store(dht, &APP, self.key, value, None).await
    }

    /// Reads the value, which is noted.
    pub async fn read(&self, dht: &impl Dht) -> Result<Value, AppError> {
        ask(dht, self.key, None).await
    }

    /// What all replicas that answer have seen, which is not noted.
    pub async fn report(&self, dht: &impl Dht) -> Result<Sightings, AppError> {
        let mut report = Sightings::default();
        for answer in ask_all(dht, self.key, Some(Value::map([("report".into(), true.into())]))).await? {
            report.add(&answer).ok_or(AppError::Unexpected(answer))?;
        }
        Ok(report)
    }
}

impl Sightings {
    fn add(&mut self, answer: &Value) -> Option<()> {
        let address = |value: &Value| value.as_text().map(str::to_owned);
        let node = |value: &Value| match value {
            Value::Node(node) => Some(*node),
            _ => None,
        };
        unite(&mut self.hosts, answer.field("hosts")?, address)?;
        unite(&mut self.acknowledged, answer.field("acknowledged")?, node)?;
        unite(&mut self.accessors, answer.field("accessors")?, address)
    }
}

fn unite<K: Ord>(
    seen: &mut BTreeMap<K, (i64, i64)>,
    table: &Value,
    key: impl Fn(&Value) -> Option<K>,
) -> Option<()> {
    let entries = match table {
        Value::Map(entries) => entries.as_slice(),
        // An empty table is an empty list.
        Value::List(none) if none.is_empty() => &[],
        _ => return None,
    };
    for (what, times) in entries {
        let Value::List(times) = times else { return None };
        let [Value::Int(first), Value::Int(last), _] = times.as_slice() else { return None };
        let united = seen.entry(key(what)?).or_insert((*first, *last));
        *united = (united.0.min(*first), united.1.max(*last));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::{
        CallerAddresses,
        testing::{EPOCH_MS, TestConfig, TestSwarm},
    };

    use super::*;

    const NOW: i64 = EPOCH_MS as i64 / 1_000;
    const TICK: Duration = Duration::from_secs(600);

    #[actix_rt::test]
    async fn it_spreads_to_twenty_nodes_and_tells_who_acknowledged() {
        let swarm = TestSwarm::new(1, TestConfig { nodes: 30, ..TestConfig::default() });
        let object = Monitor::at(Key::of("watched"));
        object.create(&swarm, &"value".into()).await.expect("it is stored");
        let before = object.report(&swarm).await.expect("a report");
        assert_eq!((before.hosts.len(), before.acknowledged.len(), before.accessors.len()), (3, 0, 0));
        let gone = swarm.holders("watched")[1];
        swarm.advance(TICK);
        swarm.silence(gone);
        swarm.advance(TICK);
        let after = object.report(&swarm).await.expect("a report");
        assert_eq!(after.acknowledged[&swarm.node(gone)], (NOW + 600, NOW + 600));
        let there = swarm.holders("watched")[1];
        assert_eq!(after.acknowledged[&swarm.node(there)], (NOW + 600, NOW + 1_200));
        assert_eq!(swarm.holders("watched").len(), 20);
    }

    #[actix_rt::test]
    async fn it_notes_who_reads_it_and_not_who_asks_for_the_report() {
        for caller_addresses in [CallerAddresses::Prefix, CallerAddresses::Full] {
            let swarm = TestSwarm::new(2, TestConfig { caller_addresses, ..TestConfig::default() });
            let object = Monitor::at(Key::of("watched"));
            object.create(&swarm, &"value".into()).await.expect("it is stored");
            assert_eq!(object.read(&swarm).await, Ok("value".into()));
            swarm.advance(Duration::from_secs(7));
            swarm.get_from(5, Key::of("watched"), None).expect("it is read");
            swarm.get_from(0, Key::of("watched"), None).expect("it is read");
            let report = object.report(&swarm).await.expect("a report");
            let ip = |node: usize| swarm.node(node).addr.ip().to_string();
            let expected = match caller_addresses {
                CallerAddresses::Full => [(ip(0), (NOW, NOW + 7)), (ip(5), (NOW + 7, NOW + 7))].into(),
                _ => [("192.0.2.0".to_owned(), (NOW, NOW + 7))].into(),
            };
            assert_eq!(report.accessors, expected);
        }
    }

    #[actix_rt::test]
    async fn each_table_holds_sixty_four() {
        let caller_addresses = CallerAddresses::Full;
        let swarm = TestSwarm::new(3, TestConfig { nodes: 100, caller_addresses, ..TestConfig::default() });
        Monitor::at(Key::of("watched")).create(&swarm, &"value".into()).await.expect("it is stored");
        for reader in 0..100 {
            swarm.advance(Duration::from_secs(1));
            swarm.get_from(reader, Key::of("watched"), None).expect("it is read");
        }
        let Some(Value::Map(kept)) = swarm.field(0, "watched", "accessors") else { panic!("a map") };
        assert_eq!(kept.len(), 64);
    }

    #[actix_rt::test]
    async fn an_odd_payload_is_a_read_and_another_kind_of_object_is_told_apart() {
        let swarm = TestSwarm::seeded(4);
        let object = Monitor::at(Key::of("watched"));
        object.create(&swarm, &"value".into()).await.expect("it is stored");
        assert_eq!(swarm.get_with("watched", "report"), Ok("value".into()));
        swarm.put("else", "x", "").expect("it is stored");
        let wrong = Monitor::at(Key::of("else")).report(&swarm).await;
        assert_eq!(wrong, Err(AppError::Unexpected("x".into())));
    }
}
