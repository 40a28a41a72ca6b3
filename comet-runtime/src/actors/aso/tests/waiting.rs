//! Who waits for an object, and for how long.

use super::*;

#[actix::test]
async fn more_than_the_queue_is_refused() {
    let world = World { network_ms: None, limits: Limits { queue: 4, ..Limits::default() }, ..World::new() };
    let object = world.resting(COUNTER);
    let waiting: Vec<_> = (0..4).map(|_| get(&object, "wait")).collect();
    assert_eq!(value(get(&object, "")).await, Err(Refusal::Overloaded("the object".into())));
    let (object, _outcome) =
        world.arriving(&format!("{COUNTER}\nfunction aso:onPut() lookup(getASOKey()) end"));
    world.pass(0).await;
    let early: Vec<_> = (0..4).map(|_| get(&object, "")).collect();
    assert_eq!(value(get(&object, "")).await, Err(Refusal::Overloaded("the object".into())));
    drop((waiting, early));
}

fn overloaded() -> Result<Value, Refusal> {
    Err(Refusal::Overloaded("the object".into()))
}

/// A get that was sent so many milliseconds before its turn.
fn get_after(world: &World, object: &Addr<Aso>, waited_ms: u64) -> Receiver<Result<Served, Refusal>> {
    let wants = Visit::Get { caller: caller(), payload: None, trail: Trail::FRESH };
    sent_at(object, wants, world.clock.now() - Duration::from_millis(waited_ms))
}

/// What an object counts whose queue stands for two seconds, and what the last three of six visits hear that waited
/// for a second.
async fn stand(world: &World) -> (i64, Vec<Result<Value, Refusal>>) {
    world.pass(10_000).await;
    let object = world.resting(COUNTER);
    let mut heard = Vec::new();
    for _ in 0..6 {
        heard.push(value(get_after(world, &object, 1_000)).await);
        world.pass(400).await;
    }
    let Ok(Value::Int(count)) = value(get(&object, "")).await else { panic!("it is free") };
    (count, heard.split_off(3))
}

#[actix::test]
async fn a_get_that_waited_too_long_in_a_queue_that_stands_is_refused_unserved() {
    let refused = vec![overloaded(), overloaded(), overloaded()];
    assert_eq!(stand(&World::new()).await, (4, refused), "the first second is a burst");
}

#[actix::test]
async fn where_a_queue_may_stand_for_ever_everybody_in_it_is_served_however_late() {
    let patience = PatienceLimits { interval: Duration::MAX, ..PatienceLimits::default() };
    let served = vec![Ok(Value::Int(4)), Ok(Value::Int(5)), Ok(Value::Int(6))];
    assert_eq!(stand(&World { patience, ..World::new() }).await, (7, served));
}

#[actix::test]
async fn puts_are_refused_as_gets_are_and_deletions_and_looks_are_not() {
    let world = World::new();
    world.pass(10_000).await;
    let (object, late) = (world.resting(COUNTER), world.clock.now() - Duration::from_secs(2));
    value(get_after(&world, &object, 2_000)).await.expect("a burst is served");
    world.pass(2_000).await;
    let record = Arc::new(record(2, Some(COUNTER)));
    let put = Visit::Put { caller: caller(), record, condition: None, trail: Trail::FRESH };
    let refused = sent_at(&object, put, late).await.expect("it is answered");
    assert_eq!(refused, Err(Refusal::Overloaded("the object".into())));
    let looked = sent_at(&object, Visit::Inspect { caller: caller() }, late).await.expect("it is answered");
    assert!(matches!(looked, Ok(Served::Inspected(_))), "{looked:?}");
    let deletion = Box::new(Deletion::unsigned(Version { sequence: 3, hash: [0; 32] }));
    let delete = Visit::Delete { caller: caller(), deletion, trail: Trail::FRESH };
    let deleted = sent_at(&object, delete, late).await.expect("it is answered");
    assert_eq!(deleted, Ok(Served::Deleted { held: true }));
}

#[actix::test]
async fn a_get_that_nobody_waits_for_any_more_is_not_begun() {
    let world = World::new();
    let object = world.resting(COUNTER);
    (0..5).for_each(|_| drop(get(&object, "")));
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(1)));
    let waits: Vec<_> = (0..5).map(|_| get(&object, "")).collect();
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(7)), "the control: somebody waits");
    drop(waits);
}

#[actix::test]
async fn a_put_is_carried_out_for_somebody_who_does_not_wait_for_it() {
    let world = World::new();
    let object = world.resting(&format!("{COUNTER}\nfunction aso:onUpdate() self.n = 100 end"));
    drop(put(&object, record(2, Some(COUNTER))));
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(101)));
}

/// How many of thirty gets of one object, each of five milliseconds, are served before one of its neighbour.
async fn before_the_neighbour(world: &World) -> usize {
    let busy = world.resting("function aso:onGet() for i = 1, 12000 do end return 1 end");
    let neighbour = world.again().resting(COUNTER);
    world.pass(0).await;
    let mut waits: Vec<_> = (0..30).map(|_| get(&busy, "")).collect();
    value(get(&neighbour, "")).await.expect("it answers");
    waits.iter_mut().filter_map(|wait| wait.try_recv().ok()).count()
}

#[actix::test]
async fn a_busy_object_lets_its_neighbours_have_their_turns() {
    let before = before_the_neighbour(&World::new()).await;
    assert!(before <= 2, "{before}");
}

#[actix::test]
async fn an_object_that_never_makes_way_is_served_whole_before_its_neighbours() {
    let world = World { slice: Duration::MAX, ..World::new() };
    assert_eq!(before_the_neighbour(&world).await, 30);
}

#[actix::test]
async fn of_networks_that_have_to_wait_those_that_used_more_than_the_others_are_refused() {
    let (own, other) = (Prefix::of(caller().node.addr.ip()), Prefix::of([203, 0, 113, 1].into()));
    let ms = Duration::from_millis;
    let used = |own_ms, other_ms| vec![(own, ms(own_ms)), (other, ms(other_ms))];
    let world = World::new();
    world.pass(1_000).await;
    let refused = || Refusal::Overloaded("the node's share for this network".into());
    for (used, waited_ms, heard) in [
        (used(900, 10), 20, Err(refused())),
        (used(900, 10), 0, Ok(Value::Int(1))),
        (used(90, 10), 20, Ok(Value::Int(1))),
        (used(900, 2_000), 20, Ok(Value::Int(1))),
        (vec![], 20, Ok(Value::Int(1))),
    ] {
        let world = World { used, ..world.again() };
        let object = world.resting(COUNTER);
        assert_eq!(value(get_after(&world, &object, waited_ms)).await, heard, "{:?} {waited_ms}", world.used);
        let deletion = Box::new(Deletion::unsigned(record(1, Some(COUNTER)).version));
        let wants = Visit::Delete { caller: caller(), deletion, trail: Trail::FRESH };
        let sent = world.clock.now() - ms(waited_ms);
        let deleted = sent_at(&object, wants, sent).await.expect("it is answered");
        assert_eq!(deleted.err(), heard.err(), "{:?} {waited_ms}", world.used);
    }
}
