//! A swarm of Comet beside swarms of other distributed hash tables: OpenDHT, libtorrent and the crate `mainline`.
//!
//! All have as many nodes, on loopback, those of one kind in one process. Both swarms of a pair are there at the same time, and take turns with
//! every kind of operation; each pair has a new swarm of the rival, because what a node remembers of its lookups slows some of them down.
//! New values of six bytes are put through all nodes by turns, and each is got through another node.
//!
//! They do not do the same. Comet's puts are on the disks of a majority of eight replicas when they are acknowledged, and its nodes talk over
//! encrypted connections; the others keep values in memory and send plain datagrams. What their operations are is said in the programs
//! in tests/rivals, and in `mainline_swarm`.

use std::{cell::Cell, fmt::Write as _, ops::Range, time::Duration};

use comet_node::{
    client::Client,
    config::NodeConfig,
    node::block_on,
    swarm::{Swarm, SwarmOptions},
};
use comet_runtime::Value;

use self::program::Program;
use super::{
    Plan, Report,
    laps::{Lap, Verdict},
    swarm::{IN_FLIGHT, OPERATIONS, get_through, put_through, times},
};

#[cfg(feature = "mainline")]
mod mainline_swarm;
mod program;

/// The time after which no more operations of a kind are begun.
const PERIOD: Duration = Duration::from_secs(5);

/// From the node of a put to that of its get; no multiple of the number of nodes.
const STRIDE: usize = 7;

/// What is asked of a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    /// Put new values.
    Put,
    /// Get what the last puts put.
    Get,
}

/// Operations of one kind that are measured together.
#[derive(Clone, Copy, Debug)]
struct Task {
    operation: Operation,
    in_flight: usize,
    operations: usize,
}

/// What came of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    lap: Lap,
    operations: usize,
    failed: usize,
}

/// Why two swarms were not compared.
#[derive(Debug, thiserror::Error)]
enum RaceError {
    /// The rival is not installed, or failed: others can be compared all the same.
    #[error("{0:#}")]
    Rival(anyhow::Error),
    /// Comet failed.
    #[error("{0:#}")]
    Comet(anyhow::Error),
}

/// Measures it, with the rivals that are installed.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let nodes = plan.extent.of(32, 8);
    let options = SwarmOptions { nodes, data: Some(top.path().to_owned()), demo: false };
    block_on(async {
        let swarm = Swarm::start(&options, &NodeConfig::default()).await?;
        swarm.joined().await;
        let report = report(plan, swarm.clients()).await;
        swarm.stop().await;
        report
    })
}

async fn report(plan: &Plan, clients: Vec<Client>) -> anyhow::Result<Report> {
    let head = format!(
        "| operation, {} nodes | in flight | rival | Comet: per second, p50, p99 | rival: per second, p50, p99 | \
         rival: failed | Comet/rival: median (least–greatest) |\n|---|---|---|---|---|---|---|\n",
        clients.len()
    );
    let (mut rows, mut absent) = (String::new(), String::new());
    let mut comet = Comet { clients, turns: Turns::default() };
    for kind in [Kind::OpenDht, Kind::Libtorrent, Kind::Mainline] {
        match race(plan, &mut comet, kind).await {
            Ok(more) => rows += &more,
            Err(RaceError::Rival(why)) => writeln!(absent, "Not compared with {}: {why:#}.", kind.name())?,
            Err(RaceError::Comet(error)) => return Err(error),
        }
    }
    let table = if rows.is_empty() { rows } else { head + &rows + "\n" };
    Ok(Report { text: table + &absent, charts: vec![] })
}

/// Runs every task with both swarms, by turns; returns rows of the table.
async fn race(plan: &Plan, comet: &mut Comet, kind: Kind) -> Result<String, RaceError> {
    let task = |operation, in_flight, operations| Task { operation, in_flight, operations };
    let (few, many) = (plan.extent.of(OPERATIONS / 4, 20), plan.extent.of(OPERATIONS, 40));
    let tasks = [
        task(Operation::Put, 1, few),
        task(Operation::Get, 1, few),
        task(Operation::Put, IN_FLIGHT, many),
        task(Operation::Get, IN_FLIGHT, many),
    ];
    let mut pairs = tasks.map(|_| Vec::new());
    for _ in 0..plan.pairs {
        let mut rival = Rival::start(plan, kind, comet.clients.len()).await.map_err(RaceError::Rival)?;
        for (task, pairs) in tasks.iter().zip(&mut pairs) {
            let own = comet.run(task).await.map_err(RaceError::Comet)?;
            pairs.push((own, rival.run(task).await.map_err(RaceError::Rival)?));
        }
    }
    Ok(tasks.iter().zip(&pairs).filter_map(|(task, pairs)| row(kind, task, pairs)).collect())
}

/// A line of the table; `None` if there are no pairs.
fn row(kind: Kind, task: &Task, pairs: &[(Outcome, Outcome)]) -> Option<String> {
    let laps: Vec<_> = pairs.iter().map(|(own, other)| (own.lap, other.lap)).collect();
    let Verdict { first, second, ratio } = Verdict::of(&laps)?;
    let lap = |lap: Lap| format!("{:.0}, {:.2} ms, {:.2} ms", lap.per_second, lap.p50_ms, lap.p99_ms);
    let sum = |of: fn(&Outcome) -> usize| pairs.iter().map(|(_, other)| of(other)).sum::<usize>();
    let (failed, operations) = (sum(|other| other.failed), sum(|other| other.operations));
    let operation = match task.operation {
        Operation::Put => "put",
        Operation::Get => "get",
    };
    Some(format!(
        "| {operation} | {} | {} | {} | {} | {failed} of {operations} | {ratio} |\n",
        task.in_flight,
        kind.name(),
        lap(first),
        lap(second),
    ))
}

/// A kind of swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OpenDht,
    Libtorrent,
    Mainline,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::OpenDht => "OpenDHT",
            Self::Libtorrent => "libtorrent",
            Self::Mainline => "mainline",
        }
    }
}

/// A swarm that is not Comet's.
enum Rival {
    Program(Program),
    #[cfg(feature = "mainline")]
    Mainline(mainline_swarm::MainlineSwarm),
}

impl Rival {
    /// Starts one and waits until its nodes know each other.
    async fn start(plan: &Plan, kind: Kind, nodes: usize) -> anyhow::Result<Self> {
        match kind {
            Kind::OpenDht => Program::start(&plan.python, "opendht", nodes).await.map(Self::Program),
            Kind::Libtorrent => Program::start(&plan.python, "libtorrent", nodes).await.map(Self::Program),
            #[cfg(feature = "mainline")]
            Kind::Mainline => mainline_swarm::MainlineSwarm::start(nodes).await.map(Self::Mainline),
            #[cfg(not(feature = "mainline"))]
            Kind::Mainline => anyhow::bail!("this program was built without its feature `mainline`"),
        }
    }

    async fn run(&mut self, task: &Task) -> anyhow::Result<Outcome> {
        match self {
            Self::Program(program) => program.run(task).await,
            #[cfg(feature = "mainline")]
            Self::Mainline(swarm) => swarm.run(task).await,
        }
    }
}

/// Comet's swarm.
struct Comet {
    clients: Vec<Client>,
    turns: Turns,
}

impl Comet {
    async fn run(&mut self, task: &Task) -> anyhow::Result<Outcome> {
        let Self { clients, turns } = self;
        let data = Value::from("hello").encode();
        let ask = async |node: usize, number| {
            let name = format!("rival-{number}");
            match task.operation {
                Operation::Put => put_through(&clients[node], name, data.clone()).await?,
                Operation::Get => get_through(&clients[node], name).await?,
            }
            Ok(true)
        };
        turns.run(task, clients.len(), ask).await
    }
}

/// Whose turn it is, in a swarm in this process.
#[derive(Debug, Default)]
struct Turns {
    /// The numbers of the last puts.
    last: Range<usize>,
}

impl Turns {
    /// Runs a task with an operation that takes a node and the number of a value, and says whether it did what it should.
    async fn run<F: Future<Output = anyhow::Result<bool>>>(
        &mut self,
        task: &Task,
        nodes: usize,
        operation: impl Fn(usize, usize) -> F,
    ) -> anyhow::Result<Outcome> {
        let (numbers, stride) = self.next(task);
        let failed = Cell::new(0);
        let one = async |number: usize| {
            let succeeded = operation((number + stride) % nodes, number).await?;
            failed.set(failed.get() + usize::from(!succeeded));
            Ok(())
        };
        let (times, whole) = times(numbers.clone(), task.in_flight, PERIOD, &one).await?;
        if task.operation == Operation::Put {
            self.last = numbers.start..numbers.start + times.len();
        }
        Ok(Outcome { lap: Lap::of(&times, whole), operations: times.len(), failed: failed.get() })
    }

    /// The numbers of the values that are put or got next, and how far their nodes are from those of their puts.
    fn next(&self, task: &Task) -> (Range<usize>, usize) {
        let Range { start, end } = self.last;
        match task.operation {
            Operation::Put => (end..end + task.operations, 0),
            Operation::Get => (start..end.min(start + task.operations), STRIDE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(operation: Operation, operations: usize) -> Task {
        Task { operation, in_flight: 3, operations }
    }

    #[test]
    fn a_row_has_medians_ratios_within_pairs_and_the_sum_of_failures() {
        let outcome = |per_second, failed| Outcome {
            lap: Lap { per_second, p50_ms: 1.0, p99_ms: 2.0 },
            operations: 100,
            failed,
        };
        let pairs = [
            (outcome(500.0, 0), outcome(1_000.0, 1)),
            (outcome(250.0, 0), outcome(500.0, 2)),
            (outcome(800.0, 0), outcome(1_000.0, 0)),
        ];
        let expected = "| get | 3 | libtorrent | 500, 1.00 ms, 2.00 ms | 1000, 1.00 ms, 2.00 ms | 3 of 300 | \
                        0.50 (0.50–0.80) |\n";
        assert_eq!(row(Kind::Libtorrent, &task(Operation::Get, 100), &pairs).as_deref(), Some(expected));
        assert_eq!(row(Kind::Libtorrent, &task(Operation::Get, 100), &[]), None);
    }

    #[tokio::test]
    async fn every_put_has_a_new_value_and_gets_read_the_last_ones_elsewhere() {
        let mut turns = Turns::default();
        let mut asked = async |operation, operations| {
            let seen = std::cell::RefCell::new(Vec::new());
            let ask = async |node, number| {
                seen.borrow_mut().push((node, number));
                Ok(number != 4)
            };
            let outcome = turns.run(&task(operation, operations), 4, ask).await.expect("none fails");
            (seen.take(), outcome.operations, outcome.failed)
        };
        assert_eq!(asked(Operation::Put, 3).await, (vec![(0, 0), (1, 1), (2, 2)], 3, 0));
        assert_eq!(asked(Operation::Put, 2).await, (vec![(3, 3), (0, 4)], 2, 1));
        assert_eq!(asked(Operation::Get, 5).await, (vec![(2, 3), (3, 4)], 2, 1));
    }
}
