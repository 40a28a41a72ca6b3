//! A swarm of the crate `mainline`, in this process.
//!
//! Items are the immutable ones of BEP 44, as with libtorrent: named by their hash, not signed, kept in memory. A put ends when each of the twenty
//! nearest nodes, or more, has answered or been given up, and has succeeded if any of them stored the item, for the crate does not say how many; a
//! get ends with the first node that has it. Every node has a thread, which looks for new operations whenever a datagram arrives, and every 50 ms.

use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

use anyhow::ensure;
use futures_util::future::join_all;
use mainline::{Dht, Id, ServerSettings, async_dht::AsyncDht};

use super::{Operation, Outcome, Task, Turns};

/// Items that a node keeps: more than are ever put.
const ITEMS_MAX: usize = 10_000;

/// A swarm. Its nodes end when it is dropped.
pub(super) struct MainlineSwarm {
    nodes: Vec<AsyncDht>,
    turns: Turns,
    /// What the values with these numbers are called.
    targets: RefCell<BTreeMap<usize, Id>>,
}

impl MainlineSwarm {
    /// Starts the nodes, which join through the first, and waits until every one has looked itself up.
    pub(super) async fn start(nodes: usize) -> anyhow::Result<Self> {
        let mut first = Vec::new();
        let mut swarm = Self { nodes: Vec::new(), turns: Turns::default(), targets: RefCell::default() };
        for _ in 0..nodes {
            let settings = ServerSettings { max_immutable_values: ITEMS_MAX, ..ServerSettings::default() };
            let mut builder = Dht::builder();
            builder.server_mode().server_settings(settings).bind_address(Ipv4Addr::LOCALHOST);
            let node = builder.bootstrap(&first).build()?.as_async();
            if first.is_empty() {
                first.push(node.info().await.local_addr());
            }
            swarm.nodes.push(node);
        }
        let joined = join_all(swarm.nodes.iter().skip(1).map(AsyncDht::bootstrapped)).await;
        ensure!(joined.into_iter().all(|joined| joined), "its nodes do not find each other");
        Ok(swarm)
    }

    pub(super) async fn run(&mut self, task: &Task) -> anyhow::Result<Outcome> {
        let Self { nodes, turns, targets } = self;
        let ask = async |node: usize, number| Ok(ask(&nodes[node], targets, task.operation, number).await);
        turns.run(task, nodes.len(), ask).await
    }
}

/// Puts or gets the value with this number; false if that failed.
async fn ask(
    node: &AsyncDht,
    targets: &RefCell<BTreeMap<usize, Id>>,
    operation: Operation,
    number: usize,
) -> bool {
    let value = format!("{number:06}");
    match operation {
        Operation::Put => {
            let put = node.put_immutable(value.as_bytes()).await;
            put.is_ok_and(|target| targets.borrow_mut().insert(number, target).is_none())
        }
        Operation::Get => {
            let target = targets.borrow().get(&number).copied();
            let Some(target) = target else { return false };
            node.get_immutable(target).await.is_some_and(|got| *got == *value.as_bytes())
        }
    }
}
