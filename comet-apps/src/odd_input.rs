//! Whatever strangers send, every application has an answer: a reply or a refusal of its own, never a handler that
//! fails.

use std::time::Duration;

use comet_runtime::{
    Reach, Refusal, Value,
    testing::{TestConfig, TestSwarm},
};

use crate::{APPS, App};

/// Every name that some application looks for in a value, a payload or an update.
const FIELDS: &[&str] = &[
    "value",
    "seconds",
    "entries",
    "reader",
    "log",
    "at",
    "signature",
    "voters",
    "count",
    "claim",
    "claimant",
    "by",
    "turn",
    "salt",
    "verifier",
    "password",
    "response",
    "publisher",
    "after",
    "subscribe",
    "status",
    "publish",
    "number",
    "target",
    "query",
    "home",
    "hops",
    "answer",
    "threshold",
    "spread",
    "alive",
    "interval",
    "peers",
    "peer_id",
    "address",
    "left",
    "event",
    "numwant",
    "coordinates",
    "parent",
    "token",
    "report",
];

fn map(name: &str, value: Value) -> Value {
    Value::map([(name.into(), value)])
}

/// What is rarely meant.
fn oddities() -> Vec<Value> {
    vec![
        Value::Nil,
        Value::Bool(true),
        Value::Int(-1),
        Value::Int(i64::MAX),
        Value::Float(f64::NAN),
        Value::Float(0.5),
        "".into(),
        Value::str([0xff; 600]),
        Value::List(vec![Value::List(vec![])]),
        map("by", "x".into()),
        Value::map([("by".into(), 1.5.into()), ("at".into(), f64::INFINITY.into())]),
    ]
}

/// Every oddity by itself, and under every name.
fn messages() -> Vec<Value> {
    let named = FIELDS.iter().flat_map(|name| oddities().into_iter().map(|odd| map(name, odd)));
    oddities().into_iter().chain(named).collect()
}

/// A value that the application takes.
fn good(app: &App) -> Value {
    match app.name {
        "password" => Value::map([
            ("value".into(), "x".into()),
            ("salt".into(), "pepper".into()),
            ("verifier".into(), Value::str("0".repeat(64))),
        ]),
        "flexible-timeout" => Value::map([("value".into(), "x".into()), ("seconds".into(), 60.into())]),
        "recursive-get" => map("target", "nowhere".into()),
        _ if app.settings.is_empty() => "x".into(),
        "tracker" | "tree-pubsub" => Value::map([]),
        _ => map("value", "x".into()),
    }
}

fn swarm() -> TestSwarm {
    TestSwarm::new(1, TestConfig { reach: Reach::Open, replicas: 1, ..TestConfig::default() })
}

fn assert_answered<T>(outcome: Result<T, Refusal>, app: &App, what: &str, message: &Value) {
    if let Err(Refusal::HandlerFailed { handler, failure }) = outcome {
        panic!("{}: {handler} failed for the {what} {message:?}: {failure}", app.name);
    }
}

#[actix_rt::test]
async fn no_application_fails_whatever_it_is_put_as() {
    for app in APPS {
        let swarm = swarm();
        for message in messages() {
            assert_answered(swarm.put("object", message.clone(), app.source), app, "value", &message);
        }
    }
}

#[actix_rt::test]
async fn no_application_fails_whatever_it_is_asked_or_told() {
    for app in APPS {
        let swarm = swarm();
        swarm
            .put("object", good(app), app.source)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", app.name));
        for message in messages() {
            assert_answered(swarm.get_with("object", message.clone()), app, "payload", &message);
            // Each claim costs messages, of which there are so many a minute.
            if app.name == "one-time" {
                swarm.advance(Duration::from_secs(60));
            }
        }
        swarm.fire_timer("object");
        for message in messages() {
            assert_answered(swarm.update("object", message.clone()), app, "update", &message);
        }
    }
}
