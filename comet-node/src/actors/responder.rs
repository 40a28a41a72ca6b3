//! The actor that answers the requests of peers.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Contact, Key, NodeId,
    actor::{Closest, ContactHeard},
    clock::Clock,
};
use comet_runtime::{
    Refusal, Trail,
    actors::Replica,
    visit::{Served, Visit},
};
use comet_store::{Deletion, StoreError, StoreReader, Version};
use tokio::{sync::oneshot, task};

use super::{CheckSoon, DialBack};
use crate::{
    operation::{Admitted, Gate, Pauses, Places, REGION_NODES, RateLimits, Rates, belongs_to, reply_of},
    transport::Received,
    upkeep::compare,
    wire::{Answer, CONTACTS_MAX, Reply, Request, Summary, Verdict, encode_answer},
};

/// Peers of whom is remembered that the router heard of them.
const INTRODUCED_MAX: usize = 4_096;

/// Digests of one peer compared at once: upkeep sends one after the other, and may go through its objects and see
/// to early ones at the same time. A digest is small and costs up to 128 looks into the store.
const DIGESTS_PER_PEER_MAX: usize = 2;

/// Objects that are compared before other requests have their turn.
const COMPARED_MAX: usize = 8;

/// Limits of a [`Responder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponderConfig {
    /// Requests served at once.
    pub requests_max: usize,
    /// Requests of one peer served at once.
    pub requests_per_peer_max: usize,
    /// Requests that the nodes of one network may send.
    pub rates: RateLimits,
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
            rates: RateLimits::default(),
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
    digests: Places,
    rates: Rates,
    config: ResponderConfig,
    /// Peers of which the router heard a short while ago.
    introduced: Pauses<NodeId>,
}

impl Responder {
    /// A responder that answers at `desk` and tells the router, behind `heard`, who asked.
    pub fn new(desk: Desk, heard: Recipient<ContactHeard>, config: ResponderConfig) -> Self {
        let places = Places::new(config.requests_max, config.requests_per_peer_max);
        let digests = Places::new(config.requests_max, DIGESTS_PER_PEER_MAX);
        let introduced = Pauses::new(config.introduce_every, INTRODUCED_MAX);
        let rates = Rates::new(config.rates);
        Self { desk, heard, places, digests, rates, config, introduced }
    }

    /// Tells the router of a peer that asked something, now and then: tables fill in both directions.
    fn introduce(&mut self, contact: Contact) {
        if self.introduced.begin(contact.id, self.desk.clock.now()) {
            // A router that has too much to do hears of the peer after the pause.
            self.heard.try_send(ContactHeard { contact }).ok();
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
        let (now, ip) = (self.desk.clock.now(), from.addr.ip());
        if !self.rates.admit(ip, now) {
            return refuse(reply, Refusal::Overloaded("the node".into()));
        }
        self.introduce(from);
        let Some(place) = self.places.take(from.id) else {
            return refuse(reply, Refusal::Overloaded("the node".into()));
        };
        // At once, not in the task: a burst of bad requests would else be let in before the first of them is paid for.
        let admitted = match self.desk.admit(from, &request) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.rates.charge(ip, &refusal);
                return refuse(reply, refusal);
            }
        };
        let (desk, digests) = (self.desk.clone(), self.digests.clone());
        actix::spawn(async move {
            let answer = desk.answer(from, admitted, &digests).await;
            // The peer may have lost interest; the place is taken for as long as the object worked.
            reply.send(encode_answer(&answer)).ok();
            drop(place);
        });
    }
}

/// Says no to a peer, which may have lost interest.
fn refuse(reply: oneshot::Sender<Bytes>, refusal: Refusal) {
    reply.send(encode_answer(&Err(refusal))).ok();
}

impl Desk {
    /// What a request may do, if it is one.
    fn admit(&self, from: Contact, request: &Bytes) -> Result<Admitted, Refusal> {
        self.gate.admit(Request::decode(request)?, from, self.clock.wall_ms())
    }

    async fn answer(&self, from: Contact, admitted: Admitted, digests: &Places) -> Answer {
        match admitted {
            Admitted::Ping => Ok(Reply::Pong { you: from.addr }),
            Admitted::FindNode { target, count } => {
                Ok(Reply::Nodes { contacts: self.closest_to(target, count.min(CONTACTS_MAX)).await? })
            }
            Admitted::Compare { summaries } => {
                let _place = digests.take(from.id).ok_or_else(|| Refusal::Overloaded("the node".into()))?;
                Ok(Reply::Compared { verdicts: self.compare_all(&summaries).await? })
            }
            Admitted::Check { key } => {
                if self.held_version(&key)?.is_some() {
                    self.check_soon(key);
                }
                Ok(Reply::Noted)
            }
            Admitted::DialBack => {
                let dialled = self.dial_back.send(DialBack { contact: from }).await;
                let reachable = dialled.map_err(|_| Refusal::Stopping("the node".into()))??;
                Ok(Reply::Dialled { reachable })
            }
            Admitted::Visit { key, visit } => {
                if let Visit::Put { .. } | Visit::Claim { .. } | Visit::Delete { .. } = visit {
                    self.check_region(&key).await?;
                }
                let (visit, reply_bytes_max) = paid(visit);
                match self.replica.serve(key, visit).await? {
                    Served::Got { value, .. } if value.len() > reply_bytes_max => Err(Refusal::TooLarge {
                        what: "the answer to the object".into(),
                        size: value.len() as u64,
                        limit: reply_bytes_max as u64,
                    }),
                    served => reply_of(served, self.own, self.clock.wall_ms()),
                }
            }
        }
    }

    /// Refuses to begin to keep an object, or the memory of its deletion, for a key that is far from this node. What is
    /// held already may change and go, wherever the nodes around it have moved to.
    async fn check_region(&self, key: &Key) -> Result<(), Refusal> {
        if self.held_version(key)?.is_some() {
            return Ok(());
        }
        belongs_to(&self.own.id, key, &self.closest_to(*key, REGION_NODES).await?)
    }

    async fn closest_to(&self, target: Key, count: usize) -> Result<Vec<Contact>, Refusal> {
        let closest = self.closest.send(Closest { target, count }).await;
        closest.map_err(|_| Refusal::Stopping("the node".into()))
    }

    async fn compare_all(&self, summaries: &[Summary]) -> Result<Vec<Verdict>, Refusal> {
        let mut verdicts = Vec::new();
        for some in summaries.chunks(COMPARED_MAX) {
            for summary in some {
                verdicts.push(self.compare(summary)?);
            }
            task::yield_now().await;
        }
        Ok(verdicts)
    }

    /// What this node has of an object. One whose copy is behind will be sent a newer one.
    fn compare(&self, Summary { key, version }: &Summary) -> Result<Verdict, Refusal> {
        let verdict = verdict_of(*version, self.held_version(key)?, self.reader.tombstone(key))?;
        if verdict == Verdict::Newer {
            self.check_soon(*key);
        }
        Ok(verdict)
    }

    fn held_version(&self, key: &Key) -> Result<Option<Version>, StoreError> {
        let held = self.reader.holding(key, self.clock.wall_ms());
        legible(held.map(|held| held.map(|held| held.version)))
    }

    fn check_soon(&self, key: Key) {
        // One that is not taken is left to the next round.
        self.check.try_send(CheckSoon { key }).ok();
    }
}

/// The visit, and how many bytes it may be answered with. The answer to an object is sent out of the budget that came
/// with its get: half of the bytes are for it, and half for what the get sets off here.
fn paid(visit: Visit) -> (Visit, usize) {
    match &visit {
        Visit::Get { caller, trail, .. } if caller.callback.is_some() => {
            let half = Trail { bytes: trail.bytes / 2, ..*trail };
            (visit.with_trail(half), half.bytes as usize)
        }
        _ => (visit, usize::MAX),
    }
}

/// As [`compare`], with what a store says of its deletion. A damaged one tells that the object was deleted here, and
/// not how far; a copy might bring back what should be gone, so none is asked for until that memory has ended.
fn verdict_of(
    theirs: Version,
    held: Option<Version>,
    deleted: Result<Option<Deletion>, StoreError>,
) -> Result<Verdict, StoreError> {
    match deleted {
        Err(StoreError::Corrupt { .. }) if held.is_none() => Ok(Verdict::Left),
        deleted => Ok(compare(theirs, held, legible(deleted)?)),
    }
}

/// What is damaged is as good as nothing: a copy takes its place. A store that cannot be read at all stays an error:
/// that is no reason to have everything sent again.
fn legible<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Corrupt { .. }) => Ok(None),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    fn corrupt<T>() -> Result<Option<T>, StoreError> {
        Err(StoreError::Corrupt { key: Key::of("k"), reason: "a flipped bit".into() })
    }

    #[test]
    fn a_damaged_record_is_missing_and_a_store_that_cannot_be_read_says_nothing() {
        assert_eq!(legible::<u8>(corrupt()), Ok(None));
        let unreadable = StoreError::Unreadable { reason: "gone".into() };
        assert_eq!(legible::<u8>(Err(unreadable.clone())), Err(unreadable.clone()));
        assert_eq!(verdict_of(version(5), None, Ok(None)), Ok(Verdict::Missing));
        assert_eq!(verdict_of(version(5), None, Err(unreadable.clone())), Err(unreadable));
    }

    #[test]
    fn a_damaged_memory_of_a_deletion_asks_for_no_copy() {
        assert_eq!(verdict_of(version(5), None, corrupt()), Ok(Verdict::Left));
        assert_eq!(verdict_of(version(5), Some(version(4)), corrupt()), Ok(Verdict::Older));
    }
}
