//! A peer that is nothing but a transport: it asks, and answers nobody.

use std::{net::Ipv4Addr, time::Duration};

use actix::{Actor, Addr, Context, Handler};
use bytes::Bytes;
use comet_node::{
    config::DEFAULT_NETWORK,
    identity::Identity,
    transport::{Ask, Received, TransportConfig, quic::QuicTransport},
};
use comet_routing::Contact;

/// A transport at an address of its own.
pub struct Peer {
    transport: Addr<QuicTransport>,
}

/// Drops what others ask.
struct Deaf;

impl Actor for Deaf {
    type Context = Context<Self>;
}

impl Handler<Received> for Deaf {
    type Result = ();

    fn handle(&mut self, _: Received, _: &mut Self::Context) {}
}

impl Peer {
    /// A peer at this address and a free port, on the thread that asks for it.
    pub fn start(ip: Ipv4Addr) -> Self {
        let transport = QuicTransport::bind(
            (ip, 0).into(),
            DEFAULT_NETWORK,
            TransportConfig::default(),
            Identity::generate(),
            Deaf.start().recipient(),
        );
        Self { transport: transport.expect("the loopback has a free port").start() }
    }

    /// Its transport.
    pub fn transport(&self) -> &Addr<QuicTransport> {
        &self.transport
    }

    /// Asks a node; the answer's frame, if there is one in time.
    pub async fn ask(&self, to: Contact, request: Bytes, deadline: Duration) -> Option<Bytes> {
        let pending = self.transport.send(Ask { to, request, deadline }).await.ok()?;
        pending.reply.await.ok()?.ok()
    }

    /// Asks a node, and does not wait for the answer.
    pub async fn tell(&self, to: Contact, request: Bytes, deadline: Duration) {
        if let Ok(pending) = self.transport.send(Ask { to, request, deadline }).await {
            // Dropping it would call the request off.
            actix::spawn(async move { drop(pending.reply.await) });
        }
    }
}
