use std::time::Duration;

use bytes::Bytes;
use comet_runtime::{
    Value,
    dht::{Expected, Put},
};
use proptest::prelude::*;

use super::*;
use crate::resp::request::{Intake, RequestLimits};

fn rules() -> Rules {
    Rules { limits: Limits::default(), ttl_seconds_max: 1_000 }
}

fn words(words: &[&[u8]]) -> Words {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend([format!("${}\r\n", word.len()).as_bytes(), word, b"\r\n"].concat());
    }
    let mut intake = Intake::default();
    intake.buffer().extend_from_slice(&bytes);
    intake.next(RequestLimits::CLIENT).expect("the words are a request").expect("and a whole one")
}

fn read(line: &str) -> Result<Command, String> {
    let line: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    parse(&words(&line), &rules()).map_err(|error| error.to_string())
}

fn ask(line: &str) -> Ask {
    match read(line) {
        Ok(Command::Ask(ask)) => ask,
        other => panic!("{line}: {other:?}"),
    }
}

fn put(line: &str) -> Put {
    match ask(line) {
        Ask::Put(put) => *put,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn names_of_commands_are_read_in_any_case() {
    assert_eq!(ask("gEt a"), Ask::Get(Key::of("a")));
    assert_eq!(read("PiNG"), Ok(Command::Ping(None)));
}

#[test]
fn keys_are_names_or_digits_as_everywhere() {
    let key = Key::of("a");
    assert_eq!(ask(&format!("GET hex:{key}")), Ask::Get(key));
    assert_eq!(ask("EXISTS a b"), Ask::Exists(vec![key, Key::of("b")]));
    assert_eq!(
        read("GET hex:1"),
        Err("ERR after hex: come 64 hexadecimal digits, and \"1\" is not that".into())
    );
    let bytes = parse(&words(&[b"GET", b"\xff"]), &rules());
    assert_eq!(bytes, Err(CommandError::KeyText));
}

#[test]
fn a_value_is_kept_as_the_bytes_that_came_for_as_long_as_it_may_be() {
    let Ok(Command::Ask(Ask::Put(put))) = parse(&words(&[b"SET", b"a", b"\xff\r\n\0"]), &rules()) else {
        panic!("a put");
    };
    assert_eq!(put.data, Value::Str(Bytes::from_static(b"\xff\r\n\0")).encode());
    assert_eq!((put.ttl, put.code, put.replicas), (Some(Duration::from_secs(1_000)), None, None));
}

#[test]
fn lifetimes_are_in_seconds_or_milliseconds_and_round_up() {
    let ttl = |line| put(line).ttl.map(|ttl| ttl.as_secs());
    assert_eq!(ttl("SET a b EX 90"), Some(90));
    assert_eq!(ttl("SET a b px 90001"), Some(91));
    assert_eq!(ttl("COMET.PUT a b CODE x"), None);
    assert_eq!(ttl("COMET.PUT a b CODE x TTL 60"), Some(60));
}

#[test]
fn a_value_can_be_set_only_where_nothing_is() {
    assert_eq!(put("SET a b").expected, Expected::Any);
    let put = put("SET a b nx EX 90");
    assert_eq!((put.expected, put.ttl), (Expected::Absent, Some(Duration::from_secs(90))));
}

#[test]
fn a_put_brings_code_and_replicas() {
    let put = put("comet.put a b replicas 3 code aso={}");
    assert_eq!(put.code.map(|code| code.source.to_string()), Some("aso={}".to_owned()));
    assert_eq!(put.replicas, Some(3));
}

#[test]
fn of_several_values_for_one_key_the_last_stays() {
    let Ask::PutMany(puts) = ask("MSET a 1 b 2 a 3") else { panic!("several puts") };
    let mut found: Vec<_> = puts.iter().map(|put| (put.key, put.data.clone())).collect();
    found.sort_by_key(|(key, _)| *key);
    let mut expected =
        vec![(Key::of("a"), Value::str("3").encode()), (Key::of("b"), Value::str("2").encode())];
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(found, expected);
}

#[test]
fn a_payload_is_json() {
    let payload = Some(Box::new(Value::map([("n".into(), 1.into())])));
    assert_eq!(ask(r#"COMET.GET a PAYLOAD {"n":1}"#), Ask::Perform(Key::of("a"), payload));
    assert_eq!(ask("COMET.GET a"), Ask::Perform(Key::of("a"), None));
    assert!(
        read("COMET.GET a PAYLOAD {")
            .is_err_and(|error| error.starts_with("ERR the payload is not usable JSON"))
    );
}

#[test]
fn hello_names_the_protocol_the_token_and_the_connection() {
    let hello = |protocol, token: Option<&'static str>, name: Option<&'static str>| {
        let [token, name] = [token, name].map(|text| text.map(Bytes::from));
        Ok(Command::Hello(Hello { protocol, token, name }))
    };
    assert_eq!(read("HELLO"), hello(None, None, None));
    assert_eq!(read("HELLO 2"), hello(Some(Protocol::Resp2), None, None));
    let whole = "HELLO 3 SETNAME me AUTH default secret";
    assert_eq!(read(whole), hello(Some(Protocol::Resp3), Some("secret"), Some("me")));
    assert_eq!(read("HELLO 3 AUTH bob secret"), hello(Some(Protocol::Resp3), Some(""), None));
}

#[test]
fn what_redis_refuses_is_refused_with_its_words() {
    for (line, error) in [
        ("FLUSHALL now", "ERR unknown command 'FLUSHALL', with args beginning with: 'now' "),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("MSET a", "ERR wrong number of arguments for 'mset' command"),
        ("MSET a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("PING a b", "ERR wrong number of arguments for 'ping' command"),
        ("SET a b EX", "ERR syntax error"),
        ("SET a b EX 1 PX 1", "ERR syntax error"),
        ("SET a b KEEPTTL", "ERR syntax error"),
        ("SET a b EX soon", "ERR value is not an integer or out of range"),
        ("SET a b EX 0", "ERR invalid expire time in 'set' command"),
        ("SET a b EX -1", "ERR invalid expire time in 'set' command"),
        ("COMET.PUT a b TTL 0", "ERR invalid expire time in 'comet.put' command"),
        ("COMET.PUT a b REPLICAS 21", "ERR value is not an integer or out of range"),
        ("COMET.GET a b", "ERR syntax error"),
        ("SELECT 1", "ERR DB index is out of range"),
        ("SELECT one", "ERR value is not an integer or out of range"),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO three", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 AUTH default", "ERR syntax error"),
        ("CLIENT KILL", "ERR unknown subcommand 'KILL'. Try CLIENT HELP."),
        ("CLIENT ID 1", "ERR wrong number of arguments for 'client|id' command"),
        ("COMMAND WHAT", "ERR unknown subcommand 'WHAT'. Try COMMAND HELP."),
    ] {
        assert_eq!(read(line), Err(error.to_owned()), "{line}");
    }
}

#[test]
fn what_is_larger_than_its_limit_is_named_and_the_limit_itself_is_not() {
    let limit = Limits::default().value_bytes;
    let set = |size: usize| parse(&words(&[b"SET", b"a", &vec![b'x'; size]]), &rules());
    assert!(set(limit - 8).is_ok());
    let error = set(limit + 1).expect_err("too large").to_string();
    assert_eq!(error, format!("TOO_LARGE the value has {} bytes and the limit is {limit}", limit + 1));
}

#[test]
fn command_and_its_count_come_from_the_table() {
    assert_eq!(Question::Count.answer(), Reply::Int(TABLE.len() as i64));
    let Reply::List(all) = Question::All.answer() else { panic!("a list") };
    assert_eq!(all.len(), TABLE.len());
    let some = Question::Some(vec!["get".into(), "flushall".into()]).answer();
    let Reply::List(some) = some else { panic!("a list") };
    assert!(matches!(&some[..], [Reply::List(fields), Reply::Null] if fields.len() == 10));
    let Reply::Map(docs) = Question::Docs(vec!["get".into()]).answer() else { panic!("a map") };
    assert_eq!(docs.len(), 1);
}

#[test]
fn every_name_in_the_table_is_there_once_in_lower_case() {
    let names: std::collections::BTreeSet<_> = TABLE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), TABLE.len());
    assert!(names.iter().all(|name| *name == name.to_ascii_lowercase()));
}

proptest! {
    #[test]
    fn arbitrary_arguments_of_any_command_make_sense_or_an_error_of_one_kind(
        command in prop::sample::select(TABLE.iter().map(|entry| entry.name).collect::<Vec<_>>()),
        arguments in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                prop::sample::select(vec!["EX", "PX", "NX", "CODE", "TTL", "REPLICAS", "PAYLOAD", "AUTH", "1", "-1", "{}"])
                    .prop_map(|word| word.as_bytes().to_vec()),
            ],
            0..8,
        ),
    ) {
        let mut line = vec![command.as_bytes()];
        line.extend(arguments.iter().map(Vec::as_slice));
        if let Err(error) = parse(&words(&line), &rules()) {
            let error = error.to_string();
            let code = error.split(' ').next().unwrap_or_default();
            prop_assert!(["ERR", "NOPROTO", "TOO_LARGE", "BAD_CODE"].contains(&code), "{}", error);
        }
    }
}
