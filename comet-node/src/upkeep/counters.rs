//! What upkeep has done, for metrics and measurements.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the node started.
#[derive(Debug, Default)]
pub struct UpkeepCounters {
    rounds: AtomicU64,
    checks: AtomicU64,
    copies: AtomicU64,
    drops: AtomicU64,
    deletions: AtomicU64,
    sent_bytes: AtomicU64,
}

/// The counts at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepCounts {
    /// Times that all objects were gone through.
    pub rounds: u64,
    /// Objects checked.
    pub checks: u64,
    /// Copies sent that were kept.
    pub copies: u64,
    /// Own copies dropped because others are responsible.
    pub drops: u64,
    /// Own copies deleted because the object was, elsewhere.
    pub deletions: u64,
    /// Bytes of digests and copies sent.
    pub sent_bytes: u64,
}

impl UpkeepCounters {
    /// All objects were gone through.
    pub(crate) fn count_round(&self) {
        self.rounds.fetch_add(1, Relaxed);
    }

    /// An object was checked.
    pub(crate) fn count_check(&self) {
        self.checks.fetch_add(1, Relaxed);
    }

    /// A copy was kept by the node that it was sent to.
    pub(crate) fn count_copy(&self) {
        self.copies.fetch_add(1, Relaxed);
    }

    /// A copy was dropped here.
    pub(crate) fn count_drop(&self) {
        self.drops.fetch_add(1, Relaxed);
    }

    /// A deletion was made up for.
    pub(crate) fn count_deletion(&self) {
        self.deletions.fetch_add(1, Relaxed);
    }

    /// So many bytes were sent.
    pub(crate) fn count_bytes(&self, bytes: usize) {
        self.sent_bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> UpkeepCounts {
        UpkeepCounts {
            rounds: self.rounds.load(Relaxed),
            checks: self.checks.load(Relaxed),
            copies: self.copies.load(Relaxed),
            drops: self.drops.load(Relaxed),
            deletions: self.deletions.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
        }
    }
}
