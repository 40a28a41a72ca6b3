//! A disk in memory that outlives the stores that are opened on it, and fails when it is told to.
//!
//! It keeps whole batches, as the engine on a real disk does after every power cut.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::{
    OpenError, StoreConfig, StoreReader, StoreWriter,
    codec::Header,
    engine::{Batch, Engine, EngineError, OnDisk, Range, Reader, Table, Visit, memory::Tables},
};

/// A disk in memory for one node after another: clones are the same disk.
///
/// At any time one store is open on it, the last one: opening another takes the disk away from the one before,
/// whose writes and reads fail from then on as they do after a crash.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    platter: Arc<RwLock<Platter>>,
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// There is no room: nothing of a write is applied, and reads go on.
    Full,
    /// The device does not answer. As long as it lasts nothing is applied and nothing can be read. As the fault
    /// of a single write, the write is applied as a whole and reported as failed, and reads go on: the report of
    /// a finished `fsync` got lost.
    Io,
}

#[derive(Debug, Default)]
struct Platter {
    tables: Tables,
    /// What is on the disk where it differs from the tables, because the last writes may come there later.
    behind: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    /// Which of the stores opened on this disk may use it.
    incarnation: u64,
    writes: u64,
    fault: Option<DiskFault>,
    faults_at: BTreeMap<u64, DiskFault>,
}

/// The engine of one store on a disk, from its opening until the next crash.
#[derive(Clone, Debug)]
pub(crate) struct Incarnation {
    disk: MemoryDisk,
    /// `None` for a reader that belongs to nobody and outlives crashes.
    number: Option<u64>,
}

impl MemoryDisk {
    /// Opens a store on what was committed, and takes the disk away from whoever had it.
    ///
    /// # Errors
    /// [`OpenError::Io`] while the disk cannot be read.
    pub fn open(&self, config: StoreConfig) -> Result<(StoreWriter, StoreReader), OpenError> {
        let header = Header { network: String::new() };
        let writer = StoreWriter::new(Box::new(self.incarnate()), header, config).map_err(|error| {
            OpenError::Io { path: PathBuf::from("the disk in memory"), source: io::Error::other(error) }
        })?;
        let reader = writer.reader();
        Ok((writer, reader))
    }

    /// Reads whatever the disk holds at the moment, through crashes and faults, without being a store on it: for
    /// checkers. Its totals are not counted.
    pub fn reader(&self) -> StoreReader {
        StoreReader::new(Arc::new(Incarnation { disk: self.clone(), number: None }))
    }

    /// The machine dies: what was written and not brought to the disk is gone, and the store that was open can
    /// neither write nor read any more. Faults stay.
    pub fn crash(&self) {
        let mut platter = self.write();
        platter.incarnation += 1;
        for ((table, key), value) in std::mem::take(&mut platter.behind) {
            platter.tables.set(table, &key, value);
        }
    }

    /// The machine dies and comes back with another disk, which is empty and without faults.
    pub fn wipe(&self) {
        let mut platter = self.write();
        *platter = Platter { incarnation: platter.incarnation + 1, ..Platter::default() };
    }

    /// Lets every write fail from now on, until told otherwise.
    pub fn fail(&self, fault: Option<DiskFault>) {
        self.write().fault = fault;
    }

    /// Lets one write fail: the next one is number 1.
    pub fn fail_at(&self, nth_write: u64, fault: DiskFault) {
        let mut platter = self.write();
        let at = platter.writes.saturating_add(nth_write);
        platter.faults_at.insert(at, fault);
    }

    /// An engine that has the disk to itself until the next crash.
    pub(crate) fn incarnate(&self) -> Incarnation {
        let mut platter = self.write();
        platter.incarnation += 1;
        Incarnation { disk: self.clone(), number: Some(platter.incarnation) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Platter> {
        self.platter.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Platter> {
        self.platter.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    fn admit(&self, number: Option<u64>) -> Result<(), EngineError> {
        match number {
            Some(number) if number != self.incarnation => Err(failure("the machine has crashed")),
            Some(_) if self.fault == Some(DiskFault::Io) => Err(DiskFault::Io.error()),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, batch: &Batch, by: OnDisk) {
        for (table, key, value) in batch.changes() {
            let before = self.tables.set(table, key, value.map(<[u8]>::to_vec));
            if by == OnDisk::Later {
                self.behind.entry((table, key.to_vec())).or_insert(before);
            }
        }
        if by == OnDisk::Now {
            self.behind.clear();
        }
    }
}

impl Engine for Incarnation {
    fn commit(&mut self, batch: Batch, by: OnDisk) -> Result<(), EngineError> {
        let mut platter = self.disk.write();
        platter.admit(self.number)?;
        platter.writes += 1;
        let writes = platter.writes;
        let once = platter.faults_at.remove(&writes);
        if let Some(fault) = platter.fault {
            return Err(fault.error());
        }
        if once != Some(DiskFault::Full) {
            platter.apply(&batch, by);
        }
        once.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }
}

impl Reader for Incarnation {
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let platter = self.disk.read();
        platter.admit(self.number)?;
        Ok(platter.tables.value(table, key))
    }

    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError> {
        let platter = self.disk.read();
        platter.admit(self.number)?;
        platter.tables.visit(table, range, each);
        Ok(())
    }
}

impl DiskFault {
    fn error(self) -> EngineError {
        failure(match self {
            Self::Full => "no space left on the disk",
            Self::Io => "the disk does not answer",
        })
    }
}

fn failure(reason: &str) -> EngineError {
    EngineError::Io { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use comet_routing::clock::Clock;

    use super::*;
    use crate::{
        Record, Rule, StoreError, Totals,
        sample::{NOW, active, plain},
    };

    fn store(disk: &MemoryDisk) -> (StoreWriter, StoreReader) {
        disk.open(StoreConfig::default()).unwrap()
    }

    fn put(
        writer: &mut StoreWriter,
        record: &Record,
        by: OnDisk,
        now: Instant,
    ) -> Result<Vec<comet_routing::Key>, StoreError> {
        writer.ready(now)?;
        writer.put(record, None, Rule::IfNewer, None, NOW)?;
        writer.commit(by, now)
    }

    fn unwritable(fault: DiskFault) -> StoreError {
        let EngineError::Io { reason } = fault.error() else {
            unreachable!("faults are errors of the medium")
        };
        StoreError::Unwritable { reason }
    }

    #[test]
    fn a_crash_leaves_what_was_brought_to_the_disk_and_nothing_later() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let [kept, later, changed, open] = [
            active("a", 1, b"kept", "aso.n = 0"),
            plain("b", 1, b""),
            plain("a", 2, b"later"),
            plain("c", 1, b""),
        ];
        let (mut writer, reader) = store(&disk);
        put(&mut writer, &kept, OnDisk::Now, now).unwrap();
        let totals = reader.totals();
        put(&mut writer, &later, OnDisk::Later, now).unwrap();
        put(&mut writer, &changed, OnDisk::Later, now).unwrap();
        put(&mut writer, &Record { ..plain("a", 3, b"latest") }, OnDisk::Later, now).unwrap();
        writer.put(&open, None, Rule::IfNewer, None, NOW).unwrap();
        disk.crash();

        let (_writer, reader) = store(&disk);
        assert_eq!(reader.record(&kept.key, NOW), Ok(Some(kept)));
        assert_eq!(reader.record(&later.key, NOW), Ok(None));
        assert_eq!(reader.record(&open.key, NOW), Ok(None));
        assert_eq!(reader.totals(), totals);
    }

    #[test]
    fn what_a_later_commit_brought_to_the_disk_survives() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let (first, second) = (plain("a", 1, b""), plain("b", 1, b""));
        let (mut writer, _) = store(&disk);
        put(&mut writer, &first, OnDisk::Later, now).unwrap();
        put(&mut writer, &second, OnDisk::Now, now).unwrap();
        disk.crash();
        assert_eq!(disk.reader().record(&first.key, NOW), Ok(Some(first)));
    }

    #[test]
    fn the_store_of_a_crashed_machine_neither_writes_nor_reads() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let (first, second) = (plain("a", 1, b""), plain("b", 1, b""));
        let (mut dead, dead_reader) = store(&disk);
        put(&mut dead, &first, OnDisk::Now, now).unwrap();
        dead.put(&second, None, Rule::IfNewer, None, NOW).unwrap();
        disk.crash();
        let reason = String::from("the machine has crashed");
        assert_eq!(dead.commit(OnDisk::Now, now), Err(StoreError::Unwritable { reason: reason.clone() }));
        assert_eq!(dead_reader.record(&first.key, NOW), Err(StoreError::Unreadable { reason }));

        let (mut living, reader) = store(&disk);
        assert!(put(&mut dead, &second, OnDisk::Now, now + Duration::from_secs(99)).is_err());
        assert_eq!(reader.record(&second.key, NOW), Ok(None));
        assert_eq!(put(&mut living, &second, OnDisk::Now, now), Ok(vec![]));
        assert_eq!(reader.totals().records, 2);
    }

    #[test]
    fn nothing_is_on_a_new_disk() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let (mut writer, _) = store(&disk);
        put(&mut writer, &plain("a", 1, b""), OnDisk::Now, now).unwrap();
        disk.fail(Some(DiskFault::Io));
        disk.wipe();
        assert!(put(&mut writer, &plain("a", 1, b""), OnDisk::Now, now).is_err());
        let (_, reader) = store(&disk);
        assert_eq!(reader.totals(), Totals::default());
        assert_eq!(reader.keys(None, 9), Ok(vec![]));
    }

    #[test]
    fn a_full_disk_is_read_and_written_again_once_there_is_room() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let (first, second) = (plain("a", 1, b""), plain("b", 1, b""));
        let (mut writer, reader) = store(&disk);
        put(&mut writer, &first, OnDisk::Now, now).unwrap();
        disk.fail(Some(DiskFault::Full));
        let full = unwritable(DiskFault::Full);
        assert_eq!(put(&mut writer, &second, OnDisk::Now, now), Err(full.clone()));
        assert_eq!(reader.check(), Err(full));
        assert_eq!(reader.record(&first.key, NOW), Ok(Some(first.clone())));
        assert_eq!(store(&disk).1.record(&first.key, NOW), Ok(Some(first)));

        let (mut writer, reader) = store(&disk);
        disk.fail(None);
        assert_eq!(put(&mut writer, &second, OnDisk::Now, now), Ok(vec![]));
        assert_eq!(reader.record(&second.key, NOW), Ok(Some(second)));
    }

    #[test]
    fn a_device_that_does_not_answer_cannot_be_read_or_opened() {
        let (disk, now) = (MemoryDisk::default(), Clock::System.now());
        let record = plain("a", 1, b"");
        let (mut writer, reader) = store(&disk);
        put(&mut writer, &record, OnDisk::Now, now).unwrap();
        disk.fail(Some(DiskFault::Io));
        assert!(matches!(reader.record(&record.key, NOW), Err(StoreError::Unreadable { .. })));
        assert!(matches!(disk.open(StoreConfig::default()), Err(OpenError::Io { .. })));
        assert_eq!(disk.reader().record(&record.key, NOW), Ok(Some(record)));
    }

    #[test]
    fn one_write_fails_as_a_whole_or_only_in_its_report() {
        for (fault, is_there) in [(DiskFault::Full, false), (DiskFault::Io, true)] {
            let (disk, now) = (MemoryDisk::default(), Clock::System.now());
            let (mut writer, reader) = store(&disk);
            let records = ["a", "b", "c"].map(|name| plain(name, 1, b"data"));
            disk.fail_at(2, fault);
            assert_eq!(put(&mut writer, &records[0], OnDisk::Now, now), Ok(vec![]));
            assert_eq!(put(&mut writer, &records[1], OnDisk::Now, now), Err(unwritable(fault)));
            assert_eq!(put(&mut writer, &records[2], OnDisk::Now, now + Duration::from_secs(1)), Ok(vec![]));
            let found = records.map(|record| reader.record(&record.key, NOW).unwrap().is_some());
            assert_eq!(found, [true, is_there, true], "{fault:?}");
            assert_eq!(reader.totals().records, 2 + u64::from(is_there), "{fault:?}");
        }
    }
}
