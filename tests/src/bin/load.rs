//! Loads and attacks a real node, and prints what it bears: `cargo run --release -p comet-tests --bin load`.
//!
//! The node is the program beside this one that is called `comet-node`, or `comet-node-under-test`, or the one that is named as the
//! only argument. Exits with 1 if an aim was not reached.

use std::{env, path::PathBuf, process::ExitCode};

use comet_tests::{load::measure, resilience::Figure};

fn main() -> ExitCode {
    let Some(program) = env::args().nth(1).map(PathBuf::from).or_else(beside) else {
        eprintln!("there is no node to load; run: cargo build --release -p comet-tests --bins");
        return ExitCode::from(2);
    };
    let figures = actix_rt::System::new().block_on(measure(&program));
    println!("| what | aim | measured | reached |\n|---|---|---|---|");
    for Figure { what, aim, measured, reached } in &figures {
        println!("| {what} | {aim} | {measured} | {} |", if *reached { "yes" } else { "NO" });
    }
    if figures.iter().all(|figure| figure.reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The node's program in the folder of this one.
fn beside() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let named = ["comet-node-under-test", "comet-node"].map(|name| own.with_file_name(name));
    named.into_iter().find(|path| path.exists())
}
