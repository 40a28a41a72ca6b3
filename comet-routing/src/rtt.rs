//! How long to wait for a peer before going on without it.
//!
//! The estimator is RFC 6298's, section 2, without the back-off of section 5.5: a request that outlives the
//! estimate goes to another node at once, so there is no retransmission to slow down. The bounds are Comet's.

use std::time::Duration;

/// No peer is given up on sooner: below this a scheduler's pause looks like a dead peer.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(25);

/// No peer is waited for longer.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(1);

/// How long to wait for a peer that has not been measured while nobody has: longer than nearly all round trips
/// on Earth.
pub const TIMEOUT_STRANGER: Duration = Duration::from_millis(300);

/// A longer sample says nothing about the path and is taken as this.
const SAMPLE_MAX: Duration = Duration::from_secs(10);

/// The round-trip time to one peer as measured so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rtt {
    measured: Option<Smoothed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Smoothed {
    mean: Duration,
    variation: Duration,
}

impl Rtt {
    /// What somebody else has estimated, such as a transport.
    pub fn estimated(smoothed: Duration, variation: Duration) -> Self {
        let (mean, variation) = (smoothed.min(SAMPLE_MAX), variation.min(SAMPLE_MAX));
        Self { measured: Some(Smoothed { mean, variation }) }
    }

    /// Takes a measured round trip into account; measure only requests that were sent once (Karn's rule).
    pub fn observe(&mut self, sample: Duration) {
        let sample = sample.min(SAMPLE_MAX);
        self.measured = Some(match self.measured {
            None => Smoothed { mean: sample, variation: sample / 2 },
            Some(Smoothed { mean, variation }) => Smoothed {
                mean: (mean * 7 + sample) / 8,
                variation: (variation * 3 + mean.abs_diff(sample)) / 4,
            },
        });
    }

    /// The smoothed round-trip time, `None` for a stranger.
    pub fn smoothed(&self) -> Option<Duration> {
        self.measured.map(|smoothed| smoothed.mean)
    }

    /// When an unanswered request makes its peer suspect: SRTT + 4·RTTVAR, [`TIMEOUT_MIN`] to
    /// [`TIMEOUT_MAX`]; [`TIMEOUT_STRANGER`] before the first measurement.
    pub fn timeout(&self) -> Duration {
        self.measured.map_or(TIMEOUT_STRANGER, |Smoothed { mean, variation }| {
            (mean + variation * 4).clamp(TIMEOUT_MIN, TIMEOUT_MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_stranger_is_given_300_ms() {
        assert_eq!(Rtt::default().timeout(), ms(300));
        assert_eq!(Rtt::default().smoothed(), None);
    }

    #[test]
    fn the_first_samples_follow_the_rfc() {
        let mut rtt = Rtt::default();
        rtt.observe(ms(80));
        assert_eq!(rtt.timeout(), ms(80 + 4 * 40));
        rtt.observe(ms(160));
        assert_eq!(rtt.smoothed(), Some(ms(90)));
        assert_eq!(rtt.timeout(), ms(90 + 4 * 50));
    }

    proptest! {
        #[test]
        fn the_timeout_stays_within_its_bounds(samples in prop::collection::vec(any::<u64>(), 1..50)) {
            let mut rtt = Rtt::default();
            for sample in samples {
                rtt.observe(Duration::from_nanos(sample));
                prop_assert!((TIMEOUT_MIN..=TIMEOUT_MAX).contains(&rtt.timeout()));
            }
        }

        #[test]
        fn a_steady_peer_is_suspected_soon_after_its_usual_time(steady_ms in 10_u64..500) {
            let mut rtt = Rtt::default();
            for _ in 0..50 {
                rtt.observe(ms(steady_ms));
            }
            prop_assert!(rtt.timeout() >= ms(steady_ms));
            prop_assert!(rtt.timeout() <= ms(steady_ms + 25));
        }
    }
}
