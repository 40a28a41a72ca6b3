//! The commands there are, and what COMMAND says of them.

use super::{Command, CommandError, Rules, objects};
use crate::resp::{reply::Reply, request::Words};

/// A command.
pub struct Entry {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Words that it takes, its name included; if negative, at least so many.
    pub arity: i64,
    /// What Redis calls its flags.
    pub flags: &'static [&'static str],
    /// Which of its words are keys: the first, the last (from the end if negative), and the step between two.
    pub keys: (i64, i64, i64),
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// Reads its arguments.
    pub(super) read: fn(&Words, &Rules) -> Result<Command, CommandError>,
}

impl Entry {
    /// True if the command can have so many words.
    pub fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        if self.arity < 0 { words >= self.arity.saturating_neg() } else { words == self.arity }
    }

    /// The ten fields in which Redis describes a command.
    fn to_reply(&self) -> Reply {
        let (first, last, step) = self.keys;
        Reply::List(vec![
            Reply::text(self.name),
            Reply::Int(self.arity),
            Reply::List(self.flags.iter().map(|flag| Reply::Simple(flag)).collect()),
            Reply::Int(first),
            Reply::Int(last),
            Reply::Int(step),
            Reply::List(Vec::new()),
            Reply::List(Vec::new()),
            Reply::List(Vec::new()),
            Reply::List(Vec::new()),
        ])
    }

    fn to_docs(&self) -> Reply {
        Reply::Map(vec![
            (Reply::text("summary"), Reply::text(self.summary)),
            (Reply::text("since"), Reply::text("1.0.0")),
            (Reply::text("group"), Reply::text("generic")),
        ])
    }
}

const NO_KEYS: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// Every command; the ones that are used most come first, since a name is looked up from the top.
#[rustfmt::skip]
pub static TABLE: &[Entry] = &[
    Entry { name: "get", arity: 2, flags: &["readonly", "fast"], keys: ONE_KEY, summary: "Reads a value as text or bytes", read: objects::get },
    Entry { name: "set", arity: -3, flags: &["write"], keys: ONE_KEY, summary: "Stores a plain value", read: objects::set },
    Entry { name: "comet.get", arity: -2, flags: &["readonly"], keys: ONE_KEY, summary: "Reads an object, with a payload for its onGet", read: objects::perform },
    Entry { name: "comet.put", arity: -3, flags: &["write"], keys: ONE_KEY, summary: "Stores an object with handlers", read: objects::put },
    Entry { name: "comet.inspect", arity: 2, flags: &["readonly"], keys: ONE_KEY, summary: "Shows what each replica holds of an object", read: objects::inspect },
    Entry { name: "mget", arity: -2, flags: &["readonly", "fast"], keys: ALL_KEYS, summary: "Reads several values", read: objects::get_many },
    Entry { name: "mset", arity: -3, flags: &["write"], keys: (1, -1, 2), summary: "Stores several plain values, each on its own", read: objects::set_many },
    Entry { name: "del", arity: -2, flags: &["write"], keys: ALL_KEYS, summary: "Deletes objects", read: objects::delete },
    Entry { name: "unlink", arity: -2, flags: &["write"], keys: ALL_KEYS, summary: "Deletes objects", read: objects::delete },
    Entry { name: "exists", arity: -2, flags: &["readonly"], keys: ALL_KEYS, summary: "Counts objects that exist", read: objects::exists },
    Entry { name: "ttl", arity: 2, flags: &["readonly"], keys: ONE_KEY, summary: "Says how long an object will live, in seconds", read: objects::ttl },
    Entry { name: "pttl", arity: 2, flags: &["readonly"], keys: ONE_KEY, summary: "Says how long an object will live, in milliseconds", read: objects::ttl_ms },
    Entry { name: "publish", arity: 3, flags: &["pubsub", "fast"], keys: NO_KEYS, summary: "Publishes a message on a channel", read: objects::publish },
    Entry { name: "subscribe", arity: -2, flags: &["pubsub", "noscript"], keys: NO_KEYS, summary: "Listens to channels", read: objects::subscribe },
    Entry { name: "unsubscribe", arity: -1, flags: &["pubsub", "noscript"], keys: NO_KEYS, summary: "Listens no longer", read: objects::unsubscribe },
    Entry { name: "ping", arity: -1, flags: &["fast"], keys: NO_KEYS, summary: "Answers PONG, or what was sent", read: super::ping },
    Entry { name: "echo", arity: 2, flags: &["fast"], keys: NO_KEYS, summary: "Answers what was sent", read: super::echo },
    Entry { name: "hello", arity: -1, flags: &["noscript", "fast", "no_auth"], keys: NO_KEYS, summary: "Chooses the version of the protocol", read: super::hello },
    Entry { name: "auth", arity: -2, flags: &["noscript", "fast", "no_auth"], keys: NO_KEYS, summary: "Shows the token", read: super::auth },
    Entry { name: "select", arity: 2, flags: &["fast"], keys: NO_KEYS, summary: "Agrees to database 0", read: super::select },
    Entry { name: "info", arity: -1, flags: &["loading", "stale"], keys: NO_KEYS, summary: "Describes the node", read: super::info },
    Entry { name: "command", arity: -1, flags: &["loading", "stale"], keys: NO_KEYS, summary: "Describes the commands", read: command },
    Entry { name: "client", arity: -2, flags: &["noscript"], keys: NO_KEYS, summary: "Describes the connection", read: super::client },
    Entry { name: "quit", arity: -1, flags: &["fast", "no_auth"], keys: NO_KEYS, summary: "Closes the connection", read: super::quit },
];

/// The command of this name, in any case.
pub(super) fn entry(name: &[u8]) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name.as_bytes().eq_ignore_ascii_case(name))
}

/// What COMMAND is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Everything.
    All,
    /// COUNT
    Count,
    /// LIST
    Names,
    /// INFO, of these names, or of all.
    Some(Vec<String>),
    /// DOCS, of these names, or of all.
    Docs(Vec<String>),
}

impl Question {
    /// The answer.
    pub fn answer(&self) -> Reply {
        match self {
            Self::All => Reply::List(TABLE.iter().map(Entry::to_reply).collect()),
            Self::Count => Reply::Int(i64::try_from(TABLE.len()).unwrap_or(i64::MAX)),
            Self::Names => Reply::List(TABLE.iter().map(|entry| Reply::text(entry.name)).collect()),
            Self::Some(names) if names.is_empty() => Self::All.answer(),
            Self::Some(names) => {
                let known = |name: &String| entry(name.as_bytes()).map_or(Reply::Null, Entry::to_reply);
                Reply::List(names.iter().map(known).collect())
            }
            Self::Docs(names) => {
                let asked = |entry: &&Entry| names.is_empty() || names.iter().any(|name| name == entry.name);
                let docs = TABLE.iter().filter(asked);
                Reply::Map(docs.map(|entry| (Reply::text(entry.name), entry.to_docs())).collect())
            }
        }
    }
}

fn command(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    let names = || words.from(2).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
    let question = match words.word(1).to_ascii_lowercase().as_slice() {
        b"" => Question::All,
        b"count" => Question::Count,
        b"list" => Question::Names,
        b"info" => Question::Some(names()),
        b"docs" => Question::Docs(names()),
        _ => {
            let name = super::shortened(words.word(1));
            return Err(CommandError::UnknownSubcommand { name, of: "COMMAND" });
        }
    };
    Ok(Command::Commands(question))
}
