//! How well lookups do in a thousand-node swarm of pure tables, against sorting all nodes.
//!
//! Run with `--nocapture` to see the figures.

use std::{sync::LazyLock, time::Duration};

use comet_routing::{
    clock::Clock,
    sim::{Conduct, Report, Swarm, SwarmConfig},
};

const NODES: usize = 1_000;

/// What a run of lookups came to.
struct Figures {
    /// Share of the lookups that found exactly the 20 closest nodes, in order.
    exact: f64,
    /// Share of the lookups that found exactly the 8 closest, which hold the replicas of a key.
    replicas_exact: f64,
    /// Share of the lookups whose result has the closest honest node.
    honest_found: f64,
    hops_max: u32,
    queries_mean: f64,
    took_max: Duration,
}

/// Runs lookups and prints how they went.
fn measure(name: &str, swarm: &mut Swarm, lookups: usize) -> Figures {
    let reports = swarm.lookups(lookups, Duration::from_secs(10));
    assert_eq!(reports.len(), lookups, "each lookup ends");
    let share = |holds: &dyn Fn(&Report) -> bool| {
        reports.iter().filter(|report| holds(report)).count() as f64 / lookups as f64
    };
    let mean =
        |figure: fn(&Report) -> u32| reports.iter().map(figure).map(f64::from).sum::<f64>() / lookups as f64;
    let exact_to = |count: usize, report: &Report| {
        let found = report.outcome.closest.iter().copied().take(count);
        found.eq(swarm.closest(&report.target, count, &report.origin))
    };
    let honest_found = |report: &Report| {
        let nearest = swarm.closest_honest(&report.target, &report.origin);
        nearest.is_some_and(|nearest| report.outcome.closest.contains(&nearest))
    };
    let mut took: Vec<_> = reports.iter().map(|report| report.took).collect();
    took.sort_unstable();
    let figures = Figures {
        exact: share(&|report| exact_to(20, report)),
        replicas_exact: share(&|report| exact_to(8, report)),
        honest_found: share(&honest_found),
        hops_max: reports.iter().map(|report| report.outcome.hops).max().unwrap_or(0),
        queries_mean: mean(|report| report.outcome.queries),
        took_max: took[lookups - 1],
    };
    println!(
        "{name}: 20 closest exact {:.2} %, 8 closest exact {:.2} %, closest honest found {:.2} %; hops mean {:.2} \
         max {}; requests mean {:.1}; took median {} ms, p99 {} ms, max {} ms",
        100.0 * figures.exact,
        100.0 * figures.replicas_exact,
        100.0 * figures.honest_found,
        mean(|report| report.outcome.hops),
        figures.hops_max,
        figures.queries_mean,
        took[lookups / 2].as_millis(),
        took[lookups * 99 / 100].as_millis(),
        figures.took_max.as_millis(),
    );
    figures
}

/// The swarm that each test starts from.
static GROWN: LazyLock<Swarm> =
    LazyLock::new(|| Swarm::grow(SwarmConfig { nodes: NODES, seed: 7 }, Clock::System.now()));

#[test]
fn lookups_find_exactly_the_closest_nodes() {
    let figures = measure("all alive", &mut GROWN.clone(), 1_000);
    assert!(figures.exact >= 0.999);
    assert!(figures.hops_max <= 8, "log2 of 1,000 is 10, and tables know several bits a step");
    assert!(figures.queries_mean <= 40.0, "k answers and the way there");
}

#[test]
fn a_quarter_of_silent_nodes_costs_little() {
    let mut swarm = GROWN.clone();
    swarm.corrupt(NODES / 4, Conduct::Silent);
    let at_first = measure("a quarter just died", &mut swarm, 500);
    let later = measure("a quarter died 500 lookups ago", &mut swarm, 500);
    // A node answers with its 20 closest, a quarter of them dead until it has found out.
    assert!(at_first.replicas_exact >= 0.999 && later.replicas_exact >= 0.999);
    assert!(later.exact > at_first.exact && later.exact >= 0.96);
    assert!(at_first.took_max < Duration::from_secs(5), "no lookup needs its whole deadline");
}

#[test]
fn disjoint_paths_find_the_nearest_node_among_colluders() {
    let found = |paths: usize| {
        let mut swarm = GROWN.clone().with_paths(paths);
        swarm.corrupt(NODES * 3 / 10, Conduct::Colluding);
        measure(&format!("30 % collude, {paths} paths"), &mut swarm, 500).honest_found
    };
    let (one, four) = (found(1), found(4));
    assert!(four >= 0.998, "{four}");
    assert!(1.0 - one >= 4.0 * (1.0 - four), "the control: one path is misled more often ({one})");
}

#[test]
fn one_seed_gives_one_swarm() {
    let run = || {
        let mut swarm = Swarm::grow(SwarmConfig { nodes: 60, seed: 3 }, Clock::System.now());
        let reports = swarm.lookups(20, Duration::from_secs(1));
        reports.into_iter().map(|report| (report.outcome, report.took)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
