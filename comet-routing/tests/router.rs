//! The `Router` actor alone, against a probe in place of the transport, under paused time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::disallowed_methods, reason = "the tests measure the paused clock")]

use std::{collections::BTreeMap, time::Duration};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, clock::sleep};
use comet_routing::{
    Contact, Key, NodeId, Prospects, Router, RouterConfig, TableConfig,
    actor::{
        Closest, ContactAnswered, ContactHeard, ContactReached, ContactSuspected, ContactUnreachable,
        Contacts, FindNode, FindNodeError, Neighbours, Outbound, QueryFailed, QueryReplied, SendFindNode,
        SendPing, SendProbe, TableSize,
    },
    clock::Clock,
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::time::Instant;

const OWN: NodeId = NodeId::from_bytes([0; 32]);
const LATENCY: Duration = Duration::from_millis(40);

/// A contact of the farthest bucket, each in a network of its own.
fn node(n: u8) -> Contact {
    let mut id = [n; 32];
    id[0] = 0x80;
    Contact::new(NodeId::from_bytes(id), ([192, n, 2, 1], 4_000).into())
}

/// What the router sent, when.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    FindNode { at: Duration, to: Contact, target: Key },
    Ping { at: Duration, to: Contact },
    Probe { at: Duration, to: Contact },
}

/// How the probe treats a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Answers after [`LATENCY`] with the whole population.
    Lively,
    /// Never answers; suspected after the same time.
    Silent,
    /// Refuses at once.
    Refusing,
    /// Answers as [`Manner::Lively`] does, over connections that it opened itself: nobody can open one to it.
    Hidden,
}

/// Stands where the transport would: notes what is sent and answers for the contacts.
struct Probe {
    router: Option<Addr<Router>>,
    started: Instant,
    population: Vec<Contact>,
    manners: BTreeMap<NodeId, Manner>,
    sent: Vec<Sent>,
}

impl Actor for Probe {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Connect(Addr<Router>);

#[derive(Message)]
#[rtype(result = "()")]
struct Behave(Contact, Manner);

#[derive(Message)]
#[rtype(result = "Vec<Sent>")]
struct TakeSent;

impl Probe {
    fn manner(&self, of: &Contact) -> Manner {
        self.manners.get(&of.id).copied().unwrap_or(Manner::Lively)
    }

    fn report<M>(&self, ctx: &mut Context<Self>, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Router: Handler<M>,
    {
        let router = self.router.clone().expect("connected before anything is sent");
        ctx.run_later(LATENCY, move |_, _| router.do_send(message));
    }
}

impl Handler<Connect> for Probe {
    type Result = ();

    fn handle(&mut self, Connect(router): Connect, _: &mut Self::Context) {
        self.router = Some(router);
    }
}

impl Handler<Behave> for Probe {
    type Result = ();

    fn handle(&mut self, Behave(contact, manner): Behave, _: &mut Self::Context) {
        self.manners.insert(contact.id, manner);
    }
}

impl Handler<TakeSent> for Probe {
    type Result = Vec<Sent>;

    fn handle(&mut self, _: TakeSent, _: &mut Self::Context) -> Self::Result {
        std::mem::take(&mut self.sent)
    }
}

impl Handler<SendFindNode> for Probe {
    type Result = ();

    fn handle(&mut self, SendFindNode { query, to, target, .. }: SendFindNode, ctx: &mut Self::Context) {
        self.sent.push(Sent::FindNode { at: self.started.elapsed(), to, target });
        match self.manner(&to) {
            Manner::Lively | Manner::Hidden => {
                let closer = self.population.clone();
                self.report(ctx, QueryReplied { query, closer, rtt: LATENCY });
            }
            Manner::Silent => self.report(ctx, ContactSuspected { id: to.id }),
            Manner::Refusing => self.report(ctx, QueryFailed { query }),
        }
    }
}

impl Handler<SendPing> for Probe {
    type Result = ();

    fn handle(&mut self, SendPing { to }: SendPing, ctx: &mut Self::Context) {
        self.sent.push(Sent::Ping { at: self.started.elapsed(), to });
        match self.manner(&to) {
            Manner::Lively | Manner::Hidden => {
                self.report(ctx, ContactAnswered { contact: to, rtt: Some(LATENCY) });
            }
            Manner::Silent | Manner::Refusing => self.report(ctx, ContactSuspected { id: to.id }),
        }
    }
}

impl Handler<SendProbe> for Probe {
    type Result = ();

    fn handle(&mut self, SendProbe { to }: SendProbe, ctx: &mut Self::Context) {
        self.sent.push(Sent::Probe { at: self.started.elapsed(), to });
        match self.manner(&to) {
            Manner::Lively | Manner::Refusing => self.report(ctx, ContactReached { contact: to }),
            Manner::Silent | Manner::Hidden => self.report(ctx, ContactUnreachable { id: to.id }),
        }
    }
}

/// A router that knows nobody, and its probe; time must be paused.
async fn start(population: &[Contact], config: RouterConfig) -> (Addr<Router>, Addr<Probe>) {
    let probe = Probe {
        router: None,
        started: Instant::now(),
        population: population.to_vec(),
        manners: BTreeMap::new(),
        sent: Vec::new(),
    };
    let probe = probe.start();
    let outbound = Outbound {
        find_node: probe.clone().recipient(),
        ping: probe.clone().recipient(),
        probe: probe.clone().recipient(),
    };
    let rng = ChaCha12Rng::seed_from_u64(1);
    let router = Router::new(OWN, Clock::starting_at(0), rng, config, outbound).start();
    probe.send(Connect(router.clone())).await.unwrap();
    (router, probe)
}

/// As [`start`], and pauses the time.
async fn paused(population: &[Contact], config: RouterConfig) -> (Addr<Router>, Addr<Probe>) {
    tokio::time::pause();
    start(population, config).await
}

async fn meet(router: &Addr<Router>, contact: Contact) {
    router.send(ContactReached { contact }).await.unwrap();
}

/// Whom the probe was asked to ping since the last time.
async fn pinged(probe: &Addr<Probe>) -> Vec<Contact> {
    let sent = probe.send(TakeSent).await.unwrap();
    let pings = sent.into_iter().filter_map(|sent| match sent {
        Sent::Ping { to, .. } => Some(to),
        Sent::FindNode { .. } | Sent::Probe { .. } => None,
    });
    pings.collect()
}

/// Whom the probe was asked to probe since the last time, and when.
async fn probed(probe: &Addr<Probe>) -> Vec<(u64, Contact)> {
    let sent = probe.send(TakeSent).await.unwrap();
    let probes = sent.into_iter().filter_map(|sent| match sent {
        Sent::Probe { at, to } => Some((at.as_secs(), to)),
        Sent::FindNode { .. } | Sent::Ping { .. } => None,
    });
    probes.collect()
}

/// Buckets of two places, and no refresh that would hear from everybody.
fn two_places() -> RouterConfig {
    let table = TableConfig { k: 2, ..TableConfig::default() };
    RouterConfig { table, refresh_every: Duration::from_secs(86_400), ..RouterConfig::default() }
}

#[actix::test]
async fn a_lookup_finds_the_closest_nodes_through_one_contact() {
    let population: Vec<_> = (1..=10).map(node).collect();
    let (router, _) = paused(&population, RouterConfig::default()).await;
    meet(&router, node(10)).await;
    let started = Instant::now();
    let target = node(3).id.as_key();
    let found = router.send(FindNode::all(target)).await.unwrap().unwrap();
    let mut expected = population;
    expected.sort_by_key(|contact| target.distance_to(&contact.id));
    assert_eq!(found.closest, expected);
    assert_eq!((found.hops, found.queries), (2, 10));
    let rounds = started.elapsed().as_millis() / LATENCY.as_millis();
    assert_eq!(rounds, 3, "the seed, then nine others eight at a time");
    sleep(LATENCY * 2).await;
    assert_eq!(router.send(TableSize).await.unwrap(), 10, "all of them answered us and could be reached");
    assert_eq!(router.send(Closest { target, count: 2 }).await.unwrap(), expected[..2]);
}

/// A lookup among ten nodes of which one behaves badly: how long it took, and that it found the others.
async fn lookup_beside(manner: Manner) -> Duration {
    let population: Vec<_> = (1..=10).map(node).collect();
    let (router, probe) = paused(&population, RouterConfig::default()).await;
    meet(&router, node(10)).await;
    probe.send(Behave(node(3), manner)).await.unwrap();
    let started = Instant::now();
    let found = router.send(FindNode::all(node(3).id.as_key())).await.unwrap().unwrap();
    assert_eq!(found.closest.len(), 9);
    assert!(!found.closest.contains(&node(3)));
    started.elapsed()
}

#[actix::test]
async fn a_refusing_node_costs_a_lookup_nothing() {
    let took = lookup_beside(Manner::Refusing).await;
    assert!(took < LATENCY * 5, "{took:?}");
}

#[actix::test]
async fn a_silent_node_costs_a_lookup_no_more_than_its_own_timeout() {
    let took = lookup_beside(Manner::Silent).await;
    assert!(took < LATENCY * 6, "suspected after as long as an answer takes: {took:?}");
}

#[actix::test]
async fn a_lookup_past_the_limit_is_refused() {
    let config = RouterConfig { lookups_max: 1, ..RouterConfig::default() };
    let (router, _) = paused(&[], config).await;
    meet(&router, node(1)).await;
    let target = Key::of("x");
    let (first, second) =
        tokio::join!(router.send(FindNode::all(target)), router.send(FindNode::all(target)));
    assert_eq!(first.unwrap().unwrap().closest, [node(1)]);
    assert_eq!(second.unwrap(), Err(FindNodeError::Busy(1)));
    assert!(router.send(FindNode::all(target)).await.unwrap().is_ok(), "the first has made room");
}

#[actix::test]
async fn a_node_that_is_heard_of_enters_only_after_it_was_reached() {
    let (router, probe) = paused(&[], RouterConfig::default()).await;
    router.send(ContactHeard { contact: node(1) }).await.unwrap();
    probe.send(Behave(node(2), Manner::Silent)).await.unwrap();
    router.send(ContactHeard { contact: node(2) }).await.unwrap();
    assert_eq!(router.send(TableSize).await.unwrap(), 0);
    sleep(LATENCY * 2).await;
    assert_eq!(router.send(Contacts).await.unwrap(), [node(1)]);
}

#[actix::test]
async fn a_node_that_answers_and_cannot_be_reached_never_enters_and_is_probed_ever_more_rarely() {
    let (router, probe) = paused(&[], RouterConfig::default()).await;
    probe.send(Behave(node(1), Manner::Hidden)).await.unwrap();
    for _ in 0..600 {
        router.send(ContactHeard { contact: node(1) }).await.unwrap();
        router.send(ContactAnswered { contact: node(1), rtt: Some(LATENCY) }).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(router.send(TableSize).await.unwrap(), 0);
    let probes = [0, 90, 270].map(|second| (second, node(1)));
    assert_eq!(probed(&probe).await, probes);
    probe.send(Behave(node(1), Manner::Lively)).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    router.send(ContactHeard { contact: node(1) }).await.unwrap();
    sleep(LATENCY * 2).await;
    assert_eq!(router.send(Contacts).await.unwrap(), [node(1)], "what changed is found out");
}

#[actix::test]
async fn neighbours_in_a_full_bucket_are_not_said_to_be_all() {
    let (router, _) = paused(&[], two_places()).await;
    let ask = Neighbours { target: node(1).id.as_key(), count: 20, copies: 8 };
    meet(&router, node(1)).await;
    let alone = Prospects { contacts: vec![node(1)], are_nearest: true };
    assert_eq!(router.send(ask).await.unwrap(), alone);
    meet(&router, node(2)).await;
    let both = Prospects { contacts: vec![node(1), node(2)], are_nearest: false };
    assert_eq!(router.send(ask).await.unwrap(), both);
}

#[actix::test]
async fn a_full_bucket_pings_its_oldest_contact_and_keeps_it_if_it_answers() {
    let (router, probe) = paused(&[], two_places()).await;
    meet(&router, node(1)).await;
    meet(&router, node(2)).await;
    sleep(Duration::from_secs(100)).await;
    meet(&router, node(3)).await;
    sleep(LATENCY * 2).await;
    assert_eq!(pinged(&probe).await, [node(1)]);
    assert_eq!(router.send(Contacts).await.unwrap(), [node(2), node(1)]);
}

#[actix::test]
async fn three_unanswered_pings_give_the_place_to_the_newcomer() {
    let (router, probe) = paused(&[], two_places()).await;
    meet(&router, node(1)).await;
    meet(&router, node(2)).await;
    probe.send(Behave(node(1), Manner::Silent)).await.unwrap();
    sleep(Duration::from_secs(100)).await;
    meet(&router, node(3)).await;
    sleep(LATENCY * 5 + Duration::from_secs(3)).await;
    assert_eq!(pinged(&probe).await, [node(1), node(1), node(1)]);
    assert_eq!(router.send(Contacts).await.unwrap(), [node(2), node(3)]);
}

#[actix::test]
async fn a_contact_that_was_dropped_is_tried_again_and_returns() {
    let (router, probe) = paused(&[], RouterConfig::default()).await;
    meet(&router, node(1)).await;
    for _ in 0..3 {
        router.send(ContactSuspected { id: node(1).id }).await.unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(router.send(TableSize).await.unwrap(), 0);
    sleep(Duration::from_secs(80)).await;
    assert_eq!(probed(&probe).await.len(), 1);
    assert_eq!(router.send(Contacts).await.unwrap(), [node(1)]);
}

/// When the router looked its own id up since the last time, in whole seconds.
async fn own_lookups(probe: &Addr<Probe>) -> std::collections::BTreeSet<u64> {
    let sent = probe.send(TakeSent).await.unwrap();
    let lookups = sent.into_iter().filter_map(|sent| match sent {
        Sent::FindNode { at, target, .. } if target == OWN.as_key() => Some(at.as_secs()),
        _ => None,
    });
    lookups.collect()
}

#[actix::test]
async fn a_new_neighbour_makes_the_router_look_around_once() {
    let (router, probe) = paused(&[], RouterConfig::default()).await;
    meet(&router, node(1)).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(own_lookups(&probe).await.len(), 1);
    meet(&router, node(2)).await;
    sleep(Duration::from_secs(600)).await;
    let lookups = own_lookups(&probe).await;
    assert!(lookups.len() == 1 && lookups.iter().all(|at| (600..=672).contains(at)), "{lookups:?}");
}

/// Runs a whole actor system on a thread of its own, in time that is paused from its first moment.
fn in_paused_time<F>(run: fn() -> F) -> Vec<Sent>
where
    F: Future<Output = Vec<Sent>> + 'static,
{
    let system = || {
        actix_rt::System::with_tokio_rt(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
        })
    };
    std::thread::spawn(move || system().block_on(run())).join().unwrap()
}

/// Everything that a router sends in two hours after it met one node.
async fn two_hours() -> Vec<Sent> {
    let population: Vec<_> = (1..=30).map(node).collect();
    let (router, probe) = start(&population, RouterConfig::default()).await;
    meet(&router, node(1)).await;
    probe.send(Behave(node(5), Manner::Silent)).await.unwrap();
    sleep(Duration::from_secs(7_200)).await;
    probe.send(TakeSent).await.unwrap()
}

#[test]
fn one_seed_gives_one_trace_and_idle_buckets_are_refreshed_each_hour() {
    let trace = in_paused_time(two_hours);
    assert!(trace == in_paused_time(two_hours), "the same to the millisecond");
    let own = OWN.as_key();
    let own_lookups = trace.iter().filter_map(|sent| match sent {
        Sent::FindNode { at, target, .. } if *target == own => Some(at.as_secs() / 3_600),
        _ => None,
    });
    let hours: std::collections::BTreeSet<_> = own_lookups.collect();
    assert_eq!(hours.into_iter().collect::<Vec<_>>(), [0, 1]);
}
