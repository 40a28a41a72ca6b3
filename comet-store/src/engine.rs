//! What the store asks of the thing that keeps its bytes: ordered tables and atomic batches.
//!
//! The engine knows nothing of records. All of them behave alike, held to it by one test suite: [`redb`] on a
//! disk, [`memory`] without one, and the disk in memory that simulated nodes plug in.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use smallvec::SmallVec;

mod disk;
mod journal;
pub(crate) mod memory;
pub(crate) mod redb;
#[cfg(test)]
mod suite;
mod view;

/// The one that writes.
pub(crate) trait Engine: Send + 'static {
    /// Applies all of a batch or nothing of it.
    ///
    /// After an error the caller cannot know which of the two it was until it has read; the next commit
    /// tries to get the disk back by itself.
    fn commit(&mut self, batch: Batch, by: OnDisk) -> Result<(), EngineError>;

    /// A handle that reads what has been committed, from any thread.
    fn reader(&self) -> Arc<dyn Reader>;
}

/// Reads what has been committed.
pub(crate) trait Reader: Send + Sync {
    /// The value at a key.
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Shows the entries of a range in ascending order, of one instant, until told to stop.
    ///
    /// A commit may wait meanwhile, so `each` must neither take long nor read on its own.
    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError>;
}

/// Where a visit starts and ends.
pub(crate) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// What a visit does with each key and value.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// When a batch must be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnDisk {
    /// Before the commit returns.
    Now,
    /// With the next commit that says [`OnDisk::Now`].
    Later,
}

/// The ordered tables of a store. New ones come last: the journal knows them by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Records by key.
    Records,
    /// Handler source by its hash.
    Code,
    /// (due time, key), without a value.
    Timers,
    /// (expiry, rounded up, key) of records, without a value.
    Expiry,
    /// Versions of deleted objects, by key.
    Tombstones,
    /// (expiry, key) of tombstones, without a value.
    TombstoneExpiry,
    /// (whom it is charged to, expiry, key) of tombstones, without a value.
    TombstonePayers,
    /// Objects' logs, by key.
    Logs,
    /// What the node keeps about itself, by name.
    Meta,
    /// Who uses how much, kept by `ledger.rs`.
    Accounts,
    /// What this store is, under [`HEADER_KEY`].
    Header,
}

impl Table {
    /// Every table.
    pub(crate) const ALL: [Self; 11] = [
        Self::Records,
        Self::Code,
        Self::Timers,
        Self::Expiry,
        Self::Tombstones,
        Self::TombstoneExpiry,
        Self::TombstonePayers,
        Self::Logs,
        Self::Meta,
        Self::Accounts,
        Self::Header,
    ];

    /// The table's name in the data file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Code => "code",
            Self::Timers => "timers",
            Self::Expiry => "expiry",
            Self::Tombstones => "tombstones",
            Self::TombstoneExpiry => "tombstone expiry",
            Self::TombstonePayers => "tombstone payers",
            Self::Logs => "logs",
            Self::Meta => "meta",
            Self::Accounts => "accounts",
            Self::Header => "header",
        }
    }
}

/// The one key of [`Table::Header`].
pub(crate) const HEADER_KEY: &[u8] = b"header";

/// Changes that belong together; of several to one key the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Batch {
    tables: BTreeMap<Table, Changes>,
}

/// The changes of one table; `None` removes.
pub(crate) type Changes = BTreeMap<EntryKey, Option<Vec<u8>>>;

/// Where an entry is in its table. Nearly all keys have room here: among tens of thousands, whoever looks for one would wait
/// for memory at each that lay elsewhere.
pub(crate) type EntryKey = SmallVec<[u8; 40]>;

impl Batch {
    /// Sets the value at a key.
    pub(crate) fn put(&mut self, table: Table, key: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) {
        self.tables.entry(table).or_default().insert(EntryKey::from_slice(key.as_ref()), Some(value.into()));
    }

    /// Removes a key, if it is there.
    pub(crate) fn delete(&mut self, table: Table, key: impl AsRef<[u8]>) {
        self.tables.entry(table).or_default().insert(EntryKey::from_slice(key.as_ref()), None);
    }

    /// The changes by table and key; `None` removes.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        self.tables.iter().flat_map(|(table, changes)| {
            changes.iter().map(|(key, value)| (*table, key.as_slice(), value.as_deref()))
        })
    }
}

/// Why an engine did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The medium failed; it may work again later.
    #[error("{reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
    /// The medium works and what it holds makes no sense.
    #[error("the data file is damaged: {reason}")]
    Damaged {
        /// What was found.
        reason: String,
    },
}
