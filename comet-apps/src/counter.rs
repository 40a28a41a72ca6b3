//! A value that counts its reads: the first example of the original system's poster.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{App, AppError, read, store};

pub(crate) const APP: App = App {
    name: "counter",
    summary: "counts how often it is read, on each replica apart",
    source: include_str!("../aso/counter.lua"),
    settings: &[],
};

/// A counting object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    key: Key,
}

/// What a read of a [`Counter`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// The value that was stored.
    pub value: Value,
    /// Reads that the answering replica has served, this one included.
    pub reads: i64,
}

impl Counter {
    /// The counter at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores a value to be counted.
    pub async fn create(&self, dht: &impl Dht, value: &Value) -> Result<PutReport, Refusal> {
        store(dht, &APP, self.key, value, None).await
    }

    /// Reads it, which counts.
    pub async fn read(&self, dht: &impl Dht) -> Result<Count, AppError> {
        let answer = read(dht, self.key).await?;
        match &answer {
            Value::List(items) => match items.as_slice() {
                [value, Value::Int(reads)] => Ok(Count { value: value.clone(), reads: *reads }),
                // A nil value leaves a hole at the front, which no list has.
                _ => Err(AppError::Unexpected(answer)),
            },
            Value::Map(entries) => match entries.as_slice() {
                [(Value::Int(2), Value::Int(reads))] => Ok(Count { value: Value::Nil, reads: *reads }),
                _ => Err(AppError::Unexpected(answer)),
            },
            _ => Err(AppError::Unexpected(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use comet_runtime::testing::TestSwarm;

    use super::*;

    #[actix_rt::test]
    async fn each_read_counts() {
        let swarm = TestSwarm::seeded(1);
        let counter = Counter::at(Key::of("hits"));
        counter.create(&swarm, &"page".into()).await.expect("it is stored");
        for reads in 1..=3 {
            assert_eq!(counter.read(&swarm).await, Ok(Count { value: "page".into(), reads }));
        }
    }

    #[actix_rt::test]
    async fn nil_can_be_counted_and_other_objects_are_told_apart() {
        let swarm = TestSwarm::seeded(2);
        let counter = Counter::at(Key::of("nothing"));
        counter.create(&swarm, &Value::Nil).await.expect("it is stored");
        assert_eq!(counter.read(&swarm).await, Ok(Count { value: Value::Nil, reads: 1 }));
        swarm.put("else", "x", "").expect("it is stored");
        let wrong = Counter::at(Key::of("else")).read(&swarm).await;
        assert_eq!(wrong, Err(AppError::Unexpected("x".into())));
    }
}
