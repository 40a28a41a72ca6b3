//! The same seed tells the same story.
//!
//! 100 seeds, each told twice: 16 nodes in a [`Mixture`] of faults, about a quarter of an hour long. What is
//! compared is a hash over every packet, with its time, its ends and its bytes.

use super::{Figure, Share, simulate};
use crate::harness::Mixture;

/// Seeds that are told twice.
const SEEDS: u64 = 100;

/// Measures it for 100 seeds from this one on.
pub fn measure(seed: u64) -> Vec<Figure> {
    let mut equal = Share::default();
    for seed in seed..seed + SEEDS {
        equal.add(trace_of(seed) == trace_of(seed));
    }
    vec![Figure::share("seeds that give one trace when told twice", equal, 100.0)]
}

fn trace_of(seed: u64) -> (u64, u64) {
    simulate(seed, "determinism", async |sim| {
        Mixture::short().tell(&sim).await?;
        let trace = sim.wire().trace();
        Ok((trace.hash(), trace.events()))
    })
}
