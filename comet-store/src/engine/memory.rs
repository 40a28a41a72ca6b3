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

type Tables = BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>;

impl Engine for MemoryEngine {
    fn commit(&mut self, batch: &Batch, _: OnDisk) -> Result<(), EngineError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for (table, key, value) in batch.changes() {
            let entries = tables.entry(table).or_default();
            match value {
                Some(value) => entries.insert(key.to_vec(), value.to_vec()),
                None => entries.remove(key),
            };
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
}

impl Reader for MemoryEngine {
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tables.get(&table).and_then(|entries| entries.get(key)).cloned())
    }

    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError> {
        if is_empty(range) {
            return Ok(());
        }
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let entries = tables.get(&table).into_iter().flat_map(|entries| entries.range::<[u8], _>(range));
        for (key, value) in entries {
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// True for the ranges that `BTreeMap::range` panics on.
fn is_empty((from, until): Range<'_>) -> bool {
    match (from, until) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Excluded(from), Bound::Excluded(until)) => from >= until,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(until) | Bound::Excluded(until)) => {
            from > until
        }
    }
}
