//! The active runtime: values, the sandbox, handlers and their budgets.

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

#[allow(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing)]
pub mod actors;
#[allow(clippy::arithmetic_side_effects)]
mod blame;
mod caller_address;
#[allow(clippy::arithmetic_side_effects)]
mod claims;
mod codec;
pub mod contact_policy;
#[allow(clippy::arithmetic_side_effects)]
pub mod cpu;
#[allow(clippy::arithmetic_side_effects)]
pub mod dht;
mod event;
mod limits;
mod object;
pub mod object_log;
#[allow(clippy::arithmetic_side_effects)]
mod patience;
mod policy;
mod refusal;
mod rules;
mod sandbox;
mod shares;
mod state;
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
pub mod testing;
#[allow(clippy::arithmetic_side_effects)]
pub mod timers;
mod value;
pub mod visit;

pub use blame::failure_rates;
pub use caller_address::{CallerAddresses, is_veiled};
pub use claims::Condition;
pub use codec::{Bounds, DecodeError, ELEMENTS_MAX, NODE_EXT};
pub use contact_policy::Reach;
pub use event::{Caller, Event, Nodes, Op, OpOutcome, OpResult, Origin, Outcome, Request, Trail, WaitId};
pub use limits::Limits;
pub use object::{
    ActivationError, Blueprint, HANDLERS, InvocationId, Moment, Most, Object, Progress, Report, Series,
};
pub use policy::{Policy, REPLICAS_MAX};
pub use refusal::{Failure, Refusal};
pub use sandbox::{Backstop, pool::VmPool, sandbox_globals, watch::TurnWatch};
pub use state::as_sent;
pub use value::Value;
