//! A value with a lifetime of its own, to the second for readers (paper, section 5: Vanish).

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{App, AppError, Setting, read_if_any, store};

pub(crate) const APP: App = App {
    name: "flexible-timeout",
    summary: "hides its value from the second at which its lifetime ends, then deletes itself",
    source: include_str!("../aso/flexible_timeout.lua"),
    settings: &[Setting {
        name: "seconds",
        meaning: "how long readers see the value, in seconds from the put",
        default: None,
    }],
};

/// An object with a lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlexibleTimeout {
    key: Key,
}

impl FlexibleTimeout {
    /// The object at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores a value that readers see for `lifetime`, rounded up to whole seconds.
    pub async fn create(
        &self,
        dht: &impl Dht,
        value: Value,
        lifetime: Duration,
    ) -> Result<PutReport, Refusal> {
        let seconds = i64::try_from(lifetime.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let data = Value::map([("value".into(), value), ("seconds".into(), Value::Int(seconds))]);
        store(dht, &APP, self.key, &data, None).await
    }

    /// The value, or `None` if its lifetime is over.
    pub async fn read(&self, dht: &impl Dht) -> Result<Option<Value>, AppError> {
        read_if_any(dht, self.key).await
    }
}

#[cfg(test)]
mod tests {
    use comet_runtime::testing::TestSwarm;

    use super::*;

    #[actix_rt::test]
    async fn the_value_is_there_until_its_last_second_and_gone_after() {
        let swarm = TestSwarm::seeded(1);
        let object = FlexibleTimeout::at(Key::of("brief"));
        object.create(&swarm, "candle".into(), Duration::from_secs(90)).await.expect("it is stored");
        swarm.advance(Duration::from_secs(89));
        assert_eq!(object.read(&swarm).await, Ok(Some("candle".into())));
        swarm.advance(Duration::from_secs(1));
        assert_eq!(object.read(&swarm).await, Ok(None));
        assert_eq!(swarm.holders("brief").len(), 3, "hidden before it is deleted");
        swarm.advance(Duration::from_secs(60));
        assert!(swarm.holders("brief").is_empty());
    }

    #[actix_rt::test]
    async fn a_lifetime_that_makes_no_sense_is_refused() {
        let swarm = TestSwarm::seeded(2);
        for value in [Value::Nil, "x".into(), Value::map([("seconds".into(), Value::Int(0))])] {
            let refused = swarm.put("odd", value, APP.source);
            assert!(matches!(refused, Err(Refusal::Refused(_))), "{refused:?}");
        }
        assert!(swarm.holders("odd").is_empty());
    }
}
