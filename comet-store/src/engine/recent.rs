//! Changes that are on the disk, or to be, and that the database has not taken yet.
//!
//! A transaction of the database costs as much for one change as for hundreds. So a commit leaves its changes here, where readers
//! find them first, and the database takes them all at once: what was changed again and again goes into it once.

use std::collections::{BTreeMap, btree_map};

use super::{Batch, Range, Table, memory::is_empty};

/// The newest change of each key, of all batches since it was emptied last.
#[derive(Debug, Default)]
pub(super) struct Recent {
    changes: Batch,
    bytes: usize,
}

impl Recent {
    /// Takes in what a batch changes.
    pub(super) fn absorb(&mut self, batch: &Batch) {
        for (table, key, value) in batch.changes() {
            self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.map_or(0, <[u8]>::len));
            self.changes.tables.entry(table).or_default().insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    /// Everything as one batch.
    pub(super) fn changes(&self) -> &Batch {
        &self.changes
    }

    /// Bytes of keys and values that came in, counted anew each time that a key changed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What became of a key: the outer `None` if nothing did, the inner if it was removed.
    pub(super) fn value(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.tables.get(&table)?.get(key).map(Option::as_deref)
    }

    /// The changes of a range, in ascending order.
    pub(super) fn range(
        &self,
        table: Table,
        range: Range<'_>,
    ) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let changes = self.changes.tables.get(&table).filter(|_| !is_empty(range));
        let found = changes.map_or_else(btree_map::Range::default, |changes| changes.range::<[u8], _>(range));
        found.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// Forgets everything, now that the database has it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use super::*;

    #[test]
    fn the_newest_change_of_a_key_counts_and_a_removal_is_one() {
        let mut recent = Recent::default();
        let mut first = Batch::default();
        first.put(Table::Meta, *b"a", *b"old");
        first.put(Table::Meta, *b"b", *b"kept");
        first.put(Table::Logs, *b"a", *b"another table");
        let mut second = Batch::default();
        second.put(Table::Meta, *b"a", *b"new");
        second.delete(Table::Meta, *b"c");
        recent.absorb(&first);
        recent.absorb(&second);
        assert_eq!(recent.value(Table::Meta, b"a"), Some(Some(b"new".as_slice())));
        assert_eq!(recent.value(Table::Meta, b"c"), Some(None));
        assert_eq!(recent.value(Table::Meta, b"d"), None);
        let from_b = (Bound::Included(b"b".as_slice()), Bound::Unbounded);
        let found: Vec<_> = recent.range(Table::Meta, from_b).collect();
        assert_eq!(found, [(b"b".as_slice(), Some(b"kept".as_slice())), (b"c".as_slice(), None)]);
        let backwards = (Bound::Excluded(b"b".as_slice()), Bound::Excluded(b"b".as_slice()));
        assert_eq!(recent.range(Table::Meta, backwards).count(), 0);
        assert_eq!(recent.bytes(), 4 + 5 + 14 + 4 + 1);
        recent.clear();
        assert_eq!((recent.value(Table::Meta, b"a"), recent.bytes()), (None, 0));
    }
}
