//! Keeping replicas where they belong, after the put.
//!
//! Nodes come and go, so the nodes closest to a key change, and a node that was away comes back with old
//! copies. Every holder of an object therefore checks now and then which nodes should hold it
//! (design of Kademlia, section 2.5, with digests as in Dynamo's anti-entropy, section 4.7): it tells them
//! the versions that it has, sends copies to those who lack the object or hold an older version, and drops
//! its own copy once others are responsible and have had it for a while.
//!
//! Decisions are made here without a clock or a socket: [`Check`] for one object, [`Batch`] for what is asked
//! together, [`Agenda`] for what is checked when, [`Budget`] for how fast copies may travel, [`compare`] for
//! what a node answers. The actor in [`crate::actors`] drives them.

mod agenda;
mod batch;
mod budget;
mod check;
mod compare;
mod counters;

pub use agenda::Agenda;
pub use batch::{Batch, Copy, Digest};
pub use budget::Budget;
pub use check::{Check, Conclusion, Copied};
pub use compare::compare;
pub use counters::{UpkeepCounters, UpkeepCounts};
