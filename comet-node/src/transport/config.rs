//! The transport's section of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits and times of the transport between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportConfig {
    /// Connections kept open; the least recently used idle one gives way to a new one.
    pub connections_max: usize,
    /// Connections that this node may be making at one time.
    pub dials_max: usize,
    /// Requests of this node under way at one time.
    pub asks_max: usize,
    /// Requests of peers under way at one time.
    pub requests_max: usize,
    /// Requests of one connection under way at one time.
    pub requests_per_connection_max: u32,
    /// Handshakes of peers under way at one time; further ones are refused.
    pub handshakes_max: usize,
    /// Handshakes under way from which on a peer of a counted network must prove its address before anything is kept
    /// for it, and before anything larger than its own packet is sent there; 0 has every such peer prove it.
    pub handshakes_unproven_max: usize,
    /// Handshakes under way from one network (IPv4 /24, IPv6 /48).
    pub handshakes_per_network_max: usize,
    /// Connections accepted from one network (IPv4 /24, IPv6 /48).
    pub connections_per_network_max: usize,
    /// Networks that the two limits above do not count.
    pub uncounted: Uncounted,
    /// How long a connection may take to be made, in milliseconds.
    pub dial_ms: u64,
    /// How long a peer's handshake may take, in milliseconds.
    pub handshake_ms: u64,
    /// How long a peer may take to send a request it began, or to take the answer, in milliseconds.
    pub progress_ms: u64,
    /// How long this node may take to answer a request, in milliseconds.
    pub answer_ms: u64,
    /// A connection without traffic for so long is dropped, in milliseconds.
    pub idle_ms: u64,
    /// Assumed round-trip time of a stranger, in milliseconds; an unanswered first packet is repeated after
    /// three times this.
    pub stranger_rtt_ms: u64,
    /// Bytes that one connection may have in flight towards this node.
    pub receive_window_bytes: u32,
}

/// Whose connections are not limited by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Uncounted {
    /// Everybody is counted.
    Nobody,
    /// This machine.
    Loopback,
    /// This machine and private networks (RFC 1918, RFC 4193, link-local).
    Private,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            connections_max: 512,
            dials_max: 256,
            asks_max: 4096,
            requests_max: 4096,
            requests_per_connection_max: 256,
            handshakes_max: 256,
            handshakes_unproven_max: 0,
            handshakes_per_network_max: 16,
            connections_per_network_max: 32,
            uncounted: Uncounted::Loopback,
            dial_ms: 5_000,
            handshake_ms: 5_000,
            progress_ms: 10_000,
            answer_ms: 30_000,
            idle_ms: 30_000,
            // Three times this is the 300 ms that a stranger gets before it is suspect, so the first packet is
            // sent twice by then.
            stranger_rtt_ms: 50,
            receive_window_bytes: 1024 * 1024,
        }
    }
}

/// Largest configurable time: an hour, so that arithmetic on it never overflows.
const MS_MAX: u64 = 60 * 60 * 1000;

/// A configured time, kept between a millisecond and an hour.
pub(super) fn duration(ms: u64) -> Duration {
    Duration::from_millis(ms.clamp(1, MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_where_arithmetic_is_safe() {
        assert_eq!(duration(0), Duration::from_millis(1));
        assert_eq!(duration(u64::MAX), Duration::from_secs(3600));
        assert_eq!(duration(250), Duration::from_millis(250));
    }
}
