//! What readers see of a database that takes changes later than they are committed.
//!
//! A transaction of the database costs as much for one change as for hundreds. So a commit leaves its changes here, where readers
//! find them first, and the database takes them all at once: what was changed again and again goes into it once.

use std::{collections::btree_map, fmt};

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableDefinition, TableError};

use super::{Batch, Range, Table, Visit, memory::is_empty};

/// What has been committed: changes that the database is still to take, and its tables as they were before them.
#[derive(Debug)]
pub(super) struct View {
    recent: Recent,
    tables: Tables,
}

/// The newest change of each key, of all batches that the database is still to take.
#[derive(Debug, Default)]
struct Recent {
    changes: Batch,
    bytes: usize,
}

/// All tables of a database at one instant, by their places. To open one for each read would cost more than the read.
struct Tables(Vec<Option<ReadOnlyTable<&'static [u8], &'static [u8]>>>);

impl View {
    /// The database as it is now, with nothing still to take.
    pub(super) fn of(database: &Database) -> Result<Self, redb::Error> {
        Ok(Self { recent: Recent::default(), tables: Tables::of(database)? })
    }

    /// Shows a batch that the database takes later. Returns the bytes of keys and values that came in so far.
    pub(super) fn absorb(&mut self, batch: Batch) -> usize {
        self.recent.absorb(batch);
        self.recent.bytes
    }

    /// What the database is still to take.
    pub(super) fn recent(&self) -> &Batch {
        &self.recent.changes
    }

    /// As [`Reader::value`](super::Reader::value).
    pub(super) fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        if let Some(value) = self.recent.value(table, key) {
            return Ok(value.map(<[u8]>::to_vec));
        }
        let Some(table) = self.tables.get(table) else { return Ok(None) };
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    /// As [`Reader::visit`](super::Reader::visit).
    pub(super) fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), redb::Error> {
        let mut newer = self.recent.range(table, range).peekable();
        if let Some(table) = self.tables.get(table) {
            for entry in table.range::<&[u8]>(range)? {
                let (key, value) = entry?;
                let (key, value) = (key.value(), value.value());
                while let Some((key, change)) = newer.next_if(|(newer, _)| *newer < key) {
                    if change.is_some_and(|value| each(key, value).is_break()) {
                        return Ok(());
                    }
                }
                let change = newer.next_if(|(newer, _)| *newer == key);
                let value = change.map_or(Some(value), |(_, value)| value);
                if value.is_some_and(|value| each(key, value).is_break()) {
                    return Ok(());
                }
            }
        }
        for (key, change) in newer {
            if change.is_some_and(|value| each(key, value).is_break()) {
                break;
            }
        }
        Ok(())
    }
}

impl Tables {
    /// The tables as they are now.
    fn of(database: &Database) -> Result<Self, redb::Error> {
        let transaction = database.begin_read()?;
        let open = |table| match transaction.open_table(definition(table)) {
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            table => Ok(Some(table?)),
        };
        Ok(Self(Table::ALL.into_iter().map(open).collect::<Result<_, redb::Error>>()?))
    }

    /// A table; `None` before its first entry.
    fn get(&self, table: Table) -> Option<&ReadOnlyTable<&'static [u8], &'static [u8]>> {
        self.0.get(table as usize)?.as_ref()
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Option::is_some)).finish()
    }
}

impl Recent {
    /// Takes in what a batch changes.
    fn absorb(&mut self, batch: Batch) {
        for (table, changes) in batch.tables {
            let newest = self.changes.tables.entry(table).or_default();
            for (key, value) in changes {
                let bytes = key.len().saturating_add(value.as_ref().map_or(0, Vec::len));
                self.bytes = self.bytes.saturating_add(bytes);
                newest.insert(key, value);
            }
        }
    }

    /// What became of a key: the outer `None` if nothing did, the inner if it was removed.
    fn value(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.tables.get(&table)?.get(key).map(Option::as_deref)
    }

    /// The changes of a range, in ascending order.
    fn range(&self, table: Table, range: Range<'_>) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let changes = self.changes.tables.get(&table).filter(|_| !is_empty(range));
        let found = changes.map_or_else(btree_map::Range::default, |changes| changes.range::<[u8], _>(range));
        found.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

/// How the database knows a table.
pub(super) fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
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
        recent.absorb(first);
        recent.absorb(second);
        assert_eq!(recent.value(Table::Meta, b"a"), Some(Some(b"new".as_slice())));
        assert_eq!(recent.value(Table::Meta, b"c"), Some(None));
        assert_eq!(recent.value(Table::Meta, b"d"), None);
        let from_b = (Bound::Included(b"b".as_slice()), Bound::Unbounded);
        let found: Vec<_> = recent.range(Table::Meta, from_b).collect();
        assert_eq!(found, [(b"b".as_slice(), Some(b"kept".as_slice())), (b"c".as_slice(), None)]);
        let backwards = (Bound::Excluded(b"b".as_slice()), Bound::Excluded(b"b".as_slice()));
        assert_eq!(recent.range(Table::Meta, backwards).count(), 0);
        assert_eq!(recent.bytes, 4 + 5 + 14 + 4 + 1);
    }
}
