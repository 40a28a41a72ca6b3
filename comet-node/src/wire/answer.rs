//! What a node answers: a reply, or the reason why there is none.

use std::net::SocketAddr;

use bytes::Bytes;
use comet_routing::Contact;
use comet_runtime::{
    Refusal,
    dht::{Inspection, LogLine, Usage},
};
use comet_store::{Seal, Version};
use serde::{Deserialize, Serialize};

use super::{
    DecodeError, FRAME_BYTES_MAX, Verdict, digest::verdicts, field, refusal::RefusalFields, scan,
    seal::seal_option, to_frame, too_large,
};

/// The answer to a request.
pub type Answer = Result<Reply, Refusal>;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`super::Request::Ping`].
    #[serde(rename = "pong")]
    Pong {
        /// The address from which the request came.
        #[serde(rename = "you", with = "field::addr")]
        you: SocketAddr,
    },
    /// To [`super::Request::FindNode`].
    #[serde(rename = "nodes")]
    Nodes {
        /// The closest contacts, nearest first, at most [`super::CONTACTS_MAX`].
        #[serde(rename = "c", with = "field::contacts")]
        contacts: Vec<Contact>,
    },
    /// To [`super::Request::Get`].
    #[serde(rename = "got")]
    Got {
        /// One encoded value.
        #[serde(rename = "v", with = "field::value")]
        value: Bytes,
        /// The version that this replica holds.
        #[serde(rename = "ver", with = "VersionFields")]
        version: Version,
        /// True if a handler made the value.
        #[serde(rename = "a")]
        active: bool,
        /// What that took.
        #[serde(rename = "u", with = "UsageFields")]
        usage: Usage,
        /// What proves that the owner of the key put it.
        #[serde(rename = "seal", with = "seal_option", default, skip_serializing_if = "Option::is_none")]
        seal: Option<Box<Seal>>,
    },
    /// To [`super::Request::Put`] and [`super::Request::Replicate`].
    #[serde(rename = "stored")]
    Stored {
        /// The version now held.
        #[serde(rename = "ver", with = "VersionFields")]
        version: Version,
        /// What its handlers used.
        #[serde(rename = "u", with = "UsageFields")]
        usage: Usage,
    },
    /// To [`super::Request::Delete`].
    #[serde(rename = "deleted")]
    Deleted {
        /// True if this replica held the object.
        #[serde(rename = "h")]
        held: bool,
    },
    /// To [`super::Request::Digest`].
    #[serde(rename = "compared")]
    Compared {
        /// One for each summary, in their order.
        #[serde(rename = "l", with = "verdicts")]
        verdicts: Vec<Verdict>,
    },
    /// To [`super::Request::Check`].
    #[serde(rename = "noted", with = "field::no_fields")]
    Noted,
    /// To [`super::Request::DialBack`].
    #[serde(rename = "dialled")]
    Dialled {
        /// True if the asking node was reached at the address from which it asked.
        #[serde(rename = "r")]
        reachable: bool,
    },
    /// To [`super::Request::Inspect`].
    #[serde(rename = "held")]
    Inspected(Held),
    /// To [`super::Request::Logs`].
    #[serde(rename = "log")]
    Log {
        /// Oldest first, at most [`super::LOG_LINES_MAX`].
        #[serde(rename = "l", with = "log_lines")]
        lines: Vec<LogLine>,
    },
}

/// What a replica says it holds: an [`Inspection`] without the replica's own contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which put it stems from.
    #[serde(rename = "ver", with = "VersionFields")]
    pub version: Version,
    /// The owner's public key.
    #[serde(rename = "pk", with = "field::exact_option", default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<[u8; 32]>,
    /// The handlers it has, by name, sorted.
    #[serde(rename = "hs", with = "field::handlers")]
    pub handlers: Vec<String>,
    /// Hash of the handler source.
    #[serde(rename = "ch", with = "field::exact_option", default, skip_serializing_if = "Option::is_none")]
    pub code_hash: Option<[u8; 32]>,
    /// Seconds since it was put.
    #[serde(rename = "age", deserialize_with = "field::age_seconds")]
    pub age_seconds: u64,
    /// Seconds until it expires.
    #[serde(rename = "left", deserialize_with = "field::remaining_seconds")]
    pub remaining_seconds: u64,
    /// Bytes of the put's data.
    #[serde(rename = "db")]
    pub data_bytes: u64,
    /// Bytes of the handlers' state.
    #[serde(rename = "sb")]
    pub state_bytes: u64,
    /// Replicas it asks for.
    #[serde(rename = "r", deserialize_with = "field::replicas")]
    pub replicas: u8,
    /// True if its actor is running.
    #[serde(rename = "a")]
    pub active: bool,
    /// What its last event used, with the callbacks that have followed it.
    #[serde(rename = "u", with = "UsageFields")]
    pub usage: Usage,
}

/// An answer's frame. One that exceeds [`FRAME_BYTES_MAX`] becomes [`Refusal::TooLarge`].
pub fn encode_answer(answer: &Answer) -> Bytes {
    let payload_bytes = match answer {
        Ok(Reply::Got { value, .. }) => value.len(),
        _ => 0,
    };
    let frame = match answer {
        Ok(reply) => to_frame(reply, payload_bytes),
        Err(refusal) => to_frame(&RefusedRef { refusal }, 0),
    };
    if frame.len() > FRAME_BYTES_MAX {
        return encode_answer(&Err(too_large("the answer", frame.len())));
    }
    frame
}

/// Reads an answer's frame.
///
/// The outer error is about the bytes, the inner one is the peer's refusal. A refusal of a kind that this
/// version does not know is read as [`Refusal::Refused`] with the kind's name.
pub fn decode_answer(frame: &[u8]) -> Result<Answer, DecodeError> {
    match scan::name_of(frame)? {
        "pong" | "nodes" | "got" | "stored" | "deleted" | "held" | "log" | "compared" | "noted"
        | "dialled" => Ok(Ok(rmp_serde::from_slice(frame)?)),
        "error" => super::refusal::decode(frame).map(Err),
        unknown => Err(DecodeError::Unsupported(unknown.to_owned())),
    }
}

impl Held {
    /// The inspection that this answer of `replica` amounts to.
    pub fn at(self, replica: Contact) -> Inspection {
        let Self {
            version,
            owner,
            handlers,
            code_hash,
            age_seconds,
            remaining_seconds,
            data_bytes,
            state_bytes,
            replicas,
            active,
            usage,
        } = self;
        Inspection {
            replica,
            version,
            owner,
            handlers,
            code_hash,
            age_seconds,
            remaining_seconds,
            data_bytes,
            state_bytes,
            replicas,
            active,
            usage,
        }
    }
}

impl From<Inspection> for Held {
    fn from(inspection: Inspection) -> Self {
        let Inspection {
            replica: _,
            version,
            owner,
            handlers,
            code_hash,
            age_seconds,
            remaining_seconds,
            data_bytes,
            state_bytes,
            replicas,
            active,
            usage,
        } = inspection;
        Self {
            version,
            owner,
            handlers,
            code_hash,
            age_seconds,
            remaining_seconds,
            data_bytes,
            state_bytes,
            replicas,
            active,
            usage,
        }
    }
}

#[derive(Serialize)]
struct RefusedRef<'a> {
    #[serde(rename = "error", with = "RefusalFields")]
    refusal: &'a Refusal,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Version")]
pub(super) struct VersionFields {
    #[serde(rename = "s")]
    sequence: u64,
    #[serde(rename = "h", with = "field::exact")]
    hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Usage")]
struct UsageFields {
    #[serde(rename = "s")]
    steps: u64,
    #[serde(rename = "b")]
    memory_bytes: u64,
    #[serde(rename = "m")]
    messages: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "LogLine")]
struct LogLineFields {
    #[serde(rename = "age", deserialize_with = "field::age_ms")]
    age_ms: u64,
    #[serde(rename = "f")]
    failure: bool,
    #[serde(rename = "t", with = "field::text")]
    text: String,
}

mod log_lines {
    use super::*;
    use crate::wire::LOG_LINES_MAX;
    use serde::{Deserializer, Serializer};

    #[derive(Serialize)]
    struct LineRef<'a>(#[serde(with = "LogLineFields")] &'a LogLine);

    #[derive(Deserialize)]
    struct Line(#[serde(with = "LogLineFields")] LogLine);

    pub(super) fn serialize<S: Serializer>(lines: &[LogLine], target: S) -> Result<S::Ok, S::Error> {
        target.collect_seq(lines.iter().take(LOG_LINES_MAX).map(LineRef))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<LogLine>, D::Error> {
        field::list_with(source, LOG_LINES_MAX, |Line(line)| line)
    }
}
