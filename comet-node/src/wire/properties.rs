//! What holds for all messages: round trips, bounds, clamps, and tolerance of what later versions may add.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    REPLICAS_MAX, Refusal,
    dht::{LogLine, Usage},
};
use comet_store::{Ownership, Publication, Version};
use proptest::prelude::*;
use serde::Serialize;

use super::*;

const TRAIL: Trail = Trail { messages: 16, bytes: 131_072, depth: 4 };

/// The frame `{name: fields}`, for messages that no encoder of ours would write.
fn frame(name: &str, fields: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec_named(&std::collections::BTreeMap::from([(name, fields)])).expect("a small message")
}

#[derive(Clone, Serialize)]
struct Find {
    #[serde(with = "serde_bytes")]
    t: Vec<u8>,
    n: u64,
}

const FIND: Find = Find { t: Vec::new(), n: 20 };

fn malformed(outcome: Result<Request, DecodeError>) -> String {
    match outcome {
        Err(DecodeError::Malformed(reason)) => reason,
        other => panic!("expected a malformed message, got {other:?}"),
    }
}

fn largest_object() -> Object {
    Object {
        key: Key::of("large"),
        sequence: u64::MAX,
        ownership: Some(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] }.into()),
        ttl_seconds: TTL_MAX.as_secs(),
        replicas: REPLICAS_MAX,
        code: Some(Arc::from("-".repeat(CODE_BYTES_MAX))),
        publication: Some(Publication { public_key: [4; 32], signature: [5; 64] }.into()),
        data: vec![0; VALUE_BYTES_MAX].into(),
    }
}

#[test]
fn an_unknown_request_is_unsupported_and_not_malformed() {
    #[derive(Serialize)]
    struct Watch {
        k: u8,
    }
    let watch = Request::decode(&frame("watch", &Watch { k: 1 }));
    assert_eq!(watch, Err(DecodeError::Unsupported("watch".to_owned())));
    assert_eq!(watch.map_err(Refusal::from), Err(Refusal::Unsupported));
}

#[test]
fn an_unknown_field_is_ignored_wherever_it_stands() {
    #[derive(Serialize)]
    struct Later {
        later: Vec<Option<f64>>,
        #[serde(flatten)]
        find: Find,
        also: bool,
    }
    let find = Find { t: vec![0x11; 32], ..FIND };
    let with_more = frame("find", &Later { later: vec![None, Some(0.5)], find, also: true });
    let expected = Request::FindNode { target: Key::from_bytes([0x11; 32]), count: 20 };
    assert_eq!(Request::decode(&with_more), Ok(expected));
    assert_eq!(
        Request::decode(&frame("ping", &Later { later: vec![], find: FIND, also: false })),
        Ok(Request::Ping)
    );
}

#[test]
fn a_missing_field_is_malformed_and_named() {
    #[derive(Serialize)]
    struct Partial {
        n: u8,
    }
    assert!(malformed(Request::decode(&frame("find", &Partial { n: 20 }))).contains("`t`"));
}

#[test]
fn a_key_is_exactly_32_bytes_of_the_binary_type() {
    for length in [0, 31, 33] {
        let reason = malformed(Request::decode(&frame("find", &Find { t: vec![0; length], ..FIND })));
        assert!(reason.contains("invalid length"), "{reason}");
    }
    #[derive(Serialize)]
    struct FindByList {
        t: Vec<u8>,
        n: u8,
    }
    let reason = malformed(Request::decode(&frame("find", &FindByList { t: vec![0; 32], n: 20 })));
    assert!(reason.contains("invalid type: sequence"), "{reason}");
}

#[test]
fn a_field_that_comes_twice_is_malformed() {
    let twice = [b"\x81\xa4find\x83\xa1n\x01\xa1n\x02\xa1t\xc4\x20".to_vec(), vec![0; 32]].concat();
    assert!(malformed(Request::decode(&twice)).contains("duplicate field"));
}

#[test]
fn numbers_of_contacts_and_times_are_clamped_where_they_are_read() {
    let find = Find { t: vec![0; 32], n: u64::MAX };
    let expected = Request::FindNode { target: Key::from_bytes([0; 32]), count: CONTACTS_MAX as u8 };
    assert_eq!(Request::decode(&frame("find", &find)), Ok(expected));

    let object = |ttl_seconds| Object { ttl_seconds, ..largest_object() };
    let copy = |ttl_seconds, age_seconds, remaining_seconds| {
        let object = object(ttl_seconds);
        Request::Replicate { object, state: Bytes::new(), age_seconds, remaining_seconds, trail: TRAIL }
    };
    let day_30 = 30 * 86_400;
    let decoded = Request::decode(&copy(u64::MAX, u64::MAX, u64::MAX).encode());
    assert_eq!(decoded, Ok(copy(day_30, AGE_MAX.as_secs(), day_30)));
    assert_eq!(Request::decode(&copy(0, 0, 0).encode()), Ok(copy(1, 0, 0)));

    let line = |age_ms| LogLine { age_ms, failure: false, text: String::new() };
    let log = encode_answer(&Ok(Reply::Log { lines: vec![line(u64::MAX)] }));
    let lines = vec![line(AGE_MAX.as_millis() as u64)];
    assert_eq!(decode_answer(&log), Ok(Ok(Reply::Log { lines })));
}

#[test]
fn a_negative_or_fractional_time_is_malformed() {
    #[derive(Serialize)]
    struct AnyFind<N> {
        #[serde(with = "serde_bytes")]
        t: Vec<u8>,
        n: N,
    }
    malformed(Request::decode(&frame("find", &AnyFind { t: vec![0; 32], n: -1 })));
    malformed(Request::decode(&frame("find", &AnyFind { t: vec![0; 32], n: f64::NAN })));
    malformed(Request::decode(&frame("find", &AnyFind { t: vec![0; 32], n: 1.5 })));
}

#[test]
fn what_exceeds_its_own_limit_is_malformed_though_the_frame_is_not_too_large() {
    let put = |object| Request::decode(&Request::Put { object, trail: TRAIL }.encode());
    let largest = largest_object();
    assert_eq!(put(largest.clone()), Ok(Request::Put { object: largest.clone(), trail: TRAIL }));
    malformed(put(Object { data: vec![0; VALUE_BYTES_MAX + 1].into(), ..largest.clone() }));
    malformed(put(Object { code: Some(Arc::from("-".repeat(CODE_BYTES_MAX + 1))), ..largest.clone() }));
    malformed(put(Object { replicas: REPLICAS_MAX + 1, ..largest }));
}

#[test]
fn the_largest_replica_fits_a_frame() {
    let request = Request::Replicate {
        object: largest_object(),
        state: vec![0; STATE_BYTES_MAX].into(),
        age_seconds: AGE_MAX.as_secs(),
        remaining_seconds: TTL_MAX.as_secs(),
        trail: TRAIL,
    };
    assert_eq!(Request::decode(&request.encode()), Ok(request));
}

#[test]
fn the_fullest_log_and_node_list_fit_a_frame_and_fuller_ones_are_cut() {
    let line = LogLine { age_ms: 1, failure: true, text: "é".repeat(TEXT_BYTES_MAX) };
    let log = encode_answer(&Ok(Reply::Log { lines: vec![line; LOG_LINES_MAX + 1] }));
    let Ok(Ok(Reply::Log { lines })) = decode_answer(&log) else { panic!("not a log") };
    assert_eq!(lines.len(), LOG_LINES_MAX);
    assert_eq!(lines[0].text.len(), TEXT_BYTES_MAX);

    let contact = Contact::new(NodeId::from_bytes([1; 32]), "[2001:db8::1]:1".parse().expect("an address"));
    let nodes = encode_answer(&Ok(Reply::Nodes { contacts: vec![contact; CONTACTS_MAX + 1] }));
    let contacts = vec![contact; CONTACTS_MAX];
    assert_eq!(decode_answer(&nodes), Ok(Ok(Reply::Nodes { contacts })));
}

#[test]
fn a_node_list_or_a_text_beyond_its_limit_is_malformed() {
    #[derive(Serialize)]
    struct Nodes {
        c: Vec<serde_bytes::ByteBuf>,
    }
    let nodes = |count| {
        decode_answer(&frame("nodes", &Nodes { c: vec![serde_bytes::ByteBuf::from([0; 38]); count] }))
    };
    assert!(matches!(nodes(CONTACTS_MAX), Ok(Ok(Reply::Nodes { .. }))));
    assert!(matches!(nodes(CONTACTS_MAX + 1), Err(DecodeError::Malformed(_))));

    #[derive(Serialize)]
    struct Log {
        l: Vec<Line>,
    }
    #[derive(Serialize)]
    struct Line {
        age: u8,
        f: bool,
        t: String,
    }
    let log = |bytes| {
        decode_answer(&frame("log", &Log { l: vec![Line { age: 0, f: false, t: "x".repeat(bytes) }] }))
    };
    assert!(matches!(log(TEXT_BYTES_MAX), Ok(Ok(Reply::Log { .. }))));
    assert!(matches!(log(TEXT_BYTES_MAX + 1), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_refusal_of_an_unknown_kind_is_still_a_refusal() {
    let newer = frame("error", &std::collections::BTreeMap::from([("on_holiday", 3)]));
    let Ok(Err(Refusal::Refused(reason))) = decode_answer(&newer) else { panic!("not a refusal") };
    assert!(reason.contains("on_holiday"));
}

#[test]
fn an_answer_that_is_too_large_becomes_a_refusal() {
    let value = vec![0; FRAME_BYTES_MAX].into();
    let version = Version { sequence: 0, hash: [0; 32] };
    let usage = Usage::default();
    let frame = encode_answer(&Ok(Reply::Got { value, version, active: false, usage, seal: None }));
    assert!(matches!(decode_answer(&frame), Ok(Err(Refusal::TooLarge { .. }))));
}

#[test]
fn an_ipv4_address_has_one_form() {
    let pong = |you: &str| encode_answer(&Ok(Reply::Pong { you: you.parse().expect("an address") }));
    assert_eq!(pong("[::ffff:192.0.2.1]:80"), pong("192.0.2.1:80"));
    assert_ne!(pong("[::ffff:192.0.2.1]:80"), pong("[2001:db8::1]:80"));
}

fn keys() -> impl Strategy<Value = Key> {
    any::<[u8; 32]>().prop_map(Key::from_bytes)
}

fn payloads() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn contacts() -> impl Strategy<Value = Contact> {
    (any::<[u8; 32]>(), any::<std::net::Ipv6Addr>(), any::<std::net::Ipv4Addr>(), any::<bool>(), any::<u16>())
        .prop_map(|(id, v6, v4, is_v4, port)| {
            let ip = if is_v4 { v4.into() } else { std::net::IpAddr::from(v6).to_canonical() };
            Contact::new(NodeId::from_bytes(id), SocketAddr::new(ip, port))
        })
}

fn ownerships() -> impl Strategy<Value = Ownership> {
    (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(public_key, salt, byte)| Ownership {
        public_key,
        salt,
        signature: [byte; 64],
    })
}

prop_compose! {
    fn objects()(
        key in keys(),
        sequence: u64,
        ownership in prop::option::of(ownerships().prop_map(Box::new)),
        ttl_seconds in 1..=TTL_MAX.as_secs(),
        replicas in 0..=REPLICAS_MAX,
        code in prop::option::of(".{0,80}"),
        publisher in prop::option::of((any::<[u8; 32]>(), any::<u8>())),
        data in payloads(),
    ) -> Object {
        let publication =
            publisher.map(|(public_key, byte)| Publication { public_key, signature: [byte; 64] }.into());
        let code = code.map(Arc::from);
        Object { key, sequence, ownership, ttl_seconds, replicas, code, publication, data }
    }
}

fn versions() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<[u8; 32]>()).prop_map(|(sequence, hash)| Version { sequence, hash })
}

fn requests() -> impl Strategy<Value = Request> {
    let trails = || {
        (any::<u8>(), any::<u32>(), any::<u8>()).prop_map(|(messages, bytes, depth)| Trail {
            messages,
            bytes,
            depth,
        })
    };
    prop_oneof![
        (keys(), 0..=20_u8).prop_map(|(target, count)| Request::FindNode { target, count }),
        (keys(), prop::option::of(payloads()), prop::option::of(keys()), trails())
            .prop_map(|(key, payload, callback, trail)| Request::Get { key, payload, callback, trail }),
        (objects(), trails()).prop_map(|(object, trail)| Request::Put { object, trail }),
        (objects(), prop::option::of(versions()), any::<u64>(), trails())
            .prop_map(|(object, expected, ticket, trail)| Request::PutIf { object, expected, ticket, trail }),
        (objects(), prop::option::of(versions()), any::<u64>())
            .prop_map(|(object, expected, ticket)| Request::Claim { object, expected, ticket }),
        (objects(), payloads(), 0..=AGE_MAX.as_secs(), 0..=TTL_MAX.as_secs(), trails()).prop_map(
            |(object, state, age_seconds, remaining_seconds, trail)| Request::Replicate {
                object,
                state,
                age_seconds,
                remaining_seconds,
                trail,
            }
        ),
        (keys(), any::<u64>(), prop::option::of(ownerships().prop_map(Box::new)), trails()).prop_map(
            |(key, sequence, ownership, trail)| Request::Delete { key, sequence, ownership, trail }
        ),
    ]
}

proptest! {
    #[test]
    fn every_request_survives_the_wire(request in requests()) {
        prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn every_node_list_survives_the_wire(contacts in prop::collection::vec(contacts(), 0..=CONTACTS_MAX)) {
        let answer = Ok(Reply::Nodes { contacts });
        prop_assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Request::decode(&bytes);
        let _ = decode_answer(&bytes);
    }

    #[test]
    fn arbitrary_fields_never_panic(
        name in prop::sample::select(vec![
            "ping", "find", "get", "put", "putif", "claim", "unclaim", "copy", "delete", "inspect", "logs",
            "pong", "nodes", "got", "stored", "deleted", "held", "log", "error",
        ]),
        fields in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let frame = [&[0x81, 0xa0 | name.len() as u8][..], name.as_bytes(), &fields[..]].concat();
        let _ = Request::decode(&frame);
        let _ = decode_answer(&frame);
    }
}
