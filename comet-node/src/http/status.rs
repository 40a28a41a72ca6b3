//! The routes about the node: itself, its limits, metrics and health.

use actix_web::{HttpResponse, http::StatusCode, web};

use super::{Backend, Health, Problem, Served, api::LimitsReply, metrics::to_text};

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /v1/node`
pub(super) async fn node<B: Backend>(served: web::Data<Served<B>>) -> HttpResponse {
    HttpResponse::Ok().json(served.backend.node().await)
}

/// `GET /v1/limits`
pub(super) async fn limits<B: Backend>(served: web::Data<Served<B>>) -> HttpResponse {
    let reply = LimitsReply { limits: served.limits.clone(), replication: served.replication.clone() };
    HttpResponse::Ok().json(reply)
}

/// `GET /metrics`
pub(super) async fn metrics<B: Backend>(served: web::Data<Served<B>>) -> HttpResponse {
    let mut metrics = served.backend.metrics().await;
    metrics.push(served.counters.to_metric());
    HttpResponse::Ok().content_type(METRICS_TYPE).body(to_text(&metrics))
}

/// `GET /healthz`
pub(super) async fn healthz<B: Backend>(served: web::Data<Served<B>>) -> Result<HttpResponse, Problem> {
    match served.backend.healthy().await {
        Health::Healthy => Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "healthy" }))),
        Health::Unhealthy { reason } => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unhealthy", reason).retryable())
        }
    }
}

/// Any other path.
pub(super) fn unknown_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_route", "there is nothing at this address; see docs/http.md")
}
