//! Errors as RFC 9457 problem documents.
//!
//! `code` is the stable word that programs match on; `status` follows from it. docs/http.md lists all of them.

use std::{collections::BTreeMap, fmt};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use comet_runtime::{Failure, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::api::VersionText;

/// The media type of a problem document.
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// A request that was not done, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// `urn:comet:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// The status in words.
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// What happened, in a sentence.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// True if the same request may succeed later.
    pub retryable: bool,
    /// Members that only some codes have, such as `size` and `limit` of `too_large`.
    #[serde(flatten)]
    pub members: BTreeMap<String, Json>,
}

impl Problem {
    /// A problem that the same request will meet again.
    pub fn new(status: StatusCode, code: &str, detail: impl fmt::Display) -> Self {
        Self {
            kind: format!("urn:comet:problem:{code}").into(),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status: status.as_u16(),
            detail: detail.to_string(),
            code: code.to_owned(),
            retryable: false,
            members: BTreeMap::new(),
        }
    }

    /// A request that makes no sense as it stands.
    pub fn bad_request(code: &str, detail: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// The same problem, which the same request may not meet later.
    pub fn retryable(self) -> Self {
        Self { retryable: true, ..self }
    }

    fn with(mut self, member: &str, value: impl Into<Json>) -> Self {
        self.members.insert(member.to_owned(), value.into());
        self
    }

    /// Seconds after which trying again makes sense.
    fn retry_after_seconds(&self) -> Option<u64> {
        match (self.retryable, self.status, self.code.as_str()) {
            (true, 503, "unwritable" | "unhealthy") => Some(5),
            (true, 503, _) => Some(1),
            (true, 429, _) => self.members.get("wait_seconds").and_then(Json::as_u64),
            _ => None,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = Self::new(status_of(&refusal), refusal.code(), &refusal);
        let problem = Self { retryable: refusal.retryable(), ..problem };
        match refusal {
            Refusal::TooLarge { size, limit, .. } => problem.with("size", size).with("limit", limit),
            Refusal::Spent { wait_seconds, .. } => problem.with("wait_seconds", wait_seconds),
            Refusal::Stale { held_sequence } => problem.with("held_sequence", held_sequence),
            Refusal::Conflict { held: Some(held) } => {
                let VersionText { sequence, hash } = held.into();
                problem.with("held", json!({ "sequence": sequence, "hash": hash }))
            }
            Refusal::Timeout { deadline_ms } => problem.with("deadline_ms", deadline_ms),
            Refusal::HandlerFailed { handler, .. } => problem.with("handler", handler),
            Refusal::NoQuorum { stored, wanted, quorum, .. } => {
                problem.with("stored", stored).with("wanted", wanted).with("quorum", quorum)
            }
            _ => problem,
        }
    }
}

/// The status that says most nearly what a refusal means. Towards an object's handler the node is a
/// gateway, so a handler that fails is 502, or 504 if it ran out of time.
fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::Refused(_) | Refusal::Denied(_) | Refusal::NotOwner(_) => StatusCode::FORBIDDEN,
        Refusal::HandlerFailed { failure: Failure::Time { .. } | Failure::Deadline { .. }, .. } => {
            StatusCode::GATEWAY_TIMEOUT
        }
        Refusal::HandlerFailed { failure: Failure::Interrupted, .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::HandlerFailed { .. } | Refusal::Corrupt(_) | Refusal::Unsupported => StatusCode::BAD_GATEWAY,
        Refusal::BadCode(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::Stale { .. } => StatusCode::CONFLICT,
        Refusal::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
        Refusal::QuotaExceeded(_) => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::Spent { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Elsewhere { .. } => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        Refusal::Overloaded(_)
        | Refusal::Unwritable(_)
        | Refusal::NoQuorum { .. }
        | Refusal::Unreachable(_)
        | Refusal::Stopping(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type(PROBLEM_TYPE);
        if let Some(seconds) = self.retry_after_seconds() {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"comet\""));
        }
        if let Some(allowed) = self.members.get("allowed").and_then(Json::as_str) {
            response.insert_header((header::ALLOW, allowed));
        }
        response.body(json!(self).to_string())
    }
}

impl Problem {
    /// The route exists, but not for this method.
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        let detail = format!("this address takes {allowed}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).with("allowed", allowed)
    }

    /// A body that is larger than it may be; `size` is unknown if it was not declared.
    pub fn body_too_large(limit: usize) -> Self {
        let detail = format!("the body is larger than the limit of {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail).with("limit", limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_status() {
        let handler = |failure| Refusal::HandlerFailed { handler: "onGet".into(), failure };
        let text = || "x".to_owned();
        for (refusal, status) in [
            (Refusal::NotFound, 404),
            (Refusal::Refused(text()), 403),
            (handler(Failure::Error(text())), 502),
            (handler(Failure::Steps { limit: 1 }), 502),
            (handler(Failure::Deadline { limit_ms: 1 }), 504),
            (handler(Failure::Interrupted), 503),
            (Refusal::BadCode(text()), 422),
            (Refusal::Overloaded(text()), 503),
            (Refusal::TooLarge { what: text(), size: 2, limit: 1 }, 413),
            (Refusal::Invalid(text()), 400),
            (Refusal::NotOwner(text()), 403),
            (Refusal::Stale { held_sequence: 1 }, 409),
            (Refusal::Conflict { held: None }, 412),
            (Refusal::QuotaExceeded(text()), 507),
            (Refusal::Spent { what: text(), wait_seconds: 9 }, 429),
            (Refusal::Elsewhere { nearer: 40 }, 421),
            (Refusal::Unwritable(text()), 503),
            (Refusal::Corrupt(text()), 502),
            (Refusal::NoQuorum { stored: 1, wanted: 8, quorum: 5, reason: text() }, 503),
            (Refusal::Timeout { deadline_ms: 1 }, 504),
            (Refusal::Unreachable(text()), 503),
            (Refusal::Denied(text()), 403),
            (Refusal::Unsupported, 502),
            (Refusal::Stopping(text()), 503),
        ] {
            let problem = Problem::from(refusal.clone());
            assert_eq!(problem.status, status, "{refusal:?}");
            assert_eq!(problem.code, refusal.code());
            assert_eq!(problem.retryable, refusal.retryable());
        }
    }

    #[test]
    fn a_document_has_the_members_of_the_rfc_and_ours() {
        let problem = Problem::from(Refusal::TooLarge { what: "the value".into(), size: 9, limit: 8 });
        assert_eq!(
            json!(problem),
            json!({
                "type": "urn:comet:problem:too_large",
                "title": "Payload Too Large",
                "status": 413,
                "detail": "the value has 9 bytes and the limit is 8",
                "code": "too_large",
                "retryable": false,
                "size": 9,
                "limit": 8,
            })
        );
    }

    #[test]
    fn only_what_may_succeed_later_says_when() {
        let after = |refusal: Refusal| {
            let response = Problem::from(refusal).error_response();
            response.headers().get(header::RETRY_AFTER).map(|text| text.to_str().unwrap().to_owned())
        };
        assert_eq!(after(Refusal::Overloaded("the node".into())).as_deref(), Some("1"));
        assert_eq!(after(Refusal::Unwritable("full".into())).as_deref(), Some("5"));
        let spent = Refusal::Spent { what: "this object has used its CPU time".into(), wait_seconds: 77 };
        assert_eq!(after(spent).as_deref(), Some("77"));
        assert_eq!(after(Refusal::NotFound), None);
    }
}
