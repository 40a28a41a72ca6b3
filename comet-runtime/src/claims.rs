//! Which conditional put is about to take place at which key.
//!
//! A writer with a condition asks most replicas to wait for it before it writes to any of them. Without that, two
//! writers with the same condition could each be stored by some replicas, and the higher version, which wins
//! everywhere in the end, need not be the one that most replicas took. A claim binds nobody but other writers with
//! a condition; it ends with the put that it was made for, when the object changes, when it is given back, or after
//! [`LEASE`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use comet_routing::{Key, NodeId, Prefix};
use comet_store::{Expected, Version};

use crate::Refusal;

/// How long a replica waits for a put that was announced: longer than a conditional put may take.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// Claims that one shard keeps, at a hundred bytes each.
const CLAIMS_MAX: usize = 4_096;

/// Claims of them that come from one network, so that sixteen are needed to use up all.
const CLAIMS_PER_NETWORK_MAX: usize = CLAIMS_MAX / 16;

/// On what a put depends, and which attempt at it this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What has to be held.
    pub expected: Expected,
    /// Names the attempt among all of the node that drives it.
    pub ticket: u64,
}

/// The node that drives an attempt, and the attempt's ticket.
pub(crate) type Claimant = (NodeId, u64);

struct Claim {
    by: Claimant,
    source: Option<Prefix>,
    expected: Expected,
    until: Instant,
}

/// The claims on the objects of one shard.
#[derive(Default)]
pub(crate) struct Claims(BTreeMap<Key, Claim>);

impl Claims {
    /// Lets this attempt be the next conditional put of a key at which `held` is held, unless another one is.
    pub(crate) fn take(
        &mut self,
        key: Key,
        held: Option<Version>,
        by: Claimant,
        source: Option<Prefix>,
        expected: Expected,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.admit(&key, held, by, now)?;
        if !self.0.contains_key(&key) {
            self.make_room(source, now)?;
        }
        self.0.insert(key, Claim { by, source, expected, until: now + LEASE });
        Ok(())
    }

    /// Refuses a conditional put of a key that waits for another one.
    pub(crate) fn admit(
        &self,
        key: &Key,
        held: Option<Version>,
        by: Claimant,
        now: Instant,
    ) -> Result<(), Refusal> {
        // What a claim was about may have been replaced, and then nothing waits for it.
        let is_alive = |claim: &&Claim| claim.until > now && claim.expected.is_met_by(held);
        match self.0.get(key).filter(is_alive) {
            Some(claim) if claim.by != by => Err(Refusal::Conflict { held }),
            _ => Ok(()),
        }
    }

    /// Ends the claim of this attempt, if it has one.
    pub(crate) fn end(&mut self, key: &Key, by: Claimant) {
        if self.0.get(key).is_some_and(|claim| claim.by == by) {
            self.0.remove(key);
        }
    }

    fn make_room(&mut self, source: Option<Prefix>, now: Instant) -> Result<(), Refusal> {
        let is_full = |claims: &BTreeMap<Key, Claim>| {
            let of_source = || claims.values().filter(|claim| claim.source == source).count();
            claims.len() >= CLAIMS_MAX || (source.is_some() && of_source() >= CLAIMS_PER_NETWORK_MAX)
        };
        if is_full(&self.0) {
            self.0.retain(|_, claim| claim.until > now);
        }
        if is_full(&self.0) {
            return Err(Refusal::Overloaded("the node's claims".into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    const HELD: Option<Version> = Some(Version { sequence: 1, hash: [1; 32] });
    const LATER: Option<Version> = Some(Version { sequence: 2, hash: [1; 32] });

    fn by(n: u8) -> Claimant {
        (NodeId::from_bytes([n; 32]), 7)
    }

    fn expected() -> Expected {
        HELD.map_or(Expected::Absent, Expected::Version)
    }

    fn taken() -> (Claims, Key, Instant) {
        let (mut claims, key, now) = (Claims::default(), Key::of("k"), Clock::System.now());
        claims.take(key, HELD, by(1), None, expected(), now).unwrap();
        (claims, key, now)
    }

    #[test]
    fn a_key_waits_for_one_attempt_and_that_one_may_ask_again() {
        let (mut claims, key, now) = taken();
        let other = |claims: &mut Claims, at| claims.take(key, HELD, by(2), None, expected(), at);
        assert_eq!(claims.take(key, HELD, by(1), None, expected(), now), Ok(()));
        assert_eq!(claims.admit(&key, HELD, by(1), now), Ok(()));
        assert_eq!(other(&mut claims, now), Err(Refusal::Conflict { held: HELD }));
        let same_node = (by(1).0, 8);
        assert_eq!(claims.admit(&key, HELD, same_node, now), Err(Refusal::Conflict { held: HELD }));
        assert_eq!(claims.admit(&Key::of("other"), HELD, by(2), now), Ok(()));
    }

    #[test]
    fn a_claim_ends_with_its_lease_with_what_it_was_about_or_when_it_is_given_back() {
        let (mut claims, key, now) = taken();
        assert_eq!(claims.admit(&key, HELD, by(2), now + LEASE), Ok(()));
        assert_eq!(claims.admit(&key, LATER, by(2), now), Ok(()), "it was replaced");
        claims.end(&key, by(2));
        assert!(claims.admit(&key, HELD, by(2), now).is_err(), "it is not the other's to give back");
        claims.end(&key, by(1));
        assert_eq!(claims.admit(&key, HELD, by(2), now), Ok(()));
    }

    #[test]
    fn one_network_does_not_use_up_the_claims() {
        let (mut claims, now) = (Claims::default(), Clock::System.now());
        let mut take = |n: usize, source: u8, at| {
            let source = Some(Prefix::of([source, 1, 1, 1].into()));
            claims.take(Key::of(n.to_string()), None, by(1), source, Expected::Absent, at)
        };
        (0..CLAIMS_PER_NETWORK_MAX).for_each(|n| take(n, 1, now).unwrap());
        assert!(matches!(take(9_999, 1, now), Err(Refusal::Overloaded(_))));
        assert_eq!(take(9_998, 2, now), Ok(()), "the control: another network");
        assert_eq!(take(9_999, 1, now + LEASE), Ok(()), "expired claims make room");
    }
}
