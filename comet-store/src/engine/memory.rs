//! The engine without a disk: ordered maps behind a lock.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use super::{Batch, Engine, EngineError, OnDisk, Range, Reader, Table, Visit};

/// Keeps everything in memory, for tests and simulation.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryEngine {
    tables: Arc<RwLock<Tables>>,
}

impl Engine for MemoryEngine {
    fn commit(&mut self, batch: Batch, _: OnDisk) -> Result<(), EngineError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for (table, key, value) in batch.changes() {
            tables.set(table, key, value.map(<[u8]>::to_vec));
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
}

impl Reader for MemoryEngine {
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.tables.read().unwrap_or_else(PoisonError::into_inner).value(table, key))
    }

    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).visit(table, range, each);
        Ok(())
    }
}

/// The tables of a store as ordered maps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables(BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>);

impl Tables {
    /// Sets or removes the value at a key, and gives the one that was there.
    pub(crate) fn set(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let entries = self.0.entry(table).or_default();
        match value {
            Some(value) => entries.insert(key.to_vec(), value),
            None => entries.remove(key),
        }
    }

    /// As [`Reader::value`].
    pub(crate) fn value(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(&table)?.get(key).cloned()
    }

    /// As [`Reader::visit`].
    pub(crate) fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) {
        if is_empty(range) {
            return;
        }
        let entries = self.0.get(&table).into_iter().flat_map(|entries| entries.range::<[u8], _>(range));
        for (key, value) in entries {
            if each(key, value).is_break() {
                break;
            }
        }
    }
}

/// True for the ranges that `BTreeMap::range` panics on.
pub(super) fn is_empty((from, until): Range<'_>) -> bool {
    match (from, until) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Excluded(from), Bound::Excluded(until)) => from >= until,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(until) | Bound::Excluded(until)) => {
            from > until
        }
    }
}
