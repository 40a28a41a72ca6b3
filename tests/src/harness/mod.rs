//! A whole swarm in one thread and in simulated time.
//!
//! Every node is a real one: the actors of `comet-node`, the sandbox, the store's actor. What is replaced is
//! the transport, by a [`Wire`] that delays, loses and repeats packets as a seed says, and the disk, by
//! memory. Time passes only when nobody has anything left to do, so an hour takes seconds and a seed tells
//! the whole story: the same one gives the same [`trace`], packet for packet.
//!
//! [`Sim`] tells a story, [`Cluster`] is who takes part in it.

mod check;
mod cluster;
mod mixture;
mod network;
mod node;
mod oracle;
mod panics;
mod sim;
pub mod trace;
mod transport;
mod wire;

pub use cluster::{Cluster, Homes};
pub use mixture::Mixture;
pub use network::{HELD_BACK_MS_MAX, Latency, Network, Weather};
pub use node::SimNode;
pub use oracle::{Oracle, Promise};
pub use sim::{Failure, Seeded, Sim};
pub use transport::SimTransport;
pub use wire::Wire;
