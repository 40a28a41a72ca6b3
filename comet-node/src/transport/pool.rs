//! The open connections: which one leads to a peer, and which one gives way to a new one.
//!
//! Two nodes that dial each other at the same moment end up with two connections, and each side may prefer
//! another one; both stay usable until they are idle long enough. The newest is preferred, because a peer
//! that connects anew may have forgotten the older ones.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use comet_routing::{Contact, NodeId};

/// Connections kept per peer: one from each side's dial, and one more while a restarted peer's old one dies.
const LINKS_PER_PEER_MAX: usize = 3;

/// What the pool has to know of a connection.
pub(super) trait Pooled {
    /// Names the connection; never reused while it is in a pool.
    fn id(&self) -> usize;
    /// To whom it leads.
    fn peer(&self) -> NodeId;
    /// At which address that peer is now, in its canonical form.
    fn addr(&self) -> SocketAddr;
    /// False once it is closed, by whomever.
    fn is_open(&self) -> bool;
    /// Since when nothing is under way on it, on any clock; `None` while something is.
    fn idle_since(&self) -> Option<u64>;
}

/// A bounded set of connections.
#[derive(Debug)]
pub(super) struct Pool<L> {
    links: BTreeMap<usize, L>,
    /// Connections of each peer, the preferred one last.
    by_peer: HashMap<NodeId, Vec<usize>>,
    links_max: usize,
}

/// There is no room: every connection is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<L: Pooled> Pool<L> {
    pub(super) fn new(links_max: usize) -> Self {
        Self { links: BTreeMap::new(), by_peer: HashMap::new(), links_max: links_max.max(1) }
    }

    /// Adds a connection, and returns those that the caller has to close for it.
    pub(super) fn insert(&mut self, link: L) -> Result<Vec<L>, Full> {
        let (id, peer) = (link.id(), link.peer());
        let mut evicted = Vec::new();
        let siblings = self.by_peer.get(&peer).map_or(&[][..], Vec::as_slice);
        if siblings.len() >= LINKS_PER_PEER_MAX {
            evicted.extend(self.least_used(siblings.iter().copied()).or(siblings.first().copied()));
        } else if self.links.len() >= self.links_max {
            evicted.push(self.least_used(self.links.keys().copied()).ok_or(Full)?);
        }
        let evicted = evicted.into_iter().filter_map(|id| self.remove(id)).collect();
        self.by_peer.entry(peer).or_default().push(id);
        self.links.insert(id, link);
        Ok(evicted)
    }

    /// The connection to use for a peer at this address.
    ///
    /// One that leads to the peer elsewhere will not do: its answer would be taken for a proof that the peer
    /// can be reached at an address which a stranger may have made up.
    pub(super) fn pick(&self, to: &Contact) -> Option<&L> {
        let ids = self.by_peer.get(&to.id)?;
        let addr = canonical(to.addr);
        ids.iter()
            .rev()
            .filter_map(|id| self.links.get(id))
            .find(|link| link.is_open() && link.addr() == addr)
    }

    /// Takes out a connection that ended.
    pub(super) fn remove(&mut self, id: usize) -> Option<L> {
        let link = self.links.remove(&id)?;
        let peer = link.peer();
        if let Some(ids) = self.by_peer.get_mut(&peer) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
        Some(link)
    }

    /// Takes out every connection to a peer.
    pub(super) fn forget(&mut self, peer: &NodeId) -> Vec<L> {
        let ids = self.by_peer.remove(peer).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.links.remove(&id)).collect()
    }

    /// The connection that can best be spared: a closed one, else the one that is idle for longest.
    fn least_used(&self, ids: impl Iterator<Item = usize>) -> Option<usize> {
        let spare = ids.filter_map(|id| {
            let link = self.links.get(&id)?;
            let since = if link.is_open() { link.idle_since()? } else { 0 };
            Some((link.is_open(), since, id))
        });
        spare.min().map(|(_, _, id)| id)
    }
}

/// An address as it is compared: one of IPv4 that came in the clothes of IPv6 is the same address.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Wire {
        id: usize,
        peer: u8,
        open: bool,
        idle_since: Option<u64>,
    }

    impl Pooled for Wire {
        fn id(&self) -> usize {
            self.id
        }
        fn peer(&self) -> NodeId {
            node(self.peer)
        }
        fn addr(&self) -> SocketAddr {
            at(self.peer).addr
        }
        fn is_open(&self) -> bool {
            self.open
        }
        fn idle_since(&self) -> Option<u64> {
            self.idle_since
        }
    }

    fn node(peer: u8) -> NodeId {
        NodeId::from_bytes([peer; 32])
    }

    /// The peer where its wires lead.
    fn at(peer: u8) -> Contact {
        Contact::new(node(peer), SocketAddr::from(([10, 0, 0, peer], 7400)))
    }

    fn idle(id: usize, peer: u8, since: u64) -> Wire {
        Wire { id, peer, open: true, idle_since: Some(since) }
    }

    fn busy(id: usize, peer: u8) -> Wire {
        Wire { idle_since: None, ..idle(id, peer, 0) }
    }

    fn ids(links: &[Wire]) -> Vec<usize> {
        links.iter().map(|link| link.id).collect()
    }

    #[test]
    fn the_longest_idle_connection_gives_way() {
        let mut pool = Pool::new(3);
        for link in [idle(1, 1, 30), idle(2, 2, 10), busy(3, 3)] {
            assert_eq!(pool.insert(link), Ok(vec![]));
        }
        assert_eq!(pool.insert(busy(4, 4)).map(|evicted| ids(&evicted)), Ok(vec![2]));
        assert_eq!(pool.insert(busy(5, 5)).map(|evicted| ids(&evicted)), Ok(vec![1]));
        assert_eq!(pool.insert(idle(6, 6, 0)), Err(Full), "busy connections stay");
        assert_eq!(pool.pick(&at(2)), None);
        assert_eq!(pool.pick(&at(3)).map(Pooled::id), Some(3));
    }

    #[test]
    fn a_closed_connection_is_not_picked_and_gives_way_first() {
        let mut pool = Pool::new(2);
        pool.insert(idle(1, 1, 5)).expect("there is room");
        pool.insert(Wire { open: false, ..busy(2, 1) }).expect("there is room");
        assert_eq!(pool.pick(&at(1)).map(Pooled::id), Some(1));
        assert_eq!(pool.insert(busy(3, 3)).map(|evicted| ids(&evicted)), Ok(vec![2]));
    }

    #[test]
    fn the_newest_connection_of_a_peer_is_preferred_and_the_older_one_remains() {
        let mut pool = Pool::new(9);
        pool.insert(idle(1, 1, 0)).expect("there is room");
        pool.insert(idle(2, 1, 0)).expect("there is room");
        assert_eq!(pool.pick(&at(1)).map(Pooled::id), Some(2));
        pool.remove(2);
        assert_eq!(pool.pick(&at(1)).map(Pooled::id), Some(1));
    }

    #[test]
    fn a_connection_is_not_picked_for_another_address_of_its_peer() {
        let mut pool = Pool::new(9);
        pool.insert(idle(1, 1, 0)).expect("there is room");
        assert_eq!(pool.pick(&Contact::new(node(1), at(2).addr)), None);
        let mapped = "[::ffff:10.0.0.1]:7400".parse().expect("an address");
        assert_eq!(pool.pick(&Contact::new(node(1), mapped)).map(Pooled::id), Some(1));
    }

    #[test]
    fn one_peer_keeps_few_connections_even_if_all_are_busy() {
        let mut pool = Pool::new(9);
        for id in 1..=LINKS_PER_PEER_MAX {
            pool.insert(busy(id, 1)).expect("there is room");
        }
        assert_eq!(pool.insert(busy(9, 1)).map(|evicted| ids(&evicted)), Ok(vec![1]), "the oldest");
        assert_eq!(pool.forget(&node(1)).len(), LINKS_PER_PEER_MAX);
        assert_eq!(pool.pick(&at(1)), None);
    }
}
