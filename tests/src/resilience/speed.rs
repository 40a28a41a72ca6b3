//! How fast the simulation is: simulated time for each second that passes.
//!
//! 1,000 nodes, started and joined; then ten minutes in which clients make one put and one get each second while
//! the nodes look after their tables and their objects. One thread does everything.

use std::time::{Duration, Instant};

use comet_runtime::Value;

use super::{Clients, Figure, Gets, simulate};
use crate::harness::Cluster;

const NODES: usize = 1_000;
const SIMULATED: Duration = Duration::from_secs(600);
const TIMES_REAL_TIME_MIN: f64 = 5.0;

/// Measures it.
pub fn measure(seed: u64) -> Vec<Figure> {
    let (starting, telling) = simulate(seed, "speed", async |sim| {
        let began = Instant::now();
        let cluster = Cluster::start(&sim, NODES).await;
        let mut clients = Clients::new(&sim);
        let (starting, started) = (began.elapsed(), sim.elapsed());
        let (began, mut gets) = (Instant::now(), Gets::default());
        let mut second = started;
        while second < started + SIMULATED {
            clients.put(&cluster, Value::Int(0)).await?;
            clients.get(&cluster, &mut gets).await;
            second += Duration::from_secs(1);
            sim.run_for(second.saturating_sub(sim.elapsed())).await;
        }
        let simulated = sim.elapsed() - started;
        Ok((starting, simulated.as_secs_f64() / began.elapsed().as_secs_f64()))
    });
    vec![Figure {
        what: format!("speed of {NODES} nodes, which took {starting:.0?} to start"),
        aim: format!("at least {TIMES_REAL_TIME_MIN} times real time"),
        measured: format!("{telling:.1} times"),
        reached: telling >= TIMES_REAL_TIME_MIN,
    }]
}
