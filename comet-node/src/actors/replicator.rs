//! The actor that keeps this node's objects where they belong.
//!
//! It goes through all objects once in a period, and through those that somebody found wanting as soon as it
//! may. What is decided about them is decided in [`crate::upkeep`]; this shell asks the router who is close,
//! sends digests and copies at the pace of its budget, and lets go of what others keep.

use std::{
    cell::RefCell,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Contact, Diversity, Key,
    actor::{Closest, FindNode},
    clock::Clock,
};
use comet_runtime::{Refusal, Trail, actors::Replica, visit::Visit};
use comet_store::{Held, Ownership, StoreError, StoreReader, Version};
use futures_util::{StreamExt, stream};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tokio::time;

use super::Carry;
use crate::{
    operation::{Admitted, CANDIDATES_MAX, Gate, Heard, OwnRole, request::replicate},
    upkeep::{Agenda, Batch, Budget, Check, Conclusion, Copied, Copy, Digest, UpkeepCounters},
    wire::{Reply, Request, Summary, Verdict},
};

/// Objects that are checked together.
const BATCH: usize = 64;

/// Digests and copies under way at one time.
const REQUESTS_MAX: usize = 4;

/// How long a node may take to answer a digest or a copy.
const DEADLINE: Duration = Duration::from_secs(5);

/// Pause before a node that is alone looks for others to share its objects with again.
const ALONE: Duration = Duration::from_secs(60);

/// What a lookup sends, about: some thirty requests of a key each.
const LOOKUP_BYTES: usize = 2_048;

/// Networks in which objects have to keep themselves before a copy which they overrule goes at once. A single one
/// may lie; its word is given the time that a handed-over copy has.
const WITNESSES: usize = 2;

/// Pause before an object that somebody found wanting is checked, so that several can go together.
const SOON: Duration = Duration::from_secs(2);

/// Check soon whether an object's replicas are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct CheckSoon {
    /// The object; of no effect if it is not held here.
    pub key: Key,
}

/// How a [`Replicator`] goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicatorConfig {
    /// All objects are gone through once in this time, ± 20 %.
    pub period: Duration,
    /// Shortest and longest pause before the first time after a start.
    pub first_after: (Duration, Duration),
    /// What it may send, in bytes per second.
    pub bytes_per_second: u64,
    /// Messages that may wait in the mailbox.
    pub mailbox: usize,
}

impl ReplicatorConfig {
    /// Goes through all objects once in `period`; the first time between 10 and 60 seconds after a start. A node
    /// that comes back should not serve old versions for long, and a thousand that come back at once should not
    /// all begin at the same moment.
    pub fn new(period: Duration, bytes_per_second: u64) -> Self {
        let first_after = (Duration::from_secs(10).min(period), Duration::from_secs(60).min(period));
        Self { period, first_after, bytes_per_second, mailbox: 1_024 }
    }

    /// A copy of what others are responsible for goes after this time.
    fn grace(&self) -> Duration {
        self.period * 2
    }
}

/// Whom a [`Replicator`] works with.
#[derive(Clone)]
pub struct Surveyor {
    /// This node, as peers know it.
    pub own: Contact,
    /// What requests may do.
    pub gate: Arc<Gate>,
    /// The objects of this node.
    pub replica: Replica,
    /// What is stored here.
    pub reader: StoreReader,
    /// The router: known contacts close to a key.
    pub closest: Recipient<Closest>,
    /// The router: a lookup.
    pub find_node: Recipient<FindNode>,
    /// The courier.
    pub carry: Recipient<Carry>,
    /// Whether others can reach this node; where they cannot, it holds no replicas.
    pub role: OwnRole,
    /// How many nodes of one network may hold the same object.
    pub diversity: Diversity,
    /// What has been done.
    pub counters: Arc<UpkeepCounters>,
    /// Time.
    pub clock: Clock,
}

/// Keeps this node's objects where they belong.
pub struct Replicator {
    surveyor: Rc<Surveyor>,
    config: ReplicatorConfig,
    rng: ChaCha12Rng,
    agenda: Agenda,
    budget: Rc<RefCell<Budget>>,
    round: Round,
    round_began: Instant,
    next: Next,
    is_working: bool,
    /// True while a timer runs for the objects that somebody found wanting.
    is_soon: bool,
}

/// Whose turn it is, as long as both have objects: neither keeps the other waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Early,
    Round,
}

/// How far going through all objects has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// It waits for its time.
    Resting,
    /// The next object is the first behind this one.
    After(Option<Key>),
}

/// One checked object: what is held of it, and what the check came to.
struct Checked {
    held: Held,
    check: Check,
}

impl Replicator {
    /// A replicator that has checked nothing yet; `rng` spreads its work over time.
    pub fn new(surveyor: Surveyor, config: ReplicatorConfig, rng: ChaCha12Rng) -> Self {
        let budget = Rc::new(RefCell::new(Budget::new(config.bytes_per_second)));
        let round_began = surveyor.clock.now();
        Self {
            surveyor: Rc::new(surveyor),
            config,
            rng,
            agenda: Agenda::default(),
            budget,
            round: Round::Resting,
            round_began,
            next: Next::Early,
            is_working: false,
            is_soon: false,
        }
    }

    /// Begins to go through all objects, once the neighbourhood is known anew.
    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        let surveyor = Rc::clone(&self.surveyor);
        let neighbours = async move { surveyor.neighbours(&surveyor.own.id.as_key()).await };
        ctx.spawn(neighbours.into_actor(self).map(|neighbours, actor, ctx| {
            if neighbours.is_empty() {
                ctx.run_later(ALONE.min(actor.config.period), Self::begin_round);
                return;
            }
            actor.round = Round::After(None);
            actor.round_began = actor.surveyor.clock.now();
            actor.proceed(ctx);
        }));
    }

    /// Checks the next objects.
    fn proceed(&mut self, ctx: &mut Context<Self>) {
        if self.is_working {
            return;
        }
        let keys = self.next_keys(ctx);
        if keys.is_empty() {
            return;
        }
        self.is_working = true;
        let surveyor = Rc::clone(&self.surveyor);
        let budget = Rc::clone(&self.budget);
        let work = async move { surveyor.check(&keys, &budget).await };
        ctx.spawn(work.into_actor(self).map(|checked, actor, ctx| {
            checked.into_iter().for_each(|checked| actor.conclude(checked));
            actor.is_working = false;
            actor.proceed(ctx);
        }));
    }

    /// Objects that somebody found wanting and those of the round by turns.
    fn next_keys(&mut self, ctx: &mut Context<Self>) -> Vec<Key> {
        let early = if self.next == Next::Early { self.agenda.take(BATCH) } else { Vec::new() };
        if !early.is_empty() {
            self.next = Next::Round;
            return early;
        }
        self.next = Next::Early;
        let of_round = self.next_of_round(ctx);
        if of_round.is_empty() { self.agenda.take(BATCH) } else { of_round }
    }

    fn next_of_round(&mut self, ctx: &mut Context<Self>) -> Vec<Key> {
        let Round::After(after) = self.round else { return Vec::new() };
        let keys = match self.surveyor.reader.keys(after, BATCH) {
            Ok(keys) => keys,
            Err(error) => {
                log::warn!("upkeep cannot read the store and tries again later: {error}");
                self.round = Round::Resting;
                ctx.run_later(ALONE.min(self.config.period), Self::begin_round);
                return Vec::new();
            }
        };
        match keys.last() {
            Some(last) => self.round = Round::After(Some(*last)),
            None => self.end_round(ctx),
        }
        keys
    }

    /// All objects have been gone through; the next round begins a period after this one began.
    fn end_round(&mut self, ctx: &mut Context<Self>) {
        self.surveyor.counters.count_round();
        self.agenda.end_round();
        self.round = Round::Resting;
        let period = self.config.period * self.rng.random_range(80..=120) / 100;
        let taken = self.surveyor.clock.now().saturating_duration_since(self.round_began);
        ctx.run_later(period.saturating_sub(taken), Self::begin_round);
    }

    /// Does what follows from a check.
    fn conclude(&mut self, Checked { held, check }: Checked) {
        let Summary { key, version } = check.summary();
        let surveyor = &self.surveyor;
        surveyor.counters.count_check();
        match check.conclusion() {
            Conclusion::HandedOver => self.let_go_in_time(key, version),
            Conclusion::Overruled { by } if !held.active && !held.owned && by < WITNESSES => {
                self.let_go_in_time(key, version);
            }
            Conclusion::Overruled { .. } if !held.active && !held.owned => {
                surveyor.visit_own(key, Visit::Release { version });
            }
            Conclusion::Deleted { by, sequence, ownership } => {
                self.agenda.keep(&key);
                if let Some(visit) = surveyor.deletion(key, by, sequence, ownership) {
                    surveyor.counters.count_deletion();
                    surveyor.visit_own(key, visit);
                }
            }
            Conclusion::Overruled { .. } | Conclusion::Kept | Conclusion::Short | Conclusion::Outdated => {
                self.agenda.keep(&key);
            }
        }
    }

    /// Drops a copy that others keep, once that has been so for the grace period.
    fn let_go_in_time(&mut self, key: Key, version: Version) {
        if self.agenda.may_drop(key, self.config.grace(), self.surveyor.clock.now()) {
            self.agenda.keep(&key);
            self.surveyor.counters.count_drop();
            self.surveyor.visit_own(key, Visit::Release { version });
        }
    }
}

impl Surveyor {
    /// Checks objects together, and sends what is missing where.
    async fn check(&self, keys: &[Key], budget: &RefCell<Budget>) -> Vec<Checked> {
        let (mut checks, mut holdings) = (Vec::new(), Vec::new());
        for key in keys {
            match self.reader.holding(key, self.clock.wall_ms()) {
                // An object that asks for no replicas looks after itself.
                Ok(Some(held)) if held.replicas > 0 => {
                    checks.push(self.check_of(*key, &held, budget).await);
                    holdings.push(held);
                }
                Ok(_) => {}
                Err(error) => log::warn!("upkeep passes over {}: {error}", key.brief()),
            }
        }
        let mut batch = Batch::new(checks);
        loop {
            let digests = batch.digests();
            let compared = digests.into_iter().map(|digest| self.compare(digest, budget));
            let compared: Vec<_> = stream::iter(compared).buffered(REQUESTS_MAX).collect().await;
            for (digest, reply) in &compared {
                let verdicts = match reply {
                    Some(Reply::Compared { verdicts }) => Some(self.proven(digest, verdicts)),
                    _ => None,
                };
                batch.on_compared(digest, verdicts);
            }
            let copies = batch.copies();
            if compared.is_empty() && copies.is_empty() {
                break;
            }
            let copied = copies.into_iter().map(|copy| self.copy(copy, budget));
            let copied: Vec<_> = stream::iter(copied).buffered(REQUESTS_MAX).collect().await;
            for (copy, outcome) in copied {
                batch.on_copied(&copy, outcome);
            }
        }
        let checks = batch.into_checks().into_iter();
        checks.zip(holdings).map(|(check, held)| Checked { held, check }).collect()
    }

    /// What a node says of its copies, without the deletions that it cannot prove.
    fn proven(&self, digest: &Digest, verdicts: &[Verdict]) -> Vec<Verdict> {
        let keys = digest.summaries.iter().map(|summary| summary.key);
        let proven = |(verdict, key): (&Verdict, Key)| match verdict {
            Verdict::Gone { sequence, ownership }
                if self.deletion(key, digest.to, *sequence, ownership.clone()).is_none() =>
            {
                Verdict::Left
            }
            verdict => verdict.clone(),
        };
        verdicts.iter().zip(keys).map(proven).collect()
    }

    /// The visit by which the own copy learns that the object was deleted, if that may be believed.
    fn deletion(
        &self,
        key: Key,
        by: Contact,
        sequence: u64,
        ownership: Option<Box<Ownership>>,
    ) -> Option<Visit> {
        if key.is_owned() && ownership.is_none() {
            return None;
        }
        let request = Request::Delete { key, sequence, ownership, trail: Trail::SPENT.into() };
        match self.gate.admit(request, by, self.clock.wall_ms()) {
            Ok(Admitted::Visit { visit, .. }) => Some(visit),
            Ok(_) => None,
            Err(refusal) => {
                log::debug!("{} calls {} deleted, in vain: {refusal}", by.id, key.brief());
                None
            }
        }
    }

    /// A check among the nodes that should hold the object: those that the routing table knows, which around
    /// this node is everybody. Before an object is given away a lookup has to say the same; and where a network is
    /// crowded, of which tables hold a few, a lookup says who of it are the nearest.
    async fn check_of(&self, key: Key, held: &Held, budget: &RefCell<Budget>) -> Check {
        let summary = Summary { key, version: held.version };
        let count = CANDIDATES_MAX;
        let known = self.closest.send(Closest { target: key, count }).await.unwrap_or_default();
        let own = (!self.role.is_client()).then_some(self.own);
        let check = Check::new(summary, held.replicas, own, known, self.diversity);
        if check.is_own_duty() && !check.is_crowded() {
            return check;
        }
        self.pace(LOOKUP_BYTES, budget).await;
        Check::new(summary, held.replicas, own, self.neighbours(&key).await, self.diversity)
    }

    /// The nodes closest to a key that answer a lookup.
    async fn neighbours(&self, key: &Key) -> Vec<Contact> {
        match self.find_node.send(FindNode::all(*key)).await {
            Ok(Ok(outcome)) => outcome.closest,
            _ => Vec::new(),
        }
    }

    async fn compare(&self, digest: Digest, budget: &RefCell<Budget>) -> (Digest, Option<Reply>) {
        let request = Request::Digest { summaries: digest.summaries.clone() }.encode();
        let reply = match self.ask(digest.to, request, budget).await {
            Heard::Reply(reply) => Some(reply),
            Heard::Refused(_) | Heard::Failed(_) => None,
        };
        (digest, reply)
    }

    async fn copy(&self, copy: Copy, budget: &RefCell<Budget>) -> (Copy, Copied) {
        let copied = match self.copy_frame(&copy.summary) {
            Ok(Some(frame)) => match self.ask(copy.to, frame, budget).await {
                Heard::Reply(Reply::Stored { version, .. }) => Copied::Held(version),
                Heard::Refused(Refusal::Stale { .. }) => Copied::Stale,
                Heard::Reply(_) | Heard::Refused(_) => Copied::Refused,
                Heard::Failed(_) => Copied::Silent,
            },
            // Something newer has come meanwhile, here.
            Ok(None) => Copied::Stale,
            Err(error) => {
                log::warn!("upkeep cannot copy {}: {error}", copy.summary.key.brief());
                Copied::Refused
            }
        };
        if matches!(copied, Copied::Held(version) if version == copy.summary.version) {
            self.counters.count_copy();
        }
        (copy, copied)
    }

    /// The request that hands over what is held, if it is still that version. Nobody asked for it, so it may cause
    /// nothing: anybody can have objects checked early.
    fn copy_frame(&self, summary: &Summary) -> Result<Option<Bytes>, StoreError> {
        let now_ms = self.clock.wall_ms();
        let record = self.reader.record(&summary.key, now_ms)?;
        let record = record.filter(|record| record.version == summary.version);
        Ok(record.map(|record| replicate(record, Trail::SPENT, now_ms).encode()))
    }

    /// Sends a request when the budget allows it, and waits for the answer.
    async fn ask(&self, to: Contact, request: Bytes, budget: &RefCell<Budget>) -> Heard {
        self.pace(request.len(), budget).await;
        let (carry, heard) = Carry::patient(to, request, DEADLINE);
        self.carry.try_send(carry).ok();
        heard.await.unwrap_or_else(|_| Heard::Failed(Refusal::Overloaded("the courier".into())))
    }

    /// Waits until so many bytes may be sent, and counts them.
    async fn pace(&self, bytes: usize, budget: &RefCell<Budget>) {
        let pause = budget.borrow_mut().grant(bytes, self.clock.now());
        if !pause.is_zero() {
            time::sleep(pause).await;
        }
        self.counters.count_bytes(bytes);
    }

    /// Has an object of this node visited, whatever comes of it.
    fn visit_own(&self, key: Key, visit: Visit) {
        let replica = self.replica.clone();
        actix::spawn(async move {
            if let Err(refusal) = replica.serve(key, visit).await {
                log::debug!("upkeep leaves {} as it is: {refusal}", key.brief());
            }
        });
    }
}

impl Actor for Replicator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.config.mailbox);
        let (earliest, latest) = self.config.first_after;
        let of_ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let first = self.rng.random_range(of_ms(earliest)..=of_ms(latest));
        ctx.run_later(Duration::from_millis(first), Self::begin_round);
    }
}

impl Handler<CheckSoon> for Replicator {
    type Result = ();

    fn handle(&mut self, CheckSoon { key }: CheckSoon, ctx: &mut Self::Context) {
        let is_new = self.agenda.note(key, self.surveyor.clock.now());
        if is_new && !self.is_soon {
            self.is_soon = true;
            ctx.run_later(SOON, |actor, ctx| {
                actor.is_soon = false;
                actor.proceed(ctx);
            });
        }
    }
}
