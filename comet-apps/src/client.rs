//! What the typed clients share: settings on the way in, refusals on the way out.

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Get, Put, PutReport, Read},
};
use ring::digest::{SHA256, digest};

use crate::AppError;

/// What an object with settings is put as: `{ value = …, name = setting, … }`.
pub(crate) fn with_settings<'a>(value: Value, settings: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let settings = settings.into_iter().map(|(name, setting)| (name.into(), setting));
    Value::map(settings.chain([("value".into(), value)]))
}

/// The nearest replica's answer; a refusal `{ refused = reason }` becomes [`AppError::Declined`].
pub(crate) async fn ask(dht: &impl Dht, key: Key, payload: Option<Value>) -> Result<Value, AppError> {
    let report = dht.get(Get { key, payload, read: Read::First, deadline: None }).await?;
    let answer = report.answers.into_iter().next().map_or(Value::Nil, |answer| answer.value);
    match declined(&answer) {
        Some(reason) => Err(AppError::Declined(reason)),
        None => Ok(answer),
    }
}

/// What every replica answers that does not refuse. If all of them do, the nearest one's refusal.
pub(crate) async fn ask_all(
    dht: &impl Dht,
    key: Key,
    payload: Option<Value>,
) -> Result<Vec<Value>, AppError> {
    let report = dht.get(Get { key, payload, read: Read::All, deadline: None }).await?;
    let mut reason = None;
    let mut given = Vec::new();
    for answer in report.answers {
        match declined(&answer.value) {
            Some(why) => drop(reason.get_or_insert(why)),
            None => given.push(answer.value),
        }
    }
    match reason {
        Some(reason) if given.is_empty() => Err(AppError::Declined(reason)),
        _ => Ok(given),
    }
}

/// The reason of an answer `{ refused = reason }`.
pub(crate) fn declined(answer: &Value) -> Option<String> {
    answer.field("refused").and_then(Value::as_text).map(str::to_owned)
}

/// Puts data without code: whatever is there decides in its `onUpdate`.
pub(crate) async fn update(dht: &impl Dht, key: Key, data: &Value) -> Result<PutReport, Refusal> {
    let put = Put {
        key,
        data: data.encode(),
        code: None,
        publication: None,
        ttl: None,
        replicas: None,
        owner: None,
        expected: Expected::Any,
        deadline: None,
    };
    dht.put(put).await
}

/// A duration as a setting: whole seconds, rounded up.
pub(crate) fn seconds_of(duration: Duration) -> Value {
    Value::Int(i64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX))
}

/// The SHA-256 of a text as handlers see it: 64 hexadecimal digits.
pub(crate) fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
