//! What INFO says of a node.

use std::{fmt::Write, sync::atomic::Ordering};

use super::{Front, reply::Reply, session::REDIS_VERSION};
use crate::http::Backend;

/// Names that stand for all sections.
const ALL: [&str; 3] = ["all", "default", "everything"];

/// The sections that Redis has and a node can fill, or those of them that are asked for.
pub(super) async fn reply<B: Backend>(front: &Front<B>, asked: &[String]) -> Reply {
    let node = front.backend.node().await;
    let mut text = String::new();
    let whole = asked.is_empty() || asked.iter().any(|asked| ALL.contains(&asked.as_str()));
    let mut section = |title: &str, fields: &[(&str, String)]| {
        if !whole && !asked.iter().any(|asked| title.eq_ignore_ascii_case(asked)) {
            return;
        }
        // Writing to a string does not fail.
        let _ = write!(text, "# {title}\r\n");
        for (name, value) in fields {
            let _ = write!(text, "{name}:{value}\r\n");
        }
        text.push_str("\r\n");
    };
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed).to_string();
    section(
        "Server",
        &[
            ("redis_version", REDIS_VERSION.to_owned()),
            ("comet_version", node.version.clone()),
            ("redis_mode", "standalone".to_owned()),
            ("run_id", node.id.to_string()),
            ("process_id", std::process::id().to_string()),
            ("uptime_in_seconds", node.uptime_seconds.to_string()),
            ("comet_network", node.network.clone()),
            ("comet_peers", node.peers.to_string()),
            ("comet_active_objects", node.active_objects.to_string()),
        ],
    );
    let open = front.counters.open();
    section(
        "Clients",
        &[("connected_clients", open.to_string()), ("maxclients", front.connections_max.to_string())],
    );
    section("Memory", &[("used_memory_dataset", node.bytes.to_string())]);
    section(
        "Stats",
        &[
            ("total_connections_received", count(&front.counters.accepted)),
            ("total_commands_processed", count(&front.counters.commands)),
            ("rejected_connections", count(&front.counters.rejected)),
        ],
    );
    section("Keyspace", &[("db0", format!("keys={},expires={},avg_ttl=0", node.records, node.records))]);
    Reply::text(text)
}
