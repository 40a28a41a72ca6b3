//! What the router knows, for those who cannot wait for its answer.
//!
//! A get asks one thing of the router before all others: whether this node is itself the nearest to the key.
//! A message there and back costs more than the whole get. So the router shows its table to everybody, and renews what
//! it shows when somebody enters or leaves.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{Contact, Key, NodeId, RoutingTable, TableConfig};

/// A routing table as it was when somebody entered or left last.
#[derive(Clone, Debug)]
pub struct TableView(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    table: RwLock<RoutingTable>,
    /// True if somebody has been in it.
    has_had_company: AtomicBool,
}

impl TableView {
    /// The view of a node that knows nobody yet.
    pub fn new(own: NodeId, config: TableConfig) -> Self {
        let table = RwLock::new(RoutingTable::new(own, config));
        Self(Arc::new(Shown { table, has_had_company: AtomicBool::new(false) }))
    }

    /// Shows this table from now on.
    pub fn show(&self, table: &RoutingTable) {
        table.clone_into(&mut self.0.table.write().unwrap_or_else(PoisonError::into_inner));
        self.0.has_had_company.fetch_or(!table.is_empty(), Relaxed);
    }

    /// True if this node has known nobody since it started: nobody is missed either.
    pub fn has_been_alone(&self) -> bool {
        !self.0.has_had_company.load(Relaxed)
    }

    /// True if certainly nobody is nearer to `target` than this node: it knows everybody around the key. A node that
    /// knows nobody is the nearest.
    pub fn is_nearest(&self, target: &Key, now: Instant) -> bool {
        let table = self.0.table.read().unwrap_or_else(PoisonError::into_inner);
        let reach = target.distance_to(&table.own);
        let is_nearer = |contact: &Contact| target.distance_to(&contact.id) < reach;
        table.is_empty() || (table.is_complete_around(target, now) && !table.rivals(target).any(is_nearer))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::{PrivateRanges, clock::Clock};

    fn node(id: [u8; 32], host: u8) -> Contact {
        Contact::new(NodeId::from_bytes(id), (Ipv4Addr::new(203, 0, host, 7), 7400).into())
    }

    const OWN: NodeId = NodeId::from_bytes([0; 32]);

    fn view_of(contacts: &[Contact]) -> (TableView, RoutingTable, Instant) {
        let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
        let (mut table, now) = (RoutingTable::new(OWN, config), Clock::System.now());
        for contact in contacts {
            table.on_reached(*contact, now);
        }
        let view = TableView::new(OWN, config);
        view.show(&table);
        (view, table, now)
    }

    #[test]
    fn who_has_lost_everybody_has_not_been_alone() {
        let (view, mut table, now) = view_of(&[]);
        assert!(view.has_been_alone());
        let other = node([7; 32], 1);
        table.on_reached(other, now);
        view.show(&table);
        assert!(!view.has_been_alone());
        view.show(&RoutingTable::new(OWN, TableConfig::default()));
        assert!(!view.has_been_alone());
    }

    proptest! {
        #[test]
        fn it_says_yes_only_where_the_table_itself_has_nobody_nearer(
            ids in prop::collection::vec(any::<[u8; 32]>(), 0..60),
            target: [u8; 32],
            near in 0..40_usize,
        ) {
            // Some targets share many bits with the own id, as those that this node keeps do.
            let mut target = target;
            target[..near / 8].fill(0);
            let target = Key::unowned(target);
            let contacts: Vec<_> = ids.iter().zip(0_u8..).map(|(id, host)| node(*id, host)).collect();
            let (view, table, now) = view_of(&contacts);
            let first = table.closest(&target, 1).pop();
            let is_first = first.is_none_or(|first| {
                target.distance_to(&OWN) < target.distance_to(&first.id)
            });
            let is_complete = table.is_empty() || table.is_complete_around(&target, now);
            prop_assert_eq!(view.is_nearest(&target, now), is_first && is_complete);
        }
    }

    #[test]
    fn what_is_shown_later_counts() {
        let (target, near) = (Key::unowned([0xff; 32]), node([0xfe; 32], 1));
        let (view, mut table, now) = view_of(&[]);
        assert!(view.is_nearest(&target, now), "it knows nobody");
        table.on_reached(near, now);
        assert!(view.is_nearest(&target, now));
        view.show(&table);
        assert!(!view.is_nearest(&target, now));
        assert!(view.is_nearest(&OWN.as_key(), now));
    }
}
