//! How long the pure part of a lookup takes: one lookup in a swarm of a thousand nodes, all of them simulated.

use comet_routing::{
    clock::Clock,
    sim::{Swarm, SwarmConfig},
};
use criterion::{Criterion, criterion_group, criterion_main};

fn lookup(criterion: &mut Criterion) {
    let mut swarm = Swarm::grow(SwarmConfig { nodes: 1_000, seed: 7 }, Clock::System.now());
    criterion.bench_function("lookup in a 1,000-node pure swarm", |bencher| {
        bencher.iter(|| swarm.lookup().map(|report| report.outcome));
    });
}

criterion_group!(benches, lookup);
criterion_main!(benches);
