//! A value that is read once (paper, section 5: Vanish), in the paper's form: the first replica that is read
//! answers at once, so concurrent reads at two replicas may both succeed. [`crate::OneTime`] asks first.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{App, AppError, read_if_any, store};

pub(crate) const APP: App = App {
    name: "one-time-fast",
    summary: "gives its value to one reader at once and then deletes itself everywhere; two at the same moment may both get it",
    source: include_str!("../aso/one_time_fast.lua"),
    settings: &[],
};

/// A one-time value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneTimeFast {
    key: Key,
}

impl OneTimeFast {
    /// The one-time value at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores the value.
    pub async fn create(&self, dht: &impl Dht, value: &Value) -> Result<PutReport, Refusal> {
        store(dht, &APP, self.key, value, None).await
    }

    /// The value, or `None` if somebody has read it.
    pub async fn take(&self, dht: &impl Dht) -> Result<Option<Value>, AppError> {
        read_if_any(dht, self.key).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::testing::TestSwarm;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[actix_rt::test]
    async fn the_second_reader_gets_nothing() {
        let swarm = TestSwarm::seeded(1);
        let object = OneTimeFast::at(Key::of("secret"));
        object.create(&swarm, &"burn".into()).await.expect("it is stored");
        assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
        assert_eq!(object.take(&swarm).await, Ok(None));
        swarm.advance(5 * MINUTE);
        assert!(swarm.holders("secret").is_empty());
    }

    #[actix_rt::test]
    async fn a_replica_that_was_away_is_deleted_when_it_returns() {
        let swarm = TestSwarm::seeded(2);
        let object = OneTimeFast::at(Key::of("secret"));
        object.create(&swarm, &"burn".into()).await.expect("it is stored");
        let away = swarm.holders("secret")[2];
        swarm.silence(away);
        assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
        swarm.wake(away);
        assert!(swarm.holders("secret").contains(&away), "it has not heard of the read");
        swarm.advance(2 * MINUTE);
        assert!(!swarm.holders("secret").contains(&away), "the timer deletes it");
    }

    #[actix_rt::test]
    async fn it_cannot_be_changed() {
        let swarm = TestSwarm::seeded(3);
        let object = OneTimeFast::at(Key::of("secret"));
        object.create(&swarm, &"burn".into()).await.expect("it is stored");
        assert!(matches!(swarm.update("secret", "other"), Err(Refusal::Refused(_))));
        assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
    }
}
