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
    /// How long packets between two hosts take at least.
    pub latency: Latency,
    /// Longest time that a packet takes beyond that.
    pub jitter_ms_max: u64,
    /// Packets that are lost, of a hundred.
    pub loss_percent: u8,
    /// Requests that arrive twice, of a hundred.
    pub duplication_percent: u8,
    /// Packets that are held back on the way for up to [`HELD_BACK_MS_MAX`], so that later ones overtake them,
    /// of a hundred.
    pub reordering_percent: u8,
}

/// How far two hosts are from each other, one way; it is settled by their first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Anything from the first to the second, all alike.
    Even {
        /// Shortest and longest.
        ms: (u64, u64),
    },
    /// Each host is in one of so many regions.
    Regions {
        /// How many.
        count: u8,
        /// Between two hosts of the same region.
        near_ms: (u64, u64),
        /// Between hosts of different regions.
        far_ms: (u64, u64),
    },
}

/// Longest time that a packet is held back.
pub const HELD_BACK_MS_MAX: u64 = 400;

impl Default for Weather {
    /// A fair day on the Internet: round trips of 10 to 150 ms.
    fn default() -> Self {
        Self {
            latency: Latency::Even { ms: (5, 60) },
            jitter_ms_max: 15,
            loss_percent: 0,
            duplication_percent: 0,
            reordering_percent: 0,
        }
    }
}

impl Weather {
    /// Hosts on four continents: round trips of 2 to 20 ms on the same, of 80 to 300 ms between them.
    pub fn continents() -> Self {
        let latency = Latency::Regions { count: 4, near_ms: (1, 10), far_ms: (40, 150) };
        Self { latency, ..Self::default() }
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
    /// Hosts that take their time over each packet, up to so long.
    slow: BTreeMap<SocketAddr, Duration>,
    hidden: BTreeSet<SocketAddr>,
    regions: BTreeMap<SocketAddr, u8>,
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
            slow: BTreeMap::new(),
            hidden: BTreeSet::new(),
            regions: BTreeMap::new(),
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

    /// From now on this host takes its time over whatever it receives, up to so long: it acknowledges late,
    /// and answers later.
    pub fn slow_down(&mut self, host: SocketAddr, most: Duration) {
        self.slow.insert(host, most);
    }

    /// Puts this host behind a router that lets nobody in whom the host did not turn to first: others reach it
    /// over the connections that it opened, and cannot open any.
    pub fn hide(&mut self, host: SocketAddr) {
        self.hidden.insert(host);
    }

    /// True if this host is hidden.
    pub fn is_hidden(&self, host: SocketAddr) -> bool {
        self.hidden.contains(&host)
    }

    /// Undoes every [`Network::cut`], [`Network::silence`] and [`Network::slow_down`]; who is hidden stays so.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.silent.clear();
        self.slow.clear();
    }

    pub(super) fn fate(&mut self, from: SocketAddr, to: SocketAddr) -> Fate {
        let passes = !self.cut.contains(&(from, to)) && !self.is_silent(from) && !self.is_silent(to);
        // The dice roll even for packets that have no chance, so that a fault changes as little as it can.
        let mut latency_ms =
            self.distance_ms(from, to) + self.rng.random_range(0..=self.weather.jitter_ms_max);
        let lost = self.happens(self.weather.loss_percent);
        if self.happens(self.weather.reordering_percent) {
            latency_ms += self.rng.random_range(1..=HELD_BACK_MS_MAX);
        }
        if let Some(most) = self.slow.get(&to) {
            latency_ms += self.rng.random_range(0..=whole_ms(*most));
        }
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
        let pair = (from.min(to), from.max(to));
        if let Some(distance_ms) = self.distances_ms.get(&pair) {
            return *distance_ms;
        }
        let (nearest, farthest) = match self.weather.latency {
            Latency::Even { ms } => ms,
            Latency::Regions { count, near_ms, far_ms } => {
                let regions = [pair.0, pair.1].map(|host| self.region(host, count));
                if regions[0] == regions[1] { near_ms } else { far_ms }
            }
        };
        let distance_ms = self.rng.random_range(nearest..=farthest);
        self.distances_ms.insert(pair, distance_ms);
        distance_ms
    }

    fn region(&mut self, host: SocketAddr, count: u8) -> u8 {
        *self.regions.entry(host).or_insert_with(|| self.rng.random_range(0..count.max(1)))
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
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

    fn latencies_ms(network: &mut Network, pairs: impl Iterator<Item = (u16, u16)>) -> Vec<u128> {
        let fates = pairs.map(|(from, to)| network.fate(host(from), host(to)));
        let latencies = fates.map(|fate| match fate {
            Fate::Arrives(latency) => latency.as_millis(),
            Fate::Lost => panic!("nothing is lost"),
        });
        latencies.collect()
    }

    #[test]
    fn hosts_of_one_region_are_near_and_all_others_far() {
        let mut network = network(Weather { jitter_ms_max: 0, ..Weather::continents() });
        let pairs = || (0..40).flat_map(|a| (0..a).map(move |b| (a, b)));
        let latencies = latencies_ms(&mut network, pairs());
        let near = latencies.iter().filter(|ms| (1..=10).contains(*ms)).count();
        assert!(latencies.iter().all(|ms| (1..=10).contains(ms) || (40..=150).contains(ms)));
        assert!((latencies.len() / 8..latencies.len() / 2).contains(&near), "{near} of {}", latencies.len());
        // Near is transitive.
        let is_near = |network: &mut Network, a, b| latencies_ms(network, [(a, b)].into_iter())[0] <= 10;
        for (a, b, c) in (2..40).map(|c| (c - 2, c - 1, c)) {
            let [ab, bc, ac] = [(a, b), (b, c), (a, c)].map(|(a, b)| is_near(&mut network, a, b));
            assert!(!(ab && bc) || ac, "{a} {b} {c}");
        }
    }

    #[test]
    fn what_is_held_back_is_overtaken_by_what_is_not() {
        let mut network = network(Weather { jitter_ms_max: 0, reordering_percent: 20, ..Weather::default() });
        let latencies = latencies_ms(&mut network, std::iter::repeat_n((1, 2), 1_000));
        let least = latencies.iter().min().copied();
        let held_back = latencies.iter().filter(|ms| Some(**ms) != least).count();
        assert!((150..250).contains(&held_back), "{held_back}");
    }

    #[test]
    fn a_slow_host_is_slow_to_receive_and_others_are_not() {
        let mut network = network(Weather { jitter_ms_max: 0, ..Weather::default() });
        network.slow_down(host(2), Duration::from_secs(1));
        let there = latencies_ms(&mut network, std::iter::repeat_n((1, 2), 100));
        let back = latencies_ms(&mut network, std::iter::repeat_n((2, 1), 100));
        assert!(there.iter().max() > Some(&900) && back.iter().max() <= Some(&60));
        network.heal();
        assert!(latencies_ms(&mut network, std::iter::repeat_n((1, 2), 100)).iter().max() <= Some(&60));
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
