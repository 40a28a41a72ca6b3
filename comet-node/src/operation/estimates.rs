//! How long to wait for each peer before it is suspect.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use comet_routing::{
    NodeId,
    rtt::{TIMEOUT_MAX, TIMEOUT_MIN, TIMEOUT_STRANGER},
};

/// Peers remembered at most.
const PEERS_MAX: usize = 4_096;

/// Timeouts that follow the peers, from the transport's own measurements.
#[derive(Clone, Debug)]
pub struct Estimates {
    peers: BTreeMap<NodeId, Estimate>,
    valid: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    timeout: Duration,
    at: Instant,
}

impl Estimates {
    /// No estimates yet. One that is older than `valid` counts no more: the connection it was measured on may
    /// be gone, and a new one takes several round trips to make.
    pub fn new(valid: Duration) -> Self {
        Self { peers: BTreeMap::new(), valid }
    }

    /// When an unacknowledged request makes this peer suspect.
    pub fn timeout(&self, peer: &NodeId, now: Instant) -> Duration {
        let estimate = self.peers.get(peer).filter(|estimate| self.is_valid(estimate, now));
        estimate.map_or(TIMEOUT_STRANGER, |estimate| estimate.timeout)
    }

    /// Takes in what the transport knows of a peer's round-trip time: SRTT + 4·RTTVAR is waited (RFC 6298).
    pub fn observe(&mut self, peer: NodeId, smoothed: Duration, variation: Duration, now: Instant) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        let timeout = smoothed.saturating_add(variation.saturating_mul(4)).clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        self.peers.insert(peer, Estimate { timeout, at: now });
    }

    fn is_valid(&self, estimate: &Estimate, now: Instant) -> bool {
        now.saturating_duration_since(estimate.at) < self.valid
    }

    fn make_room(&mut self, now: Instant) {
        let valid = self.valid;
        self.peers.retain(|_, estimate| now.saturating_duration_since(estimate.at) < valid);
        if self.peers.len() >= PEERS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, estimate)| estimate.at).map(|(id, _)| *id);
            oldest.map(|id| self.peers.remove(&id));
        }
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn id(n: u64) -> NodeId {
        NodeId::of_public_key(&n.to_be_bytes())
    }

    #[test]
    fn a_peer_is_given_its_round_trip_and_four_deviations_within_bounds() {
        let now = Clock::System.now();
        let mut estimates = Estimates::new(ms(1_000));
        for (peer, smoothed, variation) in [(1, 50, 10), (2, 1, 0), (3, 900, 500)] {
            estimates.observe(id(peer), ms(smoothed), ms(variation), now);
        }
        let timeouts = [0, 1, 2, 3].map(|peer| estimates.timeout(&id(peer), now));
        assert_eq!(timeouts, [ms(300), ms(90), ms(25), ms(1_000)]);
    }

    #[test]
    fn an_old_estimate_makes_a_stranger_again() {
        let now = Clock::System.now();
        let mut estimates = Estimates::new(ms(1_000));
        estimates.observe(id(1), ms(50), ms(10), now);
        assert_eq!(estimates.timeout(&id(1), now + ms(999)), ms(90));
        assert_eq!(estimates.timeout(&id(1), now + ms(1_000)), ms(300));
    }

    #[test]
    fn the_oldest_estimate_makes_room() {
        let now = Clock::System.now();
        let mut estimates = Estimates::new(ms(1_000_000));
        for n in 0..=PEERS_MAX as u64 {
            estimates.observe(id(n), ms(50), ms(10), now + ms(n));
        }
        assert_eq!(estimates.peers.len(), PEERS_MAX);
        assert_eq!(estimates.timeout(&id(0), now), TIMEOUT_STRANGER);
        assert_eq!(estimates.timeout(&id(1), now), ms(90));
    }
}
