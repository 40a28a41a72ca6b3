//! Commands: what the words of a request ask for, or why they ask for nothing.
//!
//! One [`TABLE`] has every command with its arity, its flags and the function that reads its arguments; the answers to
//! COMMAND and the errors come from it, too. Nothing here waits or knows a connection.

mod objects;
mod table;

use bytes::Bytes;
use comet_routing::Key;
use comet_runtime::{Limits, Refusal, dht::Put};

use super::{
    reply::{Protocol, Reply},
    request::Words,
};
use crate::{json::JsonError, key_text::KeyTextError};

pub use table::{Question, TABLE};

/// Words of a request that are repeated in the error about an unknown command, and bytes of each.
const REPEATED_WORDS_MAX: usize = 8;
const REPEATED_BYTES_MAX: usize = 64;

/// What a request is held against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The limits of objects.
    pub limits: Limits,
    /// The longest life that the node grants, in seconds: that of a value which is set without one.
    pub ttl_seconds_max: u64,
}

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// PING, with what is to come back.
    Ping(Option<Bytes>),
    /// ECHO
    Echo(Bytes),
    /// HELLO
    Hello(Hello),
    /// AUTH, with the token.
    Auth(Bytes),
    /// SELECT 0
    Select,
    /// COMMAND
    Commands(Question),
    /// CLIENT
    Client(Client),
    /// SUBSCRIBE, with each channel's name and key.
    Subscribe(Vec<(Bytes, Key)>),
    /// UNSUBSCRIBE; from all channels if none is named.
    Unsubscribe(Vec<Bytes>),
    /// QUIT
    Quit,
    /// Something that the swarm or the node is asked.
    Ask(Ask),
}

/// HELLO: which protocol, who one is, what one is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The version of the protocol; the one that is spoken already if not named.
    pub protocol: Option<Protocol>,
    /// The token.
    pub token: Option<Bytes>,
    /// The name of the connection.
    pub name: Option<Bytes>,
}

/// CLIENT: what a connection says and asks about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// ID
    Id,
    /// GETNAME
    Name,
    /// SETNAME
    SetName(Bytes),
    /// SETINFO, LIB-NAME or LIB-VER; NO-EVICT; NO-TOUCH: agreed to and without effect.
    Accepted,
    /// LIST and INFO: the own line.
    Line,
}

/// What takes time: it is asked of the swarm or of the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// GET
    Get(Key),
    /// MGET
    GetMany(Vec<Key>),
    /// As many GETs, one after the other.
    Gets(Vec<Key>),
    /// EXISTS
    Exists(Vec<Key>),
    /// TTL and PTTL, in units of so many milliseconds.
    Ttl(Key, u64),
    /// SET, and COMET.PUT
    Put(Box<Put>),
    /// MSET
    PutMany(Vec<Put>),
    /// DEL and UNLINK
    Delete(Vec<Key>),
    /// COMET.GET
    Perform(Key, Option<Box<comet_runtime::Value>>),
    /// COMET.INSPECT
    Inspect(Key),
    /// PUBLISH
    Publish(Key, Bytes),
    /// INFO, of these sections in small letters, or of all.
    Info(Vec<String>),
    /// What has been answered already and waits for its turn.
    Answered(Reply),
    /// A wrong token: refused, after a pause.
    WrongToken,
}

/// Why a request asks for nothing. The texts are those of Redis where Redis has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such command.
    #[error("ERR unknown command '{name}', with args beginning with: {words}")]
    Unknown {
        /// Its name, as it was sent.
        name: String,
        /// The words after it.
        words: String,
    },
    /// There is no such subcommand.
    #[error("ERR unknown subcommand '{name}'. Try {of} HELP.")]
    UnknownSubcommand {
        /// Its name, as it was sent.
        name: String,
        /// The command.
        of: &'static str,
    },
    /// Too few or too many words.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// Words that the command does not know.
    #[error("ERR syntax error")]
    Syntax,
    /// A word that should be a number.
    #[error("ERR value is not an integer or out of range")]
    NotNumber,
    /// A lifetime of nothing.
    #[error("ERR invalid expire time in '{0}' command")]
    Expiry(&'static str),
    /// Another database than the first.
    #[error("ERR DB index is out of range")]
    Database,
    /// Another version of the protocol than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// The version of the protocol is no number.
    #[error("ERR Protocol version is not an integer or out of range")]
    ProtocolNumber,
    /// A name of a connection that could not be listed.
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    Name,
    /// A key that no object can have.
    #[error("ERR {0}")]
    Key(#[from] KeyTextError),
    /// A key that is not text.
    #[error("ERR the key is not UTF-8; name raw bytes as hex:<64 digits>")]
    KeyText,
    /// A payload that is no JSON.
    #[error("ERR the payload is not usable JSON: {0}")]
    Json(String),
    /// A payload that is no value.
    #[error("ERR {0}")]
    Value(#[from] JsonError),
    /// Something else than a subscriber may say in RESP2.
    #[error(
        "ERR Can't execute '{0}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    )]
    Subscriber(String),
    /// Code that is not text.
    #[error("BAD_CODE the code is not UTF-8 text")]
    CodeText,
    /// More than an object may have.
    #[error("TOO_LARGE {0}")]
    TooLarge(Refusal),
}

impl Command {
    /// True for what a connection may say in RESP2 while it listens to channels: replies to anything else could not be
    /// told from messages.
    pub fn suits_subscriber(&self) -> bool {
        matches!(self, Self::Subscribe(_) | Self::Unsubscribe(_) | Self::Ping(_) | Self::Quit)
    }
}

/// Reads a request.
pub fn parse(words: &Words, rules: &Rules) -> Result<Command, CommandError> {
    let entry = table::entry(words.word(0)).ok_or_else(|| unknown(words))?;
    if !entry.takes(words.len()) {
        return Err(CommandError::Arity(entry.name));
    }
    (entry.read)(words, rules)
}

/// The error of a command that is none for a subscriber.
pub fn unsuitable(words: &Words) -> CommandError {
    CommandError::Subscriber(shortened(words.word(0)).to_ascii_lowercase())
}

fn unknown(words: &Words) -> CommandError {
    let repeated = words.from(1).take(REPEATED_WORDS_MAX);
    let repeated = repeated.map(|word| format!("'{}' ", shortened(word))).collect();
    CommandError::Unknown { name: shortened(words.word(0)), words: repeated }
}

/// Enough of a word to recognise it in an error.
fn shortened(word: &[u8]) -> String {
    String::from_utf8_lossy(word.get(..REPEATED_BYTES_MAX).unwrap_or(word)).into_owned()
}

/// A whole number as Redis takes it.
fn number(word: &[u8]) -> Result<i64, CommandError> {
    let text = std::str::from_utf8(word).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(CommandError::NotNumber)
}

/// The name of a connection, which is printed in lists.
fn name(words: &Words, at: usize) -> Result<Bytes, CommandError> {
    let name = words.shared(at);
    let printable = name.iter().all(u8::is_ascii_graphic) && name.len() <= REPEATED_BYTES_MAX;
    // A copy: the name stays, and what came with it goes.
    if printable { Ok(Bytes::copy_from_slice(&name)) } else { Err(CommandError::Name) }
}

fn ping(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    match words.len() {
        1 => Ok(Command::Ping(None)),
        2 => Ok(Command::Ping(Some(words.shared(1)))),
        _ => Err(CommandError::Arity("ping")),
    }
}

fn echo(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Echo(words.shared(1)))
}

fn quit(_words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    Ok(Command::Quit)
}

fn info(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    let sections = words.from(1).map(|word| String::from_utf8_lossy(word).to_ascii_lowercase());
    Ok(Command::Ask(Ask::Info(sections.collect())))
}

fn select(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    if number(words.word(1))? == 0 { Ok(Command::Select) } else { Err(CommandError::Database) }
}

/// `AUTH token`, or `AUTH default token`; another user has another token, which is a wrong one.
fn auth(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    match words.len() {
        2 => Ok(Command::Auth(words.shared(1))),
        3 => Ok(Command::Auth(token_of(words, 1))),
        _ => Err(CommandError::Syntax),
    }
}

/// The token after a user's name: none, which is always wrong, for a user that does not exist.
fn token_of(words: &Words, at: usize) -> Bytes {
    if words.word(at) == b"default" { words.shared(at.saturating_add(1)) } else { Bytes::new() }
}

/// `HELLO [version [AUTH default token] [SETNAME name]]`
fn hello(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    let mut hello = Hello::default();
    if words.len() > 1 {
        hello.protocol = Some(match number(words.word(1)).map_err(|_| CommandError::ProtocolNumber)? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(CommandError::Protocol),
        });
    }
    let mut at = 2_usize;
    while at < words.len() {
        let left = words.len().saturating_sub(at);
        if words.word(at).eq_ignore_ascii_case(b"auth") && left >= 3 {
            hello.token = Some(token_of(words, at.saturating_add(1)));
            at = at.saturating_add(3);
        } else if words.word(at).eq_ignore_ascii_case(b"setname") && left >= 2 {
            hello.name = Some(name(words, at.saturating_add(1))?);
            at = at.saturating_add(2);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok(Command::Hello(hello))
}

fn client(words: &Words, _rules: &Rules) -> Result<Command, CommandError> {
    let subcommand = words.word(1).to_ascii_lowercase();
    let (client, length, arity) = match subcommand.as_slice() {
        b"id" => (Client::Id, 2, CommandError::Arity("client|id")),
        b"getname" => (Client::Name, 2, CommandError::Arity("client|getname")),
        b"info" => (Client::Line, 2, CommandError::Arity("client|info")),
        b"list" => (Client::Line, 2, CommandError::Arity("client|list")),
        b"setname" => (Client::SetName(name(words, 2)?), 3, CommandError::Arity("client|setname")),
        b"setinfo" => (Client::Accepted, 4, CommandError::Arity("client|setinfo")),
        b"no-evict" => (Client::Accepted, 3, CommandError::Arity("client|no-evict")),
        b"no-touch" => (Client::Accepted, 3, CommandError::Arity("client|no-touch")),
        _ => return Err(CommandError::UnknownSubcommand { name: shortened(words.word(1)), of: "CLIENT" }),
    };
    if words.len() == length { Ok(Command::Client(client)) } else { Err(arity) }
}

#[cfg(test)]
mod tests;
