//! What one Comet replica holds: records, their owners and versions, expiry, quotas, and the engine that
//! keeps them across a power cut.
//!
//! The crate does not know what the code inside a record means.

// What strangers send must not end a node: these hold everywhere, but in modules that are excused one by one because
// they count and index what the node itself made.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unreachable
    )
)]

mod actor;
mod codec;
mod config;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
mod engine;
mod error;
mod expected;
mod group;
mod ledger;
#[allow(clippy::expect_used)]
mod open;
mod ownership;
mod publication;
#[allow(clippy::arithmetic_side_effects)]
mod quota;
mod reader;
mod record;
#[cfg(any(test, feature = "simulation"))]
mod sample;
mod seal;
#[cfg(any(test, feature = "simulation"))]
#[allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing)]
pub mod simulation;
mod source;
#[allow(clippy::arithmetic_side_effects)]
mod tally;
#[allow(clippy::arithmetic_side_effects)]
mod writer;

pub use actor::{
    DeleteRecord, Flush, PutAndTell, PutRecord, RecordExpired, ReleaseRecord, ReplicaStore, SaveLog,
    SaveMeta, SaveState,
};
pub use codec::{LOG_BYTES_MAX, META_BYTES_MAX, RECORD_BYTES_MAX};
pub use config::{Durability, StoreConfig};
pub use engine::redb::catches_panics;
pub use error::StoreError;
pub use expected::Expected;
pub use open::{OpenError, in_memory, open};
pub use ownership::{Act, Ownership, OwnershipError, Statement};
pub use publication::{Publication, PublicationError};
pub use quota::{Quota, QuotaExceeded, RECORD_OVERHEAD_BYTES};
pub use reader::{Held, StoreReader, Totals};
pub use record::{Code, Deletion, Hash, Record, Version, content_hash, data_hash};
pub use seal::{Seal, SealedObject, Shown};
pub use source::Source;
pub use writer::{Deleted, PutOutcome, Rule, StoreWriter};
