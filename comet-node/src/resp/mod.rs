//! The Redis interface for clients: objects by the protocol RESP, for redis-cli and the clients of Redis.
//!
//! Bytes become words ([`request`]), words a [`command`], and a command a [`reply`]; what a connection is, is a
//! [`session`], and which of its commands run at the same time says its [`pipeline`]. All of that is without sockets;
//! `connection` moves the bytes. Connections are served on the threads on which the objects live, so that reading one there
//! passes no other thread. docs/redis.md describes the interface for users.

pub mod channels;
pub mod command;
mod connection;
mod info;
mod last_get;
mod perform;
pub mod pipeline;
pub mod reply;
pub mod request;
pub mod session;
mod subscriber;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use comet_runtime::Limits;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::spawn_local,
    time::{sleep, timeout},
};

use crate::{
    config::{ReplicationConfig, RespConfig},
    http::Backend,
    secret::Secret,
    threads::Stage,
};
use channels::Hub;
use command::Rules;

/// How long the commands that have begun may take to end when the node stops.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long to wait when the system has no socket left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What somebody hears for whom there is no room.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// Why the interface cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RespError {
    /// The address is reachable from outside and there is no token.
    #[error("resp.listen is {addr}, which is not loopback, so http.token must be set")]
    NoToken {
        /// The address.
        addr: SocketAddr,
    },
    /// The address is taken.
    #[error("the address {addr} for Redis clients is in use; choose another with --resp")]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot listen for Redis clients on {addr}: {error}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
}

/// What every connection of a thread can reach.
struct Front<B> {
    backend: B,
    rules: Rules,
    secret: Secret,
    connections_max: usize,
    idle: Duration,
    counters: Arc<Counters>,
    hub: Arc<Hub>,
}

/// What has happened since the interface was opened, over all threads.
struct Counters {
    places: Arc<Semaphore>,
    connections_max: usize,
    next_id: AtomicI64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    commands: AtomicU64,
}

impl Counters {
    fn new(connections_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            next_id: AtomicI64::new(1),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            commands: AtomicU64::new(0),
        }
    }

    fn open(&self) -> usize {
        self.connections_max.saturating_sub(self.places.available_permits())
    }

    fn count(&self, commands: usize) {
        self.commands.fetch_add(commands as u64, Ordering::Relaxed);
    }
}

/// The open interface.
#[derive(Debug)]
pub struct RespServer {
    addr: SocketAddr,
    closing: watch::Sender<()>,
}

impl RespServer {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes it; commands that have begun are answered.
    pub async fn close(self) {
        self.closing.send_replace(());
        if timeout(SHUTDOWN_TIME_MAX, self.closing.closed()).await.is_err() {
            log::warn!("some commands of Redis clients were not answered in time");
        }
    }
}

/// Opens the interface. Each of the threads takes connections and serves them to their end.
pub fn serve<B: Backend>(
    config: &RespConfig,
    listen: SocketAddr,
    token: Option<&str>,
    limits: &Limits,
    replication: &ReplicationConfig,
    threads: &[Stage],
    backend: &B,
) -> Result<RespServer, RespError> {
    if !listen.ip().to_canonical().is_loopback() && token.is_none() {
        return Err(RespError::NoToken { addr: listen });
    }
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => RespError::InUse { addr: listen },
        _ => RespError::Io { addr: listen, error },
    };
    let listener = TcpListener::bind(listen).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let addr = listener.local_addr().map_err(refuse)?;
    let (closing, told) = watch::channel(());
    let counters = Arc::new(Counters::new(config.connections_max));
    let (secret, hub) = (Secret::new(token), Arc::<Hub>::default());
    for thread in threads {
        let listener = listener.try_clone().map_err(refuse)?;
        let (backend, secret, told) = (backend.clone(), secret.clone(), told.clone());
        let (counters, hub) = (counters.clone(), hub.clone());
        let rules = Rules { limits: limits.clone(), ttl_seconds_max: replication.ttl_seconds_max };
        let (connections_max, idle) = (config.connections_max, Duration::from_secs(config.idle_seconds));
        thread.run(move || {
            let front = Front { backend, rules, secret, connections_max, idle, counters, hub };
            spawn_local(accept(listener, Rc::new(front), told));
        });
    }
    Ok(RespServer { addr, closing })
}

/// Takes connections until the interface closes.
async fn accept<B: Backend>(listener: TcpListener, front: Rc<Front<B>>, mut closing: watch::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("cannot listen for Redis clients: {error}"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(&front, stream, peer, closing.clone()),
            Err(error) => {
                log::warn!("cannot take a connection of a Redis client: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves a connection, if there is room for it.
fn admit<B: Backend>(
    front: &Rc<Front<B>>,
    stream: TcpStream,
    peer: SocketAddr,
    closing: watch::Receiver<()>,
) {
    let counters = &front.counters;
    let Ok(place) = counters.places.clone().try_acquire_owned() else {
        counters.rejected.fetch_add(1, Ordering::Relaxed);
        // Whoever does not hear it sees the connection end.
        stream.try_write(TOO_MANY).ok();
        return;
    };
    counters.accepted.fetch_add(1, Ordering::Relaxed);
    let id = counters.next_id.fetch_add(1, Ordering::Relaxed);
    let front = front.clone();
    spawn_local(async move {
        if let Err(error) = connection::serve(front, stream, peer, id, closing).await {
            log::debug!("the connection of a Redis client at {peer} ended: {error}");
        }
        drop(place);
    });
}
