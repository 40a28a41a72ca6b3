//! Tells one [`Mixture`] after another, each from a seed that nobody chose, until one fails or time is up.
//!
//! `soak [--minutes N] [--keep-going]`, or `soak --seed N` to tell one again. Prints each seed that failed with
//! the command that tells it again, and exits with 1 if there was one.

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::{Duration, Instant},
};

use comet_tests::harness::{Mixture, Sim};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// What was asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    seed: Option<u64>,
    minutes: Option<u64>,
    when_one_fails: WhenOneFails,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum WhenOneFails {
    #[default]
    Stop,
    GoOn,
}

fn main() -> ExitCode {
    let asked = match ask(env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("{why}\nusage: soak [--seed N] [--minutes N] [--keep-going]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let time = asked.minutes.map_or(Duration::MAX, |minutes| Duration::from_secs(60 * minutes));
    let mut chance = ChaCha12Rng::try_from_rng(&mut rand::rngs::SysRng).expect("the system has chance");
    let (mut told, mut failed) = (0, Vec::new());
    while began.elapsed() < time && (failed.is_empty() || asked.when_one_fails == WhenOneFails::GoOn) {
        let seed = asked.seed.unwrap_or_else(|| chance.next_u64());
        if !tell(seed) {
            failed.push(seed);
        }
        told += 1;
        if asked.seed.is_some() {
            break;
        }
    }
    println!("{told} stories in {:.0?}, {} failed", began.elapsed(), failed.len());
    for seed in &failed {
        println!("    {}", command(*seed));
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True if the story went well.
fn tell(seed: u64) -> bool {
    let began = Instant::now();
    let story = Sim::exactly(seed).replayed_by(command(seed));
    let told = panic::catch_unwind(AssertUnwindSafe(|| {
        story.run(async |sim| {
            Mixture::long().tell(&sim).await?;
            Ok((sim.wire().trace().hash(), sim.elapsed()))
        })
    }));
    match &told {
        Ok((hash, simulated)) => {
            let minutes = simulated.as_secs() / 60;
            println!("seed {seed}: trace {hash:016x}, {minutes} min in {:.1?}", began.elapsed());
        }
        Err(_) => println!("seed {seed}: FAILED"),
    }
    told.is_ok()
}

fn command(seed: u64) -> String {
    format!("cargo soak --seed {seed}")
}

fn ask(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{word} needs a whole number"))
        };
        match word.as_str() {
            "--seed" => asked.seed = Some(number()?),
            "--minutes" => asked.minutes = Some(number()?),
            "--keep-going" => asked.when_one_fails = WhenOneFails::GoOn,
            _ => return Err(format!("there is no {word:?}")),
        }
    }
    Ok(asked)
}
