//! Deciding writes: what is stored, what is refused, and what goes to the disk together.
//!
//! A [`StoreWriter`] decides each write against what is held, uncommitted writes included, and collects the
//! outcome in an open group; [`StoreWriter::commit`] takes the group to the disk as one transaction. It has no
//! clock and no threads: the actor around it says when.
//!
//! When the disk fails, the group is lost to its writers and it is not known whether it got to the disk. The
//! writer then refuses, tries the disk again after a pause, and takes the accounts from there before it goes on.

use std::{
    cmp::Ordering,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use comet_routing::{Key, clock::WallMs};

use crate::{
    Code, Deletion, Record, Source, StoreConfig, StoreError, StoreReader, Version,
    codec::{Header, LOG_BYTES_MAX, META_BYTES_MAX, RECORD_BYTES_MAX, StoredRecord, seal},
    content_hash,
    engine::{Batch, Engine, EngineError, HEADER_KEY, OnDisk, Table},
    group::Group,
    ledger::Ledger,
    quota::{Accounts, Charge, Payers, Quota, QuotaExceeded},
};

mod bookkeeping;
mod deletion;
#[cfg(test)]
mod flood;
mod outcome;
mod sweep;

use deletion::remembered;
pub use outcome::{Deleted, PutOutcome, Rule};
pub(crate) use sweep::Swept;

/// How long the disk is left alone after it failed, at first; each further failure doubles it.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to write.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The single writer of a store.
pub struct StoreWriter {
    engine: Box<dyn Engine>,
    reader: StoreReader,
    config: StoreConfig,
    header: Header,
    accounts: Accounts,
    tombstones: u64,
    ledger: Ledger,
    group: Group,
    /// True if a commit was made that the disk may not have yet.
    is_disk_behind: bool,
    outage: Option<Outage>,
    pause: Duration,
}

/// The disk failed.
struct Outage {
    reason: String,
    retry_at: Instant,
}

impl StoreWriter {
    /// A writer for what an engine holds; reads the accounts of it, or all of it if none are kept.
    pub(crate) fn new(
        engine: Box<dyn Engine>,
        header: Header,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let reader = StoreReader::new(engine.reader());
        let mut writer = Self {
            engine,
            reader,
            config,
            header,
            accounts: Accounts::default(),
            tombstones: 0,
            ledger: Ledger::Missing,
            group: Group::default(),
            is_disk_behind: false,
            outage: None,
            pause: RETRY_PAUSE_MIN,
        };
        writer.take_stock()?;
        Ok(writer)
    }

    /// A handle that reads this store.
    pub fn reader(&self) -> StoreReader {
        self.reader.clone()
    }

    /// The configuration that the store was opened with.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Whether writes can be decided: yes unless the disk failed, and after a pause it is tried again.
    pub(crate) fn ready(&mut self, now: Instant) -> Result<(), StoreError> {
        let Some(outage) = &self.outage else { return Ok(()) };
        if now < outage.retry_at {
            return Err(StoreError::Unwritable { reason: outage.reason.clone() });
        }
        let mut header = Batch::default();
        header.put(Table::Header, HEADER_KEY, seal(Table::Header, HEADER_KEY, &self.header));
        self.engine.commit(header, OnDisk::Now).map_err(|error| self.fail(&error, now))?;
        self.take_stock()?;
        self.outage = None;
        self.reader.publish_outage(None);
        log::info!("the store can write again");
        Ok(())
    }

    /// True if something was decided that is not committed.
    pub(crate) fn has_open_group(&self) -> bool {
        !self.group.is_empty()
    }

    /// Takes the open group to the disk and gives the keys of the records that it swept out.
    pub(crate) fn commit(&mut self, by: OnDisk, now: Instant) -> Result<Vec<Key>, StoreError> {
        let group = std::mem::take(&mut self.group);
        let is_behind = self.is_disk_behind && by == OnDisk::Now;
        if group.is_empty() && !is_behind {
            return Ok(Vec::new());
        }
        let mut batch = group.batch();
        self.write_accounts(&mut batch)
            .and_then(|()| self.engine.commit(batch, by))
            .map_err(|error| self.fail(&error, now))?;
        self.ledger = self.ledger.after_commit();
        self.is_disk_behind = by == OnDisk::Later;
        self.pause = RETRY_PAUSE_MIN;
        self.publish();
        Ok(group.into_expired())
    }

    /// Decides a record that arrived.
    pub(crate) fn put(
        &mut self,
        record: &Record,
        source: Option<Source>,
        rule: Rule,
        timer_ms: Option<WallMs>,
        now: WallMs,
    ) -> Result<PutOutcome, StoreError> {
        check_content(record)?;
        let key = record.key;
        let held = self.held_or_scrubbed(&key)?;
        let living = held.as_ref().filter(|held| held.expires_ms > now);
        let expired = held.as_ref().filter(|held| held.expires_ms <= now && held.ownership.is_some());
        let replaced = living.map(StoredRecord::version);
        if let Rule::IfExpected(expected) = rule
            && !expected.is_met_by(replaced)
        {
            return Ok(PutOutcome::Unexpected { held: replaced });
        }
        if rule == Rule::IfPlain && living.is_some_and(|held| held.code.is_some()) {
            return Ok(PutOutcome::HasHandlers);
        }
        let tombstone = self.tombstone(&key)?;
        if rule != Rule::Replace {
            match living.map(|held| (held, held.version().cmp(&record.version))) {
                Some((held, Ordering::Greater)) => return Ok(PutOutcome::Stale { held: held.version() }),
                Some((held, Ordering::Equal)) => {
                    let later = StoredRecord { expires_ms: record.expires_ms, ..held.clone() };
                    if held.ownership.is_none() && later.expires_ms > held.expires_ms {
                        self.group.set_record(key, Some(held), Some(later));
                    }
                    return Ok(PutOutcome::Unchanged);
                }
                _ => {}
            }
            // An owner's put that has expired and was not swept out yet is remembered already.
            let gone = remembered(tombstone.as_ref(), now).max(expired.map(StoredRecord::version));
            if let Some(deleted) = gone.filter(|deleted| *deleted >= record.version) {
                return Ok(PutOutcome::Stale { held: deleted });
            }
        }
        self.replace(record, held.as_ref(), timer_ms, source)?;
        if tombstone.is_some() {
            self.set_tombstone(&key, tombstone.as_ref(), None);
        }
        if replaced.is_none() {
            // What an expired object left behind is not the new one's.
            self.remove_log(&key)?;
        }
        Ok(PutOutcome::Stored { replaced })
    }

    /// Decides a state that an object's handlers made.
    pub(crate) fn save_state(
        &mut self,
        key: &Key,
        version: Version,
        state: Bytes,
        timer_ms: Option<WallMs>,
        expires_ms: Option<WallMs>,
    ) -> Result<(), StoreError> {
        let Some(held) = self.held(key)?.filter(|held| held.version() == version) else { return Ok(()) };
        let now = StoredRecord {
            state,
            timer_ms,
            expires_ms: expires_ms.unwrap_or(held.expires_ms),
            ..held.clone()
        };
        if now == held {
            return Ok(());
        }
        check_size(Quota::OneRecord, now.data.len() + now.state.len(), RECORD_BYTES_MAX)?;
        let (old, new) = (held.charge(), now.charge());
        self.accounts.check(Some(&old), &new, 0, &self.config)?;
        self.accounts.add(&new, 0);
        self.accounts.remove(&old);
        self.group.set_record(*key, Some(&held), Some(now));
        Ok(())
    }

    /// Decides an object's log.
    pub(crate) fn save_log(&mut self, key: &Key, log: Bytes) -> Result<(), StoreError> {
        check_size(Quota::OneLog, log.len(), LOG_BYTES_MAX)?;
        if self.held(key)?.is_none() {
            return Ok(());
        }
        let (old, new) = (self.log_bytes(key)?.unwrap_or(0), log.len() as u64);
        self.accounts.check_log(old, new, &self.config)?;
        self.accounts.replace_log(old, new);
        self.group.set_log(*key, Some(log));
        Ok(())
    }

    /// Decides a deletion. The memory of it is charged to whom the record is charged to, and to `source` if none is
    /// held.
    pub(crate) fn delete(
        &mut self,
        key: &Key,
        deletion: Option<Deletion>,
        source: Option<Source>,
        now: WallMs,
    ) -> Result<Deleted, StoreError> {
        let signer = deletion.as_ref().and_then(|deletion| deletion.ownership.as_ref());
        let stranger = Payers { source, owner: signer.map(|ownership| ownership.public_key) };
        let (found, payers) = match self.held(key) {
            Ok(Some(held)) if held.expires_ms > now => (Deleted::Gone, Payers::of(&held.charge())),
            Ok(_) => (Deleted::NotHeld, stranger),
            Err(StoreError::Corrupt { .. }) => (Deleted::Gone, stranger),
            Err(error) => return Err(error),
        };
        self.remove(key)?;
        if let Some(deletion) = deletion {
            self.remember_deletion(key, deletion, found, payers, now)?;
        }
        Ok(found)
    }

    /// Decides an entry that the node keeps about itself.
    pub(crate) fn save_meta(&mut self, name: String, value: Bytes) -> Result<(), StoreError> {
        check_size(Quota::OneMeta, name.len() + value.len(), META_BYTES_MAX)?;
        self.group.set_meta(name, value);
        Ok(())
    }

    /// Stores a record in the place of `held`, if the quotas allow it.
    fn replace(
        &mut self,
        record: &Record,
        held: Option<&StoredRecord>,
        timer_ms: Option<WallMs>,
        source: Option<Source>,
    ) -> Result<(), StoreError> {
        let code_bytes = record.code.as_ref().map_or(0, |code| code.source.len() as u64);
        let charged_bytes = match (&record.code, held.and_then(|held| held.code)) {
            (Some(code), Some(held)) if held.hash == code.hash => held.charged_bytes,
            (Some(code), _) if self.accounts.users_of(&code.hash) > 0 => 0,
            _ => code_bytes,
        };
        let now = StoredRecord::new(record, charged_bytes, timer_ms, source);
        let (old, new) = (held.map(StoredRecord::charge), now.charge());
        self.accounts.check(old.as_ref(), &new, code_bytes, &self.config)?;

        if let Some(code) = &record.code
            && self.accounts.users_of(&code.hash) == 0
        {
            self.group.keep_code(code.hash, Arc::clone(&code.source));
        }
        // First in, then out: code that both versions share is not dropped in between.
        self.accounts.add(&new, code_bytes);
        if let Some(old) = &old {
            self.release(old);
        }
        self.group.set_record(record.key, held, Some(now));
        Ok(())
    }

    /// Removes the record and its log, if they are there.
    fn remove(&mut self, key: &Key) -> Result<(), StoreError> {
        let Some(held) = self.held_or_scrubbed(key)? else { return Ok(()) };
        self.remove_log(key)?;
        self.release(&held.charge());
        self.group.set_record(*key, Some(&held), None);
        Ok(())
    }

    fn remove_log(&mut self, key: &Key) -> Result<(), StoreError> {
        if let Some(bytes) = self.log_bytes(key)? {
            self.accounts.replace_log(bytes, 0);
            self.group.set_log(*key, None);
        }
        Ok(())
    }

    /// Takes back what a record cost, and drops its code with the last record that used it.
    fn release(&mut self, charge: &Charge) {
        self.accounts.remove(charge);
        if let Some(hash) = charge.code.filter(|hash| self.accounts.users_of(hash) == 0) {
            self.group.drop_code(hash);
        }
    }

    /// The record at a key as the open group leaves it.
    fn held(&self, key: &Key) -> Result<Option<StoredRecord>, StoreError> {
        match self.group.record(key) {
            Some(record) => Ok(record.cloned()),
            None => self.reader.described(key),
        }
    }

    /// Bytes of an object's log as the open group leaves it; a damaged one counts for nothing.
    fn log_bytes(&mut self, key: &Key) -> Result<Option<u64>, StoreError> {
        if let Some(log) = self.group.log(key) {
            return Ok(log.map(|log| log.len() as u64));
        }
        match self.reader.log(key) {
            Ok(log) => Ok(log.map(|log| log.len() as u64)),
            Err(StoreError::Corrupt { .. }) => {
                self.void_accounts();
                Ok(Some(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that the disk failed; what was decided and not committed is forgotten.
    fn fail(&mut self, error: &EngineError, now: Instant) -> StoreError {
        let reason = error.to_string();
        log::warn!("the store cannot write, the next attempt is in {:?}: {reason}", self.pause);
        self.group = Group::default();
        self.reader.publish_outage(Some(reason.clone()));
        self.outage = Some(Outage { reason: reason.clone(), retry_at: now + self.pause });
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
        StoreError::Unwritable { reason }
    }
}

/// Refuses a record that would be found damaged when it is read back, or that no store takes.
fn check_content(record: &Record) -> Result<(), StoreError> {
    let code_hash = record.code.as_ref().map(|code| &code.hash);
    let is_code_right = record.code.as_ref().is_none_or(|code| Code::hash_of(&code.source) == code.hash);
    if !is_code_right || content_hash(code_hash, &record.data) != record.version.hash {
        return Err(StoreError::Mismatch);
    }
    let code_bytes = record.code.as_ref().map_or(0, |code| code.source.len());
    check_size(Quota::OneRecord, record.data.len() + record.state.len() + code_bytes, RECORD_BYTES_MAX)
}

fn check_size(what: Quota, bytes: usize, limit: u64) -> Result<(), StoreError> {
    let used = bytes as u64;
    if used <= limit { Ok(()) } else { Err(QuotaExceeded { what, used, limit }.into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Expected, Hash, RECORD_OVERHEAD_BYTES, Totals,
        codec::expiry_entry_ms,
        in_memory,
        sample::{NOW, active, owned, plain, published},
        tally::tally,
    };

    pub(super) fn store() -> (StoreWriter, StoreReader) {
        in_memory(StoreConfig::default())
    }

    pub(super) fn put(
        writer: &mut StoreWriter,
        record: &Record,
        rule: Rule,
    ) -> Result<PutOutcome, StoreError> {
        writer.put(record, None, rule, None, NOW)
    }

    pub(super) fn commit(writer: &mut StoreWriter) {
        writer.commit(OnDisk::Now, comet_routing::clock::Clock::System.now()).unwrap();
    }

    pub(super) const STORED: Result<PutOutcome, StoreError> = Ok(PutOutcome::Stored { replaced: None });

    #[test]
    fn a_record_is_read_back_once_it_is_committed() {
        let (mut writer, reader) = store();
        let record = active("name", 1, b"data", "aso.n = 0");
        assert_eq!(put(&mut writer, &record, Rule::IfNewer), STORED);
        assert_eq!(reader.record(&record.key, NOW), Ok(None));
        commit(&mut writer);
        assert_eq!(reader.record(&record.key, record.expires_ms - 1), Ok(Some(record.clone())));
        assert_eq!(reader.record(&record.key, record.expires_ms), Ok(None));
        let bytes = RECORD_OVERHEAD_BYTES + 4 + 9;
        assert_eq!(reader.totals(), Totals { records: 1, bytes, active: 1 });
    }

    #[test]
    fn an_older_version_is_stale_against_the_open_group_too() {
        let (mut writer, reader) = store();
        let (newer, older) = (plain("name", 2, b"new"), plain("name", 1, b"old"));
        assert_eq!(put(&mut writer, &newer, Rule::IfNewer), STORED);
        assert_eq!(put(&mut writer, &older, Rule::IfNewer), Ok(PutOutcome::Stale { held: newer.version }));
        commit(&mut writer);
        assert_eq!(put(&mut writer, &older, Rule::IfNewer), Ok(PutOutcome::Stale { held: newer.version }));
        assert_eq!(
            put(&mut writer, &older, Rule::Replace),
            Ok(PutOutcome::Stored { replaced: Some(newer.version) })
        );
        commit(&mut writer);
        assert_eq!(reader.record(&older.key, NOW), Ok(Some(older)));
    }

    #[test]
    fn of_writers_that_expect_the_same_version_one_replaces_it() {
        let (mut writer, _) = store();
        let versions = [1, 2, 3, 4].map(|n| plain("name", n, &[n as u8]));
        let put = |writer: &mut StoreWriter, n: usize, expected| {
            writer.put(&versions[n], None, Rule::IfExpected(expected), None, NOW)
        };
        let found = |n: usize| Ok(PutOutcome::Unexpected { held: Some(versions[n].version) });
        assert_eq!(put(&mut writer, 0, Expected::Absent), STORED);
        assert_eq!(put(&mut writer, 1, Expected::Absent), found(0), "in the open group, too");
        let expected = Expected::Version(versions[0].version);
        let replaced = Some(versions[0].version);
        assert_eq!(put(&mut writer, 2, expected), Ok(PutOutcome::Stored { replaced }));
        assert_eq!(put(&mut writer, 3, expected), found(2), "a higher version is no excuse");
        let after = versions[3].expires_ms;
        let later = Record { expires_ms: after + 1, ..versions[3].clone() };
        let absent = Rule::IfExpected(Expected::Absent);
        assert_eq!(writer.put(&later, None, absent, None, after), STORED, "it has expired");
    }

    #[test]
    fn the_same_version_again_only_puts_off_its_expiry() {
        let (mut writer, reader) = store();
        let record = plain("name", 1, b"data");
        let at = |expires_ms| Record { expires_ms, state: b"theirs".as_slice().into(), ..record.clone() };
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        for (arriving, expected) in [(record.expires_ms - 5, 0), (record.expires_ms + 5, 5)] {
            assert_eq!(put(&mut writer, &at(arriving), Rule::IfNewer), Ok(PutOutcome::Unchanged));
            commit(&mut writer);
            let held = reader.record(&record.key, NOW).unwrap().unwrap();
            assert_eq!(held, Record { expires_ms: record.expires_ms + expected, ..record.clone() });
        }
    }

    #[test]
    fn a_publication_stays_as_it_came_with_the_first_copy_of_its_version() {
        let signed = published(1, "name", 1, "aso.n = 0");
        let unsigned = Record { publication: None, ..signed.clone() };
        let of_another = published(2, "name", 1, "aso.n = 0");
        for (held, arriving) in [(&unsigned, &signed), (&signed, &unsigned), (&signed, &of_another)] {
            let (mut writer, reader) = store();
            put(&mut writer, held, Rule::IfNewer).unwrap();
            assert_eq!(put(&mut writer, arriving, Rule::IfNewer), Ok(PutOutcome::Unchanged));
            commit(&mut writer);
            assert_eq!(reader.record(&held.key, NOW), Ok(Some(held.clone())));
        }
    }

    #[test]
    fn a_replay_of_what_an_owner_signed_does_not_prolong_its_lifetime() {
        let (mut writer, reader) = store();
        let record = owned(1, "name", 1, b"data");
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        commit(&mut writer);
        let replay = Record { expires_ms: record.expires_ms + 5, ..record.clone() };
        assert_eq!(put(&mut writer, &replay, Rule::IfNewer), Ok(PutOutcome::Unchanged));
        commit(&mut writer);
        assert_eq!(reader.record(&record.key, NOW), Ok(Some(record)));
    }

    #[test]
    fn state_is_saved_for_the_version_that_is_held_and_no_other() {
        let (mut writer, reader) = store();
        let record = active("name", 1, b"data", "aso.n = 0");
        let other = Version { sequence: 2, ..record.version };
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        writer
            .save_state(&record.key, record.version, b"yes".as_slice().into(), Some(7), Some(NOW + 8))
            .unwrap();
        writer.save_state(&record.key, other, b"no".as_slice().into(), Some(9), None).unwrap();
        writer.save_state(&Key::of("none"), other, b"no".as_slice().into(), Some(9), None).unwrap();
        commit(&mut writer);
        let expected = Record { state: b"yes".as_slice().into(), expires_ms: NOW + 8, ..record.clone() };
        assert_eq!(reader.record(&record.key, NOW), Ok(Some(expected)));
        assert_eq!(reader.due_timers(WallMs::MAX, 9), Ok(vec![(7, record.key)]));
        assert_eq!(reader.record(&Key::of("none"), NOW), Ok(None));
    }

    #[test]
    fn code_is_stored_once_and_goes_with_the_last_record() {
        let (mut writer, reader) = store();
        let records = ["a", "b"].map(|name| active(name, 1, b"", "aso.n = 0"));
        let hash = records[0].code.as_ref().unwrap().hash;
        let is_stored = || reader.engine().value(Table::Code, &hash).unwrap().is_some();
        for record in &records {
            put(&mut writer, record, Rule::IfNewer).unwrap();
            commit(&mut writer);
        }
        assert_eq!(reader.totals().bytes, 2 * RECORD_OVERHEAD_BYTES + 9);
        writer.delete(&records[0].key, None, None, NOW).unwrap();
        commit(&mut writer);
        assert!(is_stored());
        put(&mut writer, &plain("b", 2, b""), Rule::IfNewer).unwrap();
        commit(&mut writer);
        assert!(!is_stored());
        assert_eq!(reader.totals(), Totals { records: 1, bytes: RECORD_OVERHEAD_BYTES, active: 0 });
    }

    #[test]
    fn a_put_that_is_only_to_replace_a_plain_value_leaves_an_object_alone_until_it_has_expired() {
        let (mut writer, reader) = store();
        let (object, value) = (active("a", 1, b"", "aso.n = 1"), plain("a", 2, b"value"));
        put(&mut writer, &object, Rule::IfPlain).unwrap();
        assert_eq!(put(&mut writer, &value, Rule::IfPlain), Ok(PutOutcome::HasHandlers));
        commit(&mut writer);
        assert_eq!(put(&mut writer, &value, Rule::IfPlain), Ok(PutOutcome::HasHandlers));
        assert_eq!(reader.record(&object.key, NOW), Ok(Some(object.clone())));
        let late = writer.put(&value, None, Rule::IfPlain, None, object.expires_ms);
        assert_eq!(late, Ok(PutOutcome::Stored { replaced: None }));
        let newer = plain("a", 3, b"newer");
        let replaced = Some(value.version);
        assert_eq!(put(&mut writer, &newer, Rule::IfPlain), Ok(PutOutcome::Stored { replaced }));
    }

    #[test]
    fn a_log_goes_with_its_record() {
        let (mut writer, reader) = store();
        let record = plain("name", 1, b"");
        writer.save_log(&record.key, b"nobody's".as_slice().into()).unwrap();
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        writer.save_log(&record.key, b"line".as_slice().into()).unwrap();
        commit(&mut writer);
        assert_eq!(reader.log(&record.key), Ok(Some(b"line".as_slice().into())));
        assert_eq!(reader.totals().bytes, RECORD_OVERHEAD_BYTES + 4);
        writer.delete(&record.key, None, None, NOW).unwrap();
        commit(&mut writer);
        assert_eq!((reader.log(&record.key), reader.totals().bytes), (Ok(None), 0));
    }

    #[test]
    fn an_expired_record_stands_in_nobodys_way_and_leaves_nothing_behind() {
        let (mut writer, reader) = store();
        let (old, new) = (plain("name", 2, b"old"), plain("name", 1, b"new"));
        put(&mut writer, &old, Rule::IfNewer).unwrap();
        writer.save_log(&old.key, b"line".as_slice().into()).unwrap();
        commit(&mut writer);
        let later = Record { expires_ms: old.expires_ms + 9, ..new };
        assert_eq!(writer.put(&later, None, Rule::IfNewer, None, old.expires_ms), STORED);
        commit(&mut writer);
        assert_eq!(reader.record(&later.key, old.expires_ms), Ok(Some(later.clone())));
        assert_eq!(reader.log(&later.key), Ok(None));
    }

    #[test]
    fn a_record_that_is_not_what_its_version_says_is_refused() {
        let (mut writer, _) = store();
        let record = Record { data: b"other".as_slice().into(), ..plain("name", 1, b"data") };
        assert_eq!(put(&mut writer, &record, Rule::Replace), Err(StoreError::Mismatch));
        let mut record = active("name", 1, b"data", "aso.n = 0");
        record.code = record.code.map(|code| Code { source: "aso.n = 1".into(), ..code });
        assert_eq!(put(&mut writer, &record, Rule::Replace), Err(StoreError::Mismatch));
        assert!(!writer.has_open_group());
    }

    #[test]
    fn a_full_store_refuses_and_keeps_what_it_has() {
        let config = StoreConfig { bytes_max: 2 * RECORD_OVERHEAD_BYTES + 10, ..StoreConfig::default() };
        let (mut writer, reader) = in_memory(config.clone());
        let (a, b) = (plain("a", 1, &[0; 6]), plain("b", 1, &[0; 5]));
        put(&mut writer, &a, Rule::IfNewer).unwrap();
        let used = config.bytes_max + 1;
        let full = QuotaExceeded { what: Quota::Bytes, used, limit: config.bytes_max };
        assert_eq!(put(&mut writer, &b, Rule::IfNewer), Err(full.into()));
        assert_eq!(put(&mut writer, &plain("b", 1, &[0; 4]), Rule::IfNewer), STORED);
        let grown = writer.save_state(&a.key, a.version, b"x".as_slice().into(), None, None);
        assert_eq!(grown, Err(full.into()));
        assert_eq!(writer.save_log(&a.key, b"x".as_slice().into()), Err(full.into()));
        commit(&mut writer);
        assert_eq!(reader.record(&a.key, NOW), Ok(Some(a)));
        assert_eq!(reader.totals().bytes, config.bytes_max);
    }

    #[test]
    fn no_record_and_no_log_passes_its_own_limit() {
        let (mut writer, _) = store();
        let at = |bytes| plain("name", 1, &vec![0; bytes as usize]);
        assert_eq!(put(&mut writer, &at(RECORD_BYTES_MAX), Rule::IfNewer), STORED);
        commit(&mut writer);
        assert!(writer.reader().record(&Key::of("name"), NOW).unwrap().is_some());
        let (used, limit) = (RECORD_BYTES_MAX + 1, RECORD_BYTES_MAX);
        let refused = QuotaExceeded { what: Quota::OneRecord, used, limit };
        assert_eq!(put(&mut writer, &at(used), Rule::Replace), Err(refused.into()));
        let log = Bytes::from(vec![0; LOG_BYTES_MAX as usize + 1]);
        let refused = QuotaExceeded { what: Quota::OneLog, used: LOG_BYTES_MAX + 1, limit: LOG_BYTES_MAX };
        assert_eq!(writer.save_log(&Key::of("name"), log), Err(refused.into()));
    }

    proptest! {
        #[test]
        fn the_running_counts_are_those_of_a_fresh_count(
            steps in prop::collection::vec((0..6u8, 0..4u8, 0..4u64, 0..3u8, any::<bool>()), 1..60),
        ) {
            let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 2, ..StoreConfig::default() });
            for (act, name, sequence, variant, is_committed) in steps {
                let data = vec![variant; usize::from(variant) * 10];
                let name = name.to_string();
                let record = match variant {
                    0 => plain(&name, sequence, &data),
                    1 => owned(1, &name, sequence, &data),
                    _ => active(&name, sequence, &data, if sequence > 1 { "a" } else { "bb" }),
                };
                let (key, version) = (record.key, record.version);
                let now = NOW + sequence * 50_000_000;
                match act {
                    0 => drop(writer.put(&record, None, Rule::Replace, Some(sequence), now).unwrap()),
                    1 => drop(writer.put(&record, None, Rule::IfNewer, None, now).unwrap()),
                    2 => drop(writer.delete(&key, (sequence > 1).then_some(Deletion::unsigned(version)), None, now).unwrap()),
                    3 => writer.save_log(&key, data.into()).unwrap(),
                    4 => writer.save_state(&key, version, data.into(), None, Some(now)).unwrap(),
                    _ => drop(writer.sweep(now).unwrap()),
                }
                if is_committed {
                    commit(&mut writer);
                }
            }
            commit(&mut writer);
            let fresh = tally(reader.engine()).unwrap();
            prop_assert_eq!(&fresh.accounts, &writer.accounts);
            prop_assert_eq!(fresh.tombstones, writer.tombstones);
            prop_assert!(fresh.tombstones <= 2);
            prop_assert_eq!(fresh.unused_codes, Vec::<Hash>::new());
            for key in reader.keys(None, usize::MAX).unwrap() {
                let stored = reader.stored(&key).unwrap().unwrap();
                prop_assert!(reader.due(Table::Expiry, WallMs::MAX, 99).unwrap().contains(&(expiry_entry_ms(stored.expires_ms), key)));
            }
            prop_assert_eq!(reader.due(Table::Expiry, WallMs::MAX, 99).unwrap().len() as u64, reader.totals().records);
        }
    }
}
