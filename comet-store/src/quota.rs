//! Who uses how much of the store.
//!
//! Bytes and records are counted for the node, for each owner's public key and for each network that
//! records came from, so that neither many keys nor many identities fill a store. A
//! full store refuses and keeps what it has, and the fuller it is, the less it takes from whoever has much there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{Hash, Source, StoreConfig};

mod deletions;

pub(crate) use deletions::{Deletions, Payer, Payers};

/// What every record costs beyond its own bytes: keys, index entries and page overhead, in bytes.
pub const RECORD_OVERHEAD_BYTES: u64 = 256;

/// What one record costs, and whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Bytes of the record itself: data, state, a publisher's signature and [`RECORD_OVERHEAD_BYTES`].
    pub(crate) bytes: u64,
    /// The hash of the record's code. The node pays once for each distinct source.
    pub(crate) code: Option<Hash>,
    /// Bytes of that code if this record brought it: owner and network pay for those.
    pub(crate) code_bytes: u64,
    /// The owner's public key.
    pub(crate) owner: Option<[u8; 32]>,
    /// The account of the network that it came from; `None` for this node's own clients.
    pub(crate) source: Option<Source>,
}

/// Bytes and records of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Bytes used.
    pub(crate) bytes: u64,
    /// Records held.
    pub(crate) records: u64,
}

/// A limit of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// [`StoreConfig::bytes_max`].
    Bytes,
    /// [`StoreConfig::records_max`].
    Records,
    /// [`StoreConfig::bytes_per_owner`].
    OwnerBytes,
    /// [`StoreConfig::records_per_owner`].
    OwnerRecords,
    /// [`StoreConfig::bytes_per_source`].
    SourceBytes,
    /// [`StoreConfig::records_per_source`].
    SourceRecords,
    /// [`crate::RECORD_BYTES_MAX`].
    OneRecord,
    /// [`crate::LOG_BYTES_MAX`].
    OneLog,
    /// [`crate::META_BYTES_MAX`].
    OneMeta,
}

/// A write would have passed a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} would come to {used}, the limit is {limit}")]
pub struct QuotaExceeded {
    /// Which limit.
    pub what: Quota,
    /// What the count would have come to with the write.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// The counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accounts {
    records: Usage,
    active: u64,
    log_bytes: u64,
    code_bytes: u64,
    /// How many records use each source, and its length.
    codes: BTreeMap<Hash, Usage>,
    owners: BTreeMap<[u8; 32], Usage>,
    sources: BTreeMap<Source, Usage>,
    deletions: Deletions,
    touched: BTreeSet<Account>,
}

/// What is counted apart from the node's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    /// The records that use one source; its bytes are the source's.
    Code(Hash),
    /// The records of one owner's public key.
    Owner([u8; 32]),
    /// The records that one network is charged for.
    Source(Source),
    /// The deletions that are remembered at somebody's charge; they have no bytes.
    Deletions(Payer),
}

/// What is counted for the node and does not follow from the [`Account`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// The records, without code and logs.
    pub(crate) records: Usage,
    /// Bytes of all logs.
    pub(crate) log_bytes: u64,
}

impl Accounts {
    /// Bytes and records of the node: the records' own bytes, each distinct source once, and the logs.
    pub(crate) fn node(&self) -> Usage {
        self.records.plus(self.code_bytes).plus(self.log_bytes)
    }

    /// Records that have code.
    pub(crate) fn active(&self) -> u64 {
        self.active
    }

    /// Records that have this code.
    pub(crate) fn users_of(&self, code: &Hash) -> u64 {
        self.codes.get(code).map_or(0, |code| code.records)
    }

    /// What one owner uses.
    pub(crate) fn owner(&self, public_key: &[u8; 32]) -> Usage {
        self.owners.get(public_key).copied().unwrap_or_default()
    }

    /// What the records of one network use.
    pub(crate) fn source(&self, source: &Source) -> Usage {
        self.sources.get(source).copied().unwrap_or_default()
    }

    /// Whether a record with code of `code_bytes` may come in the place of `old`.
    ///
    /// What a network's nodes hand over as copies has an account of its own, with no limit but the fair share: a
    /// newcomer gets most of what it should hold from a few neighbours.
    ///
    /// A write that makes an account no larger is never refused, even if the account is over its limit
    /// because an operator lowered it.
    pub(crate) fn check(
        &self,
        old: Option<&Charge>,
        new: &Charge,
        code_bytes: u64,
        config: &StoreConfig,
    ) -> Result<(), QuotaExceeded> {
        let node = self.node_after(old, new, code_bytes);
        self.node().admit(node, (Quota::Bytes, config.bytes_max), (Quota::Records, config.records_max))?;
        // What this node's own clients put is not measured against what is left for others.
        let share = match new.source {
            Some(_) => Usage {
                bytes: fair_share(node.bytes, config.bytes_max),
                records: fair_share(node.records, config.records_max),
            },
            None => Usage { bytes: u64::MAX, records: u64::MAX },
        };
        if let Some(owner) = new.owner {
            let (usage, old) = (self.owner(&owner), old.filter(|old| old.owner == new.owner));
            usage.admit(
                usage.replacing(old, new),
                (Quota::OwnerBytes, config.bytes_per_owner.min(share.bytes)),
                (Quota::OwnerRecords, config.records_per_owner.min(share.records)),
            )?;
        }
        if let Some(source) = new.source {
            let (usage, old) = (self.source(&source), old.filter(|old| old.source == new.source));
            let (bytes_max, records_max) = match source {
                Source::Put(_) => (config.bytes_per_source, config.records_per_source),
                Source::Copy(_) => (u64::MAX, u64::MAX),
            };
            usage.admit(
                usage.replacing(old, new),
                (Quota::SourceBytes, bytes_max.min(share.bytes)),
                (Quota::SourceRecords, records_max.min(share.records)),
            )?;
        }
        Ok(())
    }

    /// Whether a log of `new` bytes may come in the place of one of `old` bytes.
    pub(crate) fn check_log(&self, old: u64, new: u64, config: &StoreConfig) -> Result<(), QuotaExceeded> {
        self.node().admit(
            self.node().plus(new).minus(old),
            (Quota::Bytes, config.bytes_max),
            (Quota::Records, config.records_max),
        )
    }

    /// Counts a record whose code, if it has one, is `code_bytes` long.
    pub(crate) fn add(&mut self, charge: &Charge, code_bytes: u64) {
        self.records = self.records.plus(charge.bytes).plus_records(1);
        if let Some(hash) = charge.code {
            self.active += 1;
            self.touched.insert(Account::Code(hash));
            let code = self.codes.entry(hash).or_insert(Usage { records: 0, bytes: code_bytes });
            if code.records == 0 {
                self.code_bytes = self.code_bytes.saturating_add(code.bytes);
            }
            code.records += 1;
        }
        if let Some(owner) = charge.owner {
            self.touched.insert(Account::Owner(owner));
            grow(&mut self.owners, owner, charge);
        }
        if let Some(source) = charge.source {
            self.touched.insert(Account::Source(source));
            grow(&mut self.sources, source, charge);
        }
    }

    /// Takes back what [`Accounts::add`] counted.
    pub(crate) fn remove(&mut self, charge: &Charge) {
        self.records = self.records.minus(charge.bytes).minus_records(1);
        if let Some(hash) = charge.code {
            self.active = self.active.saturating_sub(1);
            self.touched.insert(Account::Code(hash));
            if let Some(code) = self.codes.get_mut(&hash) {
                code.records = code.records.saturating_sub(1);
                if code.records == 0 {
                    self.code_bytes = self.code_bytes.saturating_sub(code.bytes);
                    self.codes.remove(&hash);
                }
            }
        }
        if let Some(owner) = charge.owner {
            self.touched.insert(Account::Owner(owner));
            shrink(&mut self.owners, &owner, charge);
        }
        if let Some(source) = charge.source {
            self.touched.insert(Account::Source(source));
            shrink(&mut self.sources, &source, charge);
        }
    }

    /// Counts a log of `new` bytes in the place of one of `old` bytes; zero is none.
    pub(crate) fn replace_log(&mut self, old: u64, new: u64) {
        self.log_bytes = self.log_bytes.saturating_add(new).saturating_sub(old);
    }

    /// Counts the memory of a deletion.
    pub(crate) fn remember(&mut self, payers: &Payers) {
        for payer in payers.each() {
            self.deletions.set(payer, self.deletions.of(&payer).saturating_add(1));
            self.touched.insert(Account::Deletions(payer));
        }
    }

    /// Takes back what [`Accounts::remember`] counted.
    pub(crate) fn forget(&mut self, payers: &Payers) {
        for payer in payers.each() {
            self.deletions.set(payer, self.deletions.of(&payer).saturating_sub(1));
            self.touched.insert(Account::Deletions(payer));
        }
    }

    /// Whose deletions are remembered.
    pub(crate) fn deletions(&self) -> &Deletions {
        &self.deletions
    }

    /// The accounts that changed since they were asked for last.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<Account> {
        std::mem::take(&mut self.touched)
    }

    /// What one account comes to; `None` if nothing is charged to it.
    pub(crate) fn usage(&self, account: &Account) -> Option<Usage> {
        match account {
            Account::Code(hash) => self.codes.get(hash),
            Account::Owner(public_key) => self.owners.get(public_key),
            Account::Source(source) => self.sources.get(source),
            Account::Deletions(payer) => {
                let records = self.deletions.of(payer);
                return (records > 0).then_some(Usage { records, bytes: 0 });
            }
        }
        .copied()
    }

    /// Every account that something is charged to.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Account, Usage)> {
        let codes = self.codes.iter().map(|(hash, usage)| (Account::Code(*hash), *usage));
        let owners = self.owners.iter().map(|(public_key, usage)| (Account::Owner(*public_key), *usage));
        let sources = self.sources.iter().map(|(source, usage)| (Account::Source(*source), *usage));
        let deletions = self.deletions.all();
        let deletions =
            deletions.map(|(payer, records)| (Account::Deletions(payer), Usage { records, bytes: 0 }));
        codes.chain(owners).chain(sources).chain(deletions)
    }

    /// How many accounts there are.
    pub(crate) fn count(&self) -> u64 {
        (self.codes.len() + self.owners.len() + self.sources.len() + self.deletions.count()) as u64
    }

    /// The sums for the node.
    pub(crate) fn sums(&self) -> Sums {
        Sums { records: self.records, log_bytes: self.log_bytes }
    }

    /// Accounts of which these are the sums, and which are all still to be restored.
    pub(crate) fn with_sums(sums: Sums) -> Self {
        Self { records: sums.records, log_bytes: sums.log_bytes, ..Self::default() }
    }

    /// Puts an account back in its place.
    pub(crate) fn restore(&mut self, account: Account, usage: Usage) {
        match account {
            Account::Code(hash) => {
                self.active = self.active.saturating_add(usage.records);
                self.code_bytes = self.code_bytes.saturating_add(usage.bytes);
                self.codes.insert(hash, usage);
            }
            Account::Owner(public_key) => {
                self.owners.insert(public_key, usage);
            }
            Account::Source(source) => {
                self.sources.insert(source, usage);
            }
            Account::Deletions(payer) => self.deletions.set(payer, usage.records),
        }
    }

    fn node_after(&self, old: Option<&Charge>, new: &Charge, code_bytes: u64) -> Usage {
        let old_code = old.and_then(|old| old.code);
        let brought = match new.code {
            Some(hash) if self.users_of(&hash) == 0 => code_bytes,
            _ => 0,
        };
        let freed = match old_code.filter(|_| old_code != new.code).and_then(|hash| self.codes.get(&hash)) {
            Some(Usage { records: 1, bytes }) => *bytes,
            _ => 0,
        };
        let old_bytes = old.map_or(0, |old| old.bytes);
        self.node()
            .plus(new.bytes.saturating_add(brought))
            .minus(old_bytes.saturating_add(freed))
            .plus_records(1)
            .minus_records(u64::from(old.is_some()))
    }
}

impl Charge {
    fn account_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.code_bytes)
    }
}

impl Usage {
    fn plus(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.saturating_add(bytes), ..self }
    }

    fn minus(self, bytes: u64) -> Self {
        Self { bytes: self.bytes.saturating_sub(bytes), ..self }
    }

    fn plus_records(self, records: u64) -> Self {
        Self { records: self.records.saturating_add(records), ..self }
    }

    fn minus_records(self, records: u64) -> Self {
        Self { records: self.records.saturating_sub(records), ..self }
    }

    fn replacing(self, old: Option<&Charge>, new: &Charge) -> Self {
        self.plus(new.account_bytes())
            .minus(old.map_or(0, Charge::account_bytes))
            .plus_records(1)
            .minus_records(u64::from(old.is_some()))
    }

    fn admit(self, after: Self, bytes: (Quota, u64), records: (Quota, u64)) -> Result<(), QuotaExceeded> {
        if after.records > self.records && after.records > records.1 {
            return Err(QuotaExceeded { what: records.0, used: after.records, limit: records.1 });
        }
        if after.bytes > self.bytes && after.bytes > bytes.1 {
            return Err(QuotaExceeded { what: bytes.0, used: after.bytes, limit: bytes.1 });
        }
        Ok(())
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "the bytes of this node",
            Self::Records => "the records of this node",
            Self::OwnerBytes => "the bytes of this owner",
            Self::OwnerRecords => "the records of this owner",
            Self::SourceBytes => "the bytes put from this network",
            Self::SourceRecords => "the records put from this network",
            Self::OneRecord => "the bytes of this record",
            Self::OneLog => "the bytes of this log",
            Self::OneMeta => "the bytes of this entry",
        })
    }
}

/// What one network or one owner may have where so much of so much is used: the square of the free part.
///
/// Of an empty node two fifths, of one half full a quarter, of one that is full by nine tenths a hundredth. Whoever
/// has more is refused first, and newcomers find room without anything being thrown out: after `n` networks have each
/// taken all that they get, about the `n`-th part is still free, where a fixed quarter leaves nothing after four.
fn fair_share(used: u64, max: u64) -> u64 {
    let free = u128::from(max.saturating_sub(used));
    let share = (free * free).checked_div(u128::from(max)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn grow<K: Ord>(accounts: &mut BTreeMap<K, Usage>, account: K, charge: &Charge) {
    let usage = accounts.entry(account).or_default();
    *usage = usage.plus(charge.account_bytes()).plus_records(1);
}

fn shrink<K: Ord>(accounts: &mut BTreeMap<K, Usage>, account: &K, charge: &Charge) {
    let Some(usage) = accounts.get_mut(account) else { return };
    *usage = usage.minus(charge.account_bytes()).minus_records(1);
    if usage.records == 0 {
        accounts.remove(account);
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::Prefix;
    use proptest::prelude::*;

    use super::*;

    fn charge(bytes: u64) -> Charge {
        Charge { bytes, code: None, code_bytes: 0, owner: None, source: None }
    }

    fn coded(code: u8, bytes: u64) -> Charge {
        Charge { code: Some([code; 32]), ..charge(bytes) }
    }

    fn of_network(third: u8) -> Source {
        Source::Put(Prefix::of([192, 0, third, 1].into()))
    }

    fn limits() -> StoreConfig {
        StoreConfig {
            bytes_max: 1_000,
            records_max: 3,
            bytes_per_owner: 500,
            records_per_owner: 2,
            bytes_per_source: 500,
            records_per_source: 2,
            ..StoreConfig::default()
        }
    }

    fn refusal(what: Quota, used: u64, limit: u64) -> Result<(), QuotaExceeded> {
        Err(QuotaExceeded { what, used, limit })
    }

    #[test]
    fn the_last_byte_fits_and_one_more_does_not() {
        let mut accounts = Accounts::default();
        accounts.add(&charge(400), 0);
        assert_eq!(accounts.check(None, &charge(600), 0, &limits()), Ok(()));
        assert_eq!(accounts.check(None, &charge(601), 0, &limits()), refusal(Quota::Bytes, 1_001, 1_000));
        assert_eq!(accounts.check(None, &coded(1, 500), 100, &limits()), Ok(()));
        assert_eq!(accounts.check(None, &coded(1, 500), 101, &limits()), refusal(Quota::Bytes, 1_001, 1_000));
        assert_eq!(accounts.check_log(0, 600, &limits()), Ok(()));
        assert_eq!(accounts.check_log(0, 601, &limits()), refusal(Quota::Bytes, 1_001, 1_000));
    }

    #[test]
    fn the_last_record_fits_and_one_more_does_not() {
        let mut accounts = Accounts::default();
        accounts.add(&charge(1), 0);
        accounts.add(&charge(1), 0);
        assert_eq!(accounts.check(None, &charge(1), 0, &limits()), Ok(()));
        accounts.add(&charge(1), 0);
        assert_eq!(accounts.check(None, &charge(1), 0, &limits()), refusal(Quota::Records, 4, 3));
        assert_eq!(accounts.check(Some(&charge(1)), &charge(2), 0, &limits()), Ok(()));
    }

    #[test]
    fn an_owner_is_limited_whatever_the_network_and_a_network_whatever_the_owner() {
        let by = |owner, third, bytes| Charge {
            owner: Some([owner; 32]),
            source: Some(of_network(third)),
            ..charge(bytes)
        };
        let roomy = StoreConfig { bytes_max: 1 << 40, records_max: 1 << 40, ..limits() };
        let mut accounts = Accounts::default();
        accounts.add(&by(1, 1, 400), 0);
        assert_eq!(accounts.check(None, &by(1, 2, 101), 0, &roomy), refusal(Quota::OwnerBytes, 501, 500));
        assert_eq!(accounts.check(None, &by(2, 1, 101), 0, &roomy), refusal(Quota::SourceBytes, 501, 500));
        assert_eq!(accounts.check(None, &by(2, 2, 101), 0, &roomy), Ok(()));
        accounts.add(&by(1, 2, 1), 0);
        assert_eq!(accounts.check(None, &by(1, 3, 1), 0, &roomy), refusal(Quota::OwnerRecords, 3, 2));
    }

    #[test]
    fn the_fuller_the_node_the_less_a_network_and_an_owner_may_have_and_own_clients_may_have_all() {
        let of = |owner: Option<u8>, third: Option<u8>, bytes| Charge {
            owner: owner.map(|owner| [owner; 32]),
            source: third.map(of_network),
            ..charge(bytes)
        };
        let config = StoreConfig { records_max: 1_000, ..limits() };
        let mut accounts = Accounts::default();
        accounts.add(&of(Some(1), Some(1), 300), 0);
        accounts.add(&of(None, None, 400), 0);
        // With another 120 bytes 180 are free, and the share is 180 * 180 / 1,000.
        let check = |charge| accounts.check(None, &charge, 0, &config);
        assert_eq!(check(of(None, Some(1), 120)), refusal(Quota::SourceBytes, 420, 32));
        assert_eq!(check(of(Some(1), Some(2), 120)), refusal(Quota::OwnerBytes, 420, 32));
        assert_eq!(check(of(None, Some(2), 120)), refusal(Quota::SourceBytes, 120, 32));
        assert_eq!(check(of(None, Some(2), 60)), refusal(Quota::SourceBytes, 60, 57));
        assert_eq!(check(of(None, Some(2), 59)), refusal(Quota::SourceBytes, 59, 58));
        assert_eq!(check(of(None, Some(2), 58)), Ok(()));
        assert_eq!(check(of(Some(1), None, 200)), Ok(()));
        assert_eq!(check(of(None, None, 300)), Ok(()));
    }

    #[test]
    fn networks_that_take_all_they_get_one_after_the_other_leave_a_part_for_the_next() {
        let max = 1 << 32;
        let (mut used, mut left) = (0, Vec::new());
        for networks in 1..=100u64 {
            // The largest account that is no more than its share of what it leaves.
            let (mut fits, mut too_much) = (0, max - used);
            while fits + 1 < too_much {
                let middle = (fits + too_much) / 2;
                if middle <= fair_share(used + middle, max) { fits = middle } else { too_much = middle }
            }
            used += fits;
            left.push((networks, max / (max - used)));
        }
        assert!(left.iter().all(|(networks, part)| *part <= networks + 5), "{left:?}");
    }

    #[test]
    fn a_full_account_may_shrink_and_stay() {
        let mut accounts = Accounts::default();
        let (big, same, bigger) = (charge(5_000), charge(5_000), charge(5_001));
        accounts.add(&big, 0);
        assert_eq!(accounts.check(Some(&big), &same, 0, &limits()), Ok(()));
        assert_eq!(accounts.check(Some(&big), &charge(4_999), 0, &limits()), Ok(()));
        assert_eq!(accounts.check(Some(&big), &bigger, 0, &limits()), refusal(Quota::Bytes, 5_001, 1_000));
    }

    #[test]
    fn the_node_pays_once_for_code_that_many_share() {
        let mut accounts = Accounts::default();
        accounts.add(&coded(1, 10), 100);
        accounts.add(&coded(1, 10), 100);
        assert_eq!(accounts.node(), Usage { bytes: 120, records: 2 });
        accounts.remove(&coded(1, 10));
        assert_eq!(accounts.node(), Usage { bytes: 110, records: 1 });
        accounts.remove(&coded(1, 10));
        accounts.take_touched();
        assert_eq!(accounts, Accounts::default());
    }

    #[test]
    fn code_that_leaves_with_its_last_record_makes_room() {
        let mut accounts = Accounts::default();
        accounts.add(&coded(1, 100), 900);
        assert_eq!(accounts.check(Some(&coded(1, 100)), &coded(2, 100), 900, &limits()), Ok(()));
        assert_eq!(
            accounts.check(Some(&coded(1, 100)), &coded(2, 100), 901, &limits()),
            refusal(Quota::Bytes, 1_001, 1_000)
        );
    }

    fn any_charge() -> impl Strategy<Value = Charge> {
        (0..1_000u64, prop::option::of(0..3u8), prop::option::of(0..3u8), prop::option::of(0..3u8)).prop_map(
            |(bytes, code, owner, third)| Charge {
                bytes,
                code: code.map(|code| [code; 32]),
                code_bytes: code.map_or(0, u64::from),
                owner: owner.map(|owner| [owner; 32]),
                source: third.map(of_network),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_removed_leaves_the_counts_as_if_it_never_came(
            kept in prop::collection::vec(any_charge(), 0..20),
            gone in prop::collection::vec(any_charge(), 0..20),
        ) {
            let (mut with, mut without) = (Accounts::default(), Accounts::default());
            gone.iter().for_each(|charge| with.add(charge, 7));
            kept.iter().for_each(|charge| with.add(charge, 7));
            gone.iter().for_each(|charge| with.remove(charge));
            kept.iter().for_each(|charge| without.add(charge, 7));
            with.take_touched();
            without.take_touched();
            prop_assert_eq!(with, without);
        }
    }
}
