//! What operations take across a swarm: nodes in one process, with stores on disk and QUIC between them.
//!
//! Gets and puts enter the nodes by turns, so a quarter of them enters a node that holds the object itself. Puts are on the disks of a majority
//! of eight replicas when they are acknowledged. The first make the connections between nodes and have a line of their own.

use std::{
    cell::RefCell,
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use comet_node::{
    client::Client,
    config::NodeConfig,
    http::Backend,
    node::block_on,
    swarm::{Swarm, SwarmOptions},
};
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Expected, Get, Put, Read},
};
use futures_util::future::join_all;

use super::{Plan, Report, laps::Lap};

/// Operations of one kind at most, and the time after which no more are begun.
pub(super) const OPERATIONS: usize = 2_000;
const PERIOD: Duration = Duration::from_secs(20);

/// Objects that are put and got.
const OBJECTS: usize = 100;

/// Operations under way at once where the rate is measured.
pub(super) const IN_FLIGHT: usize = 16;

/// A large value: nearly what a put may have.
const LARGE_BYTES: usize = 60_000;

/// Measures it.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let nodes = plan.extent.of(32, 4);
    let options = SwarmOptions { nodes, data: Some(top.path().to_owned()), demo: false };
    block_on(async {
        let swarm = Swarm::start(&options, &NodeConfig::default()).await?;
        swarm.joined().await;
        let report = report(plan, &swarm.clients()).await;
        swarm.stop().await;
        report
    })
}

async fn report(plan: &Plan, clients: &[Client]) -> anyhow::Result<Report> {
    let few = plan.extent.of(OPERATIONS / 4, 20);
    let many = plan.extent.of(OPERATIONS, 40);
    let put = |n: usize| put(clients, n, format!("small-{}", n % OBJECTS), Value::from("hello").encode());
    let get = |n: usize| get(clients, n, format!("small-{}", n % OBJECTS));
    let mut text = format!(
        "| operation, {} nodes | in flight | per second | p50 | p99 | requests between nodes for each |\n\
         |---|---|---|---|---|---|\n",
        clients.len()
    );
    let large = Value::from("7".repeat(LARGE_BYTES).as_str()).encode();
    let put_large = |n: usize| self::put(clients, n, format!("large-{}", n % 8), large.clone());
    let get_large = |n: usize| self::get(clients, n, format!("large-{}", n % 8));
    // Whatever is got has been put, and nodes that have not met make their connections here.
    text += &row(clients, "put, the first", IN_FLIGHT, 0..many, &put).await?;
    times(0..8, 1, PERIOD, &put_large).await?;
    text += &row(clients, "put", 1, 0..few, &put).await?;
    text += &row(clients, "get", 1, 0..few, &get).await?;
    text += &row(clients, "put", IN_FLIGHT, 0..many, &put).await?;
    text += &row(clients, "get", IN_FLIGHT, 0..many, &get).await?;
    text += &row(clients, "get of 60 KB", 1, 0..few, &get_large).await?;
    Ok(Report { text, charts: vec![] })
}

/// What operations with these numbers take, and how many requests the nodes send each other meanwhile, their upkeep included.
async fn row<F: Future<Output = anyhow::Result<()>>>(
    clients: &[Client],
    what: &str,
    in_flight: usize,
    numbers: Range<usize>,
    operation: &impl Fn(usize) -> F,
) -> anyhow::Result<String> {
    let before = requests(clients).await;
    let (times, whole) = times(numbers, in_flight, PERIOD, operation).await?;
    let each = (requests(clients).await - before) / times.len().max(1) as f64;
    let Lap { per_second, p50_ms, p99_ms } = Lap::of(&times, whole);
    Ok(format!("| {what} | {in_flight} | {per_second:.0} | {p50_ms:.2} ms | {p99_ms:.2} ms | {each:.1} |\n"))
}

/// Requests that these nodes have sent to others.
async fn requests(clients: &[Client]) -> f64 {
    let mut sent = 0.0;
    for client in clients {
        let metrics = client.metrics().await;
        let asks = metrics.iter().filter(|metric| metric.name == "comet_peer_asks_total");
        sent += asks.flat_map(|metric| &metric.series).map(|series| series.value).sum::<f64>();
    }
    sent
}

/// How long each of the operations with these numbers takes, and all of them; so many are under way at once, and none is begun
/// after the period.
pub(super) async fn times<F: Future<Output = anyhow::Result<()>>>(
    numbers: Range<usize>,
    in_flight: usize,
    period: Duration,
    operation: &impl Fn(usize) -> F,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let (began, numbers) = (Instant::now(), RefCell::new(numbers));
    let next = || if began.elapsed() < period { numbers.borrow_mut().next() } else { None };
    let asker = async || {
        let mut times = Vec::new();
        while let Some(n) = next() {
            let asked = Instant::now();
            operation(n).await?;
            times.push(asked.elapsed());
        }
        anyhow::Ok(times)
    };
    let times = join_all((0..in_flight).map(|_| asker())).await;
    let times = times.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok((times, began.elapsed()))
}

/// The node through which an operation enters: all of them by turns, with a stride that has no factor in common with
/// the numbers of objects.
fn entrance(clients: &[Client], n: usize) -> anyhow::Result<&Client> {
    clients.get((n * 7 + n / OBJECTS) % clients.len()).context("a swarm has at least one node")
}

async fn put(clients: &[Client], n: usize, name: String, data: Bytes) -> anyhow::Result<()> {
    put_through(entrance(clients, n)?, name, data).await
}

async fn get(clients: &[Client], n: usize, name: String) -> anyhow::Result<()> {
    get_through(entrance(clients, n)?, name).await
}

/// Puts an object that belongs to nobody through this node.
pub(super) async fn put_through(client: &Client, name: String, data: Bytes) -> anyhow::Result<()> {
    let put = Put {
        key: Key::of(&name),
        data,
        code: None,
        publication: None,
        ttl: None,
        replicas: None,
        owner: None,
        expected: Expected::default(),
        deadline: None,
    };
    client.put(put).await.with_context(|| format!("{name} was not stored"))?;
    Ok(())
}

/// Gets what this node finds first.
pub(super) async fn get_through(client: &Client, name: String) -> anyhow::Result<()> {
    let get = Get { key: Key::of(&name), payload: None, read: Read::First, deadline: None };
    client.get(get).await.with_context(|| format!("{name} was not read"))?;
    Ok(())
}
