//! Values as MessagePack bytes.
//!
//! Decoding trusts nothing: every declared length is held against the bytes that are left before anything is
//! allocated, the nesting and the number of elements are bounded, and the bytes must end where the value
//! ends. The encoding is canonical (shortest integers, maps sorted), but signatures and hashes always cover
//! the bytes that were received, never a re-encoding.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use comet_routing::{Contact, KEY_BYTES, NodeId};
use rmp::{Marker, encode};

use crate::Value;

/// MessagePack extension type of a node: 32 bytes of id, 4 or 16 of IP address, 2 of port, big-endian.
pub const NODE_EXT: i8 = 1;

/// The most elements (list items, map entries) that one value may have in all.
pub const ELEMENTS_MAX: usize = 16 * 1024;

/// Deepest nesting that decoding follows, whatever the configured limit: the stack is finite.
const DEPTH_MAX: usize = 32;

/// What a value may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Encoded bytes.
    pub bytes: usize,
    /// Nesting of lists and maps; a scalar has depth 0.
    pub depth: usize,
}

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes than allowed.
    #[error("the value has {size} bytes and the limit is {limit}")]
    TooLarge {
        /// Bytes it has.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Lists and maps nested too deeply.
    #[error("the value is nested deeper than {limit} levels")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
    },
    /// Too many list items and map entries.
    #[error("the value has more than {ELEMENTS_MAX} elements")]
    TooMany,
    /// The bytes end before the value does.
    #[error("the value is cut short")]
    CutShort,
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
    /// A MessagePack type that no value has.
    #[error("the value contains {0}")]
    Unsupported(&'static str),
}

impl Value {
    /// The value as MessagePack.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out);
        out.into()
    }

    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => write_nil(out),
            Self::Bool(b) => write_bool(out, *b),
            Self::Int(n) => write_int(out, *n),
            Self::Float(n) => write_float(out, *n),
            Self::Str(bytes) => write_str(out, bytes),
            Self::Node(node) => write_node(out, node),
            Self::List(items) => {
                write_list_header(out, items.len());
                items.iter().for_each(|item| item.encode_into(out));
            }
            Self::Map(entries) => {
                write_map_header(out, entries.len());
                for (key, value) in entries {
                    key.encode_into(out);
                    value.encode_into(out);
                }
            }
        }
    }

    /// Reads one value that fills `bytes` exactly.
    pub fn decode(bytes: &[u8], bounds: Bounds) -> Result<Self, DecodeError> {
        Self::decode_with(bytes, bounds, ELEMENTS_MAX)
    }

    /// As [`Value::decode`], for what the node itself adds elements to.
    pub(crate) fn decode_with(
        bytes: &[u8],
        bounds: Bounds,
        elements_max: usize,
    ) -> Result<Self, DecodeError> {
        if bytes.len() > bounds.bytes {
            return Err(DecodeError::TooLarge { size: bytes.len(), limit: bounds.bytes });
        }
        let mut reader =
            Reader { rest: bytes, elements_left: elements_max, depth_max: bounds.depth.min(DEPTH_MAX) };
        let value = reader.value(0)?;
        match reader.rest.len() {
            0 => Ok(value),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

// Writing to a vector cannot fail, so the results below carry no information.

pub(crate) fn write_nil(out: &mut Vec<u8>) {
    encode::write_nil(out).ok();
}

pub(crate) fn write_bool(out: &mut Vec<u8>, b: bool) {
    encode::write_bool(out, b).ok();
}

pub(crate) fn write_int(out: &mut Vec<u8>, n: i64) {
    encode::write_sint(out, n).ok();
}

pub(crate) fn write_float(out: &mut Vec<u8>, n: f64) {
    encode::write_f64(out, n).ok();
}

/// UTF-8 goes out as MessagePack `str`, anything else as `bin`; both come back as [`Value::Str`].
pub(crate) fn write_str(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => encode::write_str(out, text).ok(),
        Err(_) => encode::write_bin(out, bytes).ok(),
    };
}

pub(crate) fn write_list_header(out: &mut Vec<u8>, items: usize) {
    encode::write_array_len(out, items as u32).ok();
}

pub(crate) fn write_map_header(out: &mut Vec<u8>, entries: usize) {
    encode::write_map_len(out, entries as u32).ok();
}

pub(crate) fn write_node(out: &mut Vec<u8>, node: &Contact) {
    let mut body = node.id.as_bytes().to_vec();
    match node.addr.ip() {
        IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
    }
    body.extend_from_slice(&node.addr.port().to_be_bytes());
    encode::write_ext_meta(out, body.len() as u32, NODE_EXT).ok();
    out.extend_from_slice(&body);
}

struct Reader<'a> {
    rest: &'a [u8],
    elements_left: usize,
    depth_max: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::CutShort)?;
        self.rest = rest;
        Ok(taken)
    }

    fn uint(&mut self, bytes: usize) -> Result<u64, DecodeError> {
        Ok(self.take(bytes)?.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        usize::try_from(self.uint(bytes)?).map_err(|_| DecodeError::CutShort)
    }

    fn value(&mut self, depth: usize) -> Result<Value, DecodeError> {
        let marker = Marker::from_u8(self.uint(1)? as u8);
        Ok(match marker {
            Marker::Null => Value::Nil,
            Marker::True => Value::Bool(true),
            Marker::False => Value::Bool(false),
            Marker::FixPos(n) => Value::Int(i64::from(n)),
            Marker::FixNeg(n) => Value::Int(i64::from(n)),
            Marker::U8 => whole(self.uint(1)?),
            Marker::U16 => whole(self.uint(2)?),
            Marker::U32 => whole(self.uint(4)?),
            Marker::U64 => whole(self.uint(8)?),
            Marker::I8 => Value::Int(i64::from(self.uint(1)? as u8 as i8)),
            Marker::I16 => Value::Int(i64::from(self.uint(2)? as u16 as i16)),
            Marker::I32 => Value::Int(i64::from(self.uint(4)? as u32 as i32)),
            Marker::I64 => Value::Int(self.uint(8)? as i64),
            Marker::F32 => Value::Float(f64::from(f32::from_bits(self.uint(4)? as u32))),
            Marker::F64 => Value::Float(f64::from_bits(self.uint(8)?)),
            Marker::FixStr(len) => self.string(usize::from(len))?,
            Marker::Str8 | Marker::Bin8 => self.string_of(1)?,
            Marker::Str16 | Marker::Bin16 => self.string_of(2)?,
            Marker::Str32 | Marker::Bin32 => self.string_of(4)?,
            Marker::FixArray(len) => self.list(usize::from(len), depth)?,
            Marker::Array16 => self.list_of(2, depth)?,
            Marker::Array32 => self.list_of(4, depth)?,
            Marker::FixMap(len) => self.map(usize::from(len), depth)?,
            Marker::Map16 => self.map_of(2, depth)?,
            Marker::Map32 => self.map_of(4, depth)?,
            Marker::Ext8 => self.node()?,
            _ => return Err(DecodeError::Unsupported("an unknown MessagePack type")),
        })
    }

    fn string_of(&mut self, length_bytes: usize) -> Result<Value, DecodeError> {
        let len = self.length(length_bytes)?;
        self.string(len)
    }

    fn string(&mut self, len: usize) -> Result<Value, DecodeError> {
        Ok(Value::Str(Bytes::copy_from_slice(self.take(len)?)))
    }

    fn list_of(&mut self, length_bytes: usize, depth: usize) -> Result<Value, DecodeError> {
        let len = self.length(length_bytes)?;
        self.list(len, depth)
    }

    fn map_of(&mut self, length_bytes: usize, depth: usize) -> Result<Value, DecodeError> {
        let len = self.length(length_bytes)?;
        self.map(len, depth)
    }

    /// Admits a container of `len` elements, each of which takes at least `bytes_each`.
    fn enter(&mut self, len: usize, bytes_each: usize, depth: usize) -> Result<(), DecodeError> {
        if depth >= self.depth_max {
            return Err(DecodeError::TooDeep { limit: self.depth_max });
        }
        if len.saturating_mul(bytes_each) > self.rest.len() {
            return Err(DecodeError::CutShort);
        }
        self.elements_left = self.elements_left.checked_sub(len).ok_or(DecodeError::TooMany)?;
        Ok(())
    }

    fn list(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        self.enter(len, 1, depth)?;
        (0..len).map(|_| self.value(depth.saturating_add(1))).collect::<Result<_, _>>().map(Value::List)
    }

    fn map(&mut self, len: usize, depth: usize) -> Result<Value, DecodeError> {
        self.enter(len, 2, depth)?;
        let mut entries = Vec::with_capacity(len);
        for _ in 0..len {
            let key = self.value(depth.saturating_add(1))?;
            if let Some(fault) = key_fault(&key) {
                return Err(DecodeError::Unsupported(fault));
            }
            entries.push((key, self.value(depth.saturating_add(1))?));
        }
        let map = Value::map(entries);
        match &map {
            Value::Map(distinct) if distinct.len() == len => Ok(map),
            _ => Err(DecodeError::Unsupported("a map with one key twice")),
        }
    }

    fn node(&mut self) -> Result<Value, DecodeError> {
        let len = self.length(1)?;
        if self.uint(1)? as u8 as i8 != NODE_EXT {
            return Err(DecodeError::Unsupported("an unknown extension type"));
        }
        let mut id = [0; KEY_BYTES];
        id.copy_from_slice(self.take(KEY_BYTES)?);
        let ip: IpAddr = match len.checked_sub(KEY_BYTES + 2) {
            Some(4) => <[u8; 4]>::try_from(self.take(4)?).map_err(|_| DecodeError::CutShort)?.into(),
            Some(16) => <[u8; 16]>::try_from(self.take(16)?).map_err(|_| DecodeError::CutShort)?.into(),
            _ => return Err(DecodeError::Unsupported("a malformed node")),
        };
        let port = self.uint(2)? as u16;
        Ok(Value::Node(Contact::new(NodeId::from_bytes(id), SocketAddr::new(ip, port))))
    }
}

/// What keeps a value from being the key of a map, if anything does.
pub(crate) fn key_fault(key: &Value) -> Option<&'static str> {
    match key {
        Value::Nil => Some("a map with a nil key"),
        Value::Float(n) if n.is_nan() => Some("a map with a NaN key"),
        Value::List(_) | Value::Map(_) => Some("a map with a table as key"),
        _ => None,
    }
}

fn whole(n: u64) -> Value {
    i64::try_from(n).map_or(Value::Float(n as f64), Value::Int)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 64 * 1024, depth: 16 };

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("NaN is unequal to itself", |n| !n.is_nan()).prop_map(Value::Float),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Str(bytes.into())),
            (any::<[u8; 32]>(), any::<[u8; 4]>(), any::<u16>()).prop_map(|(id, ip, port)| Contact::new(
                NodeId::from_bytes(id),
                (ip, port).into()
            )
            .into()),
        ]
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        scalar().prop_recursive(4, 64, 8, |inner| {
            let key = scalar().prop_filter("a valid key", |key| key_fault(key).is_none());
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
                proptest::collection::vec((key, inner), 0..8).prop_map(Value::map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(value in any_value()) {
            prop_assert_eq!(Value::decode(&value.encode(), BOUNDS), Ok(value));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _outcome = Value::decode(&bytes, BOUNDS);
        }

        #[test]
        fn no_proper_prefix_is_a_value(value in any_value()) {
            let bytes = value.encode();
            for cut in 0..bytes.len() {
                prop_assert!(Value::decode(&bytes[..cut], BOUNDS).is_err());
            }
        }
    }

    #[test]
    fn declared_lengths_are_not_believed() {
        for header in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0xff, 0xff, 0xff, 0xff],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Value::decode(header, BOUNDS), Err(DecodeError::CutShort));
        }
    }

    #[test]
    fn nesting_size_and_number_are_bounded() {
        let deep = [vec![0x91; 17], vec![0xc0]].concat();
        assert_eq!(Value::decode(&deep, BOUNDS), Err(DecodeError::TooDeep { limit: 16 }));
        let allowed = [vec![0x91; 16], vec![0xc0]].concat();
        assert!(Value::decode(&allowed, BOUNDS).is_ok());
        let abyss = vec![0x91; 60_000];
        let roomy = Bounds { bytes: 64 * 1024, depth: usize::MAX };
        assert_eq!(Value::decode(&abyss, roomy), Err(DecodeError::TooDeep { limit: 32 }));
        let many = [vec![0xdc, 0xff, 0xff], vec![0xc0; 0xffff]].concat();
        assert_eq!(Value::decode(&many, Bounds { bytes: 1 << 20, depth: 16 }), Err(DecodeError::TooMany));
        assert_eq!(
            Value::decode(&[0xc0; 9], Bounds { bytes: 8, depth: 16 }),
            Err(DecodeError::TooLarge { size: 9, limit: 8 })
        );
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert_eq!(Value::decode(&[0xc0, 0xc0], BOUNDS), Err(DecodeError::Trailing(1)));
    }

    #[test]
    fn a_map_with_one_key_twice_is_refused() {
        let twice = [0x82, 0x01, 0xc0, 0x01, 0xc0];
        assert_eq!(Value::decode(&twice, BOUNDS), Err(DecodeError::Unsupported("a map with one key twice")));
    }
}
