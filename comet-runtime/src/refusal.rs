//! Why something that was asked of an object, a replica or the swarm was not done.
//!
//! One enum serves every boundary, since the reason travels unchanged from the replica over the wire to the
//! person who asked. [`Refusal::code`] is stable; programs match on it.

use std::fmt;

use comet_store::Version;
use serde::{Deserialize, Serialize};

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The live nodes closest to the key do not hold the object.
    #[error("no such object")]
    NotFound,
    /// A handler said no, with its reason.
    #[error("the object refused: {0}")]
    Refused(String),
    /// A handler failed; the object is as it was before that turn.
    #[error("the object's {handler} failed: {failure}")]
    HandlerFailed {
        /// The handler, for example `onGet`.
        handler: String,
        /// What went wrong.
        failure: Failure,
    },
    /// The code does not compile or does not define an object.
    #[error("the code is not usable: {0}")]
    BadCode(String),
    /// Too many events wait for this object or this node.
    #[error("{0} has too much to do; try again")]
    Overloaded(String),
    /// Something is larger than its limit.
    #[error("{what} has {size} bytes and the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Invalid(String),
    /// The key belongs to an owner whose signature is missing or wrong.
    #[error("{0}")]
    NotOwner(String),
    /// A put with a higher version is stored already.
    #[error("a newer version is stored already (sequence {held_sequence})")]
    Stale {
        /// The sequence number of what is stored.
        held_sequence: u64,
    },
    /// A conditional put does not find what it expects to replace, or another one is under way. Reading the object
    /// again and putting what follows from that may succeed.
    #[error("the put's condition does not hold ({}), or another such put is under way", held_text(held.as_ref()))]
    Conflict {
        /// What is held instead.
        held: Option<Version>,
    },
    /// A quota is used up.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Whoever would have to pay for it has used up what it may use.
    #[error("{what}; try again in {wait_seconds} s")]
    Spent {
        /// What is used up, and by whom.
        what: String,
        /// When there is something again, in seconds.
        wait_seconds: u64,
    },
    /// The key is far from the node that was asked to store it.
    #[error(
        "the object belongs to other nodes: {nearer} are known nearer to its key; look the key up and ask those"
    )]
    Elsewhere {
        /// How many nodes it knows that are nearer.
        nearer: u64,
    },
    /// The replica cannot write at the moment.
    #[error("the replica cannot write to its disk: {0}")]
    Unwritable(String),
    /// The replica's copy does not match its hash.
    #[error("the replica's copy is damaged: {0}")]
    Corrupt(String),
    /// Fewer replicas than the quorum acknowledged.
    #[error("only {stored} of {wanted} replicas, quorum {quorum}: {reason}")]
    NoQuorum {
        /// Replicas that acknowledged.
        stored: u8,
        /// Replicas that were wanted.
        wanted: u8,
        /// Acknowledgements that were needed.
        quorum: u8,
        /// The commonest reason among those that did not.
        reason: String,
    },
    /// No answer within the deadline.
    #[error("no answer within {deadline_ms} ms")]
    Timeout {
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
    },
    /// The node knows no other node that it could ask, or could not reach the one it wanted.
    #[error("{0}")]
    Unreachable(String),
    /// The object may not do that: contact policy, budget, or generation count.
    #[error("{0}")]
    Denied(String),
    /// The peer speaks another version and does not know this request.
    #[error("the peer does not support this request")]
    Unsupported,
    /// The object or node is stopping; nothing was done.
    #[error("{0} is stopping; try again")]
    Stopping(String),
}

/// How a turn of a handler failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// More steps than the turn's budget.
    Steps {
        /// The budget.
        limit: u64,
    },
    /// More wall-clock time than the turn's budget.
    Time {
        /// The budget in milliseconds.
        limit_ms: u64,
    },
    /// More memory than the object or the turn may use.
    Memory {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The handler raised an error.
    Error(String),
    /// The reply is not a value, or is too large.
    BadReply(String),
    /// The state is not made of values, or is too large.
    BadState(String),
    /// The invocation, waits included, took too long.
    Deadline {
        /// The budget in milliseconds.
        limit_ms: u64,
    },
    /// Another turn of the same object failed, or the object was replaced, while this one waited.
    Interrupted,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps { limit } => write!(f, "more than {limit} steps in one turn"),
            Self::Time { limit_ms } => write!(f, "more than {limit_ms} ms in one turn"),
            Self::Memory { limit_bytes } => write!(f, "more than {limit_bytes} bytes of memory"),
            Self::Error(text) => f.write_str(text),
            Self::BadReply(text) => write!(f, "the reply is not usable: {text}"),
            Self::BadState(text) => write!(f, "the state is not usable: {text}"),
            Self::Deadline { limit_ms } => write!(f, "no end within {limit_ms} ms, waits included"),
            Self::Interrupted => f.write_str("the object failed or was replaced while this turn waited"),
        }
    }
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Refused(_) => "refused",
            Self::HandlerFailed { failure, .. } => failure.code(),
            Self::BadCode(_) => "bad_code",
            Self::Overloaded(_) => "overloaded",
            Self::TooLarge { .. } => "too_large",
            Self::Invalid(_) => "invalid",
            Self::NotOwner(_) => "not_owner",
            Self::Stale { .. } => "stale",
            Self::Conflict { .. } => "conflict",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::Spent { .. } => "spent",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Unwritable(_) => "unwritable",
            Self::Corrupt(_) => "corrupt",
            Self::NoQuorum { .. } => "no_quorum",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::Unsupported => "unsupported",
            Self::Stopping(_) => "stopping",
        }
    }

    /// True if the same request may succeed later or elsewhere.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Overloaded(_)
            | Self::Spent { .. }
            | Self::Elsewhere { .. }
            | Self::Unwritable(_)
            | Self::Corrupt(_)
            | Self::NoQuorum { .. }
            | Self::Timeout { .. }
            | Self::Unreachable(_)
            | Self::Stopping(_) => true,
            Self::HandlerFailed { failure, .. } => {
                matches!(failure, Failure::Time { .. } | Failure::Deadline { .. } | Failure::Interrupted)
            }
            _ => false,
        }
    }
}

fn held_text(held: Option<&Version>) -> String {
    match held {
        Some(Version { sequence, .. }) => format!("sequence {sequence} is held"),
        None => "no object is held".into(),
    }
}

impl Failure {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Steps { .. } => "handler_steps",
            Self::Time { .. } => "handler_time",
            Self::Memory { .. } => "handler_memory",
            Self::Error(_) => "handler_error",
            Self::BadReply(_) => "handler_bad_reply",
            Self::BadState(_) => "handler_bad_state",
            Self::Deadline { .. } => "handler_deadline",
            Self::Interrupted => "handler_interrupted",
        }
    }
}
