//! Kademlia for Comet: keys, contacts, the routing table, the iterative lookup and network coordinates.
//!
//! Everything here but [`clock`] and the actor is pure: the time and the randomness are arguments, and
//! nothing opens a socket. The crate knows neither MessagePack nor Lua.

pub mod clock;
mod contact;
mod key;

pub use contact::{Contact, Prefix};
pub use key::{CHILDREN_MAX, Distance, KEY_BYTES, Key, NodeId, ParseHexError};
