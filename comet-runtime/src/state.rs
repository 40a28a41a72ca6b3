//! What survives of an object when it leaves its VM: its fields, its capabilities, and which puts it has decided,
//! as bytes.

use bytes::Bytes;
use comet_routing::Key;
use comet_store::Version;

use crate::{
    Bounds, Limits, Value,
    codec::{self, DecodeError, ELEMENTS_MAX},
    contact_policy::{Capabilities, Capability},
};

/// Bytes that one capability takes, encoded: a node, a key, a time, and their headers.
const CAPABILITY_BYTES: usize = 112;
/// Deepest nesting of any state: what a value may have at most, in the map and the list around it.
const DEPTH_MAX: usize = 32;

/// An object's state, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// The fields of `aso`; `value` is among them only if it is no longer what was put.
    pub(crate) fields: Vec<(Value, Value)>,
    pub(crate) capabilities: Capabilities,
    /// The highest put that its `onUpdate` handled or refused.
    pub(crate) decided: Option<Version>,
}

/// Elements that one capability is, encoded: itself and its three parts.
const CAPABILITY_ELEMENTS: usize = 4;

/// What an encoded state may measure: the fields may be as large as a value, and the node's own part comes on
/// top.
pub(crate) fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        bytes: limits
            .value_bytes
            .saturating_add(limits.capabilities.saturating_mul(CAPABILITY_BYTES))
            .saturating_add(128),
        depth: limits.depth.saturating_add(2),
    }
}

/// Appends, as one, encoded fields, capabilities and the highest put that was decided.
pub(crate) fn encode(
    write_fields: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    kept: &Capabilities,
    decided: Option<&Version>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    codec::write_list_header(out, if decided.is_some() { 3 } else { 2 });
    write_fields(out)?;
    codec::write_list_header(out, kept.iter().len());
    for capability in kept.iter() {
        codec::write_list_header(out, 3);
        codec::write_node(out, &capability.node);
        codec::write_str(out, capability.key.as_bytes());
        codec::write_int(out, i64::try_from(capability.expires_ms).unwrap_or(i64::MAX));
    }
    if let Some(Version { sequence, hash }) = decided {
        codec::write_list_header(out, 2);
        codec::write_str(out, &sequence.to_be_bytes());
        codec::write_str(out, hash);
    }
    Ok(())
}

/// Reads a state back; no bytes are the state of an object that has none yet.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Option<State>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let broken = DecodeError::Unsupported("no object state");
    let of_the_node = limits.capabilities.saturating_mul(CAPABILITY_ELEMENTS).saturating_add(5);
    let elements_max = ELEMENTS_MAX.saturating_add(of_the_node);
    let Value::List(parts) = Value::decode_with(bytes, bounds(limits), elements_max)? else {
        return Err(broken);
    };
    let (fields, kept, decided) = match parts.as_slice() {
        [Value::Map(fields), Value::List(kept)] => (fields, kept, None),
        [Value::Map(fields), Value::List(kept), decided] => {
            (fields, kept, Some(version(decided).ok_or(broken.clone())?))
        }
        _ => return Err(broken),
    };
    // A right lasts a day; the fields are the object.
    let capabilities = Capabilities::restore(kept.iter().filter_map(capability));
    Ok(Some(State { fields: fields.clone(), capabilities, decided }))
}

/// The state as another replica may have it: capabilities are this replica's own, since the contacts that they
/// come from were made with it, and a copy must not multiply or invent them.
pub(crate) fn without_capabilities(bytes: &Bytes, limits: &Limits) -> Result<Bytes, DecodeError> {
    let Some(State { fields, decided, .. }) = decode(bytes, limits)? else { return Ok(Bytes::new()) };
    let write = |out: &mut Vec<u8>| {
        Value::Map(fields).encode_into(out);
        Ok(())
    };
    let mut out = Vec::new();
    encode(write, &Capabilities::default(), decided.as_ref(), &mut out)
        .map_err(|_| DecodeError::Unsupported("no object state"))?;
    Ok(out.into())
}

/// The state as it may leave this node in a copy of the object: where those who contacted this replica can be reached
/// is nobody else's business. What is no state, or has nothing to hide, goes as it is.
pub fn as_sent(bytes: &Bytes) -> Bytes {
    // Every element has a byte at least, so this bounds nothing: the state is this node's own.
    let bounds = Bounds { bytes: bytes.len(), depth: DEPTH_MAX };
    match Value::decode_with(bytes, bounds, bytes.len()) {
        Ok(Value::List(mut parts)) => match parts.get_mut(1) {
            Some(Value::List(kept)) if !kept.is_empty() => {
                kept.clear();
                Value::List(parts).encode()
            }
            _ => bytes.clone(),
        },
        _ => bytes.clone(),
    }
}

fn version(value: &Value) -> Option<Version> {
    let Value::List(parts) = value else { return None };
    let [Value::Str(sequence), Value::Str(hash)] = parts.as_slice() else { return None };
    let sequence = u64::from_be_bytes(<[u8; 8]>::try_from(&sequence[..]).ok()?);
    Some(Version { sequence, hash: <[u8; 32]>::try_from(&hash[..]).ok()? })
}

fn capability(value: &Value) -> Option<Capability> {
    let Value::List(parts) = value else { return None };
    let [Value::Node(node), Value::Str(key), Value::Int(expires_ms)] = parts.as_slice() else { return None };
    Some(Capability {
        node: *node,
        key: Key::from_bytes(<[u8; 32]>::try_from(&key[..]).ok()?),
        expires_ms: u64::try_from(*expires_ms).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use comet_routing::{Contact, NodeId};

    use super::*;

    fn node() -> Contact {
        Contact::new(NodeId::from_bytes([0xff; 32]), (Ipv6Addr::LOCALHOST, 7400).into())
    }

    fn encoded(
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
        kept: &Capabilities,
        decided: Option<&Version>,
    ) -> Bytes {
        let mut out = Vec::new();
        encode(write, kept, decided, &mut out).expect("the fields can be written");
        out.into()
    }

    #[test]
    fn what_was_kept_comes_back() {
        let mut kept = Capabilities::default();
        kept.grant(node(), Key::of("callback"), 5, 8);
        let write = |out: &mut Vec<u8>| {
            Value::map([("gets".into(), Value::Int(3))]).encode_into(out);
            Ok(())
        };
        for decided in [None, Some(Version { sequence: u64::MAX, hash: [7; 32] })] {
            let bytes = encoded(write, &kept, decided.as_ref());
            let state = decode(&bytes, &Limits::default()).expect("it is a state").expect("it is not empty");
            let fields = vec![("gets".into(), Value::Int(3))];
            assert_eq!(state, State { fields, capabilities: kept.clone(), decided });
        }
        assert_eq!(decode(&[], &Limits::default()), Ok(None));
    }

    #[test]
    fn a_copy_has_the_fields_and_none_of_the_rights() {
        let limits = Limits::default();
        let mut kept = Capabilities::default();
        kept.grant(node(), Key::of("callback"), 5, 8);
        let fields = || Value::map([("gets".into(), Value::Int(3))]);
        let write = |out: &mut Vec<u8>| {
            fields().encode_into(out);
            Ok(())
        };
        let decided = Some(Version { sequence: 5, hash: [7; 32] });
        let state = encoded(write, &kept, decided.as_ref());
        let copy = without_capabilities(&state, &limits).expect("it is a state");
        let copy = decode(&copy, &limits).expect("it is a state").expect("it is not empty");
        assert_eq!((copy.fields, copy.capabilities.iter().len()), (vec![("gets".into(), Value::Int(3))], 0));
        assert_eq!(copy.decided, decided, "its fields come from those puts");
        assert_eq!(without_capabilities(&Bytes::new(), &limits), Ok(Bytes::new()));
        assert!(without_capabilities(&Bytes::from_static(b"\xc1"), &limits).is_err());
    }

    #[test]
    fn what_is_sent_of_a_state_tells_nobodys_address() {
        let mut kept = Capabilities::default();
        let node = Contact::new(NodeId::from_bytes([3; 32]), ([203, 0, 113, 7], 7400).into());
        kept.grant(node, Key::of("callback"), 5, 8);
        let tells = |state: &[u8]| state.windows(4).any(|bytes| bytes == [203, 0, 113, 7]);
        let write = |out: &mut Vec<u8>| {
            Value::map([("gets".into(), Value::Int(3))]).encode_into(out);
            Ok(())
        };
        for decided in [None, Some(Version { sequence: 5, hash: [7; 32] })] {
            let state = encoded(write, &kept, decided.as_ref());
            assert!(tells(&state), "the control: it stands in the state");
            let sent = as_sent(&state);
            assert!(!tells(&sent));
            let own = without_capabilities(&state, &Limits::default());
            assert_eq!(Ok(sent.clone()), own, "and nothing else is gone");
            assert_eq!(as_sent(&sent), sent);
        }
        for other in [&b""[..], b"\xc1", b"\x90"] {
            assert_eq!(as_sent(&Bytes::from_static(other)), other);
        }
    }

    #[test]
    fn a_full_set_of_capabilities_fits_beside_a_full_value() {
        let limits = Limits::default();
        let mut kept = Capabilities::default();
        for n in 0..=limits.capabilities {
            kept.grant(node(), Key::of(n.to_be_bytes()), 1 << 50, limits.capabilities);
        }
        let large = Value::Str(vec![b'x'; limits.value_bytes - 16].into());
        let many = Value::List(vec![Value::Nil; ELEMENTS_MAX - 1]);
        for filler in [large, many] {
            let fields = Value::map([("f".into(), filler)]);
            let write = |out: &mut Vec<u8>| {
                fields.encode_into(out);
                Ok(())
            };
            let decided = Version { sequence: u64::MAX, hash: [7; 32] };
            let bytes = encoded(write, &kept, Some(&decided));
            assert!(decode(&bytes, &limits).is_ok());
        }
    }
}
