//! One [`Aso`] between probes that stand for the store, the network and the shard.

mod deleting;
mod keeping;
mod replacing;
mod series;
mod waiting;
mod world;

use std::{cell::Cell, cell::RefCell, rc::Rc, sync::Arc};

use bytes::Bytes;
use comet_routing::{Contact, NodeId, Prefix, clock::Clock};
use comet_store::{
    Code, DeleteRecord, Deleted, Deletion, Flush, Ownership, PutAndTell, PutOutcome, PutRecord,
    ReleaseRecord, Rule, SaveLog, SaveState, StoreConfig, StoreError, Version, content_hash,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::oneshot::Receiver;

use world::{Heard, World};

use super::*;
use crate::{
    Backstop, Failure, Limits, OpOutcome, OpResult, Origin, Reach, Value, VmPool,
    actors::{Links, Perform, Surroundings, shard::places::Places},
    blame::Blame,
    cpu::{CpuAccounts, CpuRate},
    patience::PatienceLimits,
    shares::{ShareLimits, Shares},
    state,
    timers::{TimerQueue, first_due, next_due},
};

const NOW: WallMs = 1_767_225_600_000;

const COUNTER: &str = "aso.n = 0
    function aso:onGet(caller, callback, payload)
      self.n = self.n + 1
      if payload == 'fail' then log('about to fail') error('told to') end
      if payload == 'wait' then lookup(getASOKey()) end
      return self.n
    end";

fn activate(shared: &Shared, record: &Record) -> Object {
    let blueprint = errand::blueprint(record, shared.reach_of(record)).expect("it has code");
    shared.pool.activate(&blueprint, shared.moment()).expect("it activates")
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller() -> Caller {
    Caller { node: node(1), callback: None, owner: None, origin: Origin::Client }
}

fn record(sequence: u64, code: Option<&str>) -> Record {
    let (code, data) = (code.map(Code::new), Value::from("value").encode());
    let version = Version { sequence, hash: content_hash(code.as_ref().map(|code| &code.hash), &data) };
    Record {
        key: Key::of("test"),
        ownership: None,
        version,
        created_ms: NOW,
        expires_ms: NOW + 3_600_000,
        ttl_seconds: 3_600,
        replicas: 8,
        code,
        publication: None,
        data,
        state: Bytes::new(),
    }
}

fn visit(object: &Addr<Aso>, visit: Visit) -> Receiver<Result<Served, Refusal>> {
    sent_at(object, visit, Clock::System.now())
}

/// A visit that was sent at this instant and has its turn now.
fn sent_at(object: &Addr<Aso>, visit: Visit, sent: Instant) -> Receiver<Result<Served, Refusal>> {
    let (reply, outcome) = oneshot::channel();
    object.do_send(Deliver { key: Key::of("test"), visit, sent, reply });
    outcome
}

fn get(object: &Addr<Aso>, payload: &str) -> Receiver<Result<Served, Refusal>> {
    visit(object, Visit::Get { caller: caller(), payload: Some(payload.into()), trail: Trail::FRESH })
}

fn put(object: &Addr<Aso>, record: Record) -> Receiver<Result<Served, Refusal>> {
    visit(
        object,
        Visit::Put { caller: caller(), record: Arc::new(record), condition: None, trail: Trail::FRESH },
    )
}

async fn value(outcome: Receiver<Result<Served, Refusal>>) -> Result<Value, Refusal> {
    match outcome.await.expect("it is answered")? {
        Served::Got { value, .. } => {
            Ok(Value::decode(&value, Limits::default().reply_bounds()).expect("a value"))
        }
        other => panic!("not a reply: {other:?}"),
    }
}

fn failed(handler: &str, failure: Failure) -> Refusal {
    Refusal::HandlerFailed { handler: handler.into(), failure }
}

/// The field `n` of a state.
fn n(state: &[u8]) -> i64 {
    let state = state::decode(state, &Limits::default()).expect("a state").unwrap_or_default();
    let n = state.fields.iter().find(|(name, _)| name.as_text() == Some("n")).and_then(|(_, n)| n.as_int());
    n.unwrap_or(-1)
}

fn deleted(version: Version) -> Heard {
    Heard::Deleted(Some(Deletion::unsigned(version)))
}

fn lookup() -> Heard {
    Heard::Performed(crate::Op::Lookup { key: Key::of("test") })
}

#[actix::test]
async fn a_failed_turn_ends_the_actor_and_leaves_a_line_and_the_state_of_before() {
    let world = World::new();
    let object = world.resting(COUNTER);
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
    let told = Failure::Error("script:4: told to".into());
    assert_eq!(value(get(&object, "fail")).await, Err(failed("onGet", told)));
    world.pass(1).await;
    let lines = vec!["about to fail".into(), "onGet failed: script:4: told to".into()];
    let version = record(1, Some(COUNTER)).version;
    let heard: Vec<_> = world.heard().into_iter().map(|(_, heard)| heard).collect();
    assert_eq!(heard, [Heard::Saved(version, 1), Heard::Logged(lines), Heard::Stopped]);
    assert!(!object.connected());
}

#[actix::test]
async fn turns_share_one_save_within_the_flush_interval() {
    let world = World::new();
    let object = world.resting(COUNTER);
    for _ in 0..100 {
        value(get(&object, "")).await.expect("it answers");
    }
    world.pass(1_000).await;
    let version = record(1, Some(COUNTER)).version;
    assert_eq!(world.heard(), [(200, Heard::Saved(version, 100))]);
}

#[actix::test]
async fn a_put_is_answered_once_the_store_has_it() {
    let world = World { store_ms: 50, ..World::new() };
    let (_object, outcome) = world.arriving(COUNTER);
    let version = record(1, Some(COUNTER)).version;
    assert!(matches!(outcome.await, Ok(Ok(Served::Stored { version: stored, .. })) if stored == version));
    assert_eq!(world.ms(), 50);
    assert_eq!(world.heard(), [(0, Heard::Put(Value::from("value").encode(), Rule::IfNewer))]);
}

#[actix::test]
async fn a_put_that_the_store_refuses_is_refused_and_nothing_stays() {
    let world = World { store_refuses: Rc::new(true.into()), ..World::new() };
    let (object, outcome) = world.arriving(COUNTER);
    assert_eq!(
        outcome.await,
        Ok(Err(Refusal::Unwritable("the store cannot write at the moment: full".into())))
    );
    world.pass(1).await;
    assert!(!object.connected());
}

#[actix::test]
async fn only_a_durable_objects_replies_wait_for_the_store() {
    let world = World { store_ms: 50, ..World::new() };
    for (durable, ms) in [("false", 0), ("true", 50)] {
        let object = world.resting(&format!("aso.durable = {durable}\n{COUNTER}"));
        assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
        assert_eq!(world.ms(), ms, "durable = {durable}");
    }
}

#[actix::test]
async fn requests_leave_only_after_a_turn_that_ended_well() {
    let world = World::new();
    let code = "function aso:onGet(caller, callback, payload)
          lookup(getASOKey(), function() end)
          if payload == 'fail' then error('x') end
        end";
    let object = world.resting(code);
    value(get(&object, "")).await.expect("it answers");
    world.pass(1).await;
    assert_eq!(world.heard(), [(0, lookup())]);
    value(get(&object, "fail")).await.expect_err("it fails");
    world.pass(1).await;
    assert!(!world.heard().iter().any(|(_, heard)| *heard == lookup()));
}

#[actix::test]
async fn a_handler_waits_or_is_called_back_and_others_run_meanwhile() {
    let world = World { network_ms: Some(30), ..World::new() };
    let code = "aso.order = {}
        function aso:onGet(caller, callback, payload)
          local order = self.order
          order[#order + 1] = payload
          if payload == 'wait' then
            local nodes = lookup(getASOKey())
            order[#order + 1] = #nodes
          end
          if payload == 'call' then
            lookup(getASOKey(), function(self, nodes) self.order[#self.order + 1] = nodes[1].getIP() end)
          end
          return order
        end";
    let object = world.resting(code);
    let list = |items: &[Value]| Ok(Value::List(items.to_vec()));
    let (waits, calls, runs) = (get(&object, "wait"), get(&object, "call"), get(&object, "now"));
    assert_eq!(value(calls).await, list(&["wait".into(), "call".into()]));
    assert_eq!(value(runs).await, list(&["wait".into(), "call".into(), "now".into()]));
    assert_eq!(world.ms(), 0);
    assert_eq!(value(waits).await, list(&["wait".into(), "call".into(), "now".into(), Value::Int(1)]));
    assert_eq!(world.ms(), 30);
    let called: Value = "192.0.2.3".into();
    assert_eq!(
        value(get(&object, "x")).await,
        list(&["wait".into(), "call".into(), "now".into(), Value::Int(1), called, "x".into()])
    );
}

#[actix::test]
async fn what_an_event_used_includes_what_its_callbacks_did() {
    let world = World { network_ms: Some(30), ..World::new() };
    let code = "function aso:onGet()
          lookup(getASOKey(), function(self)
            for i = 1, 100 do self.n = i end
            put(getASOKey(), self.n, 3)
            for i = 1, 100 do self.n = i end
          end)
        end";
    let object = world.resting(code);
    value(get(&object, "")).await.expect("it answers");
    assert!(holding(&object).await.usage.steps < 100, "the callback has not run yet");
    world.pass(100).await;
    let used = holding(&object).await.usage;
    assert!((200..300).contains(&used.steps), "each turn once: {used:?}");
    assert_eq!(used.messages, 4, "one for the lookup, and one for each node of the put");
}

#[actix::test]
async fn an_invocation_ends_after_ten_seconds_of_waiting() {
    let world = World { network_ms: None, ..World::new() };
    let object = world.resting(COUNTER);
    let waits = get(&object, "wait");
    assert_eq!(value(waits).await, Err(failed("onGet", Failure::Deadline { limit_ms: 10_000 })));
    assert_eq!(world.ms(), 10_000);
}

#[actix::test]
async fn a_failing_turn_interrupts_those_that_wait() {
    let world = World { network_ms: None, ..World::new() };
    let object = world.resting(COUNTER);
    let (waits, fails) = (get(&object, "wait"), get(&object, "fail"));
    assert!(value(fails).await.is_err());
    assert_eq!(value(waits).await, Err(failed("onGet", Failure::Interrupted)));
}

#[actix::test]
async fn an_arrival_that_its_on_put_refuses_leaves_nothing() {
    let world = World::new();
    let (object, outcome) = world.arriving("function aso:onPut() return false, 'not here' end");
    assert_eq!(outcome.await, Ok(Err(Refusal::Refused("not here".into()))));
    world.pass(1_000).await;
    assert_eq!(world.heard(), [(0, Heard::Stopped)]);
    assert!(!object.connected());
}

#[actix::test]
async fn an_update_that_its_own_on_put_refuses_brings_the_previous_object_back() {
    let first = World { network_ms: Some(500), ..World::new() };
    for refusal in ["return false, 'no'", "error('no')", "lookup(getASOKey()) error('no')"] {
        let world = first.again();
        let object = world.resting(COUNTER);
        assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
        let outcome = put(&object, record(2, Some(&format!("function aso:onPut() {refusal} end"))));
        assert!(outcome.await.expect("it is answered").is_err(), "{refusal}");
        assert_eq!(value(get(&object, "")).await, Ok(Value::Int(2)), "{refusal}");
        world.pass(1_000).await;
        let version = record(1, Some(COUNTER)).version;
        let saved = world
            .heard()
            .into_iter()
            .map(|(_, heard)| heard)
            .filter(|heard| matches!(heard, Heard::Saved(..)));
        assert_eq!(
            saved.collect::<Vec<_>>(),
            [Heard::Saved(version, 1), Heard::Saved(version, 2)],
            "{refusal}"
        );
    }
}

#[actix::test]
async fn an_update_takes_the_objects_place_state_and_all() {
    let world = World::new();
    let object = world.resting(COUNTER);
    value(get(&object, "")).await.expect("it answers");
    let next = record(2, Some("aso.n = 100\nfunction aso:onGet() return self.n end"));
    let version = next.version;
    assert!(
        matches!(put(&object, next).await, Ok(Ok(Served::Stored { version: stored, .. })) if stored == version)
    );
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(100)));
    let stale = put(&object, record(1, Some(COUNTER)));
    assert_eq!(stale.await, Ok(Err(Refusal::Stale { held_sequence: 2 })));
    assert!(world.heard().iter().any(|(_, heard)| matches!(heard, Heard::Put(_, Rule::Replace))));
}

#[actix::test]
async fn visits_to_an_object_that_arrives_wait_for_its_arrival() {
    let world = World { network_ms: Some(30), ..World::new() };
    let (object, outcome) =
        world.arriving(&format!("{COUNTER}\nfunction aso:onPut() lookup(getASOKey()) self.n = 10 end"));
    world.pass(0).await;
    let early = get(&object, "");
    assert_eq!(value(early).await, Ok(Value::Int(11)));
    assert_eq!(world.ms(), 30);
    assert!(matches!(outcome.await, Ok(Ok(Served::Stored { .. }))));
}

#[actix::test]
async fn nothing_runs_on_an_object_that_a_failed_turn_has_spent() {
    let world = World { network_ms: Some(30), ..World::new() };
    let (object, outcome) =
        world.arriving(&format!("{COUNTER}\nfunction aso:onPut() lookup(getASOKey()) end"));
    world.pass(0).await;
    let (fails, after) = (get(&object, "fail"), get(&object, ""));
    assert!(value(fails).await.is_err());
    assert!(after.await.is_err(), "it was not begun, so whoever sent it tries again");
    outcome.await.expect("it is answered").expect("it is stored");
    world.pass(1_000).await;
    let saved: Vec<_> =
        world.heard().into_iter().filter(|(_, heard)| matches!(heard, Heard::Saved(..))).collect();
    assert!(saved.iter().all(|(_, heard)| matches!(heard, Heard::Saved(_, 0))), "{saved:?}");
}

#[actix::test]
async fn an_object_that_deletes_itself_and_then_waits_goes_when_it_has_answered() {
    let world = World { network_ms: Some(30), ..World::new() };
    let object = world.resting("function aso:onGet() deleteSelf() return #lookup(getASOKey()) end");
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
    world.pass(1).await;
    let heard: Vec<_> = world.heard().into_iter().map(|(_, heard)| heard).collect();
    let version =
        record(1, Some("function aso:onGet() deleteSelf() return #lookup(getASOKey()) end")).version;
    assert_eq!(heard, [lookup(), deleted(version), Heard::Stopped]);
}

#[actix::test]
async fn an_expired_object_goes_without_a_word_to_the_store() {
    let world = World::new();
    let object = world.resting(&format!("aso.ttl = 1\n{COUNTER}"));
    value(get(&object, "")).await.expect("it answers");
    object.do_send(Expire);
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(2)), "it is not time yet");
    world.pass(1_000).await;
    world.heard();
    object.do_send(Expire);
    world.pass(1_000).await;
    assert_eq!(world.heard(), [(1_000, Heard::Stopped)]);
}

#[actix::test]
async fn nobody_is_served_by_an_object_past_its_time_whenever_the_sweep_comes() {
    let world = World::new();
    let visits = [
        Visit::Get { caller: caller(), payload: None, trail: Trail::FRESH },
        Visit::Inspect { caller: caller() },
        Visit::Log,
        Visit::Wake,
    ];
    for late in visits {
        let (shared, held) = (world.shared(), record(1, Some(COUNTER)));
        let held = Record { expires_ms: world.clock.wall_ms() + 1_000, ..held };
        let object = Aso::resting(shared.clone(), activate(&shared, &held), held, None).start();
        let early = visit(&object, late.clone()).await.expect("it is answered");
        assert!(early.is_ok(), "{early:?}");
        world.pass(1_000).await;
        assert_eq!(visit(&object, late).await, Ok(Err(Refusal::NotFound)));
        world.pass(1).await;
        assert!(!object.connected());
    }
    let held = Record { expires_ms: world.clock.wall_ms(), ..record(1, Some(COUNTER)) };
    let shared = world.shared();
    let object = Aso::resting(shared.clone(), activate(&shared, &held), held, None).start();
    let next = put(&object, record(2, Some(COUNTER)));
    assert!(next.await.is_err(), "it was not begun, so whoever sent it finds the key free");
}

#[actix::test]
async fn an_idle_object_leaves_and_a_busy_one_stays() {
    let world = World { network_ms: Some(5_000), ..World::new() };
    let object = world.resting(COUNTER);
    let waits = get(&object, "wait");
    world.pass(3_000).await;
    object.do_send(PassivateIfIdle { since: world.clock.now() });
    assert_eq!(value(waits).await, Ok(Value::Int(1)));
    object.do_send(PassivateIfIdle { since: world.clock.now() - Duration::from_secs(6) });
    world.pass(1_000).await;
    assert!(object.connected());
    object.do_send(PassivateIfIdle { since: world.clock.now() });
    world.pass(1).await;
    assert!(!object.connected());
}

/// A copy of what an object is, with another hour to live.
fn longer(code: &str, ownership: Option<Box<Ownership>>) -> Visit {
    let record = Record { ownership, expires_ms: NOW + 7_200_000, ..record(1, Some(code)) };
    let caller = Caller { origin: Origin::Replica, ..caller() };
    Visit::Put { caller, record: Arc::new(record), condition: None, trail: Trail::FRESH }
}

async fn holding(object: &Addr<Aso>) -> Holding {
    match visit(object, Visit::Inspect { caller: caller() }).await {
        Ok(Ok(Served::Inspected(holding))) => *holding,
        other => panic!("no inspection: {other:?}"),
    }
}

#[actix::test]
async fn a_copy_renews_what_is_held_but_not_past_what_the_object_asks_for() {
    let world = World::new();
    for (ttl, expires_ms) in [("", NOW + 7_200_000), ("aso.ttl = 5400", NOW + 5_400_000)] {
        let code = format!("{ttl}\n{COUNTER}");
        let object = world.resting(&code);
        let version = record(1, Some(&code)).version;
        let renewed = visit(&object, longer(&code, None)).await;
        assert!(matches!(renewed, Ok(Ok(Served::Stored { version: held, .. })) if held == version));
        assert_eq!(holding(&object).await.record.expires_ms, expires_ms, "{ttl}");
    }
}

#[actix::test]
async fn a_signature_that_is_sent_again_prolongs_nothing() {
    let world = World::new();
    let ownership = Some(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] }.into());
    let (shared, held) =
        (world.shared(), Record { ownership: ownership.clone(), ..record(1, Some(COUNTER)) });
    let object = Aso::resting(shared.clone(), activate(&shared, &held), held, None).start();
    assert!(matches!(visit(&object, longer(COUNTER, ownership)).await, Ok(Ok(Served::Stored { .. }))));
    assert_eq!(holding(&object).await.record.expires_ms, NOW + 3_600_000);
}
