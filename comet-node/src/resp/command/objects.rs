//! The commands about objects.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::{
    REPLICAS_MAX, Refusal, Value,
    dht::{Expected, Put},
};
use comet_store::Code;

use super::{Ask, Command, CommandError, Rules, number};
use crate::{json::from_json, key_text::KeyText, resp::request::Words};

const SECOND_MS: u64 = 1_000;

pub(super) fn get(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Get(key(words.word(1), rules)?)))
}

pub(super) fn get_many(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::GetMany(keys(words, rules)?)))
}

pub(super) fn exists(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Exists(keys(words, rules)?)))
}

pub(super) fn delete(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Delete(keys(words, rules)?)))
}

pub(super) fn ttl(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Ttl(key(words.word(1), rules)?, SECOND_MS)))
}

pub(super) fn ttl_ms(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Ttl(key(words.word(1), rules)?, 1)))
}

pub(super) fn inspect(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Ask(Ask::Inspect(key(words.word(1), rules)?)))
}

/// `SET key value [NX] [EX seconds | PX milliseconds]`
pub(super) fn set(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    let mut put = plain(words, 1, rules)?;
    let mut at = 3_usize;
    let mut timed = false;
    while at < words.len() {
        if words.word(at).eq_ignore_ascii_case(b"nx") {
            put.expected = Expected::Absent;
            at = at.saturating_add(1);
            continue;
        }
        let unit_ms = match words.word(at) {
            option if option.eq_ignore_ascii_case(b"ex") => SECOND_MS,
            option if option.eq_ignore_ascii_case(b"px") => 1,
            _ => return Err(CommandError::Syntax),
        };
        if timed || at.saturating_add(1) >= words.len() {
            return Err(CommandError::Syntax);
        }
        put.ttl = Some(lifetime(words.word(at.saturating_add(1)), unit_ms, "set")?);
        timed = true;
        at = at.saturating_add(2);
    }
    Ok(Command::Ask(Ask::Put(Box::new(put))))
}

/// `MSET key value [key value …]`; of one key's values the last stays.
pub(super) fn set_many(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    if words.len().is_multiple_of(2) {
        return Err(CommandError::Arity("mset"));
    }
    let mut puts = BTreeMap::new();
    for at in (1..words.len()).step_by(2) {
        let put = plain(words, at, rules)?;
        puts.insert(put.key, put);
    }
    Ok(Command::Ask(Ask::PutMany(puts.into_values().collect())))
}

/// `COMET.PUT key value [CODE lua] [TTL seconds] [REPLICAS n]`
pub(super) fn put(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    // As with every other client, what asks for no lifetime gets the node's usual one.
    let mut put = Put { ttl: None, ..plain(words, 1, rules)? };
    for at in (3..words.len()).step_by(2) {
        let value = words.word(at.saturating_add(1));
        if at.saturating_add(1) >= words.len() {
            return Err(CommandError::Syntax);
        }
        match words.word(at).to_ascii_lowercase().as_slice() {
            b"code" => put.code = Some(code(value, rules)?),
            b"ttl" => put.ttl = Some(lifetime(value, SECOND_MS, "comet.put")?),
            b"replicas" => {
                let replicas = u8::try_from(number(value)?).ok().filter(|replicas| *replicas <= REPLICAS_MAX);
                put.replicas = Some(replicas.ok_or(CommandError::NotNumber)?);
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(Command::Ask(Ask::Put(Box::new(put))))
}

/// `COMET.GET key [PAYLOAD json]`
pub(super) fn perform(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    let key = key(words.word(1), rules)?;
    let payload = match words.len() {
        2 => None,
        4 if words.word(2).eq_ignore_ascii_case(b"payload") => {
            let json = serde_json::from_slice(words.word(3));
            let json = json.map_err(|error| CommandError::Json(error.to_string()))?;
            Some(Box::new(from_json(&json, rules.limits.depth)?))
        }
        _ => return Err(CommandError::Syntax),
    };
    Ok(Command::Ask(Ask::Perform(key, payload)))
}

/// `PUBLISH channel message`
pub(super) fn publish(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    let message = words.shared(2);
    fits("the message", message.len(), rules.limits.value_bytes)?;
    Ok(Command::Ask(Ask::Publish(key(words.word(1), rules)?, message)))
}

/// `SUBSCRIBE channel [channel …]`
pub(super) fn subscribe(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    // A copy of the name: it stays, and what came with it goes.
    let channel = |word: &[u8]| Ok((Bytes::copy_from_slice(word), key(word, rules)?));
    words.from(1).map(channel).collect::<Result<_, _>>().map(Command::Subscribe)
}

/// `UNSUBSCRIBE [channel …]`
pub(super) fn unsubscribe(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Unsubscribe(words.from(1).map(Bytes::copy_from_slice).collect()))
}

fn key(word: &[u8], rules: &Rules) -> Result<Key, CommandError> {
    let text = std::str::from_utf8(word).map_err(|_| CommandError::KeyText)?;
    Ok(KeyText::key_of(text, rules.limits.name_bytes)?)
}

fn keys(words: &Words, rules: &Rules) -> Result<Vec<Key>, CommandError> {
    words.from(1).map(|word| key(word, rules)).collect()
}

/// A put of bytes without handlers, for as long as the node grants: the key at a position and the value after it.
fn plain(words: &Words, at: usize, rules: &Rules) -> Result<Put, CommandError> {
    let key = key(words.word(at), rules)?;
    let value = words.shared(at.saturating_add(1));
    fits("the value", value.len(), rules.limits.value_bytes)?;
    let data = Value::Str(value).encode();
    fits("the encoded value", data.len(), rules.limits.value_bytes)?;
    Ok(Put {
        key,
        data,
        code: None,
        publication: None,
        ttl: Some(Duration::from_secs(rules.ttl_seconds_max)),
        replicas: None,
        owner: None,
        expected: Expected::Any,
        deadline: None,
    })
}

fn code(source: &[u8], rules: &Rules) -> Result<Code, CommandError> {
    fits("the code", source.len(), rules.limits.code_bytes)?;
    let source = std::str::from_utf8(source).map_err(|_| CommandError::CodeText)?;
    Ok(Code::new(source))
}

fn fits(what: &str, size: usize, limit: usize) -> Result<(), CommandError> {
    if size <= limit {
        return Ok(());
    }
    let (size, limit) = (size as u64, limit as u64);
    Err(CommandError::TooLarge(Refusal::TooLarge { what: what.to_owned(), size, limit }))
}

/// A lifetime of at least something, in whole seconds, which objects live.
fn lifetime(word: &[u8], unit_ms: u64, command: &'static str) -> Result<Duration, CommandError> {
    let count = u64::try_from(number(word)?).ok().filter(|count| *count > 0);
    let ms = count.and_then(|count| count.checked_mul(unit_ms)).ok_or(CommandError::Expiry(command))?;
    Ok(Duration::from_secs(ms.div_ceil(SECOND_MS)))
}
