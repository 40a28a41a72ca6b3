//! Kademlia for Comet: keys, contacts, the routing table, the iterative lookup and network coordinates.
//!
//! Everything here but [`clock`] and the actor is pure: the time and the randomness are arguments, and
//! nothing opens a socket. The crate knows neither MessagePack nor Lua.

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

#[allow(clippy::arithmetic_side_effects)]
pub mod actor;
mod bucket;
pub mod clock;
mod contact;
pub mod coordinates;
mod density;
pub mod diversity;
mod key;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod lookup;
mod lost;
#[allow(clippy::arithmetic_side_effects)]
mod probes;
#[allow(clippy::arithmetic_side_effects)]
pub mod rtt;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod sim;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
mod survey;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod table;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod timeouts;
pub mod view;
mod vouched;

pub use actor::{Router, RouterConfig};
pub use contact::{Contact, Prefix};
pub use coordinates::Coordinate;
pub use density::Prospects;
pub use diversity::{Diversity, PrivateRanges, is_private};
pub use key::{CHILDREN_MAX, Distance, KEY_BYTES, Key, NodeId, ParseHexError};
pub use lookup::{Ended, Lookup, LookupConfig, Outcome, Step};
pub use rtt::Rtt;
pub use survey::PATHS_MAX;
pub use table::{Admission, RoutingTable, Suspicion, TableConfig};
pub use timeouts::Timeouts;
pub use view::TableView;
