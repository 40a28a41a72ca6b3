//! When timers are due, and how much of a shard's time their turns may take.
//!
//! An object ticks at a phase of its period that its key decides, so that objects with the same period do not
//! wake together, however they came to be. Timers that are due run one after the other, out of a share of the
//! shard's time: when that is used up they wait, while everything else goes on. The objects that have used the
//! least CPU time tick first; a tick that has waited for too long is skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use comet_routing::{Key, clock::WallMs};

use crate::cpu::{CpuBucket, CpuRate};

/// The share of a shard's time that its objects' timers may take: 10 %, of which a second's part at once.
pub const TIMER_SHARE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Ticks that may wait; beyond it, the one of the object that has used the most is skipped.
const WAITING_MAX: usize = 4_096;

/// How long a tick may wait until it is skipped, in milliseconds: the shortest period of a timer.
const WAIT_MAX_MS: u64 = 60_000;

/// When the timer of an object that has not ticked yet is first due: within one period, when its key says.
pub fn first_due(key: &Key, period_ms: u64, now: WallMs) -> WallMs {
    let period_ms = period_ms.max(1);
    let phase_ms = phase_ms(key, period_ms);
    let since_ms = (now % period_ms + period_ms - phase_ms) % period_ms;
    now.saturating_add(period_ms - since_ms)
}

/// When it is due again after a tick at `now`. Between two ticks lies at least half a period, also where the
/// first of them was late.
pub fn next_due(key: &Key, period_ms: u64, now: WallMs) -> WallMs {
    first_due(key, period_ms, now.saturating_add(period_ms / 2))
}

/// Where in its period an object ticks. The key is hashed, since people choose keys.
fn phase_ms(key: &Key, period_ms: u64) -> u64 {
    let hash = Key::of(key.to_string());
    let start = hash.as_bytes().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(start) % period_ms
}

/// The ticks of one shard that are due.
#[derive(Debug)]
pub struct TimerQueue {
    rate: CpuRate,
    share: CpuBucket,
    running: Option<Key>,
    /// Since when each waits, and its place among `order`.
    waiting: BTreeMap<Key, Place>,
    order: BTreeSet<(Place, Key)>,
}

/// The least used first, of those the longest waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    used_ms: u128,
    since_ms: WallMs,
}

impl TimerQueue {
    /// A queue whose ticks may use so much.
    pub fn new(rate: CpuRate, now: WallMs) -> Self {
        Self {
            rate,
            share: CpuBucket::full(rate, now),
            running: None,
            waiting: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// Ticks that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if no tick waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes that the timer of an object is due which has used so much CPU time. Returns whose tick is skipped,
    /// where there is no room.
    pub fn enter(&mut self, key: Key, used: Duration, now: WallMs) -> Option<Key> {
        if self.waiting.contains_key(&key) {
            return None;
        }
        let place = Place { used_ms: used.as_millis(), since_ms: now };
        self.waiting.insert(key, place);
        self.order.insert((place, key));
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        let (_, last) = self.order.pop_last()?;
        self.waiting.remove(&last);
        Some(last)
    }

    /// Who ticks next; nobody while another tick is under way, or as long as the share is used up.
    pub fn next(&mut self, now: WallMs) -> Option<Key> {
        if self.running.is_some() || self.share.wait_ms(self.rate, now) > 0 {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.waiting.remove(&key);
        self.running = Some(key);
        Some(key)
    }

    /// Takes what a timer's turn has cost out of the share.
    pub fn charge(&mut self, cost: Duration, now: WallMs) {
        self.share.charge(cost, self.rate, now);
    }

    /// The tick that [`TimerQueue::next`] named is over, or is not waited for any longer.
    pub fn ended(&mut self, key: &Key) {
        self.running.take_if(|running| running == key);
    }

    /// Takes out the ticks that have waited for too long.
    pub fn skip_late(&mut self, now: WallMs) -> Vec<Key> {
        let late = |place: &Place| place.since_ms.saturating_add(WAIT_MAX_MS) <= now;
        let late: Vec<_> = self.order.iter().filter(|(place, _)| late(place)).map(|(_, key)| *key).collect();
        for key in &late {
            if let Some(place) = self.waiting.remove(key) {
                self.order.remove(&(place, *key));
            }
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PERIOD_MS: u64 = 60_000;
    const TICK: Duration = Duration::from_millis(45);
    const NOW: WallMs = 1_767_225_600_000;

    fn key(n: u64) -> Key {
        Key::of(n.to_string())
    }

    fn unlimited() -> CpuRate {
        CpuRate::new(Duration::from_secs(1_000_000_000), Duration::from_millis(1))
    }

    fn share() -> CpuRate {
        CpuRate::new(TIMER_SHARE.0, TIMER_SHARE.1)
    }

    /// The most of these that fall into one second.
    fn busiest_second(dues: impl Iterator<Item = WallMs>) -> usize {
        let mut seconds = BTreeMap::new();
        dues.for_each(|due| *seconds.entry(due / 1_000).or_insert(0) += 1);
        seconds.into_values().max().unwrap_or(0)
    }

    #[test]
    fn timers_of_one_period_are_spread_over_it() {
        let keys = || (0..6_000).map(key);
        let spread = busiest_second(keys().map(|key| first_due(&key, PERIOD_MS, NOW)));
        assert!(spread <= 150, "100 in the mean, and {spread} in the busiest second");
        let together = busiest_second(keys().map(|_| NOW + PERIOD_MS));
        assert_eq!(together, 6_000, "the control: without the keys they wake together");
    }

    /// What happens on a shard with 1,000 objects whose timers take 45 ms each minute, and ten gets a second,
    /// in ten minutes: what the ticks used, and the longest that a get waited, in milliseconds.
    fn crowded(rate: CpuRate, due: impl Fn(&Key, WallMs) -> WallMs) -> (u64, u64) {
        let mut queue = TimerQueue::new(rate, NOW);
        let mut dues: BTreeSet<_> = (0..1_000).map(key).map(|key| (due(&key, NOW), key)).collect();
        let (mut busy_until, mut used_ms, mut longest_ms) = (NOW, 0, 0);
        for now in NOW..NOW + 600_000 {
            while let Some((at, key)) = dues.first().copied().filter(|(at, _)| *at <= now) {
                dues.remove(&(at, key));
                dues.insert((due(&key, at), key));
                queue.enter(key, Duration::ZERO, now);
            }
            if now % 1_000 == 0 {
                queue.skip_late(now);
            }
            if now % 100 == 0 {
                longest_ms = longest_ms.max(busy_until.saturating_sub(now));
                busy_until = busy_until.max(now) + 1;
            }
            // A tick begins when the one before it is over; without a share, all that are due are begun.
            while busy_until <= now || rate == unlimited() {
                let Some(key) = queue.next(now) else { break };
                busy_until = busy_until.max(now) + TICK.as_millis() as u64;
                used_ms += TICK.as_millis() as u64;
                queue.charge(TICK, now);
                queue.ended(&key);
            }
        }
        (used_ms, longest_ms)
    }

    #[test]
    fn timers_take_a_tenth_of_the_time_and_a_get_waits_for_one_of_them_at_most() {
        let (used_ms, longest_ms) = crowded(share(), |key, now| next_due(key, PERIOD_MS, now));
        assert!((50_000..=60_200).contains(&used_ms), "{used_ms} ms of ten minutes");
        assert!(longest_ms <= 46, "a get waited {longest_ms} ms");
        let (used_ms, longest_ms) = crowded(unlimited(), |_, now| now + PERIOD_MS);
        assert!(used_ms > 400_000, "the control: {used_ms} ms without share");
        assert!(longest_ms > 40_000, "the control: {longest_ms} ms when all wake together");
    }

    #[test]
    fn who_used_least_ticks_first_and_one_tick_runs_at_a_time() {
        let mut queue = TimerQueue::new(share(), 0);
        for (n, used_ms, since) in [(1, 900, 0), (2, 0, 1), (3, 20, 0), (4, 0, 2)] {
            assert_eq!(queue.enter(key(n), Duration::from_millis(used_ms), since), None);
        }
        assert_eq!(queue.enter(key(2), Duration::ZERO, 3), None, "it waits already");
        let mut order = Vec::new();
        while let Some(next) = queue.next(5) {
            assert_eq!(queue.next(5), None, "one is under way");
            queue.charge(Duration::from_millis(1), 5);
            queue.ended(&key(99));
            queue.ended(&next);
            order.push(next);
        }
        assert_eq!(order, [2, 4, 3, 1].map(key));
    }

    #[test]
    fn what_waits_too_long_or_finds_no_room_is_skipped() {
        let mut queue = TimerQueue::new(share(), 0);
        queue.charge(Duration::from_secs(100), 0);
        assert_eq!(queue.enter(key(0), Duration::from_secs(1), 0), None);
        for n in 1..WAITING_MAX as u64 {
            assert_eq!(queue.enter(key(n), Duration::ZERO, n), None);
        }
        assert_eq!(queue.enter(key(9_999), Duration::ZERO, 9), Some(key(0)), "it has used the most");
        assert_eq!(queue.next(9), None);
        assert_eq!(queue.skip_late(WAIT_MAX_MS + 2), [key(1), key(2)]);
        assert_eq!(queue.len(), WAITING_MAX - 2);
    }

    proptest! {
        #[test]
        fn an_object_ticks_once_a_period_however_late_its_ticks_are(
            n in any::<u64>(), period_ms in 60_000u64..100_000_000, late in prop::collection::vec(0.0f64..2.0, 1..20),
        ) {
            let key = key(n);
            let mut due = first_due(&key, period_ms, NOW);
            prop_assert!((NOW + 1..=NOW + period_ms).contains(&due));
            for late in late {
                let ticked = due + (late * period_ms as f64) as u64;
                let next = next_due(&key, period_ms, ticked);
                prop_assert_eq!((next - due) % period_ms, 0, "it keeps its phase");
                prop_assert!(next > ticked + period_ms / 2 && next <= ticked + period_ms / 2 + period_ms);
                due = next;
            }
        }
    }
}
