//! What a get costs as the swarm grows, in a model of routing tables and lookups without sockets and without a clock.
//!
//! Nodes join one after the other, as they would; then random nodes look for the eight nodes that hold a random key, as a get does that
//! does not know them. A lookup's requests and the one for the object are the messages of a get. One seed gives the same table
//! everywhere, on a slow machine later.

use std::{fmt::Write as _, time::Duration};

use comet_routing::{
    clock::Clock,
    sim::{Conduct, Swarm, SwarmConfig},
};

use super::{
    Plan, Report,
    chart::{Axis, Chart, Line, Scale},
};
use crate::resilience::percentile;

/// Nodes of the swarms that are compared.
const SIZES: [usize; 5] = [100, 300, 1_000, 3_000, 10_000];
const SMOKE_SIZES: [usize; 3] = [50, 100, 200];

/// Nodes that hold a key.
const REPLICAS: usize = 8;

/// Lookups that are counted together, and the time over which they begin.
const LOOKUPS: usize = 1_000;
const SPREAD: Duration = Duration::from_secs(60);

/// Decides everything, unless it is the seed that is varied.
const SEED: u64 = 1;

/// What lookups took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Hops, on average and at the 99th percentile.
    pub hops: (f64, u32),
    /// Messages of a get, on average: the requests of its lookup, and the one for the object.
    pub messages: f64,
    /// Until the lookup was over in simulated time, at the median.
    pub took: Duration,
    /// Lookups that found exactly the nodes that sorting all finds, as a share.
    pub exact: f64,
}

/// A straight line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// How much it rises for each step to the right.
    pub slope: f64,
    /// Its height at nought.
    pub offset: f64,
    /// The share of the points' variance that it accounts for.
    pub r_squared: f64,
}

impl Fit {
    /// The line with the least squared distances, upwards, from points that do not all lie above each other.
    pub fn of(points: &[(f64, f64)]) -> Self {
        let mean =
            |figure: fn(&(f64, f64)) -> f64| points.iter().map(figure).sum::<f64>() / points.len() as f64;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let sum = |product: &dyn Fn(f64, f64) -> f64| {
            points.iter().map(|point| product(point.0 - x, point.1 - y)).sum::<f64>()
        };
        let (xx, xy, yy) = (sum(&|dx, _| dx * dx), sum(&|dx, dy| dx * dy), sum(&|_, dy| dy * dy));
        let slope = xy / xx;
        let r_squared = if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) };
        Self { slope, offset: y - slope * x, r_squared }
    }
}

/// Measures it.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let sizes = plan.extent.of(&SIZES[..], &SMOKE_SIZES[..]);
    let lookups = plan.extent.of(LOOKUPS, 100);
    let mut text = String::from(
        "| nodes | hops: mean | p99 | messages of a get | lookup: p50, simulated | exactly the nearest 8 |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut costs = Vec::new();
    for &nodes in sizes {
        let cost = cost(&mut grown(nodes, SEED), lookups, SPREAD);
        let Cost { hops: (mean, most), messages, took, exact } = cost;
        let (took, exact) = (took.as_millis(), exact * 100.0);
        writeln!(text, "| {nodes} | {mean:.2} | {most} | {messages:.1} | {took} ms | {exact:.1} % |")?;
        costs.push((nodes, cost));
    }
    let against_log = |figure: fn(&Cost) -> f64| -> Vec<(f64, f64)> {
        costs.iter().map(|(nodes, cost)| ((*nodes as f64).log2(), figure(cost))).collect()
    };
    for (what, fit) in [
        ("hops", Fit::of(&against_log(|cost| cost.hops.0))),
        ("messages", Fit::of(&against_log(|cost| cost.messages))),
    ] {
        let Fit { slope, offset, r_squared } = fit;
        writeln!(text, "\n{what} = {slope:.2} log2(nodes) {offset:+.2} (R² = {r_squared:.3})")?;
    }
    text += &flat(plan.extent.of(1_000, 100), lookups)?;
    let line = |name: &str, figure: fn(&Cost) -> f64| Line {
        name: name.into(),
        points: costs.iter().map(|(nodes, cost)| (*nodes as f64, figure(cost))).collect(),
    };
    let axis = |label: &str, scale| Axis { label: label.into(), scale };
    let chart = Chart {
        title: "A get in a growing swarm".into(),
        x: axis("nodes", Scale::Log),
        y: axis("hops", Scale::Linear),
        lines: vec![line("mean", |cost| cost.hops.0), line("p99", |cost| f64::from(cost.hops.1))],
    };
    Ok(Report { text, charts: vec![("growth", chart)] })
}

/// The messages of a get in a swarm of so many nodes, where something else than its size changes.
fn flat(nodes: usize, lookups: usize) -> anyhow::Result<String> {
    let swarm = grown(nodes, SEED);
    let mut text =
        format!("\n| what changes, {nodes} nodes | hops: mean | messages of a get |\n|---|---|---|\n");
    let mut row = |what: &str, Cost { hops, messages, .. }| {
        writeln!(text, "| {what} | {:.2} | {messages:.1} |", hops.0)
    };
    row("nothing", cost(&mut swarm.clone(), lookups, SPREAD))?;
    for seed in [SEED + 1, SEED + 2] {
        row(&format!("another swarm, seed {seed}"), cost(&mut grown(nodes, seed), lookups, SPREAD))?;
    }
    for gets in [lookups, lookups * 10] {
        let mut busy = swarm.clone();
        busy.finds(gets, SPREAD, REPLICAS);
        row(&format!("{gets} gets of other keys came before"), cost(&mut busy, lookups, SPREAD))?;
    }
    row("all gets at the same moment", cost(&mut swarm.clone(), lookups, Duration::ZERO))?;
    for percent in [5, 10] {
        let mut shrunk = swarm.clone();
        shrunk.corrupt(nodes * percent / 100, Conduct::Silent);
        row(&format!("{percent} % of the nodes just died"), cost(&mut shrunk, lookups, SPREAD))?;
    }
    Ok(text)
}

fn grown(nodes: usize, seed: u64) -> Swarm {
    Swarm::grow(SwarmConfig { nodes, seed }, Clock::System.now())
}

/// What so many lookups cost that begin within `spread`.
pub fn cost(swarm: &mut Swarm, lookups: usize, spread: Duration) -> Cost {
    let reports = swarm.finds(lookups, spread, REPLICAS);
    let mean =
        |figure: &dyn Fn(usize) -> f64| (0..reports.len()).map(figure).sum::<f64>() / reports.len() as f64;
    let mut hops: Vec<u32> = reports.iter().map(|report| report.outcome.hops).collect();
    hops.sort_unstable();
    let exact = |n: usize| {
        let report = &reports[n];
        let found = report.outcome.closest.iter().copied().take(REPLICAS);
        f64::from(found.eq(swarm.closest(&report.target, REPLICAS, &report.origin)))
    };
    Cost {
        hops: (mean(&|n| f64::from(reports[n].outcome.hops)), hops[hops.len() * 99 / 100]),
        messages: mean(&|n| f64::from(reports[n].outcome.queries)) + 1.0,
        took: percentile(reports.iter().map(|report| report.took).collect(), 50),
        exact: mean(&exact),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_through_its_points() {
        let fit = Fit::of(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]);
        assert!((fit.slope - 2.0).abs() < 1e-9 && (fit.offset - 1.0).abs() < 1e-9, "{fit:?}");
        assert!((fit.r_squared - 1.0).abs() < 1e-9);
        let fit = Fit::of(&[(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)]);
        assert!(fit.slope.abs() < 1e-9 && fit.r_squared < 1e-9, "the control: no line fits these: {fit:?}");
    }

    #[test]
    fn hops_grow_with_the_logarithm_of_the_swarm_and_messages_hardly() {
        let costs: Vec<(f64, Cost)> = [50, 150, 450]
            .map(|nodes| ((nodes as f64).log2(), cost(&mut grown(nodes, 1), 300, SPREAD)))
            .into();
        let points: Vec<(f64, f64)> = costs.iter().map(|(log, cost)| (*log, cost.hops.0)).collect();
        let fit = Fit::of(&points);
        assert!(
            (0.05..0.5).contains(&fit.slope),
            "a bucket of 20 knows some four bits of each step: {fit:?}"
        );
        let messages = |n: usize| costs[n].1.messages;
        assert!(messages(2) <= messages(0) * 1.5, "{costs:?}");
        assert!(costs.iter().all(|(_, cost)| cost.exact >= 0.99), "{costs:?}");
    }

    #[test]
    fn earlier_gets_and_others_at_the_same_time_do_not_make_a_get_dearer() {
        let swarm = grown(200, 2);
        let messages = |swarm: &mut Swarm, spread| cost(swarm, 200, spread).messages;
        let alone = messages(&mut swarm.clone(), SPREAD);
        let mut busy = swarm.clone();
        busy.finds(2_000, SPREAD, REPLICAS);
        assert!(messages(&mut busy, SPREAD) <= alone * 1.1);
        assert!(messages(&mut swarm.clone(), Duration::ZERO) <= alone * 1.1);
    }
}
