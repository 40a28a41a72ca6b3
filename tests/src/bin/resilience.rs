//! Measures how well a swarm bears what can befall it, and prints the figures as they come in.
//!
//! `resilience [--seed N] [NAME...]`: without names, every subject. Exits with 1 if an aim was not reached.

use std::{env, process::ExitCode, time::Instant};

use comet_tests::resilience::{Figure, SUBJECTS, Subject};

/// The seed, unless another is asked for.
const SEED: u64 = 1;

fn main() -> ExitCode {
    let (seed, subjects) = match ask(env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            let names: Vec<_> = SUBJECTS.iter().map(|subject| subject.name).collect();
            eprintln!("{why}\nusage: resilience [--seed N] [NAME...]\nnames: {}", names.join(" "));
            return ExitCode::from(2);
        }
    };
    println!("seed {seed}\n");
    println!("| subject | what | aim | measured | reached |\n|---|---|---|---|---|");
    let mut missed = Vec::new();
    for Subject { name, measure } in subjects {
        let began = Instant::now();
        for Figure { what, aim, measured, reached } in measure(seed) {
            println!("| {name} | {what} | {aim} | {measured} | {} |", if reached { "yes" } else { "NO" });
            if !reached {
                missed.push(format!("{name}: {what}: {measured}, not {aim}"));
            }
        }
        eprintln!("{name} took {:.0?}", began.elapsed());
    }
    if missed.is_empty() {
        println!("\nEvery aim was reached.");
        return ExitCode::SUCCESS;
    }
    println!("\nNot reached:\n  {}", missed.join("\n  "));
    ExitCode::FAILURE
}

fn ask(mut words: impl Iterator<Item = String>) -> Result<(u64, Vec<Subject>), String> {
    let (mut seed, mut subjects) = (SEED, Vec::new());
    while let Some(word) = words.next() {
        if word == "--seed" {
            let number = words.next().and_then(|number| number.parse().ok());
            seed = number.ok_or("--seed needs a whole number")?;
            continue;
        }
        let subject = SUBJECTS.iter().find(|subject| subject.name == word);
        subjects.push(*subject.ok_or(format!("there is no subject {word:?}"))?);
    }
    Ok((seed, if subjects.is_empty() { SUBJECTS.to_vec() } else { subjects }))
}
