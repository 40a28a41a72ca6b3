//! An object's own log: what its handlers said and how their turns failed. Bounded; the oldest line makes
//! room.

use std::collections::VecDeque;

use bytes::Bytes;
use comet_routing::clock::WallMs;

use crate::{Bounds, Limits, Value, dht::LogLine, sandbox::text::clean};

/// What a stored log may measure; the lines are bounded when they are written.
const STORED: Bounds = Bounds { bytes: 256 * 1024, depth: 2 };

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// A handler, by calling `log`.
    Handler,
    /// The node, about a turn that failed.
    Node,
}

/// The lines of one object on one replica, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectLog {
    lines: VecDeque<(WallMs, Author, String)>,
}

impl ObjectLog {
    /// Adds a line, cut and escaped to the limits.
    pub fn push(&mut self, now: WallMs, author: Author, text: &str, limits: &Limits) {
        while self.lines.len() >= limits.log_lines.max(1) {
            self.lines.pop_front();
        }
        self.lines.push_back((now, author, clean(text, limits.log_line_bytes)));
    }

    /// The lines as a reader sees them.
    pub fn lines(&self, now: WallMs) -> Vec<LogLine> {
        self.lines
            .iter()
            .map(|(at, author, text)| LogLine {
                age_ms: now.saturating_sub(*at),
                failure: *author == Author::Node,
                text: text.clone(),
            })
            .collect()
    }

    /// The log as the store keeps it.
    pub fn encode(&self) -> Bytes {
        let line = |(at, author, text): &(WallMs, Author, String)| {
            let at = Value::Int(i64::try_from(*at).unwrap_or(i64::MAX));
            Value::List(vec![at, Value::Bool(*author == Author::Node), Value::str(text)])
        };
        Value::List(self.lines.iter().map(line).collect()).encode()
    }

    /// Reads a stored log back; what is not a line is left out, since a damaged log is no reason to lose the
    /// object.
    pub fn decode(bytes: &[u8]) -> Self {
        let Ok(Value::List(lines)) = Value::decode(bytes, STORED) else { return Self::default() };
        let line = |line: &Value| {
            let Value::List(parts) = line else { return None };
            let [Value::Int(at), Value::Bool(failure), text] = parts.as_slice() else { return None };
            let author = if *failure { Author::Node } else { Author::Handler };
            Some((u64::try_from(*at).ok()?, author, text.as_text()?.to_owned()))
        };
        Self { lines: lines.iter().filter_map(line).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_line_makes_room_and_the_rest_comes_back_from_the_store() {
        let limits = Limits { log_lines: 2, ..Limits::default() };
        let mut log = ObjectLog::default();
        for (at, text) in [(1_000, "one"), (2_000, "two"), (3_000, "three\n")] {
            log.push(at, Author::Handler, text, &limits);
        }
        let lines = ObjectLog::decode(&log.encode()).lines(5_000);
        let texts: Vec<_> =
            lines.iter().map(|line| (line.age_ms, line.failure, line.text.as_str())).collect();
        assert_eq!(texts, [(3_000, false, "two"), (2_000, false, "three\\n")]);
    }

    #[test]
    fn damage_empties_the_log_and_nothing_else() {
        assert_eq!(ObjectLog::decode(b"\xc1 rubbish"), ObjectLog::default());
    }
}
