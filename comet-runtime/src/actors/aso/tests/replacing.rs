//! An object in another's place, or not: whose requests, runs and timer go on.

use super::*;

/// Ticks every minute, counts, and says how often.
const CLOCKWORK: &str = "aso.n = 0
    aso.timer = 60
    function aso:onTimer() self.n = self.n + 1 end
    function aso:onGet() return self.n end";

#[actix::test]
async fn the_answer_to_a_replaced_object_is_not_for_its_successor() {
    let world = World { network_ms: Some(100), ..World::new() };
    let object = world.resting("function aso:onGet() return #lookup(getASOKey()) end");
    let old = get(&object, "");
    world.pass(50).await;
    put(&object, record(2, Some("function aso:onGet() lookup(getASOKey()) return 'new' end")))
        .await
        .expect("it is answered")
        .expect("it is accepted");
    let new = get(&object, "");
    assert_eq!(value(old).await, Err(failed("onGet", Failure::Interrupted)));
    assert_eq!(value(new).await, Ok("new".into()));
    assert_eq!(world.ms(), 150, "its own answer, not the one that came at 100 ms");
}

#[actix::test]
async fn after_a_refused_update_callbacks_go_on_and_interrupted_runs_do_not() {
    let world = World { network_ms: Some(100), ..World::new() };
    let code = "aso.n = 0
        function aso:onGet(caller, callback, payload)
          if payload == 'wait' then lookup(getASOKey()) self.n = self.n + 10 end
          if payload == 'call' then lookup(getASOKey(), function(self) self.n = self.n + 1 end) end
          return self.n
        end";
    let object = world.resting(code);
    let waits = get(&object, "wait");
    value(get(&object, "call")).await.expect("it answers");
    world.pass(50).await;
    let refuses = "function aso:onPut() lookup(getASOKey()) return false, 'no' end";
    let refused = put(&object, record(2, Some(refuses)));
    assert_eq!(value(waits).await, Err(failed("onGet", Failure::Interrupted)));
    assert_eq!(refused.await, Ok(Err(Refusal::Refused("no".into()))));
    assert_eq!(world.ms(), 150);
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)), "the callback's answer came at 100 ms");
}

#[actix::test]
async fn a_refused_update_leaves_the_timer_alone() {
    let world = World::new();
    let object = world.resting(CLOCKWORK);
    world.pass(world.first_tick_ms(60_000) + 30_000).await;
    for refuses in ["self.x = 1 return false", "self.x = 1 error('no')"] {
        let update = format!("aso.timer = 600 function aso:onPut() {refuses} end");
        put(&object, record(2, Some(&update))).await.expect("it is answered").expect_err("it is refused");
    }
    world.pass(40_000).await;
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(2)), "a minute after the first");
}

#[actix::test]
async fn a_new_object_ticks_by_its_own_timer_from_its_arrival_on() {
    let world = World::new();
    let object = world.resting(CLOCKWORK);
    let slower = CLOCKWORK.replace("60", "6000");
    put(&object, record(2, Some(&slower))).await.expect("it is answered").expect("it is accepted");
    let due_ms = world.first_tick_ms(6_000_000);
    assert!(due_ms > 120_000, "the old timer would have ticked twice");
    world.pass(due_ms.min(3_000_000) - 1_000).await;
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(0)), "not every minute");
    world.pass(due_ms - due_ms.min(3_000_000) + 2_000).await;
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)), "when its own period says");
}

#[actix::test]
async fn a_timer_that_is_due_in_the_far_future_waits_one_period_at_most() {
    let world = World::new();
    let (shared, held) = (world.shared(), record(1, Some(CLOCKWORK)));
    let due_ms = Some(NOW + 3_000_000);
    let object = world.start(Aso::resting(shared.clone(), activate(&shared, &held), held, due_ms));
    world.pass(61_000).await;
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
}

#[actix::test]
async fn a_callback_that_waits_has_the_deadline_of_every_run() {
    let world = World { network_ms: Some(4_000), ..World::new() };
    let code = "aso.n = 0
        function aso:onGet()
          lookup(getASOKey(), function(self)
            for _ = 1, 4 do lookup(getASOKey()) self.n = self.n + 1 end
          end)
        end";
    let object = world.resting(code);
    value(get(&object, "")).await.expect("it answers");
    world.pass(13_900).await;
    assert!(object.connected());
    world.heard();
    world.pass(200).await;
    let line = "callback failed: no end within 10000 ms, waits included".to_owned();
    assert!(world.heard().contains(&(14_000, Heard::Logged(vec![line]))));
    assert!(!object.connected());
}

#[actix::test]
async fn who_waits_when_the_node_stops_hears_just_that() {
    let world = World { network_ms: None, ..World::new() };
    let object = world.resting(COUNTER);
    let waits = get(&object, "wait");
    let (arriving, outcome) =
        world.arriving(&format!("{COUNTER}\nfunction aso:onPut() lookup(getASOKey()) end"));
    world.pass(1).await;
    for object in [&object, &arriving] {
        object.do_send(Leave);
    }
    let stopping = Refusal::Stopping("the node".into());
    assert_eq!(value(waits).await, Err(stopping.clone()));
    assert_eq!(outcome.await, Ok(Err(stopping)));
    world.pass(1).await;
    assert!(!object.connected() && !arriving.connected());
}

/// Handles every put itself, keeps what came, and refuses what is called so.
const COLLECTOR: &str = "aso.n = 0
    function aso:onUpdate(caller, value)
      if value == 'no' then return false, 'no' end
      self.n = self.n + 1
    end
    function aso:onGet() return self.n end";

fn offered(sequence: u64, value: &str, origin: Origin) -> Visit {
    let data = Value::from(value).encode();
    let version = Version { sequence, hash: content_hash(None, &data) };
    let record = Arc::new(Record { data, version, ..record(sequence, None) });
    Visit::Put { caller: Caller { origin, ..caller() }, record, condition: None, trail: Trail::FRESH }
}

#[actix::test]
async fn a_put_that_was_decided_is_not_offered_again_by_replicas_or_when_it_comes_twice() {
    let world = World::new();
    let object = world.resting(COLLECTOR);
    let kept = record(1, Some(COLLECTOR)).version;
    for (sequence, value, origin, runs) in [
        (5, "a", Origin::Client, 1),
        (5, "a", Origin::Client, 1),
        (5, "a", Origin::Replica, 1),
        (4, "late", Origin::Replica, 1),
        (4, "late", Origin::Client, 2),
        (6, "missed", Origin::Replica, 3),
        (6, "missed", Origin::Replica, 3),
    ] {
        let stored = visit(&object, offered(sequence, value, origin)).await.expect("it is answered");
        assert!(matches!(stored, Ok(Served::Stored { version, .. }) if version == kept), "{stored:?}");
        assert_eq!(value_of(&object).await, runs, "{sequence} {value} {origin:?}");
    }
    assert!(visit(&object, offered(7, "no", Origin::Client)).await.expect("it is answered").is_err());
    let again = visit(&object, offered(7, "no", Origin::Replica)).await.expect("it is answered");
    assert!(
        matches!(again, Ok(Served::Stored { version, .. }) if version == kept),
        "it was decided: {again:?}"
    );
}

async fn value_of(object: &Addr<Aso>) -> i64 {
    value(get(object, "")).await.expect("it answers").as_int().expect("a number")
}

#[actix::test]
async fn what_was_decided_is_known_after_a_restart() {
    let world = World::new();
    let object = world.resting(COLLECTOR);
    visit(&object, offered(5, "a", Origin::Client)).await.expect("it is answered").expect("it is handled");
    let Ok(Ok(Served::Inspected(holding))) = visit(&object, Visit::Inspect { caller: caller() }).await else {
        panic!("it cannot be inspected")
    };
    let (shared, record) = (world.shared(), holding.record);
    let object = Aso::resting(shared.clone(), activate(&shared, &record), record, None).start();
    visit(&object, offered(5, "a", Origin::Replica)).await.expect("it is answered").expect("it is known");
    assert_eq!(value_of(&object).await, 1);
}

#[actix::test]
async fn the_timer_ticks_at_the_period_that_the_object_asks_for() {
    let world = World::new();
    let code = "aso.n = 0
        aso.timer = 60
        function aso:onTimer()
          self.n = self.n + 1
          if self.n == 2 then self.timer = 600 end
          if self.n == 4 then deleteSelf() end
        end";
    let object = world.resting(code);
    world.pass(2_000_000).await;
    let version = record(1, Some(code)).version;
    let first = world.first_tick_ms(60_000);
    let last = next_due(&Key::of("test"), 600_000, NOW + first + 120_000) - NOW;
    let expected = [
        (first + 200, Heard::Saved(version, 1)),
        (first + 60_200, Heard::Saved(version, 2)),
        (first + 120_200, Heard::Saved(version, 3)),
        (last, deleted(version)),
        (last, Heard::Stopped),
    ];
    let tens = |ms: u64| ms / 10 * 10;
    assert_eq!(world.heard(), expected.map(|(at, heard)| (tens(at), heard)));
    assert!(!object.connected());
}
