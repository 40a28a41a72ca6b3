//! What an active object takes: its actor, its place in the directory and its part of a Luau VM.
//!
//! `cargo bench -p comet-runtime --bench memory` stores 100,000 counters, activates them and prints how much
//! the process has grown by the second step, and how much of that is in Luau. Aim: at most 3 KB each. Reads `/proc`, so it wants Linux.

use std::{fs, rc::Rc};

use actix::System;
use bytes::Bytes;
use comet_runtime::{Backstop, Blueprint, Moment, Reach, Value, VmPool};
use comet_store::Code;

mod swarmless;

const OBJECTS: usize = 100_000;
const PAGE_BYTES: usize = 4_096;

fn main() {
    System::new().block_on(async {
        let replica = swarmless::replica(OBJECTS).await;
        let before = resident_bytes();
        for n in 0..OBJECTS {
            replica.serve(swarmless::key(n), swarmless::get()).await.expect("it answers");
        }
        assert_eq!(replica.directory().len(), OBJECTS);
        let bytes = resident_bytes().saturating_sub(before) / OBJECTS;
        println!("{bytes} bytes for each of {OBJECTS} active objects, aim 3072");
    });
    println!("{} bytes of them in Luau", luau_bytes());
}

/// What the VMs hold per object, their own libraries included.
fn luau_bytes() -> usize {
    let pool = VmPool::new(Rc::default(), Backstop::WallClock);
    let blueprint = Blueprint {
        key: swarmless::key(0),
        code: Code::new(swarmless::COUNTER),
        data: Value::from("hello").encode(),
        state: Bytes::new(),
        reach: Reach::Strict,
    };
    let moment = Moment { now: 0, local: swarmless::node(9), seed: 0 };
    let objects: Vec<_> = (0..10_000).map(|_| pool.activate(&blueprint, moment)).collect();
    assert!(objects.iter().all(Result::is_ok));
    pool.bytes() / objects.len()
}

fn resident_bytes() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * PAGE_BYTES
}
