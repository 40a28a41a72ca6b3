//! Remembering deletions, so that a replica that was away cannot bring an object back (attack E11).

use comet_routing::{Key, clock::WallMs};

use super::StoreWriter;
use crate::{StoreError, Version, codec::Tombstone, engine::Table};

impl StoreWriter {
    /// Remembers that `version` and lower ones are deleted; the oldest memory makes room if there are too many.
    pub(super) fn remember_deletion(
        &mut self,
        key: &Key,
        version: Version,
        now: WallMs,
    ) -> Result<(), StoreError> {
        let held = self.tombstone(key)?;
        let version = held.map_or(version, |held| held.version().max(version));
        let expires_ms = now.saturating_add(self.config.tombstone_ttl_seconds.saturating_mul(1_000));
        let tombstone = Tombstone { sequence: version.sequence, hash: version.hash, expires_ms };
        self.set_tombstone(key, held, Some(tombstone));
        if self.tombstones <= self.config.tombstones_max {
            return Ok(());
        }
        let on_disk =
            self.reader.due(Table::TombstoneExpiry, WallMs::MAX, self.group.tombstones_touched() + 1)?;
        let untouched = on_disk.into_iter().find(|(_, key)| self.group.tombstone(key).is_none());
        if let Some((_, first)) = untouched.into_iter().chain(self.group.first_tombstone()).min() {
            let held = self.tombstone(&first)?;
            self.set_tombstone(&first, held, None);
        }
        Ok(())
    }

    pub(super) fn set_tombstone(&mut self, key: &Key, held: Option<Tombstone>, now: Option<Tombstone>) {
        self.tombstones = self.tombstones.saturating_sub(u64::from(held.is_some()));
        self.tombstones += u64::from(now.is_some());
        self.group.set_tombstone(*key, held.as_ref(), now);
    }

    /// The tombstone at a key as the open group leaves it; a damaged one is as good as none.
    pub(super) fn tombstone(&self, key: &Key) -> Result<Option<Tombstone>, StoreError> {
        if let Some(tombstone) = self.group.tombstone(key) {
            return Ok(tombstone.copied());
        }
        match self.reader.stored_tombstone(key) {
            Err(StoreError::Corrupt { .. }) => Ok(None),
            tombstone => tombstone,
        }
    }

    pub(super) fn deleted_version(&self, key: &Key, now: WallMs) -> Result<Option<Version>, StoreError> {
        let tombstone = self.tombstone(key)?.filter(|tombstone| tombstone.expires_ms > now);
        Ok(tombstone.map(|tombstone| tombstone.version()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{STORED, commit, put, store};
    use crate::{
        Deleted, PutOutcome, Rule, StoreConfig, in_memory,
        sample::{NOW, plain},
    };

    #[test]
    fn the_deletion_that_would_be_forgotten_first_makes_room() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 2, ..StoreConfig::default() });
        let records = ["a", "b", "c", "d"].map(|name| plain(name, 1, b""));
        for (at, record) in [5, 0, 7, 6].into_iter().zip(&records) {
            writer.delete(&record.key, Some(record.version), NOW + at).unwrap();
            if record.key == records[1].key {
                commit(&mut writer);
            }
        }
        commit(&mut writer);
        let remembered = records.map(|record| reader.tombstone(&record.key).unwrap().is_some());
        assert_eq!(remembered, [false, false, true, true]);
    }

    #[test]
    fn a_deleted_version_does_not_come_back_and_a_higher_one_does() {
        let (mut writer, reader) = store();
        let (first, second) = (plain("name", 1, b"first"), plain("name", 2, b"second"));
        put(&mut writer, &first, Rule::IfNewer).unwrap();
        commit(&mut writer);
        assert_eq!(writer.delete(&first.key, Some(first.version), NOW), Ok(Deleted::Gone));
        assert_eq!(writer.delete(&first.key, None, NOW), Ok(Deleted::NotHeld));
        commit(&mut writer);
        assert_eq!(reader.record(&first.key, NOW), Ok(None));
        assert_eq!(reader.tombstone(&first.key), Ok(Some(first.version)));
        assert_eq!(put(&mut writer, &first, Rule::IfNewer), Ok(PutOutcome::Stale { held: first.version }));
        assert_eq!(put(&mut writer, &second, Rule::IfNewer), STORED);
        commit(&mut writer);
        assert_eq!(reader.tombstone(&first.key), Ok(None));
    }
}
