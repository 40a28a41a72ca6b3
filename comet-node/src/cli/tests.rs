//! The client commands against a served interface over a backend in memory: what they print, and their exit
//! codes.

use std::{net::SocketAddr, path::Path, sync::mpsc, thread, thread::JoinHandle};

use actix_web::dev::ServerHandle;
use comet_runtime::{Limits, Refusal, Value};

use super::*;
use crate::{
    config::{HttpConfig, ReplicationConfig},
    http::{
        fake::{Fake, replica},
        serve,
    },
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A served fake node; it ends with the test.
struct Served {
    fake: Fake,
    addr: SocketAddr,
    stop: Option<(ServerHandle, JoinHandle<()>)>,
}

impl Served {
    fn start() -> Self {
        let fake = Fake::default();
        let backend = fake.clone();
        let (started, starting) = mpsc::channel();
        let thread = thread::spawn(move || {
            actix_rt::System::new().block_on(async {
                let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                let config =
                    HttpConfig { listen, token: Some(TOKEN.to_owned()), workers: 1, ..HttpConfig::default() };
                let (server, addr) =
                    serve(&config, &Limits::default(), &ReplicationConfig::default(), backend)
                        .expect("the loopback has a free port");
                started.send((addr, server.handle())).expect("the test waits for it");
                server.await.expect("the server runs until it is stopped");
            });
        });
        let (addr, handle) = starting.recv().expect("the server starts");
        Self { fake, addr, stop: Some((handle, thread)) }
    }

    /// Runs a command and returns its exit code, its output and its error.
    fn run(&self, look: Look, words: &[&str]) -> (u8, String, String) {
        let url = format!("http://{}", self.addr);
        let asks_node = words.first() != Some(&"app");
        let target: &[&str] = if asks_node { &["--node", &url, "--token", TOKEN] } else { &[] };
        let words = ["comet-node"].iter().chain(words).chain(target).copied();
        let cli = Cli::try_parse_from(words).expect("the arguments are right");
        let mut output = Vec::new();
        let ended = execute(cli, look, &mut output);
        let output = String::from_utf8(output).expect("the output is text");
        match ended {
            Ok(()) => (0, output, String::new()),
            Err(error) => (error.exit_code(), output, error.to_string()),
        }
    }

    fn output(&self, words: &[&str]) -> String {
        let (code, output, error) = self.run(Look::Terminal, words);
        assert_eq!((code, error.as_str()), (0, ""), "{words:?}");
        output
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some((handle, thread)) = self.stop.take() {
            actix_rt::System::new().block_on(handle.stop(false));
            thread.join().expect("the server did not panic");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[test]
fn what_was_put_is_got_in_the_form_that_the_reader_wants() {
    let node = Served::start();
    let put = node.output(&["put", "greeting", "hello", "--ttl", "1h", "--replicas", "3"]);
    assert!(put.starts_with("stored on 1 of 3 replicas, kept for 60 min\nquorum 1, version 1 ("), "{put}");
    assert!(put.ends_with("abababab at 127.0.0.1:7401 failed: no answer within 300 ms\n"), "{put}");
    assert_eq!(node.output(&["get", "greeting"]), "\"hello\"\nfrom abababab at 127.0.0.1:7401\n");
    assert_eq!(node.run(Look::Pipe, &["get", "greeting"]).1, "hello\n");
    assert_eq!(node.run(Look::Pipe, &["get", "greeting", "--raw"]).1, "hello");
    let json: serde_json::Value = serde_json::from_str(&node.output(&["get", "greeting", "--json"])).unwrap();
    assert_eq!(json["value"], "hello");
    node.output(&["put", "list", "--json-value", "[1, {\"$bytes\": \"/w==\"}]"]);
    assert_eq!(node.run(Look::Pipe, &["get", "list"]).1, "1) (integer) 1\n2) \"\\xff\"\n");
    assert_eq!(node.output(&["get", "list", "--all"]).matches("from abababab").count(), 2);
    node.output(&["get", "list", "--payload", "{\"a b\": \"&?\"}"]);
    let payload = node.fake.state().last_get.clone().and_then(|get| get.payload);
    assert_eq!(payload, Some(Value::map([(Value::str("a b"), Value::str("&?"))])));
}

#[test]
fn a_put_that_expects_a_version_or_nothing_is_refused_where_something_else_is() {
    let node = Served::start();
    node.output(&["put", "n", "1", "--if-absent"]);
    let got = node.output(&["get", "n", "--with-version"]);
    let piped = node.run(Look::Pipe, &["get", "n", "--with-version"]).1;
    assert!(piped.starts_with("1\nversion 1-") && got.ends_with(&piped[2..]), "{got}{piped}");
    let version = got.trim_end().rsplit(' ').next().expect("the version is the last word");
    let refused = node.run(Look::Pipe, &["put", "n", "2", "--if-absent"]);
    assert_eq!(refused.0, 1, "{refused:?}");
    assert!(refused.2.contains("the put's condition does not hold (sequence 1 is held)"), "{}", refused.2);
    node.output(&["put", "n", "2", "--if-version", version]);
    assert_eq!(node.run(Look::Pipe, &["put", "n", "3", "--if-version", version]).0, 1, "it was replaced");
    assert_eq!(node.run(Look::Pipe, &["get", "n"]).1, "2\n");
}

#[test]
fn files_are_stored_byte_for_byte_and_code_needs_no_value() {
    let node = Served::start();
    let folder = tempfile::tempdir().unwrap();
    let (blob, code) = (folder.path().join("blob"), folder.path().join("counter.lua"));
    std::fs::write(&blob, b"\xff\x00x").unwrap();
    std::fs::write(&code, "aso.gets = 0").unwrap();
    node.output(&["put", "blob", "--file", text(&blob), "--code", text(&code)]);
    node.output(&["put", "active", "--code", text(&code)]);
    let stored = |name: &str| node.fake.state().objects[&comet_routing::Key::of(name)].clone();
    assert_eq!(stored("blob").data, Value::str(b"\xff\x00x").encode());
    assert_eq!(stored("active").data, Value::Nil.encode());
    assert_eq!(stored("active").code.map(|code| code.source.to_string()).as_deref(), Some("aso.gets = 0"));
    std::fs::write(&blob, vec![b'x'; 70_000]).unwrap();
    let (exit, _, error) = node.run(Look::Pipe, &["put", "blob", "--file", text(&blob)]);
    assert_eq!((exit, error.as_str()), (1, "the encoded value has 70005 bytes and the limit is 65536"));
    assert_eq!(stored("blob").data, Value::str(b"\xff\x00x").encode(), "the refused put changed nothing");
}

#[test]
fn a_put_takes_a_publishers_signature_along_with_the_handlers() {
    let node = Served::start();
    let folder = tempfile::tempdir().unwrap();
    let (key, code) = (folder.path().join("me.key"), folder.path().join("a.lua"));
    std::fs::write(&code, "aso.n = 0").unwrap();
    let public_key = node.output(&["id", "--new", text(&key)]);
    let said = node.output(&["app", "sign", text(&code), "--key", text(&key)]);
    assert!(said.ends_with(&format!("signed for the network comet by {public_key}")), "{said}");
    let signature = folder.path().join("a.lua.sig");
    node.output(&["put", "a", "--code", text(&code), "--signature", text(&signature)]);
    let stored = node.fake.state().objects[&comet_routing::Key::of("a")].clone();
    let (code_hash, publication) = (stored.code.unwrap().hash, stored.publication.unwrap());
    assert_eq!(publication.verify("comet", &code_hash), Ok(()));
    assert_eq!(crate::key_text::hex(&publication.public_key), public_key.trim());
    let plain = node.run(Look::Pipe, &["put", "a", "value", "--signature", text(&signature)]);
    let sentence = "--signature goes with --code or --app: a publisher signs handlers";
    assert_eq!((plain.0, plain.2.as_str()), (2, sentence));
}

#[test]
fn an_application_is_put_by_its_name_with_its_settings() {
    let node = Served::start();
    node.output(&["put", "letter", "dear", "--app", "flexible-timeout", "--set", "seconds=90"]);
    node.output(&["put", "hits", "hello", "--app", "counter"]);
    node.output(&["put", "both", "--app", "flexible-timeout,access-log", "--set", "seconds=90"]);
    let stored = |name: &str| node.fake.state().objects[&comet_routing::Key::of(name)].clone();
    let seconds = ("seconds".into(), Value::Int(90));
    let value = Value::map([seconds.clone(), ("value".into(), "dear".into())]);
    assert_eq!(stored("letter").data, value.encode());
    assert_eq!(stored("hits").data, Value::str("hello").encode());
    assert_eq!(stored("both").data, Value::map([seconds]).encode());
    let code = |name: &str| stored(name).code.map(|code| code.source.to_string());
    let source = node.output(&["app", "show", "counter", "--source"]);
    assert_eq!(code("hits").as_ref(), Some(&source));
    assert!(code("both").is_some_and(|code| code.contains("do -- access-log\n")));
}

#[test]
fn a_put_of_an_application_that_is_set_up_wrongly_sends_nothing() {
    let node = Served::start();
    for (settings, sentence) in [
        (
            &[][..],
            "flexible-timeout needs --set seconds=VALUE: how long readers see the value, in seconds from the put",
        ),
        (&["--set", "second=9"], "flexible-timeout has no setting \"second\"; the nearest is seconds"),
    ] {
        let words = [&["put", "k", "v", "--app", "flexible-timeout"], settings].concat();
        assert_eq!(node.run(Look::Pipe, &words), (2, String::new(), sentence.to_owned()));
    }
    assert!(node.fake.state().objects.is_empty());
}

#[test]
fn applications_are_listed_and_shown_for_people_and_programs() {
    let node = Served::start();
    let list = node.output(&["app", "list"]);
    assert_eq!(list.lines().count(), comet_apps::APPS.len() + 1);
    let json: serde_json::Value = serde_json::from_str(&node.output(&["app", "list", "--json"])).unwrap();
    assert_eq!((&json[1]["name"], &json[1]["settings"]), (&json!("counter"), &json!([])));
    let json: serde_json::Value =
        serde_json::from_str(&node.output(&["app", "show", "one-time", "--json"])).unwrap();
    let app = comet_apps::find("one-time").expect("it ships");
    assert_eq!((&json["source"], &json["summary"]), (&json!(app.source), &json!(app.summary)));
    assert_eq!(
        (&json["settings"][0]["name"], &json["settings"][0]["default"]),
        (&json!("count"), &json!("8"))
    );
}

#[test]
fn an_owner_signs_puts_deletes_and_requests_for_logs() {
    let node = Served::start();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("me.key");
    let missing = node.run(Look::Pipe, &["put", "note", "x", "--owner", text(&key)]);
    assert_eq!(missing.0, 1);
    assert!(missing.2.contains("comet-node id --new"), "{}", missing.2);
    let public_key = node.output(&["id", "--new", text(&key)]);
    assert_eq!(node.output(&["id", "--owner", text(&key)]), public_key);
    assert_eq!(node.run(Look::Pipe, &["id", "--new", text(&key)]).0, 1, "a key is never overwritten");
    node.output(&["put", "note", "mine", "--owner", text(&key), "--sequence", "7"]);
    let owned = format!("owned:{}/note", public_key.trim());
    assert_eq!(node.run(Look::Pipe, &["get", &owned]).1, "mine\n");
    assert_eq!(node.run(Look::Pipe, &["get", "note", "--owner", text(&key)]).1, "mine\n");
    let refused = node.run(Look::Pipe, &["put", &owned, "theirs"]);
    assert_eq!((refused.0, refused.2.as_str()), (1, "this key belongs to an owner"));
    assert!(node.output(&["logs", "note", "--owner", text(&key)]).contains("1 s ago  failed: onGet: boom"));
    let delete = ["delete", "note", "--owner", text(&key), "--sequence", "8"];
    assert_eq!(node.output(&delete), "deleted from 1 replica\n");
    assert_eq!(node.run(Look::Pipe, &["get", &owned]).0, 3);
}

#[test]
fn refusals_are_one_sentence_and_the_right_exit_code() {
    let node = Served::start();
    let (exit, output, error) = node.run(Look::Pipe, &["get", "nothing"]);
    assert_eq!((exit, output.as_str(), error.as_str()), (3, "", "no such object"));
    let (exit, _, error) = node.run(Look::Pipe, &["put", "k"]);
    assert_eq!(exit, 2, "{error}");
    node.fake.state().refusal = Some(Refusal::BadCode("counter.lua:3: expected 'end'\x1b[31m".into()));
    let (exit, _, error) = node.run(Look::Pipe, &["put", "k", "v"]);
    assert_eq!(
        (exit, error.as_str()),
        (1, "the code is not usable: counter.lua:3: expected 'end'\\u{1b}[31m")
    );
}

#[test]
fn for_a_program_every_failure_is_a_problem_document() {
    let node = Served::start();
    let problem = |words: &[&str]| {
        let words = ["comet-node"].iter().chain(words).copied();
        match Cli::try_parse_from(words) {
            Ok(cli) => execute(cli, Look::Pipe, &mut Vec::new()).expect_err("it cannot be done").to_json(),
            Err(error) => misuse(&error).to_json(),
        }
    };
    let url = format!("http://{}", node.addr);
    let refused = problem(&["get", "nothing", "--json", "--node", &url, "--token", TOKEN]);
    assert_eq!((&refused["code"], &refused["status"]), (&json!("not_found"), &json!(404)));
    assert_eq!(
        problem(&["get", "k", "--json", "--quorum", "0"]),
        json!({
            "type": "urn:comet:problem:usage", "code": "usage", "retryable": false,
            "detail": "invalid value '0' for '--quorum <N>': 0 is not in 1..=20",
        })
    );
    let usage = problem(&["put", "k", "--json", "--node", &url]);
    assert_eq!(usage["code"], "usage");
    let failed = problem(&["put", "k", "--json", "--file", "/nowhere", "--node", &url]);
    assert_eq!(failed["code"], "failed");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = problem(&["get", "k", "--json", "--node", &format!("127.0.0.1:{port}")]);
    assert_eq!((&unreachable["code"], &unreachable["retryable"]), (&json!("unreachable"), &json!(true)));
}

#[test]
fn json_is_wanted_by_the_option_and_not_by_a_value_of_that_name() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
    assert!(wants_json(words("comet-node get --json --quorum 0 k")));
    assert!(!wants_json(words("comet-node put k -- --json extra")));
}

#[test]
fn the_node_answers_for_itself() {
    let node = Served::start();
    let id = replica().id;
    assert_eq!(
        node.output(&["id"]),
        format!(
            "id       {id}\naddress  127.0.0.1:7401\nnetwork  test\n\
             holds    2 records, 2.0 KiB, 1 object running\nknows    3 peers\n\
             role     server: others can reach it\ncomet 0.1.0, up for 90 s\n"
        )
    );
    assert_eq!(node.output(&["lookup", "k"]), format!("1) {id} 127.0.0.1:7401\n2 hops, 5 queries sent\n"));
    let limits = node.output(&["limits"]);
    assert!(
        limits.starts_with("[limits]\n")
            && limits.lines().any(|line| line.starts_with("write_quorum ") && line.ends_with(" (not set)")),
        "{limits}"
    );
    assert_eq!(limits, node.output(&["limits", "--defaults"]));
}
