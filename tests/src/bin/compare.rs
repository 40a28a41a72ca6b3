//! Measures Comet beside Redis, beside other hash tables and by itself, and prints the tables of docs/performance.md:
//! `cargo run --release -p comet-tests --bin compare -- --svg docs/img`.
//!
//! Without names it measures every section. With `run` as its first word it is `comet-node` itself: the node that is measured is this
//! program again, so that one command builds all that is needed.

use std::{env, fs, process::ExitCode, time::Instant};

use anyhow::Context as _;
use comet_tests::compare::{Plan, Section, Wish};

/// That of `comet-node`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if env::args().nth(1).is_some_and(|word| word == "run") {
        return comet_node::cli::main();
    }
    let wish = match Wish::parse(env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\n{}", Wish::USAGE);
            return ExitCode::from(2);
        }
    };
    match measure(&wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(wish: &Wish) -> anyhow::Result<()> {
    let program = env::current_exe().context("this program does not know where it is")?;
    let top = program.parent().context("this program is in a folder")?.to_owned();
    let Wish { extent, pairs, active_max, .. } = *wish;
    let plan = Plan { extent, pairs, active_max, program, python: wish.python.clone(), top };
    if let Some(dir) = &wish.svg {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    for Section { name, measure } in &wish.sections {
        let began = Instant::now();
        let report = measure(&plan).with_context(|| format!("{name} could not be measured"))?;
        println!("### {name}\n\n{}", report.text);
        for (file, chart) in wish.svg.iter().flat_map(|_| &report.charts) {
            let path = wish.svg.clone().unwrap_or_default().join(format!("{file}.svg"));
            fs::write(&path, chart.to_svg()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        eprintln!("{name} took {:.0?}", began.elapsed());
    }
    Ok(())
}
