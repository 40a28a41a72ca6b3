//! Network coordinates: points whose distance predicts the round trip between two nodes.
//!
//! Vivaldi with height vectors (Dabek, Cox, Kaashoek and Morris, SIGCOMM 2004, sections 3.4 and 5.4). A
//! point in the plane stands for the position in the core of the Internet, the height for the access link
//! that every packet crosses twice. All lengths are milliseconds of round trip.
//!
//! A node moves by its own measurements alone. A peer may lie about where it is and how sure it is, so what
//! it says is clamped, and no one measurement moves us by more than [`STEP_MS_MAX`].

use std::time::Duration;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// How far one measurement can move a coordinate. A guess: twice a usual round trip.
pub const STEP_MS_MAX: f64 = 200.0;

/// No position or height is larger in any direction; on Earth none needs to be.
const EXTENT_MS_MAX: f64 = 10_000.0;

/// The least height: some of every round trip is the access link. From Serf, whose Vivaldi has it, too.
const HEIGHT_MS_MIN: f64 = 0.01;

/// The error of a coordinate that knows nothing, and the largest and the least that count.
const ERROR_START: f64 = 1.0;
const ERROR_MAX: f64 = 1.5;
const ERROR_MIN: f64 = 0.01;

/// From the paper (section 3.5): the share of a prediction error that is corrected, cc and ce.
const MOVE_SHARE: f64 = 0.25;
const ERROR_SHARE: f64 = 0.25;

/// Shorter round trips are taken as this: below it the relative error means nothing.
const RTT_MS_MIN: f64 = 0.1;
const RTT_MS_MAX: f64 = 10_000.0;

/// Where a node lies in the space of round-trip times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// Position in the plane, in milliseconds.
    pub x_ms: f64,
    /// Position in the plane, in milliseconds.
    pub y_ms: f64,
    /// What every round trip costs on top, in milliseconds.
    pub height_ms: f64,
    /// The relative error that the node expects of its predictions: 1 knows nothing.
    pub error: f64,
}

impl Default for Coordinate {
    /// The coordinate of a node that has measured nothing.
    fn default() -> Self {
        Self { x_ms: 0.0, y_ms: 0.0, height_ms: HEIGHT_MS_MIN, error: ERROR_START }
    }
}

impl Coordinate {
    /// The nearest coordinate that a truthful node could have; what is not a number becomes the default's.
    pub fn clamped(self) -> Self {
        let start = Self::default();
        let within = |value: f64, default: f64, min: f64, max: f64| {
            if value.is_nan() { default } else { value.clamp(min, max) }
        };
        Self {
            x_ms: within(self.x_ms, start.x_ms, -EXTENT_MS_MAX, EXTENT_MS_MAX),
            y_ms: within(self.y_ms, start.y_ms, -EXTENT_MS_MAX, EXTENT_MS_MAX),
            height_ms: within(self.height_ms, start.height_ms, HEIGHT_MS_MIN, EXTENT_MS_MAX),
            error: within(self.error, start.error, ERROR_MIN, ERROR_MAX),
        }
    }

    /// The predicted round trip between two nodes, in milliseconds; finite and positive whatever they say.
    pub fn distance_ms(&self, other: &Self) -> f64 {
        let (a, b) = (self.clamped(), other.clamped());
        (a.x_ms - b.x_ms).hypot(a.y_ms - b.y_ms) + a.height_ms + b.height_ms
    }

    /// Learns from a measured round trip to a peer that says it is at `peer`.
    ///
    /// `rng` decides where to go when both are at the same point.
    pub fn observe(&mut self, peer: &Self, rtt: Duration, rng: &mut impl Rng) {
        let (own, peer) = (self.clamped(), peer.clamped());
        let rtt_ms = (rtt.as_secs_f64() * 1_000.0).clamp(RTT_MS_MIN, RTT_MS_MAX);
        let predicted_ms = own.distance_ms(&peer);
        let weight = own.error / (own.error + peer.error);
        let sample_error = (predicted_ms - rtt_ms).abs() / rtt_ms;
        let force_ms = (MOVE_SHARE * weight * (rtt_ms - predicted_ms)).clamp(-STEP_MS_MAX, STEP_MS_MAX);
        let (x, y, up) = own.direction_from(&peer, rng);
        let learnt = ERROR_SHARE * weight;
        *self = Self {
            x_ms: own.x_ms + force_ms * x,
            y_ms: own.y_ms + force_ms * y,
            height_ms: own.height_ms + force_ms * up,
            error: sample_error * learnt + own.error * (1.0 - learnt),
        }
        .clamped();
    }

    /// The unit vector that leads away from `peer`: a height's direction is up, whoever it leads from.
    fn direction_from(&self, peer: &Self, rng: &mut impl Rng) -> (f64, f64, f64) {
        let (mut x, mut y) = (self.x_ms - peer.x_ms, self.y_ms - peer.y_ms);
        let up = self.height_ms + peer.height_ms;
        if x.hypot(y) < f64::EPSILON {
            let angle = rng.random_range(0.0..std::f64::consts::TAU);
            (x, y) = (angle.cos(), angle.sin());
        }
        let length = x.hypot(y) + up;
        (x / length, y / length, up / length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    fn ms(n: f64) -> Duration {
        Duration::from_secs_f64(n / 1_000.0)
    }

    /// A node's true place: x, y and access link.
    type Place = (f64, f64, f64);

    fn true_rtt_ms(a: Place, b: Place) -> f64 {
        (a.0 - b.0).hypot(a.1 - b.1) + a.2 + b.2
    }

    fn moved_ms(a: &Coordinate, b: &Coordinate) -> f64 {
        (a.x_ms - b.x_ms).hypot(a.y_ms - b.y_ms) + (a.height_ms - b.height_ms).abs()
    }

    /// Median relative error of all predictions after `rounds` measurements by each node.
    fn median_error(places: &[Place], rounds: usize, seed: u64) -> f64 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut coordinates = vec![Coordinate::default(); places.len()];
        for _ in 0..rounds {
            for node in 0..places.len() {
                let peer = rng.random_range(0..places.len());
                if peer != node {
                    let said = coordinates[peer];
                    let rtt = ms(true_rtt_ms(places[node], places[peer]));
                    coordinates[node].observe(&said, rtt, &mut rng);
                }
            }
        }
        let mut errors = Vec::new();
        for a in 0..places.len() {
            for b in 0..a {
                let truth = true_rtt_ms(places[a], places[b]);
                errors.push((coordinates[a].distance_ms(&coordinates[b]) - truth).abs() / truth);
            }
        }
        errors.sort_by(f64::total_cmp);
        errors[errors.len() / 2]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn nodes_on_a_plane_learn_their_distances(
            places in prop::collection::vec((0.0..200.0, 0.0..200.0, 1.0..20.0), 20..40),
            seed: u64,
        ) {
            let before = median_error(&places, 0, seed);
            let after = median_error(&places, 300, seed);
            prop_assert!(before > 0.9, "at first nothing is known: {}", before);
            // How well it goes depends on the places: 0.106 has been seen.
            prop_assert!(after < 0.2, "median relative error {}", after);
        }
    }

    proptest! {
        #[test]
        fn a_liar_cannot_move_us_by_more_than_a_step(
            lie: (f64, f64, f64, f64),
            own in (-500.0..500.0, -500.0..500.0, 0.1..100.0, 0.01..1.5),
            rtt_ns: u64,
            seed: u64,
        ) {
            let (x_ms, y_ms, height_ms, error) = lie;
            let liar = Coordinate { x_ms, y_ms, height_ms, error };
            let before = Coordinate { x_ms: own.0, y_ms: own.1, height_ms: own.2, error: own.3 };
            let mut after = before;
            after.observe(&liar, Duration::from_nanos(rtt_ns), &mut ChaCha12Rng::seed_from_u64(seed));
            prop_assert!(moved_ms(&before, &after) <= STEP_MS_MAX + 1e-6);
            prop_assert!(after.error.is_finite() && after.height_ms >= HEIGHT_MS_MIN);
            prop_assert!(before.distance_ms(&liar).is_finite());
        }
    }

    #[test]
    fn what_is_not_a_number_does_no_harm() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -0.0] {
            let liar = Coordinate { x_ms: bad, y_ms: bad, height_ms: bad, error: bad };
            let mut own = Coordinate::default();
            own.observe(&liar, Duration::MAX, &mut rng);
            own.observe(&liar, Duration::ZERO, &mut rng);
            assert_eq!(own, own.clamped());
            assert!(own.distance_ms(&liar) > 0.0);
        }
    }

    #[test]
    fn two_nodes_at_one_point_are_driven_apart() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let (mut own, peer) = (Coordinate::default(), Coordinate::default());
        own.observe(&peer, ms(100.0), &mut rng);
        assert!(own.distance_ms(&peer) > peer.distance_ms(&peer) + 1.0);
    }
}
