//! The paper's Fig. 4 as a simulation: how far a peer is from those that the tracker introduces it to, and from
//! as many chosen at random. The tracker is the real one; the Internet is a model.
//!
//! 190 peers live around twelve cities. A round trip is the distance of two peers in the plane, plus both
//! access links, plus noise. Peers learn their coordinates from 200 such round trips each and then announce
//! themselves. `cargo run --release -p comet-apps --example nearby_peers`

use std::{net::SocketAddr, time::Duration};

use comet_apps::{Announce, AnnounceEvent, Tracker};
use comet_routing::{Coordinate, Key};
use comet_runtime::testing::TestSwarm;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

const PEERS: u8 = 190;
const CITIES: usize = 12;
const ROUND_TRIPS_EACH: usize = 200;
const INTRODUCED: u8 = 20;

/// A peer's true place, in milliseconds of round trip.
#[derive(Clone, Copy)]
struct Place {
    x_ms: f64,
    y_ms: f64,
    access_ms: f64,
}

impl Place {
    fn round_trip_ms(self, other: Self) -> f64 {
        (self.x_ms - other.x_ms).hypot(self.y_ms - other.y_ms) + self.access_ms + other.access_ms
    }
}

fn places(rng: &mut impl Rng) -> Vec<Place> {
    let cities: Vec<_> =
        (0..CITIES).map(|_| (rng.random_range(0.0..120.0), rng.random_range(0.0..80.0))).collect();
    (0..PEERS)
        .map(|_| {
            let (x, y) = cities[rng.random_range(0..CITIES)];
            Place {
                x_ms: x + rng.random_range(-8.0..8.0),
                y_ms: y + rng.random_range(-8.0..8.0),
                access_ms: rng.random_range(2.0..12.0),
            }
        })
        .collect()
}

/// What each peer believes about its place after measuring noisy round trips to others.
fn learn_coordinates(places: &[Place], rng: &mut impl Rng) -> Vec<Coordinate> {
    let mut coordinates = vec![Coordinate::default(); places.len()];
    for _ in 0..ROUND_TRIPS_EACH {
        for peer in 0..places.len() {
            let other = rng.random_range(0..places.len());
            if other != peer {
                let noise = rng.random_range(0.9..1.3);
                let rtt_ms = places[peer].round_trip_ms(places[other]) * noise;
                let said = coordinates[other];
                coordinates[peer].observe(&said, Duration::from_secs_f64(rtt_ms / 1_000.0), rng);
            }
        }
    }
    coordinates
}

fn address(peer: usize) -> SocketAddr {
    // One peer per network, so that addresses tell the tracker nothing.
    ([10 + peer as u8, peer as u8, 0, 1], 6881).into()
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// The median round trips to introduced and to random peers, in milliseconds.
async fn compare(seed: u64) -> (f64, f64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let places = places(&mut rng);
    let coordinates = learn_coordinates(&places, &mut rng);
    let swarm = TestSwarm::seeded(seed);
    let tracker = Tracker::at(Key::of("torrent"));
    tracker.create(&swarm, None).await.expect("the fake swarm stores it");
    let (mut introduced, mut random) = (Vec::new(), Vec::new());
    for event in [AnnounceEvent::Started, AnnounceEvent::Regular] {
        for peer in 0..places.len() {
            let announce = Announce {
                coordinate: Some(coordinates[peer]),
                want: Some(INTRODUCED),
                ..Announce::new(event, [peer as u8; 20], address(peer), 1_000)
            };
            let met = tracker.announce(&swarm, &announce).await.expect("the tracker answers");
            // The first round only fills the tracker.
            if event == AnnounceEvent::Regular {
                let known = met
                    .addresses()
                    .into_iter()
                    .filter_map(|met| (0..places.len()).find(|&other| address(other) == met));
                introduced.extend(known.map(|other| places[peer].round_trip_ms(places[other])));
                for _ in 0..INTRODUCED {
                    let other = (peer + rng.random_range(1..places.len())) % places.len();
                    random.push(places[peer].round_trip_ms(places[other]));
                }
            }
        }
    }
    (median(introduced), median(random))
}

#[actix_rt::main]
async fn main() {
    println!("Median round trip from a peer to {INTRODUCED} others, of {PEERS}:");
    println!("{:>6}  {:>10}  {:>10}  {:>6}", "seed", "tracker", "random", "ratio");
    for seed in 1..=5 {
        let (introduced, random) = compare(seed).await;
        println!("{seed:>6}  {introduced:>7.1} ms  {random:>7.1} ms  {:>6.2}", introduced / random);
    }
    println!("The paper measured 47 ms and 72 ms: 0.65.");
}
