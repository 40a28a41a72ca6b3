//! HTTP calls to a node.

use std::{fmt, time::Duration};

use comet_runtime::dht::Expected;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use ureq::{
    Agent,
    http::{Method, Request, Response, header},
};

use super::CommandError;
use crate::{
    http::{
        PROBLEM_TYPE,
        api::{OWNER_HEADER, VersionText},
    },
    key_text::KeyText,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The largest reply that is read: twenty replicas' answers of the largest size, as JSON, and room.
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Everything in a key but the unreserved characters of a path.
const KEY_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~').remove(b':');

/// A node's HTTP interface, from outside.
pub(super) struct Client {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// A request that is to be sent.
pub(super) struct Call {
    method: Method,
    path: String,
    owner: Option<String>,
    condition: Option<(header::HeaderName, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    /// A request for a path below the node's address.
    pub(super) fn new(method: Method, path: impl fmt::Display) -> Self {
        Self { method, path: path.to_string(), owner: None, condition: None, body: None }
    }

    /// With an owner's claim in its header.
    pub(super) fn owner(self, claim: Option<String>) -> Self {
        Self { owner: claim, ..self }
    }

    /// Done only where this is held.
    pub(super) fn expecting(self, expected: Expected) -> Self {
        let condition = match expected {
            Expected::Any => None,
            Expected::Absent => Some((header::IF_NONE_MATCH, "*".to_owned())),
            Expected::Version(version) => {
                Some((header::IF_MATCH, format!("\"{}\"", VersionText::from(version))))
            }
        };
        Self { condition, ..self }
    }

    /// With a JSON body.
    pub(super) fn json(self, body: &impl Serialize) -> Result<Self, CommandError> {
        let body = serde_json::to_vec(body).map_err(|error| CommandError::Failed(error.to_string()))?;
        Ok(Self { body: Some(body), ..self })
    }
}

impl Client {
    /// A client of the node at this address.
    pub(super) fn new(url: &str, token: Option<&str>, timeout: Duration) -> Self {
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(timeout)))
            .timeout_global(Some(timeout))
            .user_agent(concat!("comet-node/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: config.new_agent(),
            url: url.trim_end_matches('/').to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// Sends a request and returns the JSON of a successful reply.
    pub(super) fn call(&self, call: Call) -> Result<Json, CommandError> {
        let mut request = Request::builder().method(call.method).uri(format!("{}{}", self.url, call.path));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(claim) = &call.owner {
            request = request.header(OWNER_HEADER, claim);
        }
        if let Some((name, value)) = call.condition {
            request = request.header(name, value);
        }
        let unusable = |error: ureq::http::Error| {
            CommandError::Usage(format!("{:?} is not an address that can be called: {error}", self.url))
        };
        let sent = match call.body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(request.body(body).map_err(unusable)?)
            }
            None => self.agent.run(request.body(()).map_err(unusable)?),
        };
        self.read(sent.map_err(|error| self.explained(error))?)
    }

    fn read(&self, mut response: Response<ureq::Body>) -> Result<Json, CommandError> {
        let status = response.status();
        let media = response.headers().get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
        let is_problem = media.is_some_and(|media| media.starts_with(PROBLEM_TYPE));
        let body = response.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.explained(error))?;
        let foreign = |reason: String| CommandError::Foreign { url: self.url.clone(), reason };
        if is_problem {
            let problem = serde_json::from_slice(&body).map_err(|error| foreign(error.to_string()))?;
            return Err(CommandError::Refused(Box::new(problem)));
        }
        if !status.is_success() {
            return Err(foreign(format!("status {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| foreign("its reply is not JSON".to_owned()))
    }

    /// A reply as its document.
    pub(super) fn document<T: DeserializeOwned>(&self, json: &Json) -> Result<T, CommandError> {
        T::deserialize(json)
            .map_err(|error| CommandError::Foreign { url: self.url.clone(), reason: error.to_string() })
    }

    fn explained(&self, error: ureq::Error) -> CommandError {
        let url = self.url.clone();
        let reason = match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                return CommandError::Usage(format!(
                    "{url:?} is not the address of a node, like http://127.0.0.1:7480"
                ));
            }
            ureq::Error::Tls(_) => "this program speaks http, not https".to_owned(),
            ureq::Error::HostNotFound => "there is no host of that name".to_owned(),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::ConnectionFailed => "no connection".to_owned(),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "nothing listens there; is it running?".to_owned()
            }
            ureq::Error::Protocol(error) => return CommandError::Foreign { url, reason: error.to_string() },
            other => other.to_string(),
        };
        CommandError::Unreachable { url, reason }
    }
}

/// The path of an object.
pub(super) fn object_path(key: &KeyText) -> String {
    format!("/v1/objects/{}", encoded(key))
}

/// A key in a path.
pub(super) fn encoded(key: &KeyText) -> String {
    utf8_percent_encode(&key.to_string(), KEY_ENCODED).to_string()
}

/// A text in a query.
pub(super) fn encoded_query(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_so_that_no_path_can_be_made_of_them() {
        for (name, path) in [
            ("user:42", "/v1/objects/user:42"),
            ("../a b", "/v1/objects/%2E%2E%2Fa%20b"),
            ("100%?#é", "/v1/objects/100%25%3F%23%C3%A9"),
        ] {
            assert_eq!(object_path(&name.parse().unwrap()), path);
        }
    }

    #[test]
    fn nobody_there_is_a_sentence_and_its_own_exit_code() {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
        let client = Client::new(&format!("127.0.0.1:{port}/"), None, Duration::from_secs(5));
        let error = client.call(Call::new(Method::GET, "/v1/node")).expect_err("the port was just closed");
        assert_eq!(error.exit_code(), 4);
        let sentence = format!(
            "cannot reach the node at http://127.0.0.1:{port}: nothing listens there; is it running?"
        );
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn an_address_that_is_none_is_wrong_usage() {
        let client = Client::new("http://", None, Duration::from_secs(5));
        let error = client.call(Call::new(Method::GET, "/v1/node")).expect_err("no host");
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
