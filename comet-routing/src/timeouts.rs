//! How long a node waits for each of its peers, from all that it has measured.
//!
//! Three cases. A peer that was measured a short while ago has its own timeout. One that was measured longer
//! ago has it `RECONNECTING` times, since the connection is probably closed and has to be made again. A
//! stranger has three times as long as nine of ten strangers took of late: in one building nobody waits
//! 300 ms for a node that is not there, and across an ocean nobody is suspect before it can have answered.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    NodeId, Rtt,
    rtt::{TIMEOUT_MAX, TIMEOUT_MIN, TIMEOUT_STRANGER},
};

/// How long a measurement is trusted: a transport closes idle connections about then.
pub const ESTIMATE_VALID: Duration = Duration::from_secs(30);

/// Peers remembered at most.
const PEERS_MAX: usize = 8_192;

/// Making a connection takes QUIC one round trip (RFC 9001), the request another.
const RECONNECTING: u32 = 2;

/// First answers of strangers that are remembered, and how few of them say nothing yet.
const FIRSTS_MAX: usize = 64;
const FIRSTS_MIN: usize = 8;

/// A stranger is given so many times what nine of ten took.
const STRANGER_MARGIN: u32 = 3;

/// Timeouts that follow the peers. Bounded: the peer that was measured longest ago makes room.
#[derive(Clone, Debug, Default)]
pub struct Timeouts {
    peers: BTreeMap<NodeId, Measured>,
    /// How long strangers took to acknowledge a first request, connecting included, oldest first.
    firsts: VecDeque<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    rtt: Rtt,
    at: Instant,
}

impl Timeouts {
    /// When an unacknowledged request makes this peer suspect.
    pub fn of(&self, peer: &NodeId, now: Instant) -> Duration {
        match self.peers.get(peer) {
            None => self.stranger(),
            Some(known) if known.is_fresh(now) => known.rtt.timeout(),
            Some(known) => (known.rtt.timeout() * RECONNECTING).min(TIMEOUT_MAX),
        }
    }

    /// True if nothing that was measured of this peer is still trusted: a request to it has to make a
    /// connection first.
    pub fn is_stranger(&self, peer: &NodeId, now: Instant) -> bool {
        self.peers.get(peer).is_none_or(|known| !known.is_fresh(now))
    }

    /// A peer that [was a stranger](Self::is_stranger) acknowledged its first request after this time.
    pub fn observe_first(&mut self, taken: Duration) {
        if self.firsts.len() >= FIRSTS_MAX {
            self.firsts.pop_front();
        }
        self.firsts.push_back(taken);
    }

    /// Takes a measured round trip to a peer into account.
    pub fn observe(&mut self, peer: NodeId, sample: Duration, now: Instant) {
        let mut rtt = self.peers.get(&peer).map(|known| known.rtt).unwrap_or_default();
        rtt.observe(sample);
        self.learn(peer, rtt, now);
    }

    /// Takes over what the transport knows of a peer's round-trip time.
    pub fn learn(&mut self, peer: NodeId, rtt: Rtt, now: Instant) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.make_room(now);
        }
        self.peers.insert(peer, Measured { rtt, at: now });
    }

    fn stranger(&self) -> Duration {
        if self.firsts.len() < FIRSTS_MIN {
            return TIMEOUT_STRANGER;
        }
        let mut firsts: Vec<_> = self.firsts.iter().copied().collect();
        firsts.sort_unstable();
        let slow = firsts[(firsts.len() * 9).div_ceil(10) - 1];
        slow.saturating_mul(STRANGER_MARGIN).clamp(TIMEOUT_MIN, TIMEOUT_STRANGER)
    }

    fn make_room(&mut self, now: Instant) {
        self.peers.retain(|_, known| known.is_fresh(now));
        if self.peers.len() >= PEERS_MAX {
            let oldest = self.peers.iter().min_by_key(|(_, known)| known.at).map(|(id, _)| *id);
            oldest.map(|id| self.peers.remove(&id));
        }
    }
}

impl Measured {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < ESTIMATE_VALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn id(n: u64) -> NodeId {
        NodeId::of_public_key(&n.to_be_bytes())
    }

    #[test]
    fn a_peer_is_given_its_round_trip_and_four_deviations_within_bounds() {
        let now = Clock::System.now();
        let mut timeouts = Timeouts::default();
        for (peer, smoothed, variation) in [(1, 50, 10), (2, 1, 0), (3, 900, 500)] {
            timeouts.learn(id(peer), Rtt::estimated(ms(smoothed), ms(variation)), now);
        }
        let given = [0, 1, 2, 3].map(|peer| timeouts.of(&id(peer), now));
        assert_eq!(given, [ms(300), ms(90), ms(25), ms(1_000)]);
    }

    #[test]
    fn a_peer_whose_connection_is_closed_is_given_the_time_to_make_another() {
        let now = Clock::System.now();
        let mut timeouts = Timeouts::default();
        timeouts.learn(id(1), Rtt::estimated(ms(50), ms(10)), now);
        assert_eq!(timeouts.of(&id(1), now + ESTIMATE_VALID - ms(1)), ms(90));
        assert!(!timeouts.is_stranger(&id(1), now + ESTIMATE_VALID - ms(1)));
        assert_eq!(timeouts.of(&id(1), now + ESTIMATE_VALID), ms(180));
        assert!(timeouts.is_stranger(&id(1), now + ESTIMATE_VALID));
    }

    #[test]
    fn a_stranger_is_given_three_times_what_nine_of_ten_took() {
        let now = Clock::System.now();
        let mut timeouts = Timeouts::default();
        for n in 1..=7 {
            timeouts.observe_first(ms(n));
        }
        assert_eq!(timeouts.of(&id(1), now), ms(300), "seven are too few");
        for (firsts, given) in [(8..=20, 3 * 18), (1..=1, 3 * 18), (30..=93, 3 * 87), (101..=164, 300)] {
            firsts.for_each(|n| timeouts.observe_first(ms(n)));
            assert_eq!(timeouts.of(&id(1), now), ms(given));
        }
        (0..64).for_each(|_| timeouts.observe_first(ms(2)));
        assert_eq!(timeouts.of(&id(1), now), TIMEOUT_MIN, "the old ones are forgotten");
    }

    #[test]
    fn the_oldest_measurement_makes_room() {
        let now = Clock::System.now();
        let mut timeouts = Timeouts::default();
        for n in 0..=PEERS_MAX as u64 {
            timeouts.learn(id(n), Rtt::estimated(ms(50), ms(10)), now + ms(n));
        }
        assert_eq!(timeouts.peers.len(), PEERS_MAX);
        assert_eq!(timeouts.of(&id(0), now), TIMEOUT_STRANGER);
        assert_eq!(timeouts.of(&id(1), now), ms(90));
    }
}
