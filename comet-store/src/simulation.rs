//! What stands in for a disk: one that simulated nodes plug in, and one on which the power is cut.

#[cfg(test)]
mod fault_sweep;
mod faulty_disk;
mod memory_disk;
mod partition;
mod power_cut;
mod untrusted;

pub use faulty_disk::Syncing;
pub use memory_disk::{DiskFault, MemoryDisk};
pub use power_cut::{PowerCutReport, power_cuts};
pub use untrusted::{read_stored, write_any};
