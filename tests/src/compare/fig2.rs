//! The paper's Fig. 2 drawn again: gets of objects of one node, without a network.
//!
//! One thread serves the objects, as it serves the node's Redis clients, and the same thread asks in a closed loop: so many gets are in
//! flight, and each that is answered is followed by the next. Steps are turns of a loop in `onGet`.

use std::{
    cell::Cell,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use comet_node::{
    client::Client,
    config::NodeConfig,
    node::{Node, Threads, block_on},
};
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Expected, Get, Put, Read},
};
use comet_store::Code;
use futures_util::future::join_all;
use tokio::{sync::oneshot, task::yield_now};

use super::{
    Plan, Report,
    chart::{Axis, Chart, Line, Scale},
};
use crate::resilience::percentile;

/// Gets in flight.
const IN_FLIGHT: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Gets of one run at most.
const GETS_MAX: usize = 1_000_000;

/// After so many gets a loop lets the others have the thread, if the gets themselves never do.
const BURST: usize = 16;

/// One run.
struct Lap {
    per_second: f64,
    times: Vec<Duration>,
}

/// Measures it.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let mut config = NodeConfig::default();
    config.node.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.node.data = top.path().join("node");
    config.runtime.cpu_seconds_per_day = 86_400;
    (config.limits.steps, config.limits.turn_ms) = (1_000_000, 1_000);
    block_on(async {
        let threads = Threads::spawn(1)?;
        let node = Node::start(&config, &threads).await?;
        let report = report(plan, &threads, node.client()).await;
        node.stop().await;
        report
    })
}

/// The kinds of objects, and their code.
fn kinds() -> Vec<(&'static str, Option<String>)> {
    let steps = |steps: u32| {
        Some(format!(
            "function aso:onGet() local n = 0 for i = 1, {steps} do n = (n * 31 + i) % 65521 end return n end"
        ))
    };
    vec![
        ("plain object", None),
        ("empty handler", Some("function aso:onGet() end".into())),
        ("100 steps", steps(100)),
        ("10 K steps", steps(10_000)),
        ("100 K steps", steps(100_000)),
    ]
}

async fn report(plan: &Plan, threads: &Threads, client: &Client) -> anyhow::Result<Report> {
    let mut text =
        String::from("| object | in flight | gets/s | p50 | p90 | p99 |\n|---|---|---|---|---|---|\n");
    let period = plan.extent.of(Duration::from_secs(1), Duration::from_millis(20));
    let mut lines = Vec::new();
    for (name, code) in kinds() {
        let put = Put {
            key: Key::of(name),
            data: Value::from("hello").encode(),
            code: code.map(Code::new),
            publication: None,
            ttl: None,
            replicas: Some(1),
            owner: None,
            expected: Expected::default(),
            deadline: None,
        };
        client.put(put).await.with_context(|| format!("{name} was not stored"))?;
        let mut points = Vec::new();
        for in_flight in IN_FLIGHT {
            let lap = on_the_front(threads, client, Key::of(name), in_flight, period).await?;
            points.push((in_flight as f64, lap.per_second));
            let time =
                |percent| format!("{:.1} µs", percentile(lap.times.clone(), percent).as_secs_f64() * 1e6);
            let times = [50, 90, 99].map(time).join(" | ");
            writeln!(text, "| {name} | {in_flight} | {:.0} | {times} |", lap.per_second)?;
        }
        lines.push(Line { name: name.into(), points });
    }
    let axis = |label: &str| Axis { label: label.into(), scale: Scale::Log };
    let title = "Local gets in a closed loop, one thread".into();
    let chart = Chart { title, x: axis("gets in flight"), y: axis("gets per second"), lines };
    Ok(Report { text, charts: vec![("fig2", chart)] })
}

/// Asks from the thread that serves the objects, where connections of Redis clients are.
async fn on_the_front(
    threads: &Threads,
    client: &Client,
    key: Key,
    in_flight: usize,
    period: Duration,
) -> anyhow::Result<Lap> {
    let stage = threads.object_stages().into_iter().next().context("there is a thread for objects")?;
    let (done, lap) = oneshot::channel();
    let client = client.clone();
    stage.run(move || {
        actix_rt::spawn(async move { done.send(lap_of(&client, key, in_flight, period).await).ok() });
    });
    lap.await.context("the thread of the objects ended")?
}

async fn lap_of(client: &Client, key: Key, in_flight: usize, period: Duration) -> anyhow::Result<Lap> {
    let (began, left) = (Instant::now(), Cell::new(GETS_MAX));
    let asker = async || {
        let mut times = Vec::new();
        while began.elapsed() < period && left.get() > 0 {
            left.set(left.get() - 1);
            let asked = Instant::now();
            client.get(Get { key, payload: None, read: Read::First, deadline: None }).await?;
            times.push(asked.elapsed());
            if times.len().is_multiple_of(BURST) {
                yield_now().await;
            }
        }
        anyhow::Ok(times)
    };
    let times = join_all((0..in_flight).map(|_| asker())).await;
    let seconds = began.elapsed().as_secs_f64();
    let times: Vec<Duration> = times.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok(Lap { per_second: times.len() as f64 / seconds, times })
}
