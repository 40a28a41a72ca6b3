//! Comet's system tests. The suites are in `tests/`; this library holds what they share.

pub mod colluders;
pub mod compare;
pub mod fuzzing;
pub mod harness;
pub mod load;
pub mod peer;
pub mod process;
pub mod resilience;
pub mod source;
