//! The accounts as they are kept on the disk, so that a store opens without reading all that it holds.
//!
//! The transaction that changes records changes the accounts they are charged to as well: whatever a power cut
//! leaves, the two agree. The entry of the sums says that accounts are kept. Without it, and where any account
//! is damaged, everything is counted once ([`crate::tally`]) and the accounts are written with the next commit.

use std::ops::{Bound, ControlFlow};

use serde::{Deserialize, Serialize};

use crate::{
    Source,
    codec::{seal, unseal},
    engine::{Batch, EngineError, Reader, Table, Visit},
    quota::{Account, Accounts, Payer, Sums, Usage},
};

/// The key of the [`KeptSums`], which no account has. Accounts kept under the former one lack deletions, and are
/// counted anew.
const SUMS_KEY: &[u8] = b"sums 2";

const CODE_TAG: u8 = b'c';
const OWNER_TAG: u8 = b'o';
const SOURCE_TAG: u8 = b's';
const DELETIONS_TAG: u8 = b'd';
const LOCAL_TAG: u8 = b'l';

/// How the accounts on the disk stand to those in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ledger {
    /// The disk has those of the last commit.
    Kept,
    /// The disk has none, or wrong ones; the next commit writes all.
    Missing,
    /// What a damaged entry was charged is not known, so that none are kept until everything is counted again.
    Void,
}

/// What the disk has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) accounts: Accounts,
    /// Deletions remembered.
    pub(crate) tombstones: u64,
}

/// What is counted for the node as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptSums {
    sums: Sums,
    tombstones: u64,
    /// The number of the other entries: none is missing.
    accounts: u64,
}

impl Ledger {
    /// Adds to a batch what it changes in the accounts.
    pub(crate) fn write(
        self,
        engine: &dyn Reader,
        batch: &mut Batch,
        accounts: &mut Accounts,
        tombstones: u64,
    ) -> Result<(), EngineError> {
        let touched = accounts.take_touched();
        match self {
            Self::Kept => {
                for account in touched {
                    write(batch, &account, accounts.usage(&account));
                }
            }
            Self::Missing => {
                each(engine, &mut |key, _| {
                    batch.delete(Table::Accounts, key);
                    ControlFlow::Continue(())
                })?;
                for (account, usage) in accounts.all() {
                    write(batch, &account, Some(usage));
                }
            }
            Self::Void => {
                batch.delete(Table::Accounts, SUMS_KEY);
                return Ok(());
            }
        }
        let sums = KeptSums { sums: accounts.sums(), tombstones, accounts: accounts.count() };
        batch.put(Table::Accounts, SUMS_KEY, seal(Table::Accounts, SUMS_KEY, &sums));
        Ok(())
    }

    /// How it stands once such a batch is committed.
    pub(crate) fn after_commit(self) -> Self {
        if self == Self::Missing { Self::Kept } else { self }
    }
}

/// The accounts that an engine keeps; `None` if it keeps none that can be believed.
pub(crate) fn kept(engine: &dyn Reader) -> Result<Option<Kept>, EngineError> {
    let Some(sums) = engine.value(Table::Accounts, SUMS_KEY)? else { return Ok(None) };
    let Ok(KeptSums { sums, tombstones, accounts: count }) = unseal(Table::Accounts, SUMS_KEY, &sums) else {
        return Ok(None);
    };
    let mut accounts = Accounts::with_sums(sums);
    let mut is_good = true;
    each(engine, &mut |key, sealed| {
        if key == SUMS_KEY {
            return ControlFlow::Continue(());
        }
        match (split_key(key), unseal::<Usage>(Table::Accounts, key, sealed)) {
            (Some(account), Ok(usage)) => accounts.restore(account, usage),
            _ => is_good = false,
        }
        if is_good { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok((is_good && accounts.count() == count).then_some(Kept { accounts, tombstones }))
}

fn write(batch: &mut Batch, account: &Account, usage: Option<Usage>) {
    let key = key(account);
    match usage {
        Some(usage) => {
            let sealed = seal(Table::Accounts, &key, &usage);
            batch.put(Table::Accounts, key, sealed);
        }
        None => batch.delete(Table::Accounts, key),
    }
}

fn each(engine: &dyn Reader, show: Visit<'_>) -> Result<(), EngineError> {
    engine.visit(Table::Accounts, (Bound::Unbounded, Bound::Unbounded), show)
}

/// The key of an account: one byte for its kind, then what it is named by.
fn key(account: &Account) -> Vec<u8> {
    match account {
        Account::Code(hash) => [&[CODE_TAG], hash.as_slice()].concat(),
        Account::Owner(public_key) => [&[OWNER_TAG], public_key.as_slice()].concat(),
        Account::Source(source) => [&[SOURCE_TAG], source.to_bytes().as_slice()].concat(),
        Account::Deletions(payer) => [&[DELETIONS_TAG], payer_key(payer).as_slice()].concat(),
    }
}

/// The account that has this key; `None` if none has.
fn split_key(key: &[u8]) -> Option<Account> {
    let (tag, name) = key.split_first()?;
    match *tag {
        CODE_TAG => Some(Account::Code(name.try_into().ok()?)),
        OWNER_TAG => Some(Account::Owner(name.try_into().ok()?)),
        SOURCE_TAG => Some(Account::Source(Source::from_bytes(name)?)),
        DELETIONS_TAG => Some(Account::Deletions(payer_of(name)?)),
        _ => None,
    }
}

/// How an account of deletions is named on the disk. No name is the beginning of another.
pub(crate) fn payer_key(payer: &Payer) -> Vec<u8> {
    match payer {
        Payer::Source(None) => vec![LOCAL_TAG],
        Payer::Source(Some(source)) => [&[SOURCE_TAG], source.to_bytes().as_slice()].concat(),
        Payer::Owner(public_key) => [&[OWNER_TAG], public_key.as_slice()].concat(),
    }
}

fn payer_of(name: &[u8]) -> Option<Payer> {
    let (tag, name) = name.split_first()?;
    match *tag {
        LOCAL_TAG if name.is_empty() => Some(Payer::Source(None)),
        SOURCE_TAG => Some(Payer::Source(Some(Source::from_bytes(name)?))),
        OWNER_TAG => Some(Payer::Owner(name.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::Prefix;

    use super::*;
    use crate::{
        engine::{Engine, OnDisk, memory::MemoryEngine},
        quota::{Charge, Payers},
    };

    /// Three records, of one owner, with one code and from one network in turn, and two deletions.
    fn accounts() -> Accounts {
        let charge = Charge { bytes: 300, code: None, code_bytes: 0, owner: None, source: None };
        let mut accounts = Accounts::default();
        accounts.add(&Charge { owner: Some([1; 32]), ..charge }, 0);
        accounts.add(&Charge { code: Some([2; 32]), ..charge }, 40);
        accounts.add(&Charge { source: Some(Source::Put(Prefix::of([192, 0, 2, 1].into()))), ..charge }, 0);
        accounts.replace_log(0, 7);
        accounts.remember(&Payers { source: None, owner: Some([3; 32]) });
        accounts
            .remember(&Payers { source: Some(Source::Copy(Prefix::of([192, 0, 2, 1].into()))), owner: None });
        accounts
    }

    fn written(ledger: Ledger, engine: &mut MemoryEngine, accounts: &mut Accounts) {
        let mut batch = Batch::default();
        ledger.write(&*engine.reader(), &mut batch, accounts, 5).unwrap();
        engine.commit(batch, OnDisk::Now).unwrap();
    }

    #[test]
    fn accounts_come_back_as_they_were_kept_and_what_was_there_before_is_gone() {
        let (mut engine, mut before, mut accounts) =
            (MemoryEngine::default(), accounts(), Accounts::default());
        assert_eq!(kept(&*engine.reader()), Ok(None));
        written(Ledger::Missing, &mut engine, &mut before);
        assert_eq!(kept(&*engine.reader()), Ok(Some(Kept { accounts: before, tombstones: 5 })));
        written(Ledger::Missing, &mut engine, &mut accounts);
        assert_eq!(kept(&*engine.reader()), Ok(Some(Kept { accounts, tombstones: 5 })));
    }

    #[test]
    fn only_accounts_that_changed_are_written() {
        let (mut engine, mut accounts) = (MemoryEngine::default(), accounts());
        written(Ledger::Missing, &mut engine, &mut accounts);
        let owned = Charge { bytes: 300, code: None, code_bytes: 0, owner: Some([1; 32]), source: None };
        accounts.remove(&owned);
        let mut batch = Batch::default();
        Ledger::Kept.write(&*engine.reader(), &mut batch, &mut accounts, 5).unwrap();
        let keys: Vec<_> = batch.changes().map(|(_, key, value)| (key.to_vec(), value.is_some())).collect();
        assert_eq!(keys, [(key(&Account::Owner([1; 32])), false), (SUMS_KEY.to_vec(), true)]);
    }

    #[test]
    fn accounts_of_which_one_is_damaged_or_missing_are_not_believed() {
        let (mut engine, mut accounts) = (MemoryEngine::default(), accounts());
        written(Ledger::Missing, &mut engine, &mut accounts);
        let mut entries = Vec::new();
        each(&*engine.reader(), &mut |key, sealed| {
            entries.push((key.to_vec(), sealed.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(entries.len(), 7);
        for (key, sealed) in entries {
            let mut damaged = sealed.clone();
            *damaged.last_mut().unwrap() ^= 1;
            for left in [Some(damaged), None] {
                let mut batch = Batch::default();
                match left {
                    Some(damaged) => batch.put(Table::Accounts, key.clone(), damaged),
                    None => batch.delete(Table::Accounts, key.clone()),
                }
                engine.commit(batch, OnDisk::Now).unwrap();
                assert_eq!(kept(&*engine.reader()), Ok(None));
            }
            let mut batch = Batch::default();
            batch.put(Table::Accounts, key, sealed);
            engine.commit(batch, OnDisk::Now).unwrap();
            assert!(kept(&*engine.reader()).unwrap().is_some());
        }
    }

    #[test]
    fn void_accounts_are_not_believed() {
        let (mut engine, mut accounts) = (MemoryEngine::default(), accounts());
        written(Ledger::Missing, &mut engine, &mut accounts);
        written(Ledger::Void, &mut engine, &mut accounts);
        assert_eq!(kept(&*engine.reader()), Ok(None));
    }
}
