//! What follows when an operation meets replicas that are not as they should be.

use comet_routing::{Contact, Diversity, Key};
use comet_store::Version;

/// Whom to ask to see to an object's replicas after a read, if anybody: the nearest holder of the newest version.
///
/// Somebody is to be asked if a replica holds an older version, or if a node lacks the object that is nearer to
/// its key than one that holds it. Both come nearest first.
pub fn mender(key: &Key, holders: &[(Contact, Version)], absent: &[Contact]) -> Option<Contact> {
    let newest = holders.iter().map(|(_, version)| *version).max()?;
    let (mender, _) = holders.iter().find(|(_, version)| *version == newest)?;
    let (farthest, _) = holders.last()?;
    let reach = key.distance_to(&farthest.id);
    let is_behind = holders.iter().any(|(_, version)| *version < newest);
    let is_missing = absent.iter().any(|node| key.distance_to(&node.id) < reach);
    (is_behind || is_missing).then_some(*mender)
}

/// Networks from which it has to be said that an object kept itself before a value is taken back from others: a
/// single node may lie, and would have the value gone from all that stored it.
const WITNESSES: usize = 2;

/// The nodes that stored a plain value of this version beside an active object which, where it was, decided to
/// keep itself: there the value should not be. That the object did takes `WITNESSES`, or one where there could
/// be no more beside a node that stored the value.
pub fn strays(version: Version, stored: &[(Contact, Version)], diversity: Diversity) -> Vec<Contact> {
    let keepers = stored.iter().filter(|(_, kept)| *kept < version);
    let witnesses = diversity.networks(keepers.map(|(node, _)| node));
    let is_overruled = witnesses >= WITNESSES.min(stored.len().saturating_sub(1)).max(1);
    let strays = stored.iter().filter(|(_, kept)| is_overruled && *kept == version);
    strays.map(|(node, _)| *node).collect()
}

#[cfg(test)]
mod tests {
    use comet_routing::PrivateRanges;

    use super::*;
    use crate::operation::roster::tests::node;

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    fn held(holders: &[(u8, u64)]) -> Vec<(Contact, Version)> {
        holders.iter().map(|(n, sequence)| (node(*n), version(*sequence))).collect()
    }

    #[test]
    fn the_nearest_holder_of_the_newest_version_is_asked_when_somebody_is_behind() {
        let key = Key::from_bytes([0; 32]);
        let asked = |holders: &[(u8, u64)], absent: &[u8]| {
            let absent: Vec<_> = absent.iter().map(|n| node(*n)).collect();
            mender(&key, &held(holders), &absent)
        };
        assert_eq!(asked(&[(1, 5), (2, 5)], &[]), None);
        assert_eq!(asked(&[(1, 5), (2, 7), (3, 7)], &[]), Some(node(2)));
        assert_eq!(asked(&[(2, 5)], &[1]), Some(node(2)), "a nearer node lacks it");
        assert_eq!(asked(&[(1, 5)], &[2]), None, "a farther one need not have it");
        assert_eq!(asked(&[], &[1]), None);
    }

    fn taken_back(stored: &[(Contact, Version)]) -> Vec<Contact> {
        let exempt = Diversity { private_ranges: PrivateRanges::Exempt, ..Diversity::default() };
        strays(version(7), stored, exempt)
    }

    #[test]
    fn two_nodes_of_one_network_are_one_witness() {
        let stored = held(&[(1, 5), (2, 7), (3, 5)]);
        assert_eq!(strays(version(7), &stored, Diversity::default()), []);
        assert_eq!(taken_back(&stored), [node(2)], "the control: their network is exempt");
    }

    #[test]
    fn a_value_beside_an_object_that_kept_itself_is_a_stray() {
        assert_eq!(taken_back(&held(&[(1, 7), (2, 7)])), []);
        assert_eq!(taken_back(&held(&[(1, 5), (2, 7), (3, 5), (4, 7)])), [node(2), node(4)]);
        assert_eq!(taken_back(&held(&[(1, 9), (2, 7)])), [], "the other was put later");
    }

    #[test]
    fn one_node_alone_does_not_have_a_value_taken_back_from_many() {
        assert_eq!(taken_back(&held(&[(1, 5), (2, 7), (3, 7)])), []);
        assert_eq!(taken_back(&held(&[(1, 5), (2, 7), (3, 5)])), [node(2)]);
        assert_eq!(taken_back(&held(&[(1, 5), (2, 7)])), [node(2)], "there are but two");
        assert_eq!(taken_back(&held(&[(2, 7)])), []);
    }
}
