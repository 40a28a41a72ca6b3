//! What survives of an object when it leaves its VM: its fields and its capabilities, as bytes.

use bytes::Bytes;
use comet_routing::{Key, NodeId};

use crate::{
    Bounds, Limits, Value,
    codec::{self, DecodeError, ELEMENTS_MAX},
    contact_policy::{Capabilities, Capability},
};

/// Bytes that one capability takes, encoded: two identifiers, a time, and their headers.
const CAPABILITY_BYTES: usize = 96;

/// An object's state, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    /// The fields of `aso`; `value` is among them only if it is no longer what was put.
    pub(crate) fields: Vec<(Value, Value)>,
    pub(crate) capabilities: Capabilities,
}

/// Elements that one capability is, encoded: itself and its three parts.
const CAPABILITY_ELEMENTS: usize = 4;

/// What an encoded state may measure: the fields may be as large as a value, and the node's own part comes on
/// top.
pub(crate) fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        bytes: limits.value_bytes + limits.capabilities * CAPABILITY_BYTES + 64,
        depth: limits.depth + 2,
    }
}

/// Joins encoded fields and capabilities.
pub(crate) fn encode(
    write_fields: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    kept: &Capabilities,
) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(128);
    codec::write_list_header(&mut out, 2);
    write_fields(&mut out)?;
    codec::write_list_header(&mut out, kept.iter().len());
    for capability in kept.iter() {
        codec::write_list_header(&mut out, 3);
        codec::write_str(&mut out, capability.node.as_bytes());
        codec::write_str(&mut out, capability.key.as_bytes());
        codec::write_int(&mut out, i64::try_from(capability.expires_ms).unwrap_or(i64::MAX));
    }
    Ok(out.into())
}

/// Reads a state back; no bytes are the state of an object that has none yet.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Option<State>, DecodeError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let broken = DecodeError::Unsupported("no object state");
    let elements_max = ELEMENTS_MAX + limits.capabilities * CAPABILITY_ELEMENTS + 2;
    let Value::List(parts) = Value::decode_with(bytes, bounds(limits), elements_max)? else {
        return Err(broken);
    };
    let Ok([fields, Value::List(kept)]) = <[Value; 2]>::try_from(parts) else { return Err(broken) };
    let fields = match fields {
        Value::Map(fields) => fields,
        _ => return Err(broken),
    };
    let kept: Option<Vec<_>> = kept.iter().map(capability).collect();
    Ok(Some(State { fields, capabilities: Capabilities::restore(kept.ok_or(broken)?) }))
}

/// The state as another replica may have it: capabilities are this replica's own, since the contacts that they
/// come from were made with it, and a copy must not multiply or invent them.
pub(crate) fn without_capabilities(bytes: &Bytes, limits: &Limits) -> Result<Bytes, DecodeError> {
    let Some(State { fields, .. }) = decode(bytes, limits)? else { return Ok(Bytes::new()) };
    let write = |out: &mut Vec<u8>| {
        Value::Map(fields).encode_into(out);
        Ok(())
    };
    encode(write, &Capabilities::default()).map_err(|_| DecodeError::Unsupported("no object state"))
}

fn capability(value: &Value) -> Option<Capability> {
    let Value::List(parts) = value else { return None };
    let [Value::Str(node), Value::Str(key), Value::Int(expires_ms)] = parts.as_slice() else { return None };
    Some(Capability {
        node: NodeId::from_bytes(<[u8; 32]>::try_from(&node[..]).ok()?),
        key: Key::from_bytes(<[u8; 32]>::try_from(&key[..]).ok()?),
        expires_ms: u64::try_from(*expires_ms).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_capabilities_come_back() {
        let mut kept = Capabilities::default();
        kept.grant(NodeId::from_bytes([3; 32]), Key::of("callback"), 5, 8);
        let write = |out: &mut Vec<u8>| {
            Value::map([("gets".into(), Value::Int(3))]).encode_into(out);
            Ok(())
        };
        let bytes = encode(write, &kept).expect("the fields can be written");
        let state = decode(&bytes, &Limits::default()).expect("it is a state").expect("it is not empty");
        assert_eq!(state, State { fields: vec![("gets".into(), Value::Int(3))], capabilities: kept });
        assert_eq!(decode(&[], &Limits::default()), Ok(None));
    }

    #[test]
    fn a_copy_has_the_fields_and_none_of_the_rights() {
        let limits = Limits::default();
        let mut kept = Capabilities::default();
        kept.grant(NodeId::from_bytes([3; 32]), Key::of("callback"), 5, 8);
        let fields = || Value::map([("gets".into(), Value::Int(3))]);
        let write = |out: &mut Vec<u8>| {
            fields().encode_into(out);
            Ok(())
        };
        let state = encode(write, &kept).expect("the fields can be written");
        let copy = without_capabilities(&state, &limits).expect("it is a state");
        let copy = decode(&copy, &limits).expect("it is a state").expect("it is not empty");
        assert_eq!((copy.fields, copy.capabilities.iter().len()), (vec![("gets".into(), Value::Int(3))], 0));
        assert_eq!(without_capabilities(&Bytes::new(), &limits), Ok(Bytes::new()));
        assert!(without_capabilities(&Bytes::from_static(b"\xc1"), &limits).is_err());
    }

    #[test]
    fn a_full_set_of_capabilities_fits_beside_a_full_value() {
        let limits = Limits::default();
        let mut kept = Capabilities::default();
        for n in 0..=limits.capabilities {
            kept.grant(
                NodeId::from_bytes([0xff; 32]),
                Key::of(n.to_be_bytes()),
                1 << 50,
                limits.capabilities,
            );
        }
        let large = Value::Str(vec![b'x'; limits.value_bytes - 16].into());
        let many = Value::List(vec![Value::Nil; ELEMENTS_MAX - 1]);
        for filler in [large, many] {
            let fields = Value::map([("f".into(), filler)]);
            let write = |out: &mut Vec<u8>| {
                fields.encode_into(out);
                Ok(())
            };
            let bytes = encode(write, &kept).expect("encodes");
            assert!(decode(&bytes, &limits).is_ok());
        }
    }
}
