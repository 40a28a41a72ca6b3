//! How many requests a node serves at once, in all and for one peer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use comet_routing::NodeId;

/// Counts what is under way for each peer, so that none takes all the places.
#[derive(Clone, Debug)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    per_peer_max: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    peers: BTreeMap<NodeId, usize>,
}

/// A place for one request; dropping it makes it free.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    peer: NodeId,
}

impl Places {
    /// Places for `max` requests, `per_peer_max` of them for one peer.
    pub fn new(max: usize, per_peer_max: usize) -> Self {
        Self { taken: Arc::default(), max, per_peer_max }
    }

    /// A place for a request of `peer`, `None` when it or everybody has too many.
    pub fn take(&self, peer: NodeId) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let of_peer = taken.peers.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.max || of_peer >= self.per_peer_max {
            return None;
        }
        taken.all += 1;
        taken.peers.insert(peer, of_peer + 1);
        Some(Place { taken: Arc::clone(&self.taken), peer })
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        lock(&self.taken).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        if let Some(of_peer) = taken.peers.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.peers.remove(&self.peer);
            }
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_every_place() {
        let peer = |n| NodeId::from_bytes([n; 32]);
        let places = Places::new(3, 2);
        let first = places.take(peer(1));
        let _second = places.take(peer(1));
        assert!(first.is_some());
        assert!(places.take(peer(1)).is_none());
        let _third = places.take(peer(2)).expect("there is one more place");
        assert!(places.take(peer(3)).is_none(), "all are taken");
        drop(first);
        assert!(places.take(peer(3)).is_some());
    }

    #[test]
    fn nothing_is_remembered_of_peers_that_are_gone() {
        let places = Places::new(9, 9);
        drop(places.take(NodeId::from_bytes([1; 32])));
        assert_eq!(places.taken(), 0);
        assert!(lock(&places.taken).peers.is_empty());
    }
}
