//! Several behaviours in one object: a library of handlers, not a second mechanism in the node.
//!
//! [`compose`] writes the applications' sources one after the other into one script. They share the object's
//! state, so they must not use fields of the same name, and the value `{ value = …, name = setting, … }` that has
//! the settings of all. `aso/compose.lua` says how their answers combine:
//!
//! | handler | rule |
//! |---|---|
//! | `onGet` | in order; while the answer is the value itself the next one is asked, any other answer is the reply |
//! | `onPut`, `onDelete` | in order; the first refusal is the answer |
//! | `onUpdate` | in order; the first refusal is the answer; the incoming object is taken if all that have the handler say so |
//! | `onTimer` | each at its own interval, all at the first tick; the object's timer is the shortest interval |
//! | `deleteSelf` | by one of them deletes the object |
//!
//! So the order says what guards what: a log before a password notes every attempt, and one after it those that
//! succeeded; a one-time value comes last, since what it gives out is gone. What one application wants to hear in a
//! payload has to get past those before it. Only applications with settings compose: those that take a value
//! as it is would see, and give away, the settings of the others.

use std::collections::BTreeSet;

use comet_routing::Key;
use comet_runtime::{
    Limits, Refusal, Value,
    dht::{Dht, Expected, Put, PutReport},
};
use comet_store::Code;

use crate::{App, Setting, client::with_settings};

const FRAME: &str = include_str!("../aso/compose.lua");

/// The line of [`FRAME`] in whose place the behaviours go.
const BEHAVIOURS: &str = "-- behaviours\n";

/// Fields that the node reads, and the value, which all behaviours share.
const SHARED: [&str; 5] = ["value", "timer", "replicas", "durable", "ttl"];

/// An object with several behaviours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composition {
    /// The handlers.
    pub source: String,
    /// What can be said about the value when it is put: the settings of all, in order.
    pub settings: Vec<Setting>,
}

/// Why applications do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// It takes a value as it is.
    #[error("{0} has no settings and cannot share its value with others")]
    Alone(&'static str),
    /// Two use one name for a field of the state or for a setting; one application that is listed twice does.
    #[error("{second} and an application before it both use the name {name}")]
    Clash {
        /// The later of the two.
        second: &'static str,
        /// The name.
        name: String,
    },
    /// The script is larger than an object's may be.
    #[error("together they have {bytes} bytes and the limit is {limit}")]
    TooLarge {
        /// Bytes of the script.
        bytes: usize,
        /// What an object's script may have.
        limit: usize,
    },
}

/// Puts applications together, in this order.
pub fn compose(apps: &[&App]) -> Result<Composition, ComposeError> {
    let mut names = BTreeSet::new();
    let mut settings = Vec::new();
    let mut behaviours = String::new();
    for app in apps {
        if app.settings.is_empty() {
            return Err(ComposeError::Alone(app.name));
        }
        let own: BTreeSet<_> =
            fields(app.source).chain(app.settings.iter().map(|setting| setting.name)).collect();
        if let Some(name) = own.iter().find(|name| names.contains(*name)) {
            return Err(ComposeError::Clash { second: app.name, name: (*name).to_owned() });
        }
        names.extend(own);
        settings.extend_from_slice(app.settings);
        behaviours.push_str(&format!("do -- {}\n{}end\nadopt()\n", app.name, app.source));
    }
    let source = FRAME.replacen(BEHAVIOURS, &behaviours, 1);
    let (bytes, limit) = (source.len(), Limits::default().code_bytes);
    if bytes > limit {
        return Err(ComposeError::TooLarge { bytes, limit });
    }
    Ok(Composition { source, settings })
}

impl Composition {
    /// Stores a value with its settings.
    pub async fn create<'a>(
        &self,
        dht: &impl Dht,
        key: Key,
        value: Value,
        settings: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<PutReport, Refusal> {
        dht.put(Put {
            key,
            data: with_settings(value, settings).encode(),
            code: Some(Code::new(self.source.as_str())),
            publication: None,
            ttl: None,
            replicas: None,
            owner: None,
            expected: Expected::Any,
            deadline: None,
        })
        .await
    }
}

/// The fields of the state that a script uses, as far as it names them `self.name` or `aso.name`.
fn fields(source: &str) -> impl Iterator<Item = &str> {
    let after = ["self.", "aso."].into_iter().flat_map(|table| source.split(table).skip(1));
    let name = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    after.map(move |text| &text[..name(text)]).filter(|name| !name.is_empty() && !SHARED.contains(name))
}

#[cfg(test)]
mod tests;
