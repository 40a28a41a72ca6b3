//! What replicas tell each other about what they hold, so that only what is missing travels.

use comet_routing::Key;
use comet_store::{Ownership, Version};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DIGEST_MAX, field, request::ownership_option};

/// One object that a replica holds, by the put that its copy stems from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The object.
    pub key: Key,
    /// Which put.
    pub version: Version,
}

/// What a node has of an object, compared with a [`Summary`] of another node's copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The same version.
    #[serde(rename = "same")]
    Same,
    /// A higher version.
    #[serde(rename = "newer")]
    Newer,
    /// A lower version.
    #[serde(rename = "older")]
    Older,
    /// Nothing.
    #[serde(rename = "missing")]
    Missing,
    /// Nothing: the copy of that version, or of a higher one, deleted itself here.
    #[serde(rename = "left")]
    Left,
    /// The object was deleted, with that version or a higher one.
    #[serde(rename = "gone")]
    Gone {
        /// The deletion's sequence number.
        #[serde(rename = "s")]
        sequence: u64,
        /// The owner's signature under the deletion, for an owned key.
        #[serde(rename = "own", with = "ownership_option", default, skip_serializing_if = "Option::is_none")]
        ownership: Option<Box<Ownership>>,
    },
}

/// Key, sequence (big-endian) and content hash of a summary.
const SUMMARY_BYTES: usize = 32 + 8 + 32;

impl Summary {
    fn to_bytes(self) -> [u8; SUMMARY_BYTES] {
        let mut bytes = [0; SUMMARY_BYTES];
        let (key, version) = bytes.split_at_mut(32);
        let (sequence, hash) = version.split_at_mut(8);
        key.copy_from_slice(self.key.as_bytes());
        sequence.copy_from_slice(&self.version.sequence.to_be_bytes());
        hash.copy_from_slice(&self.version.hash);
        bytes
    }

    fn from_bytes(bytes: &[u8; SUMMARY_BYTES]) -> Option<Self> {
        let (key, version) = bytes.split_first_chunk::<32>()?;
        let (sequence, hash) = version.split_first_chunk::<8>()?;
        let version = Version { sequence: u64::from_be_bytes(*sequence), hash: hash.try_into().ok()? };
        Some(Self { key: Key::from_bytes(*key), version })
    }
}

/// Summaries: each one `bin` of 72 bytes.
pub(super) mod summaries {
    use super::*;

    struct Packed(Summary);

    impl Serialize for Packed {
        fn serialize<S: Serializer>(&self, target: S) -> Result<S::Ok, S::Error> {
            target.serialize_bytes(&self.0.to_bytes())
        }
    }

    impl<'de> Deserialize<'de> for Packed {
        fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
            let bytes = field::exact::deserialize::<D, SUMMARY_BYTES>(source)?;
            let summary = Summary::from_bytes(&bytes);
            summary.map(Self).ok_or_else(|| serde::de::Error::custom("a summary has 72 bytes"))
        }
    }

    pub(in crate::wire) fn serialize<S: Serializer>(
        summaries: &[Summary],
        target: S,
    ) -> Result<S::Ok, S::Error> {
        target.collect_seq(summaries.iter().take(DIGEST_MAX).map(|summary| Packed(*summary)))
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Vec<Summary>, D::Error> {
        field::list_with(source, DIGEST_MAX, |Packed(summary)| summary)
    }
}

/// Verdicts, in the order of the summaries.
pub(super) mod verdicts {
    use super::*;

    pub(in crate::wire) fn serialize<S: Serializer>(
        verdicts: &[Verdict],
        target: S,
    ) -> Result<S::Ok, S::Error> {
        target.collect_seq(verdicts.iter().take(DIGEST_MAX))
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Vec<Verdict>, D::Error> {
        field::list_with(source, DIGEST_MAX, |verdict: Verdict| verdict)
    }
}
