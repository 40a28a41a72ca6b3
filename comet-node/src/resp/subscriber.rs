//! A connection's ears: when its topics are asked, and the questions that are under way.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use comet_apps::{AppError, News, Publisher, Topic};
use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Get, Read},
};
use comet_store::Version;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    Front,
    channels::{Channels, Heard, Question},
    reply::Reply,
};
use crate::http::Backend;

/// How often a topic is asked for what was published through other nodes.
const POLL: Duration = Duration::from_secs(1);

/// What a topic answered, and on which channel.
pub(super) type Told = (Bytes, Option<(Version, News)>);

/// A connection's channels, and the questions to them that are under way.
pub(super) struct Subscriber<F: Future<Output = Told>> {
    pub(super) channels: Channels,
    asking: FuturesUnordered<F>,
    bell: broadcast::Receiver<Key>,
    poll: Interval,
}

impl<F: Future<Output = Told>> Subscriber<F> {
    pub(super) fn new(bell: broadcast::Receiver<Key>) -> Self {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { channels: Channels::default(), asking: FuturesUnordered::new(), bell, poll }
    }

    /// Waits until there is something to hear. May be given up at any time: nothing is lost.
    pub(super) async fn hear(&mut self, ask: impl Fn(Question) -> F) -> Vec<Reply> {
        loop {
            self.asking.extend(self.channels.questions().into_iter().map(&ask));
            tokio::select! {
                rung = self.bell.recv() => match rung {
                    Ok(key) => self.channels.ring(Some(key)),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => self.channels.ring(None),
                },
                Some((name, news)) = self.asking.next() => {
                    let heard = self.channels.answer(&name, news);
                    if !heard.is_empty() {
                        return heard;
                    }
                }
                _ = self.poll.tick() => self.channels.ring(None),
            }
        }
    }
}

/// Asks a topic for what came after the last message that is known.
pub(super) async fn ask<B: Backend>(front: Rc<Front<B>>, question: Question) -> Told {
    let Question { name, key, after } = question;
    let told = news(&front.backend, key, Some(after)).await;
    (name, told.inspect_err(|error| log::debug!("a topic was not heard: {error}")).ok())
}

/// From where on a topic is to be heard: from its beginning if there is none yet.
pub(super) async fn newest<B: Backend>(backend: &B, key: Key) -> Result<Heard, Reply> {
    match news(backend, key, None).await {
        Ok((version, news)) => Ok(Heard { version: Some(version), last: news.last }),
        Err(AppError::Refused(Refusal::NotFound)) => Ok(Heard::default()),
        Err(error) => Err(refused(error)),
    }
}

/// What a topic tells, and which put made it.
async fn news<B: Backend>(backend: &B, key: Key, after: Option<i64>) -> Result<(Version, News), AppError> {
    let payload = Some(Topic::question(after));
    let report = backend.get(Get { key, payload, read: Read::First, deadline: None }).await?;
    let answer = report.answers.into_iter().next().ok_or(Refusal::NotFound)?;
    match News::decode(&answer.value) {
        Some(news) => Ok((answer.version, news)),
        None => Err(AppError::Unexpected(answer.value)),
    }
}

/// Publishes, after making the topic if there is none; how many listen through this node.
pub(super) async fn publish<B: Backend>(front: &Front<B>, key: Key, message: Bytes) -> Reply {
    let (topic, message) = (Topic::at(key), Value::Str(message));
    let published = match topic.publish(&front.backend, message.clone()).await {
        Err(AppError::Refused(Refusal::NotFound)) => {
            match topic.create(&front.backend, Publisher::Anyone).await {
                // Somebody else made it at the same time.
                Ok(_) | Err(Refusal::Refused(_)) => topic.publish(&front.backend, message).await,
                Err(refusal) => Err(refusal.into()),
            }
        }
        published => published,
    };
    match published {
        Ok(_) => Reply::Int(i64::try_from(front.hub.ring(key)).unwrap_or(i64::MAX)),
        Err(error) => refused(error),
    }
}

fn refused(error: AppError) -> Reply {
    match error {
        AppError::Refused(refusal) => Reply::refusal(&refusal),
        AppError::Declined(reason) => Reply::error(format!("REFUSED {reason}")),
        AppError::Unexpected(_) => Reply::error("WRONGTYPE what is stored under this name is not a topic"),
    }
}
