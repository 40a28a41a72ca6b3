//! A whole swarm in one process: full nodes on loopback, with stores on disk and QUIC between them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context as _;

use crate::{
    client::Client,
    config::NodeConfig,
    demo,
    node::{Fronts, Node, Threads, block_on},
    process::{self, StopSignals},
};

/// What a swarm consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmOptions {
    /// How many nodes.
    pub nodes: usize,
    /// Directory of the nodes' keys and stores; without one, a temporary directory.
    pub data: Option<PathBuf>,
    /// True to store and read an example object first.
    pub demo: bool,
}

/// A running swarm.
pub struct Swarm {
    nodes: Vec<Node>,
    /// Kept to the end: the nodes' actors run on them.
    threads: Threads,
    /// Removed when the swarm is gone.
    _temporary: Option<tempfile::TempDir>,
}

impl Swarm {
    /// Starts the nodes one after the other; each joins through those before it.
    pub async fn start(options: &SwarmOptions, config: &NodeConfig) -> anyhow::Result<Self> {
        let temporary = match options.data {
            Some(_) => None,
            None => Some(tempfile::tempdir().context("cannot make a temporary directory")?),
        };
        let top = match (&options.data, &temporary) {
            (Some(data), _) => data.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => PathBuf::new(),
        };
        let threads = Threads::for_swarm(config.runtime.workers)?;
        let mut nodes: Vec<Node> = Vec::new();
        for n in 1..=options.nodes {
            let mut config = config.clone();
            config.node.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            // They know each other, and nobody else is to.
            config.node.mdns = false;
            config.node.data = top.join(format!("node-{n}"));
            // Three nodes to join through are as good as all, and a restart of any of them does no harm.
            config.node.peers =
                nodes.iter().take(3).map(|node| node.client().contact().addr.to_string()).collect();
            nodes.push(Node::start(&config, &threads).await.with_context(|| format!("node {n}"))?);
        }
        Ok(Self { nodes, threads, _temporary: temporary })
    }

    /// Waits until every node has looked itself up.
    pub async fn joined(&self) {
        for node in &self.nodes {
            node.joined().await;
        }
    }

    /// The nodes as their clients see them, in the order in which they were started.
    pub fn clients(&self) -> Vec<Client> {
        self.nodes.iter().map(|node| node.client().clone()).collect()
    }

    /// Stops all nodes, then the threads.
    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        drop(self.threads);
    }
}

/// Runs a swarm until it is told to stop; the first node answers clients on the configured addresses.
pub fn run(options: &SwarmOptions, config: &NodeConfig) -> anyhow::Result<()> {
    process::end_on_panic();
    block_on(async {
        let mut signals = StopSignals::catch().context("cannot catch signals")?;
        let starting = async {
            let swarm = Swarm::start(options, config).await?;
            // Clients that came earlier would meet a node that knows nobody.
            swarm.joined().await;
            anyhow::Ok(swarm)
        };
        let swarm = tokio::select! {
            swarm = starting => swarm?,
            () = signals.next() => return Ok(()),
        };
        let clients = swarm.clients();
        let first = clients.first().context("a swarm has at least one node")?;
        let fronts = match Fronts::open(config, first, &swarm.threads.object_stages()) {
            Ok(fronts) => fronts,
            Err(error) => {
                swarm.stop().await;
                return Err(error);
            }
        };
        let served = present(options, &clients, &fronts, &mut signals).await;
        signals
            .or_at_once(async move {
                fronts.close().await;
                swarm.stop().await;
            })
            .await;
        served
    })
}

/// Says what is there, demonstrates it, and waits for the end.
async fn present(
    options: &SwarmOptions,
    clients: &[Client],
    fronts: &Fronts,
    signals: &mut StopSignals,
) -> anyhow::Result<()> {
    println!("comet-node {}: {} nodes on loopback", env!("CARGO_PKG_VERSION"), clients.len());
    for (n, client) in clients.iter().enumerate() {
        println!(
            "  node {:<3} {} udp {}",
            n + 1,
            short(&client.contact().id.to_string()),
            client.contact().addr
        );
    }
    println!("  http     http://{}", fronts.http());
    if let Some(tracker) = fronts.tracker() {
        println!("  tracker  http://{tracker}/announce");
    }
    if let Some(resp) = fronts.resp() {
        println!("  resp     redis://{resp}");
    }
    println!();
    if options.demo {
        println!("{}", demo::show(clients, fronts.http()).await.context("the demonstration failed")?);
    }
    println!("Press Ctrl-C to stop.");
    signals.next().await;
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}
