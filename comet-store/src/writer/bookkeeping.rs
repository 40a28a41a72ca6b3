//! Keeping the accounts with what they account for.

use super::StoreWriter;
use crate::{
    StoreError, Totals,
    engine::{Batch, EngineError},
    ledger::{Kept, Ledger, kept},
    quota::Usage,
    reader::unreadable,
    tally::tally,
};

impl StoreWriter {
    /// Takes the accounts as the engine keeps them; counts everything that it holds if it keeps none.
    pub(super) fn take_stock(&mut self) -> Result<(), StoreError> {
        let engine = self.reader.engine();
        match kept(engine).map_err(|error| unreadable(&error))? {
            Some(Kept { accounts, tombstones }) => {
                (self.accounts, self.tombstones, self.ledger) = (accounts, tombstones, Ledger::Kept);
            }
            None => {
                let tally = tally(engine).map_err(|error| unreadable(&error))?;
                if tally.damaged > 0 {
                    log::warn!("{} damaged records are in the store and will not be served", tally.damaged);
                }
                tally.unused_codes.into_iter().for_each(|hash| self.group.drop_code(hash));
                (self.accounts, self.tombstones, self.ledger) =
                    (tally.accounts, tally.tombstones, Ledger::Missing);
            }
        }
        self.publish();
        Ok(())
    }

    /// Adds to a batch what it changes in the accounts.
    pub(super) fn write_accounts(&mut self, batch: &mut Batch) -> Result<(), EngineError> {
        self.ledger.write(self.reader.engine(), batch, &mut self.accounts, self.tombstones)
    }

    /// Notes that something goes away of which nobody knows what it was charged: it stays charged, and the
    /// next start counts.
    pub(super) fn void_accounts(&mut self) {
        self.ledger = Ledger::Void;
    }

    /// Makes the totals known to readers.
    pub(super) fn publish(&self) {
        let Usage { bytes, records } = self.accounts.node();
        self.reader.publish(Totals { records, bytes, active: self.accounts.active() });
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ops::{Bound, ControlFlow},
        time::Duration,
    };

    use comet_routing::{Key, Prefix, clock::Clock};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Deletion, Rule, Source, StoreConfig,
        engine::{OnDisk, Table},
        sample::{NOW, active, owned, plain},
        simulation::{DiskFault, MemoryDisk},
    };

    fn open(disk: &MemoryDisk) -> StoreWriter {
        disk.open(StoreConfig { tombstones_max: 2, ..StoreConfig::default() }).unwrap().0
    }

    /// Flips a bit of what is stored at a key of a table, if anything is.
    fn damage(writer: &mut StoreWriter, table: Table, key: &Key) {
        let Some(mut sealed) = writer.reader.engine().value(table, key.as_bytes()).unwrap() else { return };
        *sealed.last_mut().unwrap() ^= 1;
        let mut batch = Batch::default();
        batch.put(table, *key.as_bytes(), sealed);
        writer.engine.commit(batch, OnDisk::Now).unwrap();
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Replace,
        PutIfNewer,
        Delete,
        SaveLog,
        SaveState,
        Sweep,
        Commit(OnDisk),
        Crash,
        Fail(DiskFault),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop::sample::select(vec![
            Step::Replace,
            Step::Replace,
            Step::PutIfNewer,
            Step::Delete,
            Step::SaveLog,
            Step::SaveState,
            Step::Sweep,
            Step::Commit(OnDisk::Now),
            Step::Commit(OnDisk::Later),
            Step::Crash,
            Step::Fail(DiskFault::Full),
            Step::Fail(DiskFault::Io),
        ])
    }

    fn take(
        step: Step,
        (name, sequence, variant): (u8, u64, u8),
        disk: &MemoryDisk,
        writer: &mut StoreWriter,
    ) {
        let (name, data) = (name.to_string(), vec![variant; usize::from(variant) * 10]);
        let record = match variant {
            0 => plain(&name, sequence, &data),
            1 => owned(1, &name, sequence, &data),
            _ => active(&name, sequence, &data, if sequence > 1 { "a" } else { "bb" }),
        };
        let (key, version) = (record.key, record.version);
        let source = (sequence % 2 == 0).then(|| Source::Put(Prefix::of([192, 0, variant, 1].into())));
        let (at, now) = (Clock::System.now(), NOW + sequence * 50_000_000);
        match step {
            Step::Replace => drop(writer.put(&record, source, Rule::Replace, Some(sequence), now).unwrap()),
            Step::PutIfNewer => drop(writer.put(&record, source, Rule::IfNewer, None, now).unwrap()),
            Step::Delete => {
                writer.delete(&key, Some(Deletion::unsigned(version)), source, now).unwrap();
            }
            Step::SaveLog => writer.save_log(&key, data.into()).unwrap(),
            Step::SaveState => writer.save_state(&key, version, data.into(), None, Some(now)).unwrap(),
            Step::Sweep => drop(writer.sweep(now).unwrap()),
            Step::Commit(by) => drop(writer.commit(by, at).unwrap()),
            Step::Crash => {
                disk.crash();
                *writer = open(disk);
            }
            Step::Fail(fault) => {
                writer.save_meta("any".into(), data.into()).unwrap();
                disk.fail_at(1, fault);
                assert!(writer.commit(OnDisk::Now, at).is_err());
                writer.ready(at + Duration::from_secs(99)).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn the_accounts_that_are_kept_are_those_of_a_fresh_count(
            steps in prop::collection::vec((step(), (0..4u8, 0..4u64, 0..3u8)), 1..60),
        ) {
            let disk = MemoryDisk::default();
            let mut writer = open(&disk);
            for (step, what) in steps {
                take(step, what, &disk, &mut writer);
                let fresh = tally(disk.reader().engine()).unwrap();
                let fresh = Kept { accounts: fresh.accounts, tombstones: fresh.tombstones };
                if let Some(kept) = kept(disk.reader().engine()).unwrap() {
                    prop_assert_eq!(kept, fresh);
                } else {
                    // Nothing was ever committed.
                    prop_assert_eq!(fresh, Kept { accounts: Default::default(), tombstones: 0 });
                }
            }
        }
    }

    #[test]
    fn a_store_that_kept_no_accounts_is_counted_once() {
        let (disk, at) = (MemoryDisk::default(), Clock::System.now());
        let mut writer = open(&disk);
        writer.put(&active("a", 1, b"data", "aso.n = 0"), None, Rule::IfNewer, None, NOW).unwrap();
        writer.put(&owned(1, "b", 1, b"data"), None, Rule::IfNewer, None, NOW).unwrap();
        writer.delete(&Key::of("c"), Some(Deletion::up_to(1, None)), None, NOW).unwrap();
        writer.commit(OnDisk::Now, at).unwrap();
        let accounts = writer.accounts.clone();
        let mut former = Batch::default();
        let all = (Bound::Unbounded, Bound::Unbounded);
        let engine = writer.reader();
        let forget = &mut |key: &[u8], _: &[u8]| {
            former.delete(Table::Accounts, key);
            ControlFlow::Continue(())
        };
        engine.engine().visit(Table::Accounts, all, forget).unwrap();
        writer.engine.commit(former, OnDisk::Now).unwrap();

        let stock = |writer: &StoreWriter| (writer.ledger, writer.accounts.clone(), writer.tombstones);
        let mut writer = open(&disk);
        assert_eq!(stock(&writer), (Ledger::Missing, accounts.clone(), 1));
        writer.save_meta("any".into(), b"".as_slice().into()).unwrap();
        writer.commit(OnDisk::Now, at).unwrap();
        assert_eq!(stock(&writer), (Ledger::Kept, accounts.clone(), 1));
        assert_eq!(stock(&open(&disk)), (Ledger::Kept, accounts, 1));
    }

    #[test]
    fn after_damage_the_next_start_counts_and_the_one_after_it_need_not() {
        for table in [Table::Records, Table::Logs] {
            let (disk, at) = (MemoryDisk::default(), Clock::System.now());
            let mut writer = open(&disk);
            let [first, second] = ["a", "b"].map(|name| active(name, 1, b"data", "aso.n = 0"));
            for record in [&first, &second] {
                writer.put(record, None, Rule::IfNewer, None, NOW).unwrap();
                writer.save_log(&record.key, b"line".as_slice().into()).unwrap();
            }
            writer.commit(OnDisk::Now, at).unwrap();
            damage(&mut writer, table, &first.key);
            writer.delete(&first.key, None, None, NOW).unwrap();
            writer.commit(OnDisk::Now, at).unwrap();
            assert_eq!(kept(writer.reader.engine()), Ok(None), "{table:?}");

            let mut writer = open(&disk);
            assert_eq!((writer.ledger, writer.accounts.node().records), (Ledger::Missing, 1));
            writer.save_meta("any".into(), b"".as_slice().into()).unwrap();
            writer.commit(OnDisk::Now, at).unwrap();
            let mut writer = open(&disk);
            assert_eq!(
                (writer.ledger, &writer.accounts),
                (Ledger::Kept, &tally(writer.reader.engine()).unwrap().accounts)
            );
            writer.delete(&second.key, None, None, NOW).unwrap();
            writer.commit(OnDisk::Now, at).unwrap();
            assert_eq!(writer.accounts.node(), Usage::default(), "{table:?}");
        }
    }
}
