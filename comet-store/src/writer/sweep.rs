//! Removing what has expired, and what is damaged.

use comet_routing::{Key, clock::WallMs};

use super::StoreWriter;
use crate::{
    StoreError,
    codec::{StoredRecord, time_key},
    engine::Table,
};

/// How much a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    /// Everything that was due is gone.
    All,
    /// As much as one sweep may take is gone, and there may be more.
    Part,
}

impl StoreWriter {
    /// Removes records and tombstones whose time is over, a bounded number of each.
    pub(crate) fn sweep(&mut self, now: WallMs) -> Result<Swept, StoreError> {
        let max = self.config.sweep_max.max(1);
        let records = self.reader.due(Table::Expiry, now, max)?;
        let tombstones = self.reader.due(Table::TombstoneExpiry, now, max)?;
        for (entry_ms, key) in &records {
            self.sweep_record(*entry_ms, key, now)?;
        }
        for (expires_ms, key) in &tombstones {
            self.sweep_tombstone(*expires_ms, key)?;
        }
        Ok(if records.len() == max || tombstones.len() == max { Swept::Part } else { Swept::All })
    }

    /// As [`StoreWriter::held`], but a damaged record is cleared away, so that a good copy can come.
    pub(super) fn held_or_scrubbed(&mut self, key: &Key) -> Result<Option<StoredRecord>, StoreError> {
        match self.held(key) {
            Err(StoreError::Corrupt { reason, .. }) => {
                log::warn!("clearing away the damaged record {}: {reason}", key.brief());
                self.scrub(key)?;
                Ok(None)
            }
            held => held,
        }
    }

    /// Removes a record that cannot be read: its index entries can only be found by looking at all of them.
    fn scrub(&mut self, key: &Key) -> Result<(), StoreError> {
        for table in [Table::Expiry, Table::Timers] {
            for (at_ms, _) in
                self.reader.due(table, WallMs::MAX, usize::MAX)?.iter().filter(|due| due.1 == *key)
            {
                self.group.drop_entry(table, time_key(*at_ms, key).into());
            }
        }
        self.remove_log(key)?;
        self.void_accounts();
        self.group.set_record(*key, None, None);
        Ok(())
    }

    fn sweep_record(&mut self, entry_ms: WallMs, key: &Key, now: WallMs) -> Result<(), StoreError> {
        match self.held(key) {
            // Decided anew in the open group, which moves the index entry by itself.
            _ if self.group.record(key).is_some() => {}
            Ok(Some(held)) if held.expires_ms <= now => {
                self.remove(key)?;
                self.remember_expiry(key, &held)?;
                self.group.note_expired(*key);
            }
            // An entry that leads nowhere, left by a record that was damaged, or from when entries had the time itself.
            Ok(_) => self.group.drop_entry(Table::Expiry, time_key(entry_ms, key).into()),
            Err(StoreError::Corrupt { .. }) => {
                self.remove(key)?;
                self.group.note_expired(*key);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn sweep_tombstone(&mut self, expires_ms: WallMs, key: &Key) -> Result<(), StoreError> {
        match self.tombstone(key)? {
            _ if self.group.tombstone(key).is_some() => {}
            Some(held) if held.expires_ms == expires_ms => self.set_tombstone(key, Some(&held), None),
            other => {
                self.group.drop_entry(Table::TombstoneExpiry, time_key(expires_ms, key).into());
                self.tombstones = self.tombstones.saturating_sub(1);
                // Whom the one that was damaged is charged to is not known.
                self.void_accounts();
                if other.is_none() {
                    self.group.set_tombstone(*key, None, None);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        super::tests::{STORED, commit, put, store},
        *,
    };
    use crate::{
        Deletion, Record, Rule, StoreConfig,
        codec::expiry_entry_ms,
        engine::{Batch, OnDisk},
        sample::{NOW, plain},
    };

    #[test]
    fn a_deletion_is_forgotten_when_its_time_is_over() {
        let (mut writer, reader) = store();
        let record = plain("a", 1, b"");
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        let deletion = Deletion::unsigned(record.version);
        writer.delete(&record.key, Some(deletion.clone()), None, NOW).unwrap();
        commit(&mut writer);
        let until = NOW + StoreConfig::default().tombstone_ttl_seconds * 1_000;
        assert_eq!(writer.sweep(until - 1), Ok(Swept::All));
        commit(&mut writer);
        assert_eq!(reader.tombstone(&record.key), Ok(Some(deletion)));
        writer.sweep(until).unwrap();
        commit(&mut writer);
        assert_eq!(reader.tombstone(&record.key), Ok(None));
    }

    #[test]
    fn a_record_is_swept_out_within_a_step_of_its_expiry_and_overwriting_it_does_not_move_its_entry() {
        let (mut writer, reader) = store();
        let entries = || reader.due(Table::Expiry, WallMs::MAX, 9).unwrap();
        for (sequence, expires_ms) in [(1, 8_001), (2, 8_500), (3, 12_000), (4, 12_001)] {
            put(&mut writer, &Record { expires_ms, ..plain("a", sequence, b"") }, Rule::IfNewer).unwrap();
            commit(&mut writer);
            let expected = if sequence < 4 { 12_000 } else { 16_000 };
            assert_eq!(entries(), [(expected, Key::of("a"))], "{expires_ms}");
        }
        writer.sweep(15_999).unwrap();
        assert!(!writer.has_open_group());
        writer.sweep(16_000).unwrap();
        commit(&mut writer);
        assert_eq!((entries(), reader.totals().records), (vec![], 0));
    }

    #[test]
    fn an_entry_from_when_they_had_the_time_itself_is_swept_out_with_its_record() {
        let (mut writer, reader) = store();
        let record = Record { expires_ms: 8_001, ..plain("a", 1, b"") };
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        commit(&mut writer);
        let mut former = Batch::default();
        former.delete(Table::Expiry, time_key(12_000, &record.key));
        former.put(Table::Expiry, time_key(8_001, &record.key), []);
        writer.engine.commit(former, OnDisk::Now).unwrap();
        for _ in 0..2 {
            writer.sweep(8_001).unwrap();
            commit(&mut writer);
        }
        assert_eq!(reader.due(Table::Expiry, WallMs::MAX, 9), Ok(vec![]));
        assert_eq!(reader.totals().records, 0);
    }

    #[test]
    fn a_damaged_record_is_not_served_and_makes_way_for_a_good_one() {
        let (mut writer, reader) = store();
        let record = plain("name", 2, b"data");
        let (key, older) = (record.key, plain("name", 1, b"older"));
        writer.put(&record, None, Rule::IfNewer, Some(5), NOW).unwrap();
        commit(&mut writer);
        let mut damage = Batch::default();
        let mut sealed = reader.engine().value(Table::Records, key.as_bytes()).unwrap().unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        damage.put(Table::Records, *key.as_bytes(), sealed);
        writer.engine.commit(damage, OnDisk::Now).unwrap();

        let corrupt = StoreError::Corrupt { key, reason: "the checksum does not match".into() };
        assert_eq!(reader.record(&key, NOW), Err(corrupt.clone()));
        assert_eq!(writer.save_state(&key, record.version, Bytes::new(), None, None), Err(corrupt));
        assert_eq!(put(&mut writer, &older, Rule::IfNewer), STORED);
        commit(&mut writer);
        assert_eq!(reader.record(&key, NOW), Ok(Some(older.clone())));
        assert_eq!(reader.due_timers(WallMs::MAX, 9), Ok(vec![]));
        assert_eq!(
            reader.due(Table::Expiry, WallMs::MAX, 9),
            Ok(vec![(expiry_entry_ms(older.expires_ms), key)])
        );
    }
}
