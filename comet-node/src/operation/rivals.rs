//! Since when the nearest replica of a key has told of a rival.
//!
//! A writer with a condition asks the nearest replica first and stops where that one waits for a rival. A rival
//! changes the object or loses its claim before long; a replica that tells of one for longer lies, and is then asked
//! beside the others, as any of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use comet_routing::Key;
use comet_runtime::dht::Expected;

/// How long rivals may be in the way of one expectation: twice as long as a replica waits for a put.
const BELIEVED: Duration = Duration::from_secs(30);

/// Keys that are remembered.
const KEYS_MAX: usize = 1_024;

/// The keys at which this node's writers have met rivals.
#[derive(Debug, Default)]
pub struct Rivals(BTreeMap<Key, (Expected, Instant)>);

impl Rivals {
    /// A writer that expects this was stopped by a rival.
    pub fn met(&mut self, key: Key, expected: Expected, now: Instant) {
        if !self.0.contains_key(&key) && self.0.len() >= KEYS_MAX {
            // The first of the oldest is as good as any.
            let oldest = self.0.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| *key);
            oldest.and_then(|key| self.0.remove(&key));
        }
        let known = self.0.get(&key).is_some_and(|(before, _)| *before == expected);
        if !known {
            self.0.insert(key, (expected, now));
        }
    }

    /// A writer was not stopped.
    pub fn passed(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// True if a rival can be believed in, or none was met.
    pub fn are_believed(&self, key: &Key, expected: Expected, now: Instant) -> bool {
        let since = self.0.get(key).filter(|(before, _)| *before == expected).map(|(_, since)| *since);
        since.is_none_or(|since| now.saturating_duration_since(since) < BELIEVED)
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;
    use comet_store::Version;

    use super::*;

    #[test]
    fn a_rival_is_believed_in_for_as_long_as_one_may_be_there() {
        let (mut rivals, key, now) = (Rivals::default(), Key::of("k"), Clock::System.now());
        let next = Expected::Version(Version { sequence: 1, hash: [0; 32] });
        rivals.met(key, Expected::Absent, now);
        rivals.met(key, Expected::Absent, now + BELIEVED / 2);
        let believed = |rivals: &Rivals, expected| rivals.are_believed(&key, expected, now + BELIEVED);
        assert!(rivals.are_believed(&key, Expected::Absent, now + BELIEVED / 2));
        assert!(!believed(&rivals, Expected::Absent));
        assert!(believed(&rivals, next), "the control: the object has changed meanwhile");
        rivals.passed(&key);
        assert!(believed(&rivals, Expected::Absent));
        rivals.met(key, Expected::Absent, now);
        rivals.met(key, next, now + BELIEVED / 2);
        assert!(believed(&rivals, next));
    }

    #[test]
    fn of_too_many_keys_the_oldest_is_forgotten() {
        let (mut rivals, now) = (Rivals::default(), Clock::System.now());
        for n in 0..=KEYS_MAX {
            rivals.met(Key::of(n.to_string()), Expected::Absent, now + Duration::from_millis(n as u64));
        }
        let later = now + 2 * BELIEVED;
        let believed = |n: usize| rivals.are_believed(&Key::of(n.to_string()), Expected::Absent, later);
        assert_eq!([0, 1, KEYS_MAX].map(believed), [true, false, false]);
    }
}
