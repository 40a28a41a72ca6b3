//! Handlers' sources, run as objects are.

use std::time::Duration;

use comet_runtime::{
    Limits, Refusal, Value,
    testing::{TestConfig, TestSwarm},
};

/// Puts the text as an object's source, lives with it for a while, and asks a neighbour that shares its VM.
pub(super) fn handlers(source: &[u8]) {
    let Ok(source) = std::str::from_utf8(source) else { return };
    // Few steps, so that many sources are tried.
    let limits = Limits { steps: 1_000, ..Limits::default() };
    let swarm = TestSwarm::new(1, TestConfig { nodes: 1, replicas: 1, limits, ..TestConfig::default() });
    swarm
        .put("neighbour", "here", "function aso:onGet() return { self.value, math.pi } end")
        .expect("stored");
    // Whatever the outcome, it is an outcome.
    drop(swarm.put("object", Value::Int(1), source));
    drop(swarm.get_with("object", "payload"));
    drop(swarm.update("object", Value::Int(2)));
    swarm.advance(Duration::from_secs(1_200));
    drop(swarm.get("object"));
    drop(swarm.delete("object"));
    let answer: Result<Value, Refusal> = swarm.get("neighbour");
    assert_eq!(answer, Ok(vec!["here".into(), Value::Float(std::f64::consts::PI)].into()));
}
