//! What the router knows, for those who cannot wait for its answer.
//!
//! Most gets of a busy key ask one thing of the router: whether this node is itself among those that keep the object.
//! A message there and back costs more than the whole get. So the router shows its table to everybody, and renews what
//! it shows when somebody enters or leaves.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use crate::{Contact, Diversity, Key, NodeId, RoutingTable, TableConfig};

/// A routing table as it was when somebody entered or left last.
#[derive(Clone, Debug)]
pub struct TableView(Arc<RwLock<RoutingTable>>);

impl TableView {
    /// The view of a node that knows nobody yet.
    pub fn new(own: NodeId, config: TableConfig) -> Self {
        Self(Arc::new(RwLock::new(RoutingTable::new(own, config))))
    }

    /// Shows this table from now on.
    pub fn show(&self, table: &RoutingTable) {
        table.clone_into(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// True if this node is certainly among the `n` nodes that keep what is at `target`: it knows everybody around the
    /// key, fewer than `n` of them are nearer, and its own network has a place left among them. A node that knows
    /// nobody keeps everything.
    pub fn keeps(&self, own: &Contact, target: &Key, n: usize, diversity: &Diversity, now: Instant) -> bool {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if table.is_empty() {
            return true;
        }
        if !table.is_complete_around(target, now) {
            return false;
        }
        let (reach, network) = (target.distance_to(&own.id), diversity.prefix_of(own));
        let (mut nearer, mut of_network) = (0_usize, 0_usize);
        for contact in table.rivals(target).filter(|contact| target.distance_to(&contact.id) < reach) {
            nearer = nearer.saturating_add(1);
            if network.is_some() && diversity.prefix_of(contact) == network {
                of_network = of_network.saturating_add(1);
            }
        }
        nearer < n && of_network < diversity.per_prefix
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{PrivateRanges, clock::Clock};

    fn node(id: [u8; 32], host: u8) -> Contact {
        Contact::new(NodeId::from_bytes(id), (Ipv4Addr::new(203, 0, host, 7), 7400).into())
    }

    fn own() -> Contact {
        node([0; 32], 0)
    }

    fn view_of(contacts: &[Contact]) -> (TableView, RoutingTable, Instant) {
        let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
        let (mut table, now) = (RoutingTable::new(own().id, config), Clock::System.now());
        for contact in contacts {
            table.on_reached(*contact, now);
        }
        let view = TableView::new(own().id, config);
        view.show(&table);
        (view, table, now)
    }

    proptest! {
        #[test]
        fn it_says_yes_only_where_the_table_itself_has_this_node_among_the_closest(
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..60),
            target: [u8; 32],
            near in 0..40_usize,
            n in 1..10_usize,
        ) {
            // Some targets share many bits with the own id, as those that this node keeps do.
            let mut target = target;
            target[..near / 8].fill(0);
            let target = Key::unowned(target);
            let contacts: Vec<_> = ids.iter().zip(0_u8..).map(|(id, host)| node(*id, host)).collect();
            let (view, table, now) = view_of(&contacts);
            let diversity = Diversity::default();
            let mut nodes = table.closest(&target, 60);
            nodes.push(own());
            nodes.sort_by_cached_key(|node| target.distance_to(&node.id));
            let keepers = diversity.nearest(n, nodes);
            let keeps = view.keeps(&own(), &target, n, &diversity, now);
            prop_assert!(!keeps || keepers.contains(&own()));
            let complete = table.is_empty() || table.is_complete_around(&target, now);
            prop_assert!(keeps || !complete || !keepers.contains(&own()) || table.len() >= n);
        }
    }

    #[test]
    fn a_node_whose_network_has_its_places_already_does_not_keep() {
        let target = Key::unowned([0xff; 32]);
        let (mut near, mut nearer) = ([0xff; 32], [0xff; 32]);
        (near[31], nearer[31]) = (1, 2);
        let (view, _, now) = view_of(&[node(near, 1), node(nearer, 2)]);
        let keeps = |per_prefix| {
            let diversity = Diversity { per_prefix, ..Diversity::default() };
            view.keeps(&own(), &target, 8, &diversity, now)
        };
        assert!(keeps(2), "each is in a network of its own");
        let (view, _, now) = view_of(&[node(near, 0)]);
        let diversity = Diversity { per_prefix: 1, ..Diversity::default() };
        assert!(!view.keeps(&own(), &target, 8, &diversity, now));
        assert!(view.keeps(&own(), &own().id.as_key(), 8, &diversity, now + Duration::from_secs(1)));
    }
}
