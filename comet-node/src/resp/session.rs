//! What a connection is: which protocol it speaks, whether it has shown the token, what it is called.

use std::net::SocketAddr;

use bytes::Bytes;
use comet_routing::Key;

use super::{
    command::{Ask, Client, Command, Hello},
    reply::{Protocol, Reply},
    request::RequestLimits,
};
use crate::secret::Secret;

/// The version of Redis that programs may take the node for, since some ask.
pub const REDIS_VERSION: &str = "7.2.0";

const NO_AUTH: &str = "NOAUTH Authentication required.";

const NO_AUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
     <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
     the same time";

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
     sure your configuration is correct?";

/// What becomes of a command.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// It is answered.
    Answer(Reply),
    /// It is answered, and the connection ends.
    Farewell(Reply),
    /// It waits for the swarm or the node.
    Wait(Ask),
    /// The connection's channels change.
    Change(Change),
}

/// Whether a connection is given over to its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listens {
    /// It asks and is answered.
    No,
    /// In RESP2 a connection that listens does nothing else, and is answered in another form.
    Apart,
}

/// How a connection's channels change.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// It listens to these, too.
    Add(Vec<(Bytes, Key)>),
    /// It listens to these no longer; to none, if there are none.
    Remove(Vec<Bytes>),
}

/// One connection's state.
#[derive(Clone, Debug)]
pub struct Session {
    id: i64,
    peer: SocketAddr,
    own: SocketAddr,
    protocol: Protocol,
    trusted: Trust,
    name: Bytes,
}

/// Whether a connection may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It has shown the token, or there is none.
    Client,
    /// It has not yet.
    Stranger,
}

impl Session {
    /// A connection that has just been opened.
    pub fn new(id: i64, peer: SocketAddr, own: SocketAddr, secret: &Secret) -> Self {
        let trusted = if secret.is_set() { Trust::Stranger } else { Trust::Client };
        Self { id, peer, own, protocol: Protocol::default(), trusted, name: Bytes::new() }
    }

    /// The version of the protocol that it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// True until the token has been shown.
    pub fn is_stranger(&self) -> bool {
        self.trusted == Trust::Stranger
    }

    /// How large its requests may be.
    pub fn request_limits(&self) -> RequestLimits {
        if self.is_stranger() { RequestLimits::STRANGER } else { RequestLimits::CLIENT }
    }

    /// Takes a command. The caller has seen to it that a command which changes what replies look like, or what may be
    /// asked, is taken when those before it have been answered.
    pub fn take(&mut self, command: Command, listens: Listens, secret: &Secret) -> Next {
        match command {
            Command::Auth(token) => self.auth(&token, secret),
            Command::Hello(hello) => self.hello(hello, secret),
            Command::Quit => Next::Farewell(Reply::OK),
            _ if self.is_stranger() => Next::Answer(Reply::error(NO_AUTH)),
            Command::Ask(ask) => Next::Wait(ask),
            Command::Subscribe(channels) => Next::Change(Change::Add(channels)),
            Command::Unsubscribe(names) => Next::Change(Change::Remove(names)),
            Command::Ping(text) if listens == Listens::Apart => {
                let text = text.unwrap_or_default();
                Next::Answer(Reply::List(vec![Reply::text("pong"), Reply::Bulk(text)]))
            }
            Command::Ping(None) => Next::Answer(Reply::Simple("PONG")),
            Command::Ping(Some(text)) | Command::Echo(text) => Next::Answer(Reply::Bulk(text)),
            Command::Select => Next::Answer(Reply::OK),
            Command::Commands(question) => Next::Answer(question.answer()),
            Command::Client(client) => Next::Answer(self.client(client)),
        }
    }

    fn auth(&mut self, token: &[u8], secret: &Secret) -> Next {
        if !secret.is_set() {
            return Next::Answer(Reply::error(NO_PASSWORD));
        }
        if !secret.is(token) {
            return Next::Wait(Ask::WrongToken);
        }
        self.trusted = Trust::Client;
        Next::Answer(Reply::OK)
    }

    fn hello(&mut self, hello: Hello, secret: &Secret) -> Next {
        match hello.token {
            Some(token) if secret.is_set() && !secret.is(&token) => return Next::Wait(Ask::WrongToken),
            // Where no token is wanted any will do, as with a user of Redis who has no password.
            Some(_) => self.trusted = Trust::Client,
            None if self.is_stranger() => return Next::Answer(Reply::error(NO_AUTH_HELLO)),
            None => {}
        }
        if let Some(name) = hello.name {
            self.name = name;
        }
        self.protocol = hello.protocol.unwrap_or(self.protocol);
        let version = match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        };
        Next::Answer(Reply::Map(vec![
            (Reply::text("server"), Reply::text("comet")),
            (Reply::text("version"), Reply::text(REDIS_VERSION)),
            (Reply::text("proto"), Reply::Int(version)),
            (Reply::text("id"), Reply::Int(self.id)),
            (Reply::text("mode"), Reply::text("standalone")),
            (Reply::text("role"), Reply::text("master")),
            (Reply::text("modules"), Reply::List(Vec::new())),
        ]))
    }

    fn client(&mut self, client: Client) -> Reply {
        match client {
            Client::Id => Reply::Int(self.id),
            Client::Name if self.name.is_empty() => Reply::Null,
            Client::Name => Reply::Bulk(self.name.clone()),
            Client::SetName(name) => {
                self.name = name;
                Reply::OK
            }
            Client::Accepted => Reply::OK,
            Client::Line => Reply::text(self.line()),
        }
    }

    fn line(&self) -> String {
        let Self { id, peer, own, protocol, name, .. } = self;
        let name = String::from_utf8_lossy(name);
        let version = if *protocol == Protocol::Resp2 { 2 } else { 3 };
        format!("id={id} addr={peer} laddr={own} name={name} db=0 user=default resp={version}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery-staple-0123";

    fn session(secret: &Secret) -> Session {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Session::new(7, addr(40_000), addr(7379), secret)
    }

    fn said(session: &mut Session, command: Command, secret: &Secret) -> Reply {
        match session.take(command, Listens::No, secret) {
            Next::Answer(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn hello(protocol: Option<Protocol>, token: Option<&'static str>, name: Option<&'static str>) -> Command {
        Command::Hello(Hello { protocol, token: token.map(Bytes::from), name: name.map(Bytes::from) })
    }

    #[test]
    fn a_stranger_may_show_the_token_greet_with_it_and_leave() {
        let secret = Secret::new(Some(TOKEN));
        let mut session = session(&secret);
        assert_eq!(session.request_limits(), RequestLimits::STRANGER);
        for command in [
            Command::Ping(None),
            Command::Ask(Ask::Info(Vec::new())),
            Command::Client(Client::Id),
            Command::Select,
        ] {
            assert_eq!(said(&mut session, command, &secret), Reply::error(NO_AUTH));
        }
        let greeting = hello(Some(Protocol::Resp3), None, None);
        assert_eq!(said(&mut session, greeting, &secret), Reply::error(NO_AUTH_HELLO));
        assert_eq!(session.protocol(), Protocol::Resp2);
        assert_eq!(session.take(Command::Quit, Listens::No, &secret), Next::Farewell(Reply::OK));
        let wrong = session.take(Command::Auth(Bytes::from_static(b"wrong")), Listens::No, &secret);
        assert_eq!((wrong, session.is_stranger()), (Next::Wait(Ask::WrongToken), true));
        assert_eq!(said(&mut session, Command::Auth(TOKEN.into()), &secret), Reply::OK);
        assert_eq!(session.request_limits(), RequestLimits::CLIENT);
        assert_eq!(said(&mut session, Command::Client(Client::Id), &secret), Reply::Int(7));
    }

    #[test]
    fn a_greeting_with_a_wrong_token_changes_nothing() {
        let secret = Secret::new(Some(TOKEN));
        let mut session = session(&secret);
        let greeting = hello(Some(Protocol::Resp3), Some("wrong"), Some("me"));
        assert_eq!(session.take(greeting, Listens::No, &secret), Next::Wait(Ask::WrongToken));
        assert_eq!((session.protocol(), session.is_stranger()), (Protocol::Resp2, true));
        let greeting = hello(Some(Protocol::Resp3), Some(TOKEN), Some("me"));
        assert!(matches!(said(&mut session, greeting, &secret), Reply::Map(_)));
        assert_eq!((session.protocol(), session.is_stranger()), (Protocol::Resp3, false));
    }

    #[test]
    fn a_connection_is_told_its_name_and_its_line() {
        let secret = Secret::new(None);
        let mut session = session(&secret);
        assert_eq!(said(&mut session, Command::Client(Client::Name), &secret), Reply::Null);
        let set = Command::Client(Client::SetName(Bytes::from_static(b"me")));
        assert_eq!(said(&mut session, set, &secret), Reply::OK);
        assert_eq!(said(&mut session, Command::Client(Client::Name), &secret), Reply::text("me"));
        let line = "id=7 addr=127.0.0.1:40000 laddr=127.0.0.1:7379 name=me db=0 user=default resp=2\n";
        assert_eq!(said(&mut session, Command::Client(Client::Line), &secret), Reply::text(line));
    }

    #[test]
    fn without_a_token_to_show_showing_one_is_a_mistake_but_no_obstacle() {
        let secret = Secret::new(None);
        let mut session = session(&secret);
        assert_eq!(said(&mut session, Command::Auth(TOKEN.into()), &secret), Reply::error(NO_PASSWORD));
        assert!(matches!(said(&mut session, hello(None, Some("any"), None), &secret), Reply::Map(_)));
    }
}
