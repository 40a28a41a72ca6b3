//! The open group: writes that were decided and not committed yet.
//!
//! Repeated writes to one key meet here, so that a storm of updates to one object costs one change of it on
//! the disk.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use comet_routing::{Key, clock::WallMs};

use crate::{
    Hash,
    codec::{StoredRecord, Tombstone, expiry_entry_ms, seal, time_key},
    engine::{Batch, Table},
    ledger::payer_key,
    quota::Payer,
};

/// Writes that go to the disk together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    records: BTreeMap<Key, TouchedRecord>,
    tombstones: BTreeMap<Key, TouchedTombstone>,
    logs: BTreeMap<Key, Option<Bytes>>,
    codes: BTreeMap<Hash, CodeChange>,
    meta: BTreeMap<String, Bytes>,
    stale_entries: Vec<(Table, Vec<u8>)>,
    expired: Vec<Key>,
}

/// A record as the disk's indexes know it, and as it will be.
#[derive(Debug)]
struct TouchedRecord {
    expires_on_disk_ms: Option<WallMs>,
    timer_on_disk_ms: Option<WallMs>,
    now: Option<StoredRecord>,
}

/// A tombstone as the disk's indexes know it, and as it will be.
#[derive(Debug)]
struct TouchedTombstone {
    on_disk: Option<Tombstone>,
    now: Option<Tombstone>,
}

/// What happens to a source.
#[derive(Clone, Debug)]
enum CodeChange {
    Keep(Arc<str>),
    Drop,
}

impl Group {
    /// True if nothing was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.tombstones.is_empty()
            && self.logs.is_empty()
            && self.codes.is_empty()
            && self.meta.is_empty()
            && self.stale_entries.is_empty()
    }

    /// The record at a key as this group leaves it; the outer `None` if the group does not touch it.
    pub(crate) fn record(&self, key: &Key) -> Option<Option<&StoredRecord>> {
        self.records.get(key).map(|touched| touched.now.as_ref())
    }

    /// Puts `now` in the place of `held`, which is what the disk has if this group did not touch the key.
    pub(crate) fn set_record(&mut self, key: Key, held: Option<&StoredRecord>, now: Option<StoredRecord>) {
        let touched = self.records.entry(key).or_insert_with(|| TouchedRecord {
            expires_on_disk_ms: held.map(|held| held.expires_ms),
            timer_on_disk_ms: held.and_then(|held| held.timer_ms),
            now: None,
        });
        touched.now = now;
    }

    /// The tombstone at a key as this group leaves it; the outer `None` if the group does not touch it.
    pub(crate) fn tombstone(&self, key: &Key) -> Option<Option<&Tombstone>> {
        self.tombstones.get(key).map(|touched| touched.now.as_ref())
    }

    /// As [`Group::set_record`], for tombstones.
    pub(crate) fn set_tombstone(&mut self, key: Key, held: Option<&Tombstone>, now: Option<Tombstone>) {
        let touched = self
            .tombstones
            .entry(key)
            .or_insert_with(|| TouchedTombstone { on_disk: held.cloned(), now: None });
        touched.now = now;
    }

    /// The tombstone of this group that is charged to an account and forgotten first, and when.
    pub(crate) fn first_tombstone(&self, payer: &Payer) -> Option<(WallMs, Key)> {
        let charged = |(key, touched): (&Key, &TouchedTombstone)| {
            let now = touched.now.as_ref()?;
            now.is_charged_to(payer).then_some((now.expires_ms, *key))
        };
        self.tombstones.iter().filter_map(charged).min()
    }

    /// The log at a key as this group leaves it; the outer `None` if the group does not touch it.
    pub(crate) fn log(&self, key: &Key) -> Option<Option<&Bytes>> {
        self.logs.get(key).map(Option::as_ref)
    }

    /// Sets or removes an object's log.
    pub(crate) fn set_log(&mut self, key: Key, log: Option<Bytes>) {
        self.logs.insert(key, log);
    }

    /// Stores a source, because a record uses it.
    pub(crate) fn keep_code(&mut self, hash: Hash, source: Arc<str>) {
        self.codes.insert(hash, CodeChange::Keep(source));
    }

    /// Removes a source, because no record uses it.
    pub(crate) fn drop_code(&mut self, hash: Hash) {
        self.codes.insert(hash, CodeChange::Drop);
    }

    /// Saves an entry that the node keeps about itself.
    pub(crate) fn set_meta(&mut self, name: String, value: Bytes) {
        self.meta.insert(name, value);
    }

    /// Removes an index entry that leads nowhere.
    pub(crate) fn drop_entry(&mut self, table: Table, entry: Vec<u8>) {
        self.stale_entries.push((table, entry));
    }

    /// Notes that a record is removed because it expired.
    pub(crate) fn note_expired(&mut self, key: Key) {
        self.expired.push(key);
    }

    /// The records removed because they expired.
    pub(crate) fn into_expired(self) -> Vec<Key> {
        self.expired
    }

    /// All changes, indexes included.
    pub(crate) fn batch(&self) -> Batch {
        let mut batch = Batch::default();
        for (table, entry) in &self.stale_entries {
            batch.delete(*table, entry.clone());
        }
        for (key, touched) in &self.records {
            touched.write(key, &mut batch);
        }
        for (key, touched) in &self.tombstones {
            touched.write(key, &mut batch);
        }
        for (key, log) in &self.logs {
            write(
                &mut batch,
                Table::Logs,
                key,
                log.as_ref().map(|log| seal(Table::Logs, key.as_bytes(), log)),
            );
        }
        for (hash, change) in &self.codes {
            match change {
                CodeChange::Keep(source) => batch.put(Table::Code, *hash, source.as_bytes()),
                CodeChange::Drop => batch.delete(Table::Code, *hash),
            }
        }
        for (name, value) in &self.meta {
            batch.put(Table::Meta, name.as_bytes(), seal(Table::Meta, name.as_bytes(), value));
        }
        batch
    }
}

impl TouchedRecord {
    fn write(&self, key: &Key, batch: &mut Batch) {
        let (expires_ms, timer_ms) =
            self.now.as_ref().map_or((None, None), |now| (Some(now.expires_ms), now.timer_ms));
        let entry_ms = |expires_ms: Option<WallMs>| expires_ms.map(expiry_entry_ms);
        move_entry(batch, Table::Expiry, key, entry_ms(self.expires_on_disk_ms), entry_ms(expires_ms));
        move_entry(batch, Table::Timers, key, self.timer_on_disk_ms, timer_ms);
        write(batch, Table::Records, key, self.now.as_ref().map(|now| now.seal(key)));
    }
}

impl TouchedTombstone {
    fn write(&self, key: &Key, batch: &mut Batch) {
        let expires_ms = |tombstone: &Option<Tombstone>| tombstone.as_ref().map(|at| at.expires_ms);
        move_entry(batch, Table::TombstoneExpiry, key, expires_ms(&self.on_disk), expires_ms(&self.now));
        for entry in payer_entries(key, self.on_disk.as_ref()) {
            batch.delete(Table::TombstonePayers, entry);
        }
        for entry in payer_entries(key, self.now.as_ref()) {
            batch.put(Table::TombstonePayers, entry, []);
        }
        let sealed = self.now.as_ref().map(|now| seal(Table::Tombstones, key.as_bytes(), now));
        write(batch, Table::Tombstones, key, sealed);
    }
}

fn write(batch: &mut Batch, table: Table, key: &Key, value: Option<Vec<u8>>) {
    match value {
        Some(value) => batch.put(table, *key.as_bytes(), value),
        None => batch.delete(table, *key.as_bytes()),
    }
}

/// The entries of the index that is ordered by account.
fn payer_entries(key: &Key, tombstone: Option<&Tombstone>) -> Vec<Vec<u8>> {
    let entries = tombstone.into_iter().flat_map(|tombstone| {
        let at = time_key(tombstone.expires_ms, key);
        tombstone.payers.each().map(move |payer| [payer_key(&payer).as_slice(), &at].concat())
    });
    entries.collect()
}

/// Moves a key's entry of an index that is ordered by time.
fn move_entry(batch: &mut Batch, table: Table, key: &Key, from_ms: Option<WallMs>, to_ms: Option<WallMs>) {
    if from_ms == to_ms {
        return;
    }
    if let Some(from_ms) = from_ms {
        batch.delete(table, time_key(from_ms, key));
    }
    if let Some(to_ms) = to_ms {
        batch.put(table, time_key(to_ms, key), []);
    }
}
