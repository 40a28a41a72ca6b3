//! What no single type can check: ranges, and settings that depend on each other.
//!
//! Zero is refused wherever it would make every object fail rather than switch something off.

use comet_runtime::{Limits, REPLICAS_MAX};
use comet_store::StoreConfig;

use super::{
    ConfigError, HttpConfig, NETWORK_BYTES_MAX, NodeConfig, NodeSection, ReplicationConfig, RespConfig,
    TOKEN_CHARS_MIN, TrackerConfig, token::is_guessable,
};
use crate::{
    key_text::parse_hex,
    wire::{CODE_BYTES_MAX, LOG_LINES_MAX, TEXT_BYTES_MAX, VALUE_BYTES_MAX},
};

/// Deepest nesting of a value: a state nests its fields two levels deeper, and the codec reads 32 levels.
const DEPTH_MAX: usize = 30;

/// Longest timer interval: 30 days, as long as an object may live.
const TIMER_SECONDS_MAX: u64 = 30 * 24 * 3600;

impl NodeConfig {
    /// Checks what no single type can: ranges, and settings that depend on each other.
    ///
    /// An error names the key and says what it wants.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_node(&self.node)?;
        check_http(&self.http)?;
        check_tracker(&self.tracker)?;
        check_resp(&self.resp, &self.http)?;
        check_limits(&self.limits)?;
        check_replication(&self.replication)?;
        check_store(&self.store, &self.replication)?;
        check_publishers(&self.runtime.publishers)?;
        let day = 1..=24 * 3_600;
        check("runtime.cpu_seconds_per_day", day.contains(&self.runtime.cpu_seconds_per_day), "1 to 86400")?;
        check("runtime.workers", self.runtime.workers <= 1024, "at most 1024")
    }
}

fn check_publishers(publishers: &[String]) -> Result<(), ConfigError> {
    let keys = publishers.iter().all(|text| parse_hex::<32>(text).is_some());
    check("runtime.publishers", keys, "public keys of 64 hexadecimal digits")
}

fn check_node(node: &NodeSection) -> Result<(), ConfigError> {
    let named = (1..=NETWORK_BYTES_MAX).contains(&node.network.len());
    check("node.network", named, "1 to 64 bytes of text")?;
    check("node.peers", node.peers.iter().all(|peer| is_host_and_port(peer)), "entries like HOST:PORT")
}

fn check_http(http: &HttpConfig) -> Result<(), ConfigError> {
    let long_enough = http.token.as_ref().is_none_or(|token| token.len() >= TOKEN_CHARS_MIN);
    check("http.token", long_enough, "at least 32 characters; `comet-node token FILE` makes a good one")?;
    let secret = http.token.as_ref().is_none_or(|token| !is_guessable(token));
    check("http.token", secret, "characters chosen by chance; `comet-node token FILE` makes a good one")?;
    let open = !http.listen.ip().to_canonical().is_loopback() && http.token.is_none();
    check("http.token", !open, "a value when http.listen is not a loopback address")?;
    check("http.connections_max", http.connections_max >= 1, "at least 1")?;
    check("http.workers", (1..=256).contains(&http.workers), "1 to 256")?;
    check("http.idle_seconds", (1..=3600).contains(&http.idle_seconds), "1 to 3600")?;
    check("http.body_seconds", (1..=3600).contains(&http.body_seconds), "1 to 3600")
}

fn check_tracker(tracker: &TrackerConfig) -> Result<(), ConfigError> {
    check("tracker.connections_max", tracker.connections_max >= 1, "at least 1")?;
    check("tracker.idle_seconds", (1..=3600).contains(&tracker.idle_seconds), "1 to 3600")
}

fn check_resp(resp: &RespConfig, http: &HttpConfig) -> Result<(), ConfigError> {
    let outside = resp.listen.is_some_and(|listen| !listen.ip().to_canonical().is_loopback());
    let open = outside && http.token.is_none();
    check("http.token", !open, "a value when resp.listen is not a loopback address")?;
    check("resp.connections_max", (1..=65_536).contains(&resp.connections_max), "1 to 65536")?;
    check("resp.idle_seconds", (10..=86_400).contains(&resp.idle_seconds), "10 to 86400")
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    check("limits.value_bytes", (1..=VALUE_BYTES_MAX).contains(&limits.value_bytes), "1 to 65536")?;
    check("limits.code_bytes", (1..=CODE_BYTES_MAX).contains(&limits.code_bytes), "1 to 16384")?;
    check("limits.reply_bytes", (1..=VALUE_BYTES_MAX).contains(&limits.reply_bytes), "1 to 65536")?;
    check("limits.name_bytes", (1..=4096).contains(&limits.name_bytes), "1 to 4096")?;
    check("limits.depth", limits.depth <= DEPTH_MAX, "at most 30")?;
    for (key, holds) in [
        ("limits.message_bytes", limits.message_bytes > 0),
        ("limits.steps", limits.steps > 0),
        ("limits.turn_ms", limits.turn_ms > 0),
        ("limits.invocation_ms", limits.invocation_ms > 0),
        ("limits.memory_bytes", limits.memory_bytes > 0),
        ("limits.turn_alloc_bytes", limits.turn_alloc_bytes > 0),
        ("limits.waits", limits.waits > 0),
        ("limits.queue", limits.queue > 0),
        ("limits.capabilities", limits.capabilities > 0),
        ("limits.timer_seconds_min", limits.timer_seconds_min > 0),
    ] {
        check(key, holds, "at least 1")?;
    }
    let intervals = limits.timer_seconds_min..=TIMER_SECONDS_MAX;
    check(
        "limits.timer_seconds",
        intervals.contains(&limits.timer_seconds),
        "a time from timer_seconds_min to 2592000",
    )?;
    check("limits.log_lines", (1..=LOG_LINES_MAX).contains(&limits.log_lines), "1 to 64")?;
    check("limits.log_line_bytes", (1..=TEXT_BYTES_MAX).contains(&limits.log_line_bytes), "1 to 1024")
}

fn check_replication(replication: &ReplicationConfig) -> Result<(), ConfigError> {
    check("replication.replicas", (1..=REPLICAS_MAX).contains(&replication.replicas), "1 to 20")?;
    let quorum = replication.write_quorum.unwrap_or(1);
    check("replication.write_quorum", (1..=REPLICAS_MAX).contains(&quorum), "1 to 20")?;
    let ttls = replication.ttl_seconds_min..=replication.ttl_seconds_max;
    check(
        "replication.ttl_seconds",
        ttls.contains(&replication.ttl_seconds),
        "a time from ttl_seconds_min to ttl_seconds_max",
    )?;
    check("replication.deadline_ms", (1..=60_000).contains(&replication.deadline_ms), "1 to 60000")?;
    check("replication.upkeep_seconds", (10..=86_400).contains(&replication.upkeep_seconds), "10 to 86400")?;
    check(
        "replication.upkeep_bytes_per_second",
        replication.upkeep_bytes_per_second >= 1_000,
        "at least 1000",
    )
}

fn check_store(store: &StoreConfig, replication: &ReplicationConfig) -> Result<(), ConfigError> {
    for (key, holds) in [
        ("store.bytes_max", store.bytes_max > 0),
        ("store.records_max", store.records_max > 0),
        ("store.bytes_per_owner", store.bytes_per_owner > 0),
        ("store.records_per_owner", store.records_per_owner > 0),
        ("store.bytes_per_source", store.bytes_per_source > 0),
        ("store.records_per_source", store.records_per_source > 0),
        ("store.group_ms_max", store.group_ms_max > 0),
        ("store.group_writes_max", store.group_writes_max > 0),
        ("store.tombstones_max", store.tombstones_max > 0),
        ("store.sweep_interval_ms", store.sweep_interval_ms > 0),
        ("store.sweep_max", store.sweep_max > 0),
        ("store.cache_bytes", store.cache_bytes > 0),
        ("store.queue_max", store.queue_max > 0),
    ] {
        check(key, holds, "at least 1")?;
    }
    check(
        "store.tombstone_ttl_seconds",
        store.tombstone_ttl_seconds >= replication.ttl_seconds_max,
        "no less than replication.ttl_seconds_max",
    )
}

fn check(key: &'static str, holds: bool, wants: &'static str) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Unfit { origin: None, key, wants }) }
}

/// True for `host:port` and `[v6 address]:port`; names are resolved later.
fn is_host_and_port(peer: &str) -> bool {
    peer.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && (bracketed || !host.contains(':'))
            && port.parse().is_ok_and(|port: u16| port != 0)
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use comet_runtime::{Bounds, Value};
    use serde_json::json;

    use super::*;

    /// 128 bits from a generator.
    const TOKEN: &str = "9b2f6c01d4e87a35f0c6b18e2d7943aa";

    /// What the check says of the defaults with a change: the key, and what it wants.
    fn refused(change: impl FnOnce(&mut NodeConfig)) -> Option<(&'static str, &'static str)> {
        let mut config = NodeConfig::default();
        change(&mut config);
        match config.check() {
            Ok(()) => None,
            Err(ConfigError::Unfit { key, wants, .. }) => Some((key, wants)),
            Err(error) => panic!("{error}"),
        }
    }

    fn unfit(change: impl FnOnce(&mut NodeConfig)) -> Option<&'static str> {
        refused(change).map(|(key, _)| key)
    }

    /// What the check says of the defaults with one number set.
    fn set(section: &str, name: &str, number: u64) -> Option<(&'static str, &'static str)> {
        let mut sections = serde_json::to_value(NodeConfig::default()).unwrap();
        sections[section][name] = json!(number);
        refused(|config| *config = serde_json::from_value(sections).unwrap())
    }

    #[test]
    fn the_defaults_are_fit() {
        assert_eq!(NodeConfig::default().check(), Ok(()));
    }

    #[test]
    fn off_loopback_a_token_is_needed() {
        let everywhere: SocketAddr = "0.0.0.0:7480".parse().unwrap();
        assert_eq!(unfit(|config| config.http.listen = everywhere), Some("http.token"));
        assert_eq!(
            unfit(|config| {
                config.http.listen = everywhere;
                config.http.token = Some(TOKEN.to_owned());
            }),
            None
        );
        assert_eq!(unfit(|config| config.http.listen = "[::ffff:127.0.0.1]:1".parse().unwrap()), None);
    }

    #[test]
    fn short_tokens_and_those_that_can_be_guessed_are_refused() {
        let verdict = |token: &str| unfit(|config| config.http.token = Some(token.to_owned()));
        assert_eq!(verdict(TOKEN), None);
        assert_eq!(verdict(&TOKEN[..31]), Some("http.token"));
        assert_eq!(verdict(&"t".repeat(64)), Some("http.token"));
    }

    #[test]
    fn a_tracker_may_be_open_to_everybody_but_wants_connections_and_a_time_limit() {
        let everywhere = "0.0.0.0:6969".parse().ok();
        assert_eq!(unfit(|config| config.tracker.listen = everywhere), None);
        assert_eq!(unfit(|config| config.tracker.connections_max = 0), Some("tracker.connections_max"));
        assert_eq!(unfit(|config| config.tracker.idle_seconds = 0), Some("tracker.idle_seconds"));
    }

    #[test]
    fn redis_clients_off_loopback_need_the_token_and_there_are_connections_and_a_time_limit() {
        let everywhere = "0.0.0.0:7379".parse().ok();
        assert_eq!(unfit(|config| config.resp.listen = "127.0.0.1:7379".parse().ok()), None);
        assert_eq!(unfit(|config| config.resp.listen = everywhere), Some("http.token"));
        let with_token = unfit(|config| {
            config.resp.listen = everywhere;
            config.http.token = Some(TOKEN.to_owned());
        });
        assert_eq!(with_token, None);
        assert_eq!(unfit(|config| config.resp.connections_max = 0), Some("resp.connections_max"));
        assert_eq!(unfit(|config| config.resp.idle_seconds = 0), Some("resp.idle_seconds"));
    }

    #[test]
    fn publishers_are_public_keys() {
        let publishers = |text: &str| unfit(|config| config.runtime.publishers = vec![text.to_owned()]);
        assert_eq!(publishers(&"aB".repeat(32)), None);
        for bad in ["", "alice", &"ab".repeat(31), &"xy".repeat(32)] {
            assert_eq!(publishers(bad), Some("runtime.publishers"), "{bad}");
        }
    }

    #[test]
    fn peers_are_hosts_with_ports() {
        let peers = |text: &str| unfit(|config| config.node.peers = vec![text.to_owned()]);
        for good in ["10.0.0.1:7400", "comet.example:7400", "[::1]:7400"] {
            assert_eq!(peers(good), None, "{good}");
        }
        for bad in ["", "10.0.0.1", "10.0.0.1:0", "::1:7400", ":7400", "host:70000"] {
            assert_eq!(peers(bad), Some("node.peers"), "{bad}");
        }
    }

    #[test]
    fn the_default_lifetime_lies_in_the_allowed_range() {
        let key = Some("replication.ttl_seconds");
        assert_eq!(unfit(|config| config.replication.ttl_seconds = 59), key);
        assert_eq!(unfit(|config| config.replication.ttl_seconds_max = 86_399), key);
    }

    #[test]
    fn only_what_can_be_switched_off_may_be_zero() {
        let sections = serde_json::to_value(NodeConfig::default()).unwrap();
        let free = ["depth", "messages"];
        for section in ["limits", "store"] {
            let names = sections[section].as_object().unwrap();
            for name in names.iter().filter(|(_, default)| default.is_number()).map(|(name, _)| name) {
                let key = set(section, name, 0).map(|(key, _)| key.to_owned());
                let expected = (!free.contains(&name.as_str())).then(|| format!("{section}.{name}"));
                assert_eq!(key, expected, "{section}.{name} = 0");
            }
        }
    }

    #[test]
    fn an_upper_limit_is_fit_itself_and_is_named_to_whoever_passes_it() {
        for (name, max) in [
            ("value_bytes", VALUE_BYTES_MAX as u64),
            ("code_bytes", CODE_BYTES_MAX as u64),
            ("reply_bytes", VALUE_BYTES_MAX as u64),
            ("depth", DEPTH_MAX as u64),
            ("timer_seconds", TIMER_SECONDS_MAX),
            ("log_lines", LOG_LINES_MAX as u64),
            ("log_line_bytes", TEXT_BYTES_MAX as u64),
        ] {
            assert_eq!(set("limits", name, max), None, "limits.{name} = {max}");
            let (key, wants) = set("limits", name, max + 1).expect("one more is too much");
            assert_eq!(key, format!("limits.{name}"));
            assert!(wants.split(' ').next_back() == Some(&max.to_string()), "{key} wants {wants}");
        }
    }

    #[test]
    fn settings_that_depend_on_each_other_must_agree() {
        assert_eq!(unfit(|config| config.limits.timer_seconds_min = 601), Some("limits.timer_seconds"));
        assert_eq!(
            unfit(|config| config.store.tombstone_ttl_seconds = 30 * 86_400 - 1),
            Some("store.tombstone_ttl_seconds"),
            "a deletion forgotten before the record expires elsewhere lets it come back"
        );
    }

    #[test]
    fn a_state_around_the_deepest_value_can_be_read_and_a_deeper_one_could_not() {
        let nested = |levels: usize| (0..levels).fold(Value::Nil, |inner, _| Value::List(vec![inner]));
        let bounds = Bounds { bytes: VALUE_BYTES_MAX, depth: usize::MAX };
        assert!(Value::decode(&nested(DEPTH_MAX + 2).encode(), bounds).is_ok());
        assert!(Value::decode(&nested(DEPTH_MAX + 3).encode(), bounds).is_err());
    }
}
