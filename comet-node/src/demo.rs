//! The demonstration: the first example of the original system's poster, on the swarm that just started.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use comet_apps::Counter;
use comet_routing::{Contact, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Get, Read},
};

use crate::client::Client;

/// Name of the demonstration's object.
const NAME: &str = "greeting";
/// Longest wait for the nodes to know each other.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// Puts the counting object, reads it through three nodes, and tells what each replica counted.
pub async fn show(nodes: &[Client], http: SocketAddr) -> Result<String, Refusal> {
    let mut out = String::new();
    let first = nodes.first().ok_or_else(|| Refusal::Unreachable("there are no nodes".into()))?;
    let counter = Counter::at(Key::of(NAME));
    let report = counter.create(first, &Value::str("hello")).await?;
    say(&mut out, &format!("put {NAME:?} with these handlers, through node 1:\n"));
    for line in comet_apps::find("counter").map_or("", |app| app.source).lines() {
        say(&mut out, &format!("    {line}"));
    }
    let (stored, wanted) = (report.stored.len(), report.wanted);
    say(
        &mut out,
        &format!("\nacknowledged by {stored} of {wanted} replicas, a majority; the others follow\n"),
    );

    for (through, times) in reads(nodes.len()) {
        let Some(node) = nodes.get(through) else { continue };
        for _ in 0..times {
            let report = node.get(get(Read::First)).await?;
            if let Some(answer) = report.answers.first() {
                let (who, value) = (name(nodes, &answer.replica), text(&answer.value));
                say(&mut out, &format!("get through node {:<2} → {value:<14} {who} answered", through + 1));
            }
        }
    }

    let report = nodes.last().unwrap_or(first).get(get(Read::All)).await?;
    say(&mut out, "\nget --all: every replica counts what it served itself, this read included");
    for answer in &report.answers {
        say(&mut out, &format!("    {:<8} {}", name(nodes, &answer.replica), text(&answer.value)));
    }

    say(&mut out, &format!("\nThe swarm stays up. In another terminal, try:{}\n", remote(http)));
    for command in [
        format!("get {NAME}"),
        format!("inspect {NAME}"),
        "put note \"remember the milk\" --ttl 1h".into(),
        "put hits 0 --code comet-apps/aso/counter.lua".into(),
        "get hits --all".into(),
        format!("lookup {NAME}"),
    ] {
        say(&mut out, &format!("    target/release/comet-node {command}"));
    }
    Ok(out)
}

/// Through which nodes the demonstration reads, and how often.
fn reads(nodes: usize) -> [(usize, usize); 3] {
    let last = nodes.saturating_sub(1);
    [(0, 1), (nodes / 2, 2), (last, 1)]
}

fn get(read: Read) -> Get {
    Get { key: Key::of(NAME), payload: None, read, deadline: Some(READ_DEADLINE) }
}

fn name(nodes: &[Client], replica: &Contact) -> String {
    let known = nodes.iter().position(|node| node.contact().id == replica.id);
    known.map_or_else(|| format!("{replica:?}"), |at| format!("node {}", at + 1))
}

fn text(value: &Value) -> String {
    crate::json::to_json(value).to_string()
}

/// What a client needs to be told when the node is not where it looks by itself.
fn remote(http: SocketAddr) -> String {
    if http.port() == crate::config::HTTP_PORT {
        String::new()
    } else {
        format!("\n    export COMET_NODE=http://{http}")
    }
}

fn say(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("writing to a string cannot fail");
}
