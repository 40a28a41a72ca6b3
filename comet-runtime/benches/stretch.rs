//! How long one call of a library function can take at its caps, with no interrupt inside to stop it: chosen
//! calls, and every function that a script can reach with several sets of arguments.
//!
//! `cargo bench -p comet-runtime --bench stretch` prints a table and fails if a call takes more than 5 ms.

use std::{
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Backstop, Blueprint, Caller, Event, Moment, Object, Origin, Reach, Trail, Value, VmPool,
};
use comet_store::Code;

#[path = "../tests/stretch/calls.rs"]
mod calls;

const CALL_MS_MAX: f64 = 5.0;
const RUNS: usize = 7;

fn main() -> ExitCode {
    println!("{:<28} {:>9}  aim 5 ms", "call at its caps", "ms");
    let mut over = 0;
    for (name, prepare, call) in calls::CALLS {
        over += usize::from(show(name, call_ms(prepare, call)));
    }
    println!("\n{:<28} {:>9}  aim 5 ms", "function, worst arguments", "ms");
    for name in comet_runtime::sandbox_globals() {
        let worst = calls::ARGUMENTS
            .iter()
            .filter_map(|(prepare, args)| call_ms(prepare, &format!("pcall({name}, {args})")).ok())
            .fold(0.0, f64::max);
        over += usize::from(show(&name, Ok(worst)));
    }
    println!("\n{over} over their aim");
    if over == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints one line; true if it is over the aim.
fn show(name: &str, ms: Result<f64, String>) -> bool {
    let over = ms.as_ref().is_ok_and(|ms| *ms > CALL_MS_MAX);
    match ms {
        Ok(ms) => println!("{name:<28} {ms:>9.3}  {}", if over { "OVER" } else { "" }),
        Err(problem) => println!("{name:<28} {:>9}  {problem}", "-"),
    }
    over
}

/// The fastest of some runs: what the call itself takes, whatever else the machine does.
fn call_ms(prepare: &str, call: &str) -> Result<f64, String> {
    let code = format!(
        "function aso:onTimer() {prepare} end
        function aso:onGet() {call} end"
    );
    let mut fastest = f64::MAX;
    for _ in 0..RUNS {
        let mut object = activate(&pool(), &code).ok_or("it does not activate")?;
        let prepared = object.begin(1, &Event::Timer, Trail::FRESH, moment());
        prepared.end.map_err(|failure| format!("preparing: {failure}"))?;
        let (report, time) = timed(|| object.begin(2, &get(), Trail::FRESH, moment()));
        if let Err(failure) = report.end {
            return Err(failure.to_string());
        }
        fastest = fastest.min(time.as_secs_f64() * 1e3);
    }
    Ok(fastest)
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let out = run();
    (out, begun.elapsed())
}

fn pool() -> VmPool {
    VmPool::new(Rc::default(), Backstop::WallClock)
}

fn activate(pool: &VmPool, code: &str) -> Option<Object> {
    let (code, data) = (Code::new(code), Value::from("value").encode());
    let blueprint = Blueprint { key: Key::of("test"), code, data, state: Bytes::new(), reach: Reach::Strict };
    pool.activate(&blueprint, moment()).ok()
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller() -> Caller {
    Caller { node: node(1), callback: None, owner: None, origin: Origin::Client }
}

fn get() -> Event {
    Event::Get { caller: caller(), payload: None }
}

fn moment() -> Moment {
    Moment { now: 1_767_225_600_000, local: node(9), seed: 7 }
}
