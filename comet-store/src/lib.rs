//! What one Comet replica holds: records, their owners and versions, expiry, quotas, and the engine that
//! keeps them across a power cut.
//!
//! The crate does not know what the code inside a record means.

mod actor;
mod codec;
mod config;
mod engine;
mod error;
mod group;
mod ledger;
mod open;
mod ownership;
mod publication;
mod quota;
mod reader;
mod record;
#[cfg(any(test, feature = "simulation"))]
mod sample;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod source;
mod tally;
mod writer;

pub use actor::{
    DeleteRecord, Flush, PutRecord, RecordExpired, ReleaseRecord, ReplicaStore, SaveLog, SaveMeta, SaveState,
};
pub use codec::{LOG_BYTES_MAX, META_BYTES_MAX, RECORD_BYTES_MAX};
pub use config::{Durability, StoreConfig};
pub use engine::redb::catches_panics;
pub use error::StoreError;
pub use open::{OpenError, in_memory, open};
pub use ownership::{Act, Ownership, OwnershipError, Statement};
pub use publication::{Publication, PublicationError};
pub use quota::{Quota, QuotaExceeded, RECORD_OVERHEAD_BYTES};
pub use reader::{Held, StoreReader, Totals};
pub use record::{Code, Deletion, Hash, Record, Version, content_hash};
pub use source::Source;
pub use writer::{Deleted, PutOutcome, Rule, StoreWriter};
