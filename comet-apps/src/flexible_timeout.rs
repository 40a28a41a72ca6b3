//! A value with a lifetime of its own, to the second for readers (paper, section 5: Vanish).
//!
//! The moment at which it ends travels with the object, so a replica that is made later hides the value at the
//! same second, give or take what the nodes' clocks differ by.

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{App, AppError, Setting, client::with_settings, read_if_any, store};

/// How much longer the nodes keep the object than readers see it: until its timer has surely fired.
const AFTER: Duration = Duration::from_secs(120);

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
        let data = with_settings(value, [("seconds", Value::Int(seconds))]);
        store(dht, &APP, self.key, &data, Some(lifetime.saturating_add(AFTER))).await
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
    async fn a_copy_that_is_made_later_ends_at_the_same_second() {
        let swarm = TestSwarm::seeded(3);
        let copier = format!("{}\nfunction aso:onUpdate() put(getASOKey(), self, 6) end", APP.source);
        let value = with_settings("candle".into(), [("seconds", Value::Int(90))]);
        swarm.put("brief", value, &copier).expect("it is stored");
        swarm.advance(Duration::from_secs(59));
        swarm.update("brief", "copy yourself").expect("it copies itself");
        assert_eq!(swarm.holders("brief").len(), 7);
        swarm.advance(Duration::from_secs(31));
        for replica in 0..7 {
            assert_eq!(swarm.get_at(replica, "brief"), Ok(Value::Nil));
        }
    }

    #[actix_rt::test]
    async fn a_lifetime_that_makes_no_sense_is_refused() {
        let swarm = TestSwarm::seeded(2);
        let lasting = |seconds: f64| with_settings("x".into(), [("seconds", seconds.into())]);
        let odd = [Value::Nil, "x".into(), with_settings(Value::Nil, [("seconds", Value::Int(9))])];
        for value in odd.into_iter().chain([0.0, -1.0, f64::NAN, f64::INFINITY].map(lasting)) {
            let refused = swarm.put("odd", value, APP.source);
            let why = "the value must be { value = …, seconds = a positive number }";
            assert_eq!(refused, Err(Refusal::Refused(why.into())));
        }
        assert!(swarm.holders("odd").is_empty());
    }
}
