//! How long operations take when a quarter of the nodes falls silent: real processes, real sockets.
//!
//! A swarm of 32 processes on loopback holds some objects. Eight processes are stopped at one moment, as by a
//! frozen machine: their ports stay open, nothing comes out of them, and nobody is told. Without a pause three
//! clients, one for each kind of operation, go round the live nodes over HTTP, one request after the other: one
//! puts new objects, one reads objects from before, one reads what nobody put. The first five seconds, in
//! which the nodes find out, are reported apart from the rest.
//!
//! This is done twice: with connections that are in use when the nodes fall silent, and, with other nodes that fall
//! silent, after so long a quiet time that all connections are closed and everybody is half a stranger. Before each
//! round all nodes have found each other.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{Figure, percentile, real_time::pass};
use crate::process::{NodeProcess, await_each_other};

/// Processes, and how many of them fall silent.
const NODES: usize = 32;
const SILENT: usize = NODES / 4;
/// Objects that are there before.
const OBJECTS: usize = 200;
/// How long the last replicas have to be written.
const SETTLING: Duration = Duration::from_secs(8);
/// Longer than idle connections are kept.
const QUIET: Duration = Duration::from_secs(40);
/// How long it is measured, and the part of it in which the nodes find out.
const MEASURED: Duration = Duration::from_secs(30);
const FINDING_OUT: Duration = Duration::from_secs(5);
/// What is aimed at.
const PUT_OR_GET_MAX: Duration = Duration::from_millis(150);
const MISSING_MAX: Duration = Duration::from_millis(300);

/// Measures it; the seed decides which nodes fall silent.
pub fn measure(seed: u64) -> Vec<Figure> {
    let program = program();
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&program, &top);
    await_each_other(&swarm);
    let all: Vec<_> = swarm.iter().map(NodeProcess::url).collect();
    for n in 0..OBJECTS {
        assert!(Kind::Put.ask(&agent(), &all[n % NODES], &format!("before-{n}")), "put {n}");
    }
    let mut figures = Vec::new();
    let healthy = load("healthy", &all, FINDING_OUT, 0);
    figures.extend(healthy.into_iter().flat_map(|samples| samples.figures("all alive", None)));
    for (round, quiet) in [Duration::ZERO, QUIET].into_iter().enumerate() {
        await_each_other(&swarm);
        pass(quiet);
        let first = (seed as usize + round) % NODES;
        let is_silent = |n: usize| (n + NODES - first).is_multiple_of(NODES / SILENT);
        let (silent, live): (Vec<_>, Vec<_>) = (0..NODES).partition(|n| is_silent(*n));
        silent.iter().for_each(|n| swarm[*n].freeze());
        let live: Vec<_> = live.into_iter().map(|n| all[n].clone()).collect();
        let when = if quiet.is_zero() { "in use" } else { "after a quiet time" };
        let samples = load(&format!("round-{round}"), &live, MEASURED, seed as usize);
        figures.extend(samples.into_iter().flat_map(|samples| samples.figures(when, Some(FINDING_OUT))));
        silent.iter().for_each(|n| swarm[*n].thaw());
        pass(SETTLING);
    }
    figures
}

/// One client's kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
    Missing,
}

/// What one client saw: when each of its requests began, how long it took, and whether it went well.
struct Samples {
    kind: Kind,
    seen: Vec<(Duration, Duration, bool)>,
}

impl Kind {
    /// Makes one request; true if it was answered as it should be.
    fn ask(self, agent: &ureq::Agent, node: &str, key: &str) -> bool {
        let url = format!("{node}/v1/objects/{key}");
        let answer = match self {
            Self::Put => agent.put(&url).content_type("application/octet-stream").send("a value"),
            Self::Get | Self::Missing => agent.get(&url).call(),
        };
        let Ok(mut answer) = answer else { return false };
        // Read to its end, so that the connection can be used again.
        let read = answer.body_mut().read_to_string().is_ok();
        let expected = if self == Self::Missing { 404 } else { 200 };
        read && answer.status().as_u16() == expected
    }

    fn name(self) -> &'static str {
        match self {
            Self::Put => "puts",
            Self::Get => "gets",
            Self::Missing => "gets of missing keys",
        }
    }

    fn aim(self) -> Duration {
        if self == Self::Missing { MISSING_MAX } else { PUT_OR_GET_MAX }
    }
}

/// All three clients at once, for so long.
fn load(round: &str, nodes: &[String], length: Duration, first: usize) -> Vec<Samples> {
    thread::scope(|scope| {
        let clients = [Kind::Put, Kind::Get, Kind::Missing].map(|kind| {
            scope.spawn(move || {
                let (agent, began, mut seen) = (agent(), Instant::now(), Vec::new());
                for n in first.. {
                    let since = began.elapsed();
                    if since >= length {
                        break;
                    }
                    let key = match kind {
                        Kind::Put => format!("put-{round}-{n}"),
                        Kind::Get => format!("before-{}", n % OBJECTS),
                        Kind::Missing => format!("missing-{round}-{n}"),
                    };
                    let good = kind.ask(&agent, &nodes[n * 7 % nodes.len()], &key);
                    seen.push((since, began.elapsed() - since, good));
                }
                Samples { kind, seen }
            })
        });
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    })
}

impl Samples {
    /// Figures of the requests that began before `split` and of the others.
    fn figures(&self, when: &str, split: Option<Duration>) -> Vec<Figure> {
        let Some(split) = split else { return vec![self.figure(when, "", |_| true)] };
        vec![
            self.figure(when, ", first 5 s", |since| since < split),
            self.figure(when, ", later", |since| since >= split),
        ]
    }

    fn figure(&self, when: &str, part: &str, counts: impl Fn(Duration) -> bool) -> Figure {
        let seen: Vec<_> = self.seen.iter().filter(|(since, ..)| counts(*since)).collect();
        let taken: Vec<_> = seen.iter().map(|(_, taken, _)| *taken).collect();
        let failed = seen.iter().filter(|(.., good)| !good).count();
        let [p50, p99, max] = [50, 99, 100].map(|percent| percentile(taken.clone(), percent));
        Figure {
            what: format!("{}, {when}{part}", self.kind.name()),
            aim: format!("p99 at most {:?}", self.kind.aim()),
            measured: format!(
                "p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}, {failed} of {} failed",
                seen.len()
            ),
            reached: p99 <= self.kind.aim() && failed == 0,
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(NODES);
    config.timeout_global(Some(Duration::from_secs(70))).build().into()
}

fn swarm(program: &Path, top: &TempDir) -> Vec<NodeProcess> {
    let mut swarm = Vec::<NodeProcess>::new();
    for n in 0..NODES {
        let doors: Vec<_> = swarm.iter().take(3).map(NodeProcess::listen).collect();
        swarm.push(NodeProcess::start(program, &top.path().join(format!("node-{n}")), &doors));
    }
    swarm
}

/// The node program, which is built beside this one.
pub(super) fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let program = own.with_file_name("comet-node-under-test");
    assert!(program.exists(), "{} is there after `cargo build`", program.display());
    program
}
