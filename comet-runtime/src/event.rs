//! What can happen to an object, and what it can ask of the swarm.

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId, Prefix};
use comet_store::{Code, Source};
use serde::{Deserialize, Serialize};

use crate::{Refusal, Value};

/// Nodes that a write without nodes is counted as: the replicas that an object has unless somebody says otherwise.
const REPLICAS: usize = 8;

/// What a lookup is charged: about what its queries and their answers have where routing tables are good.
const LOOKUP_BYTES: usize = 4 * 1024;

/// The most that a frame has besides value, code and state: keys, signatures, names of fields.
const ENVELOPE_BYTES: usize = 512;

/// Something that runs a handler.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A get reaches this replica.
    Get {
        /// Who reads.
        caller: Caller,
        /// What the reader sent along.
        payload: Option<Value>,
    },
    /// This replica first stores the object.
    Put {
        /// Who stores.
        caller: Caller,
    },
    /// A put reaches an object that is here already.
    Update {
        /// Who writes.
        caller: Caller,
        /// The data of the put, encoded.
        data: Bytes,
        /// The handlers that came with it.
        code: Option<Code>,
    },
    /// A client deletes the object.
    Delete {
        /// Who deletes.
        caller: Caller,
    },
    /// The object's timer fired.
    Timer,
}

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The node that it came through.
    pub node: Contact,
    /// Where the caller would accept one later put.
    pub callback: Option<Key>,
    /// The client's public key, if it proved that it holds the private one.
    pub owner: Option<[u8; 32]>,
    /// Whether a client or another replica is behind it.
    pub origin: Origin,
}

/// What is behind a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client of the caller's node, or another object.
    Client,
    /// The object's own replication: the caller hands over its copy.
    Replica,
}

/// What an invocation led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply to a get, encoded.
    Reply(Bytes),
    /// The put or delete may go on; of an update: take the incoming object whole.
    Accept,
    /// The update was handled; the object stays as the handler left it.
    Handled,
    /// The handler said no, and perhaps why.
    Refuse(String),
    /// The timer's turn is over.
    Ticked,
}

/// The budget that travels with whatever one request from outside causes, however many objects it reaches.
///
/// It is divided and never copied: whoever passes a part on has that much less. Asking a node costs a message and
/// the bytes of the frame, for each node that is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Messages that may still be sent.
    pub messages: u8,
    /// Bytes that these messages may have together.
    pub bytes: u32,
    /// Objects that may still call each other in turn.
    pub depth: u8,
}

impl Trail {
    /// What a request from outside and a timer start with: 16 messages, 128 KiB, four objects deep.
    pub const FRESH: Self = Self { messages: 16, bytes: 128 * 1024, depth: 4 };

    /// What a request may cause whose whole budget is used up; the default.
    pub const SPENT: Self = Self { messages: 0, bytes: 0, depth: 0 };

    /// True if an object can cause nothing more.
    pub fn is_spent(&self) -> bool {
        self.depth == 0 || self.messages == 0
    }

    /// How many nodes can be paid for, if each is asked with a frame of so many bytes.
    pub fn affords(&self, bytes_each: usize) -> usize {
        (self.bytes as usize).div_euclid(bytes_each.max(1)).min(self.messages.into())
    }

    /// Takes out what it costs to ask so many nodes, or as many of them as can be paid for.
    #[must_use]
    pub fn take(&mut self, nodes: usize, bytes_each: usize) -> Self {
        let nodes = nodes.min(self.affords(bytes_each));
        let cost = Self { messages: nodes as u8, bytes: nodes.saturating_mul(bytes_each) as u32, ..*self };
        self.give(cost);
        cost
    }

    /// One of so many equal parts. They never add up to more than the whole.
    #[must_use]
    pub fn part(self, parts: usize) -> Self {
        let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
        let messages = u32::from(self.messages).checked_div(parts).unwrap_or(0);
        Self { messages: messages as u8, bytes: self.bytes.checked_div(parts).unwrap_or(0), ..self }
    }

    /// Seven eighths, for the one of several nodes that is likely to answer alone; a message at least, if there is one.
    #[must_use]
    pub fn most(self) -> Self {
        let messages = u16::from(self.messages) * 7 / 8;
        let messages = (messages as u8).max(self.messages.min(1));
        Self { messages, bytes: (u64::from(self.bytes) * 7 / 8) as u32, ..self }
    }

    /// What is left after a part of it went elsewhere.
    pub fn give(&mut self, part: Self) {
        self.messages = self.messages.saturating_sub(part.messages);
        self.bytes = self.bytes.saturating_sub(part.bytes);
    }

    /// Takes back a part that nobody has used.
    pub fn take_back(&mut self, part: Self) {
        self.messages = self.messages.saturating_add(part.messages);
        self.bytes = self.bytes.saturating_add(part.bytes);
    }

    /// The same, one object deeper.
    #[must_use]
    pub fn deeper(self) -> Self {
        Self { depth: self.depth.saturating_sub(1), ..self }
    }
}

/// A request that a handler made; it leaves when the turn is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Under which the answer comes back.
    pub wait: WaitId,
    /// What is asked.
    pub op: Op,
    /// What it may cost to ask the nodes, and what they may cause in turn.
    pub trail: Trail,
}

/// Names one request of one object.
pub type WaitId = u64;

/// What a handler can ask of the swarm.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Read an object.
    Get {
        /// Which.
        key: Key,
        /// From whom.
        nodes: Nodes,
        /// What its `onGet` receives.
        payload: Option<Value>,
    },
    /// Write a value.
    Put {
        /// Where.
        key: Key,
        /// What.
        data: Value,
        /// To whom.
        nodes: Nodes,
    },
    /// Copy the object itself, code and state, to other replicas.
    Copy {
        /// To whom.
        nodes: Nodes,
    },
    /// Delete an object.
    Delete {
        /// Which.
        key: Key,
        /// From whom.
        nodes: Nodes,
    },
    /// Find the nodes closest to a key.
    Lookup {
        /// Which.
        key: Key,
    },
}

/// Which nodes a request goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Those that the swarm would choose.
    Closest,
    /// So many of the closest.
    Count(u8),
    /// These.
    These(Vec<Contact>),
}

/// What came of a request.
pub type OpResult = Result<OpOutcome, Refusal>;

/// What a request brought back.
#[derive(Clone, Debug, PartialEq)]
pub enum OpOutcome {
    /// The first answer to a get that named no nodes.
    Value(Value),
    /// Each named node's answer to a get, nearest first.
    Values(Vec<(Contact, Value)>),
    /// The nodes that stored or deleted, or the nodes that a lookup found.
    Nodes(Vec<Contact>),
}

impl Op {
    /// The nodes that it names.
    pub(crate) fn named_mut(&mut self) -> &mut [Contact] {
        match self {
            Self::Get { nodes: Nodes::These(named), .. }
            | Self::Put { nodes: Nodes::These(named), .. }
            | Self::Copy { nodes: Nodes::These(named) }
            | Self::Delete { nodes: Nodes::These(named), .. } => named,
            _ => &mut [],
        }
    }

    /// The key that the request addresses; `None` for a copy, which goes to the object's own key.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Get { key, .. }
            | Self::Put { key, .. }
            | Self::Delete { key, .. }
            | Self::Lookup { key } => Some(key),
            Self::Copy { .. } => None,
        }
    }

    /// How many nodes are asked at most, the one at `local` not counted: that is no message. A get that names no
    /// nodes pays for one; what is asked in its stead is paid for with what it may cause.
    pub fn nodes(&self, local: &NodeId) -> usize {
        match self {
            Self::Lookup { .. } | Self::Get { nodes: Nodes::Closest, .. } => 1,
            Self::Get { nodes, .. }
            | Self::Put { nodes, .. }
            | Self::Copy { nodes }
            | Self::Delete { nodes, .. } => match nodes {
                Nodes::Closest => REPLICAS,
                Nodes::Count(count) => usize::from(*count),
                Nodes::These(nodes) => nodes.iter().filter(|node| node.id != *local).count(),
            },
        }
    }

    /// The most bytes that a frame of the request has; `copy_bytes` are those of the object itself. A lookup counts
    /// as one message of 4 KiB, whatever the node's own routing needs for it.
    pub fn frame_bytes(&self, copy_bytes: usize) -> usize {
        let content = match self {
            Self::Lookup { .. } => return LOOKUP_BYTES,
            Self::Get { payload, .. } => payload.as_ref().map_or(0, |payload| payload.encode().len()),
            Self::Put { data, .. } => data.encode().len(),
            Self::Copy { .. } => copy_bytes,
            Self::Delete { .. } => 0,
        };
        content.saturating_add(ENVELOPE_BYTES)
    }
}

impl Caller {
    /// The network that this caller is in; `None` for clients of this node itself.
    pub fn source(&self, local: &Contact) -> Option<Prefix> {
        (self.node.id != local.id).then(|| Prefix::of(self.node.addr.ip()))
    }

    /// The account that what this caller leaves here is charged to; `None` for clients of this node itself.
    pub fn account(&self, local: &Contact) -> Option<Source> {
        self.source(local).map(|prefix| match self.origin {
            Origin::Client => Source::Put(prefix),
            Origin::Replica => Source::Copy(prefix),
        })
    }
}

impl Event {
    /// The handler that the event runs.
    pub fn handler(&self) -> &'static str {
        match self {
            Self::Get { .. } => "onGet",
            Self::Put { .. } => "onPut",
            Self::Update { .. } => "onUpdate",
            Self::Delete { .. } => "onDelete",
            Self::Timer => "onTimer",
        }
    }

    /// Who caused it, but for a timer.
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::Get { caller, .. }
            | Self::Put { caller }
            | Self::Update { caller, .. }
            | Self::Delete { caller } => Some(caller),
            Self::Timer => None,
        }
    }
}

#[cfg(test)]
mod tests;
