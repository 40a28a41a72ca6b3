//! Which newcomers are being probed, and how soon one may be probed again.
//!
//! A probe is a connection made to an address for no other purpose than to see whether it can be made. A node
//! that sits behind a network which lets nobody in keeps asking its peers things, and would keep them probing:
//! so the pause between two probes of one node doubles each time in vain.
//!
//! Ids cost nothing, addresses do. A host that shows up under ever new ids gets no more probes than the limits for
//! its network leave it, so that it neither takes the places of others nor has this node dial it all the time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{NodeId, Prefix};

/// Probes under way.
const UNDER_WAY_MAX: usize = 64;
/// Of them to one network.
const UNDER_WAY_OF_PREFIX_MAX: usize = 2;
/// The pause between two probes to one network. It has three places in the table.
const PREFIX_PAUSE: Duration = Duration::from_secs(1);
/// A probe about which nothing was heard for this long no longer counts as under way.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// The pause after a probe. Shorter than the time between two refreshes, each of which tries some lost contacts.
const PAUSE_MIN: Duration = Duration::from_secs(45);
/// How often the pause doubles: twelve minutes, so that a node which becomes reachable is found out.
const DOUBLINGS_MAX: u32 = 4;
/// Nodes remembered. At most [`UNDER_WAY_MAX`] at a time cannot fill this within [`PAUSE_MIN`].
const REMEMBERED_MAX: usize = 4_096;

/// Probes under way, and those of a while ago.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    under_way: BTreeMap<NodeId, UnderWay>,
    remembered: BTreeMap<NodeId, Probed>,
    /// When networks were probed, within the last [`PREFIX_PAUSE`].
    prefixes: BTreeMap<Prefix, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    since: Instant,
    prefix: Option<Prefix>,
}

#[derive(Clone, Copy, Debug)]
struct Probed {
    at: Instant,
    /// How often in a row it could not be reached.
    failures: u32,
}

impl Probed {
    fn is_pausing(&self, now: Instant) -> bool {
        let pause = PAUSE_MIN * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        now.saturating_duration_since(self.at) < pause
    }
}

impl Probes {
    /// True if this node may be probed now; it then counts as being probed. `prefix` is its network, if that counts.
    pub(crate) fn begin(&mut self, id: NodeId, prefix: Option<Prefix>, now: Instant) -> bool {
        self.under_way.retain(|_, probe| now.saturating_duration_since(probe.since) < FORGOTTEN);
        self.prefixes.retain(|_, at| now.saturating_duration_since(*at) < PREFIX_PAUSE);
        if prefix.is_some_and(|prefix| self.is_crowded(prefix)) {
            return false;
        }
        if self.under_way.len() >= UNDER_WAY_MAX || self.under_way.contains_key(&id) {
            return false;
        }
        if self.remembered.get(&id).is_some_and(|probed| probed.is_pausing(now)) {
            return false;
        }
        if self.remembered.len() >= REMEMBERED_MAX && !self.remembered.contains_key(&id) {
            self.remembered.retain(|_, probed| now.saturating_duration_since(probed.at) < PAUSE_MIN);
        }
        if self.remembered.len() >= REMEMBERED_MAX && !self.remembered.contains_key(&id) {
            return false;
        }
        self.under_way.insert(id, UnderWay { since: now, prefix });
        if let Some(prefix) = prefix {
            self.prefixes.insert(prefix, now);
        }
        self.remembered.entry(id).or_insert(Probed { at: now, failures: 0 }).at = now;
        true
    }

    fn is_crowded(&self, prefix: Prefix) -> bool {
        let of_prefix = self.under_way.values().filter(|probe| probe.prefix == Some(prefix));
        self.prefixes.contains_key(&prefix) || of_prefix.count() >= UNDER_WAY_OF_PREFIX_MAX
    }

    /// The node was reached.
    pub(crate) fn on_reached(&mut self, id: &NodeId) {
        self.under_way.remove(id);
        if let Some(probed) = self.remembered.get_mut(id) {
            probed.failures = 0;
        }
    }

    /// That the node could not be reached so far is not held against it any more.
    pub(crate) fn forgive(&mut self, id: &NodeId) {
        if let Some(probed) = self.remembered.get_mut(id) {
            probed.failures = 0;
        }
    }

    /// The probe was not made, for a reason of this node: nothing is known about the other.
    pub(crate) fn on_unmade(&mut self, id: &NodeId) {
        self.under_way.remove(id);
    }

    /// The node was not reached.
    pub(crate) fn on_unreachable(&mut self, id: &NodeId) {
        self.under_way.remove(id);
        if let Some(probed) = self.remembered.get_mut(id) {
            probed.failures = probed.failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn node(n: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        NodeId::from_bytes(id)
    }

    #[test]
    fn a_node_is_probed_once_in_a_pause() {
        let now = Clock::System.now();
        let mut probes = Probes::default();
        assert!(probes.begin(node(1), None, now));
        probes.on_reached(&node(1));
        assert!(!probes.begin(node(1), None, now + PAUSE_MIN - Duration::from_millis(1)));
        assert!(probes.begin(node(2), None, now), "the pause is the node's own");
        assert!(probes.begin(node(1), None, now + PAUSE_MIN));
    }

    #[test]
    fn the_pause_of_an_unreachable_node_doubles_up_to_a_limit_and_a_success_ends_that() {
        let mut now = Clock::System.now();
        let mut probes = Probes::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert!(probes.begin(node(1), None, now));
            probes.on_unreachable(&node(1));
            let again = (1..).map(|n| PAUSE_MIN * n).find(|after| {
                let probed = probes.remembered[&node(1)];
                !probed.is_pausing(now + *after)
            });
            let again = again.expect("it is probed again some time");
            pauses.push(again.as_secs());
            now += again;
        }
        assert_eq!(pauses, [90, 180, 360, 720, 720, 720, 720]);
        assert!(probes.begin(node(1), None, now));
        probes.on_reached(&node(1));
        assert!(probes.begin(node(1), None, now + PAUSE_MIN));
    }

    #[test]
    fn a_node_that_is_forgiven_is_probed_after_the_shortest_pause() {
        let now = Clock::System.now();
        let mut probes = Probes::default();
        for id in [node(1), node(2)] {
            assert!(probes.begin(id, None, now));
            probes.on_unreachable(&id);
        }
        probes.forgive(&node(1));
        let begun = [1, 2].map(|n| probes.begin(node(n), None, now + PAUSE_MIN));
        assert_eq!(begun, [true, false], "and the other one is not");
    }

    #[test]
    fn a_probe_that_was_not_made_does_not_count_against_the_node() {
        let now = Clock::System.now();
        let mut probes = Probes::default();
        assert!(probes.begin(node(1), None, now));
        probes.on_unmade(&node(1));
        assert!(probes.under_way.is_empty());
        assert!(probes.begin(node(1), None, now + PAUSE_MIN));
        probes.on_unreachable(&node(1));
        assert!(!probes.begin(node(1), None, now + PAUSE_MIN * 2), "the control: it was not reached");
    }

    #[test]
    fn so_many_are_probed_at_a_time_and_forgotten_ones_make_room() {
        let now = Clock::System.now();
        let mut probes = Probes::default();
        let begun = (0..UNDER_WAY_MAX + 9).filter(|&n| probes.begin(node(n), None, now)).count();
        assert_eq!(begun, UNDER_WAY_MAX);
        assert!(probes.begin(node(999), None, now + FORGOTTEN));
    }

    #[test]
    fn a_crowd_of_strangers_is_not_remembered_for_ever() {
        let start = Clock::System.now();
        let mut probes = Probes::default();
        for n in 0..3 * REMEMBERED_MAX {
            let now = start + Duration::from_millis(20) * u32::try_from(n).expect("a small number");
            assert!(probes.begin(node(n), None, now), "the {n}th");
            probes.on_unreachable(&node(n));
            assert!(probes.remembered.len() <= REMEMBERED_MAX);
        }
    }

    /// Whether a newcomer is probed at once while a host asks for a probe under a new id each millisecond, none of
    /// which comes to anything; and how often that host was probed in a minute.
    fn beside_a_flood(prefix: Option<Prefix>) -> (bool, usize) {
        let start = Clock::System.now();
        let mut probes = Probes::default();
        let flood = (0..60_000).filter(|&n| {
            let now = start + Duration::from_millis(1) * u32::try_from(n).expect("a small number");
            probes.begin(node(n), prefix, now)
        });
        let flood = flood.count();
        let newcomer = Prefix::of([198, 18, 0, 1].into());
        (probes.begin(node(100_000), Some(newcomer), start + Duration::from_millis(59_999)), flood)
    }

    #[test]
    fn a_host_with_ever_new_ids_does_not_hold_up_a_newcomer() {
        let (newcomer, flood) = beside_a_flood(Some(Prefix::of([203, 0, 113, 1].into())));
        assert!(newcomer);
        assert!(flood <= 12, "two in ten seconds: {flood}");
        let (newcomer, flood) = beside_a_flood(None);
        assert!(!newcomer, "the control: its network does not count, and all places are taken");
        assert!(flood >= 6 * UNDER_WAY_MAX);
    }

    #[test]
    fn a_network_is_probed_once_in_a_second_even_if_each_probe_succeeds_at_once() {
        let start = Clock::System.now();
        let mut probes = Probes::default();
        let prefix = Some(Prefix::of([203, 0, 113, 1].into()));
        let flood = (0..5_000).filter(|&n| {
            let now = start + Duration::from_millis(1) * u32::try_from(n).expect("a small number");
            let begun = probes.begin(node(n), prefix, now);
            probes.on_reached(&node(n));
            begun
        });
        assert_eq!(flood.count(), 5);
    }
}
