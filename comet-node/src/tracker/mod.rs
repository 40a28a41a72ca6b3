//! A BitTorrent tracker over HTTP (BEP 3, 7, 23 and 48) in front of the swarm's tracker objects.
//!
//! Nothing is kept here: an announce is a get on the object of its info hash ([`comet_apps::Tracker`]), which
//! is created when nobody has done so. So every node of a swarm answers for all torrents, and a node that
//! restarts has forgotten nobody. Trackers are public, so there is no token; what a stranger may claim is kept
//! small instead: peers are known by the address that their connection comes from.

mod answer;
mod counters;
mod newcomers;
mod request;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    http::{StatusCode, header},
    web,
};
use bytes::Bytes;
use comet_apps::{Announce, AnnounceEvent, AppError, Introduction, PeerIds, Scrape, Tracker};
use comet_routing::clock::Clock;
use comet_runtime::{Refusal, dht::Dht};
use futures_util::future::join_all;

pub use counters::TrackerCounters;

use self::{
    answer::PeerForm,
    newcomers::Newcomers,
    request::{AnnounceRequest, BadRequest, InfoHash},
};
use crate::config::TrackerConfig;

/// Threads that serve connections: they only pass on what the node's other threads do. Each would keep an
/// account of new torrents of its own.
const WORKERS: usize = 1;

/// Connections that the system may hold for us before they are accepted.
const BACKLOG: u32 = 256;

/// How long requests may take to end when the server stops.
const SHUTDOWN_SECONDS: u64 = 5;

/// How many torrents of one scrape are asked about at the same time.
const SCRAPES_AT_ONCE: usize = 10;

/// Why the tracker cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    /// The address is taken.
    #[error("the tracker address {addr} is in use; choose another with --tracker")]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot listen for BitTorrent clients on {addr}: {error}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
}

/// True if the query is an announce that a tracker answers.
pub fn is_announce(query: &str) -> bool {
    AnnounceRequest::parse(query).is_ok()
}

/// True if the query is a scrape that a tracker answers.
pub fn is_scrape(query: &str) -> bool {
    request::scraped(query).is_ok()
}

/// What every handler can reach.
struct Served<D> {
    dht: D,
    home: IpAddr,
    counters: Arc<TrackerCounters>,
    newcomers: Rc<RefCell<Newcomers>>,
}

/// Opens the tracker and returns the server, to be awaited or spawned, with the address it listens on.
///
/// `home` is where others reach this machine: peers on it, who announce from a loopback address, are
/// introduced with it. Must be called inside an actix system. The server ends when its handle says so, never
/// on a signal.
pub fn serve<D: Dht + Clone + Send + 'static>(
    config: &TrackerConfig,
    listen: SocketAddr,
    home: IpAddr,
    dht: D,
    counters: Arc<TrackerCounters>,
) -> Result<(Server, SocketAddr), TrackerError> {
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => TrackerError::InUse { addr: listen },
        _ => TrackerError::Io { addr: listen, error },
    };
    let listener = TcpListener::bind(listen).map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    let idle = Duration::from_secs(config.idle_seconds);
    let server = HttpServer::new(move || {
        let served = Served {
            dht: dht.clone(),
            home,
            counters: counters.clone(),
            newcomers: Rc::new(RefCell::new(Newcomers::new())),
        };
        App::new().configure(|service| configure(service, served))
    })
    .workers(WORKERS)
    .max_connections(config.connections_max)
    .backlog(BACKLOG)
    .keep_alive(idle)
    .client_request_timeout(idle)
    .client_disconnect_timeout(idle)
    .worker_max_blocking_threads(1)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .disable_signals()
    .listen(listener)
    .map_err(refuse)?;
    Ok((server.run(), bound))
}

/// The routes.
fn configure<D: Dht + 'static>(service: &mut web::ServiceConfig, served: Served<D>) {
    service
        .app_data(web::Data::new(served))
        .service(web::resource("/announce").route(web::get().to(announce::<D>)))
        .service(web::resource("/scrape").route(web::get().to(scrape::<D>)))
        .default_service(web::to(async || {
            HttpResponse::NotFound().body("this is a BitTorrent tracker: /announce and /scrape\n")
        }));
}

/// Why a request is answered with a `failure reason`.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The request makes no sense.
    #[error(transparent)]
    Request(#[from] BadRequest),
    /// A web page made a browser send it.
    #[error("this tracker does not answer browsers")]
    Browser,
    /// The connection has no address that peers could use.
    #[error("the connection has no address")]
    Addressless,
    /// The swarm did not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tracker object said no.
    #[error("{0}")]
    Declined(String),
    /// Somebody has stored something else under the torrent's key.
    #[error("what is stored for this torrent is not a tracker")]
    Foreign,
    /// The client's network has brought too many torrents that nobody knew.
    #[error("too many new torrents from your network; announce this one again in {seconds} s")]
    TooManyNew {
        /// When there is room for another.
        seconds: u64,
    },
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Refused(refusal) => Self::Refused(refusal),
            AppError::Declined(reason) => Self::Declined(reason),
            AppError::Unexpected(_) => Self::Foreign,
        }
    }
}

/// `GET /announce`
async fn announce<D: Dht>(request: HttpRequest, served: web::Data<Served<D>>) -> HttpResponse {
    let answered = answer_announce(&request, &served).await;
    if answered.is_ok() {
        served.counters.count_announce();
    }
    respond(answered, &served.counters)
}

/// `GET /scrape`
async fn scrape<D: Dht>(request: HttpRequest, served: web::Data<Served<D>>) -> HttpResponse {
    let answered = answer_scrape(&request, &served).await;
    if answered.is_ok() {
        served.counters.count_scrape();
    }
    respond(answered, &served.counters)
}

/// Clients read why a request failed only if the status says that it did not; browsers are told plainly.
fn respond(answered: Result<Vec<u8>, Failure>, counters: &TrackerCounters) -> HttpResponse {
    let (status, body) = match answered {
        Ok(body) => (StatusCode::OK, body),
        Err(failure) => {
            counters.count_failure();
            let browser = matches!(failure, Failure::Browser);
            let status = if browser { StatusCode::FORBIDDEN } else { StatusCode::OK };
            (status, answer::failure(&failure.to_string()))
        }
    };
    HttpResponse::build(status)
        .content_type("text/plain")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body)
}

async fn answer_announce<D: Dht>(request: &HttpRequest, served: &Served<D>) -> Result<Vec<u8>, Failure> {
    refuse_browsers(request)?;
    let asked = AnnounceRequest::parse(request.query_string())?;
    let source = request.peer_addr().ok_or(Failure::Addressless)?.ip();
    let place = asked.place(source, served.home);
    let tracker = Tracker::of_torrent(&asked.info_hash);
    let main = announce_of(&asked, place.address);
    let met = announce_or_create(served, source, &tracker, &main).await?;
    if let Some(second) = place.second {
        let second = Announce { want: Some(0), ..announce_of(&asked, second) };
        // A second address that is not heard of now is announced again with the first.
        tracker.announce(&served.dht, &second).await.ok();
    }
    Ok(answer::introduction(&met, asked.form, place.warning))
}

fn announce_of(asked: &AnnounceRequest, address: SocketAddr) -> Announce {
    let ids = if asked.form == PeerForm::ListWithIds { PeerIds::Wanted } else { PeerIds::Omitted };
    Announce {
        want: asked.want,
        coordinate: asked.coordinate,
        ids,
        ..Announce::new(asked.event, asked.peer_id, address, asked.left)
    }
}

/// Announces a peer; the first one of a torrent makes the tracker object, if its network may.
async fn announce_or_create<D: Dht>(
    served: &Served<D>,
    source: IpAddr,
    tracker: &Tracker,
    announce: &Announce,
) -> Result<Introduction, Failure> {
    let dht = &served.dht;
    match tracker.announce(dht, announce).await {
        Err(AppError::Refused(Refusal::NotFound)) => {}
        told => return Ok(told?),
    }
    if announce.event == AnnounceEvent::Stopped {
        return Ok(Introduction {
            interval: Duration::ZERO,
            scrape: Scrape::default(),
            peers: Bytes::new(),
            peers6: Bytes::new(),
            ids: Bytes::new(),
        });
    }
    let admitted = served.newcomers.borrow_mut().admit(source, Clock::System.now());
    admitted.map_err(|wait| Failure::TooManyNew { seconds: wait.as_secs().max(1) })?;
    // If others create it at the same moment, replicas that have theirs refuse ours, maybe all of them. So it
    // is not the put that tells whether there is a tracker now, but the next announce.
    let created = tracker.create(dht, None).await;
    match (tracker.announce(dht, announce).await, created) {
        (Err(AppError::Refused(Refusal::NotFound)), Err(refusal)) => Err(refusal.into()),
        (told, _) => Ok(told?),
    }
}

async fn answer_scrape<D: Dht>(request: &HttpRequest, served: &Served<D>) -> Result<Vec<u8>, Failure> {
    refuse_browsers(request)?;
    let torrents = request::scraped(request.query_string())?;
    let mut counts = Vec::new();
    for some in torrents.chunks(SCRAPES_AT_ONCE) {
        for found in join_all(some.iter().map(|torrent| counts_of(&served.dht, torrent))).await {
            counts.extend(found?);
        }
    }
    Ok(answer::scrape(counts))
}

/// A torrent's counts; none if nobody has announced it.
async fn counts_of(dht: &impl Dht, torrent: &InfoHash) -> Result<Option<(InfoHash, Scrape)>, Failure> {
    match Tracker::of_torrent(torrent).scrape(dht).await {
        Ok(scrape) => Ok(Some((*torrent, scrape))),
        Err(AppError::Refused(Refusal::NotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A web page can make a browser on this machine ask us, and what comes from this machine may claim any
/// address. Browsers say so themselves, and no BitTorrent client sends these headers.
fn refuse_browsers(request: &HttpRequest) -> Result<(), Failure> {
    let browser =
        ["origin", "referer", "sec-fetch-site"].iter().any(|name| request.headers().contains_key(*name));
    if browser { Err(Failure::Browser) } else { Ok(()) }
}
