//! Clients outside the swarm: they know every name, and each request goes through a live node that chance picks
//! among those that call themselves healthy, as `/healthz` does: a node that has just started and knows nobody
//! yet does not.

use std::{collections::BTreeMap, time::Duration};

use comet_runtime::Value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Share, percentile};
use crate::harness::{Cluster, Sim, SimNode};

/// Attempts to put an object.
const ATTEMPTS_MAX: usize = 5;
/// How long clients wait when no node is healthy.
const NOBODY_HEALTHY: Duration = Duration::from_millis(100);

/// All clients of a swarm.
pub struct Clients {
    sim: Sim,
    dice: ChaCha12Rng,
    names: Vec<String>,
}

/// Gets, and how they went. One is good if it brings what was put under that name.
#[derive(Clone, Debug, Default)]
pub struct Gets {
    /// Those that were good.
    pub share: Share,
    /// How long the good ones took.
    pub times: Vec<Duration>,
    /// What the others brought, and how often.
    pub misses: BTreeMap<String, usize>,
}

impl Gets {
    /// The time that 99 of a hundred good gets took at most.
    pub fn p99(&self) -> Duration {
        percentile(self.times.clone(), 99)
    }
}

impl Clients {
    /// Clients that have put nothing yet.
    pub fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), dice: ChaCha12Rng::from_seed(sim.draw_seed()), names: Vec::new() }
    }

    /// Every name under which a put was acknowledged.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The dice of whoever tells the story.
    pub fn dice(&mut self) -> &mut ChaCha12Rng {
        &mut self.dice
    }

    /// Puts so many objects, one after the other.
    pub async fn put_many(&mut self, cluster: &Cluster, count: usize) {
        for _ in 0..count {
            self.put(cluster).await;
        }
    }

    /// Puts one more object; tries again if that fails, as clients do.
    pub async fn put(&mut self, cluster: &Cluster) {
        let name = format!("object {}", self.names.len());
        for _ in 0..ATTEMPTS_MAX {
            let value = Value::Int(self.names.len() as i64);
            if self.any_healthy(cluster).await.put(&name, value).await.is_ok() {
                self.names.push(name);
                return;
            }
        }
    }

    /// Gets an object that was put.
    pub async fn get(&mut self, cluster: &Cluster, gets: &mut Gets) {
        let at = self.dice.random_range(0..self.names.len());
        let name = self.names[at].clone();
        self.get_from(cluster, &name, gets).await;
    }

    /// Gets so many objects, one after the other.
    pub async fn get_many(&mut self, cluster: &Cluster, count: usize) -> Gets {
        let mut gets = Gets::default();
        for _ in 0..count {
            self.get(cluster, &mut gets).await;
        }
        gets
    }

    /// Gets every object once.
    pub async fn get_all(&mut self, cluster: &Cluster) -> Gets {
        let mut gets = Gets::default();
        for name in self.names.clone() {
            self.get_from(cluster, &name, &mut gets).await;
        }
        gets
    }

    async fn get_from(&mut self, cluster: &Cluster, name: &str, gets: &mut Gets) {
        let node = self.any_healthy(cluster).await;
        let (began, read) = (self.sim.elapsed(), node.get(name).await);
        let miss = match read {
            Ok(Some(value)) if cluster.oracle().knows(name, &value) => None,
            Ok(Some(value)) => Some(format!("{value:?}")),
            Ok(None) => Some("not found".to_owned()),
            Err(refusal) => Some(refusal.to_string()),
        };
        gets.share.add(miss.is_none());
        match miss {
            None => gets.times.push(self.sim.elapsed() - began),
            Some(miss) => *gets.misses.entry(miss).or_default() += 1,
        }
    }

    async fn any_healthy<'a>(&mut self, cluster: &'a Cluster) -> &'a SimNode {
        let live: Vec<_> = cluster.live().collect();
        loop {
            for _ in 0..2 * live.len() {
                let node = live[self.dice.random_range(0..live.len())];
                if node.is_healthy().await {
                    return node;
                }
            }
            self.sim.run_for(NOBODY_HEALTHY).await;
        }
    }
}
