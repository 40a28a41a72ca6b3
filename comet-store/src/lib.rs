//! What one Comet replica holds: records, their owners and versions, expiry, quotas, and the engine that
//! keeps them across a power cut.
//!
//! The crate does not know what the code inside a record means.

mod ownership;
mod record;

pub use ownership::{Act, Ownership, OwnershipError, Statement};
pub use record::{Code, Hash, Record, Version, content_hash};
