//! The interface as a client sees it, over a backend in memory.

use actix_web::{
    FromRequest,
    body::to_bytes,
    dev::Payload,
    http::Method,
    test::{TestRequest, call_service, init_service},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::{Refusal, Value, dht::Read};
use comet_store::{Act, Code, Ownership, Publication, Statement, content_hash};
use serde_json::{Value as Json, json};

use super::{
    api::{OWNER_HEADER, OwnerClaim, PublicationClaim},
    fake::{Fake, NETWORK, replica},
    *,
};
use crate::{identity::Identity, key_text::hex};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Reply {
    status: u16,
    headers: header::HeaderMap,
    body: Bytes,
}

impl Reply {
    fn json(&self) -> Json {
        serde_json::from_slice(&self.body).expect("the reply is JSON")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The status and the code of a problem document.
    fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some(PROBLEM_TYPE), "{:?}", self.body);
        let problem: Problem = serde_json::from_slice(&self.body).expect("the reply is a problem document");
        assert_eq!(problem.status, self.status);
        (self.status, problem.code)
    }
}

fn guard(config: &HttpConfig) -> Guard {
    let mut guard = Guard::new(config);
    guard.secret.wrong_token_pause = Duration::ZERO;
    guard
}

async fn ask_with(fake: &Fake, config: &HttpConfig, request: TestRequest) -> Reply {
    let served = Served {
        backend: fake.clone(),
        limits: Limits::default(),
        replication: ReplicationConfig::default(),
        body_timeout: Duration::from_secs(10),
        counters: Arc::new(RequestCounters::default()),
    };
    let app = App::new()
        .app_data(web::Data::new(guard(config)))
        .wrap(from_fn(watch::<Fake>))
        .configure(|service| configure(service, served));
    let app = init_service(app).await;
    let (head, body) = call_service(&app, request.to_request()).await.into_parts().1.into_parts();
    let (status, headers) = (head.status().as_u16(), head.headers().clone());
    Reply { status, headers, body: to_bytes(body).await.expect("a body in memory can be read") }
}

async fn ask(fake: &Fake, request: TestRequest) -> Reply {
    ask_with(fake, &HttpConfig::default(), request).await
}

fn request(method: Method, path: &str) -> TestRequest {
    TestRequest::with_uri(path).method(method).insert_header(("host", "127.0.0.1:7480"))
}

fn get(path: &str) -> TestRequest {
    request(Method::GET, path)
}

fn put_json(path: &str, body: impl Into<String>) -> TestRequest {
    request(Method::PUT, path).insert_header(("content-type", "application/json")).set_payload(body.into())
}

#[actix_web::test]
async fn a_put_says_who_stored_it_and_a_get_who_answered() {
    let fake = Fake::default();
    let body = json!({ "value": { "n": [1, null] }, "ttl_seconds": 60, "replicas": 3 });
    let put = ask(&fake, put_json("/v1/objects/greeting", body.to_string())).await;
    let node = json!({ "id": replica().id.to_string(), "addr": "127.0.0.1:7401" });
    let usage = json!({ "steps": 120, "memory_bytes": 1234, "messages": 1 });
    let version = put.json()["version"].clone();
    assert_eq!(
        put.json(),
        json!({
            "key": format!("hex:{}", Key::of("greeting")),
            "version": version,
            "stored": 1, "wanted": 3, "quorum": 1,
            "replicas": [{ "replica": node, "usage": usage }],
            "failed": [{
                "replica": node, "code": "timeout", "detail": "no answer within 300 ms", "retryable": true,
            }],
            "ttl_seconds": 60,
        })
    );
    let got = ask(&fake, get("/v1/objects/greeting")).await;
    assert_eq!(got.status, 200);
    assert_eq!(
        got.json(),
        json!({
            "key": format!("hex:{}", Key::of("greeting")),
            "value": { "n": [1, null] },
            "replica": node, "version": version, "active": false, "usage": usage, "failed": [],
        })
    );
}

#[actix_web::test]
async fn a_get_passes_its_payload_and_hears_as_many_replicas_as_asked() {
    let fake = Fake::default();
    ask(&fake, put_json("/v1/objects/k", r#"{"value": 1, "code": "aso = {}"}"#)).await;
    for (query, read, answers) in [
        ("read=all", Read::All, 2),
        ("read=quorum:3&deadline_ms=900", Read::Quorum(3), 2),
        ("read=first", Read::First, 0),
    ] {
        let got = ask(&fake, get(&format!("/v1/objects/k?{query}&payload=%7B%22a%22%3A%5B%5D%7D"))).await;
        assert_eq!(got.json()["answers"].as_array().map_or(0, Vec::len), answers, "{query}");
        let asked = fake.state().last_get.clone().expect("the backend was asked");
        assert_eq!(asked.read, read);
        assert_eq!(asked.payload, Some(Value::map([(Value::str("a"), Value::List(Vec::new()))])));
    }
}

#[actix_web::test]
async fn raw_bytes_go_in_and_come_out_as_they_are() {
    let fake = Fake::default();
    let raw = request(Method::PUT, "/v1/objects/blob?ttl_seconds=90&replicas=2")
        .insert_header(("content-type", "application/octet-stream"))
        .set_payload(&b"\xff\x00raw"[..]);
    assert_eq!(ask(&fake, raw).await.json()["ttl_seconds"], 90);
    let accept = || get("/v1/objects/blob").insert_header(("accept", "application/octet-stream"));
    let got = ask(&fake, accept()).await;
    assert_eq!((got.status, &got.body[..]), (200, &b"\xff\x00raw"[..]));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("comet-usage"), Some("steps=120, memory_bytes=1234, messages=1"));
    assert_eq!(got.header("comet-replica"), Some(format!("{}@127.0.0.1:7401", replica().id).as_str()));
    let json = ask(&fake, get("/v1/objects/blob")).await.json();
    assert_eq!(json["value"], json!({ "$bytes": BASE64_STANDARD.encode(b"\xff\x00raw") }));
    ask(&fake, put_json("/v1/objects/blob", r#"{"value": 7}"#)).await;
    assert_eq!(ask(&fake, accept()).await.problem(), (406, "not_acceptable".into()));
    ask(&fake, put_json("/v1/objects/blob", "{}")).await;
    assert_eq!(ask(&fake, accept()).await.status, 204);
}

#[actix_web::test]
async fn keys_mean_the_same_in_a_path_as_on_the_command_line() {
    let fake = Fake::default();
    let owned = format!("/v1/objects/owned:{}%2Fnote", hex(&[7; 32]));
    let raw = Key::of("raw");
    for (path, key) in [
        ("/v1/objects/a%2Fb%20%C3%BC%25%2B", Key::of("a/b ü%+")),
        ("/v1/objects/a+b", Key::of("a+b")),
        ("/v1/objects/%2E%2E%2F%2E%2E%2Fetc", Key::of("../../etc")),
        ("/v1/objects/%252F", Key::of("%2F")),
        (format!("/v1/objects/hex:{raw}").as_str(), raw),
    ] {
        assert_eq!(ask(&fake, put_json(path, "{}")).await.status, 200, "{path}");
        assert!(fake.state().objects.contains_key(&key), "{path}");
    }
    assert_eq!(ask(&fake, put_json(&owned, "{}")).await.problem(), (403, "not_owner".into()));
    let long = format!("/v1/objects/{}", "x".repeat(1025));
    for path in ["/v1/objects/hex:12", "/v1/objects/%00", "/v1/objects/%FF", "/v1/objects/", &long] {
        assert_eq!(ask(&fake, put_json(path, "{}")).await.problem(), (400, "bad_key".into()), "{path}");
    }
}

#[actix_web::test]
async fn whatever_is_wrong_with_a_request_is_a_problem_document() {
    let fake = Fake::default();
    let octets = |request: TestRequest| request.insert_header(("content-type", "application/octet-stream"));
    for (request, status, code) in [
        (get("/v2/objects/k"), 404, "unknown_route"),
        (get("/"), 404, "unknown_route"),
        (get("/v1/objects/a/b"), 404, "unknown_route"),
        (request(Method::POST, "/v1/objects/k"), 405, "method_not_allowed"),
        (request(Method::PUT, "/v1/node"), 405, "method_not_allowed"),
        (get("/v1/objects/k"), 404, "not_found"),
        (get("/v1/objects/k?red=all"), 400, "bad_query"),
        (get("/v1/objects/k?read=most"), 400, "bad_query"),
        (get("/v1/objects/k?read=quorum:0"), 400, "bad_query"),
        (get("/v1/objects/k?deadline_ms=0"), 400, "bad_query"),
        (get("/v1/objects/k?deadline_ms=99999999999999999999"), 400, "bad_query"),
        (put_json("/v1/objects/k?deadline_ms=0", "{}"), 400, "bad_query"),
        (octets(request(Method::PUT, "/v1/objects/k?deadline_ms=60001")), 400, "bad_query"),
        (request(Method::DELETE, "/v1/objects/k?deadline_ms=60001"), 400, "bad_query"),
        (get("/v1/objects/k?payload=%7B"), 400, "bad_json"),
        (get("/v1/objects/k?payload=%7B%22%24x%22%3A1%7D"), 400, "bad_value"),
        (get("/v1/objects/k/inspect?x=1"), 400, "bad_query"),
        (put_json("/v1/objects/k", "{"), 400, "bad_json"),
        (put_json("/v1/objects/k", r#"{"vlaue": 1}"#), 400, "bad_json"),
        (put_json("/v1/objects/k", r#"{"value": 18446744073709551615}"#), 400, "bad_value"),
        (put_json("/v1/objects/k", r#"{"value": 1, "data_base64": "wA=="}"#), 400, "invalid"),
        (put_json("/v1/objects/k", r#"{"data_base64": "?"}"#), 400, "bad_value"),
        (put_json("/v1/objects/k", r#"{"data_base64": "wMA="}"#), 400, "bad_value"),
        (put_json("/v1/objects/k", r#"{"replicas": 256}"#), 400, "bad_json"),
        (put_json("/v1/objects/k?ttl_seconds=1", "{}"), 400, "bad_query"),
        (put_json("/v1/objects/k", "[".repeat(100_000)), 400, "bad_json"),
        (octets(request(Method::PUT, "/v1/objects/k?ttl=1")), 400, "bad_query"),
        (octets(request(Method::PUT, "/v1/objects/k")).insert_header((OWNER_HEADER, "x")), 400, "invalid"),
        (request(Method::PUT, "/v1/objects/k").set_payload("{}"), 415, "unsupported_media_type"),
        (request(Method::DELETE, "/v1/objects/k").insert_header((OWNER_HEADER, "x")), 400, "bad_owner"),
    ] {
        assert_eq!(ask(&fake, request).await.problem(), (status, code.to_owned()));
    }
    assert!(fake.state().objects.is_empty(), "nothing was stored");
    let allow = ask(&fake, request(Method::POST, "/v1/objects/k")).await;
    assert_eq!(allow.header("allow"), Some("GET, PUT, DELETE"));
    let deep = format!(r#"{{"value": {}1{}}}"#, "[".repeat(17), "]".repeat(17));
    assert_eq!(ask(&fake, put_json("/v1/objects/k", deep)).await.problem(), (400, "bad_value".into()));
}

#[actix_web::test]
async fn values_and_code_are_taken_up_to_their_limit_and_no_further() {
    let fake = Fake::default();
    // Three bytes go to the MessagePack header of a string of this size.
    let fits = Limits::default().value_bytes - 3;
    let raw = |size: usize| {
        request(Method::PUT, "/v1/objects/k")
            .insert_header(("content-type", "application/octet-stream"))
            .set_payload(vec![b'x'; size])
    };
    assert_eq!(ask(&fake, raw(fits)).await.status, 200);
    assert_eq!(ask(&fake, raw(fits + 1)).await.problem(), (413, "too_large".into()));
    assert_eq!(ask(&fake, raw(fits + 4)).await.problem(), (413, "too_large".into()));
    let control = json!({ "value": "\u{1}".repeat(fits) }).to_string();
    assert_eq!(ask(&fake, put_json("/v1/objects/k", control)).await.status, 200, "escapes do not count");
    let code = json!({ "code": "-".repeat(Limits::default().code_bytes + 1) }).to_string();
    assert_eq!(ask(&fake, put_json("/v1/objects/k", code)).await.problem(), (413, "too_large".into()));
    let blank = " ".repeat(1 << 20);
    assert_eq!(ask(&fake, put_json("/v1/objects/k", blank)).await.problem(), (413, "too_large".into()));
}

#[actix_web::test]
async fn a_declared_size_is_refused_before_a_byte_is_read_and_a_stalled_body_in_time() {
    let stalled = async |length: &str, timeout: Duration| {
        let request = TestRequest::default().insert_header(("content-length", length)).to_http_request();
        let stream: actix_web::dev::Payload =
            Payload::Stream { payload: Box::pin(futures_util::stream::pending()) };
        let payload = web::Payload::from_request(&request, &mut { stream }).await.expect("always there");
        objects::read_body(&request, payload, 100, timeout).await.map_err(|problem| problem.code)
    };
    assert_eq!(stalled("101", Duration::ZERO).await, Err("too_large".into()));
    assert_eq!(stalled("100", Duration::ZERO).await, Err("slow_request".into()));
}

#[actix_web::test]
async fn refusals_keep_their_code_and_say_when_to_try_again() {
    let fake = Fake::default();
    fake.state().refusal = Some(Refusal::Overloaded("the node".into()));
    for request in [
        get("/v1/objects/k"),
        put_json("/v1/objects/k", "{}"),
        request(Method::DELETE, "/v1/objects/k"),
        get("/v1/objects/k/inspect"),
        get("/v1/objects/k/logs"),
        get("/v1/lookup/k"),
    ] {
        let reply = ask(&fake, request).await;
        assert_eq!(reply.problem(), (503, "overloaded".into()));
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
}

#[actix_web::test]
async fn an_owners_signature_passes_and_a_changed_request_does_not() {
    let fake = Fake::default();
    let owner = Identity::from_seed([7; 32]);
    let key = Key::owned(owner.public_key(), "note");
    let path = format!("/v1/objects/owned:{}%2Fnote", hex(owner.public_key()));
    let data = Value::str("mine").encode();
    let code = Code::new("aso = {}");
    let content = content_hash(Some(&code.hash), &data);
    let sign = |sequence, act| {
        let statement = Statement { network: NETWORK, key: &key, sequence, act };
        OwnerClaim::of(sequence, &Ownership::sign(owner.key_pair(), Key::salt("note"), &statement))
    };
    let claim = sign(9, Act::Put { content: &content, ttl_seconds: 60, replicas: 3 });
    let body = json!({
        "data_base64": BASE64_STANDARD.encode(&data),
        "code": "aso = {}", "ttl_seconds": 60, "replicas": 3, "owner": claim,
    });
    let mut changed = body.clone();
    changed["ttl_seconds"] = json!(61);
    assert_eq!(ask(&fake, put_json(&path, changed.to_string())).await.problem(), (403, "not_owner".into()));
    changed["ttl_seconds"] = Json::Null;
    assert_eq!(ask(&fake, put_json(&path, changed.to_string())).await.problem(), (400, "invalid".into()));
    assert_eq!(ask(&fake, put_json(&path, body.to_string())).await.json()["version"]["sequence"], 9);
    let held = ask(&fake, get(&format!("{path}/inspect"))).await.json();
    assert_eq!(held["replicas"][0]["owner"], json!(hex(owner.public_key())));
    let with =
        |request: TestRequest, claim: &OwnerClaim| request.insert_header((OWNER_HEADER, claim.to_header()));
    let logs = ask(&fake, with(get(&format!("{path}/logs")), &sign(10, Act::ReadLog))).await.json();
    assert_eq!(
        logs["replicas"][0]["lines"],
        json!([{ "age_ms": 1500, "failure": true, "text": "onGet: boom" }])
    );
    let delete = || request(Method::DELETE, &path);
    let read_only = sign(10, Act::ReadLog);
    assert_eq!(ask(&fake, with(delete(), &read_only)).await.problem(), (403, "not_owner".into()));
    assert_eq!(ask(&fake, with(delete(), &sign(10, Act::Delete))).await.status, 200);
}

#[actix_web::test]
async fn a_publishers_signature_goes_with_the_code() {
    let fake = Fake::default();
    let publisher = Identity::from_seed([8; 32]);
    let publication = Publication::sign(publisher.key_pair(), NETWORK, &Code::new("aso = {}").hash);
    let mut body = json!({ "code": "aso = {}", "publication": PublicationClaim::of(&publication) });
    assert_eq!(ask(&fake, put_json("/v1/objects/k", body.to_string())).await.status, 200);
    assert_eq!(fake.state().objects[&Key::of("k")].publication, Some(publication));
    body["publication"]["signature"] = json!("00");
    let refused = ask(&fake, put_json("/v1/objects/k", body.to_string())).await;
    assert_eq!(refused.problem(), (400, "bad_publication".into()));
}

#[actix_web::test]
async fn browsers_get_nothing_and_every_response_is_marked() {
    let fake = Fake::default();
    let rebound = TestRequest::with_uri("/v1/node").insert_header(("host", "evil.example:7480"));
    assert_eq!(ask(&fake, rebound).await.problem(), (403, "bad_host".into()));
    let crossed = get("/v1/node").insert_header(("origin", "https://evil.example"));
    assert_eq!(ask(&fake, crossed).await.problem(), (403, "cross_origin".into()));
    let preflight =
        request(Method::OPTIONS, "/v1/objects/k").insert_header(("origin", "https://evil.example"));
    assert_eq!(ask(&fake, preflight).await.problem(), (403, "cross_origin".into()));
    for reply in [ask(&fake, get("/v1/node")).await, ask(&fake, get("/nowhere")).await] {
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[actix_web::test]
async fn with_a_token_only_health_is_open() {
    let fake = Fake::default();
    let config = HttpConfig { token: Some(TOKEN.to_owned()), ..HttpConfig::default() };
    for path in ["/v1/node", "/v1/objects/k", "/metrics", "/v1/limits", "/nowhere"] {
        let reply = ask_with(&fake, &config, get(path)).await;
        assert_eq!(reply.problem(), (401, "unauthorized".into()), "{path}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"comet\""));
    }
    assert_eq!(ask_with(&fake, &config, get("/healthz")).await.status, 200);
    let admitted = get("/v1/node").insert_header(("authorization", format!("Bearer {TOKEN}")));
    assert_eq!(ask_with(&fake, &config, admitted).await.status, 200);
}

#[actix_web::test]
async fn health_is_what_the_node_says() {
    let fake = Fake::default();
    assert_eq!(ask(&fake, get("/healthz")).await.json(), json!({ "status": "healthy" }));
    fake.state().ailment = Some("no good peers".into());
    let ill = ask(&fake, get("/healthz")).await;
    assert_eq!(ill.problem(), (503, "unhealthy".into()));
    assert_eq!(ill.json()["detail"], "no good peers");
}

#[actix_web::test]
async fn the_node_and_its_limits_are_documents_and_metrics_are_text_without_keys() {
    let fake = Fake::default();
    assert_eq!(ask(&fake, get("/v1/node")).await.json()["network"], NETWORK);
    let limits = ask(&fake, get("/v1/limits")).await.json();
    assert_eq!(limits["limits"]["value_bytes"], 65_536);
    assert_eq!(limits["replication"]["replicas"], 8);
    ask(&fake, put_json("/v1/objects/secret", "{}")).await;
    let metrics = ask(&fake, get("/metrics")).await;
    let text = std::str::from_utf8(&metrics.body).expect("metrics are text");
    assert!(text.starts_with("# HELP comet_peers "), "{text}");
    assert!(!text.contains("secret") && !text.contains(&Key::of("secret").to_string()), "{text}");
}

#[actix_web::test]
async fn off_loopback_nothing_is_served_without_a_token() {
    let config = HttpConfig { listen: "0.0.0.0:0".parse().unwrap(), ..HttpConfig::default() };
    let refused = serve(&config, &Limits::default(), &ReplicationConfig::default(), Fake::default());
    assert!(matches!(refused.map(drop), Err(ServeError::NoToken { .. })));
}

#[actix_web::test]
async fn a_port_in_use_is_said_to_be() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let addr = taken.local_addr().expect("it is bound");
    let config = HttpConfig { listen: addr, ..HttpConfig::default() };
    let refused = serve(&config, &Limits::default(), &ReplicationConfig::default(), Fake::default());
    let error = refused.map(drop).expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("the HTTP address {addr} is in use; choose another with --http"));
}

#[actix_web::test]
async fn a_put_under_a_condition_replaces_what_a_get_has_shown_and_nothing_else() {
    let fake = Fake::default();
    let put = |value: i64| put_json("/v1/objects/n", json!({ "value": value }).to_string());
    let first = ask(&fake, put(1).insert_header(("if-none-match", "*"))).await;
    let tag = ask(&fake, get("/v1/objects/n")).await.header("etag").expect("a tag").to_owned();
    assert_eq!((first.status, first.header("etag")), (200, Some(&*tag)));
    let raw = ask(&fake, get("/v1/objects/n").insert_header(("accept", "application/octet-stream"))).await;
    assert_eq!(raw.problem().0, 406, "a number has no raw form");
    let again = ask(&fake, put(2).insert_header(("if-none-match", "*"))).await;
    assert_eq!(again.problem(), (412, "conflict".into()));
    let held = again.json()["held"].clone();
    assert_eq!(tag, format!("\"{}-{}\"", held["sequence"], held["hash"].as_str().expect("a hash")));
    assert_eq!(ask(&fake, put(2).insert_header(("if-match", tag.clone()))).await.status, 200);
    let outdated = ask(&fake, put(3).insert_header(("if-match", tag))).await;
    assert_eq!(outdated.problem(), (412, "conflict".into()));
    let unreadable = ask(&fake, put(3).insert_header(("if-match", "*"))).await;
    assert_eq!(unreadable.problem(), (400, "bad_condition".into()));
    assert_eq!(ask(&fake, get("/v1/objects/n")).await.json()["value"], 2);
    assert_eq!(ask(&fake, put(3)).await.status, 200, "the control: without a condition");
}
