//! The node's own actors: who carries requests to peers, who answers theirs, who runs operations over them.
//!
//! Each is a shell: what to ask, whom, and when enough have answered is decided in [`crate::operation`].

mod coordinator;
mod courier;
mod prober;
mod replicator;
mod responder;
mod scout;
#[cfg(test)]
mod tests;

pub use coordinator::{
    Access, Coordinator, CoordinatorConfig, DeleteObject, GetFurther, GetObject, InspectObject, LookUp,
    PutObject, ReadLogs,
};
pub use courier::{Carry, Connect, Courier, CourierConfig, Overdue, RouterLinks};
pub use prober::{DialBack, Prober};
pub use replicator::{CheckSoon, Replicator, ReplicatorConfig, Surveyor};
pub use responder::{Desk, Responder, ResponderConfig};
pub use scout::Scout;
