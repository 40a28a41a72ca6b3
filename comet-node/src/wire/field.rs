//! How single fields look on the wire, each a module for serde's `with`.
//!
//! Whatever has a fixed number of bytes (keys, hashes, addresses, contacts) travels as MessagePack `bin` of
//! exactly that length, and only as that: a list of small integers is not taken for bytes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::REPLICAS_MAX;
use serde::{Deserializer, Serializer, de::Error};

use super::{
    AGE_MAX, CODE_BYTES_MAX, CONTACTS_MAX, HANDLER_NAME_BYTES_MAX, HANDLERS_MAX, STATE_BYTES_MAX,
    TEXT_BYTES_MAX, TTL_MAX, VALUE_BYTES_MAX,
};

const ADDR_BYTES_MAX: usize = 18;

/// Asks for bytes and hands them, borrowed from the frame, to `read`.
fn bytes_with<'de, D, T>(
    source: D,
    expected: &'static str,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Visitor<F>(&'static str, F);
    impl<T, F: FnOnce(&[u8]) -> Option<T>> serde::de::Visitor<'_> for Visitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
            let Self(expected, read) = self;
            read(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &expected))
        }
    }
    source.deserialize_bytes(Visitor(expected, read))
}

/// Asks for a text of at most `bytes_max` bytes.
fn text_with<'de, D, T>(source: D, bytes_max: usize, read: impl FnOnce(&str) -> T) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    struct Visitor<F>(usize, F);
    impl<T, F: FnOnce(&str) -> T> serde::de::Visitor<'_> for Visitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a text of at most {} bytes", self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            if text.len() > self.0 {
                return Err(E::invalid_length(text.len(), &self));
            }
            Ok((self.1)(text))
        }
    }
    source.deserialize_str(Visitor(bytes_max, read))
}

/// Asks for a list of at most `count_max` items.
pub(super) fn list_with<'de, D, I, T>(
    source: D,
    count_max: usize,
    into: impl Fn(I) -> T,
) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    I: serde::Deserialize<'de>,
{
    struct Visitor<I, F>(usize, F, std::marker::PhantomData<I>);
    impl<'de, I: serde::Deserialize<'de>, T, F: Fn(I) -> T> serde::de::Visitor<'de> for Visitor<I, F> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {} items", self.0)
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == self.0 {
                    return Err(A::Error::invalid_length(list.len().saturating_add(1), &self));
                }
                list.push((self.1)(item));
            }
            Ok(list)
        }
    }
    source.deserialize_seq(Visitor(count_max, into, std::marker::PhantomData))
}

/// The fields of a message that has none: an empty map, so that later versions can add some.
pub(super) mod no_fields {
    use super::*;
    use serde::{Deserialize, ser::SerializeMap};

    #[derive(Deserialize)]
    struct Empty {}

    pub(in crate::wire) fn serialize<S: Serializer>(target: S) -> Result<S::Ok, S::Error> {
        target.serialize_map(Some(0))?.end()
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<(), D::Error> {
        Empty::deserialize(source).map(|_| ())
    }
}

/// 32 bytes, or any other fixed number.
pub(super) mod exact {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        target: S,
    ) -> Result<S::Ok, S::Error> {
        target.serialize_bytes(bytes)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        source: D,
    ) -> Result<[u8; N], D::Error> {
        bytes_with(source, "bytes of the right length", |bytes| bytes.try_into().ok())
    }
}

/// Optional 32 bytes; absent when there are none.
pub(super) mod exact_option {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        bytes: &Option<[u8; 32]>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => target.serialize_bytes(bytes),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        exact::deserialize(source).map(Some)
    }
}

/// A key: 32 bytes.
pub(super) mod key {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(key: &Key, target: S) -> Result<S::Ok, S::Error> {
        target.serialize_bytes(key.as_bytes())
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Key, D::Error> {
        exact::deserialize(source).map(Key::from_bytes)
    }
}

/// An optional key; absent when there is none.
pub(super) mod key_option {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(key: &Option<Key>, target: S) -> Result<S::Ok, S::Error> {
        exact_option::serialize(&key.map(|key| *key.as_bytes()), target)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Key>, D::Error> {
        key::deserialize(source).map(Some)
    }
}

/// An encoded value, opaque here: up to [`VALUE_BYTES_MAX`] bytes.
pub(super) mod value {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(value: &Bytes, target: S) -> Result<S::Ok, S::Error> {
        target.serialize_bytes(value)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Bytes, D::Error> {
        bytes_with(source, "at most 64 KiB", |bytes| {
            (bytes.len() <= VALUE_BYTES_MAX).then(|| Bytes::copy_from_slice(bytes))
        })
    }
}

/// What handlers made of an object, opaque here: up to [`STATE_BYTES_MAX`] bytes.
pub(super) mod state {
    use super::*;

    pub(in crate::wire) use super::value::serialize;

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Bytes, D::Error> {
        bytes_with(source, "at most 64 KiB and a little", |bytes| {
            (bytes.len() <= STATE_BYTES_MAX).then(|| Bytes::copy_from_slice(bytes))
        })
    }
}

/// An optional encoded value; absent when there is none.
pub(super) mod value_option {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        value: &Option<Bytes>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => target.serialize_bytes(value),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Bytes>, D::Error> {
        value::deserialize(source).map(Some)
    }
}

/// Optional handler source: up to [`CODE_BYTES_MAX`] bytes of UTF-8.
pub(super) mod code_option {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        code: &Option<Arc<str>>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match code {
            Some(code) => target.serialize_str(code),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        text_with(source, CODE_BYTES_MAX, |code| Some(Arc::from(code)))
    }
}

/// A text of up to [`TEXT_BYTES_MAX`] bytes, cut at a character when it is sent.
pub(super) mod text {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(text: &str, target: S) -> Result<S::Ok, S::Error> {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        target.serialize_str(text.get(..end.unwrap_or(0)).unwrap_or_default())
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
        text_with(source, TEXT_BYTES_MAX, str::to_owned)
    }
}

/// Names of handlers.
pub(super) mod handlers {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Deserialize)]
    struct Name(#[serde(deserialize_with = "name")] String);

    fn name<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
        text_with(source, HANDLER_NAME_BYTES_MAX, str::to_owned)
    }

    pub(in crate::wire) fn serialize<S: Serializer>(names: &[String], target: S) -> Result<S::Ok, S::Error> {
        names.get(..HANDLERS_MAX).unwrap_or(names).serialize(target)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Vec<String>, D::Error> {
        list_with(source, HANDLERS_MAX, |Name(name)| name)
    }
}

/// An address: 4 or 16 bytes of IP address, then 2 of port, big-endian.
pub(super) mod addr {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(addr: &SocketAddr, target: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(ADDR_BYTES_MAX);
        write(addr, &mut bytes);
        target.serialize_bytes(&bytes)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<SocketAddr, D::Error> {
        bytes_with(source, "6 or 18 bytes", read)
    }

    pub(super) fn write(addr: &SocketAddr, out: &mut Vec<u8>) {
        // An IPv4 address in IPv6 clothes is the same host and has one form on the wire.
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
        out.extend_from_slice(&addr.port().to_be_bytes());
    }

    pub(super) fn read(bytes: &[u8]) -> Option<SocketAddr> {
        let (ip, port) = bytes.split_last_chunk::<2>()?;
        let ip = match ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port)))
    }
}

/// Contacts: each its 32 bytes of id and its address in one `bin` of 38 or 50 bytes.
pub(super) mod contacts {
    use super::*;
    use serde::Deserialize;

    struct OnWire(Contact);

    impl serde::Serialize for OnWire {
        fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
            let mut bytes = self.0.id.as_bytes().to_vec();
            addr::write(&self.0.addr, &mut bytes);
            target.serialize_bytes(&bytes)
        }
    }

    impl<'de> Deserialize<'de> for OnWire {
        fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
            bytes_with(source, "38 or 50 bytes", |bytes| {
                let (id, rest) = bytes.split_first_chunk::<32>()?;
                Some(Self(Contact::new(NodeId::from_bytes(*id), addr::read(rest)?)))
            })
        }
    }

    pub(in crate::wire) fn serialize<S: Serializer>(
        contacts: &[Contact],
        target: S,
    ) -> Result<S::Ok, S::Error> {
        target.collect_seq(contacts.iter().take(CONTACTS_MAX).map(|contact| OnWire(*contact)))
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Vec<Contact>, D::Error> {
        list_with(source, CONTACTS_MAX, |OnWire(contact)| contact)
    }
}

/// A number of contacts to answer with; more than [`CONTACTS_MAX`] is read as that.
pub(super) fn contact_count<'de, D: Deserializer<'de>>(source: D) -> Result<u8, D::Error> {
    let count: u64 = serde::Deserialize::deserialize(source)?;
    Ok(u8::try_from(count.min(CONTACTS_MAX as u64)).unwrap_or(u8::MAX))
}

/// A number of replicas, at most [`REPLICAS_MAX`]; not clamped, since an owner may have signed it.
pub(super) fn replicas<'de, D: Deserializer<'de>>(source: D) -> Result<u8, D::Error> {
    let count: u8 = serde::Deserialize::deserialize(source)?;
    if count > REPLICAS_MAX {
        return Err(D::Error::custom(format_args!("{count} replicas, and the limit is {REPLICAS_MAX}")));
    }
    Ok(count)
}

/// A lifetime in seconds: 0 is read as 1, and more than [`TTL_MAX`] as that.
pub(super) fn ttl_seconds<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    remaining_seconds(source).map(|seconds| seconds.max(1))
}

/// What is left of a lifetime in seconds: more than [`TTL_MAX`] is read as that.
pub(super) fn remaining_seconds<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    let seconds: u64 = serde::Deserialize::deserialize(source)?;
    Ok(seconds.min(TTL_MAX.as_secs()))
}

/// An age in seconds: more than [`AGE_MAX`] is read as that.
pub(super) fn age_seconds<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    let seconds: u64 = serde::Deserialize::deserialize(source)?;
    Ok(seconds.min(AGE_MAX.as_secs()))
}

/// An age in milliseconds: more than [`AGE_MAX`] is read as that.
pub(super) fn age_ms<'de, D: Deserializer<'de>>(source: D) -> Result<u64, D::Error> {
    let ms: u64 = serde::Deserialize::deserialize(source)?;
    Ok(ms.min(u64::try_from(AGE_MAX.as_millis()).unwrap_or(u64::MAX)))
}
