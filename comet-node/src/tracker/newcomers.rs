//! How many new torrents each network of clients may bring.
//!
//! The first announce of a torrent makes an object in the swarm. Announces cost the asker nothing, so without a
//! limit one client of a public tracker fills the swarm with objects for hashes of its invention.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use comet_routing::{Prefix, is_private};

/// How many torrents a network may bring at once after a pause. A guess: a seeder's whole shelf.
const BURST: u32 = 32;

/// And how often another one after that.
const EVERY: Duration = Duration::from_secs(60);

/// How many networks are told apart; what exceeds them shares one allowance.
const NETWORKS_MAX: usize = 4_096;

/// What is left of every network's allowance of new torrents.
///
/// Virtual scheduling, as the leaky bucket of ITU-T I.371, annex A: of each network we keep only when all that it
/// brought will have been earned. Clients on loopback and in private networks are the operator's own and are not
/// counted.
#[derive(Debug)]
pub(super) struct Newcomers {
    burst: u32,
    earned: BTreeMap<Prefix, Instant>,
    /// Of the networks that there was no room for, as if they were one.
    others: Option<Instant>,
}

impl Newcomers {
    /// A full allowance for everybody.
    pub(super) fn new() -> Self {
        Self::with_burst(BURST)
    }

    fn with_burst(burst: u32) -> Self {
        Self { burst, earned: BTreeMap::new(), others: None }
    }

    /// Takes one torrent off the allowance of the client's network; if none is left, when the next one is.
    pub(super) fn admit(&mut self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        if is_private(source) {
            return Ok(());
        }
        let network = Prefix::of(source);
        if self.earned.len() >= NETWORKS_MAX && !self.earned.contains_key(&network) {
            self.earned.retain(|_, earned| *earned > now);
        }
        let roomy = self.earned.len() < NETWORKS_MAX || self.earned.contains_key(&network);
        let before = if roomy { self.earned.get(&network).copied() } else { self.others };
        let earned = before.map_or(now, |earned| earned.max(now)).checked_add(EVERY).unwrap_or(now);
        let wait = earned
            .saturating_duration_since(now.checked_add(EVERY.saturating_mul(self.burst)).unwrap_or(now));
        if !wait.is_zero() {
            return Err(wait);
        }
        if roomy {
            self.earned.insert(network, earned);
        } else {
            self.others = Some(earned);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    fn start() -> Instant {
        Clock::System.now()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// How many of a thousand torrents, brought at once from one network, are admitted.
    fn admitted(newcomers: &mut Newcomers, source: &str, now: Instant) -> usize {
        (0..1_000).filter(|_| newcomers.admit(ip(source), now).is_ok()).count()
    }

    #[test]
    fn a_network_brings_a_shelf_of_torrents_at_once_and_then_one_a_minute() {
        let (mut newcomers, now) = (Newcomers::new(), start());
        assert_eq!(admitted(&mut newcomers, "198.51.100.1", now), 32);
        assert_eq!(newcomers.admit(ip("198.51.100.200"), now), Err(EVERY), "the same network");
        assert_eq!(newcomers.admit(ip("203.0.113.1"), now), Ok(()), "another one");
        assert_eq!(admitted(&mut newcomers, "198.51.100.1", now + 3 * EVERY), 3);
        assert_eq!(admitted(&mut newcomers, "198.51.100.1", now + 1_000 * EVERY), 32, "and saves up no more");
    }

    #[test]
    fn without_the_limit_one_network_brings_as_many_as_it_likes() {
        let mut newcomers = Newcomers::with_burst(u32::MAX / 60);
        assert_eq!(admitted(&mut newcomers, "198.51.100.1", start()), 1_000);
    }

    #[test]
    fn clients_of_this_machine_and_of_private_networks_are_not_counted() {
        let (mut newcomers, now) = (Newcomers::new(), start());
        for own in ["127.0.0.1", "10.0.0.7", "::1", "fd00::7"] {
            assert_eq!(admitted(&mut newcomers, own, now), 1_000, "{own}");
        }
        assert!(newcomers.earned.is_empty());
    }

    #[test]
    fn however_many_networks_come_the_table_is_bounded_and_the_rest_share_one_allowance() {
        let (mut newcomers, now) = (Newcomers::new(), start());
        let network = |n: u32| IpAddr::from((u32::from_be_bytes([100, 128, 0, 0]) + (n << 8)).to_be_bytes());
        let got_in = (0..10_000).filter(|&n| newcomers.admit(network(n), now).is_ok()).count();
        assert_eq!((got_in, newcomers.earned.len()), (NETWORKS_MAX + 32, NETWORKS_MAX));
        assert_eq!(newcomers.admit(network(0), now), Ok(()), "who is known keeps its own");
        let later = now + EVERY * 2;
        assert_eq!(newcomers.admit(network(20_000), later), Ok(()), "whose allowance is full is forgotten");
        assert_eq!(newcomers.earned.len(), 1);
    }
}
