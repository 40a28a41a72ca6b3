//! Objects that try to spread, to keep each other busy, or to make one small request a large one: whole nodes in
//! simulated time, and each story once more where what stops them is off.

use std::time::Duration;

use comet_node::{
    config::{ContactPolicy, NodeConfig},
    wire::Request,
};
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Expected, Put},
};
use comet_store::Code;
use comet_tests::harness::{Cluster, Failure, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Messages and bytes that one request from outside may cause.
const BUDGET: (u64, u64) = (16, 128 * 1024);

/// The most nodes that an object's copies of itself reach.
const NEAREST_MAX: usize = 20;

/// How long the worms live that have to die out.
const LIFETIME: Duration = Duration::from_secs(900);

/// Puts junk under fresh keys, and itself wherever it can, also at nodes that it looks up; lets nobody replace or delete
/// it.
const SPREAD: &str = "aso.timer = 60
local function spread(self)
  for i = 1, 10 do
    pcall(put, 'junk ' .. math.random(1000000000), 'junk', 8, function() end)
    pcall(put, getASOKey(), self, 20, function() end)
  end
  pcall(lookup, 'junk ' .. math.random(1000000000), function(self, nodes)
    for _, node in nodes or {} do pcall(put, getASOKey(), self, { node }, function() end) end
  end)
  pcall(lookup, getASOKey(), function(self, nodes)
    for _, node in nodes or {} do pcall(put, getASOKey(), self, { node }, function() end) end
  end)
  return false
end
function aso:onUpdate() return false end
function aso:onDelete() return false end
";

const HANDLERS: [&str; 5] = ["onGet", "onPut", "onUpdate", "onDelete", "onTimer"];

fn worm(handler: &str) -> String {
    let is_asked = matches!(handler, "onUpdate" | "onDelete");
    let answer = if is_asked { "return spread(self)" } else { "spread(self)" };
    format!("{SPREAD}function aso:{handler}() {answer} end")
}

fn open() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.runtime.contact = ContactPolicy::Open;
    config
}

/// What objects and clients send; not what nodes find each other with and compare.
fn is_about_objects(request: &Request) -> bool {
    matches!(
        request,
        Request::Get { .. } | Request::Put { .. } | Request::Replicate { .. } | Request::Delete { .. }
    )
}

/// Replicas of all objects, junk included.
fn replicas(cluster: &Cluster) -> u64 {
    cluster.live().filter_map(SimNode::totals).map(|totals| totals.records).sum()
}

/// Lets loose one worm of each kind.
async fn let_loose(cluster: &Cluster) -> Result<(), Failure> {
    for handler in HANDLERS {
        let put = Put {
            key: Key::of(handler),
            data: Value::str("worm").encode(),
            code: Some(Code::new(worm(handler))),
            publication: None,
            ttl: Some(LIFETIME),
            replicas: None,
            owner: None,
            expected: Expected::Any,
            deadline: None,
        };
        cluster["n1"].client().put(put).await?;
    }
    Ok(())
}

/// Reads and writes each worm, and tries to delete it.
async fn stir(cluster: &Cluster) {
    for handler in HANDLERS {
        // It may be busy, or refuse, or fail; that is its own affair.
        cluster["n7"].get(handler).await.ok();
        cluster["n9"].update(handler, "food").await.ok();
        cluster["n3"].delete(handler).await.ok();
    }
}

#[test]
fn worms_reach_the_nodes_nearest_to_their_keys_and_no_further_and_end_with_their_lifetime() {
    Sim::seeded(91).run(async |sim| {
        let cluster = Cluster::start(&sim, 50).await;
        let_loose(&cluster).await?;
        let most = (HANDLERS.len() * NEAREST_MAX) as u64;
        for _ in 0..3 {
            sim.wire().count(is_about_objects);
            stir(&cluster).await;
            sim.run_for(4 * MINUTE).await;
            let held = replicas(&cluster);
            let worms: usize = HANDLERS.iter().map(|name| cluster.holders_of(name).len()).sum();
            assert_eq!(held, worms as u64, "there is nothing but worms");
            assert!((1..=most).contains(&held), "{held} replicas of {} worms", HANDLERS.len());
            // Four minutes of sixteen messages from each replica of the one with the timer, and as much for the rest.
            let (sent, bound) = (sim.wire().counted().0, 2 * 4 * NEAREST_MAX as u64 * BUDGET.0);
            assert!(sent <= bound, "{sent} messages, at most {bound}");
        }
        sim.run_for(LIFETIME - 11 * MINUTE).await;
        assert_eq!(replicas(&cluster), 0, "none is left");
        sim.wire().count(is_about_objects);
        sim.run_for(5 * MINUTE).await;
        assert_eq!((sim.wire().counted().0, replicas(&cluster)), (0, 0), "and none comes back");
        Ok(())
    });
}

#[test]
fn where_objects_may_turn_to_any_key_the_same_worms_fill_the_swarm() {
    Sim::seeded(91).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 50, &open()).await;
        let_loose(&cluster).await?;
        let mut grown = Vec::new();
        for _ in 0..3 {
            stir(&cluster).await;
            sim.run_for(MINUTE).await;
            grown.push(replicas(&cluster));
        }
        assert!(grown[0] > 80 && grown[1] > grown[0] && grown[2] > grown[1], "the control: {grown:?}");
        Ok(())
    });
}

/// Asks the next of so many objects, which asks the next, and the last one the first.
async fn put_loop(cluster: &Cluster, objects: usize) -> Result<(), Failure> {
    for n in 0..objects {
        let next = (n + 1) % objects;
        let code =
            format!("function aso:onGet() return pcall(get, 'loop {next}', nil, nil, function() end) end");
        cluster["n1"].put_active(&format!("loop {n}"), Value::Nil, &code, None).await?;
    }
    Ok(())
}

/// Messages that one get of the first of so many objects in a loop causes in twenty seconds, and in the next twenty.
async fn chased(sim: &Sim, cluster: &Cluster, objects: usize) -> Result<[u64; 2], Failure> {
    put_loop(cluster, objects).await?;
    sim.run_for(SECOND).await;
    sim.wire().count(|request| matches!(request, Request::Get { callback: Some(_), .. }));
    cluster["n5"].get("loop 0").await?;
    sim.run_for(20 * SECOND).await;
    let (first, _) = sim.wire().counted();
    sim.run_for(20 * SECOND).await;
    Ok([first, sim.wire().counted().0 - first])
}

#[test]
fn loops_of_objects_that_ask_each_other_end() {
    for objects in [2, 3, 10] {
        Sim::seeded(92).run(async |sim| {
            let cluster = Cluster::start_with(&sim, 20, &open()).await;
            let [sent, later] = chased(&sim, &cluster, objects).await?;
            assert!((1..=BUDGET.0).contains(&sent), "{objects} objects: {sent} messages");
            assert_eq!(later, 0, "{objects} objects: it is over");
            Ok(())
        });
    }
}

#[test]
fn where_budgets_are_copied_the_same_loops_go_on() {
    for objects in [2, 3, 10] {
        Sim::seeded(92).run(async |sim| {
            let mut config = open();
            config.limits.messages = 1_000;
            let cluster = Cluster::start_with(&sim, 20, &config).await;
            sim.wire().renew_trails();
            let [sent, _] = chased(&sim, &cluster, objects).await?;
            assert!(sent > 2 * BUDGET.0, "the control: {objects} objects, {sent} messages");
            Ok(())
        });
    }
}

/// Answers everything with large puts to, and large answers to large gets of, all others of its kind.
const AMPLIFIER: &str = "local function amplify(self)
  for n = 0, 3 do
    pcall(put, 'amplifier ' .. n, string.rep('x', 2000), math.random(4), function() end)
    pcall(get, 'amplifier ' .. n, math.random(4), string.rep('x', 2000), function() end)
    pcall(put, 'victim ' .. n, string.rep('x', 30000), math.random(20), function() end)
  end
  return string.rep('x', 3000)
end
function aso:onGet() return amplify(self) end
function aso:onUpdate() amplify(self) end";

/// What comes from outside.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Get,
    Put,
}

/// What the objects send because of one request, and its bytes with those of the answers.
async fn amplified(sim: &Sim, cluster: &Cluster, cause: Cause) -> Result<(u64, u64), Failure> {
    for n in 0..4 {
        cluster["n1"].put_active(&format!("amplifier {n}"), Value::Nil, AMPLIFIER, None).await?;
    }
    sim.run_for(SECOND).await;
    sim.wire().count(|request| match request {
        Request::Get { callback, .. } => callback.is_some(),
        Request::Put { object, .. } => object.data.len() > 1_000,
        _ => false,
    });
    match cause {
        Cause::Get => drop(cluster["n5"].get("amplifier 0").await),
        Cause::Put => drop(cluster["n6"].update("amplifier 1", "go").await),
    }
    sim.run_for(3 * SECOND).await;
    Ok(sim.wire().counted())
}

#[test]
fn one_request_from_outside_causes_sixteen_messages_and_128_kilobytes_at_most() {
    for cause in [Cause::Get, Cause::Put] {
        Sim::seeded(93).run(async |sim| {
            let cluster = Cluster::start_with(&sim, 30, &open()).await;
            let (messages, bytes) = amplified(&sim, &cluster, cause).await?;
            assert!((1..=BUDGET.0).contains(&messages), "{cause:?}: {messages} messages");
            assert!(bytes <= BUDGET.1, "{cause:?}: {bytes} bytes");
            Ok(())
        });
    }
}

#[test]
fn where_the_budget_is_copied_one_request_causes_many_times_that() {
    for cause in [Cause::Get, Cause::Put] {
        Sim::seeded(93).run(async |sim| {
            let cluster = Cluster::start_with(&sim, 30, &open()).await;
            sim.wire().renew_trails();
            let (messages, bytes) = amplified(&sim, &cluster, cause).await?;
            assert!(messages > 4 * BUDGET.0, "the control: {cause:?}, {messages} messages");
            assert!(bytes > 2 * BUDGET.1, "the control: {cause:?}, {bytes} bytes");
            Ok(())
        });
    }
}

/// Messages and bytes that the timers of eight replicas send in so many minutes, with whatever that sets off.
async fn ticked(sim: &Sim, cluster: &Cluster, minutes: u32) -> Result<(u64, u64), Failure> {
    let code = "aso.timer = 60
        local function push()
          for i = 1, 40 do pcall(put, getASOKey(), string.rep('x', 1000), math.random(20), function() end) end
        end
        function aso:onTimer() push() end
        function aso:onUpdate() push() end";
    cluster["n1"].put_active("clock", Value::Nil, code, None).await?;
    sim.wire().count(|request| matches!(request, Request::Put { .. }));
    sim.run_for(minutes * MINUTE).await;
    Ok(sim.wire().counted())
}

#[test]
fn the_timers_of_eight_replicas_send_what_each_may_in_a_tick() {
    Sim::seeded(94).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        let (messages, bytes) = ticked(&sim, &cluster, 5).await?;
        let ticks = 8 * 5;
        assert!((ticks..=ticks * BUDGET.0).contains(&messages), "{messages} messages");
        assert!(bytes <= ticks * BUDGET.1, "{bytes} bytes");
        Ok(())
    });
}

#[test]
fn where_the_budget_is_copied_the_same_timers_send_more() {
    Sim::seeded(94).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        sim.wire().renew_trails();
        let (messages, _) = ticked(&sim, &cluster, 2).await?;
        assert!(messages > 3 * 8 * 2 * BUDGET.0, "the control: {messages} messages");
        Ok(())
    });
}

#[test]
fn handlers_run_where_the_object_is_and_never_at_its_reader() {
    Sim::seeded(95).run(async |sim| {
        let cluster = Cluster::start(&sim, 20).await;
        let code = "function aso:onGet() return getNodeID() end";
        cluster["n1"].put_active("here", Value::Nil, code, None).await?;
        sim.run_for(SECOND).await;
        let id = |node: &SimNode| Value::str(node.contact().id.to_string());
        let holders: Vec<_> = cluster.holders_of("here").into_iter().map(id).collect();
        let key = Key::of("here");
        for reader in cluster.live().filter(|node| !node.holds(&key)) {
            let ran_at = reader.get("here").await?.expect("it answers");
            assert!(ran_at != id(reader) && holders.contains(&ran_at), "read through {}", reader.name());
        }
        Ok(())
    });
}
