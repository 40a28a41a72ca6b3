//! One behaviour for all engines.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::{
    Batch, Engine, OnDisk, Range, Reader, Table,
    memory::MemoryEngine,
    redb::{Disks, RedbEngine},
};
use crate::{codec::Header, simulation::MemoryDisk};

type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

fn engines() -> [Box<dyn Engine>; 4] {
    // One is so small that some of the batches do not fit and most come after a checkpoint; in the other several batches
    // wait for one, and what is read comes from them and from the database.
    let (small, large) = (redb(200), redb(20_000));
    [Box::new(MemoryEngine::default()), small, large, Box::new(MemoryDisk::default().incarnate())]
}

/// An engine over memory whose journal has so many bytes.
fn redb(journal_bytes: u64) -> Box<dyn Engine> {
    let memory = || Arc::new(InMemoryBackend::new());
    let disks = Disks { data: memory(), journal: memory(), journal_bytes };
    Box::new(RedbEngine::over_backends(disks, &Header { network: "test".into() }, 1 << 20).unwrap())
}

fn entries(reader: &dyn Reader, table: Table, range: Range<'_>, max: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    reader
        .visit(table, range, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    found
}

#[test]
fn a_table_that_was_never_written_is_empty() {
    for engine in engines() {
        assert_eq!(engine.reader().value(Table::Logs, b"a"), Ok(None));
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(entries(&*engine.reader(), Table::Logs, all, 10), []);
    }
}

#[test]
fn the_last_change_of_a_batch_to_one_key_counts() {
    for mut engine in engines() {
        let mut batch = Batch::default();
        batch.put(Table::Meta, *b"kept", *b"first");
        batch.put(Table::Meta, *b"kept", *b"last");
        batch.put(Table::Meta, *b"gone", *b"first");
        batch.delete(Table::Meta, *b"gone");
        engine.commit(batch, OnDisk::Now).unwrap();
        assert_eq!(engine.reader().value(Table::Meta, b"kept"), Ok(Some(b"last".to_vec())));
        assert_eq!(engine.reader().value(Table::Meta, b"gone"), Ok(None));
    }
}

#[test]
fn a_reader_made_before_a_commit_sees_it() {
    for mut engine in engines() {
        let reader = engine.reader();
        for by in [OnDisk::Later, OnDisk::Now] {
            let mut batch = Batch::default();
            batch.put(Table::Meta, *b"key", format!("{by:?}"));
            engine.commit(batch, by).unwrap();
            assert_eq!(reader.value(Table::Meta, b"key"), Ok(Some(format!("{by:?}").into_bytes())));
        }
    }
}

#[test]
fn a_range_keeps_to_its_bounds_and_its_table() {
    for mut engine in engines() {
        let mut batch = Batch::default();
        for key in *b"abcd" {
            batch.put(Table::Timers, [key], [key]);
            batch.put(Table::Expiry, [key], *b"other");
        }
        engine.commit(batch, OnDisk::Now).unwrap();
        let keys = |from, until, max| {
            let found = entries(&*engine.reader(), Table::Timers, (from, until), max);
            found.into_iter().flat_map(|(key, _)| key).map(char::from).collect::<String>()
        };
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded, 9), "abcd");
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded, 2), "ab");
        assert_eq!(keys(Bound::Excluded(b"a"), Bound::Included(b"c"), 9), "bc");
        assert_eq!(keys(Bound::Included(b"b"), Bound::Excluded(b"d"), 9), "bc");
        assert_eq!(keys(Bound::Excluded(b"b"), Bound::Excluded(b"b"), 9), "");
        assert_eq!(keys(Bound::Included(b"d"), Bound::Included(b"a"), 9), "");
    }
}

fn change() -> impl Strategy<Value = (Table, Vec<u8>, Option<Vec<u8>>)> {
    let key = prop::collection::vec(0..4u8, 1..4);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..3_000));
    (prop::sample::select(&Table::ALL[..3]), key, value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn batches_leave_what_a_map_would_hold(
        batches in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..12),
    ) {
        for mut engine in engines() {
            let mut model = Model::new();
            for (number, changes) in batches.iter().enumerate() {
                let mut batch = Batch::default();
                for (table, key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(*table, key.clone(), value.clone());
                            model.insert((*table, key.clone()), value.clone());
                        }
                        None => {
                            batch.delete(*table, key.clone());
                            model.remove(&(*table, key.clone()));
                        }
                    }
                }
                let by = if number % 3 == 0 { OnDisk::Later } else { OnDisk::Now };
                engine.commit(batch, by).unwrap();
            }
            let reader = engine.reader();
            let mut held = Model::new();
            for table in &Table::ALL[..3] {
                let all = entries(&*reader, *table, (Bound::Unbounded, Bound::Unbounded), usize::MAX);
                held.extend(all.into_iter().map(|(key, value)| ((*table, key), value)));
            }
            prop_assert_eq!(&held, &model);
            for ((table, key), value) in &model {
                prop_assert_eq!(reader.value(*table, key), Ok(Some(value.clone())));
            }
        }
    }
}
