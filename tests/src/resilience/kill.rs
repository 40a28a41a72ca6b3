//! A real node that holds 1 GB is killed under load, 100 times: what it acknowledged, and how soon it serves.
//!
//! One process with one data directory. Four clients put small objects over HTTP without a pause, remembering
//! what was acknowledged, until the process is killed at a random moment. It is started again, and asked for one
//! of the large objects until it answers: the time from the start of the process to that answer counts. Then
//! every object that was acknowledged in this round is read; in the end those of all rounds are, and some of
//! the large ones. The data file is in the system's cache, as after any kill.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use actix::prelude::*;
use comet_node::config::NodeConfig;
use comet_routing::{Key, clock::Clock};
use comet_runtime::Value;
use comet_store::{
    Durability, Flush, PutRecord, Record, ReplicaStore, Rule, StoreConfig, Version, content_hash,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Figure, percentile, real_time::pass, silent::program};
use crate::process::NodeProcess;

/// Kills.
const ROUNDS: u64 = 100;
/// Objects that are there before, and their size.
const LARGE_OBJECTS: usize = 17_000;
const LARGE_BYTES: usize = 60_000;
/// Every so manieth of them is read in the end.
const LARGE_SAMPLING: usize = 50;
/// Clients that put at the same time.
const CLIENTS: usize = 4;
/// When the process is killed, counted from the beginning of the load.
const LOAD_MS: std::ops::Range<u64> = 50..600;
/// What is aimed at.
const SERVING_MAX: Duration = Duration::from_secs(1);
/// A node that does not serve by then will not.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Measures it; the seed decides the moments.
pub fn measure(seed: u64) -> Vec<Figure> {
    let rng = &mut ChaCha12Rng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(dir.path());
    let mut node = NodeProcess::start(&program(), dir.path(), &[]);
    let (mut acknowledged, mut lost, mut serving) = (Vec::new(), 0, Vec::new());
    for round in 0..ROUNDS {
        let put = load_until_killed(&mut node, round, Duration::from_millis(rng.random_range(LOAD_MS)));
        let asked_for = rng.random_range(0..LARGE_OBJECTS);
        serving.push(time_to_serve(&mut node, &large_name(asked_for)));
        lost += missing(&node.url(), &put, small_value);
        acknowledged.extend(put);
    }
    lost += missing(&node.url(), &acknowledged, small_value);
    let large: Vec<_> = (0..LARGE_OBJECTS).step_by(LARGE_SAMPLING).map(large_name).collect();
    lost += missing(&node.url(), &large, large_value);
    let [p50, max] = [50, 100].map(|percent| percentile(serving.clone(), percent));
    vec![
        Figure::none(
            format!("{ROUNDS} kills under load: of {} acknowledged puts, those lost", acknowledged.len()),
            lost,
        ),
        Figure {
            what: format!("{ROUNDS} kills under load, with 1 GB: from start to the first answer"),
            aim: format!("at most {SERVING_MAX:.0?}"),
            measured: format!("p50 {p50:.0?}, max {max:.0?}"),
            reached: max <= SERVING_MAX,
        },
    ]
}

/// Puts until the node dies, and gives the names that it acknowledged.
fn load_until_killed(node: &mut NodeProcess, round: u64, after: Duration) -> Vec<String> {
    let url = node.url();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (agent, url) = (agent(), &url);
                scope.spawn(move || {
                    let names = (0..).map(|number| format!("round-{round}-{client}-{number}"));
                    names.map_while(|name| put(&agent, url, name)).flatten().collect::<Vec<_>>()
                })
            })
            .collect();
        pass(after);
        node.kill();
        clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect()
    })
}

/// Puts one object: its name if it was acknowledged, nothing if it was refused; `None` if the node is dead.
fn put(agent: &ureq::Agent, node: &str, name: String) -> Option<Option<String>> {
    let request = agent.put(format!("{node}/v1/objects/{name}")).content_type("application/octet-stream");
    let mut answer = request.send(small_value(&name)).ok()?;
    // Read to its end, so that the connection can be used again.
    answer.body_mut().read_to_string().ok()?;
    Some((answer.status().as_u16() == 200).then_some(name))
}

/// The bytes of an object, if it can be read.
fn get(agent: &ureq::Agent, node: &str, name: &str) -> Option<Vec<u8>> {
    let request = agent.get(format!("{node}/v1/objects/{name}")).header("Accept", "application/octet-stream");
    let mut answer = request.call().ok()?;
    let bytes = answer.body_mut().read_to_vec().ok()?;
    (answer.status().as_u16() == 200).then_some(bytes)
}

/// Starts the node again, and gives the time until it has read this object to somebody.
fn time_to_serve(node: &mut NodeProcess, name: &str) -> Duration {
    let began = Instant::now();
    node.restart();
    let agent = agent();
    while get(&agent, &node.url(), name) != Some(large_value(name)) {
        assert!(began.elapsed() < GIVE_UP, "the node does not serve {name}");
    }
    began.elapsed()
}

/// How many of these objects do not read as they were put.
fn missing(node: &str, names: &[String], value: fn(&str) -> Vec<u8>) -> usize {
    let per_client = names.len().div_ceil(CLIENTS).max(1);
    thread::scope(|scope| {
        let clients: Vec<_> = names
            .chunks(per_client)
            .map(|names| {
                scope.spawn(move || {
                    let agent = agent();
                    let is_missing = |name: &&String| get(&agent, node, name) != Some(value(name));
                    names.iter().filter(is_missing).count()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).sum()
    })
}

fn small_value(name: &str) -> Vec<u8> {
    name.repeat(1 + name.len() % 40).into_bytes()
}

fn large_name(number: usize) -> String {
    format!("large-{number}")
}

fn large_value(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(LARGE_BYTES).collect()
}

/// Fills a data directory through the store, as a node would have.
fn fill(dir: &Path) {
    let config = StoreConfig { durability: Durability::Interval, ..StoreConfig::default() };
    let network = NodeConfig::default().node.network;
    let (writer, _) = comet_store::open(dir, &network, config).expect("the store opens");
    System::new().block_on(async {
        let store = ReplicaStore::new(writer, Clock::System, vec![]).start();
        for number in 0..LARGE_OBJECTS {
            let record = large_record(&large_name(number));
            let put = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
            store.send(put).await.expect("the store runs").expect("there is room");
        }
        store.send(Flush).await.expect("the store runs").expect("the disk works");
    });
}

fn large_record(name: &str) -> Record {
    let data = Value::str(large_value(name)).encode();
    let created_ms = Clock::System.wall_ms();
    let ttl_seconds = 86_400;
    Record {
        key: Key::of(name),
        ownership: None,
        version: Version { sequence: 1, hash: content_hash(None, &data) },
        created_ms,
        expires_ms: created_ms + ttl_seconds * 1_000,
        ttl_seconds,
        replicas: 1,
        code: None,
        publication: None,
        data,
        state: Default::default(),
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}
