//! The boundary between a node and the network: what can be asked of a transport, and what it delivers.
//!
//! A transport carries one request to one peer and one answer back. It knows peers by their authenticated
//! [`NodeId`] and frames as bytes; what the bytes say is the business of [`crate::wire`] and of whoever asks.
//! The messages here name no protocol: [`quic`] handles them over UDP, a simulation handles the same ones in
//! memory, and nothing else of a node notices the difference.

mod admission;
mod config;
mod exchange;
mod link;
mod pool;
pub mod quic;
mod tls;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix::{Message, MessageResponse};
use bytes::Bytes;
use comet_routing::{Contact, NodeId};
use tokio::sync::oneshot;

pub use config::TransportConfig;

/// Carry a request to a peer. Answered at once with a [`Pending`], whatever becomes of the request.
///
/// A request may reach its peer twice, if the connection breaks before the peer acknowledged it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Pending")]
pub struct Ask {
    /// Who has to answer, and where it is believed to be. Anyone else who answers there is refused.
    pub to: Contact,
    /// The request's frame.
    pub request: Bytes,
    /// When to give up, from now.
    pub deadline: Duration,
}

/// A request that is on its way. Dropping `reply` calls it off.
#[derive(Debug, MessageResponse)]
pub struct Pending {
    /// Fires when the peer's machine has acknowledged the whole request, perhaps long before its handler
    /// answers; closes without a value if that never happens. A peer whose request stays unacknowledged is
    /// suspect, one whose answer merely takes time is not.
    pub acknowledged: oneshot::Receiver<Rtt>,
    /// Fires once: with the answer's frame, or with the reason why there is none.
    pub reply: oneshot::Receiver<Result<Bytes, TransportError>>,
}

/// What is known of a peer's round-trip time, for timeouts that follow the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// Smoothed round-trip time.
    pub smoothed: Duration,
    /// Mean deviation of what acknowledgements took from it.
    pub variation: Duration,
}

/// Connect to an address whose node is not known yet, and learn which node answers there.
///
/// A new connection every time, so that it also shows that the address can be reached.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Contact, TransportError>")]
pub struct Greet {
    /// Whom to greet.
    pub addr: SocketAddr,
    /// When to give up, from now.
    pub deadline: Duration,
}

/// See whether strangers could connect to a contact: answered when that is known.
///
/// The connection is a new one from another port than all others, so that a network which lets in only those
/// to whom its nodes turned first does not take it for one of them. It is closed at once.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), TransportError>")]
pub struct Probe {
    /// Who has to be there, and where.
    pub contact: Contact,
    /// When to give up, from now.
    pub deadline: Duration,
}

/// Drop what is kept open to a peer; what is under way fails with [`TransportError::Closed`].
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Forget {
    /// Whom to forget.
    pub id: NodeId,
}

/// Which address the transport is bound to; its IP address may be unspecified.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "SocketAddr")]
pub struct LocalAddress;

/// Stop: answered when the peers have been told, or have had a few seconds to hear it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

/// A peer's request, delivered to the recipient that the transport was built with.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Received {
    /// Who asks (authenticated), and from which address.
    pub from: Contact,
    /// The request's frame, as received and within the limit of a frame.
    pub request: Bytes,
    /// Where the answer's frame goes. Dropping it answers that the node is stopping.
    pub reply: oneshot::Sender<Bytes>,
}

/// Why a request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made to that address.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// Another node answers at that address.
    #[error("expected {expected} at that address and found {got}")]
    WrongPeer {
        /// Who was to answer.
        expected: NodeId,
        /// Who is there.
        got: NodeId,
    },
    /// No answer within the deadline.
    #[error("no answer within the deadline")]
    TimedOut,
    /// The request or the answer exceeds the limit of a frame.
    #[error("the message exceeds {} bytes", crate::wire::FRAME_BYTES_MAX)]
    TooLarge,
    /// The connection ended after the peer had received the request; whether it acted on it is unknown.
    #[error("the connection was closed")]
    Closed,
    /// This transport or the peer's has too much to do.
    #[error("too many requests are under way")]
    Busy,
}

/// What a transport has done, for metrics. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent or refused to be sent.
    pub asks: AtomicU64,
    /// Of those, ones without an answer.
    pub asks_failed: AtomicU64,
    /// Connections that this node tried to make.
    pub dials: AtomicU64,
    /// Of those, ones that failed.
    pub dials_failed: AtomicU64,
    /// Connections accepted from peers.
    pub accepted: AtomicU64,
    /// Connections of peers that were refused for a limit or failed to authenticate.
    pub refused: AtomicU64,
    /// Peers that were made to prove their address first.
    pub challenged: AtomicU64,
    /// Requests of peers that were delivered.
    pub requests: AtomicU64,
    /// Requests of peers that were refused because this node had too much to do.
    pub requests_overloaded: AtomicU64,
    /// Requests of peers that were too large, too slow or cut off.
    pub requests_broken: AtomicU64,
}

impl Counters {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
