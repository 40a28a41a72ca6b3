//! How many nodes of one network may be among those that count.
//!
//! An id cannot be chosen, but searched for: whoever makes keys until some lie near an object's key has the
//! places nearest to it for himself. Addresses in many networks are dearer than keys. So wherever the nodes
//! closest to a key are meant, those that keep an object above all, only the nearest few of each [`Prefix`]
//! count, and the others are passed over. Nodes with the same view of the network choose the same ones.
//!
//! A node judges its own place by the address it has itself. Behind an address translator that is not the one
//! that others see; it then takes itself for one more network, and at worst keeps a copy that it need not keep.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{Contact, Prefix};

/// Which nodes of a list, nearest first, count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diversity {
    /// Nodes of one prefix that count.
    pub per_prefix: usize,
    /// Whether this holds for loopback and private addresses too.
    pub private_ranges: PrivateRanges,
}

/// Whether many nodes may share a prefix of loopback, private or link-local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateRanges {
    /// They are limited like any other prefix.
    Counted,
    /// They are not limited: for a swarm on one machine or in one local network.
    Exempt,
}

impl Default for Diversity {
    /// Two of one network, as many as a bucket of the routing table takes: with the eight replicas of an object it
    /// takes four networks to have them all.
    fn default() -> Self {
        Self { per_prefix: 2, private_ranges: PrivateRanges::Counted }
    }
}

impl Diversity {
    /// The first `n` nodes that count, in the order of `nodes`, which come nearest first.
    pub fn nearest(&self, n: usize, nodes: impl IntoIterator<Item = Contact>) -> Vec<Contact> {
        let mut chosen = BTreeMap::<Prefix, usize>::new();
        let counts = |node: &Contact| {
            let Some(prefix) = self.prefix_of(node) else { return true };
            let of_prefix = chosen.entry(prefix).or_default();
            *of_prefix = of_prefix.saturating_add(1);
            *of_prefix <= self.per_prefix
        };
        nodes.into_iter().filter(counts).take(n).collect()
    }

    /// True if as many of these nodes are in one network as count: there may be others of it, who would count in
    /// their stead, and whom a routing table turns away.
    pub fn is_crowded(&self, nodes: &[Contact]) -> bool {
        let mut places = BTreeMap::<Prefix, usize>::new();
        nodes.iter().filter_map(|node| self.prefix_of(node)).any(|prefix| {
            let taken = places.entry(prefix).or_default();
            *taken = taken.saturating_add(1);
            *taken >= self.per_prefix
        })
    }

    /// In how many networks these nodes are; one whose address is exempt is a network of its own.
    pub fn networks<'a>(&self, nodes: impl IntoIterator<Item = &'a Contact>) -> usize {
        let mut prefixes: Vec<_> = nodes.into_iter().map(|node| self.prefix_of(node)).collect();
        prefixes.sort_unstable();
        prefixes.dedup_by(|a, b| a == b && a.is_some());
        prefixes.len()
    }

    /// The prefix that a node is counted under, if it is.
    pub fn prefix_of(&self, node: &Contact) -> Option<Prefix> {
        self.private_ranges.prefix_of(node.addr.ip())
    }
}

impl PrivateRanges {
    /// The prefix that an address is counted under, if it is.
    pub fn prefix_of(self, ip: IpAddr) -> Option<Prefix> {
        let exempt = self == Self::Exempt && is_private(ip);
        (!exempt).then(|| Prefix::of(ip))
    }
}

/// True for loopback, private (RFC 1918, RFC 4193) and link-local addresses.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Key, NodeId};

    const COUNTED: Diversity = Diversity { per_prefix: 2, private_ranges: PrivateRanges::Counted };
    const EXEMPT: Diversity = Diversity { per_prefix: 2, private_ranges: PrivateRanges::Exempt };

    fn node(id: [u8; 32], ip: [u8; 4]) -> Contact {
        Contact::new(NodeId::from_bytes(id), (ip, 7_400).into())
    }

    /// Nodes of one /24, nearer to the key of zeros than anybody else, and honest ones in networks of their own.
    fn crowd_and_others(crowd: u8, others: &[[u8; 32]], ip: [u8; 3]) -> Vec<Contact> {
        let near = (1..=crowd).map(|n| {
            let mut id = [0; 32];
            id[31] = n;
            node(id, [ip[0], ip[1], ip[2], n])
        });
        let far = others.iter().zip(0_u8..).map(|(id, n)| {
            let mut id = *id;
            id[0] |= 1;
            node(id, [198, 18, n, 1])
        });
        let mut all: Vec<_> = near.chain(far).collect();
        let key = Key::from_bytes([0; 32]);
        all.sort_by_key(|node| key.distance_to(&node.id));
        all
    }

    fn of_crowd(nodes: &[Contact], ip: [u8; 3]) -> usize {
        let prefix = Prefix::of([ip[0], ip[1], ip[2], 1].into());
        nodes.iter().filter(|node| Prefix::of(node.addr.ip()) == prefix).count()
    }

    proptest! {
        #[test]
        fn forty_nodes_of_one_network_take_two_places_however_near_they_are(
            others in prop::collection::vec(any::<[u8; 32]>(), 6..60),
        ) {
            let public = [203, 0, 113];
            let all = crowd_and_others(40, &others, public);
            let replicas = COUNTED.nearest(8, all.iter().copied());
            prop_assert_eq!(of_crowd(&replicas, public), 2);
            prop_assert_eq!(replicas.len(), 8, "the rest goes to others");
            prop_assert_eq!(&replicas, &EXEMPT.nearest(8, all.iter().copied()), "nothing public is exempt");

            let private = [192, 168, 7];
            let all = crowd_and_others(40, &others, private);
            prop_assert_eq!(of_crowd(&COUNTED.nearest(8, all.iter().copied()), private), 2);
            prop_assert_eq!(of_crowd(&EXEMPT.nearest(8, all), private), 8, "the control: they take all");
        }

        #[test]
        fn the_chosen_are_the_nearest_that_the_limit_leaves(
            nets in prop::collection::vec(0_u8..6, 0..60), n in 0_usize..30,
        ) {
            let all: Vec<_> =
                nets.iter().zip(0_u8..).map(|(net, at)| node([at; 32], [203, 0, *net, at])).collect();
            let chosen = COUNTED.nearest(n, all.iter().copied());
            prop_assert!(chosen.len() <= n);
            for (place, node) in all.iter().enumerate() {
                let prefix = Prefix::of(node.addr.ip());
                let nearer = all[..place].iter().filter(|other| Prefix::of(other.addr.ip()) == prefix);
                let fits = nearer.count() < 2;
                let before = chosen.iter().take_while(|other| other.id < node.id).count();
                prop_assert_eq!(chosen.contains(node), fits && before < n);
            }
            let fewer = COUNTED.nearest(n / 2, all);
            prop_assert_eq!(&chosen[..fewer.len()], &fewer[..], "who wants fewer wants the first of them");
        }
    }

    #[test]
    fn nodes_are_in_as_many_networks_as_there_are_prefixes_and_exempt_ones_in_their_own() {
        let nodes = [[203, 0, 113, 1], [203, 0, 113, 2], [192, 168, 7, 1], [192, 168, 7, 2], [198, 18, 0, 1]];
        let nodes: Vec<_> = nodes.iter().zip(0_u8..).map(|(ip, n)| node([n; 32], *ip)).collect();
        assert_eq!(COUNTED.networks(&nodes), 3);
        assert_eq!(EXEMPT.networks(&nodes), 4);
        assert_eq!(COUNTED.networks([]), 0);
        assert!(COUNTED.is_crowded(&nodes[..2]) && !COUNTED.is_crowded(&nodes[1..3]));
        assert!(COUNTED.is_crowded(&nodes[2..4]) && !EXEMPT.is_crowded(&nodes[2..4]));
    }
}
