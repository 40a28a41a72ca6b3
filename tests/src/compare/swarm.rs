//! What operations take across a swarm: nodes in one process, with stores on disk and QUIC between them.
//!
//! Gets and puts enter the nodes by turns, so a quarter of them enters a node that holds the object itself. Puts are on the disks of a majority
//! of eight replicas when they are acknowledged.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use comet_node::{
    client::Client,
    config::NodeConfig,
    node::block_on,
    swarm::{Swarm, SwarmOptions},
};
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Expected, Get, Put, Read},
};
use futures_util::future::join_all;

use super::{Plan, Report};
use crate::resilience::percentile;

/// Operations of one kind at most, and the time after which no more are begun.
const OPERATIONS: usize = 2_000;
const PERIOD: Duration = Duration::from_secs(20);

/// Objects that are put and got.
const OBJECTS: usize = 100;

/// Operations under way at once where the rate is measured.
const IN_FLIGHT: usize = 16;

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
    // Whatever is got has been put: the objects come first, and are not counted.
    times(OBJECTS, IN_FLIGHT, &put).await?;
    let large = Value::from("7".repeat(LARGE_BYTES).as_str()).encode();
    let put_large = |n: usize| self::put(clients, n, format!("large-{}", n % 8), large.clone());
    times(8, 1, &put_large).await?;

    let mut text = format!(
        "| operation, {} nodes | in flight | per second | p50 | p99 |\n|---|---|---|---|---|\n",
        clients.len()
    );
    text += &row("put", 1, times(few, 1, &put).await?);
    text += &row("get", 1, times(few, 1, &get).await?);
    text += &row("put", IN_FLIGHT, times(many, IN_FLIGHT, &put).await?);
    text += &row("get", IN_FLIGHT, times(many, IN_FLIGHT, &get).await?);
    let get_large = |n: usize| self::get(clients, n, format!("large-{}", n % 8));
    text += &row("get of 60 KB", 1, times(few, 1, &get_large).await?);
    Ok(Report { text, charts: vec![] })
}

fn row(what: &str, in_flight: usize, (times, whole): (Vec<Duration>, Duration)) -> String {
    let per_second = times.len() as f64 / whole.as_secs_f64();
    let ms = |percent| percentile(times.clone(), percent).as_secs_f64() * 1e3;
    format!("| {what} | {in_flight} | {per_second:.0} | {:.2} ms | {:.2} ms |\n", ms(50), ms(99))
}

/// How long each of so many operations takes, and all of them; so many are under way at once.
async fn times<F: Future<Output = anyhow::Result<()>>>(
    operations: usize,
    in_flight: usize,
    operation: &impl Fn(usize) -> F,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let (began, next) = (Instant::now(), Cell::new(0));
    let asker = async || {
        let mut times = Vec::new();
        while next.get() < operations && began.elapsed() < PERIOD {
            let n = next.replace(next.get() + 1);
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
    entrance(clients, n)?.put(put).await.with_context(|| format!("{name} was not stored"))?;
    Ok(())
}

async fn get(clients: &[Client], n: usize, name: String) -> anyhow::Result<()> {
    let get = Get { key: Key::of(&name), payload: None, read: Read::First, deadline: None };
    entrance(clients, n)?.get(get).await.with_context(|| format!("{name} was not read"))?;
    Ok(())
}
