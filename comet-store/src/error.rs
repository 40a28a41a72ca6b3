//! Why the store did not do as it was asked.

use comet_routing::Key;

use crate::QuotaExceeded;

/// What a read or a write of the store can come to instead of its result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The write would pass a limit; the store keeps what it has.
    #[error(transparent)]
    QuotaExceeded(#[from] QuotaExceeded),
    /// The disk did not take the write. Whether it got there is not known; it may be tried again.
    #[error("the store cannot write at the moment: {reason}")]
    Unwritable {
        /// What the system said.
        reason: String,
    },
    /// The disk could not be read.
    #[error("the store cannot read at the moment: {reason}")]
    Unreadable {
        /// What the system said.
        reason: String,
    },
    /// What is stored was damaged and is not served; a replica elsewhere may have a good copy.
    #[error("the object {} is damaged in this store: {reason}", .key.brief())]
    Corrupt {
        /// The object.
        key: Key,
        /// What was found.
        reason: String,
    },
    /// What the node saved about itself under a name was damaged.
    #[error("the entry {name:?} is damaged in this store: {reason}")]
    CorruptMeta {
        /// The entry.
        name: String,
        /// What was found.
        reason: String,
    },
    /// The record to be written is not what its version or its code's hash says.
    #[error("the record's content does not match its hash")]
    Mismatch,
    /// As many writes wait as may.
    #[error("the store has too much to do")]
    Overloaded,
    /// The store has stopped.
    #[error("the store has stopped")]
    Stopped,
}

impl StoreError {
    /// True if the same request may succeed later, without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unwritable { .. } | Self::Unreadable { .. } | Self::Overloaded => true,
            Self::QuotaExceeded(_)
            | Self::Corrupt { .. }
            | Self::CorruptMeta { .. }
            | Self::Mismatch
            | Self::Stopped => false,
        }
    }
}
