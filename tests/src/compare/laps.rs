//! What one run took, and what several pairs of runs say together.

use std::{fmt, time::Duration};

use super::median;
use crate::resilience::percentile;

/// One run's figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// Requests that were answered, per second.
    pub per_second: f64,
    /// The time that half of them took at most, in milliseconds.
    pub p50_ms: f64,
    /// The time that all but one in a hundred took at most, in milliseconds.
    pub p99_ms: f64,
}

/// Why the output of `redis-benchmark --csv` says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LapError {
    /// The server refused requests: whatever was timed is not what was meant.
    #[error("the server answered with an error: {0}")]
    Refused(String),
    /// There is no line of column names.
    #[error("redis-benchmark printed no table: {0:?}")]
    NoTable(String),
    /// A figure is missing, or is no number.
    #[error("redis-benchmark printed no {column:?}: {row:?}")]
    NoFigure {
        /// What the column is called.
        column: &'static str,
        /// The line of figures, if there is one.
        row: String,
    },
}

impl Lap {
    /// Of what took so long each, and so long altogether.
    pub fn of(times: &[Duration], whole: Duration) -> Self {
        let ms = |percent| percentile(times.to_vec(), percent).as_secs_f64() * 1e3;
        Self { per_second: times.len() as f64 / whole.as_secs_f64(), p50_ms: ms(50), p99_ms: ms(99) }
    }

    /// Reads what `redis-benchmark --csv` of Redis 6.2 and later prints for one command.
    pub fn parse(output: &str) -> Result<Self, LapError> {
        if let Some(line) = output.lines().find(|line| line.contains("Error from server")) {
            return Err(LapError::Refused(line.trim().to_owned()));
        }
        // While it runs it shows its progress, each time on top of the last, also in this format.
        let mut lines = output.lines().map(|line| line.rsplit('\r').next().unwrap_or(line));
        let head = lines.by_ref().find(|line| line.starts_with("\"test\",\"rps\""));
        let head = head.ok_or_else(|| LapError::NoTable(output.trim().to_owned()))?;
        let row = lines.find(|line| line.starts_with('"')).unwrap_or("");
        // The first column is the command, which may contain anything; so columns are counted from the right.
        let (names, figures): (Vec<_>, Vec<_>) = (head.rsplit(',').collect(), row.rsplit(',').collect());
        let figure = |column| {
            let at = names.iter().position(|name| name.trim_matches('"') == column);
            let figure = at.and_then(|at| figures.get(at)?.trim_matches('"').parse::<f64>().ok());
            figure
                .filter(|figure| figure.is_finite())
                .ok_or_else(|| LapError::NoFigure { column, row: row.into() })
        };
        Ok(Self {
            per_second: figure("rps")?,
            p50_ms: figure("p50_latency_ms")?,
            p99_ms: figure("p99_latency_ms")?,
        })
    }
}

/// What the pairs of a comparison say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Medians of the first side.
    pub first: Lap,
    /// Medians of the second side.
    pub second: Lap,
    /// The rate of the first over that of the second, pair by pair.
    pub ratio: Spread,
}

impl Verdict {
    /// Judges the pairs; `None` if there are none.
    pub fn of(pairs: &[(Lap, Lap)]) -> Option<Self> {
        let side = |of: fn(&(Lap, Lap)) -> Lap| {
            let middle = |figure: fn(Lap) -> f64| median(pairs.iter().map(|pair| figure(of(pair))).collect());
            Some(Lap {
                per_second: middle(|lap| lap.per_second)?,
                p50_ms: middle(|lap| lap.p50_ms)?,
                p99_ms: middle(|lap| lap.p99_ms)?,
            })
        };
        let ratio = Spread::of(pairs.iter().map(|(first, second)| first.per_second / second.per_second))?;
        Some(Self { first: side(|pair| pair.0)?, second: side(|pair| pair.1)?, ratio })
    }
}

/// How far figures lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of these figures; `None` if there are none.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Self> {
        let figures: Vec<f64> = figures.collect();
        let min = figures.iter().copied().min_by(f64::total_cmp)?;
        let max = figures.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { min, median: median(figures)?, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#;

    #[test]
    fn figures_are_found_by_the_names_of_their_columns() {
        let output = format!(
            "{HEAD}\n\"GET plain\",\"51282.05\",\"0.502\",\"0.144\",\"0.487\",\"0.743\",\"1.023\",\"3.5\"\n"
        );
        assert_eq!(Lap::parse(&output), Ok(Lap { per_second: 51_282.05, p50_ms: 0.487, p99_ms: 1.023 }));
    }

    #[test]
    fn a_command_may_contain_commas_and_quotes_and_progress_may_come_before() {
        let row = r#""SET a "b",c","100.5","9","9","0.25","9","9","9""#;
        let output = format!("WARNING: Could not fetch server CONFIG\n{HEAD}\nSET: rps=0.0\r{row}\n");
        assert_eq!(Lap::parse(&output), Ok(Lap { per_second: 100.5, p50_ms: 0.25, p99_ms: 9.0 }));
    }

    #[test]
    fn a_run_that_was_refused_or_cut_short_is_no_figure() {
        let refused = format!(
            "Error from server: ERR unknown command\n{HEAD}\n\"X\",\"9\",\"9\",\"9\",\"9\",\"9\",\"9\",\"9\""
        );
        assert_eq!(
            Lap::parse(&refused),
            Err(LapError::Refused("Error from server: ERR unknown command".into()))
        );
        assert_eq!(Lap::parse("no server\n"), Err(LapError::NoTable("no server".into())));
        assert_eq!(Lap::parse(HEAD), Err(LapError::NoFigure { column: "rps", row: String::new() }));
        let nan = format!("{HEAD}\n\"X\",\"nan\",\"9\",\"9\",\"9\",\"9\",\"9\",\"9\"");
        assert!(matches!(Lap::parse(&nan), Err(LapError::NoFigure { column: "rps", .. })));
    }

    #[test]
    fn a_lap_of_a_hundred_has_its_slowest_as_p99() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let lap = Lap::of(&times, Duration::from_secs(2));
        assert_eq!(lap, Lap { per_second: 50.0, p50_ms: 51.0, p99_ms: 100.0 });
    }

    #[test]
    fn ratios_are_taken_within_pairs_before_their_median() {
        let lap = |per_second| Lap { per_second, p50_ms: 1.0, p99_ms: 2.0 };
        // The machine was half as fast during the second pair: the ratio does not know.
        let pairs = [(lap(50.0), lap(100.0)), (lap(25.0), lap(50.0)), (lap(80.0), lap(100.0))];
        let verdict = Verdict::of(&pairs).expect("there are pairs");
        assert_eq!(verdict.ratio, Spread { min: 0.5, median: 0.5, max: 0.8 });
        assert_eq!((verdict.first.per_second, verdict.second.per_second), (50.0, 100.0));
        assert_eq!(verdict.ratio.to_string(), "0.50 (0.50–0.80)");
        assert_eq!(Verdict::of(&[]), None);
    }
}
