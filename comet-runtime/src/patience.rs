//! How long a visit may wait for its object.
//!
//! A queue that empties now and then absorbs a burst, and everybody in it is served. A queue that does not empty only
//! makes everybody wait: as many are served as without it, and if the wait is longer than askers are willing to wait,
//! the object works for nobody. So once a queue has stood for an interval, a visit that has waited for longer than the
//! target is refused instead of served, which costs next to nothing, until one finds the object free.
//!
//! This is CoDel's idea (RFC 8289) in the simpler form that suits requests, which can be refused and need not be slowed
//! down ("Fail at Scale", ACM Queue 13/8, 2015). Its figures are 5 ms and 100 ms for requests that take less than one;
//! a turn may take fifty.

use std::time::{Duration, Instant};

/// When a queue stands, and how long one may wait in it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatienceLimits {
    /// Whoever waited less than this found the object free: the queue does not stand.
    pub(crate) free: Duration,
    /// For how long nobody must have found the object free.
    pub(crate) interval: Duration,
    /// The longest wait in a queue that stands.
    pub(crate) target: Duration,
}

impl Default for PatienceLimits {
    /// The target is several of the longest turns, and a twentieth of what the command line waits unless it is told
    /// otherwise; a burst has as long as a person hardly notices.
    fn default() -> Self {
        Self {
            free: Duration::from_millis(10),
            interval: Duration::from_secs(1),
            target: Duration::from_millis(250),
        }
    }
}

/// What one object's queue has been like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Patience {
    /// Since when nobody has found the object free.
    standing_since: Option<Instant>,
}

impl Patience {
    /// True if a visit that has waited for so long is still to be served.
    pub(crate) fn admits(&mut self, limits: &PatienceLimits, waited: Duration, now: Instant) -> bool {
        if waited < limits.free {
            self.standing_since = None;
            return true;
        }
        let since = *self.standing_since.get_or_insert(now);
        waited <= limits.target || now.saturating_duration_since(since) < limits.interval
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use comet_routing::clock::Clock;
    use proptest::prelude::*;

    use super::*;

    /// What a queue of an object holds.
    const QUEUE: usize = 64;

    /// The rule switched off: nobody waits for too long.
    const NEVER: PatienceLimits =
        PatienceLimits { free: Duration::ZERO, interval: Duration::MAX, target: Duration::MAX };

    /// How many of what could be served in `period` is answered within `willing`, when `load` times as much comes.
    fn goodput(
        limits: &PatienceLimits,
        turn: Duration,
        load: f64,
        willing: Duration,
        period: Duration,
    ) -> f64 {
        let (start, gap) = (Clock::System.now(), turn.div_f64(load));
        let (end, mut now, mut due) = (start + period, start, start);
        let (mut patience, mut queue, mut good) = (Patience::default(), VecDeque::new(), 0_u32);
        while now < end {
            while due <= now {
                // Whoever comes to a full queue is refused.
                if queue.len() < QUEUE {
                    queue.push_back(due);
                }
                due += gap;
            }
            let Some(sent) = queue.pop_front() else {
                now = due;
                continue;
            };
            if patience.admits(limits, now - sent, now) {
                now += turn;
                good += u32::from(now - sent <= willing);
            }
        }
        f64::from(good) / period.div_duration_f64(turn).min(period.div_duration_f64(gap))
    }

    proptest! {
        #[test]
        fn under_too_much_load_nearly_all_that_is_done_is_done_in_time(
            turn_ms in 1_u64..=50,
            load in 1.2..20.0_f64,
            willing_ms in 350_u64..5_000,
        ) {
            let (turn, willing) = (Duration::from_millis(turn_ms), Duration::from_millis(willing_ms));
            let good = goodput(&PatienceLimits::default(), turn, load, willing, Duration::from_secs(30));
            prop_assert!(good >= 0.93, "{good}");
        }

        #[test]
        fn who_finds_the_object_free_now_and_then_waits_as_long_as_it_takes(
            turn_ms in 1_u64..=9,
            load in 0.05..0.9_f64,
        ) {
            let turn = Duration::from_millis(turn_ms);
            let all = goodput(&PatienceLimits::default(), turn, load, Duration::MAX, Duration::from_secs(30));
            prop_assert!(all >= 0.99, "{all}");
        }
    }

    #[test]
    fn without_the_rule_a_queue_of_three_seconds_serves_nobody_who_waits_for_one() {
        let (turn, second) = (Duration::from_millis(50), Duration::from_secs(1));
        let good = |limits| goodput(limits, turn, 5.0, second, 30 * second);
        assert!(good(&NEVER) < 0.1, "{}", good(&NEVER));
        assert!(good(&PatienceLimits::default()) > 0.93);
    }

    #[test]
    fn a_burst_is_served_whole_and_a_standing_queue_is_not() {
        let (limits, start) = (PatienceLimits::default(), Clock::System.now());
        let ms = Duration::from_millis;
        let mut patience = Patience::default();
        // Sixty-four at once, of fifteen milliseconds each.
        assert!((0..64).all(|n| patience.admits(&limits, ms(15 * n), start + ms(15 * n))));
        assert!(!patience.admits(&limits, ms(960), start + ms(1_020)));
        assert!(patience.admits(&limits, ms(250), start + ms(1_020)), "it waited for the target");
        assert!(!patience.admits(&limits, ms(251), start + ms(5_000)));
        assert!(patience.admits(&limits, ms(9), start + ms(5_000)), "it found the object free");
        assert!(patience.admits(&limits, ms(960), start + ms(5_001)), "and the next burst may wait");
    }
}
