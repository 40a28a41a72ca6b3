//! Reading the store from any thread, without queueing behind writes.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Bound, ControlFlow},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use comet_routing::{Key, clock::WallMs};

use crate::{
    Code, Deletion, Hash, Record, StoreError, Version,
    codec::{StoredRecord, Tombstone, split_key, split_time_key, unseal},
    engine::{EngineError, HEADER_KEY, Reader, Table},
    ledger::payer_key,
    quota::Payer,
};

/// Distinct sources kept in memory; at the default limit on code they take 16 MiB at most.
const CACHED_SOURCES_MAX: usize = 1_024;

/// How often a read starts again because the record changed under it.
const READ_ATTEMPTS_MAX: usize = 16;

/// Reads what has been committed: cheap to clone, usable from any thread.
///
/// Everything read is checked; what is damaged is an error and is never served.
#[derive(Clone)]
pub struct StoreReader {
    engine: Arc<dyn Reader>,
    totals: Arc<Counters>,
    outage: Arc<Mutex<Option<String>>>,
    sources: Arc<Mutex<SourceCache>>,
}

/// A record without its content: what it takes to decide whether this node should hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which put it stems from.
    pub version: Version,
    /// The number of replicas that the put asked for; 0 leaves replication to the handlers.
    pub replicas: u8,
    /// True if an owner signed it.
    pub owned: bool,
    /// True if it has code.
    pub active: bool,
    /// Bytes of data and state. Code is not counted: its length is known only to whoever reads it.
    pub bytes: u64,
    /// When this replica forgets it, by its own wall clock.
    pub expires_ms: WallMs,
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records, with those that have expired and not been swept out yet.
    pub records: u64,
    /// Bytes as the quotas count them: records, their code once per distinct source, their logs.
    pub bytes: u64,
    /// Records that have code.
    pub active: u64,
}

/// [`Totals`] as the writer publishes them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    records: AtomicU64,
    bytes: AtomicU64,
    active: AtomicU64,
}

/// The sources read last, oldest out first.
#[derive(Debug, Default)]
struct SourceCache {
    sources: BTreeMap<Hash, Arc<str>>,
    order: VecDeque<Hash>,
}

impl StoreReader {
    pub(crate) fn new(engine: Arc<dyn Reader>) -> Self {
        Self { engine, totals: Arc::default(), outage: Arc::default(), sources: Arc::default() }
    }

    /// The record at a key, unless it has expired by `now`.
    pub fn record(&self, key: &Key, now: WallMs) -> Result<Option<Record>, StoreError> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let Some(stored) = self.stored(key)?.filter(|stored| stored.expires_ms > now) else {
                return Ok(None);
            };
            let Some(hash) = stored.code_hash() else { return Ok(Some(stored.into_record(*key, None))) };
            if let Some(source) = self.source(key, &hash)? {
                return Ok(Some(stored.into_record(*key, Some(Code { hash, source }))));
            }
            if self.stored(key)?.is_some_and(|again| again.code_hash() == Some(hash)) {
                return Err(corrupt(key, &"its code is missing"));
            }
        }
        Err(StoreError::Unreadable { reason: "the record kept changing while it was read".into() })
    }

    /// What is held at a key, unless it has expired by `now`; the code's source is not read.
    pub fn holding(&self, key: &Key, now: WallMs) -> Result<Option<Held>, StoreError> {
        let living = self.described(key)?.filter(|stored| stored.expires_ms > now);
        Ok(living.map(|stored| Held {
            version: stored.version(),
            replicas: stored.replicas,
            owned: stored.ownership.is_some(),
            active: stored.code.is_some(),
            bytes: (stored.data.len() as u64).saturating_add(stored.state.len() as u64),
            expires_ms: stored.expires_ms,
        }))
    }

    /// The log of an object, as it was saved.
    pub fn log(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        self.sealed(Table::Logs, key)
    }

    /// What was deleted at a key, while it is remembered: until it is swept out, or a higher version is stored.
    pub fn tombstone(&self, key: &Key) -> Result<Option<Deletion>, StoreError> {
        Ok(self.stored_tombstone(key)?.map(Tombstone::deletion))
    }

    /// When the timer of an object is due, as it was saved last.
    pub fn timer(&self, key: &Key) -> Result<Option<WallMs>, StoreError> {
        Ok(self.stored(key)?.and_then(|stored| stored.timer_ms))
    }

    /// Timers due up to and including `until`, earliest first, at most `max`.
    pub fn due_timers(&self, until: WallMs, max: usize) -> Result<Vec<(WallMs, Key)>, StoreError> {
        self.due(Table::Timers, until, max)
    }

    /// Keys of records in ascending order, from behind `after`, at most `max`.
    pub fn keys(&self, after: Option<Key>, max: usize) -> Result<Vec<Key>, StoreError> {
        let mut keys = Vec::new();
        let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes().as_slice()));
        if max > 0 {
            self.engine
                .visit(Table::Records, (from, Bound::Unbounded), &mut |key, _| {
                    keys.extend(split_key(key));
                    if keys.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .map_err(|error| unreadable(&error))?;
        }
        Ok(keys)
    }

    /// What the node saved about itself under a name.
    pub fn meta(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        let sealed = self.engine.value(Table::Meta, name.as_bytes()).map_err(|error| unreadable(&error))?;
        sealed
            .map(|sealed| unseal(Table::Meta, name.as_bytes(), &sealed))
            .transpose()
            .map_err(|error| StoreError::CorruptMeta { name: name.into(), reason: error.to_string() })
    }

    /// What the store holds, as of the last commit.
    pub fn totals(&self) -> Totals {
        Totals {
            records: self.totals.records.load(Relaxed),
            bytes: self.totals.bytes.load(Relaxed),
            active: self.totals.active.load(Relaxed),
        }
    }

    /// Whether the store does its work: [`StoreError::Unwritable`] from a failed write until one succeeds,
    /// [`StoreError::Unreadable`] if nothing can be read.
    pub fn check(&self) -> Result<(), StoreError> {
        let outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = outage {
            return Err(StoreError::Unwritable { reason });
        }
        self.engine.value(Table::Header, HEADER_KEY).map(|_| ()).map_err(|error| unreadable(&error))
    }

    /// Makes known why the writer refuses, or that it no longer does.
    pub(crate) fn publish_outage(&self, reason: Option<String>) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    pub(crate) fn publish(&self, totals: Totals) {
        self.totals.records.store(totals.records, Relaxed);
        self.totals.bytes.store(totals.bytes, Relaxed);
        self.totals.active.store(totals.active, Relaxed);
    }

    pub(crate) fn engine(&self) -> &dyn Reader {
        &*self.engine
    }

    /// The record at a key without its code's source, expired or not.
    pub(crate) fn stored(&self, key: &Key) -> Result<Option<StoredRecord>, StoreError> {
        let sealed = self.engine.value(Table::Records, key.as_bytes()).map_err(|error| unreadable(&error))?;
        sealed
            .map(|sealed| StoredRecord::unseal(key, &sealed))
            .transpose()
            .map_err(|error| corrupt(key, &error))
    }

    /// As [`Self::stored`], for who serves nothing of it: the seal is checked, and the data is not held against its version.
    pub(crate) fn described(&self, key: &Key) -> Result<Option<StoredRecord>, StoreError> {
        self.sealed(Table::Records, key)
    }

    pub(crate) fn stored_tombstone(&self, key: &Key) -> Result<Option<Tombstone>, StoreError> {
        self.sealed(Table::Tombstones, key)
    }

    /// The entries of an index that is ordered by time, up to and including `until`.
    pub(crate) fn due(
        &self,
        table: Table,
        until: WallMs,
        max: usize,
    ) -> Result<Vec<(WallMs, Key)>, StoreError> {
        let mut due = Vec::new();
        if max > 0 {
            self.engine
                .visit(table, (Bound::Unbounded, Bound::Unbounded), &mut |entry, _| {
                    match split_time_key(entry) {
                        Some((at_ms, _)) if at_ms > until => return ControlFlow::Break(()),
                        Some(entry) => due.push(entry),
                        None => {}
                    }
                    if due.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .map_err(|error| unreadable(&error))?;
        }
        Ok(due)
    }

    /// The first entry, by time, of an account of deletions whose key is not passed over.
    pub(crate) fn first_deletion(
        &self,
        payer: &Payer,
        is_passed_over: impl Fn(&Key) -> bool,
    ) -> Result<Option<(WallMs, Key)>, StoreError> {
        let account = payer_key(payer);
        let mut first = None;
        self.engine
            .visit(Table::TombstonePayers, (Bound::Included(&account), Bound::Unbounded), &mut |entry, _| {
                let Some(at) = entry.strip_prefix(account.as_slice()) else { return ControlFlow::Break(()) };
                first = split_time_key(at).filter(|(_, key)| !is_passed_over(key));
                if first.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(|error| unreadable(&error))?;
        Ok(first)
    }

    fn sealed<T: serde::de::DeserializeOwned>(
        &self,
        table: Table,
        key: &Key,
    ) -> Result<Option<T>, StoreError> {
        let sealed = self.engine.value(table, key.as_bytes()).map_err(|error| unreadable(&error))?;
        sealed
            .map(|sealed| unseal(table, key.as_bytes(), &sealed))
            .transpose()
            .map_err(|error| corrupt(key, &error))
    }

    /// The source with this hash; `None` if no record uses it any more.
    fn source(&self, key: &Key, hash: &Hash) -> Result<Option<Arc<str>>, StoreError> {
        if let Some(source) = self.cache().sources.get(hash) {
            return Ok(Some(Arc::clone(source)));
        }
        let Some(bytes) = self.engine.value(Table::Code, hash).map_err(|error| unreadable(&error))? else {
            return Ok(None);
        };
        let source: Arc<str> =
            String::from_utf8(bytes).map_err(|_| corrupt(key, &"its code is not UTF-8"))?.into();
        if Code::hash_of(&source) != *hash {
            return Err(corrupt(key, &"its code does not match its hash"));
        }
        self.cache().insert(*hash, Arc::clone(&source));
        Ok(Some(source))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, SourceCache> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceCache {
    fn insert(&mut self, hash: Hash, source: Arc<str>) {
        if self.sources.insert(hash, source).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > CACHED_SOURCES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.sources.remove(&oldest);
        }
    }
}

impl std::fmt::Debug for StoreReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreReader").field("totals", &self.totals()).finish_non_exhaustive()
    }
}

pub(crate) fn corrupt(key: &Key, reason: &impl ToString) -> StoreError {
    StoreError::Corrupt { key: *key, reason: reason.to_string() }
}

pub(crate) fn unreadable(error: &EngineError) -> StoreError {
    StoreError::Unreadable { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Rule, StoreConfig,
        engine::{Batch, Engine, OnDisk, memory::MemoryEngine},
        in_memory,
        sample::{NOW, active, owned, plain},
    };

    /// A reader over one active record whose source in the code table is `source`.
    fn reader_of(record: &Record, source: Option<&[u8]>) -> StoreReader {
        let hash = record.code.as_ref().unwrap().hash;
        let mut batch = Batch::default();
        let sealed = StoredRecord::new(record, 0, None, None).seal(&record.key);
        batch.put(Table::Records, *record.key.as_bytes(), sealed);
        if let Some(source) = source {
            batch.put(Table::Code, hash, source);
        }
        let mut engine = MemoryEngine::default();
        engine.commit(batch, OnDisk::Now).unwrap();
        StoreReader::new(engine.reader())
    }

    #[test]
    fn code_that_is_missing_or_damaged_is_never_served() {
        let record = active("name", 1, b"data", "aso.n = 0");
        let read = |source| reader_of(&record, source).record(&record.key, NOW);
        assert_eq!(read(Some(b"aso.n = 0")), Ok(Some(record.clone())));
        let corrupt = |reason: &str| Err(StoreError::Corrupt { key: record.key, reason: reason.into() });
        assert_eq!(read(Some(b"aso.n = 1")), corrupt("its code does not match its hash"));
        assert_eq!(read(Some(b"aso.n = \xff")), corrupt("its code is not UTF-8"));
        assert_eq!(read(None), corrupt("its code is missing"));
    }

    #[test]
    fn a_holding_is_known_without_reading_the_code_and_ends_with_the_record() {
        let record =
            Record { state: Bytes::from_static(b"state"), ..active("name", 7, b"data", "aso.n = 0") };
        let (key, expires_ms) = (record.key, record.expires_ms);
        let held =
            Held { version: record.version, replicas: 8, owned: false, active: true, bytes: 9, expires_ms };
        let reader = reader_of(&record, None);
        assert_eq!(reader.holding(&key, expires_ms - 1), Ok(Some(held)));
        assert_eq!(reader.holding(&key, expires_ms), Ok(None));
        assert_eq!(reader.holding(&Key::of("other"), NOW), Ok(None));

        let (mut writer, reader) = in_memory(StoreConfig::default());
        let record = owned(1, "name", 3, b"data");
        writer.put(&record, None, Rule::IfNewer, None, NOW).unwrap();
        writer.commit(OnDisk::Now, comet_routing::clock::Clock::System.now()).unwrap();
        let plain = Held { version: record.version, owned: true, active: false, bytes: 4, ..held };
        assert_eq!(reader.holding(&record.key, NOW), Ok(Some(plain)));
    }

    #[test]
    fn records_with_the_same_code_share_one_copy_of_it() {
        let (mut writer, reader) = in_memory(StoreConfig::default());
        let records = ["a", "b"].map(|name| active(name, 1, b"", "aso.n = 0"));
        for record in &records {
            writer.put(record, None, Rule::IfNewer, None, NOW).unwrap();
        }
        writer.commit(OnDisk::Now, comet_routing::clock::Clock::System.now()).unwrap();
        let [a, b] = records.map(|record| reader.record(&record.key, NOW).unwrap().unwrap().code.unwrap());
        assert!(Arc::ptr_eq(&a.source, &b.source));
    }

    #[test]
    fn the_source_cache_forgets_the_oldest() {
        let mut cache = SourceCache::default();
        for n in 0..=CACHED_SOURCES_MAX {
            let code = Code::new(n.to_string());
            cache.insert(code.hash, Arc::clone(&code.source));
            cache.insert(code.hash, code.source);
        }
        assert_eq!((cache.sources.len(), cache.order.len()), (CACHED_SOURCES_MAX, CACHED_SOURCES_MAX));
        assert!(!cache.sources.contains_key(&Code::hash_of("0")));
        assert!(cache.sources.contains_key(&Code::hash_of("1")));
    }

    #[test]
    fn keys_can_be_walked_in_portions_and_none_comes_twice() {
        let (mut writer, reader) = in_memory(StoreConfig::default());
        let mut expected = Vec::new();
        for n in 0..10 {
            let record = plain(&n.to_string(), 1, b"");
            writer.put(&record, None, Rule::IfNewer, None, NOW).unwrap();
            expected.push(record.key);
        }
        writer.commit(OnDisk::Now, comet_routing::clock::Clock::System.now()).unwrap();
        expected.sort_unstable();
        let mut walked = Vec::new();
        for _ in 0..4 {
            walked.extend(reader.keys(walked.last().copied(), 3).unwrap());
        }
        assert_eq!(walked, expected);
        assert_eq!(reader.keys(walked.last().copied(), 3), Ok(vec![]));
        assert_eq!(reader.keys(None, 0), Ok(vec![]));
    }
}
