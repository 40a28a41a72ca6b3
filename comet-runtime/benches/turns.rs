//! What a turn costs: alone, through its actor, and what it costs to bring an object to life.

use std::{
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::System;
use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::{Backstop, Blueprint, Event, Moment, Object, Reach, Trail, Value, VmPool, visit::Visit};
use comet_store::Code;
use criterion::{Criterion, criterion_group, criterion_main};

mod swarmless;

const MOMENT_MS: u64 = 1_767_225_600_000;

fn moment() -> Moment {
    Moment { now: MOMENT_MS, local: swarmless::node(9), seed: 7 }
}

fn blueprint() -> Blueprint {
    let (code, data) = (Code::new(swarmless::COUNTER), Value::from("hello").encode());
    Blueprint { key: Key::of("test"), code, data, state: Bytes::new(), reach: Reach::Strict }
}

fn get() -> Event {
    let Visit::Get { caller, payload, .. } = swarmless::get() else { unreachable!("it is a get") };
    Event::Get { caller, payload }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn turns(criterion: &mut Criterion) {
    let pool = VmPool::new(Rc::default(), Backstop::WallClock);
    let mut objects: Vec<Object> =
        (0..200).map(|_| pool.activate(&blueprint(), moment()).expect("it activates")).collect();
    let event = get();
    let mut n = 0;
    criterion.bench_function("a turn that changes the state", |bencher| {
        bencher.iter(|| {
            n = (n + 1) % objects.len();
            black_box(objects[n].begin(1, &event, Trail::FRESH, moment()))
        });
    });
    let mut plan = blueprint();
    plan.state = objects[0].state().clone();
    criterion.bench_function("activation from a record", |bencher| {
        bencher.iter(|| black_box(pool.activate(&plan, moment()).is_ok()));
    });
}

/// What it costs to keep the state of an object with five fields: the same handler where it leaves one of them as it was and
/// where it changes it, and where the object has no fields at all. The clock is read between instructions in all but the first.
fn commits(criterion: &mut Criterion) {
    let fields = "aso.a, aso.b, aso.c, aso.d, aso.n = 'one', 2, 'three', {4, 5}, 0";
    for (name, fields, step) in [
        ("no fields", "local n = 0", "n = n + 1"),
        ("no fields, clock read as with five", "-- ====================\nlocal n = 0", "n = n + 1"),
        ("five fields, none changed", fields, "self.n = self.n + 0"),
        ("five fields, one changed", fields, "self.n = self.n + 1"),
    ] {
        let code = format!("{fields}\nfunction aso:onGet() {step} end");
        turn_of(criterion, &format!("a turn, {name}"), code);
    }
}

/// What it costs that the clock is read between instructions, as it is in every script that is not tiny: the
/// same script with and without a comment of signs.
fn paces(criterion: &mut Criterion) {
    let scripts = [
        ("empty handler", "function aso:onGet() end"),
        ("loop of 1,000", "function aso:onGet() local x = 0 for i = 1, 1000 do x = x + i end return x end"),
        ("handler of 100 calls", "function aso:onGet() for i = 1, 100 do key(1) end end"),
    ];
    for (name, code) in scripts {
        for (pace, comment) in [("between calls", ""), ("between instructions", "-- ====================")] {
            turn_of(criterion, &format!("{name}, clock read {pace}"), format!("{comment}\n{code}"));
        }
    }
}

/// Gets of one object with this code, without an actor.
fn turn_of(criterion: &mut Criterion, name: &str, code: String) {
    let (event, pool) = (get(), VmPool::new(Rc::default(), Backstop::WallClock));
    let plan = Blueprint { code: Code::new(code), ..blueprint() };
    let mut object = pool.activate(&plan, moment()).expect("it activates");
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| black_box(object.begin(1, &event, Trail::FRESH, moment())));
    });
}

fn through_the_actor(criterion: &mut Criterion) {
    let system = System::new();
    let replica = system.block_on(async {
        let replica = swarmless::replica(200).await;
        // Actors that have not begun when the system goes would begin without it; a filter may leave out all that follows.
        served(replica.clone(), 0).await;
        replica
    });
    criterion.bench_function("a get served by its actor", |bencher| {
        bencher.iter_custom(|iterations| {
            system.block_on(async {
                let begun = now();
                for n in 0..iterations {
                    let served = replica.serve(swarmless::key(n as usize % 200), swarmless::get()).await;
                    black_box(served.expect("it answers"));
                }
                begun.elapsed()
            })
        });
    });
    criterion.bench_function("64 gets at a time served by their actors", |bencher| {
        bencher.iter_custom(|iterations| {
            system.block_on(async {
                let begun = now();
                let mut gets = Vec::with_capacity(64);
                for n in 0..iterations {
                    gets.push(actix::spawn(served(replica.clone(), n)));
                    if gets.len() == 64 {
                        for get in gets.drain(..) {
                            get.await.expect("it ends");
                        }
                    }
                }
                for get in gets {
                    get.await.expect("it ends");
                }
                begun.elapsed()
            })
        });
    });
}

async fn served(replica: comet_runtime::actors::Replica, n: u64) {
    let served = replica.serve(swarmless::key(n as usize % 200), swarmless::get()).await;
    black_box(served.expect("it answers"));
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = turns, commits, paces, through_the_actor
}
criterion_main!(benches);
