//! The paper's Fig. 3 as a model: how long nodes seem to live, seen by their neighbours inside the swarm and by a
//! prober outside, when half of them are behind an address translator.
//!
//! Neighbours exchange traffic with a node all the time and see it for as long as it runs. A translator lets
//! an outside prober in only while it remembers that the node spoke first, which it forgets after a while; to
//! the prober the node is dead then. Both look every ten minutes.
//! `cargo run --release -p comet-apps --example lifetimes_inside_and_outside`

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

const NODES: usize = 20_000;
const LOOK_EVERY_HOURS: f64 = 1.0 / 6.0;

/// The true median lifetime: what the paper measured from inside.
const LIFETIME_HOURS: f64 = 3.1;

/// How long translators remember, in the median. A guess.
const REMEMBERED_HOURS: f64 = 0.25;

/// The share of a prober's looks that are lost on the way. A guess.
const LOST: f64 = 0.02;

/// An exponential duration with this median.
fn duration_hours(median_hours: f64, rng: &mut impl Rng) -> f64 {
    -(1.0 - rng.random::<f64>()).log2() * median_hours
}

/// What somebody who looks at intervals notes of so long a presence.
fn looked_at_hours(present_hours: f64) -> f64 {
    (present_hours / LOOK_EVERY_HOURS).ceil() * LOOK_EVERY_HOURS
}

fn from_outside_hours(lifetime_hours: f64, translated: bool, rng: &mut impl Rng) -> f64 {
    let open_hours = if translated { duration_hours(REMEMBERED_HOURS, rng) } else { f64::INFINITY };
    let mut seen_hours = LOOK_EVERY_HOURS;
    while seen_hours < lifetime_hours.min(open_hours) && rng.random::<f64>() >= LOST {
        seen_hours += LOOK_EVERY_HOURS;
    }
    seen_hours
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn main() {
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for node in 0..NODES {
        let lifetime = duration_hours(LIFETIME_HOURS, &mut rng);
        inside.push(looked_at_hours(lifetime));
        outside.push(from_outside_hours(lifetime, node % 2 == 0, &mut rng));
    }
    inside.sort_by(f64::total_cmp);
    outside.sort_by(f64::total_cmp);
    println!("Hours that nodes seem to live ({NODES} nodes, half of them behind a translator):");
    println!("{:>9}  {:>7}  {:>7}", "quantile", "inside", "outside");
    for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
        println!(
            "{:>8.0}%  {:>7.1}  {:>7.1}",
            share * 100.0,
            quantile(&inside, share),
            quantile(&outside, share)
        );
    }
    println!("The paper measured medians of 3.1 and 0.5 hours.");
}
