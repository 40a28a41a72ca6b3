//! Counting what a store holds.
//!
//! That takes reading all of it, and so is done only where no accounts are kept ([`crate::ledger`]) or they cannot
//! be believed.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use crate::{
    Hash,
    codec::{StoredRecord, Tombstone, unseal},
    engine::{EngineError, Reader, Table},
    quota::Accounts,
};

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Who uses how much.
    pub(crate) accounts: Accounts,
    /// Deletions remembered.
    pub(crate) tombstones: u64,
    /// Records that cannot be read; nobody is charged for them.
    pub(crate) damaged: u64,
    /// Sources that no record uses.
    pub(crate) unused_codes: Vec<Hash>,
}

/// Counts everything that an engine holds.
pub(crate) fn tally(engine: &dyn Reader) -> Result<Tally, EngineError> {
    let mut tally = Tally::default();
    let mut code_bytes = BTreeMap::new();
    each(engine, Table::Code, &mut |hash, source| {
        code_bytes.extend(Hash::try_from(hash).map(|hash| (hash, source.len() as u64)));
    })?;
    each(
        engine,
        Table::Records,
        &mut |key, sealed| match unseal::<StoredRecord>(Table::Records, key, sealed) {
            Ok(record) => {
                let bytes = record.code_hash().and_then(|hash| code_bytes.get(&hash)).copied();
                tally.accounts.add(&record.charge(), bytes.unwrap_or(0));
            }
            Err(_) => tally.damaged += 1,
        },
    )?;
    each(engine, Table::Logs, &mut |key, sealed| {
        let log = unseal::<Bytes>(Table::Logs, key, sealed);
        tally.accounts.replace_log(0, log.map_or(0, |log| log.len() as u64));
    })?;
    each(engine, Table::TombstoneExpiry, &mut |_, _| tally.tombstones += 1)?;
    each(engine, Table::Tombstones, &mut |key, sealed| {
        if let Ok(tombstone) = unseal::<Tombstone>(Table::Tombstones, key, sealed) {
            tally.accounts.remember(&tombstone.payers);
        }
    })?;
    tally.accounts.take_touched();
    tally.unused_codes = code_bytes.into_keys().filter(|hash| tally.accounts.users_of(hash) == 0).collect();
    Ok(tally)
}

fn each(engine: &dyn Reader, table: Table, show: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), EngineError> {
    engine.visit(table, (Bound::Unbounded, Bound::Unbounded), &mut |key, value| {
        show(key, value);
        ControlFlow::Continue(())
    })
}
