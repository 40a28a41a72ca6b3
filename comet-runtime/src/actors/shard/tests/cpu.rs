//! What CPU time objects, timers and callers have on a shard.

use super::*;

/// Ticks once a minute, for 45 ms by its steps.
const BUSY: &str = "aso.n = 0
    aso.timer = 60
    function aso:onGet() return self.n end
    function aso:onTimer() self.n = self.n + 1 for _ = 1, 900 do end end";

/// Ten minutes of a shard with 1,000 objects whose timers would take 75 % of its time; returns the ticks.
async fn crowd(timer_cpu: CpuRate) -> i64 {
    let world = World::with_cpu(1_000, CpuRate::daily(86_400), timer_cpu);
    world.put("honest", 1, Some(COUNTER)).await.expect("it is stored");
    for n in 0..1_000 - 1 {
        world.put(&format!("busy {n}"), 1, Some(BUSY)).await.expect("it is stored");
    }
    for minute in 1..=10 {
        pass(Duration::from_secs(60)).await;
        let asked = world.clock.wall_ms();
        let Ok(Value::Int(gets)) = world.get("honest", "").await else { panic!("no answer") };
        assert_eq!(world.clock.wall_ms(), asked, "a get waits for no timer");
        assert_eq!(gets % 100, minute);
    }
    let mut ticks = 0;
    for n in 0..1_000 - 1 {
        let Ok(Value::Int(ticked)) = world.get(&format!("busy {n}"), "").await else { panic!("no answer") };
        ticks += ticked;
    }
    ticks
}

#[actix::test]
async fn timers_take_a_tenth_of_a_shards_time_while_gets_go_on() {
    let ticks = crowd(timer_share()).await;
    assert!((1_000..=1_340).contains(&ticks), "{ticks} ticks of 45 ms in 600 s");
}

#[actix::test]
async fn without_their_share_timers_take_all_the_time_that_they_want() {
    let ticks = crowd(CpuRate::daily(864_000)).await;
    assert!(ticks > 9_000, "the control: {ticks} ticks of 45 ms in 600 s");
}

/// Spends 45 ms by its steps in each get.
const HEAVY: &str = "aso.timer = 60
    function aso:onTimer() log('tick') end
    function aso:onGet() for _ = 1, 900 do end return true end";

async fn gets_until_refused(world: &World) -> (usize, Refusal) {
    for gets in 0..1_000 {
        if let Err(refusal) = world.get("a", "").await {
            return (gets, refusal);
        }
    }
    (1_000, Refusal::NotFound)
}

async fn ticks(world: &World) -> usize {
    match world.replica.serve(Key::of("a"), Visit::Log).await {
        Ok(Served::Logged(lines)) => lines.len(),
        other => panic!("no log: {other:?}"),
    }
}

#[actix::test]
async fn an_object_that_has_used_its_cpu_time_rests_in_memory_or_not() {
    let world = World::with_cpu(10, CpuRate::daily(10), timer_share());
    world.put("a", 1, Some(HEAVY)).await.expect("it is stored");
    world.put("b", 1, Some(COUNTER)).await.expect("it is stored");
    let (gets, refusal) = gets_until_refused(&world).await;
    assert!((215..=223).contains(&gets), "{gets} of 45 ms in ten seconds");
    let Refusal::Spent { what, wait_seconds } = refusal else { panic!("another refusal: {refusal:?}") };
    assert_eq!(what, "this object has used its CPU time");
    assert!((1..=400).contains(&wait_seconds), "{wait_seconds} s until its debt is paid");
    pass(Duration::from_secs(wait_seconds)).await;
    assert_eq!(world.get("a", "").await, Ok(Value::Bool(true)), "as soon as it said");
    let before = ticks(&world).await;
    pass(Duration::from_secs(200)).await;
    assert_eq!(ticks(&world).await, before, "its timer rests");
    assert!(!world.is_active("a"), "it has left memory");
    assert!(matches!(world.get("a", "").await, Err(Refusal::Spent { .. })), "and comes back as poor");
    assert_eq!(world.get("b", "").await, Ok(Value::Int(1)), "others do not pay for it");
}

#[actix::test]
async fn without_an_account_an_object_uses_what_it_is_asked_for() {
    let world = World::with_cpu(10, CpuRate::daily(86_400), timer_share());
    world.put("a", 1, Some(HEAVY)).await.expect("it is stored");
    assert_eq!(gets_until_refused(&world).await.0, 1_000, "the control");
}

/// A get of another node's client.
async fn get_from(world: &World, from: u8, payload: &str) -> Result<Value, Refusal> {
    let node = Contact::new(NodeId::from_bytes([from; 32]), ([198, 51, from, 1], 7400).into());
    let caller = Caller { node, ..caller() };
    let visit = Visit::Get { caller, payload: Some(payload.into()), trail: Trail::FRESH };
    match world.replica.serve(Key::of("a"), visit).await? {
        Served::Got { value, .. } => {
            Ok(Value::decode(&value, Limits::default().reply_bounds()).expect("a value"))
        }
        other => panic!("not a reply: {other:?}"),
    }
}

/// For a minute, one network makes an object fail ten times a second. Returns how often it did.
async fn tripped(failures: Option<(CpuRate, CpuRate)>) -> usize {
    let world = World::judging(10, Limits::default(), CpuRate::daily(86_400), timer_share(), failures);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    let mut failed = 0;
    for n in 1..=600 {
        pass(Duration::from_millis(100)).await;
        match get_from(&world, 1, "fail").await {
            Err(Refusal::HandlerFailed { .. }) => failed += 1,
            Err(Refusal::Spent { .. }) => {}
            other => panic!("neither failed nor refused: {other:?}"),
        }
        if n % 100 == 0 {
            assert!(matches!(get_from(&world, 2, "").await, Ok(Value::Int(_))), "others are served");
        }
    }
    failed
}

#[actix::test]
async fn a_network_makes_an_object_fail_a_few_times_and_is_not_heard_then() {
    let failed = tripped(None).await;
    assert!((65..=71).contains(&failed), "{failed} of 600");
}

#[actix::test]
async fn where_failures_cost_nothing_a_network_makes_an_object_fail_for_as_long_as_it_likes() {
    let patient = CpuRate::daily(864_000);
    assert_eq!(tripped(Some((patient, patient))).await, 600, "the control");
}

/// How many of 1,200 puts of ever new code of 16 KB one network gets compiled.
async fn compiled(failures: Option<(CpuRate, CpuRate)>) -> usize {
    let world = World::judging(10_000, Limits::default(), CpuRate::daily(10), timer_share(), failures);
    let mut compiled = 0;
    for n in 0..1_200 {
        let code = format!("--{}\nfunction aso:onGet() return {n} end", "x".repeat(16_000));
        match world.put(&n.to_string(), 1, Some(&code)).await {
            Ok(_) => compiled += 1,
            Err(Refusal::Spent { .. }) => {}
            other => panic!("neither stored nor refused: {other:?}"),
        }
    }
    compiled
}

#[actix::test]
async fn a_network_has_so_much_new_code_compiled_and_no_more() {
    let stored = compiled(None).await;
    assert!((900..=1_000).contains(&stored), "{stored} of 1,200 at once");
}

#[actix::test]
async fn where_new_code_costs_nothing_all_of_it_is_compiled() {
    let patient = CpuRate::daily(864_000);
    assert_eq!(compiled(Some((patient, patient))).await, 1_200, "the control");
}

/// What another network's inspection of an object hears that waited for 20 ms, after so many others whose scripts ran for
/// 45 ms by their steps each.
async fn inspected_after(inspections: usize) -> Result<Served, Refusal> {
    const SLOW: &str = "for _ = 1, 900 do end
        function aso:onGet() return 1 end";
    let world = World::with_cpu(10, CpuRate::daily(86_400), timer_share());
    for name in ["a", "b"] {
        world.put(name, 1, Some(SLOW)).await.expect("it is stored");
    }
    pass(2 * IDLE).await;
    let visitor = |host| Contact::new(NodeId::from_bytes([host; 32]), ([198, 51, host, 1], 7400).into());
    let inspect = |host| Visit::Inspect { caller: Caller { node: visitor(host), ..caller() } };
    for _ in 0..inspections {
        world.replica.serve(Key::of("a"), inspect(1)).await.expect("it did not wait");
    }
    world.replica.serve(Key::of("b"), inspect(2)).await.expect("it did not wait");
    assert!(!world.is_active("a"), "an inspection leaves an object where it is");
    let sent = world.clock.now() - Duration::from_millis(20);
    world.replica.serve_sent(sent, Key::of("a"), inspect(1)).await
}

#[actix::test]
async fn scripts_that_run_for_a_look_at_their_objects_are_in_the_share_of_whoever_looks() {
    let refused = Refusal::Overloaded("the node's share for this network".into());
    assert_eq!(inspected_after(4).await, Err(refused));
}

#[actix::test]
async fn a_look_or_two_is_a_burst_and_served() {
    assert!(matches!(inspected_after(2).await, Ok(Served::Inspected(_))), "the control");
}
