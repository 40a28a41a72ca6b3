//! Objects whose code a publisher signed: whole nodes in simulated time, some of which trust him.

use std::time::Duration;

use comet_node::{config::NodeConfig, identity::Identity, key_text::hex};
use comet_routing::Key;
use comet_runtime::{
    Failure, Refusal, Value,
    dht::{Dht, Expected, Put},
};
use comet_store::{Code, Publication};
use comet_tests::harness::{Cluster, Sim, SimNode};

/// The network that a node belongs to unless it is told otherwise.
const NETWORK: &str = "comet";

/// All objects are checked every ten minutes.
const PERIOD: Duration = Duration::from_secs(600);

/// Leaves a note under whatever key it is asked about, and reads what is there.
const SCOUT: &str = "function aso:onGet(caller, callback, key)
      local stored, reason = put(key .. ' note', 'was here')
      return { get(key), stored ~= nil }
    end";

fn publisher() -> Identity {
    Identity::from_seed([7; 32])
}

fn stranger() -> Identity {
    Identity::from_seed([8; 32])
}

fn trusting(publisher: Option<&Identity>) -> NodeConfig {
    let mut config = NodeConfig::default();
    config.replication.upkeep_seconds = PERIOD.as_secs();
    config.runtime.publishers = publisher.into_iter().map(|publisher| hex(publisher.public_key())).collect();
    config
}

async fn put_scout(node: &SimNode, name: &str, publisher: Option<&Identity>) -> Result<(), Refusal> {
    let code = Code::new(SCOUT);
    let publication = publisher.map(|publisher| Publication::sign(publisher.key_pair(), NETWORK, &code.hash));
    let put = Put {
        key: Key::of(name),
        data: Value::Nil.encode(),
        code: Some(code),
        publication,
        ttl: None,
        replicas: None,
        owner: None,
        expected: Expected::Any,
        deadline: None,
    };
    node.client().put(put).await.map(drop)
}

async fn ask(node: &SimNode, name: &str) -> Result<Option<Value>, Refusal> {
    node.get_with(name, Some("weather".into())).await
}

fn assert_refused(outcome: Result<Option<Value>, Refusal>) {
    let Err(Refusal::HandlerFailed { failure: Failure::Error(text), .. }) = outcome else {
        panic!("it was not refused: {outcome:?}")
    };
    assert!(text.contains("not signed by a publisher that this node trusts"), "{text}");
}

#[test]
fn an_object_that_a_trusted_publisher_signed_reads_and_writes_any_key_also_where_upkeep_copied_it() {
    Sim::seeded(81).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 20, &trusting(Some(&publisher()))).await;
        cluster["n1"].put("weather", "fair").await?;
        put_scout(&cluster["n2"], "signed", Some(&publisher())).await?;
        put_scout(&cluster["n2"], "unsigned", None).await?;
        put_scout(&cluster["n2"], "strange", Some(&stranger())).await?;
        let seen = Ok(Some(Value::List(vec!["fair".into(), Value::Bool(true)])));
        assert_eq!(ask(&cluster["n3"], "signed").await, seen);
        assert_eq!(cluster["n4"].get("weather note").await?, Some("was here".into()));
        assert_refused(ask(&cluster["n3"], "unsigned").await);
        assert_refused(ask(&cluster["n3"], "strange").await);

        let first: Vec<_> = cluster.holders_of("signed").iter().map(|node| node.name()).collect();
        for name in &first[1..] {
            cluster[*name].crash_without_disk().await;
        }
        sim.run_for(2 * PERIOD).await;
        cluster[first[0]].crash().await;
        sim.run_for(PERIOD).await;
        let heirs = cluster.holders_of("signed");
        assert!(!heirs.is_empty() && heirs.iter().all(|node| !first.contains(&node.name())));
        cluster.live().next().expect("some live").put("weather", "foul").await?;
        let seen = Ok(Some(Value::List(vec!["foul".into(), Value::Bool(true)])));
        assert_eq!(ask(cluster.live().next().expect("some live"), "signed").await, seen);
        Ok(())
    });
}

#[test]
fn where_its_publisher_is_not_trusted_a_signed_object_is_stored_and_may_do_what_an_unsigned_one_may() {
    Sim::seeded(82).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 12, &trusting(None)).await;
        cluster["n1"].put("weather", "fair").await?;
        put_scout(&cluster["n2"], "signed", Some(&publisher())).await?;
        sim.run_for(Duration::from_secs(1)).await;
        assert_eq!(cluster.holders_of("signed").len(), 8);
        assert_refused(ask(&cluster["n3"], "signed").await);
        assert_eq!(cluster["n4"].get("weather note").await?, None);
        Ok(())
    });
}

#[test]
fn a_signature_for_another_network_is_refused_wherever_it_is_put() {
    Sim::seeded(83).run(async |sim| {
        let mut config = trusting(Some(&publisher()));
        config.node.network = "elsewhere".into();
        let cluster = Cluster::start_with(&sim, 8, &config).await;
        let refused = put_scout(&cluster["n2"], "signed", Some(&publisher())).await;
        let text = refused.expect_err("it is for another network").to_string();
        assert!(text.contains("the publisher's signature is not for this code on this network"), "{text}");
        assert!(cluster.holders_of("signed").is_empty());
        Ok(())
    });
}
