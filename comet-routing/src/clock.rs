//! What time it is, for the actors; pure code gets the time as an argument.

#[cfg(feature = "simulation")]
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock milliseconds since the Unix epoch.
pub type WallMs = u64;

/// A source of time that the simulation can own.
///
/// Both readings follow the async runtime's clock where that is paused, so that a whole node, expiry and
/// timers included, lives in simulated time.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// A wall clock that showed `wall_ms` when the runtime's monotonic clock showed `at`.
    Virtual {
        /// The wall clock's reading at `at`, in milliseconds since the Unix epoch.
        wall_ms: WallMs,
        /// The monotonic instant of that reading.
        at: Instant,
        /// What somebody set it forward by since, if it can be set.
        #[cfg(feature = "simulation")]
        shift: Option<Shift>,
    },
}

/// The hand that sets a virtual wall clock, as an operator or a time server would; monotonic time is not
/// affected.
///
/// It lives as long as the process, so that a [`Clock`] stays a plain value: a simulation has few.
#[cfg(feature = "simulation")]
#[derive(Clone, Copy, Debug)]
pub struct Shift(&'static AtomicI64);

#[cfg(feature = "simulation")]
impl Shift {
    /// Sets the clock forward by so many milliseconds, or back.
    pub fn by_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Relaxed);
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
impl Clock {
    /// A virtual clock that shows `wall_ms` now and advances with the runtime's (perhaps paused) clock.
    pub fn starting_at(wall_ms: WallMs) -> Self {
        let at = tokio::time::Instant::now().into_std();
        Self::Virtual {
            wall_ms,
            at,
            #[cfg(feature = "simulation")]
            shift: None,
        }
    }

    /// As [`Clock::starting_at`], but a clock that can be set.
    #[cfg(feature = "simulation")]
    pub fn settable(wall_ms: WallMs) -> (Self, Shift) {
        let shift = Shift(Box::leak(Box::default()));
        let at = tokio::time::Instant::now().into_std();
        (Self::Virtual { wall_ms, at, shift: Some(shift) }, shift)
    }

    /// Monotonic time, from the async runtime.
    pub fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Wall-clock time in milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> WallMs {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wall-clock time in microseconds since the Unix epoch, to number what follows closely on each other.
    pub fn wall_us(&self) -> u64 {
        u64::try_from(self.since_epoch().as_micros()).unwrap_or(u64::MAX)
    }

    fn since_epoch(&self) -> Duration {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Self::Virtual { wall_ms, at, .. } => {
                let passed = self.now().saturating_duration_since(*at);
                Duration::from_millis(wall_ms.saturating_add_signed(self.shift_ms())).saturating_add(passed)
            }
        }
    }

    /// What somebody set it forward by.
    fn shift_ms(&self) -> i64 {
        match self {
            #[cfg(feature = "simulation")]
            Self::Virtual { shift: Some(shift), .. } => shift.0.load(Relaxed),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_virtual_clock_advances_with_the_runtime() {
        let clock = Clock::starting_at(1_000_000);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((clock.wall_ms(), clock.wall_us()), (1_060_000, 1_060_000_000));
    }

    #[cfg(feature = "simulation")]
    #[test]
    fn setting_a_clock_moves_wall_time_and_nothing_else() {
        let (clock, shift) = Clock::settable(1_000_000);
        let (before, other) = (clock.now(), clock);
        shift.by_ms(60_000);
        assert!((1_060_000..1_070_000).contains(&other.wall_ms()), "{}", other.wall_ms());
        shift.by_ms(-120_000);
        assert!((940_000..950_000).contains(&other.wall_ms()), "{}", other.wall_ms());
        assert!(clock.now().duration_since(before) < Duration::from_secs(10));
        shift.by_ms(i64::MIN / 2);
        assert!(clock.wall_ms() < 10_000);
    }
}
