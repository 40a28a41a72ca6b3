//! How fast upkeep may send.

use std::time::{Duration, Instant};

/// How much may be sent at once after a pause, as time at the full rate.
const BURST: Duration = Duration::from_secs(1);

/// Bytes per second that upkeep may send, so that the restart of many nodes does not become a storm.
///
/// Virtual scheduling, as the leaky bucket of ITU-T I.371, annex A: whoever wants to send learns how long to
/// wait first.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    bytes_per_second: u64,
    /// When all that was granted will have been sent at the full rate.
    spent_until: Option<Instant>,
}

impl Budget {
    /// A budget of which nothing is spent; at least one byte per second.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), spent_until: None }
    }

    /// Grants `bytes`, to be sent after the pause that it returns.
    pub fn grant(&mut self, bytes: usize, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let until = self.spent_until.map_or(earliest, |until| until.max(earliest)) + cost;
        self.spent_until = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::clock::Clock;

    use super::*;

    #[test]
    fn a_second_of_bytes_goes_at_once_and_the_rest_at_the_rate() {
        let mut now = Clock::System.now() + Duration::from_secs(10);
        let mut budget = Budget::new(1_000);
        let pauses = [500, 500, 500, 500].map(|bytes| budget.grant(bytes, now).as_millis());
        assert_eq!(pauses, [0, 0, 500, 1_000]);
        now += Duration::from_millis(1_000);
        assert_eq!(budget.grant(250, now).as_millis(), 250);
        now += Duration::from_secs(60);
        assert_eq!(budget.grant(1_000, now).as_millis(), 0, "a pause is not saved up beyond the burst");
        assert_eq!(budget.grant(1_000, now).as_millis(), 1_000);
    }
}
