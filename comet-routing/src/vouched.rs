//! When the routing table can stand in for a lookup.
//!
//! A lookup asks twenty nodes and more, which is most of what a put costs, and in a swarm of some dozens they all say what
//! the table says. So a lookup that found nobody but members vouches for the table: of the part of the id space that it
//! went through it has everybody who is there. That holds for a minute, and ends at once when a lookup finds a node that is
//! no member.
//!
//! Of a lookup that found so many closest nodes, the farthest shares some number of bits with the target; then everybody
//! who shares more of them was found. Nodes that share so many bits with a target are the range of one bucket, or all
//! that share so many bits with this node, or a part of a range, of which nothing is kept here.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Contact, Ended, Key, NodeId, Outcome, RoutingTable, lost::Lost};

/// How long a lookup vouches for the table.
const VOUCHED: Duration = Duration::from_secs(60);

/// Nodes that are named where fewer are wanted: Kademlia's k.
const CANDIDATES: usize = 20;

/// For which parts of the id space lookups vouch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vouched {
    /// Buckets whose ranges the table has as a whole, and since when: 256 at most.
    ranges: BTreeMap<usize, Instant>,
    /// All that share so many bits with this node, and since when.
    around: Option<(usize, Instant)>,
}

impl Vouched {
    /// Somebody entered the table: there may be more who are new.
    pub(crate) fn on_entered(&mut self) {
        *self = Self::default();
    }

    /// A lookup for this target has ended, which wanted so many nodes.
    pub(crate) fn on_lookup(
        &mut self,
        table: &RoutingTable,
        target: &Key,
        outcome: &Outcome,
        wanted: usize,
        now: Instant,
    ) {
        if outcome.closest.iter().any(|found| !table.contains(&found.id)) {
            *self = Self::default();
            return;
        }
        if outcome.ended != Ended::Converged || !outcome.late.is_empty() {
            return;
        }
        let range = shared_bits(target, &table.own);
        let is_everybody = outcome.closest.len() < wanted;
        // Those behind are spares, between whom there may be others.
        let farthest = outcome.closest.iter().take(wanted).next_back();
        let shared = farthest.map(|farthest| shared_bits(target, &farthest.id).saturating_add(1));
        let depth = if is_everybody { 0 } else { shared.unwrap_or(0) };
        if depth <= range {
            let wider = self.around.filter(|(known, since)| *known < depth && is_fresh(*since, now));
            self.around = wider.or(Some((depth, now)));
        } else if depth == range.saturating_add(1) {
            self.ranges.insert(range, now);
        }
    }

    /// What a lookup for `n` nodes would find, and those behind them, if the members closest to the target are certainly the closest nodes that
    /// there are, and none of them is under suspicion.
    pub(crate) fn find(
        &self,
        table: &RoutingTable,
        target: &Key,
        n: usize,
        lost: &Lost,
        now: Instant,
    ) -> Option<Outcome> {
        let known = self.closest(table, target, n, now)?.len();
        let missed = if known < n { lost.missed(now) } else { 0 };
        // More than are wanted: those that were there a minute ago may be gone, and then the next are asked.
        let closest = table.closest(target, CANDIDATES);
        Some(Outcome { closest, late: Vec::new(), missed, hops: 0, queries: 0, ended: Ended::Converged })
    }

    fn closest(&self, table: &RoutingTable, target: &Key, n: usize, now: Instant) -> Option<Vec<Contact>> {
        let closest = table.closest_where(target, n, |_| true);
        let depth = match closest.last() {
            Some(farthest) if closest.len() == n => shared_bits(target, &farthest.id),
            _ => 0,
        };
        let range = shared_bits(target, &table.own);
        let around =
            self.around.is_some_and(|(known, since)| known <= depth.min(range) && is_fresh(since, now));
        let in_range = depth > range && self.ranges.get(&range).is_some_and(|since| is_fresh(*since, now));
        let is_known = around || in_range;
        let unsuspected = table.closest_where(target, n, |entry| entry.suspicions == 0);
        (is_known && !closest.is_empty() && closest == unsuspected).then_some(closest)
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < VOUCHED
}

fn shared_bits(target: &Key, node: &NodeId) -> usize {
    target.distance_to(node).leading_zeros()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{PrivateRanges, TableConfig, clock::Clock};

    const OWN: NodeId = NodeId::from_bytes([0; 32]);

    fn node(first: u8, second: u8) -> Contact {
        let mut id = [0; 32];
        (id[0], id[1]) = (first, second);
        Contact::new(NodeId::from_bytes(id), ([10, first, second, 1], 7400).into())
    }

    fn key(first: u8, second: u8) -> Key {
        node(first, second).id.as_key()
    }

    fn table_of(nodes: &[Contact], now: Instant) -> RoutingTable {
        let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
        let mut table = RoutingTable::new(OWN, config);
        for node in nodes {
            table.on_reached(*node, now);
        }
        table
    }

    /// What an honest lookup among these nodes finds.
    fn found(nodes: &[Contact], target: &Key, wanted: usize) -> Outcome {
        let mut closest = nodes.to_vec();
        closest.sort_by_cached_key(|node| target.distance_to(&node.id));
        closest.truncate(wanted);
        Outcome { closest, late: vec![], missed: 0, hops: 1, queries: 9, ended: Ended::Converged }
    }

    proptest! {
        #[test]
        fn what_is_vouched_for_is_what_a_lookup_would_find(
            nodes in prop::collection::btree_set((0..64_u8, 0..4_u8), 1..30),
            unknown in 0..4_usize,
            lookups in prop::collection::vec((0..64_u8, 0..4_u8, 1..21_usize), 1..4),
            target in (0..64_u8, 0..4_u8),
            n in 1..20_usize,
        ) {
            let now = Clock::System.now();
            // Those that are not known may be anywhere.
            let mut nodes: Vec<_> = nodes.into_iter().filter(|(a, b)| (*a, *b) != (0, 0)).map(|(a, b)| node(a, b)).collect();
            nodes.sort_by_key(|node| (node.id.as_bytes()[0].reverse_bits(), node.id.as_bytes()[1]));
            let table = table_of(&nodes[unknown.min(nodes.len())..], now);
            let mut vouched = Vouched::default();
            for (first, second, wanted) in lookups {
                let target = key(first, second);
                vouched.on_lookup(&table, &target, &found(&nodes, &target, wanted), wanted, now);
            }
            let target = key(target.0, target.1);
            if let Some(closest) = vouched.closest(&table, &target, n, now) {
                prop_assert_eq!(closest, found(&nodes, &target, n).closest);
                prop_assert!(vouched.find(&table, &target, n, &Lost::default(), now).is_some());
            }
        }
    }

    #[test]
    fn a_lookup_vouches_for_the_range_that_it_went_through_for_a_minute() {
        let now = Clock::System.now();
        let nodes: Vec<_> = (0..9).map(|n| node(0x80 + n, 0)).chain([node(1, 0), node(2, 0)]).collect();
        let table = table_of(&nodes, now);
        let mut vouched = Vouched::default();
        let closest = |vouched: &Vouched, target: Key, at| vouched.closest(&table, &target, 8, at);
        assert_eq!(closest(&vouched, key(0x83, 7), now), None, "no lookup was made");
        let wide = found(&nodes, &key(0x90, 0), 10);
        vouched.on_lookup(&table, &key(0x90, 0), &wide, 10, now);
        assert_eq!(closest(&vouched, key(0x83, 7), now), Some(found(&nodes, &key(0x83, 7), 8).closest));
        assert_eq!(closest(&vouched, key(1, 7), now), None, "another range");
        assert_eq!(closest(&vouched, key(0x83, 7), now + VOUCHED), None);
    }

    #[test]
    fn nobody_is_vouched_for_who_is_suspect_or_beside_whom_a_stranger_was_found() {
        let now = Clock::System.now();
        let nodes: Vec<_> = (1..5).map(|n| node(n, 0)).collect();
        let (target, stranger) = (key(9, 9), node(7, 0));
        let mut table = table_of(&nodes, now);
        let mut vouched = Vouched::default();
        vouched.on_lookup(&table, &target, &found(&nodes, &target, 8), 8, now);
        assert!(vouched.closest(&table, &target, 8, now).is_some(), "the lookup found everybody");
        let mut other = vouched.clone();
        other.on_lookup(&table, &target, &found(&[stranger], &target, 8), 8, now);
        assert_eq!(other.closest(&table, &target, 8, now), None);
        let late = Outcome { late: vec![stranger], ..found(&nodes, &target, 8) };
        let mut unsure = Vouched::default();
        unsure.on_lookup(&table, &target, &late, 8, now);
        assert_eq!(unsure.closest(&table, &target, 8, now), None);
        table.on_failure(&nodes[0].id, now);
        assert_eq!(vouched.closest(&table, &target, 8, now), None);
    }
}
