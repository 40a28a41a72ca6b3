//! The protocol `comet/1`: what nodes say to each other, and its bytes.
//!
//! A frame is one MessagePack map with one entry, whose key says what the frame is and whose value is the
//! map of its fields: `{"find": {"t": …, "n": 20}}`. One request and one answer, each the whole of one
//! direction of a stream, so there is no length prefix and no request number. `docs/protocol.md` describes
//! every message for other implementations; the tests here hold it to the same bytes.
//!
//! Decoding trusts nothing: the structure of a frame (its end, depth, lengths and counts) is checked before
//! the first byte is decoded, every field has its own bound, and times are clamped where they are read.
//! Nothing here panics on any input, opens a socket or knows what a value means.

#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod answer;
mod digest;
mod field;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod properties;
mod refusal;
mod request;
mod scan;
mod seal;

use std::time::Duration;

use bytes::Bytes;
use comet_runtime::Refusal;
use serde::Serialize;

pub use answer::{Answer, Held, Reply, decode_answer, encode_answer};
pub use digest::{Summary, Verdict};
pub use request::{Object, Request, Trail};

/// The protocol's name, with which its name in the handshake begins.
pub const PROTOCOL: &str = "comet/1";

/// What nodes of a network call the protocol in the handshake (ALPN): nodes of different networks have none in
/// common, so they do not talk to each other.
pub fn alpn(network: &str) -> Vec<u8> {
    format!("{PROTOCOL}/{network}").into_bytes()
}

/// Largest frame: a replica with the largest data, state and code, and room for its other fields.
pub const FRAME_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + CODE_BYTES_MAX + FIELDS_BYTES_MAX;

/// Largest encoded value, state, payload or reply value.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Longest state of a copy: fields as large as a value, and what encloses them.
pub const STATE_BYTES_MAX: usize = VALUE_BYTES_MAX + 128;

/// Largest handler source.
pub const CODE_BYTES_MAX: usize = 16 * 1024;

/// Most contacts in one answer: Kademlia's k.
pub const CONTACTS_MAX: usize = 20;

/// Most objects in one digest.
pub const DIGEST_MAX: usize = 128;

/// Most lines of a log in one answer.
pub const LOG_LINES_MAX: usize = 64;

/// Longest line of a log, longest text of a refusal, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Most handlers that an inspection names.
pub const HANDLERS_MAX: usize = 16;

/// Longest name of a handler, in bytes.
pub const HANDLER_NAME_BYTES_MAX: usize = 64;

/// Longest lifetime: larger ones are read as this one.
pub const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Greatest age: larger ones are read as this one. Ten years, which every clock here can subtract.
pub const AGE_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Deepest nesting of lists and maps in a frame, its own map included.
pub const DEPTH_MAX: usize = 32;

/// Most values in a frame, counting keys, containers and what they hold.
pub const ELEMENTS_MAX: usize = 2048;

/// What a frame's fields other than data, state and code take at most.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// Why bytes from a peer are not a frame that this node understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A sound frame with a name that this version does not know.
    #[error("unknown message {0:?}")]
    Unsupported(String),
    /// Not a frame, or a frame whose fields are missing or out of bounds.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// More bytes than a frame may have.
    #[error("a message of {size} bytes, and the limit is {FRAME_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        size: usize,
    },
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Unsupported(_) => Self::Unsupported,
            DecodeError::Malformed(_) => Self::Invalid(error.to_string()),
            DecodeError::TooLarge { size } => too_large("the message", size),
        }
    }
}

impl From<rmp_serde::decode::Error> for DecodeError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        // The text may quote the frame.
        Self::Malformed(error.to_string().chars().take(200).collect())
    }
}

fn too_large(what: &str, size: usize) -> Refusal {
    let of = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
    Refusal::TooLarge { what: what.to_owned(), size: of(size), limit: of(FRAME_BYTES_MAX) }
}

/// A frame's bytes, with room for `payload_bytes` of large fields from the start.
fn to_frame(message: &impl Serialize, payload_bytes: usize) -> Bytes {
    let mut out = Vec::with_capacity(payload_bytes.saturating_add(256));
    #[allow(clippy::expect_used, reason = "an encoding that fails is a bug here, not a peer's doing")]
    rmp_serde::encode::write_named(&mut out, message).expect("memory takes any message of known lengths");
    out.into()
}
