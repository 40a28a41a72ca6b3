//! A value that copies itself only when too few replicas live (paper, section 5: Vanish).
//!
//! The attack that broke Vanish joined many nodes for a short time and collected what the swarm pushed to them.
//! Here the swarm pushes nothing (`aso.replicas = 0`): a replica counts its living fellows, and only below a
//! threshold it copies itself, to nodes that it saw at an earlier tick rather than to those that just came, and never
//! to two in one network. Who says that he holds the value has to prove it by a hash of the value, a nonce and
//! his own id, so that a node next to the key can neither collect copies nor keep the object from being copied.
//!
//! *Limits.* Anyone who knows the key can read, and whoever is asked for the nodes close to a key learns it: put the
//! value behind a password ([`crate::compose`]) or encrypt it, as Vanish did. A node that stays long enough, in
//! a network where no replica is, gets a copy when one is made. Replicas that look at the same moment may copy to
//! the same nodes, which does no harm. Every replica is a fellow only while it is among the 20 nodes closest to the key.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Put, PutReport},
};
use comet_store::Code;

use crate::{
    App, AppError, Setting,
    client::{ask, with_settings},
};

pub(crate) const APP: App = App {
    name: "replication",
    summary: "copies itself only when few replicas live, and not to nodes that just came",
    source: include_str!("../aso/replication.lua"),
    settings: &[
        Setting {
            name: "threshold",
            meaning: "copies are made when fewer replicas than this live",
            default: Some("3"),
        },
        Setting { name: "target", meaning: "and then up to so many, at most 20", default: Some("5") },
        Setting {
            name: "spread",
            meaning: "copies go to networks that hold none: addresses that differ in their first so many parts, 0 for any",
            default: Some("2"),
        },
    ],
};

/// A value that replicates itself sparingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    key: Key,
}

/// When and where copies are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When fewer replicas live.
    pub threshold: u8,
    /// Then up to so many, at most 20. The put goes to as many nodes.
    pub target: u8,
    /// To addresses that differ in their first so many parts; 0 for any.
    pub spread: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { threshold: 3, target: 5, spread: 2 }
    }
}

impl Replication {
    /// The value at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores a value, a text or bytes, on as many nodes as the policy's target.
    pub async fn create(&self, dht: &impl Dht, value: &[u8], policy: Policy) -> Result<PutReport, Refusal> {
        let numbers = [("threshold", policy.threshold), ("target", policy.target), ("spread", policy.spread)];
        let settings = numbers.map(|(name, n)| (name, Value::Int(n.into())));
        dht.put(Put {
            key: self.key,
            data: with_settings(Value::str(value), settings).encode(),
            code: Some(Code::new(APP.source)),
            publication: None,
            ttl: None,
            replicas: Some(policy.target),
            owner: None,
            expected: Expected::Any,
            deadline: None,
        })
        .await
    }

    /// The value.
    pub async fn read(&self, dht: &impl Dht) -> Result<Value, AppError> {
        ask(dht, self.key, None).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_runtime::{
        Op,
        testing::{TestConfig, TestSwarm},
    };

    use super::*;

    const TICK: Duration = Duration::from_secs(600);

    /// All nodes of a test swarm are in 192.0.2: with 4 parts each is a network of its own.
    const POLICY: Policy = Policy { threshold: 2, target: 3, spread: 4 };

    async fn swarm(seed: u64, policy: Policy) -> (TestSwarm, Replication) {
        let swarm = TestSwarm::new(seed, TestConfig { nodes: 12, ..TestConfig::default() });
        let object = Replication::at(Key::of("share"));
        object.create(&swarm, b"share 7 of 50", policy).await.expect("it is stored");
        (swarm, object)
    }

    fn copies(swarm: &TestSwarm) -> usize {
        swarm.sent("share").iter().filter(|sent| matches!(sent.op, Op::Copy { .. })).count()
    }

    /// Silences all but one replica.
    fn leave_one(swarm: &TestSwarm) -> usize {
        let holders = swarm.holders("share");
        holders[1..].iter().for_each(|node| swarm.silence(*node));
        holders[0]
    }

    #[actix_rt::test]
    async fn while_enough_replicas_live_nobody_gets_a_copy() {
        let (swarm, object) = swarm(1, POLICY).await;
        swarm.silence(swarm.holders("share")[0]);
        swarm.advance(3 * TICK);
        assert_eq!((swarm.holders("share").len(), copies(&swarm)), (2, 0));
        assert_eq!(object.read(&swarm).await, Ok("share 7 of 50".into()));
    }

    #[actix_rt::test]
    async fn below_the_threshold_it_fills_up_to_the_target() {
        let (swarm, object) = swarm(2, POLICY).await;
        leave_one(&swarm);
        swarm.advance(TICK);
        assert_eq!(swarm.holders("share").len(), 3);
        swarm.advance(3 * TICK);
        assert_eq!((swarm.holders("share").len(), copies(&swarm)), (3, 1), "and no more");
        assert_eq!(object.read(&swarm).await, Ok("share 7 of 50".into()));
    }

    #[actix_rt::test]
    async fn a_node_that_just_came_is_chosen_last() {
        let (swarm, _) = swarm(3, POLICY).await;
        let replicas = swarm.holders("share");
        let mut nearest: Vec<_> = (0..12).filter(|node| !replicas.contains(node)).collect();
        nearest.sort_by_key(|node| Key::of("share").distance_to(&swarm.node(*node).id));
        let sybil = nearest[0];
        swarm.silence(sybil);
        swarm.advance(TICK);
        // It joins right next to the key, and then replicas are lost.
        swarm.wake(sybil);
        leave_one(&swarm);
        swarm.advance(TICK);
        assert_eq!(swarm.holders("share")[1..], nearest[1..3], "those that were there before");
    }

    #[actix_rt::test]
    async fn no_copy_goes_to_a_network_that_has_one() {
        let (swarm, _) = swarm(4, Policy { spread: 2, ..POLICY }).await;
        leave_one(&swarm);
        swarm.advance(2 * TICK);
        assert_eq!(swarm.holders("share").len(), 1, "all others are in the same network");
    }

    #[actix_rt::test]
    async fn who_cannot_prove_that_he_holds_it_does_not_count() {
        let (swarm, _) = swarm(5, POLICY).await;
        let live = leave_one(&swarm);
        // The nearest other nodes say that they hold it: each answers any get with the same text.
        let liar = "function aso:onGet(caller, _, asked) return sha256(tostring(asked.alive)) end";
        swarm.silence(live);
        swarm.put("share", "nothing", liar).expect("they take it");
        swarm.wake(live);
        swarm.fire_timer("share");
        let copied = swarm.sent("share").into_iter().find_map(|sent| match sent.op {
            Op::Copy { nodes } => Some(nodes),
            _ => None,
        });
        assert!(copied.is_some(), "it counts itself alone");
    }

    #[actix_rt::test]
    async fn odd_policies_are_refused() {
        let (swarm, _) = swarm(6, POLICY).await;
        let why =
            "the value must be { value = text, threshold = 1 to target, target = 1 to 20, spread = 0 to 8 }";
        let odd = [("threshold", 6), ("threshold", 0), ("target", 21), ("spread", 9), ("spread", -1)];
        let odd = odd.map(|setting| with_settings("x".into(), [(setting.0, Value::Int(setting.1))]));
        for value in odd.into_iter().chain(["x".into(), with_settings(Value::Int(7), [])]) {
            assert_eq!(swarm.put("odd", value, APP.source), Err(Refusal::Refused(why.into())));
        }
        assert_eq!(
            swarm.get_with("share", Value::map([("alive".into(), "yes".into())])),
            Ok("share 7 of 50".into())
        );
    }
}
