//! One request and its answer over one stream, from both ends.
//!
//! A frame is everything that its sender writes to a stream, so there is no header to lie about: reading
//! stops at the limit of a frame, whatever was announced.

use std::{sync::Arc, time::Duration};

use actix::{Recipient, dev::SendError};
use bytes::Bytes;
use comet_runtime::Refusal;
use quinn::{ReadError, ReadToEndError, RecvStream, SendStream, VarInt, WriteError};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{
    Counters, Received, Rtt, TransportError,
    link::{Link, UnderWay},
};
use crate::wire::{FRAME_BYTES_MAX, encode_answer};

/// Error code of a stream or connection that ends in good order.
pub(super) const CODE_DONE: VarInt = VarInt::from_u32(0);
/// Error code of a stream or connection that a limit forbids.
pub(super) const CODE_BUSY: VarInt = VarInt::from_u32(1);
/// Error code of a connection to somebody else than was wanted.
pub(super) const CODE_WRONG_PEER: VarInt = VarInt::from_u32(2);
/// Error code of a stream whose frame is too large or came too slowly.
pub(super) const CODE_BROKEN: VarInt = VarInt::from_u32(3);

/// How an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The connection was dead before the peer acknowledged the request: another one may succeed.
    Unsent,
    /// It cannot be helped by another connection.
    For(TransportError),
}

/// Sends a request on a stream of its own and waits for the answer, for as long as it is polled.
///
/// `acknowledged` is taken when the peer has the whole request.
pub(super) async fn ask(
    link: &Arc<Link>,
    request: Bytes,
    acknowledged: &mut Option<oneshot::Sender<Rtt>>,
) -> Result<Bytes, Failed> {
    let _under_way = link.begin();
    let (mut to_peer, mut from_peer) = link.connection.open_bi().await.map_err(|_| Failed::Unsent)?;
    let sent = Instant::now();
    match to_peer.write_chunk(request).await {
        // A peer that does not want the rest says why in its answer.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(_) => return Err(Failed::Unsent),
    }
    // Fails only if the peer stopped the stream, as above.
    let _ = to_peer.finish();
    let mut has_it = std::pin::pin!(to_peer.stopped());
    let mut answer = std::pin::pin!(from_peer.read_to_end(FRAME_BYTES_MAX));
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => {
                if answer.is_ok() {
                    tell(link, sent, acknowledged);
                }
                return answer.map(Bytes::from).map_err(|error| failure(&error, acknowledged.is_some()));
            }
            outcome = &mut has_it, if acknowledged.is_some() => match outcome {
                Ok(_) => tell(link, sent, acknowledged),
                Err(_) => return Err(Failed::Unsent),
            },
        }
    }
}

fn tell(link: &Link, sent: Instant, acknowledged: &mut Option<oneshot::Sender<Rtt>>) {
    if let Some(acknowledged) = acknowledged.take() {
        // Whoever asked may no longer care.
        let _ = acknowledged.send(link.acknowledged_after(sent.elapsed()));
    }
}

fn failure(error: &ReadToEndError, unacknowledged: bool) -> Failed {
    match error {
        ReadToEndError::TooLong => Failed::For(TransportError::TooLarge),
        ReadToEndError::Read(ReadError::Reset(CODE_BUSY)) => Failed::For(TransportError::Busy),
        ReadToEndError::Read(ReadError::ConnectionLost(_)) if unacknowledged => Failed::Unsent,
        ReadToEndError::Read(_) => Failed::For(TransportError::Closed),
    }
}

/// Receives the requests of all peers and delivers them to one recipient.
pub(super) struct Inbound {
    pub(super) to: Recipient<Received>,
    pub(super) counters: Arc<Counters>,
    /// A permit for each request of a peer that is under way.
    pub(super) under_way: Arc<Semaphore>,
    /// See [`super::TransportConfig::progress_ms`].
    pub(super) progress: Duration,
    /// See [`super::TransportConfig::answer_ms`].
    pub(super) answer: Duration,
}

/// What a request is answered with when nobody could answer it.
enum Undelivered {
    Overloaded,
    Stopping,
    TooLarge,
}

impl Inbound {
    /// Serves a connection until it ends.
    pub(super) async fn serve(self: Arc<Self>, link: Arc<Link>) {
        while let Ok((mut to_peer, mut from_peer)) = link.connection.accept_bi().await {
            match Arc::clone(&self.under_way).try_acquire_owned() {
                Ok(permit) => {
                    let served = Arc::clone(&self).serve_stream(link.begin(), permit, to_peer, from_peer);
                    tokio::spawn(served);
                }
                Err(_) => {
                    Counters::count(&self.counters.requests_overloaded);
                    // Both fail only on streams that the peer has given up already.
                    let _ = from_peer.stop(CODE_BUSY);
                    let _ = to_peer.reset(CODE_BUSY);
                }
            }
        }
    }

    async fn serve_stream(
        self: Arc<Self>,
        link: UnderWay,
        _permit: OwnedSemaphorePermit,
        mut to_peer: SendStream,
        mut from_peer: RecvStream,
    ) {
        let answer = match timeout(self.progress, from_peer.read_to_end(FRAME_BYTES_MAX)).await {
            Ok(Ok(request)) => tokio::select! {
                answer = self.deliver(&link, request.into()) => answer,
                // The peer lost interest, or is gone; dropping the reply's receiver tells whoever answers.
                _ = to_peer.stopped() => return,
            },
            Ok(Err(ReadToEndError::TooLong)) => {
                let _ = from_peer.stop(CODE_BROKEN);
                Err(Undelivered::TooLarge)
            }
            Ok(Err(ReadToEndError::Read(_))) | Err(_) => {
                Counters::count(&self.counters.requests_broken);
                let _ = from_peer.stop(CODE_BROKEN);
                let _ = to_peer.reset(CODE_BROKEN);
                return;
            }
        };
        let frame = answer.unwrap_or_else(|undelivered| self.refusal(&undelivered));
        match timeout(self.progress, to_peer.write_chunk(frame)).await {
            Ok(Ok(())) => {
                let _ = to_peer.finish();
            }
            Ok(Err(_)) | Err(_) => {
                let _ = to_peer.reset(CODE_BROKEN);
            }
        }
    }

    async fn deliver(&self, link: &UnderWay, request: Bytes) -> Result<Bytes, Undelivered> {
        let (reply, answer) = oneshot::channel();
        match self.to.try_send(Received { from: link.contact(), request, reply }) {
            Ok(()) => Counters::count(&self.counters.requests),
            Err(SendError::Full(_)) => return Err(Undelivered::Overloaded),
            Err(SendError::Closed(_)) => return Err(Undelivered::Stopping),
        }
        match timeout(self.answer, answer).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(_)) => Err(Undelivered::Stopping),
            Err(_) => Err(Undelivered::Overloaded),
        }
    }

    fn refusal(&self, undelivered: &Undelivered) -> Bytes {
        let node = || "the node".to_owned();
        let refusal = match undelivered {
            Undelivered::Overloaded => {
                Counters::count(&self.counters.requests_overloaded);
                Refusal::Overloaded(node())
            }
            Undelivered::Stopping => Refusal::Stopping(node()),
            Undelivered::TooLarge => {
                Counters::count(&self.counters.requests_broken);
                let limit = FRAME_BYTES_MAX as u64;
                // How much more the peer had in mind was not read.
                Refusal::TooLarge { what: "the message".to_owned(), size: limit.saturating_add(1), limit }
            }
        };
        encode_answer(&Err(refusal))
    }
}
