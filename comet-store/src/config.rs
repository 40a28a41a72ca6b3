//! What an operator can set about a store.

use serde::{Deserialize, Serialize};

/// Limits and habits of one node's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Bytes that all records, their code (once per distinct source) and their logs may take.
    pub bytes_max: u64,
    /// Records that the node holds at most.
    pub records_max: u64,
    /// Bytes that the records of one owner's public key may take.
    pub bytes_per_owner: u64,
    /// Records of one owner's public key.
    pub records_per_owner: u64,
    /// Bytes that records put from one network (IPv4 /24, IPv6 /48) may take.
    pub bytes_per_source: u64,
    /// Records put from one network.
    pub records_per_source: u64,
    /// How long a group of writes stays open while more keep arriving, in milliseconds.
    pub group_ms_max: u64,
    /// Writes in one group.
    pub group_writes_max: usize,
    /// When a write counts as done.
    pub durability: Durability,
    /// How long a deletion is remembered, in seconds: longer than any record may live, so that a replica
    /// that was away cannot bring the object back.
    pub tombstone_ttl_seconds: u64,
    /// Deletions remembered at a time; beyond it, the network with most of them forgets one. No network and no owner
    /// has more than a quarter.
    pub tombstones_max: u64,
    /// How often expired records and tombstones are swept out, in milliseconds.
    pub sweep_interval_ms: u64,
    /// Records, and as many tombstones, that one sweep takes.
    pub sweep_max: usize,
    /// Memory for pages of the data file, in bytes.
    pub cache_bytes: usize,
    /// Writes that wait in the store's mailbox; further ones are refused to the sender.
    pub queue_max: usize,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Once its group is on the disk.
    #[default]
    Commit,
    /// Once its group is in memory; the disk follows every second, as with Redis' `appendfsync everysec`.
    Interval,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            bytes_max: 4 << 30,
            records_max: 1_000_000,
            bytes_per_owner: 256 << 20,
            records_per_owner: 100_000,
            bytes_per_source: 1 << 30,
            records_per_source: 250_000,
            group_ms_max: 5,
            group_writes_max: 256,
            durability: Durability::Commit,
            tombstone_ttl_seconds: 31 * 24 * 60 * 60,
            tombstones_max: 100_000,
            sweep_interval_ms: 1_000,
            sweep_max: 256,
            cache_bytes: 32 << 20,
            queue_max: 1_024,
        }
    }
}
