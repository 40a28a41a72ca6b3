//! Carrying out what is asked of the swarm and of the node.

use std::rc::Rc;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Delete, Get, Inspection, Put},
};
use futures_util::{StreamExt, stream};

use super::{Front, command::Ask, info, pipeline::Done, reply::Reply, subscriber};
use crate::{
    http::Backend,
    key_text::hex,
    several::{KEYS_AT_ONCE, first_of, first_value},
};

/// Does what is asked, and answers it.
///
/// A pipeline moves what it runs a few times, so that all is boxed which takes more than a few words.
pub(super) async fn perform<B: Backend>(front: Rc<Front<B>>, ask: Ask) -> Done {
    let backend = &front.backend;
    let done = match ask {
        Ask::Answered(reply) => Ok(reply),
        Ask::WrongToken => {
            Box::pin(front.secret.hold_up()).await;
            Ok(Reply::error("WRONGPASS invalid username-password pair or user is disabled."))
        }
        Ask::Get(key) => {
            replied(Box::pin(backend.get(first_of(key))).await.map(first_value), Reply::of_plain)
        }
        Ask::Perform(key, payload) => {
            let get = Get { payload: payload.map(|payload| *payload), ..first_of(key) };
            replied(Box::pin(backend.get(get)).await.map(first_value), Reply::of_value)
        }
        Ask::GetMany(keys) => Box::pin(get_many(backend, &keys)).await,
        Ask::Gets(keys) => return Done::Several(Box::pin(gets(backend, &keys)).await),
        Ask::Put(put) => match Box::pin(backend.put(*put)).await {
            // What was to be set only where nothing is was not set.
            Err(Refusal::Conflict { .. }) => Ok(Reply::Null),
            stored => stored.map(|_| Reply::OK),
        },
        Ask::PutMany(puts) => Box::pin(put_many(backend, puts)).await,
        Ask::Delete(keys) => Box::pin(delete(backend, keys)).await,
        Ask::Exists(keys) => Box::pin(exists(backend, keys)).await,
        Ask::Ttl(key, unit_ms) => Box::pin(ttl(backend, key, unit_ms)).await,
        Ask::Inspect(key) => {
            let replicas = Box::pin(backend.inspect(key)).await;
            replicas.map(|replicas| Reply::List(replicas.iter().map(inspected).collect()))
        }
        Ask::Publish(key, message) => Ok(Box::pin(subscriber::publish(&front, key, message)).await),
        Ask::Info(sections) => Ok(Box::pin(info::reply(&front, &sections)).await),
    };
    Done::One(done.unwrap_or_else(|refusal| Reply::refusal(&refusal)))
}

/// Ends with the first refusal.
async fn get_many<B: Backend>(backend: &B, keys: &[Key]) -> Result<Reply, Refusal> {
    let mut replies = Vec::with_capacity(keys.len());
    for keys in keys.chunks(KEYS_AT_ONCE) {
        for value in backend.values(keys).await {
            replies.push(replied(value, Reply::of_plain)?);
        }
    }
    Ok(Reply::List(replies))
}

async fn gets<B: Backend>(backend: &B, keys: &[Key]) -> Vec<Reply> {
    let values = backend.values(keys).await.into_iter();
    let reply = |value| replied(value, Reply::of_plain).unwrap_or_else(|refusal| Reply::refusal(&refusal));
    values.map(reply).collect()
}

/// A value as it is answered; nil if there is no such object.
fn replied(value: Result<Value, Refusal>, of: fn(&Value) -> Reply) -> Result<Reply, Refusal> {
    match value {
        Err(Refusal::NotFound) => Ok(of(&Value::Nil)),
        value => value.map(|value| of(&value)),
    }
}

/// Puts all, and answers the first refusal if there is one: what was not refused is stored.
async fn put_many<B: Backend>(backend: &B, puts: Vec<Put>) -> Result<Reply, Refusal> {
    let mut reports = stream::iter(puts).map(|put| backend.put(put)).buffered(KEYS_AT_ONCE);
    let mut refused = None;
    while let Some(report) = reports.next().await {
        if let Err(refusal) = report {
            refused.get_or_insert(refusal);
        }
    }
    refused.map_or(Ok(Reply::OK), Err)
}

/// Deletes all, and says how many there were, or what the first refusal was.
async fn delete<B: Backend>(backend: &B, mut keys: Vec<Key>) -> Result<Reply, Refusal> {
    keys.sort_unstable();
    keys.dedup();
    let delete = |key| backend.delete(Delete { key, owner: None, deadline: None });
    let mut reports = stream::iter(keys).map(delete).buffered(KEYS_AT_ONCE);
    let (mut deleted, mut refused) = (0_i64, None);
    while let Some(report) = reports.next().await {
        match report {
            Ok(_) => deleted = deleted.saturating_add(1),
            Err(Refusal::NotFound) => {}
            Err(refusal) => drop(refused.get_or_insert(refusal)),
        }
    }
    refused.map_or(Ok(Reply::Int(deleted)), Err)
}

/// Counts those that exist. No handler is asked, so that what can be read once is not used up.
async fn exists<B: Backend>(backend: &B, keys: Vec<Key>) -> Result<Reply, Refusal> {
    let mut found = stream::iter(keys).map(|key| held(backend, key)).buffered(KEYS_AT_ONCE);
    let mut count = 0_i64;
    while let Some(held) = found.next().await {
        if held?.is_some() {
            count = count.saturating_add(1);
        }
    }
    Ok(Reply::Int(count))
}

async fn ttl<B: Backend>(backend: &B, key: Key, unit_ms: u64) -> Result<Reply, Refusal> {
    let units = |held: Inspection| {
        let units = held.remaining_seconds.saturating_mul(1_000).checked_div(unit_ms).unwrap_or(0);
        i64::try_from(units).unwrap_or(i64::MAX)
    };
    // Every object expires, so there is no -1.
    Ok(Reply::Int(held(backend, key).await?.map_or(-2, units)))
}

/// What the nearest of the replicas that are up to date holds.
async fn held<B: Backend>(backend: &B, key: Key) -> Result<Option<Inspection>, Refusal> {
    match backend.inspect(key).await {
        Ok(replicas) => {
            let newest = replicas.iter().map(|replica| replica.version).max();
            Ok(replicas.into_iter().find(|replica| Some(replica.version) == newest))
        }
        Err(Refusal::NotFound) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn inspected(held: &Inspection) -> Reply {
    let number = |number: u64| Reply::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let handlers = held.handlers.iter().map(Reply::text).collect();
    let fields = [
        ("replica", Reply::text(format!("{}@{}", held.replica.id, held.replica.addr))),
        ("sequence", number(held.version.sequence)),
        ("hash", Reply::text(hex(&held.version.hash))),
        ("owner", held.owner.map_or(Reply::Null, |owner| Reply::text(hex(&owner)))),
        ("handlers", Reply::List(handlers)),
        ("code_hash", held.code_hash.map_or(Reply::Null, |hash| Reply::text(hex(&hash)))),
        ("age_seconds", number(held.age_seconds)),
        ("remaining_seconds", number(held.remaining_seconds)),
        ("data_bytes", number(held.data_bytes)),
        ("state_bytes", number(held.state_bytes)),
        ("replicas", Reply::Int(i64::from(held.replicas))),
        ("active", Reply::Bool(held.active)),
    ];
    Reply::Map(fields.into_iter().map(|(name, reply)| (Reply::text(name), reply)).collect())
}
