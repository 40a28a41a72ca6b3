//! The routes below `/v1/objects` and `/v1/lookup`.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::{
    Limits, Refusal, Value,
    dht::{Answer, Delete, Expected, Get, LogProof, Put, Read},
};
use comet_store::{Code, Ownership};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Backend, Problem, Served,
    api::{
        AnswerText, DeleteReply, GetAllReply, GetReply, InspectReply, LogsReply, LookupReply, OWNER_HEADER,
        OwnerClaim, PublicationClaim, PutBody, PutReply,
    },
    condition::{etag, expected_of},
};
use crate::{json::from_json, key_text::KeyText};

/// How many bytes of JSON text one byte of a value can take: a control character is `\u0000`.
const JSON_BYTES_PER_BYTE: usize = 6;

/// JSON bytes of a put besides its value and code: field names, the owner's claim.
const JSON_BYTES_EXTRA: usize = 4096;

/// Where the key stands in `/v1/objects/{key}` and `/v1/lookup/{key}`, split at the slashes.
const KEY_SEGMENT: usize = 3;

/// The longest deadline that a client may ask for.
const DEADLINE_MS_MAX: u64 = 60_000;

/// The most replicas that a quorum may name.
const QUORUM_MAX: u8 = 20;

const OCTET_STREAM: &str = "application/octet-stream";

/// `PUT /v1/objects/{key}`
pub(super) async fn put<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    let expected = expected_of(request.headers())?;
    let put = match content_type(&request) {
        Some("application/json") => {
            let query: DeadlineQuery = query_of(&request)?;
            let deadline = query.deadline_ms.map(parse_deadline).transpose()?;
            let bytes = served.limits.value_bytes.saturating_add(served.limits.code_bytes);
            let limit = bytes.saturating_mul(JSON_BYTES_PER_BYTE).saturating_add(JSON_BYTES_EXTRA);
            let body = read_body(&request, payload, limit, served.body_timeout).await?;
            Put { deadline, ..json_put(key, &body, &served.limits)? }
        }
        Some(OCTET_STREAM) => {
            let query: RawPutQuery = query_of(&request)?;
            if request.headers().contains_key(OWNER_HEADER) {
                let detail = "an owner signs the encoded value: send it as JSON with data_base64";
                return Err(Problem::bad_request("invalid", detail));
            }
            let body = read_body(&request, payload, served.limits.value_bytes, served.body_timeout).await?;
            let ttl = query.ttl_seconds.map(Duration::from_secs);
            let data = Value::Str(body).encode();
            let deadline = query.deadline_ms.map(parse_deadline).transpose()?;
            Put {
                key,
                data,
                code: None,
                publication: None,
                ttl,
                replicas: query.replicas,
                owner: None,
                expected: Expected::Any,
                deadline,
            }
        }
        _ => {
            let detail = "a put wants the Content-Type application/json or application/octet-stream";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
    };
    let limit = served.limits.value_bytes;
    if put.data.len() > limit {
        let (size, limit) = (put.data.len() as u64, limit as u64);
        return Err(Refusal::TooLarge { what: "the encoded value".to_owned(), size, limit }.into());
    }
    let put = Put { expected, ..put };
    let reply = PutReply::of(key, &served.backend.put(put).await?);
    Ok(HttpResponse::Ok().insert_header(etag(&reply.version)).json(reply))
}

/// `GET /v1/objects/{key}`
pub(super) async fn get<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    let query: GetQuery = query_of(&request)?;
    let read = query.read.as_deref().map_or(Ok(Read::First), parse_read)?;
    let payload = query.payload.as_deref().map(|text| parse_payload(text, &served.limits)).transpose()?;
    let deadline = query.deadline_ms.map(parse_deadline).transpose()?;
    let raw = wants_raw(&request);
    if raw && read != Read::First {
        return Err(Problem::bad_request("bad_query", "raw bytes come from one replica: use read=first"));
    }
    let mut report = served.backend.get(Get { key, payload, read, deadline }).await?;
    if read != Read::First {
        return Ok(HttpResponse::Ok().json(GetAllReply::of(key, &report)));
    }
    if raw {
        let answer = report.answers.into_iter().next().ok_or(Refusal::NotFound)?;
        return raw_answer(answer);
    }
    report.answers.truncate(1);
    let GetAllReply { key, answers, failed } = GetAllReply::of(key, &report);
    let answer = answers.into_iter().next().ok_or(Refusal::NotFound)?;
    let tag = etag(&answer.version);
    Ok(HttpResponse::Ok().insert_header(tag).json(GetReply { key, answer, failed }))
}

/// `DELETE /v1/objects/{key}`
pub(super) async fn delete<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    let query: DeadlineQuery = query_of(&request)?;
    let deadline = query.deadline_ms.map(parse_deadline).transpose()?;
    let owner = owner_of(&request)?;
    let report = served.backend.delete(Delete { key, owner, deadline }).await?;
    Ok(HttpResponse::Ok().json(DeleteReply::of(key, &report)))
}

/// `GET /v1/objects/{key}/inspect`
pub(super) async fn inspect<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    no_query(&request)?;
    let replicas = served.backend.inspect(key).await?;
    Ok(HttpResponse::Ok().json(InspectReply::of(key, replicas)))
}

/// `GET /v1/objects/{key}/logs`
pub(super) async fn logs<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    no_query(&request)?;
    let proof = owner_of(&request)?.map(|(sequence, ownership)| LogProof { ownership, sequence });
    let logs = served.backend.logs(key, proof).await?;
    Ok(HttpResponse::Ok().json(LogsReply::of(key, logs)))
}

/// `GET /v1/lookup/{key}`
pub(super) async fn lookup<B: Backend>(
    request: HttpRequest,
    served: web::Data<Served<B>>,
) -> Result<HttpResponse, Problem> {
    let key = key_of(&request, &served.limits)?;
    no_query(&request)?;
    let report = served.backend.lookup(key).await?;
    Ok(HttpResponse::Ok().json(LookupReply::of(key, &report)))
}

/// `PUT`, `GET` and `DELETE /v1/objects/`
pub(super) fn empty_key() -> Problem {
    Problem::bad_request("bad_key", crate::key_text::KeyTextError::Empty)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPutQuery {
    ttl_seconds: Option<u64>,
    replicas: Option<u8>,
    deadline_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadlineQuery {
    deadline_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetQuery {
    payload: Option<String>,
    read: Option<String>,
    deadline_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoQuery {}

fn key_of(request: &HttpRequest, limits: &Limits) -> Result<Key, Problem> {
    let refuse = |detail: &dyn std::fmt::Display| Problem::bad_request("bad_key", detail);
    // The router has decoded its copy of the path already, and what is not UTF-8 lossily.
    let encoded = request.uri().path().split('/').nth(KEY_SEGMENT).unwrap_or_default();
    let text = percent_decode_str(encoded).decode_utf8();
    let text = text.map_err(|_| refuse(&"the key is not UTF-8; name raw bytes as hex:<64 digits>"))?;
    let key = KeyText::parse(&text, limits.name_bytes).map_err(|error| refuse(&error))?;
    Ok(key.key())
}

fn query_of<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    let query = web::Query::from_query(request.query_string());
    query.map(web::Query::into_inner).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.strip_prefix("Query deserialize error: ").unwrap_or(&reason);
        Problem::bad_request("bad_query", format_args!("the query is not usable: {reason}"))
    })
}

fn no_query(request: &HttpRequest) -> Result<(), Problem> {
    query_of::<NoQuery>(request).map(drop)
}

fn content_type(request: &HttpRequest) -> Option<&str> {
    let text = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or(text).trim())
}

/// True if the client names raw bytes before it names anything else.
fn wants_raw(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let first = accept.and_then(|accept| accept.split(',').next()).unwrap_or_default();
    first.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(OCTET_STREAM))
}

/// Reads a body of at most `limit` bytes, refusing a declared one that is longer before reading any of it.
pub(super) async fn read_body(
    request: &HttpRequest,
    payload: web::Payload,
    limit: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    if declared.and_then(|text| text.parse::<usize>().ok()).is_some_and(|size| size > limit) {
        return Err(Problem::body_too_large(limit));
    }
    let slow =
        || Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_request", "the body did not arrive in time");
    match tokio::time::timeout(timeout, payload.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(body))) => Ok(body),
        Ok(Ok(Err(error))) => Err(Problem::bad_request("bad_body", error)),
        Ok(Err(_)) => Err(Problem::body_too_large(limit)),
        Err(_) => Err(slow().retryable()),
    }
}

/// True if a node with these limits takes this JSON document as the body of a put.
pub fn is_put_body(body: &[u8], limits: &Limits) -> bool {
    json_put(Key::of("any"), body, limits).is_ok()
}

fn json_put(key: Key, body: &[u8], limits: &Limits) -> Result<Put, Problem> {
    let body: PutBody = parse_json(body, "the body")?;
    if let Some(code) = body.code.as_ref().filter(|code| code.len() > limits.code_bytes) {
        let (size, limit) = (code.len() as u64, limits.code_bytes as u64);
        return Err(Refusal::TooLarge { what: "the code".to_owned(), size, limit }.into());
    }
    let data = match (&body.value, &body.data_base64) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("invalid", "value and data_base64 exclude each other"));
        }
        (_, Some(data)) => {
            let data = BASE64_STANDARD.decode(data).map_err(|_| bad_value(&"data_base64 is not base64"))?;
            Value::decode(&data, limits.value_bounds()).map_err(|error| bad_value(&error))?;
            Bytes::from(data)
        }
        (Some(json), None) => from_json(json, limits.depth).map_err(|error| bad_value(&error))?.encode(),
        (None, None) => Value::Nil.encode(),
    };
    let publication = body.publication.as_ref().map(PublicationClaim::read).transpose();
    let publication = publication.map_err(|error| Problem::bad_request("bad_publication", error))?;
    let owner = body.owner.as_ref().map(read_claim).transpose()?;
    if owner.is_some() && (body.ttl_seconds.is_none() || body.replicas.is_none()) {
        let detail = "ttl_seconds and replicas are part of what an owner signs, so both are needed";
        return Err(Problem::bad_request("invalid", detail));
    }
    Ok(Put {
        key,
        data,
        code: body.code.map(Code::new),
        publication,
        ttl: body.ttl_seconds.map(Duration::from_secs),
        replicas: body.replicas,
        owner,
        expected: Expected::Any,
        deadline: None,
    })
}

fn parse_json<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, Problem> {
    serde_json::from_slice(text)
        .map_err(|error| Problem::bad_request("bad_json", format_args!("{what} is not usable JSON: {error}")))
}

fn bad_value(reason: &dyn std::fmt::Display) -> Problem {
    Problem::bad_request("bad_value", reason)
}

fn read_claim(claim: &OwnerClaim) -> Result<(u64, Ownership), Problem> {
    claim.read().map_err(|error| Problem::bad_request("bad_owner", error))
}

fn owner_of(request: &HttpRequest) -> Result<Option<(u64, Ownership)>, Problem> {
    let Some(header) = request.headers().get(OWNER_HEADER) else { return Ok(None) };
    let text = header.to_str().unwrap_or_default();
    let claim = OwnerClaim::from_header(text).map_err(|error| Problem::bad_request("bad_owner", error))?;
    read_claim(&claim).map(Some)
}

fn parse_read(text: &str) -> Result<Read, Problem> {
    let quorum = |number: &str| number.parse().ok().filter(|n| (1..=QUORUM_MAX).contains(n));
    match (text, text.strip_prefix("quorum:").and_then(quorum)) {
        ("first", _) => Ok(Read::First),
        ("all", _) => Ok(Read::All),
        (_, Some(n)) => Ok(Read::Quorum(n)),
        _ => Err(Problem::bad_request("bad_query", "read is first, all or quorum:N with N from 1 to 20")),
    }
}

fn parse_payload(text: &str, limits: &Limits) -> Result<Value, Problem> {
    let json: serde_json::Value = parse_json(text.as_bytes(), "the payload")?;
    from_json(&json, limits.depth).map_err(|error| bad_value(&error))
}

fn parse_deadline(deadline_ms: u64) -> Result<Duration, Problem> {
    if (1..=DEADLINE_MS_MAX).contains(&deadline_ms) {
        Ok(Duration::from_millis(deadline_ms))
    } else {
        Err(Problem::bad_request("bad_query", "deadline_ms is from 1 to 60000"))
    }
}

/// The bytes of a string, with what the JSON reply says besides in headers; nil has no content.
fn raw_answer(answer: Answer) -> Result<HttpResponse, Problem> {
    let AnswerText { replica, version, usage, .. } = AnswerText::from(&answer);
    let (status, body) = match answer.value {
        Value::Str(bytes) => (StatusCode::OK, bytes),
        Value::Nil => (StatusCode::NO_CONTENT, Bytes::new()),
        _ => {
            let detail = "the value is not a string; ask for application/json";
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail));
        }
    };
    let mut response = HttpResponse::build(status);
    response
        .insert_header(("Comet-Replica", format!("{}@{}", replica.id, replica.addr)))
        .insert_header(etag(&version))
        .insert_header(("Comet-Version", version.to_string()))
        .insert_header(("Comet-Active", answer.active.to_string()))
        .insert_header((
            "Comet-Usage",
            format!(
                "steps={}, memory_bytes={}, messages={}",
                usage.steps, usage.memory_bytes, usage.messages
            ),
        ));
    if status == StatusCode::OK {
        response.content_type(OCTET_STREAM);
    }
    Ok(response.body(body))
}
