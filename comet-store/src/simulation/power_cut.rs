//! A machine that dies at any moment, again and again: what a store holds afterwards must be exactly what was
//! acknowledged, or that and the group in flight.
//!
//! A store over a [`FaultyDisk`] and a twin in memory are told the same random writes. The power is cut during a
//! random call to the disk, which may be in a commit or in the recovery from the cut before. Then the store is
//! opened on what the disk has left, and every entry of every table is held against the twin's. A machine goes
//! through several cuts before the next one begins with a new store.
//!
//! The cut is never during a store's creation: that is done beside its place and made to count by a rename.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use comet_routing::clock::Clock;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{
    faulty_disk::{Fault, FaultyDisk, Syncing},
    partition::disks,
};
use crate::{
    Deletion, Rule, StoreConfig, StoreError, StoreWriter, Version,
    codec::Header,
    engine::{Batch, Engine, EngineError, OnDisk, Reader, Table, memory::MemoryEngine, redb::RedbEngine},
    sample::{NOW, active, owned, plain},
};

/// So small that the disk is read.
const CACHE_BYTES: usize = 64 << 10;

/// So small that it is full after a few groups.
const JOURNAL_BYTES: u64 = 128 << 10;

/// Power cuts that one machine goes through.
const CUTS_PER_MACHINE: u64 = 4;

/// Calls to the disk before the power is cut, at most.
const CALLS_MAX: u64 = 100;

/// What power cuts did to a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerCutReport {
    /// Power cuts.
    pub cuts: u64,
    /// Cuts after which something acknowledged was missing or different.
    pub acknowledged_lost: u64,
    /// Cuts after which everything acknowledged was there, and the group in flight neither as a whole nor not
    /// at all.
    pub torn: u64,
    /// Cuts after which the store did not open.
    pub refused_to_open: u64,
}

/// Cuts the power this often on a disk of this kind. The same seed gives the same cuts.
pub fn power_cuts(seed: u64, cuts: u64, disk: Syncing) -> PowerCutReport {
    let rng = &mut ChaCha12Rng::seed_from_u64(seed);
    let mut report = PowerCutReport::default();
    let mut machine = Machine::new(disk, rng);
    while report.cuts < cuts {
        let aftermath = machine.live_until_power_cut(rng);
        report.cuts += 1;
        report.acknowledged_lost += u64::from(aftermath == Aftermath::Lost);
        report.torn += u64::from(aftermath == Aftermath::Torn);
        report.refused_to_open += u64::from(aftermath == Aftermath::Refused);
        if aftermath != Aftermath::Whole || report.cuts.is_multiple_of(CUTS_PER_MACHINE) {
            machine = Machine::new(disk, rng);
        }
    }
    report
}

/// What a power cut left of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aftermath {
    /// Everything acknowledged, or that and the group in flight.
    Whole,
    /// Something acknowledged is not there.
    Lost,
    /// All of that is there, and something besides.
    Torn,
    /// It did not open.
    Refused,
}

/// Every entry of every table but the header's.
type Contents = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What is on a disk, and what should be.
struct Machine {
    syncing: Syncing,
    disk: Vec<u8>,
    acknowledged: Contents,
}

impl Machine {
    /// A machine with an empty store.
    fn new(syncing: Syncing, rng: &mut ChaCha12Rng) -> Self {
        let disk = FaultyDisk::holding(Vec::new(), Syncing::Honest);
        drop(store(&disk).expect("a disk without faults takes a store"));
        Self { syncing, disk: disk.after_power_cut(rng), acknowledged: Contents::new() }
    }

    /// Opens the store, writes until the power is cut, and looks at what is there when it is back.
    fn live_until_power_cut(&mut self, rng: &mut ChaCha12Rng) -> Aftermath {
        let disk = FaultyDisk::holding(std::mem::take(&mut self.disk), self.syncing);
        disk.fail(Fault::PowerCut { at: rng.random_range(1..=CALLS_MAX) });
        let in_flight = match store(&disk) {
            Some(writer) => self.write_until_power_cut(writer, rng),
            // It was cut while the store opened.
            None => self.acknowledged.clone(),
        };
        self.disk = disk.after_power_cut(rng);
        let Some(found) = look(&self.disk) else { return Aftermath::Refused };
        let aftermath = judge(&self.acknowledged, &in_flight, &found);
        self.acknowledged = found;
        aftermath
    }

    /// Writes, and gives what the store would hold if the group in flight came through.
    fn write_until_power_cut(&mut self, mut writer: StoreWriter, rng: &mut ChaCha12Rng) -> Contents {
        let mut twin = twin(&self.acknowledged);
        let now = Clock::System.now();
        loop {
            let writes = ChaCha12Rng::seed_from_u64(rng.random());
            write_some(&mut twin, &mut writes.clone());
            twin.commit(OnDisk::Now, now).expect("memory takes every write");
            let next = contents(twin.reader().engine()).expect("memory can be read");
            write_some(&mut writer, &mut writes.clone());
            if writer.commit(OnDisk::Now, now).is_err() {
                return next;
            }
            self.acknowledged = next;
        }
    }
}

fn judge(acknowledged: &Contents, in_flight: &Contents, found: &Contents) -> Aftermath {
    if found == acknowledged || found == in_flight {
        return Aftermath::Whole;
    }
    let is_kept = |(entry, value): (&(Table, Vec<u8>), &Vec<u8>)| {
        let there = found.get(entry);
        there == Some(value) || there == in_flight.get(entry)
    };
    if acknowledged.iter().all(is_kept) { Aftermath::Torn } else { Aftermath::Lost }
}

/// What a store that opens on these bytes holds; `None` if none does, or its pages cannot be read.
fn look(disk: &[u8]) -> Option<Contents> {
    let writer = store(&FaultyDisk::holding(disk.to_vec(), Syncing::Honest))?;
    contents(writer.reader().engine()).ok()
}

fn contents(reader: &dyn Reader) -> Result<Contents, EngineError> {
    let mut contents = Contents::new();
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Header) {
        reader.visit(table, (Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
            contents.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })?;
    }
    Ok(contents)
}

fn header() -> Header {
    Header { network: "test".into() }
}

fn store(disk: &FaultyDisk) -> Option<StoreWriter> {
    let engine = RedbEngine::over_backends(disks(disk, JOURNAL_BYTES), &header(), CACHE_BYTES).ok()?;
    StoreWriter::new(Box::new(engine), header(), StoreConfig::default()).ok()
}

/// A store in memory that holds this.
fn twin(contents: &Contents) -> StoreWriter {
    let mut batch = Batch::default();
    for ((table, key), value) in contents {
        batch.put(*table, key.clone(), value.clone());
    }
    let mut engine = MemoryEngine::default();
    engine.commit(batch, OnDisk::Now).expect("memory takes every write");
    StoreWriter::new(Box::new(engine), header(), StoreConfig::default()).expect("memory can be read")
}

/// Decides a handful of random writes; those that the disk does not let decide are not written either.
fn write_some(writer: &mut StoreWriter, rng: &mut ChaCha12Rng) {
    for _ in 0..rng.random_range(1..12) {
        // A read that fails spoils the group, and the power is off.
        if write(writer, rng).is_err() {
            return;
        }
    }
}

fn write(writer: &mut StoreWriter, rng: &mut ChaCha12Rng) -> Result<(), StoreError> {
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
        0 => drop(writer.delete(&key, Some(Deletion::up_to(sequence, record.ownership)), None, NOW)?),
        1 => writer.save_log(&key, data.into())?,
        2 => {
            writer.put(&record, None, Rule::Replace, timer_ms, NOW)?;
            let higher = Version { sequence: sequence + 1, ..version };
            writer.save_state(&key, higher, b"never".as_slice().into(), None, None)?;
            writer.save_state(&key, version, b"state".as_slice().into(), None, None)?;
        }
        _ => drop(writer.put(&record, None, Rule::IfNewer, timer_ms, NOW)?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_500_power_cuts_the_store_is_as_it_was_acknowledged() {
        let expected = PowerCutReport { cuts: 500, ..PowerCutReport::default() };
        assert_eq!(power_cuts(1, 500, Syncing::Honest), expected);
    }

    /// The control: the test above can fail.
    #[test]
    fn on_a_lying_disk_power_cuts_are_noticed() {
        let report = power_cuts(1, 60, Syncing::Lying);
        let noticed = report.acknowledged_lost + report.torn + report.refused_to_open;
        assert!(noticed >= 15, "only {noticed} of 60 were noticed: {report:?}");
        assert!(report.acknowledged_lost > 0, "{report:?}");
    }

    #[test]
    fn a_lost_entry_is_told_from_a_torn_group() {
        let contents = |entries: &[(u8, u8)]| -> Contents {
            entries.iter().map(|(key, value)| ((Table::Meta, vec![*key]), vec![*value])).collect()
        };
        let (acknowledged, in_flight) = (contents(&[(1, 1), (2, 1)]), contents(&[(1, 1), (2, 2), (3, 2)]));
        let judged = |found: &[(u8, u8)]| judge(&acknowledged, &in_flight, &contents(found));
        assert_eq!(judged(&[(1, 1), (2, 1)]), Aftermath::Whole);
        assert_eq!(judged(&[(1, 1), (2, 2), (3, 2)]), Aftermath::Whole);
        assert_eq!(judged(&[(1, 1), (2, 2)]), Aftermath::Torn);
        assert_eq!(judged(&[(1, 1), (2, 1), (3, 2)]), Aftermath::Torn);
        assert_eq!(judged(&[(2, 2), (3, 2)]), Aftermath::Lost);
        assert_eq!(judged(&[(1, 9), (2, 1)]), Aftermath::Lost);
    }
}
