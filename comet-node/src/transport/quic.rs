//! The transport over QUIC: one UDP socket for dialling and being dialled, one connection per peer, one
//! stream per request. A second socket is there to see whether peers can be reached by strangers.
//!
//! The actor owns the set of connections and decides who may connect; the bytes of a request never pass its
//! mailbox, they go between the asking task and the connection. Everything that can be decided without a
//! socket is decided elsewhere: who enters by `Admission`, which connection is used by `Pool`.

mod endpoint;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, MessageResult, Recipient,
    ResponseFuture, WeakAddr,
};
use comet_routing::{Contact, NodeId};
use futures_util::future::{BoxFuture, FutureExt, Shared};
use quinn::{ConnectionError, Endpoint, Incoming, TransportErrorCode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

use super::{
    Ask, Close, Counters, Forget, Greet, LocalAddress, Pending, Probe, Received, Rtt, TransportConfig,
    TransportError,
    admission::{Admission, Source, Verdict},
    config::duration,
    exchange::{self, CODE_BUSY, CODE_DONE, CODE_WRONG_PEER, Failed, Inbound},
    link::Link,
    pool::{Pool, Pooled},
    tls,
};
use crate::{
    identity::Identity,
    wire::{FRAME_BYTES_MAX, TTL_MAX},
};

/// Messages that wait for the transport before senders have to.
const MAILBOX: usize = 1024;

/// The name that TLS wants of a server; no node looks at it.
const SERVER_NAME: &str = "comet";

/// Probes under way.
const PROBES_MAX: usize = 128;

/// How long the peers have to hear that this node closes.
const FAREWELL: Duration = Duration::from_secs(2);

/// The actor that carries requests between nodes. See [`super`] for its messages.
pub struct QuicTransport {
    identity: Identity,
    network: String,
    config: TransportConfig,
    /// The socket to listen and dial on, and the one to probe from. Bound from the start, so that a taken port
    /// is reported before anything runs.
    sockets: Option<(UdpSocket, UdpSocket)>,
    local: SocketAddr,
    endpoint: Option<Endpoint>,
    /// Dials from a port of its own; accepts nothing.
    prober: Option<Endpoint>,
    probes: Arc<Semaphore>,
    started: Instant,
    pool: Pool<Arc<Link>>,
    admission: Admission,
    dials: BTreeMap<Callee, Dial>,
    asks: Arc<Semaphore>,
    inbound: Arc<Inbound>,
    counters: Arc<Counters>,
}

/// Why a transport could not be bound to its address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process has the port.
    #[error("UDP port {} of {} is in use, perhaps by another node; choose another one", addr.port(), addr.ip())]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The system does not let this user have the port.
    #[error("this user may not use UDP port {}; choose one from 1024 on", addr.port())]
    NotPermitted {
        /// The address.
        addr: SocketAddr,
    },
    /// The machine does not have the address.
    #[error("{} is not an address of this machine", addr.ip())]
    NotLocal {
        /// The address.
        addr: SocketAddr,
    },
    /// There is no second port, without which nobody's contact could be proved.
    #[error(
        "cannot open a second UDP socket at {ip}, from which to see whether peers can be reached: {error}"
    )]
    NoProber {
        /// The address.
        ip: IpAddr,
        /// What the system answered.
        error: io::Error,
    },
    /// Anything else.
    #[error("cannot listen on UDP {addr}: {error}")]
    Other {
        /// The address.
        addr: SocketAddr,
        /// What the system answered.
        error: io::Error,
    },
}

/// Whom a dial is for: any node at the address, or one certain node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Callee {
    addr: SocketAddr,
    id: Option<NodeId>,
}

type Dialled = Result<Arc<Link>, TransportError>;
type Dial = Shared<BoxFuture<'static, Dialled>>;

impl QuicTransport {
    /// Binds the socket, for nodes of this network. Requests of peers go to `inbound`, which refuses by a full mailbox.
    ///
    /// The transport may then be started on any arbiter; until then peers' packets wait in the socket.
    pub fn bind(
        listen: SocketAddr,
        network: &str,
        config: TransportConfig,
        identity: Identity,
        inbound: Recipient<Received>,
    ) -> Result<Self, BindError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { addr: listen },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { addr: listen },
            io::ErrorKind::AddrNotAvailable => BindError::NotLocal { addr: listen },
            _ => BindError::Other { addr: listen, error },
        };
        let socket = UdpSocket::bind(listen).map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        let ip = local.ip();
        let probing = UdpSocket::bind((ip, 0)).map_err(|error| BindError::NoProber { ip, error })?;
        let counters = Arc::new(Counters::default());
        let inbound = Inbound {
            to: inbound,
            counters: Arc::clone(&counters),
            under_way: semaphore(config.requests_max),
            progress: duration(config.progress_ms),
            answer: duration(config.answer_ms),
        };
        Ok(Self {
            identity,
            network: network.to_owned(),
            sockets: Some((socket, probing)),
            local,
            endpoint: None,
            prober: None,
            probes: semaphore(PROBES_MAX),
            started: Instant::now(),
            pool: Pool::new(config.connections_max),
            admission: Admission::new(config.clone()),
            dials: BTreeMap::new(),
            asks: semaphore(config.asks_max),
            inbound: Arc::new(inbound),
            counters,
            config,
        })
    }

    /// The address that the socket is bound to.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// What the transport counts while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// The connection to a callee that is being made, begun now if nobody else waits for it.
    fn dial(&mut self, callee: Callee, ctx: &mut Context<Self>) -> Result<Dial, TransportError> {
        if let Some(dial) = self.dials.get(&callee) {
            return Ok(dial.clone());
        }
        if self.dials.len() >= self.config.dials_max {
            return Err(TransportError::Busy);
        }
        let endpoint = self.endpoint.clone().ok_or(TransportError::Closed)?;
        Counters::count(&self.counters.dials);
        let limit = duration(self.config.dial_ms);
        let dial = dial(endpoint, callee, limit, self.started).boxed().shared();
        self.dials.insert(callee, dial.clone());
        let (finished, transport) = (dial.clone(), ctx.address());
        tokio::spawn(async move {
            let outcome = finished.await;
            transport.do_send(DialEnded { callee, outcome });
        });
        Ok(dial)
    }

    /// Takes a connection into use, closing what gives way to it, or closes it.
    fn keep(&mut self, link: &Arc<Link>, origin: Origin, ctx: &mut Context<Self>) {
        match self.pool.insert(Arc::clone(link)) {
            Ok(evicted) => evicted.iter().for_each(|link| link.connection.close(CODE_DONE, b"idle")),
            Err(_full) => link.connection.close(CODE_BUSY, b"busy"),
        }
        // Served even if it was just closed, so that its end is noticed in one way only.
        let (serve, transport) = (Arc::clone(&self.inbound).serve(Arc::clone(link)), ctx.address());
        let id = link.id();
        tokio::spawn(async move {
            serve.await;
            transport.do_send(Lost { id, origin });
        });
    }
}

/// By whom a connection was made.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Here,
    /// The peer, from this address, as it is counted by the admission.
    There(SocketAddr),
}

impl Actor for QuicTransport {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let Some((socket, probing)) = self.sockets.take() else { return };
        let opened = endpoint::open(socket, &self.identity, &self.network, &self.config);
        let opened = opened.and_then(|endpoint| {
            Ok((endpoint, endpoint::open_prober(probing, &self.identity, &self.network, &self.config)?))
        });
        match opened {
            Ok((endpoint, prober)) => {
                tokio::spawn(accept(endpoint.clone(), ctx.address().downgrade()));
                (self.endpoint, self.prober) = (Some(endpoint), Some(prober));
            }
            Err(error) => {
                log::error!("cannot use the UDP sockets at {}: {error}", self.local);
                ctx.stop();
            }
        }
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        for endpoint in self.endpoint.take().into_iter().chain(self.prober.take()) {
            endpoint.close(CODE_DONE, b"stopping");
        }
    }
}

impl Handler<Ask> for QuicTransport {
    type Result = Pending;

    fn handle(&mut self, ask: Ask, ctx: &mut Self::Context) -> Pending {
        Counters::count(&self.counters.asks);
        let (acknowledge, acknowledged) = oneshot::channel();
        let (answer, reply) = oneshot::channel();
        let refused = if ask.request.len() > FRAME_BYTES_MAX { Some(TransportError::TooLarge) } else { None };
        match (refused, Arc::clone(&self.asks).try_acquire_owned()) {
            (None, Ok(permit)) => {
                let errand = Errand {
                    to: ask.to,
                    request: ask.request,
                    link: self.pool.pick(&ask.to).cloned(),
                    transport: ctx.address(),
                    acknowledge: Some(acknowledge),
                    _permit: permit,
                };
                let counters = Arc::clone(&self.counters);
                // A deadline beyond what can be added to a clock is as good as a month.
                tokio::spawn(errand.run(ask.deadline.min(TTL_MAX), answer, counters));
            }
            (refused, _) => {
                Counters::count(&self.counters.asks_failed);
                let _ = answer.send(Err(refused.unwrap_or(TransportError::Busy)));
            }
        }
        Pending { acknowledged, reply }
    }
}

impl Handler<Greet> for QuicTransport {
    type Result = ResponseFuture<Result<Contact, TransportError>>;

    fn handle(&mut self, greet: Greet, ctx: &mut Self::Context) -> Self::Result {
        let dial = self.dial(Callee { addr: greet.addr, id: None }, ctx);
        Box::pin(async move {
            let linked = timeout(greet.deadline.min(TTL_MAX), dial?).await;
            Ok(linked.map_err(|_| TransportError::TimedOut)??.contact())
        })
    }
}

impl Handler<Probe> for QuicTransport {
    type Result = ResponseFuture<Result<(), TransportError>>;

    fn handle(&mut self, Probe { contact, deadline }: Probe, _ctx: &mut Self::Context) -> Self::Result {
        let permit = Arc::clone(&self.probes).try_acquire_owned();
        let prober = self.prober.clone();
        let (started, counters) = (self.started, Arc::clone(&self.counters));
        Box::pin(async move {
            let _permit = permit.map_err(|_| TransportError::Busy)?;
            let prober = prober.ok_or(TransportError::Closed)?;
            Counters::count(&counters.dials);
            let callee = Callee { addr: contact.addr, id: Some(contact.id) };
            match dial(prober, callee, deadline.min(TTL_MAX), started).await {
                Ok(link) => {
                    link.connection.close(CODE_DONE, b"reached");
                    Ok(())
                }
                Err(error) => {
                    Counters::count(&counters.dials_failed);
                    Err(error)
                }
            }
        })
    }
}

impl Handler<Forget> for QuicTransport {
    type Result = ();

    fn handle(&mut self, forget: Forget, _ctx: &mut Self::Context) {
        for link in self.pool.forget(&forget.id) {
            link.connection.close(CODE_DONE, b"forgotten");
        }
    }
}

impl Handler<LocalAddress> for QuicTransport {
    type Result = MessageResult<LocalAddress>;

    fn handle(&mut self, _: LocalAddress, _ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.local)
    }
}

impl Handler<Close> for QuicTransport {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        let endpoint = self.endpoint.take();
        ctx.stop();
        Box::pin(async move {
            if let Some(endpoint) = endpoint {
                endpoint.close(CODE_DONE, b"stopping");
                // Whoever has not heard it by then finds out by itself.
                let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
            }
        })
    }
}

/// A connection to a contact is wanted by an ask.
#[derive(Message)]
#[rtype(result = "Dialled")]
struct Connect {
    to: Contact,
}

impl Handler<Connect> for QuicTransport {
    type Result = ResponseFuture<Dialled>;

    fn handle(&mut self, Connect { to }: Connect, ctx: &mut Self::Context) -> Self::Result {
        if let Some(link) = self.pool.pick(&to) {
            return Box::pin(std::future::ready(Ok(Arc::clone(link))));
        }
        let dial = self.dial(Callee { addr: to.addr, id: Some(to.id) }, ctx);
        Box::pin(async move { dial?.await })
    }
}

/// A dial came to an end.
#[derive(Message)]
#[rtype(result = "()")]
struct DialEnded {
    callee: Callee,
    outcome: Dialled,
}

impl Handler<DialEnded> for QuicTransport {
    type Result = ();

    fn handle(&mut self, ended: DialEnded, ctx: &mut Self::Context) {
        self.dials.remove(&ended.callee);
        match ended.outcome {
            Ok(link) => self.keep(&link, Origin::Here, ctx),
            Err(_) => Counters::count(&self.counters.dials_failed),
        }
    }
}

/// Somebody's first packet arrived.
#[derive(Message)]
#[rtype(result = "()")]
struct Knocked(Incoming);

impl Handler<Knocked> for QuicTransport {
    type Result = ();

    fn handle(&mut self, Knocked(incoming): Knocked, ctx: &mut Self::Context) {
        let from = incoming.remote_address();
        let source = if incoming.remote_address_validated() { Source::Proven } else { Source::Unproven };
        match self.admission.knock(from.ip(), source) {
            Verdict::Admit => {
                let (limit, started) = (duration(self.config.handshake_ms), self.started);
                let transport = ctx.address();
                tokio::spawn(async move {
                    let link = shake_hands(incoming, limit, started).await;
                    transport.do_send(HandshakeEnded { from, link });
                });
            }
            Verdict::Challenge => {
                Counters::count(&self.counters.challenged);
                if let Err(cannot) = incoming.retry() {
                    cannot.into_incoming().refuse();
                }
            }
            Verdict::Refuse => {
                Counters::count(&self.counters.refused);
                incoming.refuse();
            }
        }
    }
}

/// A peer's handshake came to an end.
#[derive(Message)]
#[rtype(result = "()")]
struct HandshakeEnded {
    from: SocketAddr,
    link: Option<Arc<Link>>,
}

impl Handler<HandshakeEnded> for QuicTransport {
    type Result = ();

    fn handle(&mut self, HandshakeEnded { from, link }: HandshakeEnded, ctx: &mut Self::Context) {
        match link {
            Some(link) => {
                Counters::count(&self.counters.accepted);
                self.admission.connected(from.ip());
                self.keep(&link, Origin::There(from), ctx);
            }
            None => {
                Counters::count(&self.counters.refused);
                self.admission.failed(from.ip());
            }
        }
    }
}

/// A connection ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Lost {
    id: usize,
    origin: Origin,
}

impl Handler<Lost> for QuicTransport {
    type Result = ();

    fn handle(&mut self, Lost { id, origin }: Lost, _ctx: &mut Self::Context) {
        self.pool.remove(id);
        if let Origin::There(from) = origin {
            self.admission.disconnected(from.ip());
        }
    }
}

/// One ask on its way.
struct Errand {
    to: Contact,
    request: bytes::Bytes,
    link: Option<Arc<Link>>,
    transport: Addr<QuicTransport>,
    acknowledge: Option<oneshot::Sender<Rtt>>,
    _permit: OwnedSemaphorePermit,
}

impl Errand {
    async fn run(
        mut self,
        deadline: Duration,
        mut answer: oneshot::Sender<Result<bytes::Bytes, TransportError>>,
        counters: Arc<Counters>,
    ) {
        let outcome = tokio::select! {
            biased;
            outcome = timeout(deadline, self.ask()) => outcome.unwrap_or(Err(TransportError::TimedOut)),
            () = answer.closed() => return,
        };
        if outcome.is_err() {
            Counters::count(&counters.asks_failed);
        }
        let _ = answer.send(outcome);
    }

    /// Asks over the connection that is there, and if that turns out to be dead, once more over a new one.
    async fn ask(&mut self) -> Result<bytes::Bytes, TransportError> {
        if let Some(link) = self.link.take() {
            match exchange::ask(&link, self.request.clone(), &mut self.acknowledge).await {
                Ok(frame) => return Ok(frame),
                Err(Failed::For(error)) => return Err(error),
                Err(Failed::Unsent) => {}
            }
        }
        let connected = self.transport.send(Connect { to: self.to }).await;
        let link = connected.map_err(|_| TransportError::Closed)??;
        let asked = exchange::ask(&link, self.request.clone(), &mut self.acknowledge).await;
        asked.map_err(|failed| match failed {
            Failed::For(error) => error,
            Failed::Unsent => refusal_of(&link),
        })
    }
}

/// Why a connection ended before it was of any use.
fn refusal_of(link: &Link) -> TransportError {
    match link.connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) if close.error_code == CODE_BUSY => {
            TransportError::Busy
        }
        _ => TransportError::Closed,
    }
}

async fn accept(endpoint: Endpoint, transport: WeakAddr<QuicTransport>) {
    while let Some(incoming) = endpoint.accept().await {
        let Some(transport) = transport.upgrade() else { return };
        // Waiting for the verdict leaves further packets to the bounded queue of the endpoint.
        if transport.send(Knocked(incoming)).await.is_err() {
            return;
        }
    }
}

async fn dial(endpoint: Endpoint, callee: Callee, limit: Duration, started: Instant) -> Dialled {
    // Fails for addresses that nothing can be sent to, such as port 0.
    let connecting = endpoint.connect(callee.addr, SERVER_NAME).map_err(|_| TransportError::Unreachable)?;
    let connection = match timeout(limit, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(ConnectionError::ConnectionClosed(close)))
            if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
        {
            return Err(TransportError::Busy);
        }
        Ok(Err(ConnectionError::LocallyClosed)) => return Err(TransportError::Closed),
        Ok(Err(_)) | Err(_) => return Err(TransportError::Unreachable),
    };
    let got = tls::peer_of(&connection).ok_or(TransportError::Unreachable)?;
    match callee.id {
        Some(expected) if expected != got => {
            connection.close(CODE_WRONG_PEER, b"wrong peer");
            Err(TransportError::WrongPeer { expected, got })
        }
        _ => Ok(Link::new(connection, got, millis(started.elapsed()))),
    }
}

async fn shake_hands(incoming: Incoming, limit: Duration, started: Instant) -> Option<Arc<Link>> {
    let connection = timeout(limit, incoming.accept().ok()?).await.ok()?.ok()?;
    let peer = tls::peer_of(&connection)?;
    Some(Link::new(connection, peer, millis(started.elapsed())))
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod strangers;
