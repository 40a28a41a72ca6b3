//! What objects take up on a node, data and state: the paper's were mostly under 1 KB (Table 2).

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::Dht,
    testing::{TestConfig, TestSwarm},
};

use crate::{AccessLog, FlexibleTimeout, Lifetimes, Monitor, OneTime, Password, Policy, Replication};

/// The largest replica's data and state, in bytes.
async fn largest(swarm: &TestSwarm, name: &str) -> u64 {
    let replicas = swarm.inspect(Key::of(name)).await.expect("it is stored");
    replicas.iter().map(|replica| replica.data_bytes + replica.state_bytes).max().expect("a replica")
}

/// A swarm in which each of the objects holds a short value, and its node has looked after it for half an hour.
async fn in_use() -> TestSwarm {
    let swarm = TestSwarm::new(1, TestConfig { nodes: 100, replicas: 5, ..TestConfig::default() });
    let value = || Value::from("a short value");
    FlexibleTimeout::at(Key::of("timeout"))
        .create(&swarm, value(), Duration::from_secs(9_000))
        .await
        .expect("stored");
    OneTime::at(Key::of("once")).create(&swarm, value(), 5).await.expect("stored");
    Password::at(Key::of("password")).create(&swarm, value(), "pepper", "sesame").await.expect("stored");
    AccessLog::at(Key::of("log")).create(&swarm, value()).await.expect("stored");
    Replication::at(Key::of("few"))
        .create(&swarm, b"a short value", Policy::default())
        .await
        .expect("stored");
    Lifetimes::at(Key::of("watch")).create(&swarm).await.expect("stored");
    Monitor::at(Key::of("monitor")).create(&swarm, &value()).await.expect("stored");
    swarm.advance(Duration::from_secs(1_800));
    swarm
}

#[actix_rt::test]
async fn objects_are_under_a_kilobyte_and_those_that_know_twenty_nodes_under_two() {
    let swarm = in_use().await;
    for name in ["timeout", "once", "password", "log"] {
        assert!(largest(&swarm, name).await < 1_024, "{name}: {}", largest(&swarm, name).await);
    }
    for name in ["few", "watch", "monitor"] {
        assert!(largest(&swarm, name).await < 2_048, "{name}: {}", largest(&swarm, name).await);
    }
}

#[actix_rt::test]
async fn full_tables_are_bounded() {
    let swarm = in_use().await;
    let wrong = Value::map([("at".into(), Value::Int(swarm.now_ms() as i64 / 1_000))]);
    let wrong = Value::map([("password".into(), wrong)]);
    for reader in 0..100 {
        swarm.get_from(reader, Key::of("log"), None).expect("it is read");
        swarm.get_from(reader, Key::of("monitor"), None).expect("it is read");
        swarm.get_from(reader, Key::of("password"), Some(wrong.clone())).expect("it answers");
    }
    for (name, most) in [("log", 5_120), ("monitor", 4_096), ("password", 4_096)] {
        assert!(largest(&swarm, name).await < most, "{name}: {}", largest(&swarm, name).await);
    }
}
