//! The active runtime: values, the sandbox, handlers and their budgets.

pub mod actors;
mod blame;
mod codec;
pub mod contact_policy;
pub mod cpu;
pub mod dht;
mod event;
mod limits;
mod object;
pub mod object_log;
mod policy;
mod refusal;
mod rules;
mod sandbox;
mod state;
pub mod testing;
pub mod timers;
mod value;
pub mod visit;

pub use blame::failure_rates;
pub use codec::{Bounds, DecodeError, ELEMENTS_MAX, NODE_EXT};
pub use contact_policy::Reach;
pub use event::{Caller, Event, Nodes, Op, OpOutcome, OpResult, Origin, Outcome, Request, Trail, WaitId};
pub use limits::Limits;
pub use object::{ActivationError, Blueprint, HANDLERS, InvocationId, Moment, Object, Progress, Report};
pub use policy::{Policy, REPLICAS_MAX};
pub use refusal::{Failure, Refusal};
pub use sandbox::{Backstop, pool::VmPool, sandbox_globals, watch::TurnWatch};
pub use value::Value;
