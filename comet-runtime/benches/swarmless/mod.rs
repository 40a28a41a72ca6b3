//! One shard over a store in memory, with nobody to talk to.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId, clock::Clock};
use comet_runtime::{
    Backstop, Caller, CallerAddresses, Limits, OpResult, Origin, Reach, Refusal, Trail, Value,
    actors::{Directory, Links, Perform, Replica, Shard, ShardConfig},
    cpu::CpuRate,
    visit::Visit,
};
use comet_store::{
    Code, PutRecord, Record, ReplicaStore, Rule, StoreConfig, Version, content_hash, in_memory,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

/// A handler that changes its state at every read.
pub(crate) const COUNTER: &str = "aso.gets = 0
    function aso:onGet(caller)
      self.gets = self.gets + 1
      return self.gets
    end";

/// Puts under way while the store is filled.
const PUTS_AT_ONCE: usize = 500;

/// Answers every request that it is stopping.
struct NoNetwork;

impl Actor for NoNetwork {
    type Context = Context<Self>;
}

impl Handler<Perform> for NoNetwork {
    type Result = OpResult;

    fn handle(&mut self, _: Perform, _: &mut Self::Context) -> OpResult {
        Err(Refusal::Stopping("the node".into()))
    }
}

/// A replica that stores `objects` counters, none of them active. Runs in an actix system.
pub(crate) async fn replica(objects: usize) -> Replica {
    let clock = Clock::System;
    let roomy = StoreConfig { queue_max: PUTS_AT_ONCE, ..StoreConfig::default() };
    let (writer, reader) = in_memory(roomy);
    let store = ReplicaStore::new(writer, clock, Vec::new()).start();
    let code = Code::new(COUNTER);
    for from in (0..objects).step_by(PUTS_AT_ONCE) {
        let put = |n| {
            let record = record(key(n), &code, clock.wall_ms());
            store.send(PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None })
        };
        let stored: Vec<_> = (from..objects.min(from + PUTS_AT_ONCE)).map(put).collect();
        for outcome in stored {
            outcome.await.expect("the store runs").expect("the store has room");
        }
    }
    let links = Links::new(&store, reader.clone(), NoNetwork.start().recipient());
    let config = ShardConfig {
        index: 0,
        count: 1,
        limits: Limits::default(),
        backstop: Backstop::WallClock,
        reach: Reach::Strict,
        caller_addresses: CallerAddresses::default(),
        publishers: Arc::default(),
        failures: (CpuRate::daily(86_400), CpuRate::daily(86_400)),
        object_cpu: CpuRate::daily(86_400),
        timer_cpu: CpuRate::daily(86_400),
        local: node(9),
        state_flush: Duration::from_millis(200),
        idle: Duration::from_secs(3_600),
        active_max: objects,
        place_parts: 1,
        queue: 1_024,
        clock,
        rng: ChaCha12Rng::seed_from_u64(1),
    };
    let directory = Arc::new(Directory::default());
    let shard = Shard::new(config, links, directory.clone()).start();
    Replica::new(directory, reader, vec![shard.recipient()], clock)
}

/// The key of the `n`-th object.
pub(crate) fn key(n: usize) -> Key {
    Key::of(n.to_string())
}

/// A read by a client of another node.
pub(crate) fn get() -> Visit {
    let caller = Caller { node: node(1), callback: None, owner: None, origin: Origin::Client };
    Visit::Get { caller, payload: None, trail: Trail::FRESH }
}

pub(crate) fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn record(key: Key, code: &Code, now: u64) -> Record {
    let data = Value::from("hello").encode();
    Record {
        key,
        ownership: None,
        version: Version { sequence: 1, hash: content_hash(Some(&code.hash), &data) },
        created_ms: now,
        expires_ms: now + 86_400_000,
        ttl_seconds: 86_400,
        replicas: 8,
        code: Some(code.clone()),
        publication: None,
        data,
        state: Bytes::new(),
    }
}
