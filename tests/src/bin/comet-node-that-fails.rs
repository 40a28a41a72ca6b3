//! A real node, one part of which fails as soon as it runs: `comet-node-that-fails DATA PART`.
//!
//! The parts are in [`main`]. Each must end the process with the exit code for a bug, and leave a data directory with which an
//! ordinary node starts.

use std::{
    env,
    future::pending,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
};

use actix::{Actor, Context};
use comet_node::{
    config::NodeConfig,
    http::{self, Backend, Health, Metric, api::NodeReport},
    node::{Node, Threads, block_on},
    process,
    threads::{Stage, Worker},
    tracker,
};
use comet_routing::Key;
use comet_runtime::{
    Refusal,
    dht::{
        Delete, DeleteReport, Dht, Get, GetReport, Inspection, LogProof, LookupReport, Put, PutReport,
        ReplicaLog,
    },
};

const REASON: &str = "this part was asked to fail";

/// An actor that fails where it is started.
struct Faulty;

impl Actor for Faulty {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        panic!("{REASON}");
    }
}

/// What the interfaces for clients stand on, if it fails at the first touch.
#[derive(Clone)]
struct Ground;

impl Dht for Ground {
    async fn put(&self, _: Put) -> Result<PutReport, Refusal> {
        panic!("{REASON}")
    }

    async fn get(&self, _: Get) -> Result<GetReport, Refusal> {
        panic!("{REASON}")
    }

    async fn delete(&self, _: Delete) -> Result<DeleteReport, Refusal> {
        panic!("{REASON}")
    }

    async fn lookup(&self, _: Key) -> Result<LookupReport, Refusal> {
        panic!("{REASON}")
    }

    async fn inspect(&self, _: Key) -> Result<Vec<Inspection>, Refusal> {
        panic!("{REASON}")
    }

    async fn logs(&self, _: Key, _: Option<LogProof>) -> Result<Vec<ReplicaLog>, Refusal> {
        panic!("{REASON}")
    }
}

impl Backend for Ground {
    async fn node(&self) -> NodeReport {
        panic!("{REASON}")
    }

    async fn metrics(&self) -> Vec<Metric> {
        panic!("{REASON}")
    }

    async fn healthy(&self) -> Health {
        panic!("{REASON}")
    }
}

fn main() -> anyhow::Result<()> {
    process::end_on_panic();
    let mut words = env::args().skip(1);
    let mut config = NodeConfig::default();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (config.node.listen, config.http.listen) = (any, any);
    config.node.data = words.next().expect("the data directory is named").into();
    let part = words.next().expect("the part that fails is named");
    block_on(async {
        let threads = Threads::spawn(1)?;
        let node = Node::start(&config, &threads).await?;
        let stages = threads.stages();
        match part.as_str() {
            // The router, the coordinator, the responder, upkeep and the transport live there.
            "network" => fail(&stages.network),
            "objects" => stages.shards.iter().for_each(|(stage, _)| fail(stage)),
            "store" => fail(&node.store_stage()),
            "main" => panic!("{REASON}"),
            "task" => drop(actix_rt::spawn(async { panic!("{REASON}") })),
            "pool" => drop(tokio::task::spawn_blocking(|| panic!("{REASON}"))),
            "http" => {
                let (server, addr) = http::serve(&config.http, &config.limits, &config.replication, Ground)?;
                actix_rt::spawn(server);
                ask(addr, "/healthz")?;
            }
            "tracker" => {
                let home = any.ip();
                let (server, addr) =
                    tracker::serve(&config.tracker, any, home, Ground, node.client().tracker())?;
                actix_rt::spawn(server);
                ask(
                    addr,
                    "/announce?info_hash=01234567890123456789&peer_id=01234567890123456789&port=6881&left=0",
                )?;
            }
            "hanging" => hang()?,
            part => panic!("there is no part {part:?}"),
        }
        pending().await
    })
}

fn fail(stage: &Stage) {
    stage.start(|| Faulty);
}

fn ask(addr: SocketAddr, path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())?;
    // It is open until the process ends.
    std::mem::forget(stream);
    Ok(())
}

/// Has a thread of actors wait for what never comes.
fn hang() -> anyhow::Result<()> {
    let worker = Arc::new(Worker::spawn("hanging")?);
    process::watch_threads(vec![worker.heartbeat(1)])?;
    let Stage::Thread(arbiter) = worker.stage() else { unreachable!("a worker is a thread") };
    let (never, wait) = mpsc::channel::<()>();
    arbiter.spawn_fn(move || {
        wait.recv().ok();
    });
    std::mem::forget((worker, never));
    Ok(())
}
