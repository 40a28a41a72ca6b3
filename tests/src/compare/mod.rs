//! Comet's speed in figures that others can repeat: beside Redis, beside other hash tables, and by itself.
//!
//! Each section has a module, whose documentation says what exactly is measured, and prints the Markdown tables of
//! docs/performance.md. There are no aims here: figures of one machine are worth nothing on another, ratios of one run are.

use std::path::PathBuf;

use chart::Chart;

pub mod chart;
pub mod fig2;
pub mod growth;
pub mod laps;
pub mod memory;
pub mod redis;
pub mod rivals;
mod servers;
pub mod swarm;

/// How comparing nodes are configured: objects may compute all day, and a handler may take 100,000 turns of a loop.
pub const CONFIG: &str = "
[runtime]
cpu_seconds_per_day = 86400
[limits]
steps = 1000000
turn_ms = 1000
";

/// Pairs of runs, unless another number is asked for, and at most.
const PAIRS: usize = 5;
const PAIRS_MAX: usize = 100;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Enough for figures.
    Full,
    /// Enough to see that everything works.
    Smoke,
}

impl Extent {
    /// One of two.
    pub fn of<T>(self, full: T, smoke: T) -> T {
        match self {
            Self::Full => full,
            Self::Smoke => smoke,
        }
    }
}

/// What a section measures with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much.
    pub extent: Extent,
    /// How many pairs of runs a comparison has.
    pub pairs: usize,
    /// How many active objects there are at most.
    pub active_max: u64,
    /// A program that is `comet-node`.
    pub program: PathBuf,
    /// A Python interpreter: a path, or a name to look for.
    pub python: PathBuf,
    /// Where directories are made: on a disk, for a file system in memory would make durability free.
    pub top: PathBuf,
}

/// What a section found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Markdown.
    pub text: String,
    /// Pictures and the names of their files, without the ending.
    pub charts: Vec<(&'static str, Chart)>,
}

/// Figures that are measured together.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// What to call it on the command line.
    pub name: &'static str,
    /// Measures it.
    pub measure: fn(&Plan) -> anyhow::Result<Report>,
}

/// Every section, in the order in which they are measured.
pub const SECTIONS: &[Section] = &[
    Section { name: "redis", measure: redis::measure },
    Section { name: "fig2", measure: fig2::measure },
    Section { name: "memory", measure: memory::measure },
    Section { name: "swarm", measure: swarm::measure },
    Section { name: "growth", measure: growth::measure },
    Section { name: "rivals", measure: rivals::measure },
];

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What to measure.
    pub sections: Vec<Section>,
    /// How much.
    pub extent: Extent,
    /// How many pairs of runs.
    pub pairs: usize,
    /// How many active objects at most.
    pub active_max: u64,
    /// A Python interpreter.
    pub python: PathBuf,
    /// Where to put pictures, if anywhere.
    pub svg: Option<PathBuf>,
}

impl Wish {
    /// How to ask.
    pub const USAGE: &str = "usage: compare [--smoke] [--pairs N] [--active N] [--python PROGRAM] [--svg DIR] \
                             [redis] [fig2] [memory] [swarm] [growth] [rivals]";

    /// Reads the words after the program's name; the error says what is wrong with them.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut sections, mut extent, mut pairs) = (Vec::new(), Extent::Full, None);
        let (mut active_max, mut python, mut svg) = (memory::ACTIVE_MAX, PathBuf::from("python3"), None);
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--smoke" => extent = Extent::Smoke,
                "--pairs" => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    let good = number.filter(|number| (1..=PAIRS_MAX).contains(number));
                    pairs =
                        Some(good.ok_or_else(|| format!("--pairs needs a number from 1 to {PAIRS_MAX}"))?);
                }
                "--active" => {
                    let number = words.next().and_then(|number| number.parse().ok());
                    let good = number.filter(|number| (1..=memory::ACTIVE_MAX).contains(number));
                    active_max = good
                        .ok_or_else(|| format!("--active needs a number from 1 to {}", memory::ACTIVE_MAX))?;
                }
                "--python" => python = PathBuf::from(words.next().ok_or("--python needs a program")?),
                "--svg" => svg = Some(PathBuf::from(words.next().ok_or("--svg needs a directory")?)),
                name => {
                    let section = SECTIONS.iter().find(|section| section.name == name);
                    sections.push(*section.ok_or_else(|| format!("there is no section {name:?}"))?);
                }
            }
        }
        if sections.is_empty() {
            sections = SECTIONS.to_vec();
        }
        let pairs = pairs.unwrap_or(extent.of(PAIRS, 1));
        Ok(Self { sections, extent, pairs, active_max, python, svg })
    }
}

/// The figure in the middle, or the mean of the two; `None` if there are none.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    Some((figures[last / 2] + figures[last.div_ceil(2)]) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(words: &str) -> Result<Wish, String> {
        Wish::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_is_measured_unless_sections_are_named() {
        let names = |wish: Wish| wish.sections.iter().map(|section| section.name).collect::<Vec<_>>();
        assert_eq!(
            names(wish("").expect("nothing is wrong")),
            ["redis", "fig2", "memory", "swarm", "growth", "rivals"]
        );
        let some = wish("swarm --pairs 3 --svg there fig2").expect("nothing is wrong");
        assert_eq!((some.pairs, some.svg.clone()), (3, Some("there".into())));
        assert_eq!(names(some), ["swarm", "fig2"]);
    }

    #[test]
    fn another_python_is_taken_if_it_is_named() {
        assert_eq!(wish("").expect("nothing is wrong").python, PathBuf::from("python3"));
        assert_eq!(wish("--python a/b").expect("nothing is wrong").python, PathBuf::from("a/b"));
        assert_eq!(wish("rivals --python").err(), Some("--python needs a program".into()));
    }

    #[test]
    fn a_smoke_test_has_one_pair_unless_more_are_asked_for() {
        assert_eq!(wish("--smoke").expect("nothing is wrong").pairs, 1);
        assert_eq!(wish("--pairs 2 --smoke").expect("nothing is wrong").pairs, 2);
        assert_eq!(wish("").expect("nothing is wrong").pairs, 5);
    }

    #[test]
    fn wrong_words_are_named() {
        assert_eq!(wish("speed").err(), Some("there is no section \"speed\"".into()));
        assert_eq!(wish("--pairs 0").err(), Some("--pairs needs a number from 1 to 100".into()));
        assert_eq!(wish("--active 100001").err(), Some("--active needs a number from 1 to 100000".into()));
        assert_eq!(wish("--svg").err(), Some("--svg needs a directory".into()));
    }

    #[test]
    fn the_median_of_two_is_between_them() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
