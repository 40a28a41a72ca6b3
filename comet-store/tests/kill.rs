//! `kill -9` under load: what was acknowledged is there afterwards.
//!
//! The test starts itself again as a child that puts as fast as it can and prints each acknowledged number;
//! the parent kills it after a while and looks.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    rc::Rc,
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{Key, clock::Clock};
use comet_store::{
    PutOutcome, PutRecord, Record, ReplicaStore, Rule, StoreConfig, Version, content_hash, open,
};

const DIR: &str = "COMET_KILL_DIR";
const ROUND: &str = "COMET_KILL_ROUND";
const EXPIRES_MS: u64 = u64::MAX / 2;
const PUTTERS: u64 = 32;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    if let (Ok(dir), Ok(round)) = (env::var(DIR), env::var(ROUND)) {
        return put_until_killed(Path::new(&dir), &round);
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = Vec::new();
    for (round, acks_before_kill) in [1, 50, 400, 1_000, 150].into_iter().enumerate() {
        let round = round.to_string();
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "what_was_acknowledged_survives_kill_9", "--nocapture", "--test-threads=1"])
            .envs([(DIR, dir.path().as_os_str()), (ROUND, round.as_ref())])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let output = BufReader::new(child.stdout.take().expect("the child's output is piped"));
        let before = acknowledged.len();
        for line in output.lines() {
            let line = line.expect("the child prints text");
            if let Some(number) = line.strip_prefix("put ").and_then(|line| line.strip_suffix(" done")) {
                acknowledged.push(format!("{round}-{number}"));
            }
            if acknowledged.len() == before + acks_before_kill {
                // What it printed until it died is read to the end.
                child.kill().expect("the child can be killed");
            }
        }
        assert!(!child.wait().expect("the child ended").success(), "the child ended by itself");
        assert!(acknowledged.len() >= before + acks_before_kill, "the child died early in round {round}");

        let (_writer, reader) =
            open(dir.path(), "kill", StoreConfig::default()).expect("the store opens again");
        for name in &acknowledged {
            let found = reader.record(&Key::of(name), 0).expect("the record is whole");
            assert_eq!(found, Some(record(name)), "{name} was acknowledged");
        }
        assert!(reader.totals().records >= acknowledged.len() as u64);
    }
}

fn put_until_killed(dir: &Path, round: &str) {
    let (writer, _) = open(dir, "kill", StoreConfig::default()).expect("the store opens");
    System::new().block_on(async move {
        let store = ReplicaStore::new(writer, Clock::System, vec![]).start();
        let round: Rc<str> = round.into();
        let putters: Vec<_> = (0..PUTTERS)
            .map(|first| actix::spawn(put_every_nth(store.clone(), Rc::clone(&round), first)))
            .collect();
        for putter in putters {
            putter.await.expect("a putter puts for ever");
        }
    });
}

async fn put_every_nth(store: Addr<ReplicaStore>, round: Rc<str>, first: u64) {
    for number in (first..).step_by(PUTTERS as usize) {
        let record = record(&format!("{round}-{number}"));
        let put = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
        let outcome = store.send(put).await.expect("the store runs");
        assert_eq!(outcome, Ok(PutOutcome::Stored { replaced: None }));
        let line = format!("put {number} done\n");
        std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
    }
}

fn record(name: &str) -> Record {
    let data = Bytes::from(name.repeat(1 + name.len() * 20));
    Record {
        key: Key::of(name),
        ownership: None,
        version: Version { sequence: 1, hash: content_hash(None, &data) },
        created_ms: 0,
        expires_ms: EXPIRES_MS,
        ttl_seconds: 86_400,
        replicas: 8,
        code: None,
        publication: None,
        data,
        state: Bytes::new(),
    }
}
