//! Gets of owned keys, through a coordinator, while replicas lie.

use comet_runtime::{
    Value,
    dht::{Get, Read},
};
use comet_store::{Act, Code, Ownership, Seal, SealedObject, Statement, content_hash, data_hash};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::actors::GetObject;

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

fn owned_key() -> Key {
    Key::owned(pair().public_key().as_ref().try_into().unwrap(), "name")
}

/// What the owner has put, and a replica answers with.
fn signed(value: i64, code: Option<&Code>) -> Reply {
    let value = Value::Int(value).encode();
    let hash = content_hash(code.map(|code| &code.hash), &value);
    let (key, act) = (owned_key(), Act::Put { content: &hash, ttl_seconds: 60, replicas: 8 });
    let statement = Statement { network: "test", key: &key, sequence: 5, act };
    let ownership = Ownership::sign(&pair(), Key::salt("name"), &statement);
    let active = code.map(|code| SealedObject { code: code.hash, data: data_hash(&value) });
    let seal = Some(Box::new(Seal { ownership, ttl_seconds: 60, replicas: 8, active }));
    let version = Version { sequence: 5, hash };
    Reply::Got { value, version, active: code.is_some(), usage: Usage::default(), seal }
}

/// The answer, with something else in it than the owner has put.
fn forged(answer: Reply, claimed_active: bool, with_seal: bool) -> Reply {
    let Reply::Got { version, usage, seal, .. } = answer else { panic!("{answer:?}") };
    let (value, seal) = (Value::Int(666).encode(), seal.filter(|_| with_seal));
    Reply::Got { value, version, active: claimed_active, usage, seal }
}

async fn get(key: Key, replicas: [Reply; 2]) -> Result<Value, Refusal> {
    let [nearest, next] = replicas.map(Ok);
    let station = Station::start(node(0), [answering(1, nearest), answering(2, next)], |_| {});
    station.role.set(crate::operation::Role::Client);
    let get = Get { key, payload: None, read: Read::First, deadline: None };
    let report = station.coordinator.send(GetObject(get)).await.unwrap()?;
    Ok(report.answers[0].value.clone())
}

#[test]
fn a_replica_that_shows_what_the_owner_has_not_signed_is_passed_over() {
    paused(async {
        for (claimed_active, with_seal) in [(false, true), (false, false), (true, true), (true, false)] {
            let lie = || forged(signed(7, None), claimed_active, with_seal);
            let got = get(owned_key(), [lie(), signed(7, None)]).await;
            assert_eq!(got, Ok(Value::Int(7)), "{claimed_active} {with_seal}");
            let unowned = get(key(), [lie(), signed(7, None)]).await;
            assert_eq!(unowned, Ok(Value::Int(666)), "the control: of what nobody owns one replica can lie");
            let alone = get(owned_key(), [lie(), lie()]).await;
            assert!(matches!(alone, Err(Refusal::Corrupt(_))), "{alone:?}");
        }
    });
}

#[test]
fn handlers_may_reply_as_they_like_where_the_owner_has_put_handlers() {
    paused(async {
        let code = Code::new("aso = {}");
        let reply = forged(signed(7, Some(&code)), true, true);
        assert_eq!(get(owned_key(), [reply.clone(), reply]).await, Ok(Value::Int(666)));
    });
}
