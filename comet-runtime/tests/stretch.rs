//! Every function that a script can reach, called at its size caps: none comes back with more than an answer or
//! a limit. How long each takes is measured by `benches/stretch.rs`, with the same calls.

use std::rc::Rc;

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    Backstop, Blueprint, Caller, Event, Failure, Moment, Object, Origin, Reach, Trail, Value, VmPool,
};
use comet_store::Code;

#[path = "stretch/calls.rs"]
mod calls;

#[test]
fn every_function_that_a_script_can_reach_ends_at_its_caps() {
    for name in comet_runtime::sandbox_globals() {
        for (prepare, args) in calls::ARGUMENTS {
            let end = call(prepare, &format!("pcall({name}, {args})"));
            let ends = matches!(end, Ok(()) | Err(Failure::Memory { .. } | Failure::Steps { .. }));
            assert!(ends, "{name}({args}) where {prepare}: {end:?}");
        }
    }
}

#[test]
fn every_call_that_is_measured_is_one_that_scripts_can_make() {
    for (name, prepare, code) in calls::CALLS {
        let end = call(prepare, code);
        let ends = matches!(end, Ok(()) | Err(Failure::Memory { .. } | Failure::Steps { .. }));
        assert!(ends, "{name}: {end:?}");
    }
}

/// What the call came to.
fn call(prepare: &str, call: &str) -> Result<(), Failure> {
    let code = format!("function aso:onTimer() {prepare} end function aso:onGet() {call} end");
    let pool = VmPool::new(Rc::default(), Backstop::StepsOnly);
    let mut object = activate(&pool, &code);
    object.begin(1, &Event::Timer, Trail::FRESH, moment()).end.expect("the arguments can be made");
    object.begin(2, &get(), Trail::FRESH, moment()).end.map(drop)
}

fn activate(pool: &VmPool, code: &str) -> Object {
    let (code, data) = (Code::new(code), Value::from("value").encode());
    let blueprint = Blueprint { key: Key::of("test"), code, data, state: Bytes::new(), reach: Reach::Strict };
    pool.activate(&blueprint, moment()).expect("it activates")
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn get() -> Event {
    let caller = Caller { node: node(1), callback: None, owner: None, origin: Origin::Client };
    Event::Get { caller, payload: None }
}

fn moment() -> Moment {
    Moment { now: 1_767_225_600_000, local: node(9), seed: 7 }
}
