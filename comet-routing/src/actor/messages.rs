//! What a [`Router`](super::Router) is told and asked, and what it has sent.

use std::time::Duration;

use actix::Message;

use crate::{Contact, Key, NodeId, Outcome, Prospects};

/// Ask a contact for the nodes that it knows closest to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SendFindNode {
    /// What the answer is to be reported under.
    pub query: u64,
    /// Whom to ask.
    pub to: Contact,
    /// The key.
    pub target: Key,
    /// How many contacts are wanted.
    pub count: usize,
}

/// Ask a contact whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SendPing {
    /// Whom to ask.
    pub to: Contact,
}

/// See whether a new connection to a contact can be made from outside, as strangers would have to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SendProbe {
    /// To whom.
    pub to: Contact,
}

/// Find the nodes closest to a key by asking the network. Other nodes only: the caller adds itself.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Outcome, FindNodeError>")]
pub struct FindNode {
    /// The key.
    pub target: Key,
    /// How many live nodes are wanted at least, if there are as many; at most [`TableConfig::k`](crate::TableConfig::k). Fewer are found
    /// sooner, since a few more are looked for and some of those may be dead.
    pub count: usize,
    /// Whether the table may answer.
    pub asking: Asking,
}

/// When a lookup has to ask the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Always: who is found has answered just now.
    Always,
    /// Not where lookups within the last minute found nobody but those in the table.
    Seldom,
}

impl FindNode {
    /// As many as a lookup finds.
    pub const fn all(target: Key) -> Self {
        Self { target, count: usize::MAX, asking: Asking::Always }
    }
}

/// Why a lookup was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindNodeError {
    /// As many lookups run as may; worth trying again later.
    #[error("{0} lookups are running, which is the limit")]
    Busy(usize),
    /// The router stopped before the lookup ended.
    #[error("the router has stopped")]
    Stopped,
}

/// The contacts in the routing table that are closest to a key, nearest first: what a peer is answered.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Contact>")]
pub struct Closest {
    /// The key.
    pub target: Key,
    /// How many at most.
    pub count: usize,
}

/// As [`Closest`], but only those that are [worth asking](crate::RoutingTable::worth_asking); if there is nobody, it takes a lookup.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Prospects")]
pub struct Neighbours {
    /// The key.
    pub target: Key,
    /// How many at most.
    pub count: usize,
    /// How many nodes keep what lies there.
    pub copies: usize,
}

/// A query was answered; this counts as [`ContactAnswered`] too.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct QueryReplied {
    /// The handle from [`SendFindNode`].
    pub query: u64,
    /// The contacts that the peer named.
    pub closer: Vec<Contact>,
    /// The round trip.
    pub rtt: Duration,
}

/// A query is over without an answer. Says nothing against the contact: [`ContactSuspected`] does.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct QueryFailed {
    /// The handle from [`SendFindNode`].
    pub query: u64,
}

/// A request of ours was answered by this contact, whose identity and address the transport has proved.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ContactAnswered {
    /// Who answered, and from where.
    pub contact: Contact,
    /// The round trip, if it was measured.
    pub rtt: Option<Duration>,
}

/// A new connection to this contact was made, at an address that the transport has proved.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ContactReached {
    /// Who was reached, and where.
    pub contact: Contact,
}

/// No new connection to this contact can be made. Says nothing against it: it may still be a good client.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ContactUnreachable {
    /// To whom.
    pub id: NodeId,
}

/// A request of ours to this node was not acknowledged in time.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ContactSuspected {
    /// To whom.
    pub id: NodeId,
}

/// A request reached us from this contact: it is probed if the table has a place for it.
///
/// Only for nodes that were met, at an address that the transport has proved; a contact that others name
/// must not come here, or they could make us probe third parties.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ContactHeard {
    /// Who asked, and from where.
    pub contact: Contact,
}

/// All contacts in the table, for saving.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Vec<Contact>")]
pub struct Contacts;

/// How many contacts the table holds.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "usize")]
pub struct TableSize;
