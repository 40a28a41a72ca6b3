//! The swarm as its clients see it: what can be asked, and what comes back.
//!
//! [`Dht`] is the one interface that applications are written against. A node implements it in process, the
//! test kit implements it over a fake swarm, and the typed clients of `comet-apps` take any of them.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use comet_routing::{Contact, Key};
use comet_store::{Code, Ownership, Publication, Version};
use serde::{Deserialize, Serialize};

use crate::{Refusal, Value};

pub use comet_store::Expected;

/// A swarm that stores active objects.
pub trait Dht {
    /// Stores an object on the nodes closest to its key.
    fn put(&self, put: Put) -> impl Future<Output = Result<PutReport, Refusal>>;
    /// Reads an object; its `onGet` runs on the replica that answers.
    fn get(&self, get: Get) -> impl Future<Output = Result<GetReport, Refusal>>;
    /// Deletes an object from its replicas.
    fn delete(&self, delete: Delete) -> impl Future<Output = Result<DeleteReport, Refusal>>;
    /// The live nodes closest to a key, nearest first.
    fn lookup(&self, key: Key) -> impl Future<Output = Result<LookupReport, Refusal>>;
    /// What each replica holds of an object. Runs no handler; a passive object's script is loaded to look at it.
    fn inspect(&self, key: Key) -> impl Future<Output = Result<Vec<Inspection>, Refusal>>;
    /// Each replica's log of an object, oldest line first. An owned object's log wants its owner's proof.
    fn logs(
        &self,
        key: Key,
        proof: Option<LogProof>,
    ) -> impl Future<Output = Result<Vec<ReplicaLog>, Refusal>>;
}

/// An object to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Put {
    /// Where.
    pub key: Key,
    /// The value, encoded by [`Value::encode`]; kept as bytes so that a signature over it stays valid.
    pub data: Bytes,
    /// Its handlers.
    pub code: Option<Code>,
    /// The signature of a publisher who vouches for the handlers.
    pub publication: Option<Publication>,
    /// How long to keep it; `None` for the node's default (24 h).
    pub ttl: Option<Duration>,
    /// On how many nodes; `None` for the node's default (8).
    pub replicas: Option<u8>,
    /// The owner's sequence number and signature, for an owned key.
    pub owner: Option<(u64, Ownership)>,
    /// What it is to replace; if something else is held it ends with [`Refusal::Conflict`].
    pub expected: Expected,
    /// When to give up; `None` for the node's default (5 s).
    pub deadline: Option<Duration>,
}

/// A read.
#[derive(Clone, Debug, PartialEq)]
pub struct Get {
    /// What.
    pub key: Key,
    /// What `onGet` receives as its third argument.
    pub payload: Option<Value>,
    /// How many replicas to hear.
    pub read: Read,
    /// When to give up; `None` for the node's default (5 s).
    pub deadline: Option<Duration>,
}

/// How many replicas a get hears before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Read {
    /// The first replica that answers.
    #[default]
    First,
    /// Every replica that answers in time.
    All,
    /// This many replicas with equal answers.
    Quorum(u8),
}

/// A client's deletion.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// What.
    pub key: Key,
    /// The owner's sequence number and signature; handlers cannot refuse it.
    pub owner: Option<(u64, Ownership)>,
    /// When to give up; `None` for the node's default (5 s).
    pub deadline: Option<Duration>,
}

/// An owner's proof that lets it read the log of an owned object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogProof {
    /// A signed statement about the object whose act is [`comet_store::Act::ReadLog`].
    pub ownership: Ownership,
    /// The statement's sequence number: the owner's clock in seconds since the Unix epoch.
    pub sequence: u64,
}

/// What a put achieved.
#[derive(Clone, Debug, PartialEq)]
pub struct PutReport {
    /// The version now stored.
    pub version: Version,
    /// Replicas that acknowledged, nearest first.
    pub stored: Vec<(Contact, Usage)>,
    /// Nodes that refused or did not answer in time.
    pub failed: Vec<(Contact, Refusal)>,
    /// Replicas that the put wanted.
    pub wanted: u8,
    /// Acknowledgements that it waited for.
    pub quorum: u8,
    /// How long the object will be kept.
    pub ttl: Duration,
}

/// What a get brought back: at least one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct GetReport {
    /// One for [`Read::First`], else every answer, nearest replica first.
    pub answers: Vec<Answer>,
    /// Replicas that failed, and how.
    pub failed: Vec<(Contact, Refusal)>,
}

/// One replica's answer to a get.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who answered.
    pub replica: Contact,
    /// What it said: the handler's reply, or the plain value. Nil is "no value".
    pub value: Value,
    /// The version it holds.
    pub version: Version,
    /// True if a handler made the answer.
    pub active: bool,
    /// What the turn used.
    pub usage: Usage,
}

/// What a handler used, over all turns of one invocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Interrupts counted.
    pub steps: u64,
    /// Live memory of the object afterwards, in bytes.
    pub memory_bytes: u64,
    /// Messages it sent, one for each node that it asked.
    pub messages: u32,
}

impl Usage {
    /// Adds what a callback used to what the event before it did.
    pub(crate) fn extend_by(&mut self, callback: Self) {
        self.steps += callback.steps;
        self.memory_bytes = callback.memory_bytes;
        self.messages += callback.messages;
    }
}

/// What a deletion achieved.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteReport {
    /// Replicas that held the object and deleted it.
    pub deleted: Vec<Contact>,
    /// Nodes that refused or did not answer.
    pub failed: Vec<(Contact, Refusal)>,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupReport {
    /// Live nodes, nearest first, the asking node included.
    pub nodes: Vec<Contact>,
    /// Longest chain of contacts from the routing table to a node of the result.
    pub hops: u32,
    /// Queries sent.
    pub queries: u32,
}

/// What one replica holds, seen without running a handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Whose copy.
    pub replica: Contact,
    /// Which put it stems from.
    pub version: Version,
    /// The owner's public key.
    pub owner: Option<[u8; 32]>,
    /// The handlers it has, by name, sorted; empty for a plain value.
    pub handlers: Vec<String>,
    /// Hash of the handler source.
    pub code_hash: Option<[u8; 32]>,
    /// Seconds since it was put.
    pub age_seconds: u64,
    /// Seconds until it expires.
    pub remaining_seconds: u64,
    /// Bytes of the put's data.
    pub data_bytes: u64,
    /// Bytes of the handlers' state.
    pub state_bytes: u64,
    /// Replicas it asks for.
    pub replicas: u8,
    /// True if its actor is running.
    pub active: bool,
    /// What its last event used, with the callbacks that have followed it.
    pub usage: Usage,
}

/// One replica's log of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaLog {
    /// Whose log.
    pub replica: Contact,
    /// Lines, oldest first.
    pub lines: Vec<LogLine>,
}

/// One line of an object's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// How long ago it was written, in milliseconds (on the wire and here a duration, not a date).
    pub age_ms: u64,
    /// True if the node wrote it (a failed turn), false if the handler called `log`.
    pub failure: bool,
    /// The text, escaped and cut.
    pub text: String,
}
