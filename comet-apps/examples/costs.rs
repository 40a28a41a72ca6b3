//! The paper's Table 2 for our applications: what the most expensive event of each costs, and the most it keeps.
//!
//! Every application of [`comet_apps::APPS`] is stored in the fake swarm, filled up with readers, peers or
//! subscribers, read, ticked and updated. Steps are those of one replica, waits and callbacks included. Time is that
//! of the event with the fake swarm around it, so an upper bound. The table is Markdown, for docs/apps.md.
//! `cargo run --release -p comet-apps --example costs`

use std::time::{Duration, Instant};

use comet_apps::{APPS, Announce, AnnounceEvent, App, Topic, TreeTopic};
use comet_routing::{Coordinate, Key};
use comet_runtime::{
    Reach, Value,
    dht::Dht,
    testing::{TestConfig, TestSwarm},
};

/// More peers, subscribers or readers than these would only push others out, or be refused.
const PEERS_MAX: u16 = 192;
const SUBSCRIBERS_MAX: u16 = 200;
const READERS: u16 = 100;

const OBJECT: &str = "object";

/// The most that any event of an application has cost.
#[derive(Default)]
struct Cost {
    event: &'static str,
    steps: u64,
    time: Duration,
    state_bytes: u64,
}

struct Bench {
    swarm: TestSwarm,
    cost: Cost,
}

impl Bench {
    fn new(app: &App) -> Self {
        // The rest do not turn to their other replicas.
        let replicas = if ["one-time", "replication"].contains(&app.name) { 5 } else { 1 };
        let config = TestConfig { nodes: 100, replicas, reach: Reach::Open, ..TestConfig::default() };
        Self { swarm: TestSwarm::new(1, config), cost: Cost::default() }
    }

    /// Lets something happen to the object and notes what it cost.
    async fn event(&mut self, name: &'static str, happen: impl FnOnce(&TestSwarm)) {
        let begun = now();
        happen(&self.swarm);
        let time = begun.elapsed();
        let Ok(copies) = self.swarm.inspect(Key::of(OBJECT)).await else { return };
        for copy in copies {
            self.cost.state_bytes = self.cost.state_bytes.max(copy.state_bytes);
            if self.cost.event.is_empty() || copy.usage.steps > self.cost.steps {
                (self.cost.event, self.cost.steps, self.cost.time) = (name, copy.usage.steps, time);
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}

/// A value that the application takes. Settings that must be said are an hour.
fn value_of(app: &App) -> Value {
    let needed = app.settings.iter().filter(|setting| setting.default.is_none());
    let mut entries: Vec<_> = needed.map(|setting| (setting.name.into(), Value::Int(3_600))).collect();
    match app.name {
        "recursive-get" => Value::map([("target".into(), "target".into())]),
        "password" => Value::map([
            ("value".into(), "value".into()),
            ("salt".into(), "salt".into()),
            ("verifier".into(), Value::str("0".repeat(64))),
        ]),
        _ if app.settings.is_empty() => "value".into(),
        _ => {
            entries.push(("value".into(), "value".into()));
            Value::map(entries)
        }
    }
}

fn announce(n: u16) -> Value {
    let [high, low] = n.to_be_bytes();
    let mut id = [0; 20];
    id[..2].copy_from_slice(&n.to_be_bytes());
    let coordinate = Coordinate { x_ms: f64::from(n), y_ms: 9.0, height_ms: 3.0, error: 0.2 };
    let address = ([0x2001, 0xdb8, u16::from_be_bytes([high, low]), 0, 0, 0, 0, 1], 6881).into();
    let announce = Announce::new(AnnounceEvent::Regular, id, address, 1_000);
    Announce { coordinate: Some(coordinate), want: Some(50), ..announce }.payload()
}

/// The largest case of those applications that have one.
async fn fill(bench: &mut Bench, app: &App) {
    let object = Key::of(OBJECT);
    let subscription = match app.name {
        "tracker" => {
            for n in 0..=PEERS_MAX {
                bench.event("onGet", |swarm| drop(swarm.get_with(OBJECT, announce(n)))).await;
            }
            return;
        }
        "pubsub" => Topic::subscription(Duration::from_secs(3_600), None),
        "tree-pubsub" => TreeTopic::subscription(Duration::from_secs(3_600), "word"),
        _ => {
            let wrong = Value::map([("at".into(), Value::Int(bench.swarm.now_ms() as i64 / 1_000))]);
            let wrong = (app.name == "password").then(|| Value::map([("password".into(), wrong)]));
            for n in 0..READERS {
                let read = |swarm: &TestSwarm| drop(swarm.get_from(n.into(), object, wrong.clone()));
                bench.event("onGet", read).await;
            }
            return;
        }
    };
    for n in 0..SUBSCRIBERS_MAX {
        let callback = Some(Key::of(format!("inbox {n}")));
        let asked = Some(subscription.clone());
        let node = usize::from(n % 20);
        let subscribe = |swarm: &TestSwarm| drop(swarm.get_calling_back(node, object, asked, callback));
        bench.event("onGet", subscribe).await;
    }
}

async fn measure(app: &App) -> Result<Cost, String> {
    let mut bench = Bench::new(app);
    let mut stored = Ok(());
    let value = value_of(app);
    // What a sandbox costs to build is not the application's.
    for n in 0..1_000 {
        bench.swarm.put(&format!("warm {n}"), value.clone(), app.source).ok();
    }
    if app.name == "recursive-get" {
        bench.swarm.put("target", "value", app.source).map_err(|refusal| refusal.to_string())?;
    }
    bench.event("onPut", |swarm| stored = swarm.put(OBJECT, value, app.source)).await;
    stored.map_err(|refusal| refusal.to_string())?;
    fill(&mut bench, app).await;
    bench.event("onTimer", |swarm| swarm.fire_timer(OBJECT)).await;
    bench.event("onGet", |swarm| drop(swarm.get(OBJECT))).await;
    bench.event("onGet", |swarm| drop(swarm.get_with(OBJECT, "sesame"))).await;
    bench.event("onTimer", |swarm| swarm.fire_timer(OBJECT)).await;
    // Last: where there is no `onUpdate`, a plain value takes the object's place.
    bench.event("onUpdate", |swarm| drop(swarm.update(OBJECT, "news"))).await;
    bench.event("onTimer", |swarm| swarm.fire_timer(OBJECT)).await;
    Ok(bench.cost)
}

/// What the paper measured: instructions of the most expensive handler, and lines of Lua.
fn of_the_paper(app: &App) -> (&'static str, &'static str) {
    match app.name {
        "access-log" => ("<10", "22"),
        "flexible-timeout" => ("≈10", "15"),
        "lifetimes" => ("100s", "41"),
        "monitor" => ("≈10", "21"),
        "one-time" | "one-time-fast" => ("≈10", "15"),
        "password" => ("<10", "11"),
        "pubsub" => ("10,000s", "14"),
        "recursive-get" => ("≈50", "9"),
        "replication" => ("<100", "41"),
        "tracker" => ("1,000s", "43"),
        "tree-pubsub" => ("100s", "20"),
        _ => ("", ""),
    }
}

/// Lines that are neither empty nor a comment.
fn code_lines(source: &str) -> usize {
    let lines = source.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("--")).count()
}

#[actix_rt::main]
async fn main() {
    println!(
        "| application | costliest event | steps | paper | time | code | lines | paper | largest state |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    for app in APPS {
        match measure(app).await {
            Ok(Cost { event, steps, time, state_bytes }) => {
                let (instructions, lines) = of_the_paper(app);
                println!(
                    "| {} | `{event}` | {steps} | {instructions} | {} µs | {} B | {} | {lines} | {state_bytes} B |",
                    app.name,
                    time.as_micros(),
                    app.source.len(),
                    code_lines(app.source),
                );
            }
            Err(reason) => println!("| {} | was not stored: {reason} |", app.name),
        }
    }
}
