//! Measures how many gets succeed while a part of a swarm of 2,000 nodes colludes, and prints the figures.
//!
//! `colluders [SEED]`. Exits with 1 if an aim was not reached.

use std::{env, process::ExitCode};

use comet_tests::colluders::Colluders;

const NODES: usize = 2_000;
const GETS: usize = 2_000;
const GETS_WITH_FREE_IDS: usize = 200;

/// Percent of all nodes that collude, and of the gets that must be good even so with the paths that nodes use.
const SHARES: [(usize, f64); 3] = [(20, 99.5), (30, 99.0), (50, 95.0)];
const PATHS: [usize; 3] = [1, 4, 8];
const PATHS_IN_USE: usize = 8;

fn main() -> ExitCode {
    let seed = env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("{NODES} nodes, {GETS} gets in each row, seed {seed}\n");
    println!(
        "| colluders | paths | good gets | aim | lookup requests per colluder, for one per honest node | the same when they answer lookups truthfully |"
    );
    println!("|---|---|---|---|---|---|");
    let swarm = Colluders::grow(NODES, seed);
    let mut reached = true;
    for (percent, aim) in SHARES {
        for paths in PATHS {
            let gets = swarm.gets(percent, paths, GETS);
            let in_use = paths == PATHS_IN_USE;
            reached &= !in_use || gets.good_percent >= aim;
            let aim = if in_use { format!("{aim} %") } else { "-".into() };
            println!(
                "| {percent} % | {paths} | {:.2} % | {aim} | {:.2} | {:.2} |",
                gets.good_percent, gets.attraction, gets.attraction_unclaimed
            );
        }
    }
    let free = swarm.gets_with_free_ids(GETS_WITH_FREE_IDS);
    println!(
        "\nIds chosen freely, twenty of them next to each key: {free:.1} % of {GETS_WITH_FREE_IDS} gets are good."
    );
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
