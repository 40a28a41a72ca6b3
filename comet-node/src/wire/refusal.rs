//! Refusals on the wire: one entry each, named by [`Refusal::code`].

use std::collections::BTreeMap;

use comet_runtime::{Failure, Refusal};
use comet_store::Version;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{DecodeError, field, request::version_option};

/// Longest name of an unknown refusal that is shown.
const KIND_CHARS_MAX: usize = 40;

/// Mirrors [`Refusal`], whose Rust names are not the protocol's.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Refusal", rename_all = "snake_case")]
pub(super) enum RefusalFields {
    #[serde(with = "field::no_fields")]
    NotFound,
    Refused(#[serde(with = "field::text")] String),
    #[serde(rename = "failed")]
    HandlerFailed {
        #[serde(rename = "h", with = "field::text")]
        handler: String,
        #[serde(rename = "f", with = "FailureFields")]
        failure: Failure,
    },
    BadCode(#[serde(with = "field::text")] String),
    Overloaded(#[serde(with = "field::text")] String),
    TooLarge {
        #[serde(with = "field::text")]
        what: String,
        size: u64,
        limit: u64,
    },
    Invalid(#[serde(with = "field::text")] String),
    NotOwner(#[serde(with = "field::text")] String),
    Stale {
        #[serde(rename = "held")]
        held_sequence: u64,
    },
    Conflict {
        #[serde(with = "version_option", default, skip_serializing_if = "Option::is_none")]
        held: Option<Version>,
    },
    QuotaExceeded(#[serde(with = "field::text")] String),
    Spent {
        #[serde(with = "field::text")]
        what: String,
        #[serde(rename = "s")]
        wait_seconds: u64,
    },
    Elsewhere {
        nearer: u64,
    },
    Unwritable(#[serde(with = "field::text")] String),
    Corrupt(#[serde(with = "field::text")] String),
    NoQuorum {
        stored: u8,
        wanted: u8,
        quorum: u8,
        #[serde(with = "field::text")]
        reason: String,
    },
    Timeout {
        #[serde(rename = "ms")]
        deadline_ms: u64,
    },
    Unreachable(#[serde(with = "field::text")] String),
    Denied(#[serde(with = "field::text")] String),
    #[serde(with = "field::no_fields")]
    Unsupported,
    Stopping(#[serde(with = "field::text")] String),
}

/// Mirrors [`Failure`].
#[derive(Serialize, Deserialize)]
#[serde(remote = "Failure", rename_all = "snake_case")]
enum FailureFields {
    Steps {
        limit: u64,
    },
    Time {
        #[serde(rename = "ms")]
        limit_ms: u64,
    },
    Memory {
        #[serde(rename = "bytes")]
        limit_bytes: u64,
    },
    Error(#[serde(with = "field::text")] String),
    BadReply(#[serde(with = "field::text")] String),
    BadState(#[serde(with = "field::text")] String),
    Deadline {
        #[serde(rename = "ms")]
        limit_ms: u64,
    },
    #[serde(with = "field::no_fields")]
    Interrupted,
}

/// Reads the frame of a refusal.
///
/// A refusal of a kind that this version does not know is still a refusal, and keeps its name.
pub(super) fn decode(frame: &[u8]) -> Result<Refusal, DecodeError> {
    #[derive(Deserialize)]
    struct Refused {
        #[serde(rename = "error", with = "RefusalFields")]
        refusal: Refusal,
    }
    #[derive(Deserialize)]
    struct Unknown {
        error: BTreeMap<String, IgnoredAny>,
    }
    match rmp_serde::from_slice(frame) {
        Ok(Refused { refusal }) => Ok(refusal),
        Err(error) => {
            let unknown: Unknown = rmp_serde::from_slice(frame).map_err(|_| error)?;
            let kind: String = unknown.error.into_keys().next().unwrap_or_default();
            let kind: String = kind.chars().take(KIND_CHARS_MAX).collect();
            Ok(Refusal::Refused(format!("for a reason that this version does not know ({kind})")))
        }
    }
}
