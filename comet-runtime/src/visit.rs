//! What reaches one object on one replica, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use comet_routing::{Contact, clock::WallMs};
use comet_store::{Deletion, Record, Seal, StoreError, Version};

use crate::{
    Caller, Condition, Refusal, Trail, Value,
    dht::{Inspection, LogLine, Usage},
};

/// A request for one object on this replica, already verified: sizes, signature, who asks.
#[derive(Clone, Debug)]
pub enum Visit {
    /// Read it.
    Get {
        /// Who reads.
        caller: Caller,
        /// What the reader sent along.
        payload: Option<Value>,
        /// What the read may cause.
        trail: Trail,
    },
    /// Store it, or offer it to the object that is here already.
    Put {
        /// Who writes.
        caller: Caller,
        /// What is to be stored. A copy between replicas carries the state, a client's put does not.
        record: Arc<Record>,
        /// What has to be here for it, if that matters to whoever writes.
        condition: Option<Box<Condition>>,
        /// What the write may cause.
        trail: Trail,
    },
    /// Wait for a put with this condition: until it comes no other put with a condition takes place.
    Claim {
        /// Who writes.
        caller: Caller,
        /// What will be put.
        version: Version,
        /// What has to be here for it.
        condition: Box<Condition>,
    },
    /// Wait no more for a put.
    Unclaim {
        /// Who would have written.
        caller: Caller,
        /// Which attempt.
        ticket: u64,
    },
    /// Delete it.
    Delete {
        /// Who deletes.
        caller: Caller,
        /// What is to be remembered of it; handlers cannot refuse one that the owner signed.
        deletion: Box<Deletion>,
        /// What the deletion may cause.
        trail: Trail,
    },
    /// Forget this version, which other nodes keep. Its handlers are not asked, and nothing remembers a deletion.
    Release {
        /// What is to go; another version stays.
        version: Version,
    },
    /// Forget this version of a plain value that nobody owns, which came here past an active object that kept
    /// itself elsewhere. Anything else stays.
    Withdraw {
        /// What is to go.
        version: Version,
    },
    /// Say what is here.
    Inspect {
        /// Who looks: the script of an object that is not active runs for it.
        caller: Caller,
    },
    /// Show its log.
    Log,
    /// Run its timer, which fell due while the object was not active.
    Wake,
}

impl Visit {
    /// Who comes, where a script may have to run for it.
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Get { caller, .. } | Self::Put { caller, .. } | Self::Delete { caller, .. } => Some(caller),
            Self::Inspect { caller } => Some(caller),
            Self::Claim { .. } | Self::Unclaim { .. } => None,
            Self::Release { .. } | Self::Withdraw { .. } | Self::Log | Self::Wake => None,
        }
    }

    /// The same visit, which may cause as much as this.
    #[must_use]
    pub fn with_trail(mut self, budget: Trail) -> Self {
        match &mut self {
            Self::Get { trail, .. } | Self::Put { trail, .. } | Self::Delete { trail, .. } => *trail = budget,
            Self::Claim { .. } | Self::Unclaim { .. } => {}
            Self::Release { .. } | Self::Withdraw { .. } | Self::Inspect { .. } | Self::Log | Self::Wake => {}
        }
        self
    }
}

/// What a visit achieved.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// The answer to a get.
    Got {
        /// The reply, encoded.
        value: Bytes,
        /// The version that this replica holds.
        version: Version,
        /// True if a handler or an active object answered.
        active: bool,
        /// What it used.
        usage: Usage,
        /// What proves that the owner put it, where somebody owns it.
        seal: Option<Box<Seal>>,
    },
    /// The put is stored, or was handled by the object.
    Stored {
        /// The version that this replica now holds.
        version: Version,
        /// What it used.
        usage: Usage,
    },
    /// It is noted who writes next, or no more.
    Noted,
    /// The object is deleted.
    Deleted {
        /// False if it was not here.
        held: bool,
    },
    /// What is here.
    Inspected(Box<Holding>),
    /// The log, oldest line first.
    Logged(Vec<LogLine>),
    /// The timer has run.
    Ticked,
}

/// What this replica holds of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// The stored record, with the state as it is in memory.
    pub record: Record,
    /// The handlers that it has, in the order of [`crate::HANDLERS`].
    pub handlers: Vec<String>,
    /// True if its actor was running before the inspection.
    pub active: bool,
    /// What its last invocation used.
    pub usage: Usage,
}

impl Holding {
    /// The holding as an inspection shows it.
    pub fn inspection(&self, replica: Contact, now: WallMs) -> Inspection {
        let record = &self.record;
        Inspection {
            replica,
            version: record.version,
            owner: record.ownership.as_ref().map(|ownership| ownership.public_key),
            handlers: self.handlers.clone(),
            code_hash: record.code.as_ref().map(|code| code.hash),
            age_seconds: now.saturating_sub(record.created_ms) / 1_000,
            remaining_seconds: record.expires_ms.saturating_sub(now) / 1_000,
            data_bytes: record.data.len() as u64,
            state_bytes: record.state.len() as u64,
            replicas: record.replicas,
            active: self.active,
            usage: self.usage,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::QuotaExceeded(_) => Self::QuotaExceeded(text),
            StoreError::Unwritable { .. } | StoreError::Unreadable { .. } => Self::Unwritable(text),
            StoreError::Corrupt { .. } | StoreError::CorruptMeta { .. } => Self::Corrupt(text),
            StoreError::Mismatch => Self::Invalid(text),
            StoreError::Overloaded => Self::Overloaded("the store".into()),
            StoreError::Stopped => Self::Stopping("the store".into()),
        }
    }
}
