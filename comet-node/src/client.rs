//! The swarm as this node's clients see it, from any thread of the process.

use std::sync::{Arc, atomic::Ordering};

use actix::{Addr, Handler, Message, dev::ToEnvelope, prelude::*};
use comet_routing::{Contact, Key, Router, actor::TableSize, clock::Clock};
use comet_runtime::{
    Refusal, Value,
    dht::{
        Delete, DeleteReport, Dht, Get, GetReport, Inspection, LogProof, LookupReport, Put, PutReport,
        ReplicaLog,
    },
};
use comet_store::{StoreError, StoreReader};
use futures_util::{StreamExt, stream};

use crate::{
    actors::{Coordinator, DeleteObject, GetFurther, GetObject, InspectObject, LookUp, PutObject, ReadLogs},
    http::{Backend, Health, Metric, NodeReport},
    operation::{Company, OwnRole, OwnSaid},
    several::{KEYS_AT_ONCE, first_of, first_value, values_of},
    shortcut::{Reached, Shortcut, Stored},
    tracker::TrackerCounters,
    transport::Counters,
    upkeep::{UpkeepCounters, UpkeepCounts},
};

/// What does not change about a node while it runs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The node, as peers know it.
    pub own: Contact,
    /// The network it belongs to.
    pub network: String,
    /// Whether there should be others.
    pub company: Company,
    /// How it takes part; this alone changes.
    pub role: OwnRole,
    /// Time.
    pub clock: Clock,
}

/// A node in this process, for its clients.
#[derive(Clone)]
pub struct Client {
    facts: Arc<NodeFacts>,
    coordinator: Addr<Coordinator>,
    shortcut: Arc<Shortcut>,
    router: Addr<Router>,
    reader: StoreReader,
    counters: Arc<Counters>,
    upkeep: Arc<UpkeepCounters>,
    tracker: Arc<TrackerCounters>,
}

impl Client {
    pub(crate) fn new(
        facts: NodeFacts,
        coordinator: Addr<Coordinator>,
        shortcut: Shortcut,
        router: Addr<Router>,
        reader: StoreReader,
        counters: Arc<Counters>,
        upkeep: Arc<UpkeepCounters>,
    ) -> Self {
        let (facts, shortcut, tracker) = (Arc::new(facts), Arc::new(shortcut), Arc::default());
        Self { facts, coordinator, shortcut, router, reader, counters, upkeep, tracker }
    }

    /// The node, as peers know it.
    pub fn contact(&self) -> Contact {
        self.facts.own
    }

    /// What upkeep has done since the node started.
    pub fn upkeep(&self) -> UpkeepCounts {
        self.upkeep.counts()
    }

    /// What the node has done as a BitTorrent tracker.
    pub fn tracker(&self) -> Arc<TrackerCounters> {
        self.tracker.clone()
    }

    async fn ask<M, T>(&self, message: M) -> Result<T, Refusal>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        Coordinator: Handler<M>,
        Context<Coordinator>: ToEnvelope<Coordinator, M>,
    {
        self.coordinator.send(message).await.unwrap_or_else(|_| Err(Refusal::Stopping("the node".into())))
    }

    /// Goes on with a get that the own replica could not end.
    async fn get_elsewhere(&self, get: Get, own: Option<OwnSaid>) -> Result<GetReport, Refusal> {
        match own {
            Some(own) => self.ask(GetFurther { get, own }).await,
            None => self.ask(GetObject(get)).await,
        }
    }

    async fn peers(&self) -> usize {
        self.router.send(TableSize).await.unwrap_or(0)
    }
}

impl Dht for Client {
    async fn put(&self, put: Put) -> Result<PutReport, Refusal> {
        match self.shortcut.put(put).await {
            Stored::Over(result) => result,
            Stored::Elsewhere(put) => Box::pin(self.ask(PutObject(*put))).await,
        }
    }

    async fn get(&self, get: Get) -> Result<GetReport, Refusal> {
        match self.shortcut.get(&get).await {
            Reached::Over(result) => result,
            // Boxed, so that a get which ends here takes no more room than it has to.
            Reached::Elsewhere(own) => Box::pin(self.get_elsewhere(get, own)).await,
        }
    }

    async fn delete(&self, delete: Delete) -> Result<DeleteReport, Refusal> {
        self.ask(DeleteObject(delete)).await
    }

    async fn lookup(&self, key: Key) -> Result<LookupReport, Refusal> {
        self.ask(LookUp(key)).await
    }

    async fn inspect(&self, key: Key) -> Result<Vec<Inspection>, Refusal> {
        self.ask(InspectObject(key)).await
    }

    async fn logs(&self, key: Key, proof: Option<LogProof>) -> Result<Vec<ReplicaLog>, Refusal> {
        self.ask(ReadLogs { key, proof }).await
    }
}

impl Backend for Client {
    async fn values(&self, keys: &[Key]) -> Vec<Result<Value, Refusal>> {
        let Some(reached) = self.shortcut.values(keys).await else { return values_of(self, keys).await };
        let own_is_enough = reached.iter().all(|reached| matches!(reached, Reached::Over(_)));
        let values = reached.into_iter().zip(keys).map(async |(reached, key)| match reached {
            Reached::Over(value) => value,
            Reached::Elsewhere(own) => self.get_elsewhere(first_of(*key), own).await.map(first_value),
        });
        if !own_is_enough {
            return stream::iter(values).buffered(KEYS_AT_ONCE).collect().await;
        }
        let mut known = Vec::with_capacity(keys.len());
        for value in values {
            known.push(value.await);
        }
        known
    }

    async fn node(&self) -> NodeReport {
        let totals = self.reader.totals();
        let uptime = self.facts.clock.now().saturating_duration_since(self.facts.company.started);
        NodeReport {
            id: self.facts.own.id,
            addresses: vec![self.facts.own.addr],
            network: self.facts.network.clone(),
            role: self.facts.role.now(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: uptime.as_secs(),
            peers: self.peers().await as u64,
            records: totals.records,
            bytes: totals.bytes,
            active_objects: self.shortcut.replica.directory().len() as u64,
        }
    }

    async fn metrics(&self) -> Vec<Metric> {
        let totals = self.reader.totals();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let net = &self.counters;
        let mut metrics = upkeep_metrics(self.upkeep());
        metrics.extend(self.tracker.to_metrics());
        metrics.extend([
            Metric::gauge("comet_peers", "Contacts in the routing table", self.peers().await as f64),
            Metric::gauge("comet_records", "Records in the store", totals.records as f64),
            Metric::gauge("comet_store_bytes", "Bytes of the records in the store", totals.bytes as f64),
            Metric::gauge(
                "comet_active_objects",
                "Objects whose actor is running",
                self.shortcut.replica.directory().len() as f64,
            ),
            Metric::counter("comet_peer_asks_total", "Requests sent to peers", count(&net.asks)),
            Metric::counter(
                "comet_peer_asks_failed_total",
                "Requests to peers without an answer",
                count(&net.asks_failed),
            ),
            Metric::counter("comet_peer_dials_total", "Connections tried", count(&net.dials)),
            Metric::counter(
                "comet_peer_dials_failed_total",
                "Connections that could not be made",
                count(&net.dials_failed),
            ),
            Metric::counter(
                "comet_peer_accepted_total",
                "Connections accepted from peers",
                count(&net.accepted),
            ),
            Metric::counter("comet_peer_refused_total", "Connections refused to peers", count(&net.refused)),
            Metric::counter(
                "comet_peer_challenged_total",
                "Peers made to prove their address",
                count(&net.challenged),
            ),
            Metric::counter("comet_peer_requests_total", "Requests of peers", count(&net.requests)),
            Metric::counter(
                "comet_peer_requests_overloaded_total",
                "Requests of peers refused for load",
                count(&net.requests_overloaded),
            ),
            Metric::counter(
                "comet_peer_requests_broken_total",
                "Requests of peers too large, too slow or cut off",
                count(&net.requests_broken),
            ),
        ]);
        metrics
    }

    async fn healthy(&self) -> Health {
        health(&self.facts, self.peers().await, self.reader.check())
    }
}

fn upkeep_metrics(counts: UpkeepCounts) -> Vec<Metric> {
    let UpkeepCounts { rounds, checks, copies, drops, deletions, sent_bytes } = counts;
    vec![
        Metric::counter("comet_upkeep_rounds_total", "Times that all objects were checked", rounds),
        Metric::counter("comet_upkeep_checks_total", "Objects whose replicas were checked", checks),
        Metric::counter("comet_upkeep_copies_total", "Copies that other nodes lacked and took", copies),
        Metric::counter("comet_upkeep_drops_total", "Copies dropped because others keep them", drops),
        Metric::counter("comet_upkeep_deletions_total", "Copies deleted after the fact", deletions),
        Metric::counter("comet_upkeep_sent_bytes_total", "Bytes of digests and copies sent", sent_bytes),
    ]
}

/// How a node does that knows so many peers, and whose store says this of itself.
fn health(facts: &NodeFacts, peers: usize, store: Result<(), StoreError>) -> Health {
    if peers == 0 && facts.company.is_expected(facts.clock.now()) {
        return Health::Unhealthy { reason: "no other node is known".into() };
    }
    match store {
        Ok(()) => Health::Healthy,
        Err(error) => Health::Unhealthy { reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use comet_routing::NodeId;

    use super::*;

    #[test]
    fn a_node_is_healthy_with_a_peer_or_alone_by_choice_and_with_a_store_that_writes() {
        let facts = |alone_by_choice: bool| NodeFacts {
            own: Contact::new(NodeId::from_bytes([1; 32]), (Ipv4Addr::LOCALHOST, 7400).into()),
            network: "test".into(),
            company: Company {
                has_peers: !alone_by_choice,
                had_contacts: false,
                started: Clock::System.now(),
            },
            role: OwnRole::default(),
            clock: Clock::System,
        };
        let unhealthy = |reason: &str| Health::Unhealthy { reason: reason.into() };
        let full = || Err(StoreError::Unwritable { reason: "no space left on device".into() });
        assert_eq!(health(&facts(false), 1, Ok(())), Health::Healthy);
        assert_eq!(health(&facts(true), 0, Ok(())), Health::Healthy);
        assert_eq!(health(&facts(false), 0, Ok(())), unhealthy("no other node is known"));
        assert_eq!(
            health(&facts(false), 1, full()),
            unhealthy("the store cannot write at the moment: no space left on device")
        );
    }
}
