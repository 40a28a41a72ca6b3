//! The transport of a simulated node: the messages of [`comet_node::transport`], carried over a [`Wire`].
//!
//! As with QUIC, strangers shake hands first, what is lost is sent again, the peer's machine acknowledges a
//! request before its handler answers, and the sender's contact is proved rather than claimed.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use actix::{Actor, Context, Handler, MessageResult, Recipient, ResponseFuture};
use bytes::Bytes;
use comet_node::{
    transport::{Ask, Close, Forget, Greet, LocalAddress, Pending, Probe, Received, Rtt, TransportError},
    wire::FRAME_BYTES_MAX,
};
use comet_routing::{Contact, NodeId};
use tokio::{sync::oneshot, time::timeout};

use super::{
    trace::Kind,
    wire::{Host, Wire},
};

/// Requests of one node under way at one time.
pub(super) const ASKS_MAX: usize = 4_096;
/// Messages that wait for the transport.
const MAILBOX: usize = 1_024;
/// How long a connection may take to be made.
const DIAL: Duration = Duration::from_secs(5);

/// One node's end of the [`Wire`].
pub struct SimTransport {
    end: Rc<End>,
    inbound: Recipient<Received>,
}

/// What the requests under way share.
struct End {
    wire: Rc<Wire>,
    own: Contact,
    addresses: RefCell<BTreeMap<NodeId, SocketAddr>>,
    under_way: Cell<usize>,
}

impl SimTransport {
    /// An end that becomes reachable as `own` when the actor starts; requests of peers go to `inbound`.
    pub fn new(wire: Rc<Wire>, own: Contact, inbound: Recipient<Received>) -> Self {
        let end = End { wire, own, addresses: RefCell::default(), under_way: Cell::new(0) };
        Self { end: Rc::new(end), inbound }
    }
}

impl Actor for SimTransport {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.end.wire.plug(self.end.own, self.inbound.clone());
    }
}

impl Handler<Ask> for SimTransport {
    type Result = Pending;

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) -> Pending {
        let (acknowledge, acknowledged) = oneshot::channel();
        let (mut answer, reply) = oneshot::channel();
        let under_way = self.end.under_way.get();
        let refused = if ask.request.len() > FRAME_BYTES_MAX {
            Some(TransportError::TooLarge)
        } else if under_way >= ASKS_MAX {
            Some(TransportError::Busy)
        } else {
            None
        };
        if let Some(refused) = refused {
            answer.send(Err(refused)).ok();
            return Pending { acknowledged, reply };
        }
        self.end.under_way.set(under_way + 1);
        self.end.wire.note_asks(under_way + 1);
        let end = Rc::clone(&self.end);
        actix_rt::spawn(async move {
            let outcome = tokio::select! {
                biased;
                outcome = timeout(ask.deadline, end.ask(ask.to, &ask.request, acknowledge)) => Some(outcome),
                // Called off.
                () = answer.closed() => None,
            };
            end.under_way.set(end.under_way.get() - 1);
            if let Some(outcome) = outcome {
                answer.send(outcome.unwrap_or(Err(TransportError::TimedOut))).ok();
            }
        });
        Pending { acknowledged, reply }
    }
}

impl End {
    async fn ask(
        &self,
        to: Contact,
        request: &Bytes,
        acknowledge: oneshot::Sender<Rtt>,
    ) -> Result<Bytes, TransportError> {
        let own = self.host()?;
        self.addresses.borrow_mut().insert(to.id, to.addr);
        if self.wire.connection(self.own.addr, to.addr).is_none() {
            let met = self.dial(&own, to.addr).await?;
            if met.contact.id != to.id {
                return Err(TransportError::WrongPeer { expected: to.id, got: met.contact.id });
            }
        }
        let there = self.wire.carry(Kind::Request, &own, to.addr, request).await;
        let peer = self.wire.host(to.addr).ok_or(TransportError::Closed)?;
        let arrived = self.wire.arriving(request);
        let answered = self.deliver(&peer, &arrived)?;
        if self.wire.repeats(self.own.addr, to.addr, request) {
            // The copy is answered like the original, and nobody reads that.
            let copy = self.deliver(&peer, &arrived)?;
            actix_rt::spawn(async move { copy.await.ok() });
        }
        let acknowledged = async {
            let back = self.wire.carry(Kind::Acknowledgement, &peer, self.own.addr, b"").await;
            acknowledge.send(self.wire.measured(self.own.addr, to.addr, there + back)).ok();
        };
        let answered = async {
            let Ok(answer) = answered.await else {
                if self.wire.is_up(&peer) {
                    return Err(TransportError::Closed);
                }
                // A peer that crashed says nothing.
                return std::future::pending().await;
            };
            self.wire.answered(request, &answer);
            self.wire.carry(Kind::Answer, &peer, self.own.addr, &answer).await;
            Ok(answer)
        };
        let mut answered = std::pin::pin!(answered);
        tokio::select! {
            biased;
            () = acknowledged => answered.await,
            answer = &mut answered => answer,
        }
    }

    /// Shakes hands with whoever answers at an address.
    async fn dial(&self, own: &Host, addr: SocketAddr) -> Result<Host, TransportError> {
        let shaken = async {
            let there = self.wire.carry(Kind::Hello, own, addr, b"").await;
            let peer = self.wire.host(addr).ok_or(TransportError::Unreachable)?;
            let back = self.wire.carry(Kind::Welcome, &peer, self.own.addr, b"").await;
            self.wire.measured(self.own.addr, addr, there + back);
            Ok(peer)
        };
        timeout(DIAL, shaken).await.unwrap_or(Err(TransportError::Unreachable))
    }

    /// Shakes hands with a contact from another port than this end's. No connection stays.
    async fn probe(&self, contact: Contact) -> Result<(), TransportError> {
        let own = self.host()?;
        let shaken = async {
            self.wire.carry(Kind::Probe, &own, contact.addr, b"").await;
            let peer = self.wire.host(contact.addr).ok_or(TransportError::Unreachable)?;
            self.wire.carry(Kind::Welcome, &peer, self.own.addr, b"").await;
            Ok(peer.contact.id)
        };
        match timeout(DIAL, shaken).await.unwrap_or(Err(TransportError::Unreachable))? {
            got if got == contact.id => Ok(()),
            got => Err(TransportError::WrongPeer { expected: contact.id, got }),
        }
    }

    fn deliver(&self, peer: &Host, request: &Bytes) -> Result<oneshot::Receiver<Bytes>, TransportError> {
        let (reply, answered) = oneshot::channel();
        let received = Received { from: self.own, request: request.clone(), reply };
        peer.inbound.try_send(received).map_err(|_| TransportError::Busy)?;
        Ok(answered)
    }

    fn host(&self) -> Result<Host, TransportError> {
        self.wire.host(self.own.addr).ok_or(TransportError::Closed)
    }
}

impl Handler<Greet> for SimTransport {
    type Result = ResponseFuture<Result<Contact, TransportError>>;

    fn handle(&mut self, Greet { addr, deadline }: Greet, _: &mut Self::Context) -> Self::Result {
        let end = Rc::clone(&self.end);
        Box::pin(async move {
            let own = end.host()?;
            let met = timeout(deadline, end.dial(&own, addr)).await;
            Ok(met.map_err(|_| TransportError::TimedOut)??.contact)
        })
    }
}

impl Handler<Probe> for SimTransport {
    type Result = ResponseFuture<Result<(), TransportError>>;

    fn handle(&mut self, Probe { contact, deadline }: Probe, _: &mut Self::Context) -> Self::Result {
        let end = Rc::clone(&self.end);
        Box::pin(async move {
            let probed = timeout(deadline, end.probe(contact)).await;
            probed.unwrap_or(Err(TransportError::TimedOut))
        })
    }
}

impl Handler<Forget> for SimTransport {
    type Result = ();

    fn handle(&mut self, Forget { id }: Forget, _: &mut Self::Context) {
        if let Some(addr) = self.end.addresses.borrow_mut().remove(&id) {
            self.end.wire.forget(self.end.own.addr, addr);
        }
    }
}

impl Handler<LocalAddress> for SimTransport {
    type Result = MessageResult<LocalAddress>;

    fn handle(&mut self, _: LocalAddress, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.end.own.addr)
    }
}

impl Handler<Close> for SimTransport {
    type Result = ();

    fn handle(&mut self, _: Close, _: &mut Self::Context) {
        self.end.wire.unplug(self.end.own.addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Sim;

    const DEADLINE: Duration = Duration::from_secs(8);

    /// Answers every request with the same bytes.
    struct Echo;

    impl Actor for Echo {
        type Context = Context<Self>;
    }

    impl Handler<Received> for Echo {
        type Result = ();

        fn handle(&mut self, received: Received, _: &mut Self::Context) {
            received.reply.send(received.request).ok();
        }
    }

    fn plug_in(sim: &Sim, n: u8) -> (Contact, actix::Addr<SimTransport>) {
        let own = Contact::new(NodeId::from_bytes([n; 32]), SocketAddr::from(([10, 0, 0, n], 1)));
        let transport = SimTransport::new(Rc::clone(sim.wire()), own, Echo.start().recipient());
        (own, transport.start())
    }

    async fn ask(from: &actix::Addr<SimTransport>, to: Contact) -> Result<Bytes, TransportError> {
        let request = Bytes::from_static(b"?");
        let pending = from.send(Ask { to, request, deadline: DEADLINE }).await.expect("the transport runs");
        pending.reply.await.expect("every request has an outcome")
    }

    #[test]
    fn a_hidden_host_is_reached_over_connections_that_it_opened_and_over_no_others() {
        Sim::exactly(1).run(async |sim| {
            let [(seen, a), (hidden, b), (_, c)] = [1, 2, 3].map(|n| plug_in(&sim, n));
            sim.wire().change(|network| network.hide(hidden.addr));
            assert_eq!(ask(&a, hidden).await, Err(TransportError::Unreachable));
            assert_eq!(ask(&b, seen).await, Ok(Bytes::from_static(b"?")));
            assert_eq!(ask(&a, hidden).await, Ok(Bytes::from_static(b"?")));
            assert_eq!(ask(&c, hidden).await, Err(TransportError::Unreachable));
            let probe = Probe { contact: hidden, deadline: DEADLINE };
            assert_eq!(a.send(probe).await?, Err(TransportError::Unreachable));
            let probe = Probe { contact: seen, deadline: DEADLINE };
            assert_eq!(b.send(probe).await?, Ok(()));
            sim.run_for(Duration::from_secs(60)).await;
            assert_eq!(ask(&a, hidden).await, Err(TransportError::Unreachable));
            Ok(())
        });
    }
}
