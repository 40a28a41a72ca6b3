//! What fuzzers feed to a store: bytes that a disk may return, and writes in any order.

use bytes::Bytes;
use comet_routing::{Prefix, clock::Clock};

use super::MemoryDisk;
use crate::{
    Deletion, Record, Rule, Source, StoreConfig, StoreWriter,
    codec::{StoredRecord, Tombstone, seal, sealed, unseal},
    engine::{OnDisk, Table},
    sample::{NOW, active, owned, plain},
    tally::tally,
};

/// Decodes bytes as each thing that a table keeps; what is understood is stored as it was.
pub fn read_stored(bytes: &[u8]) {
    let key = [7; 32];
    for table in [Table::Records, Table::Tombstones, Table::Logs] {
        // The seal is kept from getting in the way of what is under it.
        let under_seal = sealed(table, &key, bytes);
        match table {
            Table::Records => {
                if let Ok(record) = unseal::<StoredRecord>(table, &key, &under_seal) {
                    let again = unseal::<StoredRecord>(table, &key, &seal(table, &key, &record));
                    assert_eq!(again, Ok(record));
                }
            }
            Table::Tombstones => drop(unseal::<Tombstone>(table, &key, &under_seal)),
            _ => drop(unseal::<Bytes>(table, &key, &under_seal)),
        }
        assert!(unseal::<StoredRecord>(table, &key, bytes).is_err(), "no stranger guesses a seal");
    }
}

/// Carries out writes, four bytes each, on a store with little room; then its accounts are right, and a store opened on
/// the same disk has the same.
pub fn write_any(bytes: &[u8]) {
    let config = StoreConfig {
        bytes_max: 8_000,
        bytes_per_owner: 3_000,
        bytes_per_source: 4_000,
        tombstones_max: 5,
        ..StoreConfig::default()
    };
    let disk = MemoryDisk::default();
    let (mut writer, reader) = disk.open(config.clone()).expect("an empty disk opens");
    for (at, write) in (0..).zip(bytes.chunks_exact(4)) {
        let &[kind, name, sequence, size] = write else { return };
        let now = NOW + u64::from(kind >> 4) * 10_000_000 + at;
        let record = record(name, sequence, size);
        let prefix = Prefix::of([192, 0, 2 + (size % 4), 1].into());
        let source = Some(if size < 128 { Source::Put(prefix) } else { Source::Copy(prefix) });
        match kind % 8 {
            0 | 1 => drop(writer.put(&record, source, Rule::IfNewer, Some(now + 60_000), now)),
            2 => drop(writer.put(&record, source, Rule::Replace, None, now)),
            3 => {
                let state = Bytes::from(vec![size; usize::from(size)]);
                drop(writer.save_state(&record.key, record.version, state, None, None));
            }
            4 => {
                let deletion = Deletion::up_to(sequence.into(), record.ownership.clone());
                drop(writer.delete(&record.key, Some(deletion), source, now));
            }
            5 => drop(writer.release_version(&record.key, record.version)),
            6 => drop(writer.sweep(now)),
            _ => commit(&mut writer),
        }
    }
    commit(&mut writer);
    let counted = tally(reader.engine()).expect("memory can be read").accounts;
    let totals = reader.totals();
    assert_eq!((totals.records, totals.bytes), (counted.node().records, counted.node().bytes));
    assert!(totals.bytes <= config.bytes_max, "{totals:?}");
    let (_, again) = disk.open(config).expect("the disk opens again");
    assert_eq!(again.totals(), totals);
}

fn record(name: u8, sequence: u8, size: u8) -> Record {
    let (text, data) = ((name % 16).to_string(), vec![sequence; usize::from(size) * 4]);
    match name % 3 {
        0 => plain(&text, sequence.into(), &data),
        1 => active(&text, sequence.into(), &data, &"-".repeat(usize::from(size % 8))),
        _ => owned(name % 4, &text, sequence.into(), &data),
    }
}

fn commit(writer: &mut StoreWriter) {
    writer.commit(OnDisk::Now, Clock::System.now()).expect("memory takes every write");
}
