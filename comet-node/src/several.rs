//! Several keys at once, as clients' commands name them.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Get, GetReport, Read},
};
use futures_util::{StreamExt, stream};

use crate::http::Backend;

/// Keys of one command that are asked for at the same time.
pub(crate) const KEYS_AT_ONCE: usize = 64;

/// What gets, each for itself, have for these keys.
pub(crate) async fn values_of<B: Backend>(backend: &B, keys: &[Key]) -> Vec<Result<Value, Refusal>> {
    let get = async |key: &Key| backend.get(first_of(*key)).await.map(first_value);
    stream::iter(keys).map(get).buffered(KEYS_AT_ONCE).collect().await
}

/// A get for one answer.
pub(crate) fn first_of(key: Key) -> Get {
    Get { key, payload: None, read: Read::First, deadline: None }
}

/// What the first replica answered.
pub(crate) fn first_value(report: GetReport) -> Value {
    report.answers.into_iter().next().map_or(Value::Nil, |answer| answer.value)
}
