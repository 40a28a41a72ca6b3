//! The transport over real sockets on this machine's loopback.

use std::{net::Ipv4Addr, sync::atomic::Ordering};

use bytes::Bytes;
use comet_runtime::Refusal;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::sync::mpsc;

use super::*;
use crate::wire::decode_answer;

/// Long enough for a busy machine; a test that runs into it has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Hands every request that a transport delivers to the test.
struct Listener {
    seen: mpsc::UnboundedSender<Received>,
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1000);
    }
}

impl Handler<Received> for Listener {
    type Result = ();

    fn handle(&mut self, received: Received, _ctx: &mut Self::Context) {
        self.seen.send(received).expect("the test listens until its end");
    }
}

/// A transport with a probe behind it.
pub(super) struct Node {
    pub(super) contact: Contact,
    transport: Addr<QuicTransport>,
    pub(super) requests: mpsc::UnboundedReceiver<Received>,
    counters: Arc<Counters>,
}

impl Node {
    pub(super) fn start(seed: u8) -> Self {
        Self::with(seed, 0, TransportConfig::default())
    }

    pub(super) fn with(seed: u8, port: u16, config: TransportConfig) -> Self {
        Self::of_network("comet", seed, port, config)
    }

    fn of_network(network: &str, seed: u8, port: u16, config: TransportConfig) -> Self {
        let (seen, requests) = mpsc::unbounded_channel();
        let probe = Listener { seen }.start();
        let identity = Identity::from_seed([seed; 32]);
        let id = identity.node_id();
        let transport = QuicTransport::bind(loopback(port), network, config, identity, probe.recipient())
            .expect("a free port");
        let (addr, counters) = (transport.local_address(), transport.counters());
        Self { contact: Contact::new(id, addr), transport: transport.start(), requests, counters }
    }

    pub(super) async fn ask(&self, to: Contact, request: impl Into<Bytes>) -> Pending {
        self.ask_within(PATIENCE, to, request).await
    }

    async fn ask_within(&self, deadline: Duration, to: Contact, request: impl Into<Bytes>) -> Pending {
        let ask = Ask { to, request: request.into(), deadline };
        self.transport.send(ask).await.expect("the transport runs")
    }

    pub(super) async fn next_request(&mut self) -> Received {
        let request = timeout(PATIENCE, self.requests.recv()).await.expect("a request arrives");
        request.expect("the probe runs")
    }

    /// Answers the next request with its own bytes.
    pub(super) async fn echo(&mut self) -> Contact {
        let Received { from, request, reply } = self.next_request().await;
        reply.send(request).expect("somebody waits for the answer");
        from
    }

    /// Answers every request with its own bytes, from now on.
    fn echo_all(self) -> Contact {
        let Self { contact, transport, mut requests, .. } = self;
        tokio::spawn(async move {
            // A transport without an address left stops.
            let _running = transport;
            while let Some(Received { request, reply, .. }) = requests.recv().await {
                let _ = reply.send(request);
            }
        });
        contact
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(super) async fn reply(pending: Pending) -> Result<Bytes, TransportError> {
    pending.reply.await.expect("every ask is answered")
}

#[actix::test]
async fn a_request_and_its_answer_cross_between_nodes_that_know_each_other() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let pending = a.ask(b.contact, "hello").await;
    assert_eq!(b.echo().await, a.contact, "the asker's id is proven and its address is where it listens");
    assert_eq!(reply(pending).await, Ok(Bytes::from("hello")));
    assert_eq!(b.counters.requests.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn a_node_that_is_not_the_expected_one_is_not_asked() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let expected = Identity::from_seed([3; 32]).node_id();
    let pending = a.ask(Contact::new(expected, b.contact.addr), "secret").await;
    assert_eq!(reply(pending).await, Err(TransportError::WrongPeer { expected, got: b.contact.id }));
    assert!(b.requests.try_recv().is_err(), "it saw no request");
}

#[actix::test]
async fn a_node_is_asked_at_the_given_address_and_not_over_a_link_to_where_it_is() {
    let (a, mut b, mut c) = (Node::start(1), Node::start(2), Node::start(3));
    let linked = a.ask(b.contact, "hello").await;
    b.echo().await;
    reply(linked).await.expect("a working peer");
    let pending = a.ask(Contact::new(b.contact.id, c.contact.addr), "secret").await;
    let wrong = TransportError::WrongPeer { expected: b.contact.id, got: c.contact.id };
    assert_eq!(reply(pending).await, Err(wrong));
    assert!(b.requests.try_recv().is_err(), "the open link was not taken");
    assert!(c.requests.try_recv().is_err(), "nor was the stranger asked");
}

#[actix::test]
async fn a_greeting_tells_who_answers_at_an_address() {
    let (a, b) = (Node::start(1), Node::start(2));
    let greet = |addr, deadline| a.transport.send(Greet { addr, deadline });
    let found = greet(b.contact.addr, PATIENCE).await.expect("the transport runs");
    assert_eq!(found, Ok(b.contact));
    let nobody = UdpSocket::bind(loopback(0)).expect("a free port");
    let silent = nobody.local_addr().expect("it is bound");
    let found = greet(silent, Duration::from_millis(100)).await.expect("the transport runs");
    assert_eq!(found, Err(TransportError::TimedOut));
    let nowhere = greet(loopback(0), PATIENCE).await.expect("the transport runs");
    assert_eq!(nowhere, Err(TransportError::Unreachable));
}

#[actix::test]
async fn a_probe_connects_anew_from_another_port_and_is_not_kept() {
    let (a, mut b, c) = (Node::start(1), Node::start(2), Node::start(3));
    // What b opened to a does not count: a makes a connection of its own.
    let _linked = b.ask(a.contact, "hello").await;
    let probe = |contact, deadline| a.transport.send(Probe { contact, deadline });
    assert_eq!(probe(b.contact, PATIENCE).await.expect("the transport runs"), Ok(()));
    assert_eq!(a.counters.dials.load(Ordering::Relaxed), 1);
    let wrong = TransportError::WrongPeer { expected: b.contact.id, got: c.contact.id };
    let stranger = Contact::new(b.contact.id, c.contact.addr);
    assert_eq!(probe(stranger, PATIENCE).await.expect("the transport runs"), Err(wrong));
    let nobody = UdpSocket::bind(loopback(0)).expect("a free port");
    let silent = Contact::new(b.contact.id, nobody.local_addr().expect("it is bound"));
    let unreachable = probe(silent, Duration::from_millis(100)).await.expect("the transport runs");
    assert_eq!(unreachable, Err(TransportError::Unreachable));
    let (_, from) = nobody.recv_from(&mut [0; 2_000]).expect("a packet was sent there");
    assert_ne!(from.port(), a.contact.addr.port());
    let asked = a.ask(b.contact, "again").await;
    assert_eq!(b.echo().await, a.contact, "asks still come from the port on which a listens");
    assert_eq!(reply(asked).await, Ok(Bytes::from("again")));
}

#[actix::test]
async fn a_slow_answer_is_acknowledged_long_before_it_comes() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let Pending { acknowledged, reply } = a.ask(b.contact, "slow").await;
    let received = b.next_request().await;
    let rtt = acknowledged.await.expect("the machine acknowledges what its handler still works on");
    assert!(rtt.smoothed > Duration::ZERO);
    received.reply.send(Bytes::from("at last")).expect("the asker waits");
    assert_eq!(reply.await.expect("every ask is answered"), Ok(Bytes::from("at last")));
}

#[actix::test]
async fn a_silent_address_ends_with_the_deadline_and_is_never_acknowledged() {
    let a = Node::start(1);
    let nobody = UdpSocket::bind(loopback(0)).expect("a free port");
    let contact = Contact::new(Node::start(2).contact.id, nobody.local_addr().expect("it is bound"));
    let Pending { acknowledged, reply } =
        a.ask_within(Duration::from_millis(100), contact, "anybody there?").await;
    assert_eq!(reply.await.expect("every ask is answered"), Err(TransportError::TimedOut));
    assert!(acknowledged.await.is_err());
    assert_eq!(a.counters.asks_failed.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn an_answer_that_does_not_come_ends_with_the_deadline_though_it_was_acknowledged() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let pending = a.ask(b.contact, "warm up").await;
    b.echo().await;
    reply(pending).await.expect("a working peer");
    let Pending { acknowledged, reply } = a.ask_within(Duration::from_millis(300), b.contact, "slow").await;
    let _kept = b.next_request().await;
    assert_eq!(reply.await.expect("every ask is answered"), Err(TransportError::TimedOut));
    acknowledged.await.expect("the peer had the request");
}

#[actix::test]
async fn a_peer_that_closed_and_came_back_is_connected_anew() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let before = a.ask(b.contact, "before").await;
    b.echo().await;
    assert_eq!(reply(before).await, Ok(Bytes::from("before")));
    b.transport.send(Close).await.expect("the transport runs until it is closed");

    let mut b = Node::with(2, b.contact.addr.port(), TransportConfig::default());
    let after = a.ask(b.contact, "after").await;
    b.echo().await;
    assert_eq!(reply(after).await, Ok(Bytes::from("after")));
}

#[actix::test]
async fn a_peer_that_died_and_came_back_says_so_and_is_connected_anew() {
    let a = Node::start(1);
    let (started, contact) = oneshot::channel();
    let (kill, killed) = oneshot::channel::<()>();
    // A runtime of its own, so that it can die without a farewell.
    let process = std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let node = Node::start(2);
            started.send(node.contact).expect("the test waits");
            let _contact = node.echo_all();
            let _ = killed.await;
        });
    });
    let contact = contact.await.expect("it starts");
    let before = a.ask(contact, "before").await;
    assert_eq!(reply(before).await, Ok(Bytes::from("before")));
    kill.send(()).expect("it still runs");
    process.join().expect("it ends well");

    let mut b = Node::with(2, contact.addr.port(), TransportConfig::default());
    let after = a.ask_within(Duration::from_secs(5), contact, "after").await;
    b.echo().await;
    assert_eq!(reply(after).await, Ok(Bytes::from("after")));
}

#[actix::test]
async fn two_nodes_that_dial_each_other_at_once_both_get_their_answers() {
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    let (to_b, to_a) = tokio::join!(a.ask(b.contact, "from a"), b.ask(a.contact, "from b"));
    tokio::join!(a.echo(), b.echo());
    let replies = tokio::join!(reply(to_b), reply(to_a));
    assert_eq!(replies, (Ok(Bytes::from("from a")), Ok(Bytes::from("from b"))));
}

#[actix::test]
async fn a_thousand_requests_share_one_dial() {
    let (a, b) = (Node::start(1), Node::start(2));
    let contact = b.echo_all();
    let asks = (0..1000_u32).map(|n| a.ask(contact, Bytes::copy_from_slice(&n.to_be_bytes())));
    let replies = join_all(join_all(asks).await.into_iter().map(reply)).await;
    for (n, reply) in (0..1000_u32).zip(replies) {
        assert_eq!(reply, Ok(Bytes::copy_from_slice(&n.to_be_bytes())));
    }
    assert_eq!(a.counters.dials.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn the_largest_frame_passes_and_a_larger_one_is_not_sent() {
    let (a, b) = (Node::start(1), Node::start(2));
    let contact = b.echo_all();
    let largest = Bytes::from(vec![7; FRAME_BYTES_MAX]);
    let echoed = reply(a.ask(contact, largest.clone()).await).await;
    assert!(echoed == Ok(largest), "other bytes came back, or none");
    let too_large = vec![7; FRAME_BYTES_MAX + 1];
    assert_eq!(reply(a.ask(contact, too_large).await).await, Err(TransportError::TooLarge));
}

#[actix::test]
async fn a_peer_that_sends_too_much_is_told_so_and_its_request_is_not_delivered() {
    let mut b = Node::start(2);
    let socket = UdpSocket::bind(loopback(0)).expect("a free port");
    let stranger =
        endpoint::open(socket, &Identity::from_seed([9; 32]), "comet", &TransportConfig::default())
            .expect("an endpoint without an actor that would check its own requests");
    let connecting = stranger.connect(b.contact.addr, SERVER_NAME).expect("a valid address");
    let connection = connecting.await.expect("a working peer");
    let (mut to_peer, mut from_peer) = connection.open_bi().await.expect("a new connection");
    // The peer stops reading at the limit, so this may well fail.
    let _ = to_peer.write_all(&vec![7; FRAME_BYTES_MAX + 1]).await;
    let _ = to_peer.finish();
    let frame = from_peer.read_to_end(FRAME_BYTES_MAX).await.expect("an answer");
    assert!(matches!(decode_answer(&frame), Ok(Err(Refusal::TooLarge { .. }))));
    assert!(b.requests.try_recv().is_err());
    assert_eq!(b.counters.requests_broken.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn an_answer_beyond_the_limit_is_not_read() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let pending = a.ask(b.contact, "much, please").await;
    let received = b.next_request().await;
    received.reply.send(vec![7; FRAME_BYTES_MAX + 1].into()).expect("the asker waits");
    assert_eq!(reply(pending).await, Err(TransportError::TooLarge));
}

#[actix::test]
async fn a_request_that_is_called_off_is_called_off_at_the_peer_too() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let pending = a.ask_within(2 * PATIENCE, b.contact, "never mind").await;
    let mut received = b.next_request().await;
    drop(pending);
    timeout(PATIENCE, received.reply.closed()).await.expect("the peer hears of it before the deadline");
}

#[actix::test]
async fn a_request_that_nobody_answers_is_answered_with_stopping() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let pending = a.ask(b.contact, "hello").await;
    drop(b.next_request().await);
    let frame = reply(pending).await.expect("an answer");
    assert!(matches!(decode_answer(&frame), Ok(Err(Refusal::Stopping(_)))));
}

#[actix::test]
async fn what_is_under_way_to_a_forgotten_peer_fails_as_closed() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let Pending { acknowledged, reply } = a.ask(b.contact, "hello").await;
    let _kept = b.next_request().await;
    acknowledged.await.expect("the peer has it");
    a.transport.send(Forget { id: b.contact.id }).await.expect("the transport runs");
    assert_eq!(reply.await.expect("every ask is answered"), Err(TransportError::Closed));
}

/// Takes one request, and then nothing any more.
struct Stuck;

impl Actor for Stuck {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1);
    }
}

impl Handler<Received> for Stuck {
    type Result = ();

    fn handle(&mut self, received: Received, ctx: &mut Self::Context) {
        ctx.wait(actix::fut::wrap_future(async move {
            let _kept = received;
            std::future::pending::<()>().await;
        }));
    }
}

#[actix::test]
async fn nodes_of_different_networks_do_not_talk_to_each_other() {
    let a = Node::start(1);
    let b = Node::of_network("other", 2, 0, TransportConfig::default());
    let asked = reply(a.ask(b.contact, "hello").await).await;
    assert_eq!(asked, Err(TransportError::Unreachable));
    let greeted = a.transport.send(Greet { addr: b.contact.addr, deadline: PATIENCE }).await;
    assert_eq!(greeted.expect("the transport runs"), Err(TransportError::Unreachable));
}

#[actix::test]
async fn a_full_mailbox_refuses_as_overloaded() {
    let a = Node::start(1);
    let identity = Identity::from_seed([2; 32]);
    let id = identity.node_id();
    let stuck = QuicTransport::bind(
        loopback(0),
        "comet",
        TransportConfig::default(),
        identity,
        Stuck.start().recipient(),
    )
    .expect("a free port");
    let (contact, counters) = (Contact::new(id, stuck.local_address()), stuck.counters());
    let _stuck = stuck.start();
    let asks = join_all((0..8).map(|_| a.ask(contact, "hello"))).await;
    let mut replies: FuturesUnordered<_> = asks.into_iter().map(reply).collect();
    let first = replies.next().await.expect("eight asks").expect("a refusal is an answer");
    assert_eq!(decode_answer(&first), Ok(Err(Refusal::Overloaded("the node".to_owned()))));
    assert!(counters.requests_overloaded.load(Ordering::Relaxed) >= 1);
}

#[actix::test]
async fn limits_on_requests_under_way_are_kept_on_both_sides() {
    let a = Node::with(1, 0, TransportConfig { asks_max: 1, ..TransportConfig::default() });
    let mut b = Node::with(2, 0, TransportConfig { requests_max: 1, ..TransportConfig::default() });
    let c = Node::start(3);
    let first = a.ask(b.contact, "first").await;
    let received = b.next_request().await;
    assert_eq!(reply(a.ask(b.contact, "second").await).await, Err(TransportError::Busy), "at the asker");
    assert_eq!(reply(c.ask(b.contact, "third").await).await, Err(TransportError::Busy), "at the asked");
    received.reply.send(Bytes::from("done")).expect("the asker waits");
    assert_eq!(reply(first).await, Ok(Bytes::from("done")));
}

#[actix::test]
async fn idle_connections_give_way_when_there_are_too_many() {
    let a = Node::with(1, 0, TransportConfig { connections_max: 1, ..TransportConfig::default() });
    let (b, c) = (Node::start(2).echo_all(), Node::start(3).echo_all());
    for to in [b, c, b, c] {
        assert_eq!(reply(a.ask(to, "hello").await).await, Ok(Bytes::from("hello")));
    }
    assert_eq!(a.counters.dials.load(Ordering::Relaxed), 4);
}

#[actix::test]
async fn a_stranger_proves_its_address_and_is_served() {
    let a = Node::start(1);
    let uncounted = super::super::config::Uncounted::Nobody;
    let b = Node::with(2, 0, TransportConfig { uncounted, ..TransportConfig::default() });
    let counters = Arc::clone(&b.counters);
    assert_eq!(reply(a.ask(b.echo_all(), "hello").await).await, Ok(Bytes::from("hello")));
    assert_eq!(counters.challenged.load(Ordering::Relaxed), 1);
    assert_eq!(counters.accepted.load(Ordering::Relaxed), 1);
}

#[actix::test]
async fn a_network_with_too_many_connections_is_refused() {
    let config = TransportConfig {
        uncounted: super::super::config::Uncounted::Nobody,
        connections_per_network_max: 1,
        ..TransportConfig::default()
    };
    let (a, b, c) = (Node::start(1), Node::with(2, 0, config), Node::start(3));
    let contact = b.echo_all();
    assert_eq!(reply(a.ask(contact, "hello").await).await, Ok(Bytes::from("hello")));
    assert_eq!(reply(c.ask(contact, "hello").await).await, Err(TransportError::Busy));
}

#[actix::test]
async fn a_taken_port_is_refused_with_a_sentence() {
    let a = Node::start(1);
    let stuck = Stuck.start().recipient();
    let identity = Identity::from_seed([2; 32]);
    let taken = QuicTransport::bind(a.contact.addr, "comet", TransportConfig::default(), identity, stuck);
    let error = taken.err().expect("the port is taken").to_string();
    assert_eq!(
        error,
        format!(
            "UDP port {} of 127.0.0.1 is in use, perhaps by another node; choose another one",
            a.contact.addr.port()
        )
    );
    assert_eq!(a.transport.send(LocalAddress).await, Ok(a.contact.addr));
}
