//! Whom a node charges for what others have it keep.

use comet_routing::Prefix;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// [`Source::to_bytes`] is this long.
pub(crate) const SOURCE_BYTES: usize = 7;

const PUT_TAG: u8 = b'p';
const COPY_TAG: u8 = b'c';

/// An account of a network.
///
/// What clients put through a network's nodes and what those nodes hand over as copies are counted apart. A node
/// copies what others put on it: were that charged to the account of its puts, junk that was left with it would
/// have its neighbours refuse what its own clients put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Put by a client of a node in this network.
    Put(Prefix),
    /// Copied here by a node in this network.
    Copy(Prefix),
}

impl Source {
    /// The account as bytes, for storing it: [`Prefix::to_bytes`], then one for its kind.
    pub(crate) fn to_bytes(self) -> [u8; SOURCE_BYTES] {
        let (prefix, tag) = match self {
            Self::Put(prefix) => (prefix, PUT_TAG),
            Self::Copy(prefix) => (prefix, COPY_TAG),
        };
        let [a, b, c, d, e, f] = prefix.to_bytes();
        [a, b, c, d, e, f, tag]
    }

    /// What [`Source::to_bytes`] made, or the bytes of a prefix alone, which is how puts were stored before copies
    /// were counted apart; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (prefix, tag) = bytes.split_first_chunk::<6>()?;
        let prefix = Prefix::from_bytes(*prefix);
        match tag {
            [] | [PUT_TAG] => Some(Self::Put(prefix)),
            [COPY_TAG] => Some(Self::Copy(prefix)),
            _ => None,
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::from_bytes(&bytes).ok_or_else(|| de::Error::custom("no account of a network"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_comes_back_from_its_bytes_and_a_bare_prefix_is_one_of_puts() {
        let prefix = Prefix::of([192, 0, 2, 1].into());
        for source in [Source::Put(prefix), Source::Copy(prefix)] {
            assert_eq!(Source::from_bytes(&source.to_bytes()), Some(source));
        }
        assert_eq!(Source::from_bytes(&prefix.to_bytes()), Some(Source::Put(prefix)));
        let [a, b, c, d, e, f] = prefix.to_bytes();
        let malformed: [&[u8]; 4] =
            [&[], &[a, b, c, d, e], &[a, b, c, d, e, f, b'x'], &[a, b, c, d, e, f, b'p', 0]];
        assert_eq!(malformed.map(Source::from_bytes), [None; 4]);
    }
}
