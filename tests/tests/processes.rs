//! Real nodes: separate processes, real sockets, real disks, the command line as people use it.

use std::{fs, net::SocketAddr, path::Path};

use comet_tests::process::{Finished, NodeProcess, run};
use serde_json::Value as Json;
use tempfile::TempDir;

const COUNTER: &str = "aso.getCount = 0
function aso:onGet(caller)
  self.getCount = self.getCount + 1
  return { self.value, self.getCount }
end
";

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"))
}

fn swarm(top: &TempDir, nodes: usize) -> Vec<NodeProcess> {
    let mut swarm: Vec<NodeProcess> = Vec::new();
    for n in 0..nodes {
        let peers: Vec<SocketAddr> = swarm.iter().take(2).map(NodeProcess::listen).collect();
        swarm.push(NodeProcess::start(program(), &top.path().join(format!("node-{n}")), &peers));
    }
    swarm
}

fn write(top: &TempDir, name: &str, text: &str) -> String {
    let path = top.path().join(name);
    fs::write(&path, text).expect("the temporary directory takes a file");
    path.to_string_lossy().into_owned()
}

fn json(finished: &Finished) -> Json {
    assert_eq!((finished.code, finished.err.as_str()), (Some(0), ""), "{finished:?}");
    serde_json::from_str(&finished.out).expect("--json prints one document")
}

fn id(node: &NodeProcess) -> String {
    json(&node.command(&["id", "--json"]))["id"].as_str().expect("a node has an id").to_owned()
}

#[test]
fn of_puts_that_expect_the_same_version_one_is_stored_whichever_process_it_goes_through() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top, 4);
    json(&swarm[0].command(&["put", "lock", "mine", "--if-absent", "--json"]));
    let taken = swarm[1].command(&["put", "lock", "mine", "--if-absent", "--json"]);
    let problem: Json = serde_json::from_str(&taken.out).expect("a problem is a document");
    assert_eq!(
        (taken.code, &problem["code"], &problem["status"]),
        (Some(1), &"conflict".into(), &412.into())
    );
    let shown = swarm[2].command(&["get", "lock", "--with-version"]).out;
    let version = shown.trim_end().rsplit(' ').next().expect("the version is the last word");
    json(&swarm[3].command(&["put", "lock", "yours", "--if-version", version, "--json"]));
    let late = swarm[0].command(&["put", "lock", "theirs", "--if-version", version]);
    assert_eq!(late.code, Some(1), "{late:?}");
    assert_eq!(json(&swarm[1].command(&["get", "lock", "--json"]))["value"], "yours");
}

#[test]
fn what_one_process_stores_another_reads_even_when_the_one_that_answered_is_gone() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let mut swarm = swarm(&top, 8);
    let ids: Vec<_> = swarm.iter().map(id).collect();
    let code = write(&top, "counter.lua", COUNTER);

    let put = json(&swarm[0].command(&["put", "greeting", "hello", "--code", &code, "--json"]));
    assert!(put["stored"].as_u64() >= Some(5), "a majority of eight: {put}");

    let first = json(&swarm[5].command(&["get", "greeting", "--json"]));
    assert_eq!(first["value"], serde_json::json!(["hello", 1]));
    let again = json(&swarm[6].command(&["get", "greeting", "--json"]));
    assert_eq!(again["value"][0], "hello");

    let answered = first["replica"]["id"].as_str().expect("a reply names its replica");
    let gone = ids.iter().position(|id| id == answered).expect("one of the eight answered");
    assert!(swarm[gone].stop().success(), "a node that is told to stop ends well");

    let reader = (gone + 1) % swarm.len();
    let still = json(&swarm[reader].command(&["get", "greeting", "--json"]));
    assert_eq!(still["value"][0], "hello");
    assert_ne!(still["replica"]["id"], first["replica"]["id"]);

    swarm[gone].restart();
    let back = json(&swarm[gone].command(&["id", "--json"]));
    assert_eq!(back["id"], ids[gone], "it is the same node");
    assert_eq!(back["records"], 1, "its records are there");
    let holdings = json(&swarm[gone].command(&["inspect", "greeting", "--json"]));
    let holdings = holdings["replicas"].as_array().cloned().unwrap_or_default();
    let own = holdings.iter().find(|holding| holding["replica"]["id"] == ids[gone]);
    assert!(
        own.is_some_and(|own| own["state_bytes"].as_u64() > Some(0)),
        "with the state of before: {holdings:?}"
    );
}

#[test]
fn a_put_that_was_acknowledged_survives_killing_every_node() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let mut swarm = swarm(&top, 3);
    for n in 0..20 {
        json(&swarm[n % 3].command(&["put", &format!("key-{n}"), &format!("value-{n}"), "--json"]));
    }
    swarm.iter_mut().for_each(NodeProcess::kill);
    swarm.iter_mut().for_each(NodeProcess::restart);
    for n in 0..20 {
        let got = json(&swarm[(n + 1) % 3].command(&["get", &format!("key-{n}"), "--json"]));
        assert_eq!(got["value"], format!("value-{n}"));
    }
}

#[test]
fn a_hostile_handler_gets_a_typed_error_and_the_node_serves_on() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top, 1);
    let node = &swarm[0];
    for (name, body, code) in [
        // On a machine that is busy with other things the time is up before the steps are.
        ("loops", "while true do end", "handler_steps|handler_time"),
        ("allocates", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", "handler_memory"),
        ("returns", "return ('x'):rep(70000)", "handler_bad_reply"),
        ("recurses", "local function f() return f() + 1 end return f()", "handler_memory"),
        ("errors", "error('no')", "handler_error"),
    ] {
        let script = format!(
            "aso.n = 0 function aso:onGet(_, _, go) self.n = self.n + 1 if go then {body} end return self.n end"
        );
        let file = write(&top, name, &script);
        json(&node.command(&["put", name, "--code", &file, "--json"]));
        assert_eq!(json(&node.command(&["get", name, "--json"]))["value"], 1);
        let failed = node.command(&["get", name, "--payload", "true", "--json"]);
        let problem: Json = serde_json::from_str(&failed.out).expect("--json prints the problem");
        let found = problem["code"].as_str().unwrap_or_default();
        assert!(failed.code == Some(1) && code.split('|').any(|code| code == found), "{name}: {failed:?}");
        let after = json(&node.command(&["get", name, "--json"]));
        assert_eq!(after["value"], 2, "{name}: as before that turn");
        let logs = node.command(&["logs", name]);
        assert!(logs.out.contains("onGet failed"), "{name}: {logs:?}");
    }
}

#[test]
fn an_owners_object_obeys_its_owner_alone() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top, 3);
    let (mine, other) = (top.path().join("mine.key"), top.path().join("other.key"));
    let (mine, other) = (mine.to_string_lossy(), other.to_string_lossy());
    for file in [&mine, &other] {
        assert_eq!(swarm[0].command(&["id", "--new", file]).code, Some(0));
    }
    let put = json(&swarm[0].command(&["put", "diary", "private", "--owner", &mine, "--json"]));
    let key = put["key"].as_str().expect("a put tells the key").to_owned();
    let stranger = swarm[1].command(&["put", &key, "graffiti"]);
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.err.contains("owner"), "{stranger:?}");
    assert_eq!(swarm[1].command(&["delete", &key]).code, Some(1));
    assert_eq!(json(&swarm[2].command(&["get", &key, "--json"]))["value"], "private");
    json(&swarm[2].command(&["put", "diary", "changed", "--owner", &mine, "--json"]));
    assert_eq!(json(&swarm[1].command(&["get", &key, "--json"]))["value"], "changed");
    assert_eq!(swarm[1].command(&["get", "diary", "--owner", &other]).code, Some(3), "another owner's space");
    assert_eq!(swarm[0].command(&["delete", "diary", "--owner", &mine]).code, Some(0));
    assert_eq!(swarm[1].command(&["get", &key]).code, Some(3));
}

#[test]
fn bad_input_gets_one_clear_sentence_and_nothing_is_lost() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top, 1);
    let node = &swarm[0];
    json(&node.command(&["put", "keep", "me", "--json"]));
    let broken = write(&top, "broken.lua", "function aso:onGet()\n  return 1 +\nend\n");
    let large = write(&top, "large", &"x".repeat(70_000));
    let cases: [(&[&str], &str); 9] = [
        (&["get", "keep", "--al"], "--all"),
        (&["get", ""], "key"),
        (&["get", "hex:12"], "64"),
        (&["get", "keep", "--payload", "{"], "JSON"),
        (&["put", "keep", "--code", &broken], "script:3"),
        (&["put", "keep", "--file", &large], "65536"),
        (&["put", "keep", "--file", "/nonexistent/file"], "/nonexistent/file"),
        (&["put", "keep", "x", "--ttl", "soon"], "soon"),
        (&["put", "keep", "x", "--replicas", "99"], "20"),
    ];
    for (args, word) in cases {
        let finished = node.command(args);
        assert!(matches!(finished.code, Some(1 | 2)), "{args:?}: {finished:?}");
        assert!(finished.err.contains(word), "{args:?} should mention {word:?}: {finished:?}");
        assert!(!finished.err.contains("panicked") && !finished.err.contains("backtrace"), "{finished:?}");
    }
    assert_eq!(json(&node.command(&["get", "keep", "--json"]))["value"], "me");
    let nobody = run(program(), "http://127.0.0.1:9", &["get", "keep"]);
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let swarm = swarm(&top, 1);
    let node = &swarm[0];
    let start = |args: &[&str]| {
        let finished = run(program(), "", &[&["run"], args].concat());
        assert!(finished.code.is_some_and(|code| code != 0), "{args:?}: {finished:?}");
        assert_eq!(finished.err.trim().lines().count(), 1, "{args:?}: one sentence, not {finished:?}");
        finished.err
    };
    let fresh = top.path().join("fresh").to_string_lossy().into_owned();
    let taken = top.path().join("node-0").to_string_lossy().into_owned();
    let listen = node.listen().to_string();
    let http = node.url().trim_start_matches("http://").to_owned();
    let config = write(&top, "comet.toml", "[replication]\nreplica = 3\n");
    let file = write(&top, "a-file", "not a directory");
    let free = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    assert!(start(&[&["--data", &taken], &free[..]].concat()).contains("use"));
    assert!(
        start(&["--data", &fresh, "--listen", &listen, "--http", "127.0.0.1:0"])
            .contains(&node.listen().port().to_string())
    );
    assert!(start(&["--data", &fresh, "--listen", "127.0.0.1:0", "--http", &http]).contains(&http));
    assert!(start(&[&["--data", &fresh, "--config", &config], &free[..]].concat()).contains("replicas"));
    assert!(start(&[&["--data", &file], &free[..]].concat()).contains("a-file"));
    assert!(start(&["--data", &fresh, "--http", "0.0.0.0:7480"]).contains("token"));
}
