//! The last GET of a connection.
//!
//! A key is the hash of its name, which takes as long as everything else about reading a command. Clients that send
//! many commands at once often ask for one object again and again.

use comet_routing::Key;

use super::{
    command::{Ask, Command},
    request::Words,
};

/// A name that was asked for, and its key.
#[derive(Debug, Default)]
pub(super) struct LastGet {
    name: Vec<u8>,
    key: Option<Key>,
}

impl LastGet {
    /// The command that these words are, if they are the last GET once more.
    pub(super) fn again(&self, words: &Words) -> Option<Command> {
        let is_get = words.len() == 2 && words.word(0).eq_ignore_ascii_case(b"get");
        let key = self.key.filter(|_| is_get && words.word(1) == self.name)?;
        Some(Command::Ask(Ask::Get(key)))
    }

    /// Remembers what these words were read as, if that is a GET.
    pub(super) fn note(&mut self, words: &Words, command: &Command) {
        if let Command::Ask(Ask::Get(key)) = command {
            self.name.clear();
            self.name.extend_from_slice(words.word(1));
            self.key = Some(*key);
        }
    }
}

#[cfg(test)]
mod tests {
    use comet_runtime::Limits;

    use super::*;
    use crate::resp::{
        command::{Rules, parse},
        request::{Intake, RequestLimits},
    };

    #[test]
    fn a_get_of_the_same_name_is_known_and_nothing_else_is() {
        let rules = Rules { limits: Limits::default(), ttl_seconds_max: 1_000 };
        let mut last = LastGet::default();
        let mut take = |text: &str| {
            let mut intake = Intake::default();
            intake.buffer().extend_from_slice(format!("{text}\r\n").as_bytes());
            let words = intake.next(RequestLimits::CLIENT).expect("it is a request").expect("it is whole");
            let command = parse(&words, &rules).expect("it is a command");
            let known = last.again(&words);
            last.note(&words, &command);
            assert!(known.as_ref().is_none_or(|known| *known == command), "{text}");
            known.is_some()
        };
        let commands = ["GET a", "get a", "GET b", "GET a", "TTL a", "GET a", "MGET a", "SET a 1", "Get a"];
        assert_eq!(commands.map(&mut take), [false, true, false, false, false, true, false, false, true]);
    }
}
