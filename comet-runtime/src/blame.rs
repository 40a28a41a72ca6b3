//! Who pays for a turn that failed.
//!
//! A caller whose requests an object cannot make anything of pays for them, and is soon not heard any more: its
//! network has some CPU time for failures at each object, and some at all objects together. What overruns a
//! budget is the object's own fault as well: it pays as for any turn, and if it happens again and again, it
//! rests for a while. So a caller that makes an object fail at will, which undoes what other callers' runs have
//! done since their last wait, does so a few times and not for as long as it likes.

use std::{collections::BTreeMap, time::Duration};

use comet_routing::{Key, Prefix, clock::WallMs};

use crate::{
    Failure, Outcome, Progress, Refusal,
    cpu::{CpuAccounts, CpuRate},
};

/// What a failed request costs at least: the object has to be made anew.
const FAILURE_COST_MIN: Duration = Duration::from_millis(10);

/// What one network's failed requests to one object may cost: ten at once, and one in a second.
const AT_ONE_OBJECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What one network's failed requests, refused puts and new code may cost at all objects together: 5 %.
const AT_ALL_OBJECTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// Networks, and as many pairs of a network and an object, that are remembered.
const ACCOUNTS_MAX: usize = 16_384;

/// Overruns in a row that cost an object no more than their time.
const OVERRUNS_FREE: u32 = 3;

/// How long an object rests after the first overrun that is one too many; twice as long after each further one.
const REST_MS: u64 = 1_000;

/// The longest rest, in milliseconds.
const REST_MS_MAX: u64 = 300_000;

/// Objects whose overruns are remembered.
const OVERRUNS_MAX: usize = 16_384;

/// What one network's failed requests may cost, at one object and at all of them.
pub fn failure_rates() -> (CpuRate, CpuRate) {
    let rate = |(full, refill)| CpuRate::new(full, refill);
    (rate(AT_ONE_OBJECT), rate(AT_ALL_OBJECTS))
}

/// How a turn ended, as far as it matters who pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Well.
    Good,
    /// With a wait, or for a reason that is nobody's fault.
    Open,
    /// The object refused.
    Refused,
    /// The object could make nothing of what it got.
    Invalid,
    /// A budget was overrun.
    Overrun,
}

impl Verdict {
    /// What the end of a turn says about who is to blame.
    pub(crate) fn of(end: &Result<Progress, Failure>) -> Self {
        match end {
            Ok(Progress::Waiting) => Self::Open,
            Ok(Progress::Done(Outcome::Refuse(_))) => Self::Refused,
            Ok(Progress::Done(_)) => Self::Good,
            Err(failure) => Self::of_failure(failure),
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Steps { .. } | Failure::Time { .. } | Failure::Memory { .. } => Self::Overrun,
            Failure::Error(_) | Failure::BadReply(_) | Failure::BadState(_) => Self::Invalid,
            Failure::Deadline { .. } | Failure::Interrupted => Self::Open,
        }
    }
}

/// The failures of one shard's objects, and whose they were.
#[derive(Debug)]
pub(crate) struct Blame {
    by_visit: CpuAccounts<(Prefix, Key)>,
    by_source: CpuAccounts<Prefix>,
    overruns: BTreeMap<Key, Overruns>,
}

#[derive(Clone, Copy, Debug)]
struct Overruns {
    in_a_row: u32,
    rests_until_ms: WallMs,
}

impl Blame {
    /// Nobody has failed yet; networks have so much for it.
    pub(crate) fn new(at_one_object: CpuRate, at_all_objects: CpuRate) -> Self {
        Self {
            by_visit: CpuAccounts::new(at_one_object, ACCOUNTS_MAX),
            by_source: CpuAccounts::new(at_all_objects, ACCOUNTS_MAX),
            overruns: BTreeMap::new(),
        }
    }

    /// Says whether a request from this network to this object is heard. This node's own are.
    pub(crate) fn admit(&self, key: &Key, source: Option<Prefix>, now: WallMs) -> Result<(), Refusal> {
        let spent = |what: &str, wait_ms: u64| {
            Err(Refusal::Spent { what: what.into(), wait_seconds: wait_ms.div_ceil(1_000) })
        };
        if let Some(overruns) = self.overruns.get(key)
            && overruns.rests_until_ms > now
        {
            let wait_ms = overruns.rests_until_ms - now;
            return spent("this object rests, since it has overrun its budgets again and again", wait_ms);
        }
        let Some(source) = source else { return Ok(()) };
        match (self.by_visit.wait_ms(&(source, *key), now), self.by_source.wait_ms(&source, now)) {
            (0, 0) => Ok(()),
            (0, wait_ms) => spent("too many requests from this network have failed", wait_ms),
            (wait_ms, _) => spent("too many requests from this network to this object have failed", wait_ms),
        }
    }

    /// Charges what new code or an object's arrival has cost to the network that it came from.
    pub(crate) fn charge(&mut self, source: Prefix, cost: Duration, now: WallMs) {
        self.by_source.charge(source, cost, now);
    }

    /// Takes note of a turn that a request from this network caused. Returns what of its cost is the object's.
    pub(crate) fn settle(
        &mut self,
        key: &Key,
        source: Option<Prefix>,
        verdict: Verdict,
        cost: Duration,
        now: WallMs,
    ) -> Duration {
        match verdict {
            Verdict::Good => drop(self.overruns.remove(key)),
            Verdict::Overrun => self.note_overrun(*key, now),
            Verdict::Open | Verdict::Refused | Verdict::Invalid => {}
        }
        let is_fine = matches!(verdict, Verdict::Good | Verdict::Open);
        let Some(source) = source.filter(|_| !is_fine) else { return cost };
        let paid = if verdict == Verdict::Refused { cost } else { cost.max(FAILURE_COST_MIN) };
        self.by_visit.charge((source, *key), paid, now);
        self.by_source.charge(source, paid, now);
        if verdict == Verdict::Overrun { cost } else { Duration::ZERO }
    }

    fn note_overrun(&mut self, key: Key, now: WallMs) {
        if self.overruns.len() >= OVERRUNS_MAX && !self.overruns.contains_key(&key) {
            let first = self.overruns.iter().min_by_key(|(_, overruns)| overruns.rests_until_ms);
            let first = first.map(|(key, _)| *key);
            first.and_then(|first| self.overruns.remove(&first));
        }
        let overruns = self.overruns.entry(key).or_insert(Overruns { in_a_row: 0, rests_until_ms: 0 });
        overruns.in_a_row = overruns.in_a_row.saturating_add(1);
        if let Some(doublings) = overruns.in_a_row.checked_sub(OVERRUNS_FREE + 1) {
            let rest_ms = REST_MS.checked_shl(doublings.min(32)).unwrap_or(REST_MS_MAX).min(REST_MS_MAX);
            overruns.rests_until_ms = now.saturating_add(rest_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(1);

    fn network(n: u8) -> Option<Prefix> {
        Some(Prefix::of([192, 0, n, 1].into()))
    }

    fn blame() -> Blame {
        let (at_one, at_all) = failure_rates();
        Blame::new(at_one, at_all)
    }

    /// How many of a hundred requests a second for a minute are heard, all of which fail.
    fn heard(blame: &mut Blame, source: Option<Prefix>, key: impl Fn(u64) -> Key, verdict: Verdict) -> usize {
        let heard = |n: &u64| {
            let (key, now) = (key(*n), n * 10);
            let admitted = blame.admit(&key, source, now).is_ok();
            if admitted {
                blame.settle(&key, source, verdict, TURN, now);
            }
            admitted
        };
        (0..6_000).filter(heard).count()
    }

    #[test]
    fn a_network_fails_at_an_object_ten_times_and_then_once_a_second() {
        let key = Key::of("victim");
        let mut blame = blame();
        let failures = heard(&mut blame, network(1), |_| key, Verdict::Invalid);
        assert!((68..=71).contains(&failures), "{failures} of 6,000 in a minute");
        assert!(matches!(blame.admit(&key, network(1), 59_990), Err(Refusal::Spent { .. })));
        assert_eq!(blame.admit(&key, network(2), 59_990), Ok(()), "another network is heard");
        assert_eq!(
            blame.admit(&Key::of("b"), network(1), 59_990),
            Ok(()),
            "and so is this at another object"
        );
        let patient = CpuRate::new(Duration::from_secs(1_000_000), Duration::from_secs(1));
        let failures = heard(&mut Blame::new(patient, patient), network(1), |_| key, Verdict::Invalid);
        assert_eq!(failures, 6_000, "the control: nothing is charged");
    }

    #[test]
    fn a_network_that_fails_at_many_objects_is_heard_by_none() {
        let mut blame = blame();
        let failures = heard(&mut blame, network(1), |n| Key::of(n.to_string()), Verdict::Invalid);
        assert!((395..=402).contains(&failures), "{failures}: 100 at once and 5 a second");
        let refused = blame.admit(&Key::of("new"), network(1), 59_990);
        let Err(Refusal::Spent { what, wait_seconds }) = refused else { panic!("{refused:?}") };
        assert_eq!((&*what, wait_seconds), ("too many requests from this network have failed", 1));
    }

    #[test]
    fn an_invalid_request_costs_its_sender_and_an_overrun_the_object_as_well() {
        let (mut blame, key) = (blame(), Key::of("a"));
        let mut settle = |source, verdict| blame.settle(&key, source, verdict, TURN, 0);
        assert_eq!(settle(network(1), Verdict::Good), TURN);
        assert_eq!(settle(network(1), Verdict::Invalid), Duration::ZERO);
        assert_eq!(settle(network(1), Verdict::Overrun), TURN);
        assert_eq!(settle(network(2), Verdict::Refused), Duration::ZERO);
        assert_eq!(settle(None, Verdict::Invalid), TURN, "nobody else is there to pay");
        let used = [1, 2].map(|n| blame.by_source.used(&network(n).unwrap(), 0));
        assert_eq!(used, [FAILURE_COST_MIN * 2, TURN]);
    }

    #[test]
    fn an_object_that_overruns_again_and_again_rests_ever_longer_until_a_turn_ends_well() {
        let (mut blame, key) = (blame(), Key::of("a"));
        let mut now = 0;
        let mut rests = Vec::new();
        for _ in 0..14 {
            blame.settle(&key, None, Verdict::Overrun, TURN, now);
            rests.push(blame.overruns[&key].rests_until_ms.saturating_sub(now) / 1_000);
            now = blame.overruns[&key].rests_until_ms.max(now);
        }
        assert_eq!(rests, [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(blame.admit(&key, network(1), now - 1).is_err());
        blame.settle(&key, network(1), Verdict::Good, TURN, now);
        blame.settle(&key, None, Verdict::Overrun, TURN, now);
        assert_eq!(blame.admit(&key, network(1), now), Ok(()), "it begins anew");
    }
}
