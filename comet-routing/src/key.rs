//! Keys, node ids and the XOR metric between them.
//!
//! A [`Key`] names an object and a [`NodeId`] names a node; both are 256-bit points of one space, and a
//! [`Distance`] is the XOR of two points (Maymounkov and Mazières, Kademlia, section 2.1).
//!
//! The last bit of a key says who may create the object there: set means "only the owner whose public key
//! is hashed into this key", clear means "anyone". A replica can therefore refuse a squatter by looking at
//! the key alone, without having seen the object before.

use std::{fmt, str::FromStr};

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Bytes in a key, a node id and a distance.
pub const KEY_BYTES: usize = 32;

/// Hexadecimal digits of a key that logs show.
const BRIEF_DIGITS: usize = 8;

/// How many child keys an object has: [`Key::child`] takes 1 up to this.
pub const CHILDREN_MAX: u8 = 5;

const NAME_TAG: &[u8] = b"comet/1 name\0";
const OWNED_TAG: &[u8] = b"comet/1 owned\0";
const CHILD_TAG: &[u8] = b"comet/1 child\0";
const NODE_TAG: &[u8] = b"comet/1 node\0";

/// The 256-bit name of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key([u8; KEY_BYTES]);

/// The 256-bit name of a node: the SHA-256 of its Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId([u8; KEY_BYTES]);

/// XOR of two points, ordered as a 256-bit big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; KEY_BYTES]);

/// Why a text is not a key or a node id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {} hexadecimal digits, got {got:?}", KEY_BYTES * 2)]
pub struct ParseHexError {
    got: String,
}

impl Key {
    /// The key of a public name: SHA-256 of a domain tag and the name, with the owner bit clear.
    pub fn of(name: impl AsRef<[u8]>) -> Self {
        Self::unowned(hash(NAME_TAG, &[name.as_ref()]))
    }

    /// The key of `name` in the space of one owner: nobody without the owner's signature can create it.
    pub fn owned(public_key: &[u8; 32], name: impl AsRef<[u8]>) -> Self {
        Self::owned_by_salt(public_key, &Self::salt(name))
    }

    /// As [`Key::owned`], from the name's [`Key::salt`], which is all of the name that a replica sees.
    pub fn owned_by_salt(public_key: &[u8; 32], salt: &[u8; 32]) -> Self {
        let mut bytes = hash(OWNED_TAG, &[public_key, salt]);
        bytes[KEY_BYTES - 1] |= 1;
        Self(bytes)
    }

    /// The digest of a name that goes into [`Key::owned_by_salt`].
    pub fn salt(name: impl AsRef<[u8]>) -> [u8; 32] {
        hash(NAME_TAG, &[name.as_ref()])
    }

    /// The object's `n`-th child key: the key hashed `n` times, 1 ≤ `n` ≤ [`CHILDREN_MAX`], else `None`.
    pub fn child(&self, n: u8) -> Option<Self> {
        if n == 0 || n > CHILDREN_MAX {
            return None;
        }
        let hashed = (0..n).fold(self.0, |bytes, _| hash(CHILD_TAG, &[&bytes]));
        Some(Self::unowned(hashed))
    }

    /// True if only the owner hashed into this key may create an object here.
    pub fn is_owned(&self) -> bool {
        self.0[KEY_BYTES - 1] & 1 == 1
    }

    /// A key that anyone may write, from arbitrary bytes: the owner bit is cleared.
    pub fn unowned(mut bytes: [u8; KEY_BYTES]) -> Self {
        bytes[KEY_BYTES - 1] &= !1;
        Self(bytes)
    }

    /// The key with exactly these bytes.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The first eight digits: enough to tell objects apart in a log, and not to read one. Whoever knows the
    /// whole key of an object that nobody owns may write it.
    pub fn brief(&self) -> String {
        let mut digits = self.to_string();
        digits.truncate(BRIEF_DIGITS);
        digits
    }

    /// XOR distance to another key.
    pub fn distance(&self, other: &Key) -> Distance {
        Distance(xor(&self.0, &other.0))
    }

    /// XOR distance to a node.
    pub fn distance_to(&self, node: &NodeId) -> Distance {
        Distance(xor(&self.0, &node.0))
    }
}

impl NodeId {
    /// The id of the node that holds this Ed25519 public key.
    pub fn of_public_key(public_key: &[u8]) -> Self {
        Self(hash(NODE_TAG, &[public_key]))
    }

    /// The id with exactly these bytes.
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The id's bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// XOR distance to another node.
    pub fn distance(&self, other: &NodeId) -> Distance {
        Distance(xor(&self.0, &other.0))
    }

    /// The point of the key space at which this node stands, for looking up a node's neighbourhood.
    pub const fn as_key(&self) -> Key {
        Key(self.0)
    }
}

impl Distance {
    /// Bits that both points share before they first differ; 256 for equal points.
    pub fn leading_zeros(&self) -> usize {
        let zero_bytes = self.0.iter().take_while(|&&byte| byte == 0).count();
        let partial = self.0.get(zero_bytes).map_or(0, |byte| byte.leading_zeros() as usize);
        zero_bytes.saturating_mul(8).saturating_add(partial)
    }
}

fn hash(tag: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    let mut input = Vec::with_capacity(bytes.saturating_add(tag.len()));
    input.extend_from_slice(tag);
    parts.iter().for_each(|part| input.extend_from_slice(part));
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, &input).as_ref());
    out
}

fn xor(a: &[u8; KEY_BYTES], b: &[u8; KEY_BYTES]) -> [u8; KEY_BYTES] {
    let mut out = *a;
    for (byte, other) in out.iter_mut().zip(b) {
        *byte ^= other;
    }
    out
}

fn write_hex(bytes: &[u8; KEY_BYTES], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn parse_hex(text: &str) -> Result<[u8; KEY_BYTES], ParseHexError> {
    let refuse = || ParseHexError { got: text.chars().take(80).collect() };
    if text.len() != KEY_BYTES * 2 || !text.is_ascii() {
        return Err(refuse());
    }
    let mut bytes = [0; KEY_BYTES];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| refuse())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refuse());
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
    }
    Ok(bytes)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl FromStr for NodeId {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex(text).map(Self)
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance({self})")
    }
}

impl FromStr for Distance {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        parse_hex(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_always_hashes_to_the_same_key() {
        assert_eq!(Key::of("hello").to_string(), Key::of("hello").to_string(),);
        assert_ne!(Key::of("hello"), Key::of("hello "));
    }

    #[test]
    fn a_brief_key_is_the_beginning_of_the_whole_one() {
        let key = Key::of("hello");
        assert_eq!(key.brief().len(), BRIEF_DIGITS);
        assert!(key.to_string().starts_with(&key.brief()));
    }

    #[test]
    fn only_owned_keys_carry_the_owner_bit() {
        assert!(!Key::of("a").is_owned());
        assert!(Key::owned(&[7; 32], "a").is_owned());
        assert!(!Key::owned(&[7; 32], "a").child(1).expect("one is a child").is_owned());
        assert_ne!(Key::owned(&[7; 32], "a"), Key::owned(&[8; 32], "a"));
    }

    #[test]
    fn there_are_five_children_and_no_more() {
        let key = Key::of("parent");
        assert_eq!(key.child(0), None);
        assert_eq!(key.child(6), None);
        let children: std::collections::BTreeSet<_> = (1..=5).filter_map(|n| key.child(n)).collect();
        assert_eq!(children.len(), 5);
    }

    #[test]
    fn hex_round_trips_and_refuses_anything_else() {
        let key = Key::of("x");
        assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        assert!("zz".repeat(32).parse::<Key>().is_err());
        assert!("+1".repeat(32).parse::<Key>().is_err(), "a sign is not a digit");
        assert!("".parse::<Key>().is_err());
        assert_eq!(format!("{key:?}"), format!("Key({key})"));
    }

    #[test]
    fn leading_zeros_counts_shared_bits() {
        let zero = Key::from_bytes([0; 32]);
        let mut bytes = [0; 32];
        bytes[1] = 0b0001_0000;
        assert_eq!(zero.distance(&Key::from_bytes(bytes)).leading_zeros(), 11);
        assert_eq!(zero.distance(&zero).leading_zeros(), 256);
    }
}
