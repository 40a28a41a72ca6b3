//! Remembering deletions, so that a replica that was away cannot bring an object back.
//!
//! Anybody can have deletions remembered, at the price of a small request each: of what nobody owns, and of what he
//! has put himself, or signed with a key made for it. So they are charged like records: to the network and the
//! owner that the object came from, or the deletion itself if there was no object. Where there are too many, those of the account that has most make room, the one that
//! would be forgotten first before the others, and a flood pushes out itself. What nobody owns and nobody ever held has
//! only to outlive puts that are under way, so its time is short.

use std::collections::BTreeSet;

use comet_routing::{Key, clock::WallMs};

use super::StoreWriter;
use crate::{
    Deleted, Deletion, StoreError, Version,
    codec::{StoredRecord, Tombstone, time_key},
    engine::Table,
    ledger::payer_key,
    quota::{Payer, Payers},
};

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

    /// Remembers what a deletion found so, unless a higher one is remembered already; the account that has too many
    /// forgets one.
    pub(super) fn remember_deletion(
        &mut self,
        key: &Key,
        deletion: Deletion,
        found: Deleted,
        payers: Payers,
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
        let (deletion, payers) = match &held {
            // It stays with whoever has fewer: a flood that repeats a deletion of somebody else does not come to own it.
            Some(held) => {
                let payers = self.accounts.deletions().lighter(held.payers, payers);
                (held.clone().deletion().or_higher(deletion), payers)
            }
            None => (deletion, payers),
        };
        self.set_tombstone(key, held.as_ref(), Some(Tombstone::new(deletion, expires_ms, payers)));
        let debtor = self.accounts.deletions().debtor(&payers, self.tombstones, self.config.tombstones_max);
        debtor.map_or(Ok(()), |payer| self.forget_first_of(&payer))
    }

    /// Remembers up to where an owner's puts have expired: whoever kept the signed bytes could else send them again,
    /// and have them stored for another lifetime. What nobody signed needs no replay; anybody can put the like of it.
    pub(super) fn remember_expiry(&mut self, key: &Key, expired: &StoredRecord) -> Result<(), StoreError> {
        if expired.ownership.is_none() {
            return Ok(());
        }
        let deletion = Deletion::unsigned(expired.version());
        let payers = Payers::of(&expired.charge());
        self.remember_deletion(key, deletion, Deleted::Gone, payers, expired.expires_ms)
    }

    /// Forgets the deletion of an account that would be forgotten first.
    fn forget_first_of(&mut self, payer: &Payer) -> Result<(), StoreError> {
        let mut astray = BTreeSet::new();
        loop {
            let is_elsewhere = |key: &Key| self.group.tombstone(key).is_some() || astray.contains(key);
            let on_disk = self.reader.first_deletion(payer, is_elsewhere)?;
            let Some((at_ms, key)) = on_disk.into_iter().chain(self.group.first_tombstone(payer)).min()
            else {
                return Ok(());
            };
            let held =
                self.tombstone(&key)?.filter(|held| held.expires_ms == at_ms && held.is_charged_to(payer));
            if held.is_some() {
                self.set_tombstone(&key, held.as_ref(), None);
                return Ok(());
            }
            // An entry that leads nowhere, left by a tombstone that was damaged.
            let entry = [payer_key(payer).as_slice(), &time_key(at_ms, &key)].concat();
            self.group.drop_entry(Table::TombstonePayers, entry);
            astray.insert(key);
        }
    }

    pub(super) fn set_tombstone(&mut self, key: &Key, held: Option<&Tombstone>, now: Option<Tombstone>) {
        self.tombstones = self.tombstones.saturating_sub(u64::from(held.is_some()));
        self.tombstones += u64::from(now.is_some());
        if let Some(now) = &now {
            self.accounts.remember(&now.payers);
        }
        if let Some(held) = held {
            self.accounts.forget(&held.payers);
        }
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
}

/// The version that was deleted, if that is still to be remembered.
pub(super) fn remembered(tombstone: Option<&Tombstone>, now: WallMs) -> Option<Version> {
    tombstone.filter(|tombstone| tombstone.expires_ms > now).map(Tombstone::version)
}

#[cfg(test)]
mod tests {
    use comet_routing::{Key, Prefix};

    use super::{
        super::{
            StoreWriter,
            tests::{STORED, commit, put, store},
        },
        UNHELD_SECONDS,
    };
    use crate::{
        Deleted, Deletion, PutOutcome, Record, Rule, Source, StoreConfig,
        engine::{Batch, OnDisk, Table},
        in_memory,
        sample::{NOW, owned, plain},
    };

    #[test]
    fn a_flood_of_deletions_of_nothing_pushes_out_no_deletion_of_something() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 3, ..StoreConfig::default() });
        let (held, signed) = (plain("held", 1, b""), owned(1, "signed", 1, b""));
        put(&mut writer, &held, Rule::IfNewer).unwrap();
        writer.delete(&held.key, Some(Deletion::up_to(2, None)), None, NOW).unwrap();
        writer.delete(&signed.key, Some(Deletion::up_to(2, signed.ownership.clone())), None, NOW).unwrap();
        let flood: Vec<_> = (0..9).map(|n| plain(&n.to_string(), 1, b"").key).collect();
        for (at, key) in (1..).zip(&flood) {
            writer.delete(key, Some(Deletion::up_to(2, None)), None, NOW + at).unwrap();
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
            writer.delete(key, Some(Deletion::up_to(2, None)), None, NOW).unwrap();
            commit(&mut writer);
        }
        writer.sweep(NOW + UNHELD_SECONDS * 1_000).unwrap();
        commit(&mut writer);
        assert_eq!(reader.tombstone(&held.key), Ok(Some(Deletion::up_to(2, None))));
        assert_eq!(reader.tombstone(&never.key), Ok(None));
    }

    /// What becomes of an owner's deletion that a replica was away for, when strangers then have thousands of
    /// deletions remembered: of what they put themselves, and of what they signed with keys made for it.
    fn returning_after_a_flood(charged: impl Fn(u8) -> Option<Source>) -> PutOutcome {
        let (mut writer, _) = in_memory(StoreConfig { tombstones_max: 40, ..StoreConfig::default() });
        let away = owned(1, "object", 1, b"");
        let signed = Deletion::up_to(2, away.ownership.clone());
        writer.put(&away, charged(0), Rule::IfNewer, None, NOW).unwrap();
        writer.delete(&away.key, Some(signed), charged(0), NOW).unwrap();
        for n in 0..2_000u64 {
            let (name, source) = (n.to_string(), charged(1 + (n % 12) as u8));
            let now = NOW + 1 + n;
            if n % 2 == 0 {
                let thrown_away = plain(&name, 1, b"");
                writer.put(&thrown_away, source, Rule::IfNewer, None, now).unwrap();
                writer.delete(&thrown_away.key, Some(Deletion::up_to(2, None)), None, now).unwrap();
            } else {
                let never = owned((n % 200) as u8 + 2, &name, 1, b"");
                let signed = Deletion::up_to(2, never.ownership.clone());
                writer.delete(&never.key, Some(signed), source, now).unwrap();
            }
            if n % 7 == 0 {
                commit(&mut writer);
            }
        }
        writer.put(&away, charged(9), Rule::IfNewer, None, NOW + 9_999).unwrap()
    }

    #[test]
    fn a_flood_of_deletions_pushes_out_itself_and_not_an_owners_deletion() {
        let of = |third| Some(Source::Put(Prefix::of([192, 0, third, 1].into())));
        assert_eq!(returning_after_a_flood(of), PutOutcome::Stale { held: Deletion::up_to(2, None).version });
        // The control: with one account for all, the oldest goes, and who was away brings the object back.
        assert_eq!(returning_after_a_flood(|_| None), PutOutcome::Stored { replaced: None });
    }

    #[test]
    fn who_repeats_somebodys_deletion_does_not_come_to_own_it() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 40, ..StoreConfig::default() });
        let signed = |owner, name: &str| {
            let record = owned(owner, name, 1, b"");
            (record.key, Deletion::up_to(2, record.ownership))
        };
        let (key, deletion) = signed(1, "object");
        let mut delete = |(key, deletion): (Key, Deletion), third, at| {
            let source = Source::Put(Prefix::of([192, 0, third, 1].into()));
            writer.delete(&key, Some(deletion), Some(source), NOW + at).unwrap();
            commit(&mut writer);
        };
        for n in 0..9 {
            delete(signed(n + 2, "flood"), 1, n.into());
        }
        // The flood is the first to send what the owner signed; the owner's own request comes after it.
        delete((key, deletion.clone()), 1, 9);
        delete((key, deletion.clone()), 2, 10);
        for n in 10..30 {
            delete((key, deletion.clone()), 1, 10);
            delete(signed(n + 2, "flood"), 1, n.into());
        }
        assert_eq!(reader.tombstone(&key), Ok(Some(deletion)));
        assert_eq!(reader.tombstone(&signed(29, "flood").0).map(|held| held.is_some()), Ok(true));
        assert_eq!(reader.tombstone(&signed(9, "flood").0), Ok(None));
    }

    #[test]
    fn what_an_owner_signed_is_not_stored_again_after_it_expired_and_the_next_sequence_number_is() {
        let again = |record: &Record, now| Record { expires_ms: now + 86_400_000, ..record.clone() };
        let [older, record, next] = [4, 5, 6].map(|sequence| owned(1, "name", sequence, b""));
        let expired = record.expires_ms;
        for is_swept in [false, true] {
            let (mut writer, _) = store();
            let send = |record: &Record, writer: &mut StoreWriter| {
                writer.put(&again(record, expired), None, Rule::IfNewer, None, expired).unwrap()
            };
            let strangers = plain("name", 5, b"");
            put(&mut writer, &record, Rule::IfNewer).unwrap();
            put(&mut writer, &strangers, Rule::IfNewer).unwrap();
            commit(&mut writer);
            if is_swept {
                writer.sweep(expired).unwrap();
                commit(&mut writer);
            }
            let stale = PutOutcome::Stale { held: record.version };
            assert_eq!([&older, &record].map(|record| send(record, &mut writer)), [stale; 2]);
            assert_eq!(Ok(send(&next, &mut writer)), STORED);
            // The control: of what nobody signed anybody can put the like, and nothing is remembered.
            assert_eq!(Ok(send(&strangers, &mut writer)), STORED);
        }
    }

    #[test]
    fn an_owners_put_that_expired_is_remembered_for_as_long_as_a_deletion() {
        let (mut writer, reader) = store();
        let record = owned(1, "name", 5, b"");
        put(&mut writer, &record, Rule::IfNewer).unwrap();
        commit(&mut writer);
        writer.sweep(record.expires_ms).unwrap();
        commit(&mut writer);
        let until = record.expires_ms + StoreConfig::default().tombstone_ttl_seconds * 1_000;
        writer.sweep(until - 1).unwrap();
        commit(&mut writer);
        assert_eq!(reader.tombstone(&record.key), Ok(Some(Deletion::unsigned(record.version))));
        writer.sweep(until).unwrap();
        commit(&mut writer);
        assert_eq!(reader.tombstone(&record.key), Ok(None));
    }

    #[test]
    fn a_damaged_deletion_stands_in_nobodys_way() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 2, ..StoreConfig::default() });
        let [first, second, third] = ["a", "b", "c"].map(|name| plain(name, 1, b"").key);
        let of = |key: &Key, at, writer: &mut StoreWriter| {
            writer.delete(key, Some(Deletion::up_to(2, None)), None, NOW + at).unwrap();
            commit(writer);
        };
        of(&first, 0, &mut writer);
        of(&second, 1, &mut writer);
        let mut damage = Batch::default();
        damage.put(Table::Tombstones, *first.as_bytes(), b"x".as_slice());
        writer.engine.commit(damage, OnDisk::Now).unwrap();
        of(&third, 2, &mut writer);
        assert_eq!(reader.tombstone(&second), Ok(None), "the first that can be read made room");
        assert!(reader.tombstone(&third).unwrap().is_some());
    }

    #[test]
    fn the_deletion_that_would_be_forgotten_first_makes_room() {
        let (mut writer, reader) = in_memory(StoreConfig { tombstones_max: 2, ..StoreConfig::default() });
        let records = ["a", "b", "c", "d"].map(|name| plain(name, 1, b""));
        for (at, record) in [5, 0, 7, 6].into_iter().zip(&records) {
            writer.delete(&record.key, Some(Deletion::unsigned(record.version)), None, NOW + at).unwrap();
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
        assert_eq!(writer.delete(&first.key, Some(deletion.clone()), None, NOW), Ok(Deleted::Gone));
        assert_eq!(writer.delete(&first.key, None, None, NOW), Ok(Deleted::NotHeld));
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
            assert_eq!(writer.delete(&record.key, Some(deletion.clone()), None, NOW), Ok(Deleted::NotHeld));
            commit(&mut writer);
            assert_eq!(reader.tombstone(&record.key).as_ref(), Ok(&Some(remembered.clone())));
        }
    }

    #[test]
    fn what_is_sent_again_of_a_deleted_object_is_stale_up_to_the_sequence_that_was_deleted() {
        let (mut writer, _) = store();
        let deletion = Deletion::up_to(5, None);
        let under_way = [plain("name", 4, b"late"), plain("name", 5, b"late"), plain("name", 6, b"next")];
        writer.delete(&under_way[0].key, Some(deletion.clone()), None, NOW).unwrap();
        let stale = Ok(PutOutcome::Stale { held: deletion.version });
        let outcomes = under_way.map(|record| put(&mut writer, &record, Rule::IfNewer));
        assert_eq!(outcomes, [stale.clone(), stale, STORED]);
    }
}
