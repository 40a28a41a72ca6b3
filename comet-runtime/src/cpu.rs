//! CPU time and who may use how much of it.
//!
//! What a turn costs is known only when it has ended, so a [`CpuBucket`] may be overdrawn: whoever has something
//! left may run, pays afterwards, and waits until the debt is paid off.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use comet_routing::clock::WallMs;

/// The period in which an object's CPU time comes back, in milliseconds: a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// How much CPU time there is at once, and how soon as much has come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuRate {
    full_us: f64,
    us_per_ms: f64,
}

impl CpuRate {
    /// As much as `full`, which comes back evenly over `refill`.
    pub fn new(full: Duration, refill: Duration) -> Self {
        let full_us = full.as_micros() as f64;
        Self { full_us, us_per_ms: full_us / (refill.as_millis() as f64).max(1.0) }
    }

    /// So many seconds a day.
    pub fn daily(seconds: u64) -> Self {
        Self::new(Duration::from_secs(seconds), Duration::from_millis(DAY_MS))
    }
}

/// CPU time of one user, by the clock that it was filled by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuBucket {
    left_us: f64,
    filled_ms: WallMs,
}

impl CpuBucket {
    /// The bucket of one who has used nothing.
    pub fn full(rate: CpuRate, now: WallMs) -> Self {
        Self { left_us: rate.full_us, filled_ms: now }
    }

    /// Pays for a turn, with what is not there yet as well.
    pub fn charge(&mut self, cost: Duration, rate: CpuRate, now: WallMs) {
        self.left_us = self.left_at(rate, now) - cost.as_secs_f64() * 1e6;
        self.filled_ms = self.filled_ms.max(now);
    }

    /// How long it takes until something is left, in milliseconds; 0 if something is.
    pub fn wait_ms(&self, rate: CpuRate, now: WallMs) -> u64 {
        let left_us = self.left_at(rate, now);
        if left_us > 0.0 { 0 } else { (-left_us / rate.us_per_ms).floor() as u64 + 1 }
    }

    /// What is used and has not come back yet.
    pub fn used(&self, rate: CpuRate, now: WallMs) -> Duration {
        Duration::from_micros((rate.full_us - self.left_at(rate, now)).max(0.0) as u64)
    }

    /// When everything has come back.
    fn full_ms(&self, rate: CpuRate) -> WallMs {
        let wait_ms = (rate.full_us - self.left_us).max(0.0) / rate.us_per_ms;
        self.filled_ms.saturating_add(wait_ms.ceil() as u64)
    }

    fn left_at(&self, rate: CpuRate, now: WallMs) -> f64 {
        let passed_ms = now.saturating_sub(self.filled_ms) as f64;
        (self.left_us + passed_ms * rate.us_per_ms).min(rate.full_us)
    }
}

/// The CPU time of many users, of whom only those are remembered who have used something of it.
#[derive(Clone, Debug)]
pub struct CpuAccounts<K> {
    rate: CpuRate,
    accounts_max: usize,
    used: BTreeMap<K, CpuBucket>,
    /// When each account is full at the earliest: whoever uses more since puts that off, which is noted when it is looked at.
    by_full_ms: BTreeSet<(WallMs, K)>,
}

impl<K: Copy + Ord> CpuAccounts<K> {
    /// Accounts in which nobody has used anything. At most `accounts_max` are remembered.
    pub fn new(rate: CpuRate, accounts_max: usize) -> Self {
        Self { rate, accounts_max: accounts_max.max(1), used: BTreeMap::new(), by_full_ms: BTreeSet::new() }
    }

    /// Charges a turn to its user. Where there is no room for another account, the one that is full first is
    /// forgotten.
    pub fn charge(&mut self, user: K, cost: Duration, now: WallMs) {
        if cost.is_zero() {
            return;
        }
        if let Some(bucket) = self.used.get_mut(&user) {
            bucket.charge(cost, self.rate, now);
            return self.shrink(self.accounts_max, now);
        }
        self.shrink(self.accounts_max.saturating_sub(1), now);
        let mut bucket = CpuBucket::full(self.rate, now);
        bucket.charge(cost, self.rate, now);
        self.by_full_ms.insert((bucket.full_ms(self.rate), user));
        self.used.insert(user, bucket);
    }

    /// How long the user has to wait, in milliseconds; 0 for one who may run.
    pub fn wait_ms(&self, user: &K, now: WallMs) -> u64 {
        self.used.get(user).map_or(0, |bucket| bucket.wait_ms(self.rate, now))
    }

    /// What the user has used and has not got back yet.
    pub fn used(&self, user: &K, now: WallMs) -> Duration {
        self.used.get(user).map_or(Duration::ZERO, |bucket| bucket.used(self.rate, now))
    }

    /// Forgets whoever has everything back, and then those who will have it first, until so many accounts are left.
    fn shrink(&mut self, accounts_max: usize, now: WallMs) {
        while let Some((noted_ms, first)) = self.by_full_ms.first().copied()
            && (noted_ms <= now || self.used.len() > accounts_max)
        {
            self.by_full_ms.pop_first();
            match self.used.get(&first).map(|bucket| bucket.full_ms(self.rate)) {
                Some(full_ms) if full_ms > noted_ms => drop(self.by_full_ms.insert((full_ms, first))),
                _ => drop(self.used.remove(&first)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TURN: Duration = Duration::from_millis(50);

    #[test]
    fn ten_seconds_a_day_are_two_hundred_turns_at_once_and_one_in_seven_minutes_afterwards() {
        let mut accounts = CpuAccounts::new(CpuRate::daily(10), 10);
        let mut run = |now| {
            let may = accounts.wait_ms(&'a', now) == 0;
            if may {
                accounts.charge('a', TURN, now);
            }
            may
        };
        assert_eq!((0..1_000).filter(|_| run(0)).count(), 200);
        let seconds = (1..=DAY_MS / 1_000).filter(|second| run(second * 1_000)).count();
        assert_eq!(seconds, 200, "as many come back in a day");
    }

    #[test]
    fn a_debt_is_waited_for_and_a_clock_that_steps_back_gives_nothing() {
        let rate = CpuRate::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut bucket = CpuBucket::full(rate, 1_000);
        bucket.charge(Duration::from_millis(150), rate, 1_000);
        assert_eq!(bucket.wait_ms(rate, 1_000), 501, "50 ms at 10 %");
        assert_eq!(bucket.wait_ms(rate, 1_501), 0);
        assert_eq!(bucket.wait_ms(rate, 0), 501);
        assert_eq!(bucket.used(rate, 1_500), Duration::from_millis(100));
        assert_eq!(bucket.used(rate, 60_000), Duration::ZERO);
    }

    #[test]
    fn whoever_used_least_is_forgotten_first() {
        let mut accounts = CpuAccounts::new(CpuRate::daily(10), 2);
        for (user, turns) in [('a', 3), ('b', 1), ('c', 2)] {
            accounts.charge(user, TURN * turns, 0);
        }
        let used = ['a', 'b', 'c'].map(|user| accounts.used(&user, 0));
        assert_eq!(used, [TURN * 3, Duration::ZERO, TURN * 2]);
        accounts.charge('d', TURN, DAY_MS);
        assert_eq!(accounts.used.len(), 1, "who has everything back needs no account");
    }

    #[test]
    fn what_is_used_later_counts_for_who_is_forgotten() {
        let mut accounts = CpuAccounts::new(CpuRate::daily(10), 2);
        for (user, turns) in [('a', 1), ('b', 2), ('a', 2), ('c', 1)] {
            accounts.charge(user, TURN * turns, 0);
        }
        let used = ['a', 'b', 'c'].map(|user| accounts.used(&user, 0));
        assert_eq!(used, [TURN * 3, Duration::ZERO, TURN]);
    }

    proptest! {
        #[test]
        fn nobody_uses_more_than_its_rate_and_one_turn(
            turns in prop::collection::vec((0u64..60_000, 1u64..100), 1..300),
        ) {
            let rate = CpuRate::new(Duration::from_millis(100), Duration::from_secs(1));
            let mut accounts = CpuAccounts::new(rate, 1);
            let (mut now, mut used) = (0, Duration::ZERO);
            for (pause_ms, cost_ms) in turns {
                now += pause_ms;
                if accounts.wait_ms(&'a', now) == 0 {
                    let cost = Duration::from_millis(cost_ms);
                    accounts.charge('a', cost, now);
                    used += cost;
                }
                prop_assert!(used.as_millis() as u64 <= 100 + 100 + now / 10);
            }
            prop_assert_eq!(accounts.used.len(), accounts.by_full_ms.len());
        }
    }
}
