//! What one node asks of another.

use std::sync::Arc;

use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::dht::LogProof;
use comet_store::{Ownership, Publication, Version};
use serde::{Deserialize, Serialize};

use super::{DecodeError, Summary, answer::VersionFields, digest::summaries, field, scan, to_frame};

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Are you there, and from where do you see me?
    #[serde(rename = "ping", with = "field::no_fields")]
    Ping,
    /// Which nodes that you know are closest to `target`?
    #[serde(rename = "find")]
    FindNode {
        /// The point of the key space.
        #[serde(rename = "t", with = "field::key")]
        target: Key,
        /// How many contacts are wanted, at most [`super::CONTACTS_MAX`].
        #[serde(rename = "n", deserialize_with = "field::contact_count")]
        count: u8,
    },
    /// Read the object from your replica; its `onGet` runs there.
    #[serde(rename = "get")]
    Get {
        /// What.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
        /// What `onGet` receives as its third argument: one encoded value.
        #[serde(
            rename = "p",
            with = "field::value_option",
            default,
            skip_serializing_if = "Option::is_none"
        )]
        payload: Option<Bytes>,
        /// Where the reader would accept a later put from the object.
        #[serde(rename = "cb", with = "field::key_option", default, skip_serializing_if = "Option::is_none")]
        callback: Option<Key>,
        /// What the request may still cause.
        #[serde(rename = "tr")]
        trail: Trail,
    },
    /// Store this object: a client's put.
    #[serde(rename = "put")]
    Put {
        /// The object.
        #[serde(rename = "o")]
        object: Object,
        /// What the request may still cause.
        #[serde(rename = "tr")]
        trail: Trail,
    },
    /// Store this object if what is held is what its writer expects. It has a name of its own, since a node that
    /// did not know the condition must not store the object without it.
    #[serde(rename = "putif")]
    PutIf {
        /// The object.
        #[serde(rename = "o")]
        object: Object,
        /// What it is to replace; `None` for nothing.
        #[serde(rename = "if", with = "version_option", default, skip_serializing_if = "Option::is_none")]
        expected: Option<Version>,
        /// The attempt that the replica was asked to wait for.
        #[serde(rename = "n")]
        ticket: u64,
        /// What the request may still cause.
        #[serde(rename = "tr")]
        trail: Trail,
    },
    /// Wait for a conditional put of this object, which will follow if enough replicas do. It is the whole object, so
    /// that what a replica would not take fails before any has stored it, and nobody but its owner claims an owned key.
    #[serde(rename = "claim")]
    Claim {
        /// The object.
        #[serde(rename = "o")]
        object: Object,
        /// What it is to replace; `None` for nothing.
        #[serde(rename = "if", with = "version_option", default, skip_serializing_if = "Option::is_none")]
        expected: Option<Version>,
        /// Names the attempt among those of the asking node.
        #[serde(rename = "n")]
        ticket: u64,
    },
    /// Wait no more for a conditional put: it will not follow.
    #[serde(rename = "unclaim")]
    Unclaim {
        /// The key.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
        /// The attempt.
        #[serde(rename = "n")]
        ticket: u64,
    },
    /// Keep this copy of a replica's.
    #[serde(rename = "copy")]
    Replicate {
        /// The object as it was put.
        #[serde(rename = "o")]
        object: Object,
        /// What its handlers made of it at the sender; empty if nothing yet.
        #[serde(rename = "st", with = "field::state")]
        state: Bytes,
        /// Seconds since the put.
        #[serde(rename = "age", deserialize_with = "field::age_seconds")]
        age_seconds: u64,
        /// Seconds until it expires.
        #[serde(rename = "left", deserialize_with = "field::remaining_seconds")]
        remaining_seconds: u64,
        /// What the copy may still cause.
        #[serde(rename = "tr")]
        trail: Trail,
    },
    /// Forget the object.
    #[serde(rename = "delete")]
    Delete {
        /// What.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
        /// Orders the deletion among the puts of this key.
        #[serde(rename = "s")]
        sequence: u64,
        /// The owner's signature, for an owned key.
        #[serde(rename = "own", with = "ownership_option", default, skip_serializing_if = "Option::is_none")]
        ownership: Option<Box<Ownership>>,
        /// What the request may still cause.
        #[serde(rename = "tr")]
        trail: Trail,
    },
    /// What do you have of these objects, of which I hold the given versions?
    #[serde(rename = "digest")]
    Digest {
        /// At most [`super::DIGEST_MAX`].
        #[serde(rename = "l", with = "summaries")]
        summaries: Vec<Summary>,
    },
    /// See soon whether the other replicas of this object are as they should be: somebody met one that is not.
    #[serde(rename = "check")]
    Check {
        /// The object.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
    },
    /// Can you connect to me anew, from a port from which you never did?
    #[serde(rename = "dialback", with = "field::no_fields")]
    DialBack,
    /// Forget this version of a plain value that nobody owns: where its key has an active object, that kept itself.
    #[serde(rename = "withdraw")]
    Withdraw {
        /// The key.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
        /// What was put there.
        #[serde(rename = "ver", with = "VersionFields")]
        version: Version,
    },
    /// What do you hold of the object? Runs none of its handlers; a passive object's script is loaded for it.
    #[serde(rename = "inspect")]
    Inspect {
        /// What.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
    },
    /// What did the object log at your replica?
    #[serde(rename = "logs")]
    Logs {
        /// Whose log.
        #[serde(rename = "k", with = "field::key")]
        key: Key,
        /// The owner's proof, for an owned object.
        #[serde(rename = "own", with = "proof_option", default, skip_serializing_if = "Option::is_none")]
        proof: Option<LogProof>,
    },
}

/// An object as it is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Where.
    #[serde(rename = "k", with = "field::key")]
    pub key: Key,
    /// Orders the puts of this key.
    #[serde(rename = "s")]
    pub sequence: u64,
    /// The owner's signature, for an owned key.
    #[serde(rename = "own", with = "ownership_option", default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<Box<Ownership>>,
    /// How long to keep it, in seconds.
    #[serde(rename = "ttl", deserialize_with = "field::ttl_seconds")]
    pub ttl_seconds: u64,
    /// On how many nodes; 0 leaves that to its handlers.
    #[serde(rename = "r", deserialize_with = "field::replicas")]
    pub replicas: u8,
    /// Its handlers' source.
    #[serde(rename = "c", with = "field::code_option", default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Arc<str>>,
    /// A publisher's signature under the code.
    #[serde(rename = "pub", with = "publication_option", default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<Box<Publication>>,
    /// Its data: one encoded value, not decoded here so that hash and signature cover the bytes as sent.
    #[serde(rename = "d", with = "field::value")]
    pub data: Bytes,
}

/// The budget that travels with whatever a request sets off, so that no cascade of objects runs for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Messages that the whole cascade may still send.
    #[serde(rename = "m")]
    pub messages: u8,
    /// Bytes that these messages may have together.
    #[serde(rename = "b")]
    pub bytes: u32,
    /// Levels of objects that may still set off other objects.
    #[serde(rename = "d")]
    pub depth: u8,
}

impl Trail {
    /// The one that takes most bytes in a frame.
    pub const LONGEST: Self = Self { messages: u8::MAX, bytes: u32::MAX, depth: u8::MAX };
}

impl Request {
    /// The request's frame. One that exceeds [`super::FRAME_BYTES_MAX`] is refused by the transport.
    pub fn encode(&self) -> Bytes {
        let payload_bytes = match self {
            Self::Get { payload, .. } => payload.as_ref().map_or(0, Bytes::len),
            Self::Put { object, .. } | Self::PutIf { object, .. } | Self::Claim { object, .. } => {
                object.payload_bytes()
            }
            Self::Replicate { object, state, .. } => object.payload_bytes().saturating_add(state.len()),
            Self::Ping
            | Self::FindNode { .. }
            | Self::Unclaim { .. }
            | Self::Delete { .. }
            | Self::Digest { .. }
            | Self::Check { .. }
            | Self::Withdraw { .. }
            | Self::DialBack
            | Self::Inspect { .. }
            | Self::Logs { .. } => 0,
        };
        to_frame(self, payload_bytes)
    }

    /// The same request with another budget, if it carries one.
    #[must_use]
    pub fn with_trail(mut self, budget: Trail) -> Self {
        match &mut self {
            Self::Get { trail, .. }
            | Self::Put { trail, .. }
            | Self::PutIf { trail, .. }
            | Self::Replicate { trail, .. }
            | Self::Delete { trail, .. } => *trail = budget,
            Self::Claim { .. }
            | Self::Unclaim { .. }
            | Self::Ping
            | Self::FindNode { .. }
            | Self::Digest { .. }
            | Self::Check { .. }
            | Self::Withdraw { .. }
            | Self::DialBack
            | Self::Inspect { .. }
            | Self::Logs { .. } => {}
        }
        self
    }

    /// Reads a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        match scan::name_of(frame)? {
            "ping" | "find" | "get" | "put" | "putif" | "claim" | "unclaim" | "copy" | "delete"
            | "inspect" | "logs" | "digest" | "check" | "withdraw" | "dialback" => {
                Ok(rmp_serde::from_slice(frame)?)
            }
            unknown => Err(DecodeError::Unsupported(unknown.to_owned())),
        }
    }
}

impl Object {
    fn payload_bytes(&self) -> usize {
        self.data.len().saturating_add(self.code.as_ref().map_or(0, |code| code.len()))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Ownership")]
pub(super) struct OwnershipFields {
    #[serde(rename = "pk", with = "field::exact")]
    public_key: [u8; 32],
    #[serde(rename = "salt", with = "field::exact")]
    salt: [u8; 32],
    #[serde(rename = "sig", with = "field::exact")]
    signature: [u8; 64],
}

pub(super) mod ownership_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        ownership: &Option<Box<Ownership>>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match ownership {
            Some(ownership) => OwnershipFields::serialize(ownership, target),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Box<Ownership>>, D::Error> {
        OwnershipFields::deserialize(source).map(|ownership| Some(ownership.into()))
    }
}

pub(super) mod version_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(in crate::wire) fn serialize<S: Serializer>(
        version: &Option<Version>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match version {
            Some(version) => VersionFields::serialize(version, target),
            None => target.serialize_none(),
        }
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Version>, D::Error> {
        VersionFields::deserialize(source).map(Some)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Publication")]
struct PublicationFields {
    #[serde(rename = "pk", with = "field::exact")]
    public_key: [u8; 32],
    #[serde(rename = "sig", with = "field::exact")]
    signature: [u8; 64],
}

mod publication_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        publication: &Option<Box<Publication>>,
        target: S,
    ) -> Result<S::Ok, S::Error> {
        match publication {
            Some(publication) => PublicationFields::serialize(publication, target),
            None => target.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        source: D,
    ) -> Result<Option<Box<Publication>>, D::Error> {
        PublicationFields::deserialize(source).map(|publication| Some(publication.into()))
    }
}

/// A signed statement's sequence number and signature: how an owner's proof travels.
#[derive(Serialize)]
struct ProofRef<'a> {
    #[serde(rename = "s")]
    sequence: u64,
    #[serde(rename = "o", with = "OwnershipFields")]
    ownership: &'a Ownership,
}

/// As [`ProofRef`].
#[derive(Deserialize)]
struct Proof {
    #[serde(rename = "s")]
    sequence: u64,
    #[serde(rename = "o", with = "OwnershipFields")]
    ownership: Ownership,
}

mod proof_option {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(proof: &Option<LogProof>, target: S) -> Result<S::Ok, S::Error> {
        let proof = proof
            .as_ref()
            .map(|LogProof { ownership, sequence }| ProofRef { sequence: *sequence, ownership });
        proof.serialize(target)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Option<LogProof>, D::Error> {
        Proof::deserialize(source).map(|Proof { sequence, ownership }| Some(LogProof { ownership, sequence }))
    }
}
