//! Joining the swarm, and staying in it.
//!
//! The actor greets the configured peers and some of the contacts saved by earlier runs, looks its own id up, and
//! tries again with growing, jittered pauses for as long as the routing table is empty. If those who answered are
//! of few networks it goes on greeting saved contacts, so that nobody has a starting node to himself by being the
//! first to answer. It saves the table's contacts now and then, beside those of earlier runs, so that the next start
//! does not depend on the configured peers. Nodes that are heard of on the local network are greeted as well,
//! whenever that is.

use std::{net::SocketAddr, time::Duration};

use actix::prelude::*;
use comet_routing::{
    Contact, Diversity, NodeId,
    actor::{ContactReached, Contacts, FindNode, TableSize},
};
use comet_store::SaveMeta;
use futures_util::{StreamExt, stream::FuturesUnordered};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use crate::{address_book::AddressBook, operation::Pauses, transport::Greet};

/// The name under which contacts are saved in the store.
pub const CONTACTS_META: &str = "contacts";
/// Saved contacts that one attempt greets at most.
const GREETED_AT_ONCE_MAX: usize = 16;
/// Networks from which somebody has to have answered before a start is satisfied, if so many are remembered.
const NETWORKS_MIN: usize = 3;
/// How long one greeting may take.
const GREET_DEADLINE: Duration = Duration::from_secs(5);
/// How long an attempt goes on listening once somebody has answered; whoever answers later is met all the same.
const GREETINGS_AFTER_FIRST: Duration = Duration::from_millis(100);
/// Messages that may wait.
const MAILBOX: usize = 32;
/// Pause after the first attempt in vain; it doubles from there.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Addresses heard of on the local network that are greeted at a time.
const MEETINGS_MAX: usize = 8;
/// How long such an address is not greeted again.
const MEETING_PAUSE: Duration = Duration::from_secs(60);
/// Such addresses that are remembered.
const MEETINGS_REMEMBERED_MAX: usize = 256;
/// Configured peers that a line of the log names.
const PEERS_NAMED_MAX: usize = 4;
/// How often a node that has contacts checks that it still has, and saves them.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Wait until the first attempt to join is over, in vain or not.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Joined;

/// Somebody seems to be at this address: greet it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Meet {
    /// Where.
    pub addr: SocketAddr,
}

/// Save the table's contacts now. Answered once they are stored, or cannot be.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct SaveContacts;

/// What came of greeting an address.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
struct Greeted {
    /// The remembered contact that should be there, if it is one.
    expected: Option<Contact>,
    /// Who answered.
    by: Option<Contact>,
}

/// How often, and after which pause, a node tries to join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Persistence {
    failures: u32,
}

impl Persistence {
    /// The pause after another attempt in vain: doubling, bounded, spread by ± 20 %.
    fn after_failure(&mut self, rng: &mut ChaCha12Rng) -> Duration {
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(self.failures.min(16))).min(PAUSE_MAX);
        self.failures += 1;
        jittered(pause, rng)
    }

    fn after_success(&mut self, rng: &mut ChaCha12Rng) -> Duration {
        self.failures = 0;
        jittered(CHECK_INTERVAL, rng)
    }
}

fn jittered(pause: Duration, rng: &mut ChaCha12Rng) -> Duration {
    pause.mul_f64(rng.random_range(0.8..1.2))
}

/// Whom the actor talks to.
pub struct Connections {
    /// The transport.
    pub greet: Recipient<Greet>,
    /// The router: a contact was reached.
    pub reached: Recipient<ContactReached>,
    /// The router: look up the own id.
    pub find_node: Recipient<FindNode>,
    /// The router: what to save.
    pub contacts: Recipient<Contacts>,
    /// The router: whether anybody is known.
    pub table_size: Recipient<TableSize>,
    /// The store.
    pub save: Recipient<SaveMeta>,
}

/// Keeps the node in touch with the swarm.
pub struct Bootstrap {
    own: NodeId,
    peers: Vec<String>,
    book: AddressBook,
    /// Remembered contacts that were greeted in this run, and whoever else answered.
    greeted: Vec<Contact>,
    /// Who answered a greeting, until they are of enough networks.
    answered: Vec<Contact>,
    diversity: Diversity,
    to: Connections,
    rng: ChaCha12Rng,
    persistence: Persistence,
    met: Pauses<SocketAddr>,
    meetings: usize,
    /// Who waits for the end of the first attempt; `None` once it is over.
    waiting: Option<Vec<oneshot::Sender<()>>>,
}

impl Bootstrap {
    /// Joins through `peers` (`HOST:PORT`, resolved anew at each attempt) and contacts of the `book`; `diversity` says
    /// what counts as a network.
    pub fn new(
        own: NodeId,
        peers: Vec<String>,
        book: AddressBook,
        diversity: Diversity,
        to: Connections,
        rng: ChaCha12Rng,
    ) -> Self {
        let met = Pauses::new(MEETING_PAUSE, MEETINGS_REMEMBERED_MAX);
        let (persistence, waiting) = (Persistence::default(), Some(Vec::new()));
        let (greeted, answered) = (Vec::new(), Vec::new());
        Self {
            own,
            peers,
            book,
            greeted,
            answered,
            diversity,
            to,
            rng,
            persistence,
            met,
            meetings: 0,
            waiting,
        }
    }

    fn check(&mut self, ctx: &mut Context<Self>) {
        let size = self.to.table_size.send(TableSize).into_actor(self);
        ctx.spawn(size.map(|size, actor, ctx| match size {
            Ok(0) => actor.join(ctx),
            _ => actor.rest(ctx),
        }));
    }

    /// Greets everybody who might let this node in, then looks the own id up.
    fn join(&mut self, ctx: &mut Context<Self>) {
        if self.greeted.len() >= self.book.len() {
            self.greeted.clear();
        }
        let attempt = self.attempt(self.peers.clone(), ctx);
        ctx.spawn(attempt.map(|met, actor, ctx| {
            actor.first_attempt_is_over();
            if met > 0 {
                log::info!("joined the swarm; {met} of the nodes it knows answered at once");
                ctx.run_later(GREET_DEADLINE, Self::widen);
                return actor.rest(ctx);
            }
            let alone = actor.peers.is_empty() && actor.book.is_empty();
            let pause = actor.persistence.after_failure(&mut actor.rng);
            if !alone {
                let silent = silent(&actor.peers);
                log::warn!("{silent}; trying again in {:.0} s", pause.as_secs_f64());
            }
            ctx.run_later(pause, Self::check);
        }));
    }

    /// Greets more of the remembered contacts, unless those who answered are of enough networks.
    fn widen(&mut self, ctx: &mut Context<Self>) {
        let enough = self.diversity.networks(&self.answered) >= NETWORKS_MIN;
        if enough || self.greeted.len() >= self.book.len() {
            return;
        }
        let attempt = self.attempt(Vec::new(), ctx);
        ctx.spawn(attempt.map(|_, _, ctx| {
            ctx.run_later(GREET_DEADLINE, Self::widen);
        }));
    }

    /// Greets these peers and some of the remembered contacts that were not greeted yet; if anybody answers, looks
    /// the own id up. Gives the number of those who answered at once.
    fn attempt(&mut self, peers: Vec<String>, ctx: &mut Context<Self>) -> ResponseActFuture<Self, usize> {
        let saved = self.book.pick(GREETED_AT_ONCE_MAX, &self.greeted, self.diversity, &mut self.rng);
        self.greeted.extend(&saved);
        let (greet, find_node) = (self.to.greet.clone(), self.to.find_node.clone());
        let (own, this) = (self.own, ctx.address());
        let attempt = async move {
            let peers = resolve(&peers).await.into_iter().map(|addr| (addr, None));
            let saved = saved.into_iter().map(|contact| (contact.addr, Some(contact)));
            let greetings: FuturesUnordered<_> = peers
                .chain(saved)
                .map(|(addr, expected)| {
                    let (greet, this) = (greet.clone(), this.clone());
                    actix_rt::spawn(async move {
                        let greeted = greet.send(Greet { addr, deadline: GREET_DEADLINE }).await;
                        let by = greeted.ok().and_then(Result::ok).filter(|contact| contact.id != own);
                        // The table has to know it before the lookup begins.
                        this.send(Greeted { expected, by }).await.ok();
                        by
                    })
                })
                .collect();
            let met = count(greetings).await;
            if met > 0 {
                find_node.send(FindNode::all(own.as_key())).await.ok();
            }
            met
        };
        Box::pin(attempt.into_actor(self))
    }

    fn first_attempt_is_over(&mut self) {
        for waiting in self.waiting.take().into_iter().flatten() {
            // Whoever waited may have given up.
            waiting.send(()).ok();
        }
    }

    fn rest(&mut self, ctx: &mut Context<Self>) {
        self.first_attempt_is_over();
        let pause = self.persistence.after_success(&mut self.rng);
        let saving = self.save();
        ctx.spawn(saving);
        ctx.run_later(pause, Self::check);
    }

    /// Saves the table's contacts beside those of earlier runs.
    fn save(&self) -> ResponseActFuture<Self, ()> {
        let known = self.to.contacts.send(Contacts).into_actor(self);
        Box::pin(known.then(|known, actor, _| {
            let known = known.unwrap_or_default();
            let saving = (!known.is_empty()).then(|| {
                actor.book.note_known(known, &mut actor.rng);
                actor.to.save.send(SaveMeta { name: CONTACTS_META.into(), value: actor.book.encode() })
            });
            async move {
                if let Some(saving) = saving {
                    saving.await.ok();
                }
            }
            .into_actor(actor)
        }))
    }
}

/// How many greetings are answered until a little after the first one is.
async fn count(mut greetings: FuturesUnordered<JoinHandle<Option<Contact>>>) -> usize {
    let mut met = 0;
    while let Some(greeting) = greetings.next().await {
        if let Ok(Some(_)) = greeting {
            met = 1;
            break;
        }
    }
    let rest = async {
        while let Some(greeting) = greetings.next().await {
            met += usize::from(matches!(greeting, Ok(Some(_))));
        }
    };
    // What is cut off here goes on by itself: each greeting is a task of its own.
    tokio::time::timeout(GREETINGS_AFTER_FIRST, rest).await.ok();
    met
}

/// What to say when nobody answers: whom the operator should look after.
fn silent(peers: &[String]) -> String {
    let named = peers.iter().take(PEERS_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match peers.len() {
        0 => "no node of earlier runs answers".to_owned(),
        1 => format!("the configured peer {named} does not answer"),
        n if n <= PEERS_NAMED_MAX => format!("none of the configured peers answers: {named}"),
        n => format!("none of the {n} configured peers answers: {named}, …"),
    }
}

/// The addresses behind the configured names; a name that does not resolve is said so, and passed over.
async fn resolve(peers: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for peer in peers {
        match tokio::net::lookup_host(peer.as_str()).await {
            Ok(addrs) => found.extend(addrs),
            Err(error) => log::warn!("the peer {peer} cannot be resolved: {error}"),
        }
    }
    found
}

impl Actor for Bootstrap {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.check(ctx);
    }
}

impl Handler<Joined> for Bootstrap {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Joined, _: &mut Self::Context) -> Self::Result {
        let (over, wait) = oneshot::channel();
        if let Some(waiting) = &mut self.waiting {
            waiting.push(over);
        }
        Box::pin(async move { wait.await.unwrap_or(()) })
    }
}

impl Handler<Meet> for Bootstrap {
    type Result = ();

    fn handle(&mut self, Meet { addr }: Meet, ctx: &mut Self::Context) {
        if self.meetings >= MEETINGS_MAX || !self.met.begin(addr, Instant::now().into_std()) {
            return;
        }
        self.meetings += 1;
        let (own, reached, find_node) = (self.own, self.to.reached.clone(), self.to.find_node.clone());
        let greeting = self.to.greet.send(Greet { addr, deadline: GREET_DEADLINE });
        let meeting = async move {
            let Ok(Ok(contact)) = greeting.await else { return };
            if contact.id != own {
                log::info!("met a node on the local network: {} at {addr}", contact.id);
                reached.do_send(ContactReached { contact });
                find_node.send(FindNode::all(own.as_key())).await.ok();
            }
        };
        ctx.spawn(meeting.into_actor(self).map(|(), actor, _| actor.meetings -= 1));
    }
}

impl Handler<Greeted> for Bootstrap {
    type Result = ();

    fn handle(&mut self, Greeted { expected, by }: Greeted, _: &mut Self::Context) {
        if let Some(contact) = by {
            self.to.reached.do_send(ContactReached { contact });
            if !self.greeted.contains(&contact) {
                self.greeted.push(contact);
            }
            if self.diversity.networks(&self.answered) < NETWORKS_MIN {
                self.answered.push(contact);
            }
        }
        // While nobody answers it is this node that is not connected.
        if let Some(expected) = expected.filter(|expected| by.is_none_or(|by| by.id != expected.id))
            && !self.answered.is_empty()
        {
            self.book.on_silence(&expected);
        }
    }
}

impl Handler<SaveContacts> for Bootstrap {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: SaveContacts, _: &mut Self::Context) -> Self::Result {
        self.save()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::{Arc, Mutex},
    };

    use comet_routing::{actor::FindNodeError, lookup::Outcome};
    use comet_store::StoreError;
    use rand::SeedableRng;
    use tokio::sync::mpsc;

    use super::*;
    use crate::transport::TransportError;

    /// How long those take to answer that are not nearby.
    const HONEST_AFTER: Duration = Duration::from_secs(2);

    #[test]
    fn peers_that_do_not_answer_are_named_as_far_as_a_line_goes() {
        let peers = |n: usize| (1..=n).map(|n| format!("n{n}:7400")).collect::<Vec<_>>();
        assert_eq!(silent(&peers(0)), "no node of earlier runs answers");
        assert_eq!(silent(&peers(1)), "the configured peer n1:7400 does not answer");
        assert_eq!(silent(&peers(2)), "none of the configured peers answers: n1:7400, n2:7400");
        let many = "none of the 9 configured peers answers: n1:7400, n2:7400, n3:7400, n4:7400, …";
        assert_eq!(silent(&peers(9)), many);
    }

    /// The node at this address.
    fn at(addr: SocketAddr) -> Contact {
        let mut id = [1; 32];
        if let IpAddr::V4(v4) = addr.ip() {
            id[..4].copy_from_slice(&v4.octets());
        }
        Contact::new(NodeId::from_bytes(id), addr)
    }

    fn honest(n: u8) -> Contact {
        at(([198, 18, n, 1], 7400).into())
    }

    fn is_honest(addr: &SocketAddr) -> bool {
        matches!(addr.ip(), IpAddr::V4(v4) if v4.octets()[..2] == [198, 18])
    }

    /// Stands for transport, router and store at once; tells what it was asked, and when.
    struct Probe {
        heard: mpsc::UnboundedSender<(u64, String)>,
        start: Instant,
        answers_from: Arc<Mutex<Duration>>,
        known: Vec<Contact>,
    }

    impl Probe {
        fn note(&self, what: impl Into<String>) {
            self.heard.send((self.start.elapsed().as_secs(), what.into())).ok();
        }
    }

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<Greet> for Probe {
        type Result = ResponseFuture<Result<Contact, TransportError>>;

        fn handle(&mut self, Greet { addr, .. }: Greet, _: &mut Self::Context) -> Self::Result {
            self.note(format!("greet {addr}"));
            let answers = self.start.elapsed() >= *self.answers_from.lock().expect("not poisoned");
            let late = if is_honest(&addr) { HONEST_AFTER } else { Duration::ZERO };
            Box::pin(async move {
                if !late.is_zero() {
                    tokio::time::sleep(late).await;
                }
                if answers { Ok(at(addr)) } else { Err(TransportError::Unreachable) }
            })
        }
    }

    impl Handler<ContactReached> for Probe {
        type Result = ();

        fn handle(&mut self, message: ContactReached, _: &mut Self::Context) {
            self.known.push(message.contact);
        }
    }

    impl Handler<FindNode> for Probe {
        type Result = Result<Outcome, FindNodeError>;

        fn handle(&mut self, message: FindNode, _: &mut Self::Context) -> Self::Result {
            self.note(format!("look up {}", &message.target.to_string()[..4]));
            Err(FindNodeError::Stopped)
        }
    }

    impl Handler<Contacts> for Probe {
        type Result = Vec<Contact>;

        fn handle(&mut self, _: Contacts, _: &mut Self::Context) -> Self::Result {
            self.known.clone()
        }
    }

    impl Handler<TableSize> for Probe {
        type Result = usize;

        fn handle(&mut self, _: TableSize, _: &mut Self::Context) -> Self::Result {
            self.known.len()
        }
    }

    impl Handler<SaveMeta> for Probe {
        type Result = Result<(), StoreError>;

        fn handle(&mut self, message: SaveMeta, _: &mut Self::Context) -> Self::Result {
            let book = AddressBook::decode(&message.value);
            self.note(format!("save {} {}", message.name, book.len()));
            Ok(())
        }
    }

    type Notes = mpsc::UnboundedReceiver<(u64, String)>;

    fn start(answers_from: Duration) -> Notes {
        start_with(answers_from, vec!["127.0.0.1:7400".to_owned()], AddressBook::default()).1
    }

    fn start_with(answers_from: Duration, peers: Vec<String>, book: AddressBook) -> (Addr<Bootstrap>, Notes) {
        let (heard, notes) = mpsc::unbounded_channel();
        let answers_from = Arc::new(Mutex::new(answers_from));
        let probe = Probe { heard, start: Instant::now(), answers_from, known: Vec::new() }.start();
        let to = Connections {
            greet: probe.clone().recipient(),
            reached: probe.clone().recipient(),
            find_node: probe.clone().recipient(),
            contacts: probe.clone().recipient(),
            table_size: probe.clone().recipient(),
            save: probe.recipient(),
        };
        let own = NodeId::from_bytes([0xab; 32]);
        let rng = ChaCha12Rng::seed_from_u64(1);
        (Bootstrap::new(own, peers, book, Diversity::default(), to, rng).start(), notes)
    }

    #[actix::test]
    async fn a_node_that_is_let_in_looks_itself_up_and_saves_whom_it_knows() {
        tokio::time::pause();
        let mut notes = start(Duration::ZERO);
        assert_eq!(notes.recv().await, Some((0, "greet 127.0.0.1:7400".into())));
        assert_eq!(notes.recv().await, Some((0, "look up abab".into())));
        assert_eq!(notes.recv().await, Some((0, "save contacts 1".into())));
        let (at, what) = notes.recv().await.expect("it goes on");
        assert_eq!(what, "save contacts 1", "with contacts there is no need to greet again");
        assert!((48..=72).contains(&at), "after about a minute, not {at} s");
    }

    #[actix::test]
    async fn a_node_that_nobody_answers_tries_again_with_growing_pauses() {
        tokio::time::pause();
        let mut notes = start(Duration::from_secs(20));
        let mut at = Vec::new();
        while let Some((second, what)) = notes.recv().await {
            if what.starts_with("look up") {
                break;
            }
            at.push(second);
        }
        assert!(at.len() >= 5, "tries at {at:?}");
        assert!(at.windows(3).skip(1).all(|t| t[2] - t[1] >= t[1] - t[0]), "the pauses grow: {at:?}");
    }

    #[actix::test]
    async fn whoever_is_heard_of_is_greeted_once_in_a_while_and_the_node_then_looks_itself_up() {
        tokio::time::pause();
        let (bootstrap, mut notes) = start_with(Duration::ZERO, Vec::new(), AddressBook::default());
        let addr = SocketAddr::from(([192, 168, 0, 7], 7400));
        for _ in 0..3 {
            bootstrap.send(Meet { addr }).await.expect("it runs");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(notes.try_recv().ok(), Some((0, "greet 192.168.0.7:7400".into())));
        assert_eq!(notes.try_recv().ok(), Some((0, "look up abab".into())));
        assert_eq!(notes.try_recv().ok(), None, "the others came too soon");
    }

    fn book_of(count: u8) -> AddressBook {
        let mut book = AddressBook::default();
        book.note_known((0..count).map(honest).collect(), &mut ChaCha12Rng::seed_from_u64(2));
        book
    }

    /// What a node with this book has saved after five seconds and after two minutes, when the configured peer,
    /// an attacker's, answers at once and everybody else two seconds later; and how many others it has greeted.
    async fn besieged(book: AddressBook) -> (String, String, usize) {
        let (_bootstrap, mut notes) = start_with(Duration::ZERO, vec!["203.0.113.1:7400".to_owned()], book);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let notes: Vec<_> = std::iter::from_fn(|| notes.try_recv().ok()).collect();
        let saved = |until| {
            let mut saves = notes.iter().filter(|(at, what)| *at < until && what.starts_with("save"));
            saves.next_back().map(|(_, what)| what.clone()).unwrap_or_default()
        };
        let greeted = notes.iter().filter(|(_, what)| what.starts_with("greet 198.18")).count();
        (saved(5), saved(120), greeted)
    }

    #[actix::test]
    async fn an_attacker_who_answers_first_neither_keeps_others_out_nor_has_them_forgotten() {
        tokio::time::pause();
        let (at_once, later, greeted) = besieged(book_of(100)).await;
        assert_eq!(at_once, "save contacts 101");
        assert_eq!(later, "save contacts 101", "the sixteen that were greeted, the attacker, and all others");
        assert_eq!(greeted, 16);
        let (at_once, later, _) = besieged(book_of(100).replacing()).await;
        assert_eq!(at_once, "save contacts 1", "the control: nobody else is remembered");
        assert_eq!(later, "save contacts 17");
    }

    #[actix::test]
    async fn few_are_greeted_at_a_time() {
        tokio::time::pause();
        let (bootstrap, mut notes) = start_with(Duration::ZERO, Vec::new(), AddressBook::default());
        for n in 1..=20 {
            bootstrap.do_send(Meet { addr: SocketAddr::from(([192, 168, 0, n], 7400)) });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        let greeted =
            std::iter::from_fn(|| notes.try_recv().ok()).filter(|(_, what)| what.starts_with("greet"));
        assert_eq!(greeted.count(), MEETINGS_MAX);
    }

    #[test]
    fn pauses_are_bounded_and_spread() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut persistence = Persistence { failures: 40 };
        let pauses: Vec<_> = (0..50).map(|_| persistence.after_failure(&mut rng)).collect();
        assert!(pauses.iter().all(|pause| (PAUSE_MAX.mul_f64(0.8)..PAUSE_MAX.mul_f64(1.2)).contains(pause)));
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
