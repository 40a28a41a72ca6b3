//! Who may speak to the HTTP interface.
//!
//! A node listens on the loopback of a machine on which a browser runs, too. A page that the browser shows
//! can send requests there, either straight (cross-site request) or after pointing its own name at
//! 127.0.0.1 (DNS rebinding). So a request must name the node by an allowed host, must not come from another
//! origin, and carries the token if one is set. No CORS header is ever sent.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::{
    StatusCode, Uri,
    header::{self, HeaderMap, HeaderValue},
    uri::Authority,
};

use super::Problem;
use crate::{config::HttpConfig, secret::Secret};

/// The rules for incoming requests.
#[derive(Clone)]
pub struct Guard {
    listen: SocketAddr,
    allowed_hosts: Vec<String>,
    pub(super) secret: Secret,
}

impl Guard {
    /// The rules of a configuration.
    pub fn new(config: &HttpConfig) -> Self {
        Self {
            listen: config.listen,
            allowed_hosts: config.allowed_hosts.iter().map(|host| normal(host)).collect(),
            secret: Secret::new(config.token.as_deref()),
        }
    }

    /// Refuses a request that a browser was made to send: by its `Host`, `Origin` or `Sec-Fetch-Site`.
    pub fn check_origin(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |code, detail: String| Err(Problem::new(StatusCode::FORBIDDEN, code, detail));
        let mut hosts = headers.get_all(header::HOST);
        let host = match (hosts.next().map(|host| host.to_str()), hosts.next()) {
            (Some(Ok(host)), None) => host,
            _ => return forbidden("bad_host", "the request wants one Host header".to_owned()),
        };
        for named in [Some(host), uri.authority().map(Authority::as_str)].into_iter().flatten() {
            if !self.allows_host(named) {
                let detail = "this node does not answer under that host name; add it to http.allowed_hosts";
                return forbidden("bad_host", detail.to_owned());
            }
        }
        let foreign = "requests from pages of other origins are refused".to_owned();
        for origin in headers.get_all(header::ORIGIN) {
            let own = origin.to_str().ok().and_then(|origin| {
                origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
            });
            if !own.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
                return forbidden("cross_origin", foreign);
            }
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(_) => forbidden("cross_origin", foreign),
        }
    }

    /// As [`Guard::check_token`], and a refusal waits for its turn. The right token never waits.
    pub(super) async fn admit_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let checked = self.check_token(headers);
        if checked.is_err() {
            self.secret.hold_up().await;
        }
        checked
    }

    /// Refuses a request without the token, if there is one.
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.secret.is_set() {
            return Ok(());
        }
        let unauthorized = |detail| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        let sent = headers.get(header::AUTHORIZATION).and_then(|sent| sent.to_str().ok());
        let token = sent
            .and_then(bearer)
            .ok_or_else(|| unauthorized("this node wants the header Authorization: Bearer <token>"))?;
        if self.secret.is(token.as_bytes()) {
            Ok(())
        } else {
            Err(unauthorized("the token is not the one of this node"))
        }
    }

    fn allows_host(&self, host_and_port: &str) -> bool {
        let host = normal(without_port(host_and_port));
        if host == "localhost" || self.allowed_hosts.contains(&host) {
            return true;
        }
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback() || ip.to_canonical() == self.listen.ip().to_canonical(),
            Err(_) => false,
        }
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// `host` of `host:port`, `[v6]` of `[v6]:port`; anything odd stays whole and is then no allowed host.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Lower case and without the root's dot.
fn normal(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn guard() -> Guard {
        let config = HttpConfig {
            listen: "192.0.2.7:7480".parse().unwrap(),
            allowed_hosts: vec!["Comet.Example".to_owned()],
            token: Some("correct-horse-battery-staple-0123".to_owned()),
            ..HttpConfig::default()
        };
        Guard::new(&config)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn verdict(pairs: &[(&'static str, &str)]) -> Result<(), String> {
        guard().check_origin(&Uri::from_static("/v1/node"), &headers(pairs)).map_err(|problem| problem.code)
    }

    #[test]
    fn loopback_the_own_address_and_configured_names_are_allowed_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:7480",
            "localhost.",
            "127.0.0.1:7480",
            "127.9.9.9",
            "[::1]:7480",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:7480",
            "comet.example",
            "COMET.example:1",
        ] {
            assert_eq!(verdict(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn any_other_host_is_refused_and_so_is_none_or_two() {
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "0.0.0.0",
            "evil@localhost",
            "localhost:80@evil.example",
            "2130706433",
            "[::2]",
        ] {
            assert_eq!(verdict(&[("host", host)]), Err("bad_host".to_owned()), "{host}");
        }
        assert_eq!(verdict(&[]), Err("bad_host".to_owned()));
        assert_eq!(verdict(&[("host", "localhost"), ("host", "localhost")]), Err("bad_host".to_owned()));
    }

    #[test]
    fn an_absolute_target_counts_as_a_host() {
        let uri = Uri::from_static("http://evil.example/v1/node");
        let refused = guard().check_origin(&uri, &headers(&[("host", "localhost")]));
        assert_eq!(refused.map_err(|problem| problem.code), Err("bad_host".to_owned()));
    }

    #[test]
    fn only_the_own_origin_may_send_requests() {
        let from = |origin: &str| verdict(&[("host", "localhost:7480"), ("origin", origin)]);
        assert_eq!(from("http://localhost:7480"), Ok(()));
        for origin in
            ["null", "http://localhost:3000", "https://evil.example", "file://", "http://localhost:7480.evil"]
        {
            assert_eq!(from(origin), Err("cross_origin".to_owned()), "{origin}");
        }
        let site = |site: &str| verdict(&[("host", "localhost"), ("sec-fetch-site", site)]);
        assert_eq!(site("none"), Ok(()));
        assert_eq!(site("same-origin"), Ok(()));
        assert_eq!(site("same-site"), Err("cross_origin".to_owned()));
        assert_eq!(site("cross-site"), Err("cross_origin".to_owned()));
    }

    #[test]
    fn only_the_right_token_passes() {
        let sent = |header: &str| guard().check_token(&headers(&[("authorization", header)])).is_ok();
        assert!(sent("Bearer correct-horse-battery-staple-0123"));
        assert!(sent("bearer correct-horse-battery-staple-0123"));
        for wrong in [
            "correct-horse-battery-staple-0123",
            "Basic correct-horse-battery-staple-0123",
            "Bearer correct-horse-battery-staple-0124",
            "Bearer correct-horse-battery-staple-012",
            "Bearer ",
        ] {
            assert!(!sent(wrong), "{wrong}");
        }
        assert_eq!(guard().check_token(&headers(&[])).map_err(|problem| problem.status), Err(401));
    }

    /// When three wrong tokens and the right one are answered that all come at once, to guards that share a node or not.
    fn answered_ms(guards: [Guard; 4]) -> Vec<u128> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime on one thread");
        runtime.block_on(async {
            let began = tokio::time::Instant::now();
            let tokens = ["a", "b", "c", "correct-horse-battery-staple-0123"];
            let answers = guards.into_iter().zip(tokens).map(|(guard, token)| async move {
                let sent = headers(&[("authorization", &format!("Bearer {token}"))]);
                assert_eq!(guard.admit_token(&sent).await.is_ok(), token.len() > 1);
                began.elapsed().as_millis()
            });
            futures_util::future::join_all(answers).await
        })
    }

    #[test]
    fn wrong_tokens_are_answered_one_after_the_other_and_the_right_one_at_once() {
        let one = guard();
        assert_eq!(answered_ms([one.clone(), one.clone(), one.clone(), one]), [250, 500, 750, 0]);
        let apart = [guard(), guard(), guard(), guard()];
        assert_eq!(answered_ms(apart), [250, 250, 250, 0], "the control: a pause for each on its own");
    }

    #[test]
    fn without_a_configured_token_none_is_asked_for() {
        assert_eq!(Guard::new(&HttpConfig::default()).check_token(&headers(&[])), Ok(()));
    }
}
