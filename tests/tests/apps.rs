//! The applications that ship with Comet, put by their names into a swarm of processes.

use std::{net::SocketAddr, path::Path};

use comet_tests::process::{Finished, NodeProcess, await_each_other};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// Three nodes that know each other.
fn swarm(top: &TempDir) -> Vec<NodeProcess> {
    let program = Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"));
    let mut swarm: Vec<NodeProcess> = Vec::new();
    for n in 0..3 {
        let peers: Vec<SocketAddr> = swarm.iter().take(1).map(NodeProcess::listen).collect();
        swarm.push(NodeProcess::start(program, &top.path().join(format!("node-{n}")), &peers));
    }
    await_each_other(&swarm);
    swarm
}

fn json(finished: &Finished) -> Json {
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{finished:?}");
    serde_json::from_str(&finished.out).expect("--json prints one document")
}

#[test]
fn applications_are_put_by_name_through_one_process_and_read_through_another() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top);
    let put = |words: &[&str]| json(&swarm[0].command(&[&["put"], words, &["--json"]].concat()));
    let read = |node: usize, key: &str| json(&swarm[node].command(&["get", key, "--json"]))["value"].clone();

    put(&["hits", "hello", "--app", "counter"]);
    assert_eq!(read(1, "hits"), json!(["hello", 1]));

    let verifier = format!("verifier={}", "ab".repeat(32));
    put(&["diary", "dear", "--app", "password", "--set", "salt=pepper", "--set", &verifier]);
    let challenge = read(2, "diary");
    assert_eq!(
        (&challenge["salt"], &challenge["refused"]),
        (&json!("pepper"), &json!("a password is needed"))
    );

    put(&["letter", "dear", "--app", "flexible-timeout", "--set", "seconds=3600"]);
    assert_eq!(read(1, "letter"), json!("dear"));

    let both = ["--app", "flexible-timeout,access-log", "--set", "seconds=3600", "--set", "entries=8"];
    put(&[&["laptop", "here I am"], &both[..]].concat());
    assert_eq!(read(1, "laptop"), json!("here I am"));
    let log = json(&swarm[2].command(&["get", "laptop", "--all", "--payload", "{\"log\": true}", "--json"]));
    let reads = log["answers"].as_array().map(|answers| {
        answers.iter().filter_map(|answer| answer["value"]["reads"].as_array()).map(Vec::len).sum::<usize>()
    });
    // A get that had to wait for one replica has asked another one as well.
    assert!(reads >= Some(1), "{log}");
}

#[test]
fn what_an_application_lacks_is_told_before_anything_is_sent() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top);
    let put = swarm[0].command(&["put", "letter", "dear", "--app", "flexible-timeout"]);
    assert_eq!((put.code, put.out.as_str()), (Some(2), ""));
    assert!(put.err.contains("flexible-timeout needs --set seconds=VALUE"), "{put:?}");
    assert_eq!(swarm[1].command(&["get", "letter"]).code, Some(3), "there is no such object");
}
