//! How well a swarm bears what can befall it, in figures.
//!
//! Each subject has a module, whose documentation says what exactly is measured. Most are simulated, so that
//! a seed gives the same figures on every machine; those that are about real processes, disks or speed are not.

use std::{fmt, time::Duration};

use crate::harness::{Failure, Sim};

pub use clients::{Clients, Gets};

pub mod churn;
mod clients;
pub mod death;
pub mod determinism;
pub mod kill;
pub mod loss;
pub mod partition;
pub mod power;
mod real_time;
pub mod restart;
pub mod silent;
pub mod speed;

/// One thing that was measured, beside what was aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What it should be, in the same words as `measured`.
    pub aim: String,
    /// What it is.
    pub measured: String,
    /// Whether it is as good as it should be.
    pub reached: bool,
}

/// Figures that are measured together.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// What to call it on the command line.
    pub name: &'static str,
    /// Measures it.
    pub measure: fn(seed: u64) -> Vec<Figure>,
}

/// Every subject, in the order in which they are measured.
pub const SUBJECTS: &[Subject] = &[
    Subject { name: "determinism", measure: determinism::measure },
    Subject { name: "speed", measure: speed::measure },
    Subject { name: "loss", measure: loss::measure },
    Subject { name: "partition", measure: partition::measure },
    Subject { name: "restart", measure: restart::measure },
    Subject { name: "death", measure: death::measure },
    Subject { name: "churn", measure: churn::measure },
    Subject { name: "silent", measure: silent::measure },
    Subject { name: "power", measure: power::measure },
    Subject { name: "kill", measure: kill::measure },
];

impl Figure {
    /// A share of all trials, which should be at least so much.
    pub fn share(what: impl Into<String>, share: Share, percent_min: f64) -> Self {
        Self {
            what: what.into(),
            aim: format!("at least {percent_min} %"),
            measured: share.to_string(),
            reached: share.percent() >= percent_min,
        }
    }

    /// A time, which should be at most so much.
    pub fn time(what: impl Into<String>, taken: Duration, max: Duration) -> Self {
        Self {
            what: what.into(),
            aim: format!("at most {max:.2?}"),
            measured: if taken.is_zero() { "at once".to_owned() } else { format!("{taken:.2?}") },
            reached: taken <= max,
        }
    }

    /// Things of which there should be none.
    pub fn none(what: impl Into<String>, found: usize) -> Self {
        Self { what: what.into(), aim: "0".to_owned(), measured: found.to_string(), reached: found == 0 }
    }
}

/// How often a node looks after what it holds, unless it is configured otherwise.
const UPKEEP_PERIOD: Duration = Duration::from_secs(3_600);

/// Tells a story whose failure says how to tell it again.
fn simulate<T: Send>(
    seed: u64,
    subject: &str,
    story: impl AsyncFnOnce(Sim) -> Result<T, Failure> + Send,
) -> T {
    let replay = format!("cargo run --release -p comet-tests --bin resilience -- --seed {seed} {subject}");
    Sim::exactly(seed).replayed_by(replay).run(story)
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Trials that went well.
    pub good: usize,
    /// All trials.
    pub all: usize,
}

impl Share {
    /// Counts a trial.
    pub fn add(&mut self, good: bool) {
        self.good += usize::from(good);
        self.all += 1;
    }

    /// The share, of a hundred; all of nothing is a hundred.
    pub fn percent(&self) -> f64 {
        if self.all == 0 { 100.0 } else { self.good as f64 * 100.0 / self.all as f64 }
    }
}

impl fmt::Display for Share {
    /// Rounded down, so that what is not all never looks like all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.percent() * 1_000.0).floor() / 1_000.0;
        write!(f, "{percent} % ({} of {})", self.good, self.all)
    }
}

/// The time that so many of a hundred trials took at most; zero without trials.
pub fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((times.len() * percent / 100).min(last)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_short_of_all_never_reads_as_all() {
        let share = Share { good: 999_999, all: 1_000_000 };
        assert_eq!(share.to_string(), "99.999 % (999999 of 1000000)");
        assert!(!Figure::share("gets", share, 100.0).reached);
        assert!(Figure::share("gets", share, 99.99).reached);
    }

    #[test]
    fn a_hundredth_of_a_hundred_times_is_above_the_99th_percentile() {
        let times = (1..=100).map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(percentile(times.clone(), 50), Duration::from_secs(51));
        assert_eq!(percentile(times, 99), Duration::from_secs(100));
        assert_eq!(percentile(vec![], 99), Duration::ZERO);
    }
}
