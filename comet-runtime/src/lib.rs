//! The active runtime: values, the sandbox, handlers and their budgets.

pub mod dht;
mod limits;
mod refusal;
mod value;

pub use limits::Limits;
pub use refusal::{Failure, Refusal};
pub use value::Value;
