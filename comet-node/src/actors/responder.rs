//! The actor that answers the requests of peers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Contact, Key, NodeId,
    actor::{Closest, ContactHeard},
    clock::Clock,
};
use comet_runtime::{Refusal, actors::Replica};
use comet_store::StoreReader;

use super::{CheckSoon, DialBack};
use crate::{
    operation::{Admitted, Gate, Places, reply_of},
    transport::Received,
    upkeep::compare,
    wire::{Answer, CONTACTS_MAX, Reply, Request, Summary, Verdict, encode_answer},
};

/// Peers of whom is remembered that the router heard of them.
const INTRODUCED_MAX: usize = 4_096;

/// Limits of a [`Responder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponderConfig {
    /// Requests served at once.
    pub requests_max: usize,
    /// Requests of one peer served at once.
    pub requests_per_peer_max: usize,
    /// How often the router hears that the same peer asked something.
    pub introduce_every: Duration,
    /// Messages that may wait in the mailbox.
    pub mailbox: usize,
}

impl Default for ResponderConfig {
    fn default() -> Self {
        Self {
            requests_max: 2_048,
            requests_per_peer_max: 128,
            introduce_every: Duration::from_secs(60),
            mailbox: 1_024,
        }
    }
}

/// Whom a [`Responder`] asks.
#[derive(Clone)]
pub struct Desk {
    /// This node, as peers know it.
    pub own: Contact,
    /// What requests may do.
    pub gate: Arc<Gate>,
    /// The objects of this node.
    pub replica: Replica,
    /// What is stored here.
    pub reader: StoreReader,
    /// The replicator: somebody met a replica that is behind.
    pub check: Recipient<CheckSoon>,
    /// The prober: whether a peer can be reached.
    pub dial_back: Recipient<DialBack>,
    /// The router: which contacts are close to a key.
    pub closest: Recipient<Closest>,
    /// Time.
    pub clock: Clock,
}

/// Answers the requests of peers.
pub struct Responder {
    desk: Desk,
    heard: Recipient<ContactHeard>,
    places: Places,
    config: ResponderConfig,
    /// When the router last heard of a peer.
    introduced: BTreeMap<NodeId, Instant>,
}

impl Responder {
    /// A responder that answers at `desk` and tells the router, behind `heard`, who asked.
    pub fn new(desk: Desk, heard: Recipient<ContactHeard>, config: ResponderConfig) -> Self {
        let places = Places::new(config.requests_max, config.requests_per_peer_max);
        Self { desk, heard, places, config, introduced: BTreeMap::new() }
    }

    /// Tells the router of a peer that asked something, now and then: tables fill in both directions.
    fn introduce(&mut self, contact: Contact) {
        let now = self.desk.clock.now();
        let every = self.config.introduce_every;
        let recent = |at: &Instant| now.saturating_duration_since(*at) < every;
        if self.introduced.get(&contact.id).is_some_and(recent) {
            return;
        }
        if self.introduced.len() >= INTRODUCED_MAX {
            self.introduced.retain(|_, at| recent(at));
        }
        let full = self.introduced.len() >= INTRODUCED_MAX;
        if !full && self.heard.try_send(ContactHeard { contact }).is_ok() {
            self.introduced.insert(contact.id, now);
        }
    }
}

impl Actor for Responder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.config.mailbox);
    }
}

impl Handler<Received> for Responder {
    type Result = ();

    fn handle(&mut self, Received { from, request, reply }: Received, _: &mut Self::Context) {
        if reply.is_closed() {
            return;
        }
        self.introduce(from);
        let Some(place) = self.places.take(from.id) else {
            reply.send(encode_answer(&Err(Refusal::Overloaded("the node".into())))).ok();
            return;
        };
        let desk = self.desk.clone();
        actix::spawn(async move {
            let answer = desk.answer(from, &request).await;
            // The peer may have lost interest; the place is taken for as long as the object worked.
            reply.send(encode_answer(&answer)).ok();
            drop(place);
        });
    }
}

impl Desk {
    async fn answer(&self, from: Contact, request: &Bytes) -> Answer {
        match self.gate.admit(Request::decode(request)?, from, self.clock.wall_ms())? {
            Admitted::Ping => Ok(Reply::Pong { you: from.addr }),
            Admitted::FindNode { target, count } => {
                let closest = self.closest.send(Closest { target, count: count.min(CONTACTS_MAX) }).await;
                let contacts = closest.map_err(|_| Refusal::Stopping("the node".into()))?;
                Ok(Reply::Nodes { contacts })
            }
            Admitted::Compare { summaries } => Ok(Reply::Compared {
                verdicts: summaries.iter().map(|summary| self.compare(summary)).collect(),
            }),
            Admitted::Check { key } => {
                self.check_soon(key);
                Ok(Reply::Noted)
            }
            Admitted::DialBack => {
                let dialled = self.dial_back.send(DialBack { contact: from }).await;
                let reachable = dialled.map_err(|_| Refusal::Stopping("the node".into()))??;
                Ok(Reply::Dialled { reachable })
            }
            Admitted::Visit { key, visit } => {
                let served = self.replica.serve(key, visit).await?;
                reply_of(served, self.own, self.clock.wall_ms())
            }
        }
    }

    /// What this node has of an object. One whose copy is behind will be sent a newer one.
    fn compare(&self, Summary { key, version }: &Summary) -> Verdict {
        let held = self.reader.holding(key, self.clock.wall_ms()).ok().flatten();
        let deleted = self.reader.tombstone(key).ok().flatten();
        let verdict = compare(*version, held.map(|held| held.version), deleted);
        if verdict == Verdict::Newer {
            self.check_soon(*key);
        }
        verdict
    }

    fn check_soon(&self, key: Key) {
        // One that is not taken is left to the next round.
        self.check.try_send(CheckSoon { key }).ok();
    }
}
