//! The numbers that order a node's unsigned puts.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use comet_routing::clock::WallMs;

/// Numbers puts and deletions, each after all that it has numbered before, from any thread.
#[derive(Clone, Debug, Default)]
pub struct Sequence(Arc<AtomicU64>);

impl Sequence {
    /// The next number: the clock in microseconds, unless that has stood still.
    pub fn next(&self, now_ms: WallMs) -> u64 {
        let after = |last: u64| now_ms.saturating_mul(1_000).max(last.saturating_add(1));
        let last = self.0.fetch_update(Relaxed, Relaxed, |last| Some(after(last)));
        after(last.unwrap_or_else(|last| last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_while_the_clock_stands_still_or_goes_back() {
        let sequence = Sequence::default();
        assert_eq!(sequence.next(7), 7_000);
        assert_eq!(sequence.clone().next(7), 7_001);
        assert_eq!(sequence.next(6), 7_002);
        assert_eq!(sequence.next(8), 8_000);
    }
}
