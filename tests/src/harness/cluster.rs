//! The nodes of a story.

use std::{
    cell::{Ref, RefCell},
    net::{Ipv4Addr, SocketAddr},
    ops::Index,
    rc::Rc,
    time::Duration,
};

use comet_node::config::NodeConfig;
use comet_routing::{Key, NodeId};

use super::{Network, Oracle, Sim, SimNode};

/// Nodes through which the others join.
const DOORS: usize = 3;
/// How long a swarm that has just started is given to find itself.
const JOINING: Duration = Duration::from_secs(5);

/// Where the nodes of a story live. All addresses are private; whether they count is a matter of configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Homes {
    /// 255 of them share a /24.
    #[default]
    Together,
    /// Each has a /24 of its own.
    Apart,
}

impl Homes {
    fn of(self, n: usize) -> Ipv4Addr {
        let [.., high, low] = u32::try_from(n).expect("a story has few nodes").to_be_bytes();
        match self {
            Self::Together => Ipv4Addr::new(10, 0, high, low),
            Self::Apart => Ipv4Addr::new(10, high, low, 1),
        }
    }
}

/// The nodes of a story, named `n1`, `n2` and so on.
pub struct Cluster {
    pub(super) sim: Sim,
    pub(super) oracle: Rc<RefCell<Oracle>>,
    config: NodeConfig,
    homes: Homes,
    nodes: Vec<SimNode>,
}

impl Cluster {
    /// Starts this many nodes, which know three of them, and waits until they know each other.
    pub async fn start(sim: &Sim, nodes: usize) -> Self {
        Self::start_with(sim, nodes, &NodeConfig::default()).await
    }

    /// As [`Cluster::start`], with something configured otherwise.
    pub async fn start_with(sim: &Sim, nodes: usize, config: &NodeConfig) -> Self {
        Self::start_at(sim, nodes, config, Homes::Together).await
    }

    /// As [`Cluster::start_with`], with nodes that live elsewhere.
    pub async fn start_at(sim: &Sim, nodes: usize, config: &NodeConfig, homes: Homes) -> Self {
        let (oracle, config) = (Rc::default(), config.clone());
        let mut cluster = Self { sim: sim.clone(), oracle, config, homes, nodes: Vec::new() };
        for _ in 0..nodes {
            cluster.grow().await;
        }
        sim.run_for(JOINING).await;
        for node in &cluster.nodes {
            node.joined().await;
        }
        cluster
    }

    /// Starts one more node, which knows up to three live ones and joins on its own.
    pub async fn grow(&mut self) -> &SimNode {
        self.grow_through(self.doors()).await
    }

    /// As [`Cluster::grow`], with a node whose maker has found a key that gives it this id, and which lives here.
    pub async fn grow_as(&mut self, id: NodeId, home: Ipv4Addr) -> &SimNode {
        self.grow_by(Some(id), home, self.doors()).await
    }

    /// Starts one more node, which knows nodes at these addresses and nobody else.
    pub async fn grow_through(&mut self, doors: Vec<SocketAddr>) -> &SimNode {
        self.grow_by(None, self.homes.of(self.nodes.len() + 1), doors).await
    }

    fn doors(&self) -> Vec<SocketAddr> {
        self.live().take(DOORS).map(|node| node.contact().addr).collect()
    }

    async fn grow_by(&mut self, id: Option<NodeId>, home: Ipv4Addr, doors: Vec<SocketAddr>) -> &SimNode {
        let mut config = self.config.clone();
        config.node.peers = doors.iter().map(ToString::to_string).collect();
        let node = SimNode::new(&self.sim, self.nodes.len() + 1, (id, home), config, &self.oracle);
        node.start().await;
        self.nodes.push(node);
        &self.nodes[self.nodes.len() - 1]
    }

    /// All nodes, in the order of their names.
    pub fn nodes(&self) -> &[SimNode] {
        &self.nodes
    }

    /// The nodes that run and can be heard.
    pub fn live(&self) -> impl Iterator<Item = &SimNode> {
        self.nodes.iter().filter(|node| node.is_live())
    }

    /// The live nodes that hold the object of this name.
    pub fn holders_of(&self, name: &str) -> Vec<&SimNode> {
        let key = Key::of(name);
        self.live().filter(|node| node.holds(&key)).collect()
    }

    /// The live nodes closest to this name that others can reach, nearest first.
    pub fn closest_to(&self, name: &str, count: usize) -> Vec<&SimNode> {
        let key = Key::of(name);
        let mut nodes: Vec<_> = self.live().filter(|node| !node.is_hidden()).collect();
        nodes.sort_by_cached_key(|node| key.distance_to(&node.contact().id));
        nodes.truncate(count);
        nodes
    }

    /// Copies of an object that the swarm is configured for.
    pub fn replicas(&self) -> usize {
        usize::from(self.config.replication.replicas)
    }

    /// What was put, what was acknowledged, and by whom.
    pub fn oracle(&self) -> Ref<'_, Oracle> {
        self.oracle.borrow()
    }

    /// Crashes all but the first of these nodes.
    pub async fn crash_all_but_one(&self, nodes: Vec<&SimNode>) {
        for node in nodes.into_iter().skip(1) {
            node.crash().await;
        }
    }

    /// Parts these nodes from all others, in both directions.
    pub fn partition(&self, names: &[&str]) {
        let addresses = |inside| {
            let nodes = self.nodes.iter().filter(move |node| names.contains(&node.name()) == inside);
            nodes.map(|node| node.contact().addr)
        };
        self.sim.wire().change(|network| {
            for (a, b) in addresses(true).flat_map(|a| addresses(false).map(move |b| (a, b))) {
                network.cut(a, b);
                network.cut(b, a);
            }
        });
    }

    /// Lets nothing get from one node to another; the other direction is not affected.
    pub fn cut(&self, from: &str, to: &str) {
        let (from, to): (SocketAddr, SocketAddr) = (self[from].contact().addr, self[to].contact().addr);
        self.sim.wire().change(|network| network.cut(from, to));
    }

    /// Undoes every partition, cut and silence, and lets slow nodes be as fast as others.
    pub fn heal(&self) {
        self.sim.wire().change(Network::heal);
    }
}

impl Index<&str> for Cluster {
    type Output = SimNode;

    fn index(&self, name: &str) -> &SimNode {
        self.nodes.iter().find(|node| node.name() == name).expect("the story has a node of that name")
    }
}
