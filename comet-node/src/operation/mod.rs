//! What a node does with objects that live on several nodes: the decisions, without a clock or a socket.
//!
//! [`Write`] and [`Read`] say which replica to ask next and when enough have answered; [`Gate`] decides what
//! a request may do here; [`request`] turns what clients and objects want into requests and [`reply_of`]
//! turns what a replica did into a reply; [`Places`] and [`Rates`] bound what peers may ask at once and per
//! second. The actors in [`crate::actors`] drive them.

mod company;
mod gate;
mod mending;
mod pauses;
mod places;
mod purse;
mod rates;
mod reachability;
mod read;
mod region;
mod reply;
pub mod request;
mod rivals;
mod roster;
mod sequence;
mod write;

use std::time::{Duration, Instant};

use comet_runtime::Refusal;

use crate::{config::ReplicationConfig, wire::Reply};

pub use company::Company;
pub use gate::{Admitted, Gate};
pub use mending::{mender, strays};
pub use pauses::Pauses;
pub use places::{Place, Places};
pub use purse::{Plan, Purse};
pub use rates::{RateLimits, Rates};
pub use reachability::{OwnRole, PROBE_DEADLINE, Reachability, Role};
pub use read::{Read, ReadOutcome, ReadStep, Rule};
pub use region::{REGION_NODES, belongs_to};
pub use reply::reply_of;
pub use rivals::Rivals;
pub use roster::CANDIDATES_MAX;
pub use sequence::Sequence;
pub use write::{Write, WriteOutcome, WriteStep};

/// The longest that a client's operation may take.
const OPERATION_MAX: Duration = Duration::from_secs(60);

/// From when to when an operation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// When it was asked for.
    pub began: Instant,
    /// When it ends with what it has.
    pub deadline: Instant,
}

/// What this node's own replica said to a get before anybody else was asked.
#[derive(Clone, Debug)]
pub struct OwnSaid {
    /// Why it did not answer.
    pub refusal: Refusal,
    /// What the get may still cause.
    pub purse: Purse,
}

/// What came of asking one node.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It did what was asked.
    Reply(Reply),
    /// It is there and says no.
    Refused(Refusal),
    /// It did not answer, or not in words that this node understands.
    Failed(Refusal),
}

impl Period {
    /// `length` from `now` on.
    pub fn starting(now: Instant, length: Duration) -> Self {
        Self { began: now, deadline: now + length }
    }

    /// That of a client's operation that begins now: as long as the client wants, or else as is configured.
    pub fn of_client(now: Instant, wanted: Option<Duration>, config: &ReplicationConfig) -> Self {
        let configured = Duration::from_millis(config.deadline_ms);
        Self::starting(now, wanted.unwrap_or(configured).min(OPERATION_MAX))
    }

    /// What is left of it.
    pub fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// What those hear who waited in vain.
    pub fn timeout(&self) -> Refusal {
        let length = self.deadline.saturating_duration_since(self.began);
        Refusal::Timeout { deadline_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX) }
    }
}
