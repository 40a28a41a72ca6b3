//! How long a store takes to open, by what it holds.
//!
//! Each store is filled through its actor and closed; what is shown is the median of several openings, with
//! the data file in the system's cache.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{Key, clock::Clock};
use comet_store::{
    Durability, Flush, Ownership, PutRecord, Record, ReplicaStore, Rule, StoreConfig, Version, content_hash,
    open,
};

const OPENINGS: usize = 5;

/// Writes that wait for the store at a time.
const PUTS_AT_ONCE: u64 = 256;

/// A store to be filled.
#[derive(Clone, Copy)]
struct Filling {
    records: u64,
    bytes: usize,
    owners: Owners,
}

#[derive(Clone, Copy, Debug)]
enum Owners {
    None,
    /// Each record has an owner of its own: as many accounts as there can be.
    Many,
}

fn main() {
    let fillings = [
        Filling { records: 1_000_000, bytes: 100, owners: Owners::None },
        Filling { records: 1_000_000, bytes: 100, owners: Owners::Many },
        Filling { records: 17_000, bytes: 60_000, owners: Owners::None },
    ];
    for filling in fillings {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let began = now();
        fill(dir.path(), filling);
        let filled = began.elapsed();
        let mut openings: Vec<_> = (0..OPENINGS).map(|_| opening(dir.path(), filling)).collect();
        openings.sort_unstable();
        let Filling { records, bytes, owners } = filling;
        println!(
            "{records} x {bytes} B, owners: {owners:?}: opened in {:.3?} (slowest {:.3?}); filled in {filled:.1?}",
            openings[OPENINGS / 2],
            openings[OPENINGS - 1],
        );
    }
}

fn opening(dir: &Path, filling: Filling) -> Duration {
    let began = now();
    let (_writer, reader) = open(dir, "bench", config()).expect("the store opens");
    let took = began.elapsed();
    assert_eq!(reader.totals().records, filling.records);
    took
}

fn fill(dir: &Path, filling: Filling) {
    let (writer, _) = open(dir, "bench", config()).expect("the store opens");
    System::new().block_on(async {
        let store = ReplicaStore::new(writer, Clock::System, vec![]).start();
        let putters: Vec<_> = (0..PUTS_AT_ONCE)
            .map(|first| {
                let store = store.clone();
                let records = (first..filling.records).step_by(PUTS_AT_ONCE as usize);
                actix::spawn(async move {
                    for number in records {
                        let record = record(number, filling);
                        let put = PutRecord {
                            record: record.into(),
                            source: None,
                            rule: Rule::IfNewer,
                            timer_ms: None,
                        };
                        store.send(put).await.expect("the store runs").expect("there is room");
                    }
                })
            })
            .collect();
        for putter in putters {
            putter.await.expect("a putter ends");
        }
        store.send(Flush).await.expect("the store runs").expect("the disk works");
    });
}

fn record(number: u64, filling: Filling) -> Record {
    let data = Bytes::from(vec![number as u8; filling.bytes]);
    let mut public_key = [0; 32];
    public_key[..8].copy_from_slice(&number.to_be_bytes());
    let ownership = match filling.owners {
        Owners::None => None,
        Owners::Many => Some(Ownership { public_key, salt: [0; 32], signature: [0; 64] }.into()),
    };
    Record {
        key: Key::of(number.to_string()),
        ownership,
        version: Version { sequence: 1, hash: content_hash(None, &data) },
        created_ms: 0,
        expires_ms: u64::MAX / 2,
        ttl_seconds: 86_400,
        replicas: 8,
        code: None,
        publication: None,
        data,
        state: Bytes::new(),
    }
}

fn config() -> StoreConfig {
    StoreConfig { durability: Durability::Interval, ..StoreConfig::default() }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
