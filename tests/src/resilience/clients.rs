//! Clients outside the swarm: they know every name, and each request goes through a live node that chance picks.

use std::time::Duration;

use comet_runtime::Value;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{Share, percentile};
use crate::harness::{Cluster, Sim, SimNode};

/// Attempts to put an object.
const ATTEMPTS_MAX: usize = 5;

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
            if self.any_live(cluster).put(&name, value).await.is_ok() {
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
        let node = self.any_live(cluster);
        let (began, read) = (self.sim.elapsed(), node.get(name).await);
        let good = matches!(read, Ok(Some(value)) if cluster.oracle().knows(name, &value));
        gets.share.add(good);
        if good {
            gets.times.push(self.sim.elapsed() - began);
        }
    }

    /// A live node.
    pub fn any_live<'a>(&mut self, cluster: &'a Cluster) -> &'a SimNode {
        let live: Vec<_> = cluster.live().collect();
        live[self.dice.random_range(0..live.len())]
    }
}
