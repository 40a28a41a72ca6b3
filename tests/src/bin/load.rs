//! Loads and attacks a real node, and prints what it bears: `cargo run --release -p comet-tests --bin load`.
//!
//! Arguments that are the name of a section (`overload`, `hostile`) choose what is measured; without one it is everything. Any other
//! argument is the node's program; without it, it is the one beside this program that is called `comet-node`, or else
//! `comet-node-under-test`. Exits with 1 if an aim was not reached.

use std::{env, path::PathBuf, process::ExitCode};

use comet_tests::{
    load::{Section, measure},
    resilience::Figure,
};

fn main() -> ExitCode {
    let (mut sections, mut program) = (Vec::new(), beside());
    for argument in env::args().skip(1) {
        match Section::ALL.into_iter().find(|section| section.name() == argument) {
            Some(section) => sections.push(section),
            None => program = Some(PathBuf::from(argument)),
        }
    }
    let Some(program) = program.filter(|program| program.exists()) else {
        eprintln!("there is no node to load; run: cargo build --release -p comet-node");
        return ExitCode::from(2);
    };
    let sections = if sections.is_empty() { Section::ALL.to_vec() } else { sections };
    let figures = actix_rt::System::new().block_on(measure(&program, &sections));
    println!("| what | aim | measured | reached |\n|---|---|---|---|");
    for Figure { what, aim, measured, reached } in &figures {
        println!("| {what} | {aim} | {measured} | {} |", if *reached { "yes" } else { "NO" });
    }
    if figures.iter().all(|figure| figure.reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The node's program in the folder of this one.
fn beside() -> Option<PathBuf> {
    let own = env::current_exe().ok()?;
    let named = ["comet-node", "comet-node-under-test"].map(|name| own.with_file_name(name));
    named.into_iter().find(|path| path.exists())
}
