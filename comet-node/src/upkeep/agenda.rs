//! What is to be checked when, and what may be dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use comet_routing::Key;

use crate::operation::Pauses;

/// Objects that wait for an early check at most; more are left to the next round.
const SOON_MAX: usize = 4_096;

/// An object is not checked early again within this time.
const COOLDOWN: Duration = Duration::from_secs(60);

/// Objects whose early check is remembered; while so many are, others wait for the next round.
const COOLING_MAX: usize = 8_192;

/// Objects of other nodes' duty that are remembered at most; more are remembered when these are dropped.
const DISPLACED_MAX: usize = 65_536;

/// Early checks, and copies that this node keeps for no more than a grace period.
#[derive(Clone, Debug)]
pub struct Agenda {
    soon: BTreeSet<Key>,
    cooldown: Pauses<Key>,
    displaced: BTreeMap<Key, Displaced>,
    /// Counts the times that all objects were gone through.
    round: u64,
}

/// A copy that others should hold, and do.
#[derive(Clone, Copy, Debug)]
struct Displaced {
    since: Instant,
    /// When it was found so last.
    round: u64,
}

impl Default for Agenda {
    fn default() -> Self {
        Self {
            soon: BTreeSet::new(),
            cooldown: Pauses::new(COOLDOWN, COOLING_MAX),
            displaced: BTreeMap::new(),
            round: 0,
        }
    }
}

impl Agenda {
    /// Somebody met a replica of this object that is not as it should be. False if it has to wait for the next
    /// round.
    pub fn note(&mut self, key: Key, now: Instant) -> bool {
        let taken = self.soon.len() < SOON_MAX && self.cooldown.begin(key, now);
        if taken {
            self.soon.insert(key);
        }
        taken
    }

    /// Takes out objects that are to be checked early.
    pub fn take(&mut self, max: usize) -> Vec<Key> {
        let keys: Vec<_> = self.soon.iter().take(max).copied().collect();
        self.soon.retain(|key| !keys.contains(key));
        keys
    }

    /// This node should hold the object, or others do not hold it yet.
    pub fn keep(&mut self, key: &Key) {
        self.displaced.remove(key);
    }

    /// Others should hold the object and do. True once that has been so for the grace period, counted from
    /// the first time: a node that is only briefly among the closest does not take it away.
    pub fn may_drop(&mut self, key: Key, grace: Duration, now: Instant) -> bool {
        let round = self.round;
        if let Some(displaced) = self.displaced.get_mut(&key) {
            displaced.round = round;
            return now.saturating_duration_since(displaced.since) >= grace;
        }
        if self.displaced.len() < DISPLACED_MAX {
            self.displaced.insert(key, Displaced { since: now, round });
        }
        false
    }

    /// All objects were gone through: what was not met this time is no longer held.
    pub fn end_round(&mut self) {
        self.displaced.retain(|_, displaced| displaced.round == self.round);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    #[test]
    fn an_object_is_checked_early_once_a_minute_at_most() {
        let now = Clock::System.now();
        let mut agenda = Agenda::default();
        let [a, b] = ["a", "b"].map(Key::of);
        assert_eq!([a, b, a].map(|key| agenda.note(key, now)), [true, true, false]);
        assert_eq!(agenda.take(1).len() + agenda.take(9).len(), 2);
        agenda.note(a, now + COOLDOWN / 2);
        assert_eq!(agenda.take(9), []);
        agenda.note(a, now + COOLDOWN);
        assert_eq!(agenda.take(9), [a]);
    }

    #[test]
    fn the_early_checks_are_bounded() {
        let now = Clock::System.now();
        let mut agenda = Agenda::default();
        let taken = (0..2 * SOON_MAX).filter(|n| agenda.note(Key::of(n.to_string()), now)).count();
        assert_eq!((taken, agenda.take(usize::MAX).len()), (SOON_MAX, SOON_MAX));
    }

    #[test]
    fn a_copy_goes_after_the_grace_period_unless_it_was_needed_in_between() {
        let (now, grace) = (Clock::System.now(), Duration::from_secs(10));
        let mut agenda = Agenda::default();
        let key = Key::of("k");
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(!agenda.may_drop(key, grace, after(0)));
        assert!(!agenda.may_drop(key, grace, after(9)));
        assert!(agenda.may_drop(key, grace, after(10)));
        agenda.keep(&key);
        assert!(!agenda.may_drop(key, grace, after(20)));
        assert!(agenda.may_drop(key, grace, after(30)));
    }

    #[test]
    fn a_copy_that_went_for_other_reasons_is_forgotten_with_its_grace() {
        let (now, grace) = (Clock::System.now(), Duration::from_secs(10));
        let mut agenda = Agenda::default();
        let (gone, stays) = (Key::of("gone"), Key::of("stays"));
        agenda.may_drop(gone, grace, now);
        for _ in 0..3 {
            agenda.may_drop(stays, grace, now);
            agenda.end_round();
        }
        assert!(agenda.may_drop(stays, grace, now + grace));
        assert!(!agenda.may_drop(gone, grace, now + grace), "what is put there later has a grace of its own");
    }
}
