//! Whose deletions are remembered, and whose memory makes room.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Charge;
use crate::Source;

/// No network and no owner has more than this part of all deletions that a node remembers: a quarter.
const SHARE: u64 = 4;

/// Whom the memory of a deletion is charged to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payers {
    /// The network that it came from; `None` for this node's own clients.
    pub(crate) source: Option<Source>,
    /// The public key of the object's owner.
    #[serde(with = "serde_bytes")]
    pub(crate) owner: Option<[u8; 32]>,
}

/// An account of deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Payer {
    /// A network, or this node's own clients.
    Source(Option<Source>),
    /// An owner's public key.
    Owner([u8; 32]),
}

impl Payers {
    /// Those who pay for a record.
    pub(crate) fn of(record: &Charge) -> Self {
        Self { source: record.source, owner: record.owner }
    }

    /// The accounts that are charged.
    pub(crate) fn each(&self) -> impl Iterator<Item = Payer> + use<> {
        [Some(Payer::Source(self.source)), self.owner.map(Payer::Owner)].into_iter().flatten()
    }
}

/// How many deletions are remembered for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deletions {
    counts: BTreeMap<Payer, u64>,
    /// The accounts of networks and own clients by their number.
    by_count: BTreeSet<(u64, Payer)>,
}

impl Deletions {
    /// How many are charged to an account.
    pub(crate) fn of(&self, payer: &Payer) -> u64 {
        self.counts.get(payer).copied().unwrap_or(0)
    }

    /// Sets how many are charged to an account.
    pub(crate) fn set(&mut self, payer: Payer, count: u64) {
        let before = self.of(&payer);
        if matches!(payer, Payer::Source(_)) {
            self.by_count.remove(&(before, payer));
            if count > 0 {
                self.by_count.insert((count, payer));
            }
        }
        if count > 0 {
            self.counts.insert(payer, count);
        } else {
            self.counts.remove(&payer);
        }
    }

    /// How many accounts there are.
    pub(crate) fn count(&self) -> usize {
        self.counts.len()
    }

    /// All accounts.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Payer, u64)> {
        self.counts.iter().map(|(payer, count)| (*payer, *count))
    }

    /// Who pays for a deletion that was remembered at the charge of `held` and is asked for by `other` as well: the
    /// one whose network then has fewer.
    pub(crate) fn lighter(&self, held: Payers, other: Payers) -> Payers {
        let count = |payers: &Payers| self.of(&Payer::Source(payers.source));
        if count(&other).saturating_add(1) < count(&held) { other } else { held }
    }

    /// Whose memory has to make room after one for `payers` came, where `max` are remembered and `total` would be.
    ///
    /// An account above its share pays for itself. Where all are within theirs and the memory is full, the
    /// network that takes most of it pays, so that a flood pushes out itself and nobody who has few.
    pub(crate) fn debtor(&self, payers: &Payers, total: u64, max: u64) -> Option<Payer> {
        let share = (max / SHARE).max(1);
        let is_limited = |payer: &Payer| *payer != Payer::Source(None);
        let above = payers.each().filter(is_limited).find(|payer| self.of(payer) > share);
        above.or_else(|| if total > max { self.by_count.last().map(|(_, payer)| *payer) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::Prefix;

    use super::*;

    fn from(third: u8) -> Payers {
        Payers { source: Some(Source::Put(Prefix::of([192, 0, third, 1].into()))), owner: None }
    }

    fn counted(counts: &[(Payers, u64)]) -> Deletions {
        let mut deletions = Deletions::default();
        for (payers, count) in counts {
            payers.each().for_each(|payer| deletions.set(payer, deletions.of(&payer) + count));
        }
        deletions
    }

    #[test]
    fn whoever_has_most_makes_room_and_whoever_is_above_its_share_does_even_if_there_is_room() {
        let of = |payers: Payers| Some(Payer::Source(payers.source));
        let deletions = counted(&[(from(1), 3), (from(2), 20), (from(3), 21), (Payers::default(), 19)]);
        assert_eq!(deletions.debtor(&from(1), 100, 100), None);
        assert_eq!(deletions.debtor(&from(1), 101, 100), of(from(3)));
        let deletions = counted(&[(from(1), 3), (from(2), 26), (Payers::default(), 30)]);
        assert_eq!(deletions.debtor(&from(2), 59, 100), of(from(2)));
        assert_eq!(deletions.debtor(&Payers::default(), 59, 100), None, "own clients have no limit");
        assert_eq!(
            deletions.debtor(&from(1), 101, 100),
            of(Payers::default()),
            "and most of it all the same"
        );
    }

    #[test]
    fn an_owner_is_limited_whatever_the_network() {
        let owner = [7; 32];
        let by = |third| Payers { owner: Some(owner), ..from(third) };
        let deletions = counted(&[(by(1), 13), (by(2), 13)]);
        assert_eq!(deletions.debtor(&by(3), 26, 100), Some(Payer::Owner(owner)));
        assert_eq!(deletions.debtor(&from(1), 26, 100), None);
    }

    #[test]
    fn an_account_that_is_empty_is_gone() {
        let mut deletions = counted(&[(from(1), 3)]);
        deletions.set(Payer::Source(from(1).source), 0);
        assert_eq!(deletions, Deletions::default());
    }
}
