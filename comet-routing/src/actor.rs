//! The actor around the routing table and the running lookups.
//!
//! It decides nothing of its own: it reads the clock, feeds what happened to [`RoutingTable`] and
//! [`Lookup`], sends what they ask for, and keeps one alarm for the earliest time that a lookup waits for.
//!
//! What it expects of the transport behind its recipients: every [`SendFindNode`] is followed by exactly
//! one [`QueryReplied`] or [`QueryFailed`]; every [`SendPing`] by [`ContactAnswered`] or
//! [`ContactSuspected`]; every [`SendProbe`] by [`ContactReached`] or [`ContactUnreachable`], or by nothing if this
//! node had too much to do to make it; and [`ContactSuspected`] is sent once for each request of any kind that is not
//! acknowledged within its peer's timeout. That message alone counts against a contact, so that one
//! unanswered request is one suspicion. A contact is what the transport has proved, never what a peer said.

mod messages;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use actix::{Actor, AsyncContext, Context, Handler, MessageResult, Recipient, ResponseFuture, SpawnHandle};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tokio::sync::oneshot;

use crate::{
    Admission, Contact, Diversity, Key, Lookup, LookupConfig, NodeId, Outcome, RoutingTable, Step, Suspicion,
    TableConfig, TableView, Timeouts, clock::Clock, lost::Lost, probes::Probes, vouched::Vouched,
};

pub use self::messages::{
    Asking, Closest, ContactAnswered, ContactHeard, ContactReached, ContactSuspected, ContactUnreachable,
    Contacts, FindNode, FindNodeError, Neighbours, QueryFailed, QueryReplied, SendFindNode, SendPing,
    SendProbe, TableSize,
};

/// Lookups that the node runs for itself at a time, to refresh its buckets.
const REFRESHES_MAX: usize = 4;

/// Pings in flight.
const PINGS_MAX: usize = 64;

/// A ping about which nothing was heard for this long no longer counts as in flight.
const PING_FORGOTTEN: Duration = Duration::from_secs(5);

/// Queries whose answer is awaited, those of finished lookups included; beyond it the oldest is forgotten.
const QUERIES_MAX: usize = 8_192;

/// Nodes that are looked for beyond those that are wanted: some may be dead, some have no room for what is to be
/// stored. With a quarter of all nodes dead, 96 of 100 times no more than 6 of 14 are.
pub(crate) const SPARES: usize = 6;

/// Lost contacts that each refresh tries again.
const LOST_TRIED: usize = 4;

/// Limits and times of a [`Router`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Limits of the routing table.
    pub table: TableConfig,
    /// Disjoint paths of each lookup.
    pub paths: usize,
    /// Lookups that may run at once for others; one more is refused.
    pub lookups_max: usize,
    /// How long a lookup may take.
    pub lookup_deadline: Duration,
    /// How often idle buckets are looked for, ± 20 %.
    pub refresh_every: Duration,
    /// A bucket into which no lookup went for this long is idle.
    pub bucket_idle: Duration,
    /// Messages that may wait in the mailbox.
    pub mailbox: usize,
}

impl Default for RouterConfig {
    /// The design's values; the hour is Kademlia's (section 2.3), the limits are guesses with room to spare.
    fn default() -> Self {
        Self {
            table: TableConfig::default(),
            paths: 8,
            lookups_max: 256,
            lookup_deadline: Duration::from_secs(5),
            refresh_every: Duration::from_secs(60),
            bucket_idle: Duration::from_secs(3_600),
            mailbox: 1_024,
        }
    }
}

impl RouterConfig {
    /// How many nodes of one network count among those closest to a key.
    pub fn diversity(&self) -> Diversity {
        Diversity { private_ranges: self.table.private_ranges, ..Diversity::default() }
    }
}

/// Where a [`Router`] sends what has to go over the network.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Takes its queries.
    pub find_node: Recipient<SendFindNode>,
    /// Takes its pings.
    pub ping: Recipient<SendPing>,
    /// Takes its probes.
    pub probe: Recipient<SendProbe>,
}

/// Knows the other nodes, and finds those it does not know.
#[derive(Debug)]
pub struct Router {
    own: NodeId,
    clock: Clock,
    rng: ChaCha12Rng,
    config: RouterConfig,
    outbound: Outbound,
    table: RoutingTable,
    view: TableView,
    vouched: Vouched,
    lookups: BTreeMap<u64, Running>,
    lookups_made: u64,
    queries: BTreeMap<u64, Query>,
    queries_made: u64,
    pings: BTreeMap<NodeId, Instant>,
    probes: Probes,
    timeouts: Timeouts,
    lost: Lost,
    /// When the own id was looked up last.
    looked_up_own: Option<Instant>,
    /// True if one of the contacts closest to this node entered since then. Whoever met somebody new may be the
    /// first of its neighbours to have done so: this is how swarms that meet find each other.
    has_new_neighbour: bool,
    alarm: Option<(Instant, SpawnHandle)>,
}

#[derive(Debug)]
struct Running {
    lookup: Lookup,
    /// `None` for a refresh.
    reply: Option<oneshot::Sender<Outcome>>,
    wake_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Query {
    lookup: u64,
    to: Contact,
}

impl Router {
    /// A router of the node `own` that knows nobody yet. `rng` decides its refreshes.
    pub fn new(
        own: NodeId,
        clock: Clock,
        rng: ChaCha12Rng,
        config: RouterConfig,
        outbound: Outbound,
    ) -> Self {
        Self {
            own,
            clock,
            rng,
            config,
            outbound,
            table: RoutingTable::new(own, config.table),
            view: TableView::new(own, config.table),
            vouched: Vouched::default(),
            lookups: BTreeMap::new(),
            lookups_made: 0,
            queries: BTreeMap::new(),
            queries_made: 0,
            pings: BTreeMap::new(),
            probes: Probes::default(),
            timeouts: Timeouts::default(),
            lost: Lost::default(),
            looked_up_own: None,
            has_new_neighbour: false,
            alarm: None,
        }
    }

    /// Shows its table there.
    #[must_use]
    pub fn shown_in(self, view: TableView) -> Self {
        Self { view, ..self }
    }

    /// Begins to look for this many live nodes close to a key.
    fn start_lookup(&mut self, target: Key, count: usize, reply: Option<oneshot::Sender<Outcome>>) {
        let now = self.clock.now();
        self.table.on_lookup(&target, now);
        if target == self.own.as_key() {
            self.looked_up_own = Some(now);
            self.has_new_neighbour = false;
        }
        let deadline = now + self.config.lookup_deadline;
        let k = self.config.table.k;
        let count = count.clamp(1, k);
        let wide = count.saturating_add(SPARES).min(k);
        let config = LookupConfig {
            k: wide,
            excused: wide - count,
            diversity: self.config.diversity(),
            paths: self.config.paths,
            ..LookupConfig::new(self.own, deadline)
        };
        let lookup = Lookup::new(target, self.table.closest(&target, k), config);
        let id = self.lookups_made;
        self.lookups_made += 1;
        self.lookups.insert(id, Running { lookup, reply, wake_at: now });
        self.drive(id);
    }

    /// Runs a lookup as far as it goes.
    fn drive(&mut self, id: u64) {
        let now = self.clock.now();
        loop {
            let Some(running) = self.lookups.get_mut(&id) else { return };
            match running.lookup.poll(now) {
                Step::Query(to) => self.send_query(id, to, now),
                Step::Wait { until } => {
                    running.wake_at = until;
                    return;
                }
                Step::Done(mut outcome) => {
                    // With so few, whoever there is would be among those that are wanted, however far from the key.
                    let wanted = running.lookup.wanted();
                    if outcome.closest.len() < wanted {
                        outcome.missed = self.lost.missed(now);
                    }
                    self.vouched.on_lookup(&self.table, running.lookup.target(), &outcome, wanted, now);
                    let done = self.lookups.remove(&id);
                    if let Some(reply) = done.and_then(|running| running.reply) {
                        // Whoever asked may have stopped waiting.
                        reply.send(outcome).ok();
                    }
                    return;
                }
            }
        }
    }

    fn send_query(&mut self, lookup: u64, to: Contact, now: Instant) {
        let Some(running) = self.lookups.get_mut(&lookup) else { return };
        let query = self.queries_made;
        self.queries_made += 1;
        let (target, count) = (*running.lookup.target(), self.config.table.k);
        if self.outbound.find_node.try_send(SendFindNode { query, to, target, count }).is_err() {
            running.lookup.on_failure(to);
            return;
        }
        running.lookup.on_sent(to, now + self.timeouts.of(&to.id, now));
        self.queries.insert(query, Query { lookup, to });
        if self.queries.len() > QUERIES_MAX {
            self.queries.pop_first();
        }
    }

    /// Sets the alarm to the earliest time that a lookup waits for.
    fn set_alarm(&mut self, ctx: &mut Context<Self>) {
        let earliest = self.lookups.values().map(|running| running.wake_at).min();
        if self.alarm.map(|(at, _)| at) == earliest {
            return;
        }
        if let Some((_, alarm)) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        self.alarm = earliest.map(|at| {
            let after = at.saturating_duration_since(self.clock.now());
            (at, ctx.run_later(after, Self::on_alarm))
        });
    }

    fn on_alarm(&mut self, ctx: &mut Context<Self>) {
        self.alarm = None;
        let now = self.clock.now();
        let due = self.lookups.iter().filter(|(_, running)| running.wake_at <= now);
        for id in due.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.drive(id);
        }
        self.set_alarm(ctx);
    }

    fn on_answer(&mut self, contact: Contact, rtt: Option<Duration>) {
        let now = self.clock.now();
        self.pings.remove(&contact.id);
        self.find_again(&contact.id);
        if let Some(rtt) = rtt {
            if self.timeouts.is_stranger(&contact.id, now) {
                self.timeouts.observe_first(rtt);
            }
            self.timeouts.observe(contact.id, rtt, now);
        }
        match self.table.on_answer(contact, now) {
            Admission::Waiting { ping: Some(to) } => self.ping(to),
            Admission::Wanted => self.probe(contact),
            Admission::Crowded => self.view.show(&self.table),
            _ => {}
        }
    }

    fn on_reached(&mut self, contact: Contact) {
        self.probes.on_reached(&contact.id);
        self.find_again(&contact.id);
        let admission = self.table.on_reached(contact, self.clock.now());
        self.view.show(&self.table);
        match admission {
            Admission::Waiting { ping: Some(to) } => self.ping(to),
            Admission::Entered => {
                let closest = self.table.closest(&self.own.as_key(), self.config.table.k);
                self.has_new_neighbour |= closest.contains(&contact);
                self.vouched.on_entered();
            }
            _ => {}
        }
    }

    /// If this node was lost, then perhaps because this one was cut off, and what comes back is the swarm: all that
    /// are lost are tried, whatever the earlier attempts came to.
    fn find_again(&mut self, id: &NodeId) {
        let is_lost = self.lost.forget(id);
        if is_lost {
            self.probes.forgive(id);
        }
        for other in self.lost.contacts().into_iter().filter(|_| is_lost) {
            self.probes.forgive(&other.id);
            self.probe(other);
        }
    }

    fn on_suspicion(&mut self, id: &NodeId, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        self.pings.remove(id);
        let known = self.table.find(id);
        match self.table.on_failure(id, now) {
            Suspicion::Suspected { ping: Some(to) } => {
                let after = self.config.table.suspicion_spacing;
                ctx.run_later(after, move |actor, _| actor.ping(to));
            }
            Suspicion::Dropped { replacement } => {
                self.view.show(&self.table);
                known.into_iter().for_each(|known| self.lost.note(known, now));
                replacement.into_iter().for_each(|to| self.probe(to));
            }
            _ => {}
        }
        let mut waiting = Vec::new();
        for (&lookup, running) in &mut self.lookups {
            if running.lookup.on_suspicion(id) {
                waiting.push(lookup);
            }
        }
        waiting.into_iter().for_each(|lookup| self.drive(lookup));
    }

    fn ping(&mut self, to: Contact) {
        let now = self.clock.now();
        self.pings.retain(|_, sent| now.saturating_duration_since(*sent) < PING_FORGOTTEN);
        if self.pings.len() >= PINGS_MAX || self.pings.contains_key(&to.id) {
            return;
        }
        if self.outbound.ping.try_send(SendPing { to }).is_ok() {
            self.pings.insert(to.id, now);
        }
    }

    fn probe(&mut self, to: Contact) {
        let prefix = self.config.diversity().prefix_of(&to);
        if self.probes.begin(to.id, prefix, self.clock.now())
            && self.outbound.probe.try_send(SendProbe { to }).is_err()
        {
            self.probes.on_unmade(&to.id);
        }
    }

    /// A random share of a duration, in whole milliseconds as the runtime's timers are.
    fn part_of(&mut self, whole: Duration, percent: RangeInclusive<u32>) -> Duration {
        let part = whole * self.rng.random_range(percent) / 100;
        Duration::from_millis(u64::try_from(part.as_millis()).unwrap_or(u64::MAX))
    }

    fn refresh(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let RouterConfig { bucket_idle, refresh_every, .. } = self.config;
        let own_idle = self.looked_up_own.is_none_or(|at| now.saturating_duration_since(at) >= bucket_idle);
        let is_due = (own_idle || self.has_new_neighbour) && !self.table.is_empty();
        let own = Some(self.own.as_key()).filter(|_| is_due);
        let idle = self.table.buckets_idle_since(now, bucket_idle, &mut self.rng);
        let running = self.lookups.values().filter(|running| running.reply.is_none()).count();
        for target in own.into_iter().chain(idle).take(REFRESHES_MAX.saturating_sub(running)) {
            self.start_lookup(target, self.config.table.k, None);
        }
        let tried = self.lost.sample(LOST_TRIED, &mut self.rng);
        tried.into_iter().for_each(|contact| self.probe(contact));
        self.set_alarm(ctx);
        let again = self.part_of(refresh_every, 80..=120);
        ctx.run_later(again, Self::refresh);
    }
}

impl Actor for Router {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.config.mailbox);
        let first = self.part_of(self.config.refresh_every, 20..=100);
        ctx.run_later(first, Self::refresh);
    }
}

impl Handler<FindNode> for Router {
    type Result = ResponseFuture<Result<Outcome, FindNodeError>>;

    fn handle(&mut self, find_node: FindNode, ctx: &mut Self::Context) -> Self::Result {
        let FindNode { target, mut count, asking } = find_node;
        if asking == Asking::Seldom {
            let now = self.clock.now();
            if let Some(known) = self.vouched.find(&self.table, &target, count, &self.lost, now) {
                return Box::pin(async { Ok(known) });
            }
            // With as many as a bucket has places, a lookup can vouch for a bucket that has some left.
            if self.table.is_complete_around(&target, now) {
                count = self.config.table.k;
            }
        }
        let running = self.lookups.values().filter(|running| running.reply.is_some()).count();
        if running >= self.config.lookups_max {
            return Box::pin(async move { Err(FindNodeError::Busy(running)) });
        }
        let (reply, outcome) = oneshot::channel();
        self.start_lookup(target, count, Some(reply));
        self.set_alarm(ctx);
        Box::pin(async move { outcome.await.map_err(|_| FindNodeError::Stopped) })
    }
}

impl Handler<Closest> for Router {
    type Result = Vec<Contact>;

    fn handle(&mut self, Closest { target, count }: Closest, _: &mut Self::Context) -> Self::Result {
        self.table.closest(&target, count)
    }
}

impl Handler<Neighbours> for Router {
    type Result = MessageResult<Neighbours>;

    fn handle(&mut self, neighbours: Neighbours, _: &mut Self::Context) -> Self::Result {
        let Neighbours { target, count, copies } = neighbours;
        MessageResult(self.table.worth_asking(&target, count, copies, self.clock.now()))
    }
}

impl Handler<QueryReplied> for Router {
    type Result = ();

    fn handle(&mut self, reply: QueryReplied, ctx: &mut Self::Context) {
        let Some(Query { lookup, to }) = self.queries.remove(&reply.query) else { return };
        self.on_answer(to, Some(reply.rtt));
        if let Some(running) = self.lookups.get_mut(&lookup) {
            running.lookup.on_reply(to, reply.closer);
            self.drive(lookup);
            self.set_alarm(ctx);
        }
    }
}

impl Handler<QueryFailed> for Router {
    type Result = ();

    fn handle(&mut self, QueryFailed { query }: QueryFailed, ctx: &mut Self::Context) {
        let Some(Query { lookup, to }) = self.queries.remove(&query) else { return };
        if let Some(running) = self.lookups.get_mut(&lookup) {
            running.lookup.on_failure(to);
            self.drive(lookup);
            self.set_alarm(ctx);
        }
    }
}

impl Handler<ContactAnswered> for Router {
    type Result = ();

    fn handle(&mut self, ContactAnswered { contact, rtt }: ContactAnswered, _: &mut Self::Context) {
        self.on_answer(contact, rtt);
    }
}

impl Handler<ContactReached> for Router {
    type Result = ();

    fn handle(&mut self, ContactReached { contact }: ContactReached, _: &mut Self::Context) {
        self.on_reached(contact);
    }
}

impl Handler<ContactUnreachable> for Router {
    type Result = ();

    fn handle(&mut self, ContactUnreachable { id }: ContactUnreachable, _: &mut Self::Context) {
        self.probes.on_unreachable(&id);
        if let Some(next) = self.table.on_unreachable(&id) {
            self.probe(next);
        }
    }
}

impl Handler<ContactSuspected> for Router {
    type Result = ();

    fn handle(&mut self, ContactSuspected { id }: ContactSuspected, ctx: &mut Self::Context) {
        self.on_suspicion(&id, ctx);
        self.set_alarm(ctx);
    }
}

impl Handler<ContactHeard> for Router {
    type Result = ();

    fn handle(&mut self, ContactHeard { contact }: ContactHeard, _: &mut Self::Context) {
        if self.table.wants(&contact) {
            self.probe(contact);
        }
    }
}

impl Handler<Contacts> for Router {
    type Result = Vec<Contact>;

    fn handle(&mut self, Contacts: Contacts, _: &mut Self::Context) -> Self::Result {
        self.table.contacts()
    }
}

impl Handler<TableSize> for Router {
    type Result = usize;

    fn handle(&mut self, TableSize: TableSize, _: &mut Self::Context) -> Self::Result {
        self.table.len()
    }
}
