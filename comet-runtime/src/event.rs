//! What can happen to an object, and what it can ask of the swarm.

use bytes::Bytes;
use comet_routing::{Contact, Key, Prefix};
use comet_store::{Code, Source};
use serde::{Deserialize, Serialize};

use crate::{Refusal, Value};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// Messages that may still be sent.
    pub messages: u8,
    /// Objects that may still call each other in turn.
    pub depth: u8,
}

impl Trail {
    /// What a request from outside and a timer start with: 16 messages, four objects deep.
    pub const FRESH: Self = Self { messages: 16, depth: 4 };

    /// What a request may cause whose whole budget is used up.
    pub const SPENT: Self = Self { messages: 0, depth: 0 };

    /// Takes one message for a request that an object makes; false when nothing is left.
    pub fn spend(&mut self) -> bool {
        let left = if self.depth == 0 { None } else { self.messages.checked_sub(1) };
        self.messages = left.unwrap_or(self.messages);
        left.is_some()
    }

    /// The part of each of so many nodes that a request goes to.
    #[must_use]
    pub fn among(self, nodes: usize) -> Self {
        let nodes = u8::try_from(nodes).unwrap_or(u8::MAX).max(1);
        Self { messages: self.messages / nodes, ..self }
    }

    /// Divides what is left among the requests of a turn and the rest of the invocation: each gets the same
    /// share, one object deeper. The shares never add up to more than the whole.
    pub fn divide(&mut self, requests: usize) -> Self {
        let requests = u8::try_from(requests).unwrap_or(u8::MAX);
        let messages = self.messages / requests.saturating_add(1);
        self.messages -= messages * requests;
        Self { messages, depth: self.depth.saturating_sub(1) }
    }
}

/// A request that a handler made; it leaves when the turn is committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Under which the answer comes back.
    pub wait: WaitId,
    /// What is asked.
    pub op: Op,
    /// What the request may cause in turn.
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
mod tests {
    use super::*;

    /// Messages in all, if every object that is reached makes `fan` requests in each turn for as long as it can.
    fn caused(mut trail: Trail, fan: usize) -> u32 {
        let mut sent = 0;
        loop {
            let made = (0..fan).take_while(|_| trail.spend()).count();
            if made == 0 {
                return sent;
            }
            let share = trail.divide(made);
            sent += (0..made).map(|_| 1 + caused(share, fan)).sum::<u32>();
        }
    }

    #[test]
    fn a_put_and_a_copy_from_one_network_are_on_different_accounts_and_own_clients_on_none() {
        let at = |n: u8| {
            let id = comet_routing::NodeId::from_bytes([n; 32]);
            Contact::new(id, ([192, 0, 2, n], 7400).into())
        };
        let by = |n, origin| Caller { node: at(n), callback: None, owner: None, origin };
        let prefix = Prefix::of([192, 0, 2, 0].into());
        let account = |n, origin| by(n, origin).account(&at(1));
        assert_eq!(account(2, Origin::Client), Some(Source::Put(prefix)));
        assert_eq!(account(2, Origin::Replica), Some(Source::Copy(prefix)));
        assert_eq!(account(1, Origin::Client), None);
    }

    #[test]
    fn a_trail_is_divided_and_never_copied() {
        for fan in 1..=20 {
            assert_eq!(caused(Trail { messages: 16, depth: 200 }, fan), 16, "{fan} at a time");
            assert!(caused(Trail::FRESH, fan) <= 16);
        }
        assert_eq!(caused(Trail { messages: 16, depth: 0 }, 1), 0, "a cycle ends");
    }

    #[test]
    fn a_request_to_many_nodes_gives_each_a_part() {
        let trail = Trail { messages: 15, depth: 4 };
        assert_eq!(trail.among(0), trail);
        assert_eq!(trail.among(4), Trail { messages: 3, depth: 4 });
        assert_eq!(trail.among(1_000), Trail { messages: 0, depth: 4 });
    }

    #[test]
    fn one_turn_may_spend_all_of_it() {
        let mut trail = Trail::FRESH;
        assert_eq!((0..100).filter(|_| trail.spend()).count(), 16);
        assert_eq!(trail.divide(16), Trail { messages: 0, depth: 3 });
        let mut trail = Trail::FRESH;
        assert!(trail.spend());
        assert_eq!(trail.divide(1), Trail { messages: 7, depth: 3 });
        assert_eq!(trail.messages, 8);
        assert_eq!(trail.divide(0), Trail { messages: 8, depth: 3 }, "nothing is given away");
    }
}
