//! A machine that dies at any moment: the store over a disk that loses and tears what was not synced.
//!
//! Each 512-byte sector written since the last completed sync survives or not by itself, as a real disk may
//! do. What comes back must be exactly what was acknowledged, or that and the group in flight.

use std::{
    collections::BTreeMap,
    io,
    ops::{Bound, ControlFlow},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use comet_routing::{Key, clock::Clock};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use redb::StorageBackend;

use super::{Engine, OnDisk, Reader, Table, memory::MemoryEngine, redb::RedbEngine};
use crate::{
    Rule, StoreConfig, StoreWriter, Version,
    codec::Header,
    sample::{NOW, active, owned, plain},
    tally::tally,
};

const SECTOR_BYTES: usize = 512;

const CACHE_BYTES: usize = 1 << 20;

/// What a disk does when it is told to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Syncing {
    Honest,
    /// It says yes and does nothing.
    Lying,
}

/// When operations fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Never,
    /// From this operation on, nothing works.
    PowerCut {
        at: u64,
    },
    /// Writes of this operation and the following ones fail, as on a full or broken disk; reads work.
    Unwritable {
        from: u64,
        until: u64,
    },
}

/// A disk in memory that knows what is safe on it.
#[derive(Clone, Debug)]
struct FaultyDisk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
    operations: u64,
    fault: Fault,
    syncing: Syncing,
}

#[derive(Debug)]
enum Unsynced {
    Len(usize),
    Write { offset: usize, data: Vec<u8> },
}

impl FaultyDisk {
    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            cached: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
            operations: 0,
            fault: Fault::Never,
            syncing: Syncing::Honest,
        })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// What the disk holds after the power came back.
    fn after_power_cut(&self, rng: &mut ChaCha12Rng) -> Vec<u8> {
        let platter = self.platter();
        let mut bytes = platter.durable.clone();
        let survival = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0][rng.random_range(0..6)];
        for change in &platter.unsynced {
            match change {
                Unsynced::Len(len) if rng.random_bool(survival) => bytes.resize(*len, 0),
                Unsynced::Len(_) => {}
                Unsynced::Write { offset, data } => {
                    for (number, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        let start = offset + number * SECTOR_BYTES;
                        if rng.random_bool(survival) && start + sector.len() <= bytes.len() {
                            bytes[start..start + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        bytes
    }
}

impl Platter {
    fn write_operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fault {
            Fault::PowerCut { at } if self.operations > at => Err(io::Error::other("power lost")),
            Fault::Unwritable { from, until } if (from..until).contains(&self.operations) => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let start = offset as usize;
        let bytes = platter.cached.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.write_operation()?;
        platter.cached.resize(len as usize, 0);
        platter.unsynced.push(Unsynced::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.write_operation()?;
        if platter.syncing == Syncing::Honest {
            platter.durable = platter.cached.clone();
            platter.unsynced.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        let outcome = platter.write_operation();
        if outcome.is_err() && !matches!(platter.fault, Fault::PowerCut { .. }) {
            return outcome;
        }
        // The write that the power cut hits may get there in part.
        let start = offset as usize;
        if platter.cached.len() < start + data.len() {
            platter.cached.resize(start + data.len(), 0);
        }
        platter.cached[start..start + data.len()].copy_from_slice(data);
        platter.unsynced.push(Unsynced::Write { offset: start, data: data.to_vec() });
        outcome
    }
}

type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn contents(reader: &dyn Reader) -> Contents {
    let mut contents = Contents::new();
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Header) {
        reader
            .visit(table, (Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
                contents.insert((table, key.to_vec()), value.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    contents
}

fn header() -> Header {
    Header { network: "test".into() }
}

fn store(engine: impl Engine) -> StoreWriter {
    StoreWriter::new(Box::new(engine), header(), StoreConfig::default()).unwrap()
}

/// Decides a handful of random writes.
fn write_some(writer: &mut StoreWriter, rng: &mut ChaCha12Rng) {
    for _ in 0..rng.random_range(1..12) {
        let name = format!("object {}", rng.random_range(0..40));
        let data = vec![rng.random::<u8>(); rng.random_range(0..6_000)];
        let sequence = rng.random_range(1..1_000);
        let record = match rng.random_range(0..3) {
            0 => plain(&name, sequence, &data),
            1 => owned(7, &name, sequence, &data),
            _ => active(&name, sequence, &data, &format!("aso.n = {}", sequence % 5)),
        };
        let (key, version) = (record.key, record.version);
        let timer_ms = Some(NOW + sequence);
        match rng.random_range(0..6) {
            0 => drop(writer.delete(&key, Some(version), NOW).unwrap()),
            1 => writer.save_log(&key, data.into()).unwrap(),
            2 => {
                writer.put(&record, None, Rule::Replace, timer_ms, NOW).unwrap();
                let higher = Version { sequence: sequence + 1, ..version };
                writer.save_state(&key, higher, b"never".as_slice().into(), None, None).unwrap();
                writer.save_state(&key, version, b"state".as_slice().into(), None, None).unwrap();
            }
            _ => drop(writer.put(&record, None, Rule::IfNewer, timer_ms, NOW).unwrap()),
        }
    }
}

/// What a power cut left of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aftermath {
    /// Everything acknowledged, or that and the group in flight.
    Whole,
    /// It opened and something acknowledged was not there, or something else was.
    Wrong,
    /// It did not open.
    Refused,
}

/// Writes until the power is cut at a random operation, and looks at what comes back.
fn cut_power(seed: u64, syncing: Syncing) -> Aftermath {
    let rng = &mut ChaCha12Rng::seed_from_u64(seed);
    let disk = FaultyDisk::holding(Vec::new());
    let engine = RedbEngine::over_backend(Arc::new(disk.clone()), &header(), CACHE_BYTES).unwrap();
    let (mut writer, mut twin) = (store(engine), store(MemoryEngine::default()));
    {
        let mut platter = disk.platter();
        platter.syncing = syncing;
        platter.fault = Fault::PowerCut { at: platter.operations + rng.random_range(1..200) };
    }
    let now = Clock::System.now();
    let mut acknowledged = contents(twin.reader().engine());
    let in_flight = loop {
        let writes = ChaCha12Rng::seed_from_u64(rng.random());
        write_some(&mut twin, &mut writes.clone());
        twin.commit(OnDisk::Now, now).unwrap();
        let next = contents(twin.reader().engine());
        write_some(&mut writer, &mut writes.clone());
        if writer.commit(OnDisk::Now, now).is_err() {
            break next;
        }
        acknowledged = next;
    };
    drop(writer);
    let left = FaultyDisk::holding(disk.after_power_cut(rng));
    let Ok(engine) = RedbEngine::over_backend(Arc::new(left), &header(), CACHE_BYTES) else {
        return Aftermath::Refused;
    };
    let Ok(writer) = StoreWriter::new(Box::new(engine), header(), StoreConfig::default()) else {
        return Aftermath::Refused;
    };
    let found = contents(writer.reader().engine());
    if found == acknowledged || found == in_flight { Aftermath::Whole } else { Aftermath::Wrong }
}

#[test]
fn after_a_power_cut_the_store_is_as_it_was_acknowledged() {
    for seed in 0..200 {
        assert_eq!(cut_power(seed, Syncing::Honest), Aftermath::Whole, "seed {seed}");
    }
}

/// The control: the test above can fail.
#[test]
fn on_a_lying_disk_a_power_cut_is_noticed() {
    let caught = (0..20).filter(|seed| cut_power(*seed, Syncing::Lying) != Aftermath::Whole).count();
    assert!(caught >= 10, "only {caught} of 20 were caught");
}

#[test]
fn a_disk_that_fails_for_a_while_loses_nothing_acknowledged_and_is_read_all_the_time() {
    let mut failures = 0;
    for first in 0..80 {
        let disk = FaultyDisk::holding(Vec::new());
        // Without a cache every read shows whether the disk can be read.
        let engine = RedbEngine::over_backend(Arc::new(disk.clone()), &header(), 0).unwrap();
        let mut writer = store(engine);
        let reader = writer.reader();
        {
            let mut platter = disk.platter();
            let from = platter.operations + first;
            platter.fault = Fault::Unwritable { from, until: from + 1 + first % 3 * 4 };
        }
        let mut now = Clock::System.now();
        let mut acknowledged = Vec::new();
        for number in 0..12 {
            if number == 11 {
                disk.platter().fault = Fault::Never;
            }
            let record = plain(&format!("object {number}"), 1, &[number; 3_000]);
            now += Duration::from_secs(60);
            let stored = writer.ready(now).and_then(|()| {
                writer.put(&record, None, Rule::IfNewer, None, NOW)?;
                writer.commit(OnDisk::Now, now)
            });
            match stored {
                Ok(_) => acknowledged.push(record),
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    failures += 1;
                }
            }
            for record in &acknowledged {
                assert_eq!(reader.record(&record.key, NOW).as_ref(), Ok(&Some(record.clone())));
            }
        }
        assert!(
            acknowledged.iter().any(|record| record.key == Key::of("object 11")),
            "writing did not resume"
        );
        let tally = tally(reader.engine()).unwrap();
        assert_eq!(reader.totals().records, tally.accounts.node().records);
        assert_eq!(reader.totals().bytes, tally.accounts.node().bytes);
    }
    assert!(failures >= 80, "only {failures} commits failed");
}
