//! What a watchdog on another thread needs to know of the turns on this one.
//!
//! A turn's own limits end it in all but one case: a library call without an interrupt inside that takes far
//! longer than it was measured to. A thread cannot be killed, so the process has to end; this is how its
//! watchdog finds out.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Since when a turn has been running on one thread, if one is.
#[derive(Debug, Default)]
pub struct TurnWatch {
    /// Milliseconds of [`process_time`] plus one; 0 while no turn runs.
    since: AtomicU64,
}

impl TurnWatch {
    /// How long the turn that runs now has been running; `None` if none does.
    pub fn running_for(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(process_time().saturating_sub(Duration::from_millis(since)))
    }

    /// A turn begins at this [`process_time`].
    pub(crate) fn turn_begins(&self, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1);
        self.since.store(now.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn turn_ends(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}

/// Time since the process first asked, the same on every thread.
#[allow(
    clippy::disallowed_methods,
    reason = "the wall-clock backstop of a turn; simulated time turns it off"
)]
pub(crate) fn process_time() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_a_turn_while_it_runs_and_no_longer() {
        let watch = TurnWatch::default();
        assert_eq!(watch.running_for(), None);
        watch.turn_begins(process_time());
        assert!(watch.running_for().is_some());
        watch.turn_ends();
        assert_eq!(watch.running_for(), None);
    }
}
