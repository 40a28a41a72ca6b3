//! What time it is, for the actors; pure code gets the time as an argument.

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
    },
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
impl Clock {
    /// A virtual clock that shows `wall_ms` now and advances with the runtime's (perhaps paused) clock.
    pub fn starting_at(wall_ms: WallMs) -> Self {
        Self::Virtual { wall_ms, at: tokio::time::Instant::now().into_std() }
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
            Self::Virtual { wall_ms, at } => {
                let passed = self.now().saturating_duration_since(*at);
                Duration::from_millis(*wall_ms).saturating_add(passed)
            }
        }
    }
}
