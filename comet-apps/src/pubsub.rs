//! Publish and subscribe (paper, section 5: peer-to-peer Twitter): a topic numbers its messages, keeps the
//! latest sixteen, and pushes them to its subscribers.
//!
//! An object may put once to a node that contacted it, so a subscription is good for one push. A subscriber
//! asks again after each push, and every so often in any case; each question says which message is the last
//! that it has, and the answer brings the later ones. So each message arrives at least once, by push or by
//! answer, as long as the subscriber comes back before sixteen more are published; the message's number tells
//! duplicates. The topic says who has not been reached.
//!
//! A publication sets off at most 16 messages; the rest of a topic's 200 subscribers follow at its ticks,
//! once a minute. Subscriptions belong to the replica that was asked, usually the nearest to the key.

use std::time::Duration;

use comet_routing::{Contact, Key};
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, PutReport},
};

use crate::{
    App, AppError, Setting,
    client::{ask, ask_all, seconds_of, update, with_settings},
    store,
};

pub(crate) const APP: App = App {
    name: "pubsub",
    summary: "numbers messages, pushes them to subscribers, and says who was not reached",
    source: include_str!("../aso/pubsub.lua"),
    settings: &[Setting {
        name: "publisher",
        meaning: "who publishes: anyone, or the owner of an owned key",
        default: Some("anyone"),
    }],
};

/// A topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    key: Key,
}

/// Who publishes to a [`Topic`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Publisher {
    /// Everybody.
    #[default]
    Anyone,
    /// The owner of the topic's key.
    Owner,
}

/// A message of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its number: later messages have higher ones.
    pub number: i64,
    /// What was published.
    pub value: Value,
}

/// What a topic tells a subscriber, in an answer or in a push.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// The number of the newest message; what the next question says it has.
    pub last: i64,
    /// The messages that the subscriber lacked, oldest first.
    pub messages: Vec<Message>,
    /// How many it lacked that the topic has forgotten.
    pub forgotten: i64,
    /// Seconds for which the subscription holds; `None` in a push, and if none was asked for.
    pub granted_seconds: Option<i64>,
}

/// Whom one replica has reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Reached {
    /// The number of its newest message.
    pub last: i64,
    /// How many have subscribed there.
    pub subscribers: i64,
    /// Those of them that are not known to have the newest message.
    pub unreached: Vec<Unreached>,
}

/// A subscriber that is not known to have the newest message.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreached {
    /// Through which node it subscribed, with as much of its address as the replica's operator shows.
    pub node: Contact,
    /// Its callback key.
    pub key: Key,
    /// The last message that it is known to have.
    pub after: i64,
    /// How often it can still be pushed to before it asks again.
    pub rights: i64,
}

impl Topic {
    /// The topic at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores the topic without a message.
    pub async fn create(&self, dht: &impl Dht, publisher: Publisher) -> Result<PutReport, Refusal> {
        let publisher = match publisher {
            Publisher::Anyone => "anyone",
            Publisher::Owner => "owner",
        };
        let value = with_settings(Value::Nil, [("publisher", publisher.into())]);
        store(dht, &APP, self.key, &value, None).await
    }

    /// Publishes a message under the number after the nearest replica's last, which is returned. A replica that
    /// has that number already, since somebody else published at the same time, takes its own next one.
    pub async fn publish(&self, dht: &impl Dht, value: Value) -> Result<i64, AppError> {
        let number = self.news(dht, None).await?.last + 1;
        let data = Value::map([("publish".into(), value), ("number".into(), number.into())]);
        update(dht, self.key, &data).await?;
        Ok(number)
    }

    /// What was published after message `after`; with `None` nothing but the number of the newest.
    pub async fn news(&self, dht: &impl Dht, after: Option<i64>) -> Result<News, AppError> {
        let answer = ask(dht, self.key, Some(Self::question(after))).await?;
        News::decode(&answer).ok_or(AppError::Unexpected(answer))
    }

    /// The payload of a get that asks what was published after message `after`; with `None` nothing but the number of
    /// the newest.
    pub fn question(after: Option<i64>) -> Value {
        let after = after.map(|after| ("after".into(), after.into()));
        Value::map(after.into_iter().chain([("news".into(), true.into())]))
    }

    /// The payload of a get that subscribes: with it goes a callback key, at which the news is put.
    pub fn subscription(lifetime: Duration, after: Option<i64>) -> Value {
        let after = after.map(|after| ("after".into(), after.into()));
        Value::map(after.into_iter().chain([("subscribe".into(), seconds_of(lifetime))]))
    }

    /// What every replica knows of its subscribers.
    pub async fn status(&self, dht: &impl Dht) -> Result<Vec<Reached>, AppError> {
        let answers = ask_all(dht, self.key, Some(Value::map([("status".into(), true.into())]))).await?;
        answers.into_iter().map(|answer| reached(&answer).ok_or(AppError::Unexpected(answer))).collect()
    }
}

impl News {
    /// Reads the answer to a subscription, or what was put at its callback key.
    pub fn decode(value: &Value) -> Option<Self> {
        let Value::List(messages) = value.field("messages")? else { return None };
        let message = |message: &Value| {
            let value = message.field("value").cloned().unwrap_or(Value::Nil);
            Some(Message { number: message.field("number")?.as_int()?, value })
        };
        Some(Self {
            last: value.field("last")?.as_int()?,
            messages: messages.iter().map(message).collect::<Option<_>>()?,
            forgotten: value.field("forgotten").and_then(Value::as_int).unwrap_or(0),
            granted_seconds: value.field("granted").and_then(Value::as_int),
        })
    }
}

fn reached(answer: &Value) -> Option<Reached> {
    let Value::List(unreached) = answer.field("unreached")? else { return None };
    let one = |who: &Value| {
        let Some(Value::Node(node)) = who.field("node") else { return None };
        Some(Unreached {
            node: *node,
            key: who.field("key")?.as_text()?.parse().ok()?,
            after: who.field("after")?.as_int()?,
            rights: who.field("rights")?.as_int()?,
        })
    };
    Some(Reached {
        last: answer.field("last")?.as_int()?,
        subscribers: answer.field("subscribers")?.as_int()?,
        unreached: unreached.iter().map(one).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests;
