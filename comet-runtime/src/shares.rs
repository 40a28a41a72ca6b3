//! Whose turn it is when a thread has more to do than it can: the share of each network of callers.
//!
//! Each object has its CPU time, and a stranger may own ten thousand of them and visit them by turns. Owners' keys cost nothing,
//! addresses do, so what is shared is the time of those networks that callers are in. A thread that keeps up shares
//! nothing: whoever finds it free is served. Once a visit had to wait, a network that has lately used more than the
//! others on average, and more than a burst, has had its share: its visits are refused, which costs next to nothing, until it
//! has not. So one network alone may have all the time there is, and beside others it gives way.

use std::{
    collections::BTreeMap,
    ops::Bound,
    time::{Duration, Instant},
};

use comet_routing::Prefix;

/// What a network may use, and when that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareLimits {
    /// Whoever waited less than this found the thread free.
    pub(crate) free: Duration,
    /// What a network may use at once whatever the others do.
    pub(crate) burst: Duration,
    /// The time after which half of what was used is forgotten.
    pub(crate) half_life: Duration,
    /// Networks that are remembered.
    pub(crate) networks_max: usize,
}

impl Default for ShareLimits {
    /// Two of the longest turns at once: in the long run 7 % of a thread, beside others.
    fn default() -> Self {
        Self {
            free: Duration::from_millis(10),
            burst: Duration::from_millis(100),
            half_life: Duration::from_secs(1),
            networks_max: 4_096,
        }
    }
}

/// What the callers of each network have used lately.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    limits: ShareLimits,
    /// Networks that have used something, and what is remembered of it.
    used: BTreeMap<Prefix, Faded>,
    /// That of all together.
    total: Faded,
    /// When those were last forgotten that have used nothing worth remembering.
    tidied: Instant,
}

/// Microseconds that fade away.
#[derive(Clone, Copy, Debug)]
struct Faded {
    us: f64,
    at: Instant,
}

impl Faded {
    fn at(&self, now: Instant, half_life: Duration) -> f64 {
        let passed = now.saturating_duration_since(self.at);
        self.us * (-passed.div_duration_f64(half_life)).exp2()
    }

    fn add(&mut self, cost: Duration, now: Instant, half_life: Duration) {
        self.us = self.at(now, half_life) + cost.as_secs_f64() * 1e6;
        self.at = self.at.max(now);
    }
}

/// Networks that are compared when one has to be forgotten.
const LOOKED_AT: usize = 16;

/// What is not worth remembering, in microseconds.
const FORGOTTEN_US: f64 = 10.0;

impl Shares {
    /// Nobody has used anything.
    pub(crate) fn new(limits: ShareLimits, now: Instant) -> Self {
        Self { limits, used: BTreeMap::new(), total: Faded { us: 0.0, at: now }, tidied: now }
    }

    /// Notes what a turn has cost to the network of its caller.
    pub(crate) fn charge(&mut self, source: Prefix, cost: Duration, now: Instant) {
        let half_life = self.limits.half_life;
        if self.used.len() >= self.limits.networks_max && !self.used.contains_key(&source) {
            self.make_room(&source, now);
        }
        self.used.entry(source).or_insert(Faded { us: 0.0, at: now }).add(cost, now, half_life);
        self.total.add(cost, now, half_life);
    }

    /// True if a visit from this network that has waited for so long is to be served.
    pub(crate) fn admit(&mut self, source: Prefix, waited: Duration, now: Instant) -> bool {
        let (half_life, burst_us) = (self.limits.half_life, self.limits.burst.as_secs_f64() * 1e6);
        if waited < self.limits.free {
            return true;
        }
        let used = self.used.get(&source).map_or(0.0, |used| used.at(now, half_life));
        if used <= burst_us {
            return true;
        }
        self.tidy(now);
        let mean = self.total.at(now, half_life) / self.used.len().max(1) as f64;
        // One network alone is the mean, but for what rounding makes of it.
        used <= mean * 1.001
    }

    /// Forgets networks that have used nothing worth it, unless that was done a short while ago.
    fn tidy(&mut self, now: Instant) {
        if now.saturating_duration_since(self.tidied) >= self.limits.half_life.mul_f64(0.125) {
            self.used.retain(|_, used| used.at(now, self.limits.half_life) >= FORGOTTEN_US);
            self.tidied = now;
        }
    }

    /// Forgets, for a newcomer, whichever of a few networks that come after it has used least.
    fn make_room(&mut self, newcomer: &Prefix, now: Instant) {
        self.tidy(now);
        if self.used.len() < self.limits.networks_max {
            return;
        }
        let behind = (Bound::Excluded(newcomer), Bound::Unbounded);
        let few = self.used.range(behind).chain(&self.used).take(LOOKED_AT);
        let used = |faded: &Faded| faded.at(now, self.limits.half_life);
        if let Some(least) = few.min_by(|a, b| used(a.1).total_cmp(&used(b.1))).map(|(prefix, _)| *prefix) {
            self.used.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use comet_routing::clock::Clock;
    use proptest::prelude::*;

    use super::*;

    /// The rule switched off: whatever was used is a burst.
    const NEVER: ShareLimits = ShareLimits {
        free: Duration::from_millis(10),
        burst: Duration::MAX,
        half_life: Duration::from_secs(1),
        networks_max: 4_096,
    };

    fn network(n: u8) -> Prefix {
        Prefix::of([198, 51, n, 1].into())
    }

    /// Callers of one network: what each turn takes, how often one is asked for, and how many may wait.
    #[derive(Clone, Copy, Debug)]
    struct Callers {
        turn: Duration,
        gap: Duration,
        waiting_max: usize,
    }

    /// How long the visits of the first callers waited that were served, longest last, and how much of the thread's time each has
    /// had, when all visits wait in one queue.
    fn thread(limits: ShareLimits, callers: &[Callers], period: Duration) -> (Vec<Duration>, Vec<f64>) {
        let start = Clock::System.now();
        let mut shares = Shares::new(limits, start);
        let mut due: Vec<Instant> = callers.iter().map(|_| start).collect();
        let (mut queue, mut waiting) = (VecDeque::new(), vec![0; callers.len()]);
        let (mut now, mut waits, mut used) = (start, Vec::new(), vec![0.0; callers.len()]);
        while now < start + period {
            for (n, callers) in callers.iter().enumerate() {
                while due[n] <= now {
                    if waiting[n] < callers.waiting_max {
                        queue.push_back((n, due[n]));
                        waiting[n] += 1;
                    }
                    due[n] += callers.gap;
                }
            }
            let Some((n, sent)) = queue.pop_front() else {
                now = *due.iter().min().expect("there are callers");
                continue;
            };
            waiting[n] -= 1;
            let (waited, turn) = (now - sent, callers[n].turn);
            if shares.admit(network(n as u8), waited, now) {
                if n == 0 {
                    waits.push(waited);
                }
                now += turn;
                used[n] += turn.div_duration_f64(period);
                shares.charge(network(n as u8), turn, now);
            } else {
                // A refusal takes some time as well.
                now += Duration::from_micros(2);
            }
        }
        waits.sort();
        (waits, used)
    }

    const MS: Duration = Duration::from_millis(1);

    /// A network that asks for something small now and then, and one that visits ten thousand objects of nearly a budget each.
    const HONEST: Callers = Callers { turn: MS, gap: Duration::from_millis(20), waiting_max: 64 };
    const GREEDY: Callers =
        Callers { turn: Duration::from_millis(49), gap: Duration::from_micros(250), waiting_max: 10_000 };

    #[test]
    fn beside_ten_thousand_costly_objects_of_one_network_others_wait_for_one_turn_at_most() {
        let (waits, used) = thread(ShareLimits::default(), &[HONEST, GREEDY], 60_000 * MS);
        let all = (60_000 / 20) as f64;
        assert!(waits.len() as f64 >= all * 0.99, "nearly all are served: {}", waits.len());
        let p99 = waits[waits.len() * 99 / 100];
        assert!(p99 <= 70 * MS, "one turn, and the refusals behind it: {p99:?}");
        assert!(used[1] > 0.9, "what others leave is not wasted: {used:?}");
        let (waits, used) = thread(NEVER, &[HONEST, GREEDY], 60_000 * MS);
        let median = waits.get(waits.len() / 2).copied().unwrap_or(Duration::MAX);
        assert!(median > 1_000 * MS && used[1] > 0.9, "the control, without the rule: {median:?}, {used:?}");
    }

    #[test]
    fn one_network_alone_may_have_all_the_time() {
        let (waits, used) = thread(ShareLimits::default(), &[GREEDY], 10_000 * MS);
        assert!(waits.len() >= 200 && used[0] > 0.98, "{used:?}");
    }

    proptest! {
        #[test]
        fn networks_that_want_the_same_get_the_same_and_nothing_is_lost(
            networks in 2_usize..12,
            turn_ms in 1_u32..50,
        ) {
            let callers = Callers { turn: turn_ms * MS, gap: turn_ms * MS / 2, waiting_max: 64 };
            let (_, used) = thread(ShareLimits::default(), &vec![callers; networks], 30_000 * MS);
            let all: f64 = used.iter().sum();
            prop_assert!(all > 0.97, "the thread is never idle: {all}");
            let least = used.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(least >= 0.5 / networks as f64, "{used:?}");
        }
    }

    #[test]
    fn no_more_networks_are_remembered_than_may_be() {
        let limits = ShareLimits { networks_max: 3, ..ShareLimits::default() };
        let now = Clock::System.now();
        let mut shares = Shares::new(limits, now);
        (0..9).for_each(|n| shares.charge(network(n), 50 * MS, now));
        assert_eq!(shares.used.len(), 3);
        let later = now + Duration::from_secs(60);
        shares.charge(network(9), 50 * MS, later);
        assert_eq!(shares.used.len(), 1, "the others are forgotten by then");
    }

    #[test]
    fn a_network_that_comes_when_many_are_remembered_is_held_to_its_share_all_the_same() {
        let limits = ShareLimits { networks_max: 3, ..ShareLimits::default() };
        let now = Clock::System.now();
        let mut shares = Shares::new(limits, now);
        (0..3).for_each(|n| shares.charge(network(n), MS, now));
        assert!(shares.admit(network(9), 50 * MS, now), "the control: it has used nothing");
        (0..4).for_each(|_| shares.charge(network(9), 50 * MS, now));
        assert!(!shares.admit(network(9), 50 * MS, now));
    }
}
