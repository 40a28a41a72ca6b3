//! What a writer asks of the store, and what became of it.

use crate::{Expected, Version};

/// When a record that arrives takes the place of what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Only if its version is higher than that of the record held and that of a remembered deletion.
    IfNewer,
    /// As [`Rule::IfNewer`], but not in the place of an object, whose handlers have to be asked.
    IfPlain,
    /// As [`Rule::IfNewer`], and only in the place of what the writer expects to be held.
    IfExpected(Expected),
    /// Always: the object's own handlers decided.
    Replace,
}

/// What became of a record that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// It is stored.
    Stored {
        /// The version that it took the place of.
        replaced: Option<Version>,
    },
    /// This very version was held; its expiry was put off if the arriving one was later and no owner signed
    /// the version: what an owner signed for a time is not kept longer because somebody sends it again.
    Unchanged,
    /// Something else is held than the writer expected; nothing was stored.
    Unexpected {
        /// What is held.
        held: Option<Version>,
    },
    /// An object is held, and nothing was stored.
    HasHandlers,
    /// A higher version is held, or was deleted; nothing was stored.
    Stale {
        /// That version.
        held: Version,
    },
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The record is gone.
    Gone,
    /// There was none.
    NotHeld,
}
