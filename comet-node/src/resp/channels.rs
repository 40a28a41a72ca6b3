//! Which channels a connection listens to, how far it has heard each, and what it is told next.
//!
//! A channel is a topic of the application `pubsub` ([`comet_apps::Topic`]): an object that numbers its messages and keeps
//! the latest. A subscriber asks it for what came after the last message it has: every so often, and at once when
//! somebody publishes through this node.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use comet_apps::News;
use comet_routing::Key;
use comet_store::Version;
use tokio::sync::broadcast;

use super::reply::Reply;

/// Channels to which one connection may listen.
pub const CHANNELS_MAX: usize = 128;

/// Publications of which a subscriber may be behind before it asks for all its channels.
const RINGS_MAX: usize = 256;

/// Who listens through this node, over all threads.
pub struct Hub {
    bell: broadcast::Sender<Key>,
    listeners: Mutex<BTreeMap<Key, usize>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { bell: broadcast::Sender::new(RINGS_MAX), listeners: Mutex::default() }
    }
}

impl Hub {
    /// Says that something was published; how many listen to it through this node.
    pub fn ring(&self, key: Key) -> usize {
        // Nobody may listen.
        self.bell.send(key).ok();
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.get(&key).copied().unwrap_or(0)
    }

    /// Hears of every publication from now on.
    pub fn bell(&self) -> broadcast::Receiver<Key> {
        self.bell.subscribe()
    }

    fn listener(self: Arc<Self>, key: Key) -> Listener {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let count = listeners.entry(key).or_default();
        *count = count.saturating_add(1);
        drop(listeners);
        Listener { hub: self, key }
    }
}

/// Somebody who listens, until it is dropped.
struct Listener {
    hub: Arc<Hub>,
    key: Key,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.hub.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = listeners.entry(self.key) {
            *count.get_mut() = count.get().saturating_sub(1);
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// One connection's channels, by name.
#[derive(Default)]
pub struct Channels(BTreeMap<Bytes, Channel>);

struct Channel {
    listener: Listener,
    /// The last message that was passed on, or that was there before.
    heard: Heard,
    asking: Asking,
}

/// How far a topic has been heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The put that made the topic, if there is one: a topic that expired and was made anew counts from the beginning.
    pub version: Option<Version>,
    /// The number of the last message.
    pub last: i64,
}

/// Whether a topic has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    /// There may be something new.
    Due,
    /// It is being asked.
    Asked,
    /// It is being asked, and there may be something newer.
    AskedAndDue,
    /// Nothing is known to be new.
    Rest,
}

/// A question to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The channel's name.
    pub name: Bytes,
    /// The topic's key.
    pub key: Key,
    /// The last message that the subscriber has.
    pub after: i64,
}

impl Channels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<Bytes> {
        self.0.keys().cloned().collect()
    }

    /// True if a channel can be added or is there already.
    pub fn takes(&self, name: &Bytes) -> bool {
        self.0.len() < CHANNELS_MAX || self.0.contains_key(name)
    }

    /// Adds a channel that is heard from there on; returns what the client hears.
    pub fn add(&mut self, name: Bytes, key: Key, heard: Heard, hub: &Arc<Hub>) -> Reply {
        let channel = || Channel { listener: hub.clone().listener(key), heard, asking: Asking::Rest };
        self.0.entry(name.clone()).or_insert_with(channel);
        self.change("subscribe", Reply::Bulk(name))
    }

    /// Removes a channel, or says that there was none to remove; returns what the client hears.
    pub fn remove(&mut self, name: Option<Bytes>) -> Reply {
        if let Some(name) = &name {
            self.0.remove(name);
        }
        self.change("unsubscribe", name.map_or(Reply::Null, Reply::Bulk))
    }

    fn change(&self, what: &'static str, name: Reply) -> Reply {
        let count = i64::try_from(self.0.len()).unwrap_or(i64::MAX);
        Reply::Push(vec![Reply::Bulk(Bytes::from_static(what.as_bytes())), name, Reply::Int(count)])
    }

    /// Something was published at a key, or, without one, perhaps anywhere.
    pub fn ring(&mut self, key: Option<Key>) {
        for channel in self.0.values_mut() {
            if key.is_none_or(|key| key == channel.listener.key) {
                channel.asking = match channel.asking {
                    Asking::Rest | Asking::Due => Asking::Due,
                    Asking::Asked | Asking::AskedAndDue => Asking::AskedAndDue,
                };
            }
        }
    }

    /// What to ask now; each question wants to be followed by [`Channels::answer`].
    pub fn questions(&mut self) -> Vec<Question> {
        let due = self.0.iter_mut().filter(|(_, channel)| channel.asking == Asking::Due);
        let ask = |(name, channel): (&Bytes, &mut Channel)| {
            channel.asking = Asking::Asked;
            Question { name: name.clone(), key: channel.listener.key, after: channel.heard.last }
        };
        due.map(ask).collect()
    }

    /// Takes the answer to a question, with the version of the topic, or `None` if there was none; returns what the client
    /// hears.
    pub fn answer(&mut self, name: &Bytes, news: Option<(Version, News)>) -> Vec<Reply> {
        // It may have been given up meanwhile.
        let Some(channel) = self.0.get_mut(name) else { return Vec::new() };
        channel.asking = if channel.asking == Asking::AskedAndDue { Asking::Due } else { Asking::Rest };
        let Some((version, news)) = news else { return Vec::new() };
        if channel.heard.version.is_some_and(|known| known < version) {
            channel.heard = Heard { version: Some(version), last: 0 };
            // The question was put to the old one.
            channel.asking = Asking::Due;
            return Vec::new();
        }
        let after = channel.heard.last;
        // A replica that is behind has nothing to tell, and must not make the others repeat themselves.
        let version = channel.heard.version.or(Some(version));
        channel.heard = Heard { version, last: after.max(news.last) };
        let messages = news.messages.into_iter().filter(|message| message.number > after);
        let heard = messages.map(|message| {
            let word = Reply::Bulk(Bytes::from_static(b"message"));
            Reply::Push(vec![word, Reply::Bulk(name.clone()), Reply::of_plain(&message.value)])
        });
        heard.collect()
    }
}

#[cfg(test)]
mod tests {
    use comet_apps::Message;

    use super::*;

    fn name(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn made(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    fn news_of(sequence: u64, last: i64, numbers: &[i64]) -> Option<(Version, News)> {
        let message = |number: &i64| Message { number: *number, value: (*number).into() };
        let messages = numbers.iter().map(message).collect();
        Some((made(sequence), News { last, messages, forgotten: 0, granted_seconds: None }))
    }

    fn news(last: i64, numbers: &[i64]) -> Option<(Version, News)> {
        news_of(1, last, numbers)
    }

    fn heard(number: i64) -> Reply {
        Reply::Push(vec![Reply::text("message"), Reply::text("a"), Reply::text(number.to_string())])
    }

    /// One channel, `a`, that has heard five messages.
    fn channels(hub: &Arc<Hub>) -> Channels {
        let mut channels = Channels::default();
        let told = channels.add(name("a"), Key::of("a"), Heard { version: Some(made(1)), last: 5 }, hub);
        assert_eq!(told, Reply::Push(vec![Reply::text("subscribe"), Reply::text("a"), Reply::Int(1)]));
        channels
    }

    #[test]
    fn a_subscriber_hears_each_message_once_and_in_order() {
        let mut channels = channels(&Arc::default());
        assert_eq!(channels.questions(), []);
        channels.ring(None);
        assert_eq!(channels.questions(), [Question { name: name("a"), key: Key::of("a"), after: 5 }]);
        assert_eq!(channels.answer(&name("a"), news(7, &[6, 7])), [heard(6), heard(7)]);
        assert_eq!(channels.answer(&name("a"), news(7, &[6, 7])), []);
    }

    #[test]
    fn what_rings_while_a_topic_is_asked_has_it_asked_again_and_never_twice_at_once() {
        let mut channels = channels(&Arc::default());
        channels.ring(Some(Key::of("b")));
        assert_eq!(channels.questions(), []);
        channels.ring(Some(Key::of("a")));
        assert_eq!(channels.questions().len(), 1);
        channels.ring(Some(Key::of("a")));
        assert_eq!(channels.questions(), []);
        channels.answer(&name("a"), None);
        assert_eq!(channels.questions().len(), 1);
        channels.answer(&name("a"), None);
        assert_eq!(channels.questions(), []);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_heard_from_its_beginning() {
        let mut channels = channels(&Arc::default());
        assert_eq!(channels.answer(&name("a"), news_of(2, 1, &[])), []);
        assert_eq!(channels.questions().first().map(|question| question.after), Some(0));
        assert_eq!(channels.answer(&name("a"), news_of(2, 1, &[1])), [heard(1)]);
    }

    #[test]
    fn a_replica_that_is_behind_makes_nothing_be_heard_twice() {
        let mut channels = channels(&Arc::default());
        assert_eq!(channels.answer(&name("a"), news(6, &[6])), [heard(6)]);
        assert_eq!(channels.answer(&name("a"), news(4, &[])), []);
        channels.ring(None);
        assert_eq!(channels.questions().first().map(|question| question.after), Some(6));
        assert_eq!(channels.answer(&name("a"), news(7, &[7])), [heard(7)]);
    }

    #[test]
    fn whoever_publishes_hears_how_many_listen_and_those_who_left_do_not_count() {
        let hub = Arc::<Hub>::default();
        let mut bell = hub.bell();
        let (first, mut second) = (channels(&hub), channels(&hub));
        assert_eq!(hub.ring(Key::of("a")), 2);
        assert_eq!(hub.ring(Key::of("b")), 0);
        assert_eq!((bell.try_recv(), bell.try_recv()), (Ok(Key::of("a")), Ok(Key::of("b"))));
        drop(first);
        assert_eq!(hub.ring(Key::of("a")), 1);
        second.remove(Some(name("a")));
        assert_eq!(hub.ring(Key::of("a")), 0);
        assert!(hub.listeners.lock().unwrap().is_empty());
    }

    #[test]
    fn a_connection_listens_to_128_channels() {
        let (hub, mut channels) = (Arc::default(), Channels::default());
        for n in 0..CHANNELS_MAX {
            assert!(channels.takes(&name("more")));
            channels.add(n.to_string().into(), Key::of("a"), Heard::default(), &hub);
        }
        assert!(!channels.takes(&name("more")));
        assert!(channels.takes(&name("0")));
    }
}
