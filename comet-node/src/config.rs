//! What an operator can set, section by section.
//!
//! A [`NodeConfig`] is put together from four layers, the later ones winning: the defaults, a `comet.toml`,
//! `COMET_*` environment variables and the command line ([`Layers`]). docs/configuration.md lists every key.

mod check;
mod layers;
mod token;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use comet_runtime::{CallerAddresses, Limits};
use comet_store::StoreConfig;
use serde::{Deserialize, Serialize};

use crate::{key_text::parse_hex, transport::TransportConfig};

pub use layers::{ConfigError, Flags, Layers};

/// The port on which nodes speak to each other.
pub const PEER_PORT: u16 = 7400;

/// The port on which a node answers HTTP.
pub const HTTP_PORT: u16 = 7480;

/// The name of the network that a node belongs to unless it is told otherwise.
pub const DEFAULT_NETWORK: &str = "comet";

/// The shortest HTTP token that is accepted: 128 bits in hexadecimal digits, if chance chose them.
pub const TOKEN_CHARS_MIN: usize = 32;

/// The longest name of a network.
pub const NETWORK_BYTES_MAX: usize = 64;

/// Everything that can be set about a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Where the node lives and whom it knows.
    pub node: NodeSection,
    /// The interface for clients.
    pub http: HttpConfig,
    /// The interface for BitTorrent clients.
    pub tracker: TrackerConfig,
    /// The interface for Redis clients.
    pub resp: RespConfig,
    /// What an object may be and use.
    pub limits: Limits,
    /// The replica store.
    pub store: StoreConfig,
    /// The transport between nodes.
    pub transport: TransportConfig,
    /// The routing table.
    pub routing: RoutingConfig,
    /// Copies and lifetimes.
    pub replication: ReplicationConfig,
    /// Where and with what rights handlers run.
    pub runtime: RuntimeConfig,
}

/// `[routing]`: the routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoutingConfig {
    /// Whether the limits per network, of the table and of requests per second, hold for loopback and private
    /// addresses, too.
    pub private_ranges: PrivateNetworks,
}

/// How the routing table counts loopback and private addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivateNetworks {
    /// They share no limit: any number of nodes may run on one machine or in one office.
    #[default]
    Exempt,
    /// They count like any other network.
    Counted,
}

/// `[node]`: where a node lives and whom it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSection {
    /// UDP address on which other nodes reach this one.
    pub listen: SocketAddr,
    /// Directory of the node's identity and store.
    pub data: PathBuf,
    /// Nodes to join through, as `HOST:PORT`; none starts a swarm of its own.
    pub peers: Vec<String>,
    /// Name of the network; nodes of different networks do not talk to each other.
    pub network: String,
    /// Whether to find nodes on the local network, and be found, by multicast DNS.
    pub mdns: bool,
}

/// `[http]`: the interface for clients.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// TCP address of the interface.
    pub listen: SocketAddr,
    /// Bearer token that every request but `/healthz` must carry; needed off loopback.
    pub token: Option<String>,
    /// Names, besides loopback and `listen`, under which clients may address the node.
    pub allowed_hosts: Vec<String>,
    /// Open connections, over all threads.
    pub connections_max: usize,
    /// Threads that serve connections.
    pub workers: usize,
    /// Time that a client has to send a request's head, and an idle connection stays open, in seconds.
    pub idle_seconds: u64,
    /// Time that a client has to send a request's body, in seconds.
    pub body_seconds: u64,
}

/// `[tracker]`: the interface for BitTorrent clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrackerConfig {
    /// TCP address on which the node is a BitTorrent tracker; without one it is none.
    pub listen: Option<SocketAddr>,
    /// Open connections.
    pub connections_max: usize,
    /// Time that a client has to send a request's head, and an idle connection stays open, in seconds.
    pub idle_seconds: u64,
}

/// `[resp]`: the interface for Redis clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RespConfig {
    /// TCP address on which the node answers Redis clients; without one it does not.
    pub listen: Option<SocketAddr>,
    /// Open connections.
    pub connections_max: usize,
    /// Time that an idle connection stays open, in seconds.
    pub idle_seconds: u64,
}

/// `[replication]`: copies and lifetimes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicationConfig {
    /// Replicas of an object that asks for no number, 1 to [`comet_runtime::REPLICAS_MAX`].
    pub replicas: u8,
    /// Acknowledgements that a put waits for; a majority of the replicas if not set.
    pub write_quorum: Option<u8>,
    /// Lifetime of an object that asks for none, in seconds.
    pub ttl_seconds: u64,
    /// Shortest lifetime that an object may ask for, in seconds.
    pub ttl_seconds_min: u64,
    /// Longest lifetime that an object may ask for, in seconds.
    pub ttl_seconds_max: u64,
    /// Time after which an operation gives up, unless the client chose another, in milliseconds.
    pub deadline_ms: u64,
    /// Time in which every object's replicas are checked once, ± 20 %, in seconds.
    pub upkeep_seconds: u64,
    /// What upkeep may send, in bytes per second: about a fifth of what the node's line takes.
    pub upkeep_bytes_per_second: u64,
}

/// `[runtime]`: where and with what rights handlers run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Whom handlers may address.
    pub contact: ContactPolicy,
    /// How much of the address of the node that a request came through handlers see.
    pub caller_addresses: CallerAddresses,
    /// Public keys, as 64 hexadecimal digits, of the publishers whose code may address anyone.
    pub publishers: Vec<String>,
    /// Threads that run handlers; 0 for one less than the machine has cores, at least one.
    pub workers: usize,
    /// Seconds of CPU time that one object may use in a day.
    pub cpu_seconds_per_day: u64,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            contact: ContactPolicy::default(),
            caller_addresses: CallerAddresses::default(),
            publishers: Vec::new(),
            workers: 0,
            cpu_seconds_per_day: 10,
        }
    }
}

impl RuntimeConfig {
    /// The public keys of the trusted publishers. What is no key, which the check refuses, is left out.
    pub fn trusted(&self) -> BTreeSet<[u8; 32]> {
        self.publishers.iter().filter_map(|text| parse_hex(text)).collect()
    }
}

/// Whom handlers may address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactPolicy {
    /// The replicas of their own key, and whoever contacted them, once per contact.
    #[default]
    Strict,
    /// Anyone; for private swarms.
    Open,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PEER_PORT),
            data: PathBuf::from("comet-data"),
            peers: Vec::new(),
            network: DEFAULT_NETWORK.to_owned(),
            mdns: false,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), HTTP_PORT),
            token: None,
            allowed_hosts: Vec::new(),
            connections_max: 1024,
            workers: 2,
            idle_seconds: 10,
            body_seconds: 10,
        }
    }
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self { listen: None, connections_max: 1024, idle_seconds: 10 }
    }
}

impl Default for RespConfig {
    fn default() -> Self {
        Self { listen: None, connections_max: 1024, idle_seconds: 300 }
    }
}

impl Default for ReplicationConfig {
    fn default() -> Self {
        Self {
            replicas: 8,
            write_quorum: None,
            ttl_seconds: 24 * 3600,
            ttl_seconds_min: 60,
            ttl_seconds_max: 30 * 24 * 3600,
            deadline_ms: 5_000,
            upkeep_seconds: 3_600,
            upkeep_bytes_per_second: 1_000_000,
        }
    }
}

impl fmt::Debug for HttpConfig {
    /// Everything but the token, so that no log can disclose it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("allowed_hosts", &self.allowed_hosts)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../docs/configuration.md");

    #[test]
    fn every_default_key_is_in_the_reference_with_its_default() {
        for (key, default) in layers::known_keys() {
            let (section, name) = key.split_once('.').expect("every key is in a section");
            let row = format!("| `{name}` | `{default}` |");
            let heading = format!("\n## [{section}]\n");
            let text =
                REFERENCE.split(&heading).nth(1).unwrap_or_else(|| panic!("no heading for [{section}]"));
            let text = text.split("\n## ").next().unwrap_or(text);
            assert!(text.contains(&row), "docs/configuration.md, [{section}] lacks the row {row}");
        }
    }

    #[test]
    fn no_token_is_ever_printed() {
        let config = HttpConfig { token: Some("sesame".repeat(6)), ..HttpConfig::default() };
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
