//! What a request may do on this node: every check between a decoded request and the object it is for.
//!
//! The cheap checks come first and signatures last, so that a flood of bad requests costs little. A copy from
//! a replica passes the same checks as a client's put; only its state is taken on trust, since nobody could
//! have signed it.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use comet_routing::{Contact, Key, clock::WallMs};
use comet_runtime::{
    Bounds, Caller, Condition, DecodeError, Limits, Origin, REPLICAS_MAX, Refusal, Trail, Value, visit::Visit,
};
use comet_store::{
    Act, Code, Deletion, Expected, Ownership, OwnershipError, Publication, PublicationError, Record, Seal,
    Shown, Statement, Version, content_hash,
};

use crate::{
    config::ReplicationConfig,
    wire::{self, Object, Request, STATE_BYTES_MAX, Summary},
};

/// How far ahead of this node's clock the sequence number of an unsigned put or deletion may be, in
/// microseconds: a day. Without a bound, one could outrank all later ones for ever.
const SEQUENCE_AHEAD_US: u64 = 24 * 3_600 * 1_000_000;

/// The highest sequence number with which an owner may sign a put, half of what there is: room for a clock in
/// nanoseconds. A deletion may have one more, so that no put by mistake locks its key for ever.
const SIGNED_SEQUENCE_MAX: u64 = u64::MAX / 2;

/// How old, or how far ahead, a proof for reading a log may be, in seconds.
const PROOF_SECONDS: u64 = 300;

/// Levels that a state has above its fields.
const STATE_DEPTH: usize = 2;

/// Checks requests against the limits and the rights of this node.
#[derive(Clone, Debug)]
pub struct Gate {
    network: String,
    limits: Limits,
    ttl_seconds: (u64, u64),
}

/// A request that may be carried out.
#[derive(Clone, Debug)]
pub enum Admitted {
    /// Say that this node is there.
    Ping,
    /// Name contacts.
    FindNode {
        /// Close to this.
        target: Key,
        /// So many at most.
        count: usize,
    },
    /// Say what this node has of these objects.
    Compare {
        /// The objects, with the versions that the asker holds.
        summaries: Vec<Summary>,
    },
    /// See soon whether this object's replicas are as they should be.
    Check {
        /// The object.
        key: Key,
    },
    /// Say whether the asking node can be reached.
    DialBack,
    /// Ask an object.
    Visit {
        /// Which.
        key: Key,
        /// What.
        visit: Visit,
    },
}

impl Gate {
    /// A gate for the objects of one network.
    pub fn new(network: impl Into<String>, limits: Limits, replication: &ReplicationConfig) -> Self {
        let ttl_seconds = (replication.ttl_seconds_min, replication.ttl_seconds_max);
        Self { network: network.into(), limits, ttl_seconds }
    }

    /// What objects may measure here.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How long an object that asks for this lifetime is kept, in seconds.
    pub fn granted_seconds(&self, ttl_seconds: u64) -> u64 {
        ttl_seconds.max(self.ttl_seconds.0).min(self.ttl_seconds.1)
    }

    /// Checks a get of the authenticated node `from`, which may cause so much.
    pub fn admit_get(
        &self,
        from: Contact,
        payload: Option<&Bytes>,
        callback: Option<Key>,
        trail: Trail,
    ) -> Result<Visit, Refusal> {
        let payload = payload.map(|payload| self.value("the payload", payload)).transpose()?;
        let caller = Caller { node: from, callback, owner: None, origin: Origin::Client };
        Ok(Visit::Get { caller, payload, trail })
    }

    /// Checks a request of the authenticated node `from` that arrives at `now_ms`.
    pub fn admit(&self, request: Request, from: Contact, now_ms: WallMs) -> Result<Admitted, Refusal> {
        let caller = Caller { node: from, callback: None, owner: None, origin: Origin::Client };
        let (key, visit) = match request {
            Request::Ping => return Ok(Admitted::Ping),
            Request::FindNode { target, count } => {
                return Ok(Admitted::FindNode { target, count: usize::from(count) });
            }
            Request::Digest { summaries } => {
                each_names_another_key(&summaries)?;
                return Ok(Admitted::Compare { summaries });
            }
            Request::Check { key } => return Ok(Admitted::Check { key }),
            Request::DialBack => return Ok(Admitted::DialBack),
            Request::Get { key, payload, callback, trail } => {
                (key, self.admit_get(from, payload.as_ref(), callback, granted(trail))?)
            }
            Request::Put { object, trail } => {
                let record = Arc::new(self.record(object, now_ms)?);
                let caller = Caller { owner: owner_of(&record), ..caller };
                (record.key, Visit::Put { caller, record, condition: None, trail: granted(trail) })
            }
            Request::PutIf { object, expected, ticket, trail } => {
                let record = Arc::new(self.record(object, now_ms)?);
                let caller = Caller { owner: owner_of(&record), ..caller };
                let condition = Some(Box::new(condition(expected, ticket)));
                (record.key, Visit::Put { caller, record, condition, trail: granted(trail) })
            }
            Request::Claim { object, expected, ticket } => {
                if object.key.is_owned() && object.ownership.is_none() {
                    return Err(not_owner(OwnershipError::Unsigned));
                }
                let Record { key, version, .. } = self.record(object, now_ms)?;
                let condition = Box::new(condition(expected, ticket));
                (key, Visit::Claim { caller, version, condition })
            }
            Request::Unclaim { key, ticket } => (key, Visit::Unclaim { caller, ticket }),
            Request::Replicate { object, state, age_seconds, remaining_seconds, trail } => {
                let copy = self.copy(object, state, age_seconds, remaining_seconds, now_ms)?;
                let caller = Caller { owner: owner_of(&copy), origin: Origin::Replica, ..caller };
                let record = Arc::new(copy);
                (record.key, Visit::Put { caller, record, condition: None, trail: granted(trail) })
            }
            Request::Delete { key, sequence, ownership, trail } => {
                let deletion = Box::new(self.deletion(&key, sequence, ownership, now_ms)?);
                let owner = deletion.ownership.as_ref().map(|ownership| ownership.public_key);
                (key, Visit::Delete { caller: Caller { owner, ..caller }, deletion, trail: granted(trail) })
            }
            Request::Withdraw { key, version } => (key, Visit::Withdraw { version }),
            Request::Inspect { key } => (key, Visit::Inspect { caller }),
            Request::Logs { key, proof } => {
                let proof = proof.as_ref().map(|proof| (proof.sequence, &proof.ownership));
                self.may_read_log(&key, proof, now_ms)?;
                (key, Visit::Log)
            }
        };
        Ok(Admitted::Visit { key, visit })
    }

    /// The record of a put.
    fn record(&self, object: Object, now_ms: WallMs) -> Result<Record, Refusal> {
        let Object { key, sequence, ownership, ttl_seconds, replicas, code, publication, data } = object;
        if replicas > REPLICAS_MAX {
            return Err(Refusal::Invalid(format!("{replicas} replicas, and the limit is {REPLICAS_MAX}")));
        }
        let code_bytes = code.as_ref().map_or(0, |code| code.len());
        if code_bytes > self.limits.code_bytes {
            return Err(too_large("the code", code_bytes, self.limits.code_bytes));
        }
        match &ownership {
            Some(_) => may_sign(&key, sequence, SIGNED_SEQUENCE_MAX)?,
            None => self.check_sequence(sequence, now_ms)?,
        }
        self.value("the value", &data)?;
        let code = code.map(Code::new);
        let version = Version { sequence, hash: content_hash(code.as_ref().map(|code| &code.hash), &data) };
        if let Some(ownership) = &ownership {
            let act = Act::Put { content: &version.hash, ttl_seconds, replicas };
            self.verify(ownership, &key, sequence, act)?;
        }
        if let Some(publication) = &publication {
            self.verify_publication(publication, code.as_ref())?;
        }
        let lifetime_ms = self.granted_seconds(ttl_seconds).saturating_mul(1_000);
        Ok(Record {
            key,
            ownership,
            version,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(lifetime_ms),
            ttl_seconds,
            replicas,
            code,
            publication,
            data,
            state: Bytes::new(),
        })
    }

    /// The record of a replica's copy. An owned key wants its owner's signature here, since no handler is asked.
    fn copy(
        &self,
        object: Object,
        state: Bytes,
        age_seconds: u64,
        remaining_seconds: u64,
        now_ms: WallMs,
    ) -> Result<Record, Refusal> {
        if remaining_seconds == 0 {
            return Err(Refusal::Invalid("the copy has expired".into()));
        }
        if object.key.is_owned() && object.ownership.is_none() {
            return Err(not_owner(OwnershipError::Unsigned));
        }
        if !state.is_empty() {
            let bounds = Bounds { bytes: STATE_BYTES_MAX, depth: self.limits.depth + STATE_DEPTH };
            Value::decode(&state, bounds).map_err(|error| unreadable("the state", &error))?;
        }
        let record = self.record(object, now_ms)?;
        let expires_ms = now_ms.saturating_add(remaining_seconds.saturating_mul(1_000));
        Ok(Record {
            created_ms: now_ms.saturating_sub(age_seconds.saturating_mul(1_000)),
            expires_ms: expires_ms.min(record.expires_ms),
            state,
            ..record
        })
    }

    /// The highest sequence number that an unsigned put or deletion may have at `now_ms`.
    pub fn sequence_max(&self, now_ms: WallMs) -> u64 {
        now_ms.saturating_mul(1_000).saturating_add(SEQUENCE_AHEAD_US)
    }

    fn check_sequence(&self, sequence: u64, now_ms: WallMs) -> Result<(), Refusal> {
        if sequence > self.sequence_max(now_ms) {
            return Err(Refusal::Invalid("the request is dated more than a day ahead".into()));
        }
        Ok(())
    }

    /// What a deletion deletes; an unsigned one is the object's to judge.
    fn deletion(
        &self,
        key: &Key,
        sequence: u64,
        ownership: Option<Box<Ownership>>,
        now_ms: WallMs,
    ) -> Result<Deletion, Refusal> {
        match &ownership {
            Some(ownership) => {
                may_sign(key, sequence, SIGNED_SEQUENCE_MAX + 1)?;
                self.verify(ownership, key, sequence, Act::Delete)?;
            }
            None => self.check_sequence(sequence, now_ms)?,
        }
        Ok(Deletion::up_to(sequence, ownership))
    }

    fn may_read_log(
        &self,
        key: &Key,
        proof: Option<(u64, &Ownership)>,
        now_ms: WallMs,
    ) -> Result<(), Refusal> {
        let Some((seconds, ownership)) = proof else {
            return if key.is_owned() { Err(not_owner(OwnershipError::Unsigned)) } else { Ok(()) };
        };
        must_be_owned(key)?;
        if seconds.abs_diff(now_ms / 1_000) > PROOF_SECONDS {
            let text = format!("the proof is dated more than {PROOF_SECONDS} s from this node's clock");
            return Err(Refusal::NotOwner(text));
        }
        self.verify(ownership, key, seconds, Act::ReadLog)
    }

    fn verify(&self, ownership: &Ownership, key: &Key, sequence: u64, act: Act<'_>) -> Result<(), Refusal> {
        let statement = Statement { network: &self.network, key, sequence, act };
        ownership.verify(&statement).map_err(not_owner)
    }

    /// Checks that the owner of a key put what a replica shows under this version. Of a key that nobody owns
    /// there is nothing to check: it says of itself which it is, so a replica cannot pass one for the other.
    pub fn believe(
        &self,
        key: &Key,
        version: &Version,
        seal: Option<&Seal>,
        shown: Shown<'_>,
    ) -> Result<(), OwnershipError> {
        match seal {
            _ if !key.is_owned() => Ok(()),
            Some(seal) => seal.verify(&self.network, key, version, shown),
            None => Err(OwnershipError::Unsigned),
        }
    }

    /// Whoever the publisher is: whether this node trusts it is asked where the code runs.
    fn verify_publication(&self, publication: &Publication, code: Option<&Code>) -> Result<(), Refusal> {
        let code = code.ok_or(PublicationError::NoCode);
        code.and_then(|code| publication.verify(&self.network, &code.hash))
            .map_err(|error| Refusal::Invalid(error.to_string()))
    }

    fn value(&self, what: &str, bytes: &[u8]) -> Result<Value, Refusal> {
        Value::decode(bytes, self.limits.value_bounds()).map_err(|error| unreadable(what, &error))
    }
}

/// What a request may still cause: what its sender leaves it, and no more than a fresh request has.
fn granted(trail: wire::Trail) -> Trail {
    let Trail { messages, bytes, depth } = Trail::FRESH;
    Trail {
        messages: trail.messages.min(messages),
        bytes: trail.bytes.min(bytes),
        depth: trail.depth.min(depth),
    }
}

/// Each summary costs a look into the store, and a key needs but one.
fn each_names_another_key(summaries: &[Summary]) -> Result<(), Refusal> {
    let keys: BTreeSet<_> = summaries.iter().map(|summary| summary.key).collect();
    if keys.len() < summaries.len() {
        return Err(Refusal::Invalid("the digest names a key twice".into()));
    }
    Ok(())
}

fn condition(expected: Option<Version>, ticket: u64) -> Condition {
    Condition { expected: expected.map_or(Expected::Absent, Expected::Version), ticket }
}

fn owner_of(record: &Record) -> Option<[u8; 32]> {
    record.ownership.as_ref().map(|ownership| ownership.public_key)
}

fn may_sign(key: &Key, sequence: u64, max: u64) -> Result<(), Refusal> {
    must_be_owned(key)?;
    if sequence > max {
        let text = format!("the owner signed the sequence number {sequence}, and the highest is {max}");
        return Err(Refusal::Invalid(text));
    }
    Ok(())
}

fn must_be_owned(key: &Key) -> Result<(), Refusal> {
    if key.is_owned() {
        return Ok(());
    }
    Err(Refusal::Invalid("the request is signed and the key belongs to nobody".into()))
}

fn not_owner(error: OwnershipError) -> Refusal {
    Refusal::NotOwner(error.to_string())
}

fn unreadable(what: &str, error: &DecodeError) -> Refusal {
    match error {
        DecodeError::TooLarge { size, limit } => too_large(what, *size, *limit),
        _ => Refusal::Invalid(format!("{what} is not usable: {error}")),
    }
}

fn too_large(what: &str, size: usize, limit: usize) -> Refusal {
    let of = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
    Refusal::TooLarge { what: what.into(), size: of(size), limit: of(limit) }
}

#[cfg(test)]
mod tests;
