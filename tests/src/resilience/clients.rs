//! Clients outside the swarm: they know every name, and each request goes through a live node that chance picks
//! among those that call themselves healthy, as `/healthz` does: a node that has just started and knows nobody
//! yet does not.

use std::{collections::BTreeMap, time::Duration};

use comet_runtime::Value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Share, percentile};
use crate::harness::{Cluster, Failure, Sim, SimNode};

/// Attempts to put an object.
const ATTEMPTS_MAX: usize = 5;
/// How long clients wait when no node is healthy, and how often they do so before they give the request up.
const NOBODY_HEALTHY: Duration = Duration::from_millis(100);
const WAITS_MAX: usize = 50;

/// All clients of a swarm.
pub struct Clients {
    sim: Sim,
    dice: ChaCha12Rng,
    names: Vec<String>,
}

/// Gets, and how they went. One is good if it brings what was put under that name; the search for a healthy node
/// is a part of it.
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

    /// Puts so many small objects, one after the other.
    pub async fn put_many(&mut self, cluster: &Cluster, count: usize) -> Result<(), Failure> {
        for n in 0..count {
            self.put(cluster, Value::Int(n as i64)).await?;
        }
        Ok(())
    }

    /// Puts one more object; tries again if that fails, as clients do. The story fails if all attempts do: what
    /// is measured are the objects that are there.
    pub async fn put(&mut self, cluster: &Cluster, value: Value) -> Result<(), Failure> {
        let name = format!("object {}", self.names.len());
        let mut refusal = None;
        for _ in 0..ATTEMPTS_MAX {
            let Some(node) = self.any_healthy(cluster).await else { continue };
            match node.put(&name, value.clone()).await {
                Ok(_) => {
                    self.names.push(name);
                    return Ok(());
                }
                Err(refused) => refusal = Some(refused),
            }
        }
        Err(Failure::new(format!("{name:?} is not put in {ATTEMPTS_MAX} attempts: {refusal:?}")))
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
        let began = self.sim.elapsed();
        let miss = match self.any_healthy(cluster).await {
            None => Some("nobody is healthy".to_owned()),
            Some(node) => match node.get(name).await {
                Ok(Some(value)) if cluster.oracle().knows(name, &value) => None,
                Ok(Some(value)) => Some(format!("{value:?}")),
                Ok(None) => Some("not found".to_owned()),
                Err(refusal) => Some(refusal.to_string()),
            },
        };
        gets.share.add(miss.is_none());
        match miss {
            None => gets.times.push(self.sim.elapsed() - began),
            Some(miss) => *gets.misses.entry(miss).or_default() += 1,
        }
    }

    /// A healthy node; nobody if none is found in time.
    async fn any_healthy<'a>(&mut self, cluster: &'a Cluster) -> Option<&'a SimNode> {
        let live: Vec<_> = cluster.live().collect();
        for _ in 0..WAITS_MAX {
            for _ in 0..2 * live.len() {
                let node = live[self.dice.random_range(0..live.len())];
                if node.is_healthy().await {
                    return Some(node);
                }
            }
            self.sim.run_for(NOBODY_HEALTHY).await;
        }
        None
    }
}
