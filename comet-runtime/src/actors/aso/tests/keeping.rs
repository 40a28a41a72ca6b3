//! What is kept of an object while the store is slow, or takes nothing.

use super::*;

/// What was heard, without the times.
fn words(world: &World) -> Vec<Heard> {
    world.heard().into_iter().map(|(_, heard)| heard).collect()
}

fn version() -> Version {
    record(1, Some(COUNTER)).version
}

#[actix::test]
async fn a_durable_objects_reply_waits_for_what_earlier_turns_changed() {
    let world = World { store_ms: 50, network_ms: Some(30), ..World::new() };
    let code = "aso.durable = true
        aso.n = 0
        function aso:onGet(caller, callback, payload)
          if payload == 'look' then return self.n end
          self.n = self.n + 1
          if payload == 'wait' then lookup(getASOKey()) end
          return self.n
        end";
    let object = world.resting(code);
    assert_eq!(value(get(&object, "wait")).await, Ok(Value::Int(1)));
    assert_eq!(world.ms(), 80, "it changed before its wait");
    let (changes, looks) = (get(&object, ""), get(&object, "look"));
    assert_eq!(value(looks).await, Ok(Value::Int(2)));
    assert_eq!(world.ms(), 130, "the change that it saw is on its way");
    assert_eq!(value(changes).await, Ok(Value::Int(2)));
    world.pass(1).await;
    world.heard();
    assert_eq!(value(get(&object, "look")).await, Ok(Value::Int(2)));
    assert_eq!((world.ms(), words(&world)), (130, vec![]), "everything is stored");
}

#[actix::test]
async fn the_reply_of_an_object_that_deletes_itself_waits_for_its_deletion() {
    let world = World { store_ms: 50, ..World::new() };
    let object = world.resting("function aso:onGet() deleteSelf() return 1 end");
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
    assert_eq!(world.ms(), 50);
    let world = World { store_refuses: Rc::new(true.into()), ..world.again() };
    let object = world.resting("function aso:onGet() deleteSelf() return 1 end");
    let full = Refusal::Unwritable("the store cannot write at the moment: full".into());
    assert_eq!(value(get(&object, "")).await, Err(full));
    world.pass(1).await;
    assert!(object.connected(), "it is still there");
}

#[actix::test]
async fn an_object_that_deletes_itself_when_it_arrives_never_was_here() {
    let world = World::new();
    let (object, outcome) = world.arriving("function aso:onPut() deleteSelf() end");
    let refusal = Refusal::Refused("the object deleted itself when it arrived".into());
    assert_eq!(outcome.await, Ok(Err(refusal.clone())));
    world.pass(1).await;
    assert_eq!(words(&world), [Heard::Stopped]);
    assert!(!object.connected());
    let object = world.resting(COUNTER);
    let outcome = put(&object, record(2, Some("function aso:onPut() deleteSelf() end")));
    assert_eq!(outcome.await, Ok(Err(refusal)));
    let outcome = put(&object, record(2, Some("function aso:onPut() deleteSelf() return false, 'no' end")));
    assert_eq!(outcome.await, Ok(Err(Refusal::Refused("no".into()))));
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)), "it takes nobody with it");
}

#[actix::test]
async fn an_idle_object_stays_until_the_store_has_its_state() {
    let world = World { store_ms: 500, ..World::new() };
    let object = world.resting(COUNTER);
    value(get(&object, "")).await.expect("it answers");
    world.store_refuses.set(true);
    for _ in 0..100 {
        world.pass(100).await;
        object.do_send(PassivateIfIdle { since: world.clock.now() });
    }
    assert!(object.connected(), "whether a save is to come or on its way");
    world.store_refuses.set(false);
    world.pass(3_000).await;
    world.heard();
    world.pass(10_000).await;
    assert_eq!(words(&world), [], "it is saved once");
    object.do_send(PassivateIfIdle { since: world.clock.now() });
    world.pass(1_000).await;
    assert!(!object.connected());
}

#[actix::test]
async fn a_failed_turn_loses_nothing_while_the_store_takes_nothing() {
    let world = World::new();
    let object = world.resting(COUNTER);
    value(get(&object, "")).await.expect("it answers");
    world.store_refuses.set(true);
    value(get(&object, "fail")).await.expect_err("it fails");
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(2)), "the failed turn left nothing");
    world.store_refuses.set(false);
    world.heard();
    world.pass(2_000).await;
    let lines = vec!["about to fail".into(), "onGet failed: script:4: told to".into()];
    assert_eq!(words(&world), [Heard::Saved(version(), 2), Heard::Logged(lines)]);
}

#[actix::test]
async fn an_update_that_cannot_be_stored_leaves_the_object_and_what_it_had_still_to_save() {
    let world = World::new();
    let object = world.resting(COUNTER);
    value(get(&object, "")).await.expect("it answers");
    world.store_refuses.set(true);
    for code in [Some("aso.n = 100 function aso:onGet() return self.n end"), None] {
        let outcome = put(&object, record(2, code)).await;
        assert!(matches!(outcome, Ok(Err(Refusal::Unwritable(_)))), "{outcome:?}");
    }
    world.store_refuses.set(false);
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(2)));
    world.heard();
    world.pass(2_000).await;
    assert_eq!(words(&world), [Heard::Saved(version(), 2)]);
}

#[actix::test]
async fn what_an_object_has_sent_counts_when_it_comes_back() {
    // To the replicas of its own key it may send eight times as many.
    let world = World { limits: Limits { messages: 1, ..Limits::default() }, ..World::new() };
    let code = "function aso:onGet(caller, callback, payload)
          if payload == 'fail' then error('x') end
          lookup(getASOKey(), function() end)
        end";
    let (shared, held) = (world.shared(), record(1, Some(code)));
    let enter = || Aso::resting(shared.clone(), activate(&shared, &held), held.clone(), None).start();
    let object = enter();
    for _ in 0..8 {
        value(get(&object, "")).await.expect("eight are allowed");
    }
    value(get(&object, "fail")).await.expect_err("it fails");
    world.pass(1).await;
    assert!(!object.connected());
    let object = enter();
    value(get(&object, "")).await.expect_err("it has sent its eight");
    world.pass(300_000).await;
    value(get(&enter(), "")).await.expect("half of the interval is over");
}
