//! Remembering deletions, so that a replica that was away cannot bring an object back.
//!
//! Anybody can have deletions remembered of what nobody owns and nobody ever held, at the price of a small
//! request each. Such a one has only to outlive puts that are under way, so its time is short; and since the one
//! that would be forgotten first makes room, a flood of them pushes out one another.

use comet_routing::{Key, clock::WallMs};

use super::StoreWriter;
use crate::{Deleted, Deletion, StoreError, Version, codec::Tombstone, engine::Table};

/// How long an unsigned deletion of what was not held here is remembered at most: an hour, many times the
/// longest that an operation takes.
const UNHELD_SECONDS: u64 = 3_600;

impl StoreWriter {
    /// Forgets a record whose version is still this one, without remembering that.
    pub(crate) fn release_version(&mut self, key: &Key, version: Version) -> Result<Deleted, StoreError> {
        if self.held(key)?.is_none_or(|held| held.version() != version) {
            return Ok(Deleted::NotHeld);
        }
        self.remove(key)?;
        Ok(Deleted::Gone)
    }

    /// Remembers what a deletion found so, unless a higher one is remembered already; the memory that would end
    /// first makes room if there are too many.
    pub(super) fn remember_deletion(
        &mut self,
        key: &Key,
        deletion: Deletion,
        found: Deleted,
        now: WallMs,
    ) -> Result<(), StoreError> {
        let held = self.tombstone(key)?;
        let seconds = match found {
            Deleted::NotHeld if deletion.ownership.is_none() => {
                UNHELD_SECONDS.min(self.config.tombstone_ttl_seconds)
            }
            Deleted::NotHeld | Deleted::Gone => self.config.tombstone_ttl_seconds,
        };
        let expires_ms = now.saturating_add(seconds.saturating_mul(1_000));
        // What is remembered for long already is not forgotten sooner because it is deleted again.
        let expires_ms = held.as_ref().map_or(expires_ms, |held| held.expires_ms.max(expires_ms));
        let deletion = match &held {
            Some(held) => held.clone().deletion().or_higher(deletion),
            None => deletion,
        };
        self.set_tombstone(key, held.as_ref(), Some(Tombstone::new(deletion, expires_ms)));
        if self.tombstones <= self.config.tombstones_max {
            return Ok(());
        }
        let on_disk =
            self.reader.due(Table::TombstoneExpiry, WallMs::MAX, self.group.tombstones_touched() + 1)?;
        let untouched = on_disk.into_iter().find(|(_, key)| self.group.tombstone(key).is_none());
        if let Some((_, first)) = untouched.into_iter().chain(self.group.first_tombstone()).min() {
            let held = self.tombstone(&first)?;
            self.set_tombstone(&first, held.as_ref(), None);
        }
        Ok(())
    }

    pub(super) fn set_tombstone(&mut self, key: &Key, held: Option<&Tombstone>, now: Option<Tombstone>) {
        self.tombstones = self.tombstones.saturating_sub(u64::from(held.is_some()));
        self.tombstones += u64::from(now.is_some());
        self.group.set_tombstone(*key, held, now);
    }

    /// The tombstone at a key as the open group leaves it; a damaged one is as good as none.
    pub(super) fn tombstone(&self, key: &Key) -> Result<Option<Tombstone>, StoreError> {
        if let Some(tombstone) = self.group.tombstone(key) {
            return Ok(tombstone.cloned());
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
    use super::{
        super::tests::{STORED, commit, put, store},
        UNHELD_SECONDS,
    };
    use crate::{
        Deleted, Deletion, PutOutcome, Rule, StoreConfig, in_memory,
        sample::{NOW, owned, plain},
    };

    #[test]
    fn a_flood_of_deletions_of_nothing_pushes_out_no_deletion_of_something() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 3, ..StoreConfig::default() });
        let (held, signed) = (plain("held", 1, b""), owned(1, "signed", 1, b""));
        put(&mut writer, &held, Rule::IfNewer).unwrap();
        writer.delete(&held.key, Some(Deletion::up_to(2, None)), NOW).unwrap();
        writer.delete(&signed.key, Some(Deletion::up_to(2, signed.ownership.clone())), NOW).unwrap();
        let flood: Vec<_> = (0..9).map(|n| plain(&n.to_string(), 1, b"").key).collect();
        for (at, key) in (1..).zip(&flood) {
            writer.delete(key, Some(Deletion::up_to(2, None)), NOW + at).unwrap();
            commit(&mut writer);
        }
        let is_remembered = |key| reader.tombstone(key).unwrap().is_some();
        assert_eq!([&held.key, &signed.key].map(is_remembered), [true, true]);
        let of_flood: Vec<_> = flood.iter().map(is_remembered).collect();
        assert_eq!(of_flood, [false, false, false, false, false, false, false, false, true]);
    }

    #[test]
    fn a_deletion_of_what_is_gone_already_does_not_shorten_the_memory_of_it() {
        let (mut writer, reader) = store();
        let (held, never) = (plain("held", 1, b""), plain("never", 1, b""));
        put(&mut writer, &held, Rule::IfNewer).unwrap();
        for key in [&held.key, &held.key, &never.key] {
            writer.delete(key, Some(Deletion::up_to(2, None)), NOW).unwrap();
            commit(&mut writer);
        }
        writer.sweep(NOW + UNHELD_SECONDS * 1_000).unwrap();
        commit(&mut writer);
        assert_eq!(reader.tombstone(&held.key), Ok(Some(Deletion::up_to(2, None))));
        assert_eq!(reader.tombstone(&never.key), Ok(None));
    }

    #[test]
    fn the_deletion_that_would_be_forgotten_first_makes_room() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 2, ..StoreConfig::default() });
        let records = ["a", "b", "c", "d"].map(|name| plain(name, 1, b""));
        for (at, record) in [5, 0, 7, 6].into_iter().zip(&records) {
            writer.delete(&record.key, Some(Deletion::unsigned(record.version)), NOW + at).unwrap();
            if record.key == records[1].key {
                commit(&mut writer);
            }
        }
        commit(&mut writer);
        let remembered = records.map(|record| reader.tombstone(&record.key).unwrap().is_some());
        assert_eq!(remembered, [false, false, true, true]);
    }

    #[test]
    fn what_is_released_may_come_back_and_what_was_replaced_meanwhile_is_not_released() {
        let (mut writer, reader) = store();
        let (first, second) = (plain("name", 1, b"first"), plain("name", 2, b"second"));
        put(&mut writer, &first, Rule::IfNewer).unwrap();
        commit(&mut writer);
        put(&mut writer, &second, Rule::IfNewer).unwrap();
        assert_eq!(writer.release_version(&first.key, first.version), Ok(Deleted::NotHeld));
        commit(&mut writer);
        assert_eq!(reader.record(&first.key, NOW), Ok(Some(second.clone())));
        assert_eq!(writer.release_version(&first.key, second.version), Ok(Deleted::Gone));
        commit(&mut writer);
        assert_eq!((reader.record(&first.key, NOW), reader.tombstone(&first.key)), (Ok(None), Ok(None)));
        assert_eq!(put(&mut writer, &second, Rule::IfNewer), STORED);
    }

    #[test]
    fn a_deleted_version_does_not_come_back_and_a_higher_one_does() {
        let (mut writer, reader) = store();
        let (first, second) = (plain("name", 1, b"first"), plain("name", 2, b"second"));
        put(&mut writer, &first, Rule::IfNewer).unwrap();
        commit(&mut writer);
        let deletion = Deletion::unsigned(first.version);
        assert_eq!(writer.delete(&first.key, Some(deletion.clone()), NOW), Ok(Deleted::Gone));
        assert_eq!(writer.delete(&first.key, None, NOW), Ok(Deleted::NotHeld));
        commit(&mut writer);
        assert_eq!(reader.record(&first.key, NOW), Ok(None));
        assert_eq!(reader.tombstone(&first.key), Ok(Some(deletion)));
        assert_eq!(put(&mut writer, &first, Rule::IfNewer), Ok(PutOutcome::Stale { held: first.version }));
        assert_eq!(put(&mut writer, &second, Rule::IfNewer), STORED);
        commit(&mut writer);
        assert_eq!(reader.tombstone(&first.key), Ok(None));
    }

    #[test]
    fn an_owners_proof_is_remembered_and_gives_way_to_a_higher_deletion_only() {
        let (mut writer, reader) = store();
        let record = owned(1, "name", 5, b"");
        let proof = record.ownership.clone();
        let (signed, lower) = (Deletion::up_to(6, proof.clone()), Deletion::unsigned(record.version));
        let next = Deletion::up_to(7, proof);
        for (deletion, remembered) in
            [(&lower, &lower), (&signed, &signed), (&lower, &signed), (&next, &next)]
        {
            assert_eq!(writer.delete(&record.key, Some(deletion.clone()), NOW), Ok(Deleted::NotHeld));
            commit(&mut writer);
            assert_eq!(reader.tombstone(&record.key).as_ref(), Ok(&Some(remembered.clone())));
        }
    }

    #[test]
    fn what_is_sent_again_of_a_deleted_object_is_stale_up_to_the_sequence_that_was_deleted() {
        let (mut writer, _) = store();
        let deletion = Deletion::up_to(5, None);
        let under_way = [plain("name", 4, b"late"), plain("name", 5, b"late"), plain("name", 6, b"next")];
        writer.delete(&under_way[0].key, Some(deletion.clone()), NOW).unwrap();
        let stale = Ok(PutOutcome::Stale { held: deletion.version });
        let outcomes = under_way.map(|record| put(&mut writer, &record, Rule::IfNewer));
        assert_eq!(outcomes, [stale.clone(), stale, STORED]);
    }
}
