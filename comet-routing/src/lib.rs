//! Kademlia for Comet: keys, contacts, the routing table, the iterative lookup and network coordinates.
//!
//! Everything here but [`clock`] and the actor is pure: the time and the randomness are arguments, and
//! nothing opens a socket. The crate knows neither MessagePack nor Lua.

pub mod actor;
mod bucket;
pub mod clock;
mod contact;
pub mod coordinates;
pub mod diversity;
mod key;
pub mod lookup;
mod lost;
mod probes;
pub mod rtt;
pub mod sim;
mod survey;
pub mod table;
pub mod timeouts;

pub use actor::{Router, RouterConfig};
pub use contact::{Contact, Prefix};
pub use coordinates::Coordinate;
pub use diversity::{Diversity, PrivateRanges, is_private};
pub use key::{CHILDREN_MAX, Distance, KEY_BYTES, Key, NodeId, ParseHexError};
pub use lookup::{Ended, Lookup, LookupConfig, Outcome, Step};
pub use rtt::Rtt;
pub use survey::PATHS_MAX;
pub use table::{Admission, RoutingTable, Suspicion, TableConfig};
pub use timeouts::Timeouts;
