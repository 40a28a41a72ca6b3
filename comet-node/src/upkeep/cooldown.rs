//! Not doing the same for one object again and again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use comet_routing::Key;

/// Objects that are remembered at most; while so many are, others are turned away.
const KEYS_MAX: usize = 8_192;

/// Lets through one request for an object in so much time.
#[derive(Clone, Debug)]
pub struct Cooldown {
    length: Duration,
    admitted: BTreeMap<Key, Instant>,
}

impl Cooldown {
    /// One request in `length`.
    pub fn new(length: Duration) -> Self {
        Self { length, admitted: BTreeMap::new() }
    }

    /// Whether a request for this object may pass now; if so, the next one has to wait.
    pub fn admit(&mut self, key: Key, now: Instant) -> bool {
        let length = self.length;
        let recent = |at: &Instant| now.saturating_duration_since(*at) < length;
        if self.admitted.get(&key).is_some_and(recent) {
            return false;
        }
        if self.admitted.len() >= KEYS_MAX {
            self.admitted.retain(|_, at| recent(at));
        }
        let has_room = self.admitted.len() < KEYS_MAX || self.admitted.contains_key(&key);
        if has_room {
            self.admitted.insert(key, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn one_request_for_an_object_passes_in_its_time() {
        let (now, mut cooldown) = (Clock::System.now(), Cooldown::new(MINUTE));
        let [a, b] = ["a", "b"].map(Key::of);
        assert!(cooldown.admit(a, now) && cooldown.admit(b, now));
        assert!(!cooldown.admit(a, now + MINUTE / 2));
        assert!(cooldown.admit(a, now + MINUTE));
        assert!(!cooldown.admit(a, now + MINUTE * 3 / 2), "it counts from the last that passed");
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let (now, mut cooldown) = (Clock::System.now(), Cooldown::new(MINUTE));
        let passed = (0..2 * KEYS_MAX).filter(|n| cooldown.admit(Key::of(n.to_string()), now)).count();
        assert_eq!(passed, KEYS_MAX);
        assert!(cooldown.admit(Key::of("later"), now + MINUTE));
    }
}
