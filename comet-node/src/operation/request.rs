//! The requests that clients' and objects' wishes turn into.

use std::time::Duration;

use comet_routing::{Key, clock::WallMs};
use comet_runtime::{Trail, Value, as_sent, dht};
use comet_store::Record;

use crate::{
    config::ReplicationConfig,
    wire::{self, Object, Request},
};

/// The object that a client puts, with the node's defaults where the client chose nothing.
///
/// `sequence` orders an unsigned put; a signed one has its owner's. The lifetime of an unsigned put is kept in
/// the operator's range; what an owner signed stays as it is.
pub fn object_of(put: dht::Put, sequence: u64, config: &ReplicationConfig) -> Object {
    let ttl_seconds = put.ttl.map_or(config.ttl_seconds, whole_seconds);
    let range = (config.ttl_seconds_min, config.ttl_seconds_max);
    let (sequence, ownership) = match put.owner {
        Some((sequence, ownership)) => (sequence, Some(ownership.into())),
        None => (sequence, None),
    };
    Object {
        key: put.key,
        sequence,
        ttl_seconds: if ownership.is_some() { ttl_seconds } else { ttl_seconds.max(range.0).min(range.1) },
        ownership,
        replicas: put.replicas.unwrap_or(config.replicas),
        code: put.code.map(|code| code.source),
        publication: put.publication.map(Box::new),
        data: put.data,
    }
}

/// The value that an object puts.
pub fn object_from(key: Key, data: &Value, sequence: u64, config: &ReplicationConfig) -> Object {
    let data = data.encode();
    let put = dht::Put {
        key,
        data,
        code: None,
        publication: None,
        ttl: None,
        replicas: None,
        owner: None,
        expected: dht::Expected::Any,
        deadline: None,
    };
    object_of(put, sequence, config)
}

/// The request that hands a replica's copy to another node.
pub fn replicate(record: Record, trail: Trail, now_ms: WallMs) -> Request {
    Request::Replicate {
        age_seconds: now_ms.saturating_sub(record.created_ms) / 1_000,
        // Rounded up: a copy that is handed over is not lost for a fraction of a second.
        remaining_seconds: record.expires_ms.saturating_sub(now_ms).div_ceil(1_000),
        state: as_sent(&record.state),
        trail: trail.into(),
        object: Object {
            key: record.key,
            sequence: record.version.sequence,
            ownership: record.ownership,
            ttl_seconds: record.ttl_seconds,
            replicas: record.replicas,
            code: record.code.map(|code| code.source),
            publication: record.publication,
            data: record.data,
        },
    }
}

impl From<Trail> for wire::Trail {
    fn from(Trail { messages, bytes, depth }: Trail) -> Self {
        Self { messages, bytes, depth }
    }
}

impl From<wire::Trail> for Trail {
    fn from(wire::Trail { messages, bytes, depth }: wire::Trail) -> Self {
        Self { messages, bytes, depth }
    }
}

/// Fractions are rounded up, so that nothing becomes 0.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use comet_store::{Code, Ownership, Publication};

    use super::*;

    fn put(ttl: Option<Duration>, owner: Option<(u64, Ownership)>) -> Object {
        let data = Bytes::from_static(b"\xc0");
        let put = dht::Put {
            key: Key::of("k"),
            data,
            code: None,
            publication: None,
            ttl,
            replicas: None,
            owner,
            expected: dht::Expected::Any,
            deadline: None,
        };
        object_of(put, 7, &ReplicationConfig::default())
    }

    #[test]
    fn what_the_client_left_open_is_the_nodes_to_choose() {
        let object = put(None, None);
        assert_eq!((object.sequence, object.ttl_seconds, object.replicas), (7, 86_400, 8));
    }

    #[test]
    fn a_publishers_signature_goes_along() {
        let publication = Some(Publication { public_key: [7; 32], signature: [8; 64] });
        let (key, data) = (Key::of("k"), Bytes::from_static(b"\xc0"));
        let code = Some(Code::new("aso = {}"));
        let put = dht::Put {
            key,
            data,
            code,
            publication: publication.clone(),
            ttl: None,
            replicas: None,
            owner: None,
            expected: dht::Expected::Any,
            deadline: None,
        };
        assert_eq!(object_of(put, 7, &ReplicationConfig::default()).publication, publication.map(Box::new));
    }

    #[test]
    fn a_lifetime_is_kept_in_the_operators_range_unless_it_is_signed() {
        assert_eq!(put(Some(Duration::ZERO), None).ttl_seconds, 60);
        assert_eq!(put(Some(Duration::from_millis(60_001)), None).ttl_seconds, 61);
        assert_eq!(put(Some(Duration::MAX), None).ttl_seconds, 30 * 86_400);
        let owner = Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] };
        let signed = put(Some(Duration::from_secs(5)), Some((9, owner)));
        assert_eq!((signed.sequence, signed.ttl_seconds), (9, 5));
    }
}
