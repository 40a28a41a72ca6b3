//! What becomes of a packet: how long it takes, or that it is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;

/// How the network treats packets that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Shortest and longest time that packets between two hosts take at least, one way; each pair of hosts
    /// has its own.
    pub latency_ms: (u64, u64),
    /// Longest time that a packet takes beyond that.
    pub jitter_ms_max: u64,
    /// Packets that are lost, of a hundred.
    pub loss_percent: u8,
    /// Requests that arrive twice, of a hundred.
    pub duplication_percent: u8,
}

impl Default for Weather {
    /// A fair day on the Internet: round trips of 10 to 150 ms.
    fn default() -> Self {
        Self { latency_ms: (5, 60), jitter_ms_max: 15, loss_percent: 0, duplication_percent: 0 }
    }
}

/// What becomes of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives after this time, a whole number of milliseconds.
    Arrives(Duration),
    /// It never arrives.
    Lost,
}

/// The network between all hosts.
#[derive(Debug)]
pub struct Network {
    rng: ChaCha12Rng,
    weather: Weather,
    /// What packets between two hosts take at least, the lower address first.
    distances_ms: BTreeMap<(SocketAddr, SocketAddr), u64>,
    /// From whom nothing gets to whom.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    silent: BTreeSet<SocketAddr>,
}

impl Network {
    /// A network in fair weather, whose choices `rng` makes.
    pub fn new(rng: ChaCha12Rng) -> Self {
        Self {
            rng,
            weather: Weather::default(),
            distances_ms: BTreeMap::new(),
            cut: BTreeSet::new(),
            silent: BTreeSet::new(),
        }
    }

    /// Changes the weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// From now on nothing gets from `from` to `to`; the other direction is not affected.
    pub fn cut(&mut self, from: SocketAddr, to: SocketAddr) {
        self.cut.insert((from, to));
    }

    /// From now on nothing gets to or from this host, and nobody is told.
    pub fn silence(&mut self, host: SocketAddr) {
        self.silent.insert(host);
    }

    /// True if this host was silenced.
    pub fn is_silent(&self, host: SocketAddr) -> bool {
        self.silent.contains(&host)
    }

    /// Undoes every [`Network::cut`] and [`Network::silence`].
    pub fn heal(&mut self) {
        self.cut.clear();
        self.silent.clear();
    }

    pub(super) fn fate(&mut self, from: SocketAddr, to: SocketAddr) -> Fate {
        let passes = !self.cut.contains(&(from, to)) && !self.is_silent(from) && !self.is_silent(to);
        // The dice roll even for packets that have no chance, so that a fault changes as little as it can.
        let latency_ms = self.distance_ms(from, to) + self.rng.random_range(0..=self.weather.jitter_ms_max);
        let lost = self.happens(self.weather.loss_percent);
        if passes && !lost { Fate::Arrives(Duration::from_millis(latency_ms)) } else { Fate::Lost }
    }

    /// Whether the request that arrives now does so once more.
    pub(super) fn repeats(&mut self) -> bool {
        self.happens(self.weather.duplication_percent)
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn distance_ms(&mut self, from: SocketAddr, to: SocketAddr) -> u64 {
        let (nearest, farthest) = self.weather.latency_ms;
        let pair = (from.min(to), from.max(to));
        *self.distances_ms.entry(pair).or_insert_with(|| self.rng.random_range(nearest..=farthest))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn host(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    fn network(weather: Weather) -> Network {
        let mut network = Network::new(ChaCha12Rng::seed_from_u64(1));
        network.set_weather(weather);
        network
    }

    fn lost_of_a_thousand(network: &mut Network, from: u16, to: u16) -> usize {
        (0..1_000).filter(|_| network.fate(host(from), host(to)) == Fate::Lost).count()
    }

    #[test]
    fn two_hosts_are_always_about_as_far_from_each_other() {
        let mut network = network(Weather { jitter_ms_max: 3, ..Weather::default() });
        let mut latencies = Vec::new();
        for (from, to) in [(1, 2), (2, 1)].into_iter().cycle().take(100) {
            let Fate::Arrives(latency) = network.fate(host(from), host(to)) else {
                panic!("nothing is lost")
            };
            latencies.push(latency.as_millis());
        }
        let (least, most) = (latencies.iter().min(), latencies.iter().max());
        assert_eq!(least.zip(most).map(|(least, most)| most - least), Some(3));
    }

    #[test]
    fn a_tenth_is_lost_where_a_tenth_is_to_be_lost() {
        let mut network = network(Weather { loss_percent: 10, ..Weather::default() });
        assert!((70..130).contains(&lost_of_a_thousand(&mut network, 1, 2)));
        network.set_weather(Weather::default());
        assert_eq!(lost_of_a_thousand(&mut network, 1, 2), 0);
    }

    #[test]
    fn a_cut_has_a_direction_and_silence_has_none() {
        let mut network = network(Weather::default());
        network.cut(host(1), host(2));
        network.silence(host(3));
        let lost =
            [(1, 2), (2, 1), (3, 1), (1, 3)].map(|(from, to)| lost_of_a_thousand(&mut network, from, to));
        assert_eq!(lost, [1_000, 0, 1_000, 1_000]);
        network.heal();
        assert_eq!(lost_of_a_thousand(&mut network, 1, 3), 0);
    }
}
