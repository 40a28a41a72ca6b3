//! What was done a short while ago, and is not to be done again so soon.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Remembers for whom something was done, each for the length of a pause.
#[derive(Clone, Debug)]
pub struct Pauses<K> {
    begun: BTreeMap<K, Instant>,
    length: Duration,
    max: usize,
}

impl<K: Ord> Pauses<K> {
    /// Pauses of this length, at most so many at a time.
    pub fn new(length: Duration, max: usize) -> Self {
        Self { begun: BTreeMap::new(), length, max }
    }

    /// True if it may be done for `whom` now, whose pause then begins. False also while there are too many
    /// pauses.
    pub fn begin(&mut self, whom: K, now: Instant) -> bool {
        let length = self.length;
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= length;
        if self.begun.get(&whom).is_some_and(|at| !is_over(at)) {
            return false;
        }
        if self.begun.len() >= self.max {
            self.begun.retain(|_, at| !is_over(at));
        }
        let may = self.begun.len() < self.max;
        if may {
            self.begun.insert(whom, now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    #[test]
    fn it_is_done_once_in_a_pause_and_each_has_its_own() {
        let now = Clock::System.now();
        let mut pauses = Pauses::new(LENGTH, 9);
        assert!(pauses.begin("one", now));
        assert!(!pauses.begin("one", now + LENGTH - Duration::from_millis(1)));
        assert!(pauses.begin("other", now));
        assert!(pauses.begin("one", now + LENGTH));
    }

    #[test]
    fn there_are_so_many_pauses_until_some_are_over() {
        let now = Clock::System.now();
        let mut pauses = Pauses::new(LENGTH, 2);
        let begun = (0..5).filter(|&n| pauses.begin(n, now)).count();
        assert_eq!(begun, 2);
        assert!(pauses.begin(7, now + LENGTH));
        assert_eq!(pauses.begun.len(), 1, "those that are over are forgotten");
    }
}
