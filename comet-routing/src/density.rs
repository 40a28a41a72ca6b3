//! How near is near, going by how dense nodes are around one's own id.

use std::time::Instant;

use crate::{Contact, Key, RoutingTable};

/// Whom to ask first for what lies at a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prospects {
    /// Members of the table, nearest first.
    pub contacts: Vec<Contact>,
    /// True if the table has everybody around the key. Else they are probably near, and there may be others that are nearer.
    pub are_nearest: bool,
}

impl RoutingTable {
    /// The members closest to `target`, nearest first and `count` at most, that are worth asking for what lies there before anybody is
    /// asked for the way: where the table has everybody around the key all of them, elsewhere those that are probably among the `copies` nodes
    /// nearest to it.
    ///
    /// Ids are spread evenly. So within the distance that this node's n-th neighbour has from it, there are about n nodes around any
    /// other key; half as many as there are copies leave room for chance. In a small swarm a bucket may be full of nodes that hold most of
    /// what lies in its range; in a large one its members are far from nearly all of it.
    pub fn worth_asking(&self, target: &Key, count: usize, copies: usize, now: Instant) -> Prospects {
        let mut closest = self.closest(target, count);
        let are_nearest = self.is_complete_around(target, now);
        if !are_nearest {
            let own = self.own.as_key();
            let farthest =
                self.closest(&own, copies.div_ceil(2)).last().map(|neighbour| own.distance_to(&neighbour.id));
            closest.retain(|contact| {
                farthest.is_some_and(|farthest| target.distance_to(&contact.id) < farthest)
            });
        }
        Prospects { contacts: closest, are_nearest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::{NodeId, PrivateRanges, TableConfig, clock::Clock};

    const COPIES: usize = 8;

    /// The n-th node of a swarm, at an address of its own.
    fn node(n: usize, id: [u8; 32]) -> Contact {
        let [.., a, b] = u32::to_be_bytes(n as u32);
        Contact::new(NodeId::from_bytes(id), ([10, 7, a, b], 7400).into())
    }

    /// The table of the first of these nodes, which has met the others.
    fn table_of(all: &[Contact], now: Instant) -> RoutingTable {
        let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
        let mut table = RoutingTable::new(all[0].id, config);
        for contact in &all[1..] {
            table.on_reached(*contact, now);
        }
        table
    }

    /// Of a thousand random keys around which the table of one of so many nodes does not have everybody: for how many it has somebody
    /// worth asking, and for how many of those the first is among the nodes nearest to the key.
    fn outlook(nodes: usize) -> (usize, usize, usize) {
        let rng = &mut ChaCha12Rng::seed_from_u64(nodes as u64);
        let key = |rng: &mut ChaCha12Rng| {
            let mut bytes = [0; 32];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let all: Vec<_> = (0..nodes).map(|n| node(n, key(rng))).collect();
        let now = Clock::System.now();
        let table = table_of(&all, now);
        let keys = (0..1_000).map(|_| Key::from_bytes(key(rng)));
        let unsure: Vec<_> = keys.filter(|key| !table.is_complete_around(key, now)).collect();
        let asked: Vec<_> = unsure
            .iter()
            .filter_map(|key| Some((key, *table.worth_asking(key, 20, COPIES, now).contacts.first()?)))
            .collect();
        let holds = |(key, asked): &(&Key, Contact)| {
            let nearer = all.iter().filter(|node| key.distance_to(&node.id) < key.distance_to(&asked.id));
            nearer.count() < COPIES
        };
        (unsure.len(), asked.len(), asked.iter().filter(|asked| holds(asked)).count())
    }

    #[test]
    fn where_buckets_have_just_become_full_those_who_are_asked_nearly_always_have_it() {
        let (unsure, asked, holding) = outlook(60);
        assert!(unsure > 400, "{unsure} of a thousand keys lie in full buckets");
        assert!(asked * 10 > unsure * 9, "{asked} of {unsure}");
        assert!(holding * 20 > asked * 19, "{holding} of {asked}");
    }

    #[test]
    fn in_a_large_swarm_few_are_asked_and_most_of_those_have_it() {
        let (unsure, asked, holding) = outlook(5_000);
        assert!(unsure > 900, "{unsure}");
        assert!(asked * 3 < unsure, "{asked} of {unsure}");
        assert!(holding * 4 > asked * 3, "{holding} of {asked} of {unsure}");
    }

    #[test]
    fn whoever_knows_nobody_has_nobody_to_ask() {
        let table = RoutingTable::new(NodeId::from_bytes([1; 32]), TableConfig::default());
        let prospects = table.worth_asking(&Key::of("a"), 20, COPIES, Clock::System.now());
        assert!(prospects.contacts.is_empty());
    }

    proptest! {
        #[test]
        fn who_is_asked_are_the_nearest_members_and_all_of_them_where_everybody_is_known(
            ids in prop::collection::vec(any::<[u8; 32]>(), 1..120),
            target: [u8; 32],
            count in 0..24_usize,
            copies in 1..12_usize,
        ) {
            let (target, now) = (Key::from_bytes(target), Clock::System.now());
            let all: Vec<_> = ids.into_iter().enumerate().map(|(n, id)| node(n, id)).collect();
            let table = table_of(&all, now);
            let closest = table.closest(&target, count);
            let Prospects { contacts, are_nearest } = table.worth_asking(&target, count, copies, now);
            prop_assert_eq!(are_nearest, table.is_complete_around(&target, now));
            prop_assert!(closest.starts_with(&contacts));
            prop_assert!(!are_nearest || contacts == closest);
            let more = table.worth_asking(&target, count, copies + 2, now).contacts;
            prop_assert!(more.starts_with(&contacts), "where more nodes have it, no fewer are asked");
        }
    }
}
