//! What a node takes in memory, by the number of objects that it has.
//!
//! A store is filled, a node is started over it as a process of its own, and every object is read once; what the kernel counts as
//! resident then, less what an empty node takes, is shared among the objects. Plain values are read from the store's file through a
//! cache of fixed size (`store.cache_bytes`), so their share sinks as there are more of them. A get of an object with handlers activates it.

use std::{fmt::Write as _, path::Path, time::Instant};

use actix::Actor as _;
use anyhow::Context as _;
use comet_node::{config::DEFAULT_NETWORK, node::block_on};
use comet_routing::{Key, clock::Clock};
use comet_runtime::Value;
use comet_store::{
    Code, Durability, Flush, PutRecord, Record, ReplicaStore, Rule, StoreConfig, Version, content_hash,
};
use futures_util::future::join_all;

use super::{
    Plan, Report,
    chart::{Axis, Chart, Line, Scale},
    servers::{Connection, node},
};

/// Active objects at most: as many as one thread of a node keeps.
pub const ACTIVE_MAX: u64 = 100_000;

/// Objects without handlers.
const PLAIN: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Objects with handlers.
const ACTIVE: [u64; 3] = [1_000, 10_000, 100_000];

/// Objects of which as many as may be have handlers, and the others none.
const MIXED: u64 = 1_000_000;

/// What each holds, and what a get of it answers.
const VALUE: &str = "one hundred bytes of text, which is about what a session, a counter with a name or a contact would take.";

/// Counts, as the smallest object that is worth having does.
const COUNTER: &str = "function aso:onGet() self.n = (self.n or 0) + 1 return 'ok' end";

/// Writes, and reads, that are under way at once.
const AT_ONCE: u64 = 200;

/// What was counted with so many objects.
struct Count {
    objects: u64,
    active: u64,
    start_ms: f64,
    started_bytes: u64,
    read_bytes: u64,
}

/// Measures it.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let plain = plan.extent.of(&PLAIN[..], &PLAIN[..1]);
    let active: Vec<u64> =
        plan.extent.of(&ACTIVE[..], &ACTIVE[..1]).iter().map(|n| *n.min(&plan.active_max)).collect();
    let empty = series(plan, &[0], None)?.remove(0);
    let (plain, active) = (series(plan, plain, None)?, series(plan, &active, Some(&Code::new(COUNTER)))?);
    let mixed = mixed(plan, plan.extent.of(MIXED, 2_000), active.last().map_or(0, |count| count.objects))?;

    let mut text = String::from(
        "| objects | active | start | resident after the start | after each was read | bytes for each |\n|---|---|---|---|---|---|\n",
    );
    let base = empty.read_bytes;
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for count in [&empty].into_iter().chain(&plain).chain(&active).chain([&mixed]) {
        let Count { objects, active, start_ms, started_bytes, read_bytes } = count;
        let each = read_bytes
            .saturating_sub(base)
            .checked_div(*objects)
            .map_or("-".into(), |bytes| bytes.to_string());
        writeln!(
            text,
            "| {objects} | {active} | {start_ms:.0} ms | {:.1} MB | {:.1} MB | {each} |",
            mb(*started_bytes),
            mb(*read_bytes)
        )?;
    }
    let line = |name: &str, counts: &[Count], bytes: fn(&Count) -> u64| Line {
        name: name.into(),
        points: counts.iter().map(|count| (count.objects as f64, mb(bytes(count)))).collect(),
    };
    let lines = vec![
        line("active", &active, |count| count.read_bytes),
        line("plain, each read", &plain, |count| count.read_bytes),
        line("plain, at the start", &plain, |count| count.started_bytes),
    ];
    let axis = |label: &str, scale| Axis { label: label.into(), scale };
    let (x, y) = (axis("objects", Scale::Log), axis("resident memory, MB", Scale::Linear));
    let chart = Chart { title: "Memory of a node".into(), x, y, lines };
    Ok(Report { text, charts: vec![("memory", chart)] })
}

/// Counts with as many objects as each of these numbers says, one store for all of them.
fn series(plan: &Plan, sizes: &[u64], code: Option<&Code>) -> anyhow::Result<Vec<Count>> {
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let data = top.path().join("node");
    std::fs::create_dir_all(&data)?;
    let mut filled = 0;
    let mut counts = Vec::new();
    for size in sizes {
        fill(&data, filled, *size, code)?;
        filled = *size;
        let text = if code.is_some() { "ok" } else { VALUE };
        counts.push(count(plan, &data, &[(*size, text)])?);
    }
    Ok(counts)
}

/// Counts with so many objects in one store, of which the first `active` have handlers.
fn mixed(plan: &Plan, objects: u64, active: u64) -> anyhow::Result<Count> {
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let data = top.path().join("node");
    std::fs::create_dir_all(&data)?;
    fill(&data, 0, active, Some(&Code::new(COUNTER)))?;
    fill(&data, active, objects, None)?;
    count(plan, &data, &[(active, "ok"), (objects, VALUE)])
}

/// Starts a node over this store and reads every object. Those up to each of these numbers answer this text.
fn count(plan: &Plan, data: &Path, parts: &[(u64, &str)]) -> anyhow::Result<Count> {
    let began = Instant::now();
    let (node, addr) = node(plan, data)?;
    let (start, started_bytes) = (began.elapsed(), node.resident_bytes());
    let mut client = Connection::open(addr)?;
    let mut objects = 0;
    for &(end, text) in parts {
        for first in (objects..end).step_by(AT_ONCE as usize) {
            client.get_all((first..end.min(first + AT_ONCE)).map(name), text)?;
        }
        objects = end;
    }
    let active = node.report().context("the node does not answer")?.active_objects;
    Ok(Count {
        objects,
        active,
        start_ms: start.as_secs_f64() * 1e3,
        started_bytes,
        read_bytes: node.resident_bytes(),
    })
}

fn name(number: u64) -> String {
    format!("object-{number}")
}

/// Puts the objects with these numbers into the store of a node that does not run.
fn fill(data: &Path, first: u64, end: u64, code: Option<&Code>) -> anyhow::Result<()> {
    let config = StoreConfig { durability: Durability::Interval, ..StoreConfig::default() };
    let (writer, _) = comet_store::open(data, DEFAULT_NETWORK, config)?;
    block_on(async {
        let store = ReplicaStore::new(writer, Clock::System, vec![]).start();
        let putter = async |offset: u64| {
            for number in (first + offset..end).step_by(AT_ONCE as usize) {
                let record = record(number, code);
                store
                    .send(PutRecord {
                        record: record.into(),
                        source: None,
                        rule: Rule::IfNewer,
                        timer_ms: None,
                    })
                    .await??;
            }
            anyhow::Ok(())
        };
        join_all((0..AT_ONCE).map(putter)).await.into_iter().collect::<anyhow::Result<()>>()?;
        Ok(store.send(Flush).await??)
    })
}

fn record(number: u64, code: Option<&Code>) -> Record {
    let data = Value::from(VALUE).encode();
    Record {
        key: Key::of(name(number)),
        ownership: None,
        version: Version { sequence: 1, hash: content_hash(code.map(|code| &code.hash), &data) },
        created_ms: 0,
        expires_ms: u64::MAX / 2,
        ttl_seconds: 86_400,
        replicas: 8,
        code: code.cloned(),
        publication: None,
        data,
        state: Default::default(),
    }
}
