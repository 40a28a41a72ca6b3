//! A disk that fails for a while, at every place where it can.

use std::{io, time::Duration};

use comet_routing::{Key, clock::Clock};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::{
    faulty_disk::{Fault, FaultyDisk, Syncing},
    partition::disks,
};
use crate::{
    Record, Rule, StoreConfig, StoreReader, StoreWriter,
    codec::Header,
    engine::{OnDisk, redb::RedbEngine},
    sample::{NOW, plain},
    tally::tally,
};

/// Calls to the disk that the writes of one trial make, at least.
const CALLS: u64 = 80;

/// Room for three of the writes, so that a trial meets the journal as well as checkpoints.
const JOURNAL_BYTES: u64 = 12 << 10;

fn store(disk: &FaultyDisk) -> StoreWriter {
    let header = Header { network: "test".into() };
    // Without a cache every read shows whether the disk can be read.
    let engine = RedbEngine::over_backends(disks(disk, JOURNAL_BYTES), &header, 0).unwrap();
    StoreWriter::new(Box::new(engine), header, StoreConfig::default()).unwrap()
}

fn assert_holds(reader: &StoreReader, records: &[Record]) {
    for record in records {
        assert_eq!(reader.record(&record.key, NOW).as_ref(), Ok(&Some(record.clone())));
    }
}

/// Writes while the disk fails from its n-th call on for so many calls; gives how many commits failed.
fn write_while_it_fails(nth: u64, calls: u64, error: io::ErrorKind) -> u64 {
    let disk = FaultyDisk::holding(Vec::new(), Syncing::Honest);
    let mut writer = store(&disk);
    let reader = writer.reader();
    let from = disk.calls() + nth;
    disk.fail(Fault::Unwritable { from, until: from + calls, error });
    let mut now = Clock::System.now();
    let (mut acknowledged, mut failures) = (Vec::new(), 0);
    for number in 0..12 {
        if number == 11 {
            disk.fail(Fault::Never);
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
        assert_holds(&reader, &acknowledged);
    }
    assert!(acknowledged.iter().any(|record| record.key == Key::of("object 11")), "writing did not resume");
    assert_eq!(reader.totals().records, tally(reader.engine()).unwrap().accounts.node().records);
    assert_eq!(reader.totals().bytes, tally(reader.engine()).unwrap().accounts.node().bytes);

    // What was acknowledged is on the disk, and not only in what the disk said.
    let left = disk.after_power_cut(&mut ChaCha12Rng::seed_from_u64(nth));
    assert_holds(&store(&FaultyDisk::holding(left, Syncing::Honest)).reader(), &acknowledged);
    failures
}

#[test]
fn a_disk_that_fails_for_a_while_loses_nothing_acknowledged_and_is_read_all_the_time() {
    for error in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
        let mut failures = 0;
        for nth in 1..=CALLS {
            failures += write_while_it_fails(nth, 1 + nth % 3 * 4, error);
        }
        assert!(failures >= CALLS, "{error}: only {failures} commits failed");
    }
}
