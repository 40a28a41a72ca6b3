//! Reference applications: active objects to reuse, each a short Lua file with a typed client beside it.
//!
//! A client is written against [`Dht`], so it runs over a node in process as well as
//! over the fake swarm of [`comet_runtime::testing`].

mod access_log;
mod client;
mod compose;
mod counter;
mod flexible_timeout;
mod lifetimes;
mod monitor;
#[cfg(test)]
mod odd_input;
mod one_time;
mod one_time_fast;
mod password;
mod pubsub;
mod recursive_get;
mod replication;
#[cfg(test)]
mod sizes;
mod tracker;
mod tree_pubsub;

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Get, Put, PutReport, Read},
};
use comet_store::{Code, Publication};
use ring::signature::Ed25519KeyPair;

pub use access_log::{AccessLog, Act, Entry, LogKey};
pub use compose::{ComposeError, Composition, compose};
pub use counter::{Count, Counter};
pub use flexible_timeout::FlexibleTimeout;
pub use lifetimes::{Lifetime, Lifetimes};
pub use monitor::{Monitor, Sightings};
pub use one_time::OneTime;
pub use one_time_fast::OneTimeFast;
pub use password::{Challenge, Password};
pub use pubsub::{Message, News, Publisher, Reached, Topic, Unreached};
pub use recursive_get::{Found, RecursiveGet};
pub use replication::{Policy, Replication};
pub use tracker::{Announce, AnnounceEvent, Introduction, PeerIds, Scrape, Tracker};
pub use tree_pubsub::TreeTopic;

/// A reference application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Its handlers.
    pub source: &'static str,
    /// What can be said about the value when it is put. If there is anything, the object is put as the map
    /// `{ value = …, name = setting, … }`, else as the value itself.
    pub settings: &'static [Setting],
}

/// Something that can be said about a value when it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the map that is put.
    pub name: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// What holds where it is not said; `None` if it must be.
    pub default: Option<&'static str>,
}

impl App {
    /// A publisher's signature under the handlers, for one network. Nodes whose operators trust the publisher let
    /// objects that are put with it address any key.
    pub fn sign(&self, publisher: &Ed25519KeyPair, network: &str) -> Publication {
        Publication::sign(publisher, network, &Code::new(self.source).hash)
    }
}

/// Every application that ships with Comet, by name.
pub const APPS: &[App] = &[
    access_log::APP,
    counter::APP,
    flexible_timeout::APP,
    lifetimes::APP,
    monitor::APP,
    one_time::APP,
    one_time_fast::APP,
    password::APP,
    pubsub::APP,
    recursive_get::APP,
    replication::APP,
    tracker::APP,
    tree_pubsub::APP,
];

/// The application with this name.
pub fn find(name: &str) -> Option<&'static App> {
    APPS.iter().find(|app| app.name == name)
}

/// What a typed client got instead of what it wanted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AppError {
    /// The swarm did not do it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The object answered `{ refused = reason }`: the reader has no right, or not now.
    #[error("the object declined: {0}")]
    Declined(String),
    /// The object's answer is not one that this application gives; it may be another kind of object.
    #[error("the object answered {0:?}, which this application never does")]
    Unexpected(Value),
}

async fn store(
    dht: &impl Dht,
    app: &App,
    key: Key,
    value: &Value,
    ttl: Option<Duration>,
) -> Result<PutReport, Refusal> {
    store_published(dht, app, None, key, value, ttl).await
}

async fn store_published(
    dht: &impl Dht,
    app: &App,
    publication: Option<Publication>,
    key: Key,
    value: &Value,
    ttl: Option<Duration>,
) -> Result<PutReport, Refusal> {
    let code = Some(Code::new(app.source));
    let put = Put {
        key,
        data: value.encode(),
        code,
        publication,
        ttl,
        replicas: None,
        owner: None,
        expected: Expected::Any,
        deadline: None,
    };
    dht.put(put).await
}

async fn read(dht: &impl Dht, key: Key) -> Result<Value, Refusal> {
    let report = dht.get(Get { key, payload: None, read: Read::First, deadline: None }).await?;
    Ok(report.answers.into_iter().next().map_or(Value::Nil, |answer| answer.value))
}

/// A read of an object that shows its value for a while only: `None` once it shows none or is gone.
async fn read_if_any(dht: &impl Dht, key: Key) -> Result<Option<Value>, AppError> {
    match read(dht, key).await {
        Ok(Value::Nil) | Err(Refusal::NotFound) => Ok(None),
        Ok(value) => Ok(Some(value)),
        Err(refusal) => Err(refusal.into()),
    }
}
