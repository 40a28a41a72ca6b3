//! A node beside `redis-server`, both asked by `redis-benchmark`.
//!
//! Both run at the same time, one of them idle, and runs alternate: what else happens on the machine meets both sides of a
//! pair alike, so the ratio of a pair says more than either figure. Redis runs commands on one thread; a node has one for the
//! network and one for objects at least, and `redis-benchmark` takes its share of the same cores.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

use super::{
    Plan, Report,
    laps::{Lap, Verdict},
    servers::{Connection, Durability, Redis, node},
};

/// When a run is given up, in seconds.
const RUN_SECONDS_MAX: &str = "120";

/// A Redis function that counts.
const FUNCTION: &str = "#!lua name=compare
redis.register_function('count', function(keys) return redis.call('INCR', keys[1]) end)";

/// The same as an object of Comet.
const COUNTER: &str = "function aso:onGet() self.n = (self.n or 0) + 1 return self.n end";

/// An object whose handler does nothing.
const EMPTY: &str = "function aso:onGet() end";

/// One side of a comparison.
#[derive(Clone, Copy)]
struct Side<'a> {
    name: &'a str,
    addr: SocketAddr,
    command: &'a [&'a str],
}

/// Two sides, and how they are asked.
struct Race<'a> {
    clients: u32,
    pipeline: u32,
    requests: u32,
    sides: [Side<'a>; 2],
}

/// Measures it, if Redis is installed.
pub fn measure(plan: &Plan) -> anyhow::Result<Report> {
    let missing = ["redis-server", "redis-benchmark"].into_iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        let text = format!("Not compared with Redis: {program} is not installed.\n");
        return Ok(Report { text, charts: vec![] });
    }
    let top = tempfile::Builder::new().prefix("compare-").tempdir_in(&plan.top)?;
    let (_node, comet) = node(plan, &top.path().join("comet"))?;
    let redis = Redis::start(&top.path().join("redis"), Durability::Memory)?;
    let durable = Redis::start(&top.path().join("durable"), Durability::Disk)?;
    let tell = |addr, words: &[&str]| Connection::open(addr)?.tell(words);
    tell(redis.addr, &["FUNCTION", "LOAD", FUNCTION])?;
    tell(comet, &["COMET.PUT", "counter", "0", "CODE", COUNTER])?;
    tell(comet, &["COMET.PUT", "empty", "0", "CODE", EMPTY])?;
    tell(comet, &["SET", "plain", "hello"])?;
    tell(redis.addr, &["SET", "plain", "hello"])?;

    let side = |name, addr, command| Side { name, addr, command };
    let (counter, count): (&[_], &[_]) = (&["GET", "counter"], &["FCALL", "count", "1", "counter"]);
    let (plain, empty): (&[_], &[_]) = (&["GET", "plain"], &["GET", "empty"]);
    let set: &[_] = &["SET", "key:__rand_int__", "hello"];
    let race = |clients, pipeline, requests, sides| Race { clients, pipeline, requests, sides };
    let counting = [side("Comet", comet, counter), side("Redis", redis.addr, count)];
    let races = [
        race(50, 1, 100_000, counting),
        race(50, 16, 400_000, counting),
        race(50, 1, 100_000, [side("Comet", comet, plain), side("Redis", redis.addr, plain)]),
        race(
            50,
            1,
            20_000,
            [side("Comet", comet, set), side("Redis, appendfsync always", durable.addr, set)],
        ),
        race(1, 1, 30_000, [side("Comet", comet, empty), side("Comet", comet, plain)]),
    ];
    let mut text = String::from(
        "| A | B | clients | pipeline | A: requests/s, p50 | B: requests/s, p50 | A/B: median (least–greatest) |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for race in &races {
        let verdict = race.run(plan)?;
        let name = |side: &Side<'_>| format!("{}: `{}`", side.name, side.command.join(" "));
        let lap = |lap: Lap| format!("{:.0}, {:.2} ms", lap.per_second, lap.p50_ms);
        let [a, b] = &race.sides;
        let Race { clients, pipeline, .. } = race;
        writeln!(
            text,
            "| {} | {} | {clients} | {pipeline} | {} | {} | {} |",
            name(a),
            name(b),
            lap(verdict.first),
            lap(verdict.second),
            verdict.ratio
        )?;
    }
    Ok(Report { text, charts: vec![] })
}

fn is_installed(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

impl Race<'_> {
    /// Runs the sides by turns.
    fn run(&self, plan: &Plan) -> anyhow::Result<Verdict> {
        let requests = plan.extent.of(self.requests, 1_000);
        let [a, b] = self.sides;
        let pairs: Vec<(Lap, Lap)> = (0..plan.pairs)
            .map(|_| Ok((self.lap(a, requests)?, self.lap(b, requests)?)))
            .collect::<anyhow::Result<_>>()?;
        Verdict::of(&pairs).context("there are no pairs")
    }

    fn lap(&self, side: Side<'_>, requests: u32) -> anyhow::Result<Lap> {
        let number = |number: u32| number.to_string();
        let output = Command::new("timeout")
            .args([RUN_SECONDS_MAX, "redis-benchmark", "--csv", "-h", "127.0.0.1", "-r", "1000"])
            .args(["-p", &side.addr.port().to_string(), "-c", &number(self.clients)])
            .args(["-P", &number(self.pipeline), "-n", &number(requests)])
            .args(side.command)
            .stdin(Stdio::null())
            .output()
            .context("cannot start redis-benchmark")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success(), "redis-benchmark against {} failed: {said}", side.name);
        Lap::parse(&said).with_context(|| format!("against {}", side.name))
    }
}
