//! What one replica holds of one object.

use std::sync::Arc;

use bytes::Bytes;
use comet_routing::{Key, clock::WallMs};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{Ownership, Publication};

const CODE_TAG: &[u8] = b"comet/1 code\0";
const DATA_TAG: &[u8] = b"comet/1 data\0";
const CONTENT_TAG: &[u8] = b"comet/1 content\0";

/// SHA-256 of something, behind a domain tag.
pub type Hash = [u8; 32];

/// One replica's copy of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The object's key.
    pub key: Key,
    /// Who may replace the object, if the key is an owned one.
    pub ownership: Option<Box<Ownership>>,
    /// Which put this copy stems from.
    pub version: Version,
    /// When the object was put, by this replica's wall clock.
    pub created_ms: WallMs,
    /// When this replica forgets the object, by its own wall clock.
    pub expires_ms: WallMs,
    /// How long the put asked for the object to be kept, in seconds. Signed by the owner, if there is one.
    pub ttl_seconds: u64,
    /// The number of replicas that the put asked for; 0 leaves replication to the handlers.
    pub replicas: u8,
    /// The handlers, if the object is active.
    pub code: Option<Code>,
    /// Which publisher vouches for the code. It is verified before the record gets here. The version's hash
    /// does not cover it: it stays with the copy of the version that came first, and whoever wants it otherwise
    /// puts the object anew.
    pub publication: Option<Box<Publication>>,
    /// The put's data as it was received: one encoded value. The version's hash covers it.
    pub data: Bytes,
    /// What the handlers made of it on this replica; empty until one changed something. Opaque here.
    pub state: Bytes,
}

/// Handler source and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// [`Code::hash_of`] the source.
    pub hash: Hash,
    /// Luau source text.
    pub source: Arc<str>,
}

/// What is remembered of an object that was deleted: no put of this version or a lower one is stored again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The highest version that is deleted.
    pub version: Version,
    /// The owner's signature of [`crate::Act::Delete`] with the version's sequence number, which proves the
    /// deletion to other replicas; `None` if no owner signed it.
    pub ownership: Option<Box<Ownership>>,
}

/// Orders the puts of one key: the higher sequence wins, and of equal sequences the higher content hash, so
/// that all replicas agree without talking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Chosen by the owner, or by the node that took the put (its clock in microseconds).
    pub sequence: u64,
    /// [`content_hash`] of the put.
    pub hash: Hash,
}

impl Deletion {
    /// The deletion of all puts up to and including those with this sequence number.
    pub fn up_to(sequence: u64, ownership: Option<Box<Ownership>>) -> Self {
        Self { version: Version { sequence, hash: [0xff; 32] }, ownership }
    }

    /// The deletion of this version and lower ones in one replica, by the object itself.
    pub fn unsigned(version: Version) -> Self {
        Self { version, ownership: None }
    }

    /// True if the object was deleted, rather than that one replica's copy of it deleted itself.
    pub fn is_of_the_object(&self) -> bool {
        self.ownership.is_some() || self.version.hash == [0xff; 32]
    }

    /// What is remembered once both are known: the one that deletes more, and of the same the one with a proof.
    pub fn or_higher(self, other: Self) -> Self {
        let rank = |deletion: &Self| (deletion.version, deletion.ownership.is_some());
        if rank(&other) > rank(&self) { other } else { self }
    }
}

impl Code {
    /// Source text with its hash.
    pub fn new(source: impl Into<Arc<str>>) -> Self {
        let source = source.into();
        Self { hash: Self::hash_of(&source), source }
    }

    /// The name under which this source is stored and compiled once.
    pub fn hash_of(source: &str) -> Hash {
        sha256(&[CODE_TAG, source.as_bytes()])
    }
}

/// The hash of what was put: of the code's hash (32 zero bytes for a plain value) and the [`data_hash`]. So whoever
/// knows both hashes can check a signature without the data.
pub fn content_hash(code: Option<&Hash>, data: &[u8]) -> Hash {
    content_of(code, &data_hash(data))
}

/// The hash of a put's data as received.
pub fn data_hash(data: &[u8]) -> Hash {
    sha256(&[DATA_TAG, data])
}

/// As [`content_hash`], of data of which only the hash is known.
pub(crate) fn content_of(code: Option<&Hash>, data: &Hash) -> Hash {
    sha256(&[CONTENT_TAG, code.unwrap_or(&[0; 32]), data])
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_sequence_wins_and_then_the_higher_hash() {
        let version = |sequence, first| Version { sequence, hash: [first; 32] };
        let mut versions = [version(2, 0), version(1, 9), version(2, 1)];
        versions.sort_unstable();
        assert_eq!(versions, [version(1, 9), version(2, 0), version(2, 1)]);
    }

    #[test]
    fn of_two_deletions_the_one_that_deletes_more_is_remembered_and_then_the_one_with_a_proof() {
        let proof = Some(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] }.into());
        let put = Version { sequence: 5, hash: [9; 32] };
        let ascending = [
            Deletion::unsigned(put),
            Deletion::up_to(5, None),
            Deletion::up_to(5, proof.clone()),
            Deletion::up_to(6, None),
        ];
        assert!(put < ascending[1].version);
        for (at, lower) in ascending.iter().enumerate() {
            for higher in &ascending[at..] {
                assert_eq!(lower.clone().or_higher(higher.clone()), *higher);
                assert_eq!(higher.clone().or_higher(lower.clone()), *higher);
            }
        }
    }

    #[test]
    fn a_content_hash_covers_code_and_data_and_where_one_ends() {
        let (one, two) = (Code::hash_of("one"), Code::hash_of("two"));
        let hashes = [
            content_hash(None, b"data"),
            content_hash(None, b"other"),
            content_hash(Some(&one), b"data"),
            content_hash(Some(&two), b"data"),
            content_hash(None, &[one.as_slice(), b"data"].concat()),
        ];
        let distinct: std::collections::BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
    }

    #[test]
    fn code_and_content_of_the_same_bytes_have_different_hashes() {
        assert_ne!(Code::hash_of("text"), content_hash(None, b"text"));
        assert_eq!(Code::new("text").hash, Code::hash_of("text"));
    }
}
