//! Replies as text for people, in the manner of redis-cli.
//!
//! Whatever came over the network is escaped, so that no value, log line or error text can move the cursor,
//! change colours or turn the direction of writing.

use std::fmt::Write;

use comet_runtime::{Value, dht::Usage};
use serde_json::{Map, Value as Json};

use crate::{
    http::api::{
        AnswerText, DeleteReply, FailedReplica, GetAllReply, InspectReply, LogsReply, LookupReply, NodeRef,
        NodeReport, PutReply, ReplicaText, VersionText,
    },
    operation::Role,
};

/// Hexadecimal digits by which a node or a hash is recognised.
const SHORT_DIGITS: usize = 8;

/// What the output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A terminal with colours.
    Colour,
    /// A terminal without.
    Terminal,
    /// A file or another program.
    Pipe,
}

impl Look {
    /// A line of lesser interest.
    pub(super) fn dim(self, line: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[2m{line}\x1b[0m\n"),
            _ => format!("{line}\n"),
        }
    }
}

/// A value on lines of its own: strings quoted, lists and maps numbered.
pub(super) fn value(value: &Value) -> String {
    let mut out = String::new();
    for line in value_lines(value) {
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// One replica's answer: the value, and who gave it at what cost.
pub(super) fn answer(answered: &Value, answer: &AnswerText, look: Look) -> String {
    value(answered) + &look.dim(&provenance(answer))
}

/// Several replicas' answers, numbered.
pub(super) fn answers(values: &[Value], reply: &GetAllReply, look: Look) -> String {
    let mut out = String::new();
    for (index, (value, answer)) in values.iter().zip(&reply.answers).enumerate() {
        let number = format!("{}) ", index + 1);
        for line in numbered(&number, value_lines(value)) {
            out.push_str(&line);
            out.push('\n');
        }
        out.push_str(&look.dim(&format!("{}{}", " ".repeat(number.len()), provenance(answer))));
    }
    out + &failures(&reply.failed, look)
}

/// A version as a put takes it for its condition.
pub(super) fn version(version: &VersionText) -> String {
    format!("version {}\n", printable(&version.to_string()))
}

/// What a put achieved.
pub(super) fn put(reply: &PutReply, look: Look) -> String {
    let PutReply { stored, wanted, quorum, version, ttl_seconds, .. } = reply;
    let mut out = format!("stored on {stored} of {wanted} replicas, kept for {}\n", seconds(*ttl_seconds));
    out.push_str(&look.dim(&format!("quorum {quorum}, version {}", short_version(version))));
    for stored in reply.replicas.iter().filter(|stored| stored.usage != Usage::default()) {
        out.push_str(&look.dim(&format!("{}: {}", short_node(&stored.replica), usage(&stored.usage))));
    }
    out + &failures(&reply.failed, look)
}

/// What a deletion achieved.
pub(super) fn delete(reply: &DeleteReply, look: Look) -> String {
    let count = reply.deleted.len();
    format!("deleted from {}\n", counted(count as u64, "replica")) + &failures(&reply.failed, look)
}

/// What a lookup found.
pub(super) fn lookup(reply: &LookupReply, look: Look) -> String {
    let mut out = String::new();
    for (index, node) in reply.nodes.iter().enumerate() {
        line(&mut out, format_args!("{}) {} {}", index + 1, node.id, node.addr));
    }
    let hops = counted(u64::from(reply.hops), "hop");
    out + &look.dim(&format!("{hops}, {} sent", counted_as(u64::from(reply.queries), "query", "queries")))
}

/// What each replica holds.
pub(super) fn inspect(reply: &InspectReply, look: Look) -> String {
    let mut out = String::new();
    for (index, held) in reply.replicas.iter().enumerate() {
        line(&mut out, format_args!("{}) {} {}", index + 1, held.replica.id, held.replica.addr));
        replica(&mut out, held);
    }
    out + &look.dim(&format!("held by {}", counted(reply.replicas.len() as u64, "replica")))
}

fn replica(out: &mut String, held: &ReplicaText) {
    line(out, format_args!("   version   {}", short_version(&held.version)));
    line(out, format_args!("   owner     {}", held.owner.as_deref().map_or("none".into(), printable)));
    if let Some(hash) = &held.code_hash {
        let state = if held.active { "running" } else { "passive" };
        let handlers: Vec<String> = held.handlers.iter().map(|name| printable(name)).collect();
        line(out, format_args!("   code      {} ({state}): {}", short(hash), handlers.join(", ")));
        line(out, format_args!("   last used {}", usage(&held.usage)));
    }
    let (data, state) = (bytes(held.data_bytes), bytes(held.state_bytes));
    line(out, format_args!("   size      {data} of data, {state} of state"));
    let (age, left) = (seconds(held.age_seconds), seconds(held.remaining_seconds));
    line(out, format_args!("   age       {age}, expires in {left}"));
    line(out, format_args!("   wants     {}", counted(u64::from(held.replicas), "replica")));
}

/// Each replica's log.
pub(super) fn logs(reply: &LogsReply, look: Look) -> String {
    let mut out = String::new();
    for (index, log) in reply.replicas.iter().enumerate() {
        line(&mut out, format_args!("{}) {} {}", index + 1, log.replica.id, log.replica.addr));
        for entry in &log.lines {
            let (ago, text) = (seconds(entry.age_ms / 1000), printable(&entry.text));
            let mark = if entry.failure { "failed: " } else { "" };
            line(&mut out, format_args!("   {ago} ago  {mark}{text}"));
        }
        if log.lines.is_empty() {
            out.push_str(&look.dim("   nothing logged"));
        }
    }
    out
}

/// What a node says about itself.
pub(super) fn node(node: &NodeReport, look: Look) -> String {
    let mut out = String::new();
    line(&mut out, format_args!("id       {}", node.id));
    for addr in &node.addresses {
        line(&mut out, format_args!("address  {addr}"));
    }
    line(&mut out, format_args!("network  {}", printable(&node.network)));
    let (records, size) = (counted(node.records, "record"), bytes(node.bytes));
    line(
        &mut out,
        format_args!("holds    {records}, {size}, {} running", counted(node.active_objects, "object")),
    );
    line(&mut out, format_args!("knows    {}", counted(node.peers, "peer")));
    line(&mut out, format_args!("role     {}", role(node.role)));
    out + &look.dim(&format!("comet {}, up for {}", printable(&node.version), seconds(node.uptime_seconds)))
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unknown => "server, if others can reach it; nobody could say yet",
        Role::Server => "server: others can reach it",
        Role::Client => "client: others cannot reach it, so it holds no replicas",
    }
}

/// A section of settings, one to a line.
pub(super) fn section(name: &str, settings: &Map<String, Json>, look: Look) -> String {
    let width = settings.keys().map(String::len).max().unwrap_or(0);
    let mut out = look.dim(&format!("[{name}]"));
    for (key, setting) in settings {
        let shown = if setting.is_null() { "(not set)".to_owned() } else { setting.to_string() };
        line(&mut out, format_args!("{key:width$}  {shown}"));
    }
    out
}

/// Text from elsewhere without its control and direction characters.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() || turns_direction(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn value_lines(value: &Value) -> Vec<String> {
    match value {
        Value::Nil => vec!["(nil)".to_owned()],
        Value::Bool(b) => vec![format!("({b})")],
        Value::Int(n) => vec![format!("(integer) {n}")],
        Value::Float(n) => vec![format!("(double) {n:?}")],
        Value::Str(bytes) => vec![quoted(bytes)],
        Value::Node(node) => vec![format!("(node) {} {}", node.id, node.addr)],
        Value::List(items) if items.is_empty() => vec!["(empty list)".to_owned()],
        Value::Map(entries) if entries.is_empty() => vec!["(empty map)".to_owned()],
        Value::List(items) => {
            let width = items.len().to_string().len();
            let item = |(index, item)| numbered(&format!("{:>width$}) ", index + 1), value_lines(item));
            items.iter().enumerate().flat_map(item).collect()
        }
        Value::Map(entries) => {
            let width = entries.len().to_string().len();
            let entry = |(index, (key, value)): (usize, &(Value, Value))| {
                let key = value_lines(key).join(" ");
                numbered(&format!("{:>width$}# {key} => ", index + 1), value_lines(value))
            };
            entries.iter().enumerate().flat_map(entry).collect()
        }
    }
}

/// Lines behind a number, the later ones indented as deep as the number is long.
fn numbered(number: &str, lines: Vec<String>) -> Vec<String> {
    let indent = " ".repeat(number.chars().count());
    let line = |(index, line)| if index == 0 { format!("{number}{line}") } else { format!("{indent}{line}") };
    lines.into_iter().enumerate().map(line).collect()
}

/// A string in quotes; what is not UTF-8 or not printable as escapes.
fn quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_ascii_control() => push_hex(&mut out, &[c as u8]),
                c if c.is_control() || turns_direction(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out.push('"');
    out
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    bytes.iter().for_each(|byte| write!(out, "\\x{byte:02x}").expect("writing to a string cannot fail"));
}

fn provenance(answer: &AnswerText) -> String {
    let from = format!("from {}", short_node(&answer.replica));
    if answer.active { format!("{from}, {}", usage(&answer.usage)) } else { from }
}

fn failures(failed: &[FailedReplica], look: Look) -> String {
    let failure = |failed: &FailedReplica| {
        look.dim(&format!("{} failed: {}", short_node(&failed.replica), printable(&failed.detail)))
    };
    failed.iter().map(failure).collect()
}

fn usage(usage: &Usage) -> String {
    let (steps, messages) = (counted(usage.steps, "step"), counted(u64::from(usage.messages), "message"));
    format!("{steps}, {}, {messages}", bytes(usage.memory_bytes))
}

fn short_node(node: &NodeRef) -> String {
    format!("{} at {}", short(&node.id.to_string()), node.addr)
}

fn short_version(version: &VersionText) -> String {
    format!("{} ({})", version.sequence, short(&version.hash))
}

fn short(digits: &str) -> String {
    printable(digits).chars().take(SHORT_DIGITS).collect()
}

fn counted(count: u64, thing: &str) -> String {
    counted_as(count, thing, &format!("{thing}s"))
}

fn counted_as(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// A time in its largest unit that is not too coarse, to the nearest whole number.
fn seconds(seconds: u64) -> String {
    let round = |unit: u64| seconds.saturating_add(unit / 2) / unit;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", round(60)),
        7_200..172_800 => format!("{} h", round(3_600)),
        _ => format!("{} d", round(86_400)),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use comet_routing::NodeId;
    use comet_runtime::dht::LogLine;
    use proptest::prelude::*;

    use super::*;
    use crate::http::api::{LogText, StoredReplica};

    fn node_ref() -> NodeRef {
        NodeRef { id: NodeId::from_bytes([0xab; 32]), addr: "127.0.0.1:7401".parse().unwrap() }
    }

    fn version_text() -> VersionText {
        VersionText { sequence: 42, hash: "0123456789abcdef".repeat(4) }
    }

    fn answer_text() -> AnswerText {
        AnswerText {
            value: Json::Null,
            replica: node_ref(),
            version: version_text(),
            active: true,
            usage: Usage { steps: 120, memory_bytes: 1_234, messages: 1 },
        }
    }

    #[test]
    fn strings_are_quoted_and_escaped_and_say_who_answered() {
        let text = answer(&Value::str("a \"b\"\n\x1b[31m é"), &answer_text(), Look::Terminal);
        assert_eq!(
            text,
            "\"a \\\"b\\\"\\n\\x1b[31m é\"\n\
             from abababab at 127.0.0.1:7401, 120 steps, 1.2 KiB, 1 message\n"
        );
        assert_eq!(
            value(&Value::Str(Bytes::from_static(b"\xff\x00a\xe2\x80\xae"))),
            "\"\\xff\\x00a\\u{202e}\"\n"
        );
    }

    #[test]
    fn colours_dim_what_matters_less() {
        let passive = AnswerText { active: false, ..answer_text() };
        let text = answer(&Value::Nil, &passive, Look::Colour);
        assert_eq!(text, "(nil)\n\x1b[2mfrom abababab at 127.0.0.1:7401\x1b[0m\n");
    }

    #[test]
    fn lists_and_maps_are_numbered_and_indented() {
        let nested = Value::List(vec![
            Value::List(vec![Value::Int(1), Value::Float(2.0)]),
            Value::map([(Value::str("k"), Value::List(vec![Value::Bool(true), Value::Nil]))]),
            Value::List(Vec::new()),
        ]);
        assert_eq!(
            value(&nested),
            "1) 1) (integer) 1\n\
             \x20  2) (double) 2.0\n\
             2) 1# \"k\" => 1) (true)\n\
             \x20            2) (nil)\n\
             3) (empty list)\n"
        );
    }

    #[test]
    fn numbers_line_up_beyond_nine() {
        let text = value(&Value::List(vec![Value::Nil; 10]));
        assert!(text.starts_with(" 1) (nil)\n 2) (nil)\n") && text.ends_with("\n10) (nil)\n"), "{text}");
    }

    #[test]
    fn several_answers_each_say_who_gave_them() {
        let failed = vec![FailedReplica {
            replica: node_ref(),
            code: "timeout".into(),
            detail: "no answer within 300 ms".into(),
            retryable: true,
        }];
        let reply = GetAllReply { key: "hex:00".into(), answers: vec![answer_text(); 2], failed };
        let values = [Value::str("a"), Value::List(vec![Value::Int(1), Value::Int(2)])];
        assert_eq!(
            answers(&values, &reply, Look::Pipe),
            "1) \"a\"\n\
             \x20  from abababab at 127.0.0.1:7401, 120 steps, 1.2 KiB, 1 message\n\
             2) 1) (integer) 1\n\
             \x20  2) (integer) 2\n\
             \x20  from abababab at 127.0.0.1:7401, 120 steps, 1.2 KiB, 1 message\n\
             abababab at 127.0.0.1:7401 failed: no answer within 300 ms\n"
        );
    }

    #[test]
    fn a_put_tells_how_many_stored_it_and_for_how_long() {
        let stored = StoredReplica { replica: node_ref(), usage: Usage::default() };
        let reply = PutReply {
            key: "hex:00".into(),
            version: version_text(),
            stored: 1,
            wanted: 8,
            quorum: 5,
            replicas: vec![stored],
            failed: Vec::new(),
            ttl_seconds: 86_400,
        };
        let text = "stored on 1 of 8 replicas, kept for 24 h\nquorum 5, version 42 (01234567)\n";
        assert_eq!(put(&reply, Look::Pipe), text);
    }

    #[test]
    fn an_inspection_lists_what_each_replica_holds() {
        let held = ReplicaText {
            replica: node_ref(),
            version: version_text(),
            owner: None,
            handlers: vec!["onGet".into(), "onPut".into()],
            code_hash: Some("fe".repeat(32)),
            age_seconds: 90,
            remaining_seconds: 86_000,
            data_bytes: 12,
            state_bytes: 2_048,
            replicas: 8,
            active: true,
            usage: Usage { steps: 1, memory_bytes: 0, messages: 0 },
        };
        let id = "ab".repeat(32);
        assert_eq!(
            inspect(&InspectReply { key: "hex:00".into(), replicas: vec![held] }, Look::Pipe),
            format!(
                "1) {id} 127.0.0.1:7401\n\
                 \x20  version   42 (01234567)\n\
                 \x20  owner     none\n\
                 \x20  code      fefefefe (running): onGet, onPut\n\
                 \x20  last used 1 step, 0 B, 0 messages\n\
                 \x20  size      12 B of data, 2.0 KiB of state\n\
                 \x20  age       90 s, expires in 24 h\n\
                 \x20  wants     8 replicas\n\
                 held by 1 replica\n"
            )
        );
    }

    #[test]
    fn logs_show_lines_with_their_age_and_whether_a_turn_failed() {
        let line = |age_ms, failure, text: &str| LogLine { age_ms, failure, text: text.into() };
        let lines = vec![line(61_500, true, "onGet: boom\x07"), line(900, false, "hello")];
        let replicas =
            vec![LogText { replica: node_ref(), lines }, LogText { replica: node_ref(), lines: Vec::new() }];
        let id = "ab".repeat(32);
        assert_eq!(
            logs(&LogsReply { key: "hex:00".into(), replicas }, Look::Pipe),
            format!(
                "1) {id} 127.0.0.1:7401\n\
                 \x20  61 s ago  failed: onGet: boom\\u{{7}}\n\
                 \x20  0 s ago  hello\n\
                 2) {id} 127.0.0.1:7401\n\
                 \x20  nothing logged\n"
            )
        );
    }

    proptest! {
        #[test]
        fn no_value_can_smuggle_control_characters_to_a_terminal(bytes: Vec<u8>, text: String) {
            for shown in [value(&Value::Str(bytes.into())), printable(&text) + "\n"] {
                let line = shown.strip_suffix('\n').unwrap_or(&shown);
                prop_assert!(!line.chars().any(|c| c.is_control() || turns_direction(c)), "{line:?}");
            }
        }
    }
}
