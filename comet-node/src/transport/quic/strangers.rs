//! What an outsider without a connection, or with one that it moves, can get out of the transport's socket.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::net::UdpSocket as Socket;

use super::{
    loopback::{Node, PATIENCE, loopback, reply},
    *,
};
use crate::transport::config::Uncounted;

/// The largest datagram that IPv4 carries.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Every address counts as a stranger's, also this machine's own.
fn strict() -> TransportConfig {
    TransportConfig { uncounted: Uncounted::Nobody, ..TransportConfig::default() }
}

/// An endpoint without an actor, which does what an attacker likes.
fn attacker(seed: u8) -> Endpoint {
    let socket = UdpSocket::bind(loopback(0)).expect("a free port");
    endpoint::open(socket, &Identity::from_seed([seed; 32]), "comet", &TransportConfig::default())
        .expect("an endpoint on it")
}

async fn socket() -> Socket {
    Socket::bind(loopback(0)).await.expect("a free port")
}

async fn datagram(socket: &Socket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_536];
    let received = timeout(PATIENCE, socket.recv_from(&mut bytes)).await.expect("a datagram arrives");
    let (length, from) = received.expect("the socket is open");
    bytes.truncate(length);
    (bytes, from)
}

/// What waits in a socket already.
fn waiting(socket: &Socket) -> Vec<usize> {
    let mut bytes = vec![0; 65_536];
    std::iter::from_fn(|| socket.try_recv(&mut bytes).ok()).collect()
}

/// Passes an attacker's packets on to a node from sockets whose addresses are not the attacker's.
struct Forger {
    front: Socket,
    client: SocketAddr,
}

impl Forger {
    /// Has the attacker dial, and keeps its first packet from arriving.
    async fn new(attacker: &Endpoint) -> (Self, Vec<u8>) {
        let front = socket().await;
        let at = front.local_addr().expect("it is bound");
        let connecting = attacker.connect(at, SERVER_NAME).expect("a valid address");
        tokio::spawn(connecting);
        let (first, client) = datagram(&front).await;
        (Self { front, client }, first)
    }

    /// Shows the attacker an answer of the node, and returns what it sends next.
    async fn answered(&self, answer: &[u8]) -> Vec<u8> {
        self.front.send_to(answer, self.client).await.expect("loopback takes it");
        loop {
            let (packet, _) = datagram(&self.front).await;
            // Not its first packet once more, sent before the answer came: those have no token.
            if has_token(&packet) {
                return packet;
            }
        }
    }
}

/// True if this Initial packet carries a token (RFC 9000, section 17.2.2).
fn has_token(packet: &[u8]) -> bool {
    let destination = usize::from(packet[5]);
    let source = usize::from(packet[6 + destination]);
    packet[7 + destination + source] != 0
}

/// A request and its answer, so that all that was sent before has been looked at.
async fn settle(node: &mut Node) {
    let other = Node::start(99);
    let asked = other.ask(node.contact, "settle").await;
    node.echo().await;
    assert_eq!(reply(asked).await, Ok(bytes::Bytes::from("settle")));
}

#[actix::test]
async fn an_address_that_was_not_proved_gets_one_challenge_that_is_smaller_than_what_it_sent() {
    let mut node = Node::with(2, 0, strict());
    let attacker = attacker(1);
    let (_forger, first) = Forger::new(&attacker).await;
    let victim = socket().await;
    victim.send_to(&first, node.contact.addr).await.expect("loopback takes it");
    let (challenge, _) = datagram(&victim).await;
    assert!(challenge.len() * 4 < first.len(), "{} bytes for {}", challenge.len(), first.len());
    settle(&mut node).await;
    assert_eq!(waiting(&victim), [0; 0], "and nothing after it");
}

#[actix::test]
async fn without_the_challenge_an_address_that_was_not_proved_gets_more_than_it_sent() {
    let open = TransportConfig { handshakes_unproven_max: 64, ..strict() };
    let node = Node::with(2, 0, open);
    let attacker = attacker(1);
    let (_forger, first) = Forger::new(&attacker).await;
    let victim = socket().await;
    victim.send_to(&first, node.contact.addr).await.expect("loopback takes it");
    let mut sent = 0;
    while sent <= first.len() {
        sent += datagram(&victim).await.0.len();
    }
}

#[actix::test]
async fn a_challenge_is_answered_from_the_address_that_it_was_sent_to_or_not_at_all() {
    let mut node = Node::with(2, 0, strict());
    let attacker = attacker(1);
    let (forger, first) = Forger::new(&attacker).await;
    let (here, elsewhere) = (socket().await, socket().await);
    here.send_to(&first, node.contact.addr).await.expect("loopback takes it");
    let proof = forger.answered(&datagram(&here).await.0).await;

    elsewhere.send_to(&proof, node.contact.addr).await.expect("loopback takes it");
    let (refused, _) = datagram(&elsewhere).await;
    assert!(refused.len() < proof.len(), "{} bytes for {}", refused.len(), proof.len());
    settle(&mut node).await;
    assert_eq!(waiting(&elsewhere), [0; 0]);

    let mut damaged = proof.clone();
    let token = 8 + usize::from(proof[5]) + usize::from(proof[6 + usize::from(proof[5])]) + 4;
    damaged[token] ^= 1;
    here.send_to(&damaged, node.contact.addr).await.expect("loopback takes it");
    settle(&mut node).await;
    assert!(waiting(&here).iter().all(|&length| length < damaged.len()), "a forged proof is none");

    here.send_to(&proof, node.contact.addr).await.expect("loopback takes it");
    let (welcome, _) = datagram(&here).await;
    assert!(welcome.len() >= 1_200, "the handshake goes on: {} bytes", welcome.len());
}

#[actix::test]
async fn a_proof_given_to_one_node_is_none_at_another() {
    let (mut node, mut other) = (Node::with(2, 0, strict()), Node::with(3, 0, strict()));
    let attacker = attacker(1);
    let (forger, first) = Forger::new(&attacker).await;
    let here = socket().await;
    here.send_to(&first, node.contact.addr).await.expect("loopback takes it");
    let proof = forger.answered(&datagram(&here).await.0).await;
    here.send_to(&proof, other.contact.addr).await.expect("loopback takes it");
    settle(&mut other).await;
    settle(&mut node).await;
    assert!(waiting(&here).iter().all(|&length| length < proof.len()), "no handshake begins");
}

#[actix::test]
async fn a_connection_stays_at_the_address_where_it_was_made() {
    let mut node = Node::start(2);
    let attacker = attacker(1);
    let connection = attacker.connect(node.contact.addr, SERVER_NAME).expect("a valid address");
    let connection = connection.await.expect("a working peer");
    let made_at = attacker.local_addr().expect("it is bound");
    let ask = async |request: &[u8]| {
        let (mut to_peer, from_peer) = connection.open_bi().await.expect("the connection is open");
        to_peer.write_all(request).await.expect("there is room for it");
        to_peer.finish().expect("once");
        from_peer
    };
    let _answer = ask(b"from here").await;
    assert_eq!(node.echo().await.addr, made_at);

    attacker.rebind(UdpSocket::bind(loopback(0)).expect("a free port")).expect("another socket");
    let _answer = ask(b"from elsewhere").await;
    settle(&mut node).await;
    assert!(node.requests.try_recv().is_err(), "what comes from elsewhere is not of this connection");
}

#[actix::test]
async fn a_connection_that_may_move_names_an_address_that_nobody_proved() {
    let identity = Identity::from_seed([2; 32]);
    let limits = Arc::new(endpoint::connection_limits(&TransportConfig::default()));
    let mut moving = endpoint::server_config(&identity, "comet", &TransportConfig::default(), limits);
    moving.migration(true);
    let server = Endpoint::server(moving, loopback(0)).expect("a free port");
    let attacker = attacker(1);
    let dialled = attacker.connect(server.local_addr().expect("it is bound"), SERVER_NAME).expect("valid");
    let (dialled, accepted) = tokio::join!(dialled, async { server.accept().await.expect("open").await });
    let (dialled, accepted) = (dialled.expect("it works"), accepted.expect("it works"));
    let made_at = accepted.remote_address();
    attacker.rebind(UdpSocket::bind(loopback(0)).expect("a free port")).expect("another socket");
    let (mut to_peer, _from_peer) = dialled.open_bi().await.expect("the connection is open");
    to_peer.write_all(b"from elsewhere").await.expect("there is room for it");
    accepted.accept_bi().await.expect("it arrives");
    assert_ne!(accepted.remote_address(), made_at);
}

#[actix::test]
async fn datagrams_that_are_no_packets_are_answered_with_less_than_they_are_or_not_at_all() {
    let mut node = Node::with(2, 0, strict());
    let stranger = socket().await;
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    for length in [0, 1, 20, 21, 1_199, 1_200, 1_232, 1_500, 9_000, DATAGRAM_BYTES_MAX] {
        for first in [0x00, 0x40, 0x7f, 0x80, 0xc0, 0xff] {
            let mut bytes: Vec<u8> = (0..length).map(|_| rng.random()).collect();
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            stranger.send_to(&bytes, node.contact.addr).await.expect("loopback takes it");
            settle(&mut node).await;
            let sent: usize = waiting(&stranger).iter().sum();
            assert!(sent == 0 || sent < length, "{sent} bytes for {length} that begin with {first:#x}");
        }
    }
}

#[actix::test]
async fn whoever_is_not_on_the_path_cannot_answer_for_a_peer() {
    let (a, mut b) = (Node::start(1), Node::start(2));
    let asked = a.ask(b.contact, "who are you?").await;
    let received = b.next_request().await;
    let spoofer = socket().await;
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    for _ in 0..65_000 {
        let length = rng.random_range(20..64);
        let mut packet: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        packet[0] = 0x40 | (packet[0] & 0x3f);
        // A full socket drops them, as it would drop them from the network.
        spoofer.try_send_to(&packet, a.contact.addr).ok();
    }
    received.reply.send(bytes::Bytes::from("myself")).expect("the asker waits");
    assert_eq!(reply(asked).await, Ok(bytes::Bytes::from("myself")));
}

#[actix::test]
async fn a_request_that_trickles_in_is_given_up_and_its_place_is_free() {
    let config = TransportConfig { progress_ms: 200, requests_max: 1, ..TransportConfig::default() };
    let mut node = Node::with(2, 0, config);
    let attacker = attacker(1);
    let connection = attacker.connect(node.contact.addr, SERVER_NAME).expect("a valid address");
    let connection = connection.await.expect("a working peer");
    let (mut to_peer, mut from_peer) = connection.open_bi().await.expect("a new connection");
    // A byte at a time, until the node has had enough.
    let given_up = async {
        while to_peer.write_all(&[0x81]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let (answer, ()) = tokio::join!(from_peer.read_to_end(FRAME_BYTES_MAX), given_up);
    assert!(answer.is_err(), "{answer:?}");
    assert!(node.requests.try_recv().is_err(), "nothing was delivered");
    settle(&mut node).await;
}
