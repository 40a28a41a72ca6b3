//! What passes the gate, and what each rule turns away.

use std::net::Ipv4Addr;

use comet_routing::NodeId;
use comet_runtime::dht::LogProof;
use ring::signature::{Ed25519KeyPair, KeyPair};

use comet_runtime::Trail;

use super::*;
use crate::wire;

const NOW_MS: WallMs = 1_700_000_000_000;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

fn gate() -> Gate {
    Gate::new("test", Limits::default(), &ReplicationConfig::default())
}

fn peer() -> Contact {
    Contact::new(NodeId::from_bytes([9; 32]), (Ipv4Addr::LOCALHOST, 7409).into())
}

fn admit(request: Request) -> Result<(Key, Visit), Refusal> {
    match gate().admit(request, peer(), NOW_MS)? {
        Admitted::Visit { key, visit } => Ok((key, visit)),
        admitted => panic!("no visit but {admitted:?}"),
    }
}

fn trail() -> wire::Trail {
    Trail::FRESH.into()
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public_key() -> [u8; 32] {
    pair(1).public_key().as_ref().try_into().unwrap()
}

fn owned_key() -> Key {
    Key::owned(&public_key(), "name")
}

fn object() -> Object {
    Object {
        key: Key::of("k"),
        sequence: NOW_MS * 1_000,
        ownership: None,
        ttl_seconds: 3_600,
        replicas: 8,
        code: None,
        publication: None,
        data: Value::from("hello").encode(),
    }
}

fn sign(key: &Key, sequence: u64, act: Act<'_>) -> Ownership {
    Ownership::sign(&pair(1), Key::salt("name"), &Statement { network: "test", key, sequence, act })
}

fn signed_object() -> Object {
    let object = Object { key: owned_key(), sequence: 5, ..object() };
    let content = content_hash(None, &object.data);
    let act = Act::Put { content: &content, ttl_seconds: 3_600, replicas: 8 };
    Object { ownership: Some(sign(&object.key, 5, act).into()), ..object }
}

fn put(object: Object) -> Result<(Caller, Record), Refusal> {
    match admit(Request::Put { object, trail: trail() })? {
        (key, Visit::Put { caller, record, .. }) => {
            assert_eq!(key, record.key);
            Ok((caller, Arc::unwrap_or_clone(record)))
        }
        (_, visit) => panic!("no put but {visit:?}"),
    }
}

fn delete(
    key: Key,
    sequence: u64,
    ownership: Option<Box<Ownership>>,
) -> Result<(Option<[u8; 32]>, Deletion), Refusal> {
    match admit(Request::Delete { key, sequence, ownership, trail: trail() })? {
        (_, Visit::Delete { caller, deletion, .. }) => Ok((caller.owner, *deletion)),
        (_, visit) => panic!("no deletion but {visit:?}"),
    }
}

fn copy(
    object: Object,
    age_seconds: u64,
    remaining_seconds: u64,
) -> Result<(Caller, Record, Trail), Refusal> {
    let state = Bytes::new();
    match admit(Request::Replicate { object, state, age_seconds, remaining_seconds, trail: trail() })? {
        (_, Visit::Put { caller, record, trail, .. }) => Ok((caller, Arc::unwrap_or_clone(record), trail)),
        (_, visit) => panic!("no put but {visit:?}"),
    }
}

#[test]
fn a_publishers_signature_comes_with_the_code_that_it_is_for_or_not_at_all() {
    let code = "aso.n = 1";
    let sign = |network, source| Box::new(Publication::sign(&pair(7), network, &Code::new(source).hash));
    let published = |source: Option<&str>, publication| {
        put(Object { code: source.map(Into::into), publication: Some(publication), ..object() })
    };
    let publication = sign("test", code);
    let (_, record) = published(Some(code), publication.clone()).unwrap();
    assert_eq!(record.publication, Some(publication.clone()));
    let unsigned = put(Object { code: Some(code.into()), ..object() }).unwrap().1;
    assert_eq!(record.version, unsigned.version, "the version does not tell them apart");

    let object = Object { code: Some(code.into()), publication: Some(publication.clone()), ..object() };
    let (_, copied, _) = copy(object.clone(), 0, 60).unwrap();
    assert_eq!(copied.publication, Some(publication.clone()), "a copy brings it along");
    let forged = Object { publication: Some(sign("test", "aso.n = 2")), ..object };
    let wrong = "the publisher's signature is not for this code on this network";
    for outcome in [
        published(Some(code), sign("other", code)).map(drop),
        published(Some("aso.n = 2"), publication.clone()).map(drop),
        copy(forged, 0, 60).map(drop),
    ] {
        assert_eq!(outcome, Err(Refusal::Invalid(wrong.into())));
    }
    let bare = Refusal::Invalid("a publisher signs code, and the object has none".into());
    assert_eq!(published(None, publication).map(drop), Err(bare));
}

#[test]
fn a_put_becomes_a_record_dated_by_this_nodes_clock() {
    let (caller, record) = put(object()).unwrap();
    let expected = Record {
        key: Key::of("k"),
        ownership: None,
        version: Version { sequence: NOW_MS * 1_000, hash: content_hash(None, &object().data) },
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 3_600_000,
        ttl_seconds: 3_600,
        replicas: 8,
        code: None,
        publication: None,
        data: object().data,
        state: Bytes::new(),
    };
    assert_eq!(record, expected);
    assert_eq!(caller, Caller { node: peer(), callback: None, owner: None, origin: Origin::Client });
}

#[test]
fn a_lifetime_is_granted_within_the_operators_range_and_kept_as_asked() {
    for (asked, granted) in [(1, 60), (3_600, 3_600), (u64::MAX, 30 * 86_400)] {
        let (_, record) = put(Object { ttl_seconds: asked, ..object() }).unwrap();
        assert_eq!((record.ttl_seconds, record.expires_ms), (asked, NOW_MS + granted * 1_000));
    }
}

#[test]
fn an_owners_put_is_believed_and_its_caller_is_the_owner() {
    let (caller, record) = put(signed_object()).unwrap();
    assert_eq!(caller.owner, Some(public_key()));
    assert_eq!((record.version.sequence, record.ownership), (5, signed_object().ownership));
}

#[test]
fn whatever_an_owner_did_not_sign_is_refused() {
    let other = Value::from("other").encode();
    for forged in [
        Object { sequence: 6, ..signed_object() },
        Object { ttl_seconds: 3_601, ..signed_object() },
        Object { replicas: 9, ..signed_object() },
        Object { data: other, ..signed_object() },
        Object { code: Some("aso = {}".into()), ..signed_object() },
        Object { key: Key::owned(&public_key(), "other"), ..signed_object() },
    ] {
        assert!(matches!(put(forged.clone()), Err(Refusal::NotOwner(_))), "{forged:?}");
    }
    let elsewhere = Gate::new("other", Limits::default(), &ReplicationConfig::default());
    let request = Request::Put { object: signed_object(), trail: trail() };
    assert!(matches!(elsewhere.admit(request, peer(), NOW_MS), Err(Refusal::NotOwner(_))), "another network");
}

#[test]
fn a_condition_is_judged_with_the_put_and_only_its_owner_claims_an_owned_key() {
    let version = Version { sequence: 4, hash: [4; 32] };
    for (expected, met) in [(None, Expected::Absent), (Some(version), Expected::Version(version))] {
        let condition = Condition { expected: met, ticket: 9 };
        let put = Request::PutIf { object: signed_object(), expected, ticket: 9, trail: trail() };
        let Ok((_, Visit::Put { condition: Some(of_put), .. })) = admit(put) else { panic!("a put") };
        let claim = Request::Claim { object: signed_object(), expected, ticket: 9 };
        let Ok((_, Visit::Claim { condition: of_claim, version, .. })) = admit(claim) else {
            panic!("a claim")
        };
        assert_eq!((*of_put, *of_claim, version.sequence), (condition, condition, 5));
    }
    let claim = |object| admit(Request::Claim { object, expected: None, ticket: 9 });
    let unsigned = Object { ownership: None, ..signed_object() };
    assert!(matches!(claim(unsigned), Err(Refusal::NotOwner(_))));
    let forged = Object { sequence: 6, ..signed_object() };
    assert!(matches!(claim(forged), Err(Refusal::NotOwner(_))));
    assert!(claim(object()).is_ok(), "the control: nobody owns it");
}

#[test]
fn a_signature_on_a_public_key_is_nonsense() {
    let object = Object { ownership: signed_object().ownership, ..object() };
    assert!(matches!(put(object), Err(Refusal::Invalid(_))));
}

#[test]
fn a_stranger_may_speak_to_an_owned_object_but_not_copy_it_here() {
    let object = Object { key: owned_key(), ..object() };
    assert_eq!(put(object.clone()).unwrap().0.owner, None, "the object's handlers decide");
    assert!(matches!(copy(object, 0, 60), Err(Refusal::NotOwner(_))));
}

#[test]
fn an_unsigned_put_is_dated_no_more_than_a_day_ahead() {
    let latest = (NOW_MS + DAY_MS) * 1_000;
    assert!(put(Object { sequence: latest, ..object() }).is_ok());
    for sequence in [latest + 1, u64::MAX] {
        assert!(matches!(put(Object { sequence, ..object() }), Err(Refusal::Invalid(_))));
    }
}

#[test]
fn what_is_too_large_or_no_value_is_refused() {
    let sized = |bytes| Object { data: Value::str("x".repeat(bytes)).encode(), ..object() };
    assert!(put(sized(65_000)).is_ok());
    assert!(matches!(put(sized(65_536)), Err(Refusal::TooLarge { limit: 65_536, .. })));
    let coded = |bytes| Object { code: Some("x".repeat(bytes).into()), ..object() };
    assert!(put(coded(16_384)).is_ok());
    let limit = Refusal::TooLarge { what: "the code".into(), size: 16_385, limit: 16_384 };
    assert_eq!(put(coded(16_385)).unwrap_err(), limit);
    for broken in [&b""[..], b"\xc1", b"\xc0\xc0"] {
        let object = Object { data: Bytes::from_static(broken), ..object() };
        assert!(matches!(put(object), Err(Refusal::Invalid(_))), "{broken:?}");
    }
    assert!(matches!(put(Object { replicas: 21, ..object() }), Err(Refusal::Invalid(_))));
}

#[test]
fn a_copy_lives_no_longer_than_the_put_it_stems_from() {
    let (caller, record, trail) = copy(object(), 1_000, 600).unwrap();
    assert_eq!(caller.origin, Origin::Replica);
    assert_eq!((record.created_ms, record.expires_ms), (NOW_MS - 1_000_000, NOW_MS + 600_000));
    assert_eq!(trail, self::trail().into(), "what is left of the budget comes with the copy");
    assert_eq!(copy(object(), 0, 1_000_000).unwrap().1.expires_ms, NOW_MS + 3_600_000);
    assert!(matches!(copy(object(), 0, 0), Err(Refusal::Invalid(_))));
    assert!(copy(signed_object(), u64::MAX, u64::MAX).is_ok(), "no time is too large to count with");
}

#[test]
fn no_peer_can_grant_more_than_a_fresh_budget() {
    let generous = || wire::Trail { messages: u8::MAX, bytes: u32::MAX, depth: u8::MAX };
    let frugal = || wire::Trail { messages: 3, bytes: u32::MAX, depth: u8::MAX };
    let requests = |trail: wire::Trail| {
        [
            Request::Get { key: Key::of("k"), payload: None, callback: None, trail },
            Request::Put { object: object(), trail },
            Request::Replicate {
                object: object(),
                state: Bytes::new(),
                age_seconds: 0,
                remaining_seconds: 60,
                trail,
            },
            Request::Delete { key: Key::of("k"), sequence: 1, ownership: None, trail },
        ]
    };
    let left = |request| match admit(request).unwrap().1 {
        Visit::Get { trail, .. } | Visit::Put { trail, .. } | Visit::Delete { trail, .. } => trail,
        visit => panic!("nothing that could cause anything: {visit:?}"),
    };
    assert_eq!(requests(generous()).map(left), [Trail::FRESH; 4]);
    assert_eq!(requests(frugal()).map(left), [Trail { messages: 3, ..Trail::FRESH }; 4]);
}

#[test]
fn a_copys_state_must_be_a_value() {
    let copy = |state| {
        let trail = trail();
        admit(Request::Replicate { object: object(), state, age_seconds: 0, remaining_seconds: 60, trail })
    };
    assert!(copy(Value::List(vec![]).encode()).is_ok());
    assert!(matches!(copy(Bytes::from_static(b"\xc1")), Err(Refusal::Invalid(_))));
}

#[test]
fn a_deletion_is_the_owners_if_it_is_signed() {
    let signature = Box::new(sign(&owned_key(), 7, Act::Delete));
    let signed = |key, sequence| delete(key, sequence, Some(signature.clone()));
    let deletion = Deletion::up_to(7, Some(signature.clone()));
    assert_eq!(signed(owned_key(), 7), Ok((Some(public_key()), deletion)));
    assert!(matches!(signed(owned_key(), 8), Err(Refusal::NotOwner(_))));
    assert!(matches!(signed(Key::of("k"), 7), Err(Refusal::Invalid(_))));
    let unsigned = delete(owned_key(), 7, None);
    assert_eq!(unsigned, Ok((None, Deletion::up_to(7, None))), "the object's handlers decide");
}

#[test]
fn an_unsigned_deletion_is_dated_no_more_than_a_day_ahead() {
    let latest = (NOW_MS + DAY_MS) * 1_000;
    assert_eq!(gate().sequence_max(NOW_MS), latest);
    assert_eq!(delete(Key::of("k"), latest, None), Ok((None, Deletion::up_to(latest, None))));
    let refused = Err(Refusal::Invalid("the request is dated more than a day ahead".into()));
    assert_eq!(delete(Key::of("k"), latest + 1, None), refused);
}

#[test]
fn whatever_an_owner_could_put_he_can_still_delete() {
    let put = |sequence| {
        let content = content_hash(None, &object().data);
        let act = Act::Put { content: &content, ttl_seconds: 3_600, replicas: 8 };
        let ownership = Some(sign(&owned_key(), sequence, act).into());
        put(Object { key: owned_key(), sequence, ownership, ..object() })
    };
    let delete = |sequence| {
        let signature = sign(&owned_key(), sequence, Act::Delete);
        delete(owned_key(), sequence, Some(signature.into())).map(|(_, deletion)| deletion.version.sequence)
    };
    let highest = i64::MAX as u64;
    assert_eq!(put(highest).unwrap().1.version.sequence, highest);
    assert_eq!(delete(highest + 1), Ok(highest + 1));
    let refused = |sequence: u64, max: u64| {
        Refusal::Invalid(format!("the owner signed the sequence number {sequence}, and the highest is {max}"))
    };
    assert_eq!(put(highest + 1).unwrap_err(), refused(highest + 1, highest));
    assert_eq!(delete(u64::MAX), Err(refused(u64::MAX, highest + 1)));
}

#[test]
fn an_owned_objects_log_wants_a_fresh_proof() {
    let now_s = NOW_MS / 1_000;
    let logs = |key: Key, signed_s: Option<u64>| {
        let proof = signed_s
            .map(|sequence| LogProof { ownership: sign(&owned_key(), sequence, Act::ReadLog), sequence });
        admit(Request::Logs { key, proof }).map(|_| ())
    };
    for fresh in [now_s - 300, now_s, now_s + 300] {
        assert_eq!(logs(owned_key(), Some(fresh)), Ok(()));
    }
    for stale in [now_s - 301, now_s + 301, 0, u64::MAX] {
        assert!(matches!(logs(owned_key(), Some(stale)), Err(Refusal::NotOwner(_))), "{stale}");
    }
    assert!(matches!(logs(owned_key(), None), Err(Refusal::NotOwner(_))));
    assert_eq!(logs(Key::of("k"), None), Ok(()));
    let ownership = sign(&owned_key(), now_s, Act::Delete);
    let proof = Some(LogProof { ownership, sequence: now_s });
    let request = Request::Logs { key: owned_key(), proof };
    assert!(matches!(admit(request), Err(Refusal::NotOwner(_))), "a deletion is no proof");
}

#[test]
fn a_get_brings_its_payload_and_callback() {
    let get = |payload| {
        let callback = Some(Key::of("me"));
        admit(Request::Get { key: Key::of("k"), payload, callback, trail: trail() })
    };
    match get(Some(Value::Int(3).encode())).unwrap().1 {
        Visit::Get { caller, payload, trail } => {
            assert_eq!(caller.callback, Some(Key::of("me")));
            assert_eq!((payload, trail), (Some(Value::Int(3)), Trail::FRESH));
        }
        visit => panic!("no get but {visit:?}"),
    }
    assert!(matches!(get(Some(Bytes::from_static(b"\xc1"))), Err(Refusal::Invalid(_))));
}
