//! The HTTP interface for clients: objects, lookups, the node itself, metrics.
//!
//! Handlers are generic over a [`Backend`] and decide nothing beyond the shape of requests and replies. Every
//! error is a [`Problem`] document. The interface means one machine and its user: it listens on loopback,
//! and [`serve`] refuses anything else without a token. docs/http.md describes it for users.

pub mod api;
mod condition;
#[cfg(test)]
pub(crate) mod fake;
mod guard;
mod metrics;
mod objects;
mod problem;
mod status;
#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpServer, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{Server, ServiceRequest, ServiceResponse},
    http::{StatusCode, header, header::HeaderValue},
    middleware::{Next, from_fn},
    web,
};
use comet_routing::Key;
use comet_runtime::{Limits, Refusal, Value, dht::Dht};

pub use api::NodeReport;
pub use guard::Guard;
pub use metrics::{Metric, MetricKind, RequestCounters, Series};
pub use objects::is_put_body;
pub use problem::{PROBLEM_TYPE, Problem};

use crate::{
    config::{HttpConfig, ReplicationConfig},
    several::values_of,
};

/// Connections that the system may hold for us before they are accepted.
const BACKLOG: u32 = 256;

/// How long requests may take to end when the server stops.
const SHUTDOWN_SECONDS: u64 = 5;

/// What stands behind the interface: the swarm, and what the node says about itself.
///
/// Each of the server's threads has a clone; the futures stay on the thread that made them.
pub trait Backend: Dht + Clone + Send + 'static {
    /// Who the node is and how much it holds.
    fn node(&self) -> impl Future<Output = NodeReport>;
    /// The node's metrics; the interface adds its own.
    fn metrics(&self) -> impl Future<Output = Vec<Metric>>;
    /// Whether the node can do its work.
    fn healthy(&self) -> impl Future<Output = Health>;
    /// The values of several objects, which are asked for at the same time, in the order of the keys, each as a get without a payload for
    /// one answer has it.
    fn values(&self, keys: &[Key]) -> impl Future<Output = Vec<Result<Value, Refusal>>> {
        values_of(self, keys)
    }
}

/// Whether a node can do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It has good peers, or is alone by choice, and a store that writes.
    Healthy,
    /// Something is missing.
    Unhealthy {
        /// What, in a sentence.
        reason: String,
    },
}

/// Why the interface cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is reachable from outside and there is no token.
    #[error("http.listen is {addr}, which is not loopback, so http.token must be set")]
    NoToken {
        /// The address.
        addr: SocketAddr,
    },
    /// The address is taken.
    #[error("the HTTP address {addr} is in use; choose another with --http")]
    InUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The system refuses the address.
    #[error("cannot listen for HTTP on {addr}: {error}")]
    Io {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
}

/// What every handler can reach.
struct Served<B> {
    backend: B,
    limits: Limits,
    replication: ReplicationConfig,
    body_timeout: Duration,
    counters: Arc<RequestCounters>,
}

/// Opens the interface and returns the server, to be awaited or spawned, with the address it listens on.
///
/// Must be called inside an actix system. The server ends when its handle says so, never on a signal.
pub fn serve<B: Backend>(
    config: &HttpConfig,
    limits: &Limits,
    replication: &ReplicationConfig,
    backend: B,
) -> Result<(Server, SocketAddr), ServeError> {
    let addr = config.listen;
    if !addr.ip().to_canonical().is_loopback() && config.token.is_none() {
        return Err(ServeError::NoToken { addr });
    }
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { addr },
        _ => ServeError::Io { addr, error },
    };
    let listener = TcpListener::bind(addr).map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    let guard = Guard::new(&HttpConfig { listen: bound, ..config.clone() });
    let counters = Arc::new(RequestCounters::default());
    let (limits, replication) = (limits.clone(), replication.clone());
    let body_timeout = Duration::from_secs(config.body_seconds);
    let idle = Duration::from_secs(config.idle_seconds);
    let server = HttpServer::new(move || {
        let served = Served {
            backend: backend.clone(),
            limits: limits.clone(),
            replication: replication.clone(),
            body_timeout,
            counters: counters.clone(),
        };
        App::new()
            .app_data(web::Data::new(guard.clone()))
            .wrap(from_fn(watch::<B>))
            .configure(|service| configure(service, served))
    })
    .workers(config.workers)
    .max_connections(config.connections_max.div_ceil(config.workers))
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
fn configure<B: Backend>(service: &mut web::ServiceConfig, served: Served<B>) {
    let object = web::resource("/v1/objects/{key}")
        .route(web::put().to(objects::put::<B>))
        .route(web::get().to(objects::get::<B>))
        .route(web::delete().to(objects::delete::<B>));
    let only_get = || web::to(async || refused(Problem::method_not_allowed("GET")));
    let reading = |path: &str| web::resource(path.to_owned()).default_service(only_get());
    service
        .app_data(web::Data::new(served))
        .service(
            object
                .default_service(web::to(async || refused(Problem::method_not_allowed("GET, PUT, DELETE")))),
        )
        .service(reading("/v1/objects/{key}/inspect").route(web::get().to(objects::inspect::<B>)))
        .service(reading("/v1/objects/{key}/logs").route(web::get().to(objects::logs::<B>)))
        .service(reading("/v1/lookup/{key}").route(web::get().to(objects::lookup::<B>)))
        .service(reading("/v1/node").route(web::get().to(status::node::<B>)))
        .service(reading("/v1/limits").route(web::get().to(status::limits::<B>)))
        .service(reading("/metrics").route(web::get().to(status::metrics::<B>)))
        .service(reading("/healthz").route(web::get().to(status::healthz::<B>)))
        .route("/v1/objects/", web::to(async || refused(objects::empty_key())))
        .route("/v1/lookup/", web::to(async || refused(objects::empty_key())))
        .default_service(web::to(async || refused(status::unknown_route())));
}

fn refused(problem: Problem) -> Result<actix_web::HttpResponse, Problem> {
    Err(problem)
}

/// Lets a request through or not, counts it, and marks every response as one that no browser may keep or
/// take for something else.
async fn watch<B: Backend>(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = match admit(&request).await {
        Ok(()) => match next.call(request).await {
            Ok(response) => response.map_into_boxed_body(),
            Err(error) => return Err(error),
        },
        Err(problem) => request.into_response(problem.error_response()),
    };
    if let Some(served) = response.request().app_data::<web::Data<Served<B>>>() {
        let pattern = response.request().match_pattern();
        served.counters.count(pattern.as_deref(), response.status().as_u16());
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

async fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    let guard = request.app_data::<web::Data<Guard>>().ok_or_else(|| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the interface has no rules")
    })?;
    guard.check_origin(request.uri(), request.headers())?;
    if request.path() == "/healthz" {
        return Ok(());
    }
    guard.admit_token(request.headers()).await
}
