//! The shard over a real store in memory, under paused time.

mod conditional;
mod cpu;

use bytes::Bytes;
use comet_routing::NodeId;
use comet_store::{
    Code, Expected, Ownership, Publication, ReplicaStore, StoreConfig, StoreReader, Version, content_hash,
    in_memory,
};
use rand::SeedableRng;

use super::*;
use crate::blame::failure_rates;
use crate::timers::TIMER_SHARE;
use crate::{
    Caller, Failure, OpOutcome, OpResult, Origin, Trail, Value,
    actors::{Begun, Perform},
};

const NOW: WallMs = 1_767_225_600_000;
const IDLE: Duration = Duration::from_secs(30);

const COUNTER: &str = "aso.n = 0
    function aso:onGet(caller, callback, payload)
      self.n = self.n + 1
      if payload == 'fail' then error('told to') end
      return self.n
    end
    function aso:onTimer() self.n = self.n + 100 end";

/// Finds the same node for every request.
struct Network;

impl Actor for Network {
    type Context = Context<Self>;
}

impl Handler<Perform> for Network {
    type Result = OpResult;

    fn handle(&mut self, _: Perform, _: &mut Self::Context) -> OpResult {
        Ok(OpOutcome::Nodes(vec![node(3)]))
    }
}

/// Reaches for another key, and says what came of it.
const FAR: &str = "function aso:onGet() return #lookup('elsewhere') end";

const PUBLISHER: [u8; 32] = [7; 32];

struct World {
    replica: Replica,
    reader: StoreReader,
    shard: Addr<Shard>,
    clock: Clock,
}

impl World {
    fn new(active_max: usize) -> Self {
        Self::with(active_max, Limits::default(), CpuRate::daily(10), timer_share())
    }

    /// A world where a turn of 900 steps costs 45 ms.
    fn with_cpu(active_max: usize, object_cpu: CpuRate, timer_cpu: CpuRate) -> Self {
        Self::with(active_max, Limits { steps: 1_000, ..Limits::default() }, object_cpu, timer_cpu)
    }

    fn with(active_max: usize, limits: Limits, object_cpu: CpuRate, timer_cpu: CpuRate) -> Self {
        Self::judging(active_max, limits, object_cpu, timer_cpu, None)
    }

    fn judging(
        active_max: usize,
        limits: Limits,
        object_cpu: CpuRate,
        timer_cpu: CpuRate,
        failures: Option<(CpuRate, CpuRate)>,
    ) -> Self {
        tokio::time::pause();
        let clock = Clock::starting_at(NOW);
        let (writer, reader) = in_memory(StoreConfig::default());
        let directory = Arc::new(Directory::default());
        let shard = Shard::create(|ctx| {
            let expired = vec![ctx.address().recipient()];
            let store = ReplicaStore::new(writer, clock, expired).start();
            let links = Links::new(&store, reader.clone(), Network.start().recipient());
            let config = ShardConfig {
                index: 0,
                count: 1,
                limits,
                backstop: Backstop::StepsOnly,
                reach: Reach::Strict,
                caller_addresses: CallerAddresses::default(),
                publishers: Arc::new([PUBLISHER].into()),
                object_cpu,
                failures: failures.unwrap_or_else(failure_rates),
                timer_cpu,
                local: node(9),
                state_flush: Duration::from_millis(200),
                idle: IDLE,
                active_max,
                place_parts: 1,
                queue: 256,
                clock,
                rng: ChaCha12Rng::seed_from_u64(1),
            };
            Shard::new(config, links, directory.clone())
        });
        let replica = Replica::new(directory, reader.clone(), vec![shard.clone().recipient()], clock);
        Self { replica, reader, shard, clock }
    }

    async fn put(&self, name: &str, sequence: u64, code: Option<&str>) -> Result<Served, Refusal> {
        let record = Arc::new(record(name, sequence, code, self.clock.wall_ms()));
        let visit = Visit::Put { caller: caller(), record, condition: None, trail: Trail::FRESH };
        self.replica.serve(Key::of(name), visit).await
    }

    async fn delete(&self, name: &str, sequence: u64) -> Result<Served, Refusal> {
        let deletion = Box::new(Deletion::up_to(sequence, None));
        let visit = Visit::Delete { caller: caller(), deletion, trail: Trail::FRESH };
        self.replica.serve(Key::of(name), visit).await
    }

    async fn get(&self, name: &str, payload: &str) -> Result<Value, Refusal> {
        let payload = Some(payload.into());
        let visit = Visit::Get { caller: caller(), payload, trail: Trail::FRESH };
        match self.replica.serve(Key::of(name), visit).await? {
            Served::Got { value, .. } => {
                Ok(Value::decode(&value, Limits::default().reply_bounds()).expect("a value"))
            }
            other => panic!("not a reply: {other:?}"),
        }
    }

    fn is_active(&self, name: &str) -> bool {
        self.replica.directory().contains(&Key::of(name))
    }
}

fn timer_share() -> CpuRate {
    CpuRate::new(TIMER_SHARE.0, TIMER_SHARE.1)
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller() -> Caller {
    Caller { node: node(1), callback: None, owner: None, origin: Origin::Client }
}

fn record(name: &str, sequence: u64, code: Option<&str>, now: WallMs) -> Record {
    let (code, data) = (code.map(Code::new), Value::from("value").encode());
    let version = Version { sequence, hash: content_hash(code.as_ref().map(|code| &code.hash), &data) };
    Record {
        key: Key::of(name),
        ownership: None,
        version,
        created_ms: now,
        expires_ms: now + 3_600_000,
        ttl_seconds: 3_600,
        replicas: 8,
        code,
        publication: None,
        data,
        state: Bytes::new(),
    }
}

/// A put of [`FAR`] with the signature of this publisher, if of any.
fn far(sequence: u64, publisher: Option<[u8; 32]>, now: WallMs) -> Visit {
    let publication = publisher.map(|public_key| Publication { public_key, signature: [0; 64] }.into());
    let record = Arc::new(Record { publication, ..record("a", sequence, Some(FAR), now) });
    Visit::Put { caller: caller(), record, condition: None, trail: Trail::FRESH }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[actix::test]
async fn an_object_lives_answers_and_goes() {
    let world = World::new(10);
    assert_eq!(world.get("a", "").await, Err(Refusal::NotFound));
    assert!(matches!(world.put("a", 1, Some(COUNTER)).await, Ok(Served::Stored { .. })));
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    assert_eq!(world.delete("a", 1).await, Ok(Served::Deleted { held: true }));
    assert_eq!(world.get("a", "").await, Err(Refusal::NotFound));
    assert!(!world.is_active("a"));
    assert_eq!(world.put("a", 1, Some(COUNTER)).await, Err(Refusal::Stale { held_sequence: 1 }));
}

#[actix::test]
async fn a_plain_value_wakes_nobody() {
    let world = World::new(0);
    assert!(matches!(world.put("a", 1, None).await, Ok(Served::Stored { .. })));
    assert_eq!(world.get("a", "").await, Ok("value".into()));
    assert!(world.replica.directory().is_empty());
}

#[actix::test]
async fn for_the_turn_of_one_object_no_more_visits_wait_than_its_mailbox_holds() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    let visit = Visit::Get { caller: caller(), payload: None, trail: Trail::FRESH };
    let get = |_| {
        let (replica, visit) = (world.replica.clone(), visit.clone());
        actix::spawn(async move { replica.serve(Key::of("a"), visit).await })
    };
    let gets: Vec<_> = (0..5_000).map(get).collect();
    let mut heard = Vec::new();
    for get in gets {
        heard.push(get.await.expect("it ends"));
    }
    let (served, refused): (Vec<_>, Vec<_>) = heard.into_iter().partition(Result::is_ok);
    assert!((4_096..4_200).contains(&served.len()), "{} are served", served.len());
    assert!(refused.iter().all(|refused| *refused == Err(Refusal::Overloaded("the object".into()))));
}

#[actix::test]
async fn for_the_turn_of_an_object_that_was_not_in_memory_as_many_visits_may_wait() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    pass(IDLE * 2).await;
    assert!(!world.is_active("a"), "the control");
    let visit = Visit::Get { caller: caller(), payload: None, trail: Trail::FRESH };
    let begun: Vec<_> =
        (0..200).map(|_| world.replica.begin(world.clock.now(), Key::of("a"), &visit)).collect();
    for begun in begun {
        let Begun::Sent(outcome) = begun else { panic!("{begun:?}") };
        assert!(matches!(outcome.await, Ok(Ok(Served::Got { .. }))));
    }
}

#[actix::test]
async fn a_plain_put_meets_the_handlers_of_an_object_that_was_not_in_memory() {
    let world = World::new(10);
    let code =
        "function aso:onUpdate(_, value) self.last = value end function aso:onGet() return self.last end";
    world.put("a", 1, Some(code)).await.expect("it is stored");
    world.put("b", 1, Some(BROKEN_LATER)).await.expect("it is stored");
    pass(IDLE + Duration::from_secs(200)).await;
    assert!(!world.is_active("a"), "the control");
    let version = record("a", 1, Some(code), world.clock.wall_ms()).version;
    let served = world.put("a", 2, None).await;
    assert!(matches!(served, Ok(Served::Stored { version: held, .. }) if held == version), "{served:?}");
    assert!(world.is_active("a"));
    assert_eq!(world.get("a", "").await, Ok(Value::from("value")));
    // One that cannot run any more has no say.
    assert!(matches!(world.get("b", "").await, Err(Refusal::BadCode(_))), "the control");
    world.put("b", 2, None).await.expect("it takes its place");
    assert_eq!(world.get("b", "").await, Ok(Value::from("value")));
}

#[actix::test]
async fn a_visit_behind_a_failing_turn_is_served_by_the_restored_object() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    let visits = futures([world.get("a", "fail"), world.get("a", ""), world.get("a", "")]).await;
    let [failed, second, third] = visits;
    let failure = Failure::Error("script:4: told to".into());
    assert_eq!(failed, Err(Refusal::HandlerFailed { handler: "onGet".into(), failure }));
    assert_eq!((second, third), (Ok(Value::Int(2)), Ok(Value::Int(3))));
    let Ok(Served::Logged(lines)) = world.replica.serve(Key::of("a"), Visit::Log).await else {
        panic!("no log")
    };
    assert_eq!(lines[0].text, "onGet failed: script:4: told to");
}

/// Drives three visits at once.
async fn futures<T>(visits: [impl Future<Output = T>; 3]) -> [T; 3] {
    let [a, b, c] = visits;
    tokio::join!(a, b, c).into()
}

#[actix::test]
async fn an_idle_object_leaves_memory_and_its_timer_wakes_it_when_it_is_due() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    let due = Duration::from_millis(first_due(&Key::of("a"), 600_000, NOW) - NOW);
    assert!(due > IDLE * 3);
    pass(due - IDLE).await;
    assert!(!world.is_active("a"));
    pass(IDLE + Duration::from_secs(2)).await;
    assert!(world.is_active("a"));
    assert_eq!(world.get("a", "").await, Ok(Value::Int(102)), "it comes back as it was, and ticks once");
    pass(Duration::from_secs(590)).await;
    assert_eq!(world.get("a", "").await, Ok(Value::Int(103)));
    assert_eq!(world.reader.timer(&Key::of("a")).map(|due| due.is_some()), Ok(true));
}

#[actix::test]
async fn an_expired_object_is_gone() {
    let world = World::new(10);
    world.put("a", 1, Some(&format!("aso.ttl = 10\n{COUNTER}"))).await.expect("it is stored");
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    pass(Duration::from_secs(12)).await;
    assert_eq!(world.get("a", "").await, Err(Refusal::NotFound));
    assert!(!world.is_active("a"));
}

#[actix::test]
async fn timers_of_objects_that_cannot_be_activated_do_not_hold_up_the_others() {
    let world = World::new(200);
    let late = format!("if getSystemTime() > {} then error('not any more') end\n{COUNTER}", NOW / 1_000 + 60);
    for n in 0..WAKES_PER_ROUND * 2 {
        world.put(&format!("late {n}"), 1, Some(&late)).await.expect("it is stored");
    }
    pass(Duration::from_millis(1)).await;
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    pass(Duration::from_secs(610)).await;
    assert_eq!(world.get("a", "").await, Ok(Value::Int(101)));
}

#[actix::test]
async fn for_one_object_more_than_the_shard_keeps_the_longest_unvisited_leaves() {
    let world = World::new(2);
    for name in ["a", "b", "c"] {
        assert!(matches!(world.put(name, 1, Some(COUNTER)).await, Ok(Served::Stored { .. })));
        pass(Duration::from_secs(2)).await;
        assert!(world.get("a", "").await.is_ok());
        pass(Duration::from_secs(2)).await;
    }
    assert_eq!(["a", "b", "c"].map(|name| world.is_active(name)), [true, false, true]);
    assert_eq!(world.get("b", "").await, Ok(Value::Int(1)), "it comes back as it was");
}

#[actix::test]
async fn draining_saves_every_state_and_takes_no_more_visits() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    world.shard.send(Drain).await.expect("the shard runs");
    assert!(!world.is_active("a"));
    let state = world.reader.record(&Key::of("a"), NOW).expect("it can be read").expect("it is held").state;
    assert!(!state.is_empty());
    assert_eq!(world.get("a", "").await, Err(Refusal::Stopping("the node".into())));
}

const BROKEN_LATER: &str =
    "if getSystemTime() >= 1767225700 then error('out of date') end function aso:onDelete() return false end";

fn owned(sequence: u64, code: Option<&str>, now: WallMs) -> Record {
    let ownership = Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] };
    let key = Key::owned_by_salt(&ownership.public_key, &ownership.salt);
    Record { key, ownership: Some(ownership.into()), ..record("owned", sequence, code, now) }
}

#[actix::test]
async fn an_object_that_cannot_run_any_more_can_be_looked_at_replaced_and_deleted() {
    let world = World::new(10);
    world.put("a", 1, Some(BROKEN_LATER)).await.expect("it is stored");
    pass(IDLE + Duration::from_secs(200)).await;
    assert!(matches!(world.get("a", "").await, Err(Refusal::BadCode(_))));
    let Ok(Served::Inspected(holding)) =
        world.replica.serve(Key::of("a"), Visit::Inspect { caller: caller() }).await
    else {
        panic!("it cannot be inspected")
    };
    assert_eq!(holding.handlers, Vec::<String>::new());
    assert!(matches!(world.put("a", 2, Some(COUNTER)).await, Ok(Served::Stored { .. })));
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
    world.put("b", 1, Some(BROKEN_LATER)).await.expect_err("its time is over");
}

#[actix::test]
async fn nothing_stands_between_an_owner_and_the_end_of_its_object() {
    let world = World::new(10);
    let object = owned(5, Some(BROKEN_LATER), world.clock.wall_ms());
    let key = object.key;
    let put = |record: Record| {
        let visit =
            Visit::Put { caller: caller(), record: Arc::new(record), condition: None, trail: Trail::FRESH };
        world.replica.serve(key, visit)
    };
    let delete = |sequence| {
        let deletion = Box::new(Deletion::up_to(sequence, object.ownership.clone()));
        let visit = Visit::Delete { caller: caller(), deletion, trail: Trail::FRESH };
        world.replica.serve(key, visit)
    };
    put(object.clone()).await.expect("it is stored");
    pass(IDLE + Duration::from_secs(200)).await;
    assert_eq!(delete(5).await, Err(Refusal::Stale { held_sequence: 5 }));
    assert_eq!(delete(6).await, Ok(Served::Deleted { held: true }));
    assert_eq!(
        delete(8).await,
        Ok(Served::Deleted { held: false }),
        "a replica that missed the put remembers"
    );
    let late = owned(7, None, world.clock.wall_ms());
    assert_eq!(put(late).await, Err(Refusal::Stale { held_sequence: 8 }));
    let proved = Deletion::up_to(8, object.ownership.clone());
    assert_eq!(world.reader.tombstone(&key), Ok(Some(proved)), "and can prove it");
}

#[actix::test]
async fn a_stranger_cannot_have_a_deletion_remembered_at_an_owned_key() {
    let world = World::new(10);
    let key = owned(5, None, 0).key;
    let deletion = Box::new(Deletion::up_to(9, None));
    let visit = Visit::Delete { caller: caller(), deletion, trail: Trail::FRESH };
    assert_eq!(world.replica.serve(key, visit).await, Err(Refusal::NotFound));
    assert_eq!(world.reader.tombstone(&key), Ok(None));
}

#[actix::test]
async fn a_put_still_under_way_does_not_outlive_the_deletion_where_nothing_was_held() {
    let world = World::new(10);
    assert_eq!(world.delete("a", 5).await, Ok(Served::Deleted { held: false }));
    for code in [None, Some(COUNTER)] {
        assert_eq!(world.put("a", 5, code).await, Err(Refusal::Stale { held_sequence: 5 }));
    }
    assert!(matches!(world.put("a", 6, None).await, Ok(Served::Stored { .. })));
    assert_eq!(world.delete("a", 5).await, Err(Refusal::Stale { held_sequence: 6 }), "it is outdated now");
    assert_eq!(world.delete("a", 7).await, Ok(Served::Deleted { held: true }));
}

#[actix::test]
async fn a_copy_of_what_was_deleted_is_refused_and_runs_nothing() {
    let world = World::new(10);
    world.delete("a", 5).await.expect("it is remembered");
    let code = "function aso:onPut() error('it ran') end";
    let copy = |sequence| {
        let record = Arc::new(record("a", sequence, Some(code), world.clock.wall_ms()));
        let caller = Caller { origin: Origin::Replica, ..caller() };
        world.replica.serve(Key::of("a"), Visit::Put { caller, record, condition: None, trail: Trail::FRESH })
    };
    assert_eq!(copy(5).await, Err(Refusal::Stale { held_sequence: 5 }));
    assert!(matches!(copy(6).await, Err(Refusal::HandlerFailed { .. })), "the control runs");
}

#[actix::test]
async fn a_copy_brings_fields_and_no_rights() {
    let world = World::new(10);
    let mut forged = record("a", 1, Some(COUNTER), world.clock.wall_ms());
    let right = Value::List(vec![
        Value::Node(node(7)),
        Value::str(Key::of("victim").as_bytes()),
        Value::Int(i64::MAX),
    ]);
    let fields = Value::map([("n".into(), Value::Int(4))]);
    forged.state = Value::List(vec![fields, Value::List(vec![right])]).encode();
    let caller = Caller { origin: Origin::Replica, ..caller() };
    let visit = Visit::Put { caller, record: Arc::new(forged), condition: None, trail: Trail::FRESH };
    world.replica.serve(Key::of("a"), visit).await.expect("it is stored");
    let Ok(Served::Inspected(holding)) =
        world.replica.serve(Key::of("a"), Visit::Inspect { caller: self::caller() }).await
    else {
        panic!("it cannot be inspected")
    };
    let Ok(Value::List(parts)) = Value::decode(&holding.record.state, Limits::default().value_bounds())
    else {
        panic!("no state")
    };
    assert_eq!(parts[1], Value::List(vec![]), "no capability came along");
}

#[actix::test]
async fn what_is_released_goes_without_a_word_and_may_come_back() {
    let world = World::new(10);
    let stubborn = "function aso:onDelete() return false end";
    for (code, active) in [(None, false), (Some(stubborn), false), (Some(stubborn), true)] {
        world.put("a", 5, code).await.expect("it is stored");
        if !active {
            pass(IDLE * 2).await;
        }
        assert_eq!(world.is_active("a"), active);
        let version = record("a", 5, code, 0).version;
        let release = |version| world.replica.serve(Key::of("a"), Visit::Release { version });
        let other = Version { sequence: 4, ..version };
        assert_eq!(release(other).await, Ok(Served::Deleted { held: false }));
        assert_eq!(world.get("a", "").await, Ok("value".into()), "another version stays");
        if !active {
            pass(IDLE * 2).await;
        }
        assert_eq!(release(version).await, Ok(Served::Deleted { held: true }));
        assert_eq!(world.get("a", "").await, Err(Refusal::NotFound));
        assert_eq!(world.reader.tombstone(&Key::of("a")), Ok(None));
    }
}

#[actix::test]
async fn what_a_trusted_publisher_signed_reaches_any_key_and_nothing_else_does() {
    let world = World::new(10);
    let refused = |outcome: Result<Value, Refusal>| match outcome {
        Err(Refusal::HandlerFailed { failure: Failure::Error(text), .. }) => text,
        other => panic!("it was not refused: {other:?}"),
    };
    let sentence = "script:1: an object whose code is not signed by a publisher that this node trusts may contact \
                    only the replicas of its own key, and a caller once at the callback key that its contact carried";
    let steps = [(None, false), (Some([8; 32]), false), (Some(PUBLISHER), true), (Some([8; 32]), false)];
    for (sequence, (publisher, reaches)) in (1..).zip(steps) {
        let put = far(sequence, publisher, world.clock.wall_ms());
        assert!(matches!(world.replica.serve(Key::of("a"), put).await, Ok(Served::Stored { .. })));
        if reaches {
            assert_eq!(world.get("a", "").await, Ok(Value::Int(1)), "put {sequence}");
        } else {
            assert_eq!(refused(world.get("a", "").await), sentence, "put {sequence}");
        }
    }
}

#[actix::test]
async fn a_signed_object_still_reaches_any_key_after_it_has_left_memory() {
    let world = World::new(10);
    let put = far(1, Some(PUBLISHER), world.clock.wall_ms());
    assert!(matches!(world.replica.serve(Key::of("a"), put).await, Ok(Served::Stored { .. })));
    pass(IDLE * 3).await;
    assert!(!world.is_active("a"));
    assert_eq!(world.get("a", "").await, Ok(Value::Int(1)));
}
