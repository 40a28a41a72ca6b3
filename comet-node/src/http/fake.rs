//! A backend in memory for the tests of the interface: one replica, no handlers, a refusal on demand.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Limits, Refusal, Value,
    dht::{
        Answer, Delete, DeleteReport, Dht, Get, GetReport, Inspection, LogLine, LogProof, LookupReport, Put,
        PutReport, Read, ReplicaLog, Usage,
    },
};
use comet_store::{Act, Statement, Version, content_hash};

use super::{Backend, Health, Metric, NodeReport};
use crate::{operation::Role, several::values_of};

pub(crate) const NETWORK: &str = "test";

pub(crate) const USAGE: Usage = Usage { steps: 120, memory_bytes: 1_234, messages: 1 };

/// One replica that keeps what it is given.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    /// What was put and not deleted.
    pub(crate) objects: BTreeMap<Key, Put>,
    /// The last get, with its payload and options.
    pub(crate) last_get: Option<Get>,
    /// How many values were asked for together, each time.
    pub(crate) together: Vec<usize>,
    /// What every request is answered with, if set.
    pub(crate) refusal: Option<Refusal>,
    /// Why the node is unhealthy, if it is.
    pub(crate) ailment: Option<String>,
    /// How long it takes to look at an object.
    pub(crate) inspection_time: Duration,
    /// How long it takes to put one.
    pub(crate) put_time: Duration,
}

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state();
        match &state.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(state),
        }
    }
}

/// Lets time pass, if any is to.
async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

pub(crate) fn replica() -> Contact {
    Contact::new(NodeId::from_bytes([0xab; 32]), SocketAddr::from(([127, 0, 0, 1], 7401)))
}

fn version(put: &Put) -> Version {
    let sequence = put.owner.as_ref().map_or(1, |(sequence, _)| *sequence);
    Version { sequence, hash: content_hash(put.code.as_ref().map(|code| &code.hash), &put.data) }
}

impl Dht for Fake {
    async fn put(&self, put: Put) -> Result<PutReport, Refusal> {
        let takes = self.state().put_time;
        pass(takes).await;
        let mut state = self.ready()?;
        let version = version(&put);
        let ttl = put.ttl.unwrap_or(Duration::from_secs(86_400));
        let wanted = put.replicas.unwrap_or(8);
        if let Some((sequence, ownership)) = &put.owner {
            let act = Act::Put { content: &version.hash, ttl_seconds: ttl.as_secs(), replicas: wanted };
            let statement = Statement { network: NETWORK, key: &put.key, sequence: *sequence, act };
            ownership.verify(&statement).map_err(|error| Refusal::NotOwner(error.to_string()))?;
        } else if put.key.is_owned() {
            return Err(Refusal::NotOwner("this key belongs to an owner".to_owned()));
        }
        let held = state.objects.get(&put.key).map(self::version);
        if !put.expected.is_met_by(held) {
            return Err(Refusal::Conflict { held });
        }
        state.objects.insert(put.key, put);
        let failed = vec![(replica(), Refusal::Timeout { deadline_ms: 300 })];
        Ok(PutReport { version, stored: vec![(replica(), USAGE)], failed, wanted, quorum: 1, ttl })
    }

    async fn get(&self, get: Get) -> Result<GetReport, Refusal> {
        let mut state = self.ready()?;
        let put = state.objects.get(&get.key).ok_or(Refusal::NotFound)?;
        let value = Value::decode(&put.data, Limits::default().value_bounds())
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let (version, active) = (version(put), put.code.is_some());
        let answer = Answer { replica: replica(), value, version, active, usage: USAGE };
        let count = if get.read == Read::First { 1 } else { 2 };
        state.last_get = Some(get);
        Ok(GetReport { answers: vec![answer; count], failed: Vec::new() })
    }

    async fn delete(&self, delete: Delete) -> Result<DeleteReport, Refusal> {
        let mut state = self.ready()?;
        if let Some((sequence, ownership)) = &delete.owner {
            let statement =
                Statement { network: NETWORK, key: &delete.key, sequence: *sequence, act: Act::Delete };
            ownership.verify(&statement).map_err(|error| Refusal::NotOwner(error.to_string()))?;
        }
        state.objects.remove(&delete.key).ok_or(Refusal::NotFound)?;
        Ok(DeleteReport { deleted: vec![replica()], failed: Vec::new() })
    }

    async fn lookup(&self, _key: Key) -> Result<LookupReport, Refusal> {
        drop(self.ready()?);
        Ok(LookupReport { nodes: vec![replica()], hops: 2, queries: 5 })
    }

    async fn inspect(&self, key: Key) -> Result<Vec<Inspection>, Refusal> {
        let takes = self.state().inspection_time;
        pass(takes).await;
        let state = self.ready()?;
        let put = state.objects.get(&key).ok_or(Refusal::NotFound)?;
        Ok(vec![Inspection {
            replica: replica(),
            version: version(put),
            owner: put.owner.as_ref().map(|(_, ownership)| ownership.public_key),
            handlers: Vec::new(),
            code_hash: put.code.as_ref().map(|code| code.hash),
            age_seconds: 60,
            remaining_seconds: 3_600,
            data_bytes: put.data.len() as u64,
            state_bytes: 0,
            replicas: put.replicas.unwrap_or(8),
            active: false,
            usage: USAGE,
        }])
    }

    async fn logs(&self, key: Key, proof: Option<LogProof>) -> Result<Vec<ReplicaLog>, Refusal> {
        drop(self.ready()?);
        if let Some(LogProof { ownership, sequence }) = &proof {
            let statement = Statement { network: NETWORK, key: &key, sequence: *sequence, act: Act::ReadLog };
            ownership.verify(&statement).map_err(|error| Refusal::NotOwner(error.to_string()))?;
        }
        let line = LogLine { age_ms: 1_500, failure: true, text: "onGet: boom".to_owned() };
        Ok(vec![ReplicaLog { replica: replica(), lines: vec![line] }])
    }
}

impl Backend for Fake {
    async fn values(&self, keys: &[Key]) -> Vec<Result<Value, Refusal>> {
        self.state().together.push(keys.len());
        values_of(self, keys).await
    }

    async fn node(&self) -> NodeReport {
        NodeReport {
            id: replica().id,
            addresses: vec![replica().addr],
            network: NETWORK.to_owned(),
            role: Role::Server,
            version: "0.1.0".to_owned(),
            uptime_seconds: 90,
            peers: 3,
            records: 2,
            bytes: 2_048,
            active_objects: 1,
        }
    }

    async fn metrics(&self) -> Vec<Metric> {
        vec![Metric::gauge("comet_peers", "Contacts in the routing table", 3.0)]
    }

    async fn healthy(&self) -> Health {
        match self.state().ailment.clone() {
            Some(reason) => Health::Unhealthy { reason },
            None => Health::Healthy,
        }
    }
}
