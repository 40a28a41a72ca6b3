//! Requests as they come over the connection: arrays of bulk strings, or a line of words.
//!
//! `redis-protocol` decodes a frame; it believes the lengths that a frame declares, nests as deeply as a frame asks it to,
//! and begins anew when a frame is not complete. So [`Intake`] first walks over the frame by itself: it takes nothing but a flat
//! array of bulk strings, holds every declared length against its limit, and goes on where it stopped when more bytes
//! have come. What it holds grows with what was received, never with what was declared.

use bytes::{Buf, Bytes, BytesMut};
use redis_protocol::resp2::{decode::decode_range, types::RangeFrame};

/// Longest line of words, as Redis has it, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Longest line with a length: `*` or `$`, digits and the end of the line fit several times.
const LENGTH_LINE_BYTES_MAX: usize = 32;

/// Where there is room for fewer bytes than this, more is made before a read, in bytes.
const READ_BYTES: usize = 16 * 1024;

const LINE_END: &[u8] = b"\r\n";

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Words of a request.
    pub words: usize,
    /// Bytes of a request.
    pub bytes: usize,
}

impl RequestLimits {
    /// What a client may send: the longest list of keys, or a value and code written as JSON.
    pub const CLIENT: Self = Self { words: 4_096, bytes: 1024 * 1024 };

    /// What somebody may send who has not shown the token yet; Redis takes as many words.
    pub const STRANGER: Self = Self { words: 10, bytes: 16 * 1024 };
}

/// Why a connection cannot go on: what follows cannot be told from what is wrong. The texts are those of Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The number of words is none, or too large.
    #[error("Protocol error: invalid multibulk length")]
    Words,
    /// The length of a word is none, or too large.
    #[error("Protocol error: invalid bulk length")]
    Length,
    /// Something else than a bulk string stands in the array.
    #[error("Protocol error: expected '$', got '{0}'")]
    NotBulk(char),
    /// A word does not end where its length says.
    #[error("Protocol error: a bulk string does not end with CRLF")]
    Unended,
    /// A line of words is too long.
    #[error("Protocol error: too big inline request")]
    LongLine,
    /// A quotation in a line does not end.
    #[error("Protocol error: unbalanced quotes in request")]
    Quotes,
    /// Whoever sends this speaks another protocol, perhaps because a web page made a browser do it.
    #[error("Protocol error: this is neither RESP nor a line of words")]
    Foreign,
}

/// The words of one request; the first names the command.
#[derive(Clone, Debug)]
pub struct Words {
    frame: Bytes,
    places: Vec<RangeFrame>,
}

impl Words {
    /// How many there are, at least one.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True if there are none, which no [`Intake`] returns.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The word at a position from 0; no bytes where there is none.
    pub fn word(&self, at: usize) -> &[u8] {
        match self.places.get(at) {
            Some(RangeFrame::BulkString((from, to))) => self.frame.get(*from..*to).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The words from a position on.
    pub fn from(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        (at..self.len()).map(|at| self.word(at))
    }

    /// The word at a position without a copy: the request's bytes stay in memory with it.
    pub fn shared(&self, at: usize) -> Bytes {
        match self.places.get(at) {
            Some(RangeFrame::BulkString((from, to))) if from <= to && *to <= self.frame.len() => {
                self.frame.slice(*from..*to)
            }
            _ => Bytes::new(),
        }
    }

    fn of_line(words: &[Vec<u8>]) -> Self {
        let mut end = 0_usize;
        let places = words.iter().map(|word| {
            let from = end;
            end = end.saturating_add(word.len());
            RangeFrame::BulkString((from, end))
        });
        Self { places: places.collect(), frame: words.concat().into() }
    }
}

/// How far the walk over the first request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Walk {
    /// Words that are still to come, once their number is known.
    words_left: Option<usize>,
    /// Bytes of the buffer that have been walked over.
    at: usize,
}

/// What was received and not taken yet.
#[derive(Debug, Default)]
pub struct Intake {
    received: BytesMut,
    walk: Walk,
}

impl Intake {
    /// Where to append what is received.
    pub fn buffer(&mut self) -> &mut BytesMut {
        if self.received.capacity().saturating_sub(self.received.len()) < READ_BYTES {
            self.received.reserve(READ_BYTES);
        }
        &mut self.received
    }

    /// True if nothing of a request is held.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Lets go of the memory that a large request needed.
    pub fn shrink(&mut self) {
        if self.received.is_empty() && self.received.capacity() > READ_BYTES.saturating_mul(2) {
            self.received = BytesMut::new();
        }
    }

    /// The next request, if all of it is there.
    pub fn next(&mut self, limits: RequestLimits) -> Result<Option<Words>, RequestError> {
        loop {
            match self.received.first() {
                None => return Ok(None),
                Some(b'*') => match self.next_array(limits)? {
                    Some(words) if words.is_empty() => {}
                    found => return Ok(found),
                },
                Some(_) => match self.next_line()? {
                    Some(words) if words.is_empty() => {}
                    found => return Ok(found),
                },
            }
        }
    }

    /// An array; one of no words, which Redis passes over, is returned as it is.
    fn next_array(&mut self, limits: RequestLimits) -> Result<Option<Words>, RequestError> {
        let Some(end) = self.walk(limits)? else { return Ok(None) };
        self.walk = Walk::default();
        let frame = self.received.split_to(end).freeze();
        match decode_range(&frame) {
            Ok(Some((RangeFrame::Array(places), _))) => Ok(Some(Words { frame, places })),
            Ok(Some((RangeFrame::Null, _))) => Ok(Some(Words { frame, places: Vec::new() })),
            _ => Err(RequestError::Words),
        }
    }

    /// Walks on; where the request ends, once all of it is there.
    fn walk(&mut self, limits: RequestLimits) -> Result<Option<usize>, RequestError> {
        let mut words_left = match self.walk.words_left {
            Some(words_left) => words_left,
            None => {
                let Some((words, end)) = self.length(0, RequestError::Words)? else { return Ok(None) };
                let words = usize::try_from(words.max(0)).unwrap_or(usize::MAX);
                if words > limits.words {
                    return Err(RequestError::Words);
                }
                self.walk = Walk { words_left: Some(words), at: end };
                words
            }
        };
        while words_left > 0 {
            let at = self.walk.at;
            match self.received.get(at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => return Err(RequestError::NotBulk(shown(*other))),
            }
            let Some((length, begin)) = self.length(at, RequestError::Length)? else { return Ok(None) };
            let length = usize::try_from(length).map_err(|_| RequestError::Length)?;
            let end = begin.saturating_add(length);
            if end > limits.bytes {
                return Err(RequestError::Length);
            }
            let after = end.saturating_add(LINE_END.len());
            match self.received.get(end..after) {
                None => return Ok(None),
                Some(LINE_END) => {}
                Some(_) => return Err(RequestError::Unended),
            }
            words_left = words_left.saturating_sub(1);
            self.walk = Walk { words_left: Some(words_left), at: after };
        }
        Ok(Some(self.walk.at))
    }

    /// The number on the line at `at`, after the byte that says what it counts, and where the next line begins.
    fn length(&self, at: usize, error: RequestError) -> Result<Option<(i64, usize)>, RequestError> {
        let line = self.received.get(at..).unwrap_or_default();
        let line = line.get(..line.len().min(LENGTH_LINE_BYTES_MAX)).unwrap_or_default();
        let Some(length) = line.windows(LINE_END.len()).position(|two| two == LINE_END) else {
            return if line.len() < LENGTH_LINE_BYTES_MAX { Ok(None) } else { Err(error) };
        };
        let digits = line.get(1..length).and_then(|digits| std::str::from_utf8(digits).ok());
        // `+5` is a number to Rust, and none to Redis.
        let digits = digits.filter(|digits| !digits.starts_with('+'));
        let number = digits.and_then(|digits| digits.parse().ok()).ok_or(error)?;
        Ok(Some((number, at.saturating_add(length).saturating_add(LINE_END.len()))))
    }

    /// A line of words, as a person types it.
    fn next_line(&mut self) -> Result<Option<Words>, RequestError> {
        // What begins with a control character is the greeting of TLS, whose middle others may have written.
        if self.received.first().is_some_and(|first| first.is_ascii_control() && !b"\r\n\t".contains(first)) {
            return Err(RequestError::Foreign);
        }
        let Some(length) = self.received.iter().position(|byte| *byte == b'\n') else {
            let short = self.received.len() < LINE_BYTES_MAX;
            return if short { Ok(None) } else { Err(RequestError::LongLine) };
        };
        if length > LINE_BYTES_MAX {
            return Err(RequestError::LongLine);
        }
        let line = self.received.split_to(length);
        self.received.advance(1);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if is_http(line) {
            return Err(RequestError::Foreign);
        }
        split_line(line).map(|words| Some(Words::of_line(&words)))
    }
}

/// True for the lines that begin a request of a browser, whose body a web page may have written. Redis closes on `POST` and
/// `Host:` for the same reason.
fn is_http(line: &[u8]) -> bool {
    let first = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    first.eq_ignore_ascii_case(b"post") || first.eq_ignore_ascii_case(b"host:") || last.starts_with(b"HTTP/")
}

/// The words of a line: separated by blanks, with `"…\n\x00"` and `'…'` as in a shell.
fn split_line(line: &[u8]) -> Result<Vec<Vec<u8>>, RequestError> {
    let mut words = Vec::new();
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(u8::is_ascii_whitespace).is_some() {}
        let Some(first) = rest.peek().copied() else { return Ok(words) };
        let mut word = Vec::new();
        match first {
            b'"' | b'\'' => {
                rest.next();
                loop {
                    match rest.next().ok_or(RequestError::Quotes)? {
                        byte if byte == first => break,
                        b'\\' if first == b'"' => word.push(escaped(&mut rest)?),
                        b'\\' if rest.next_if_eq(&b'\'').is_some() => word.push(b'\''),
                        byte => word.push(byte),
                    }
                }
                if rest.peek().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return Err(RequestError::Quotes);
                }
            }
            _ => {
                while let Some(byte) = rest.next_if(|byte| !byte.is_ascii_whitespace()) {
                    word.push(byte);
                }
            }
        }
        words.push(word);
    }
}

/// The byte that follows a backslash stands for.
fn escaped(rest: &mut (impl Iterator<Item = u8> + Clone)) -> Result<u8, RequestError> {
    let byte = rest.next().ok_or(RequestError::Quotes)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Ok(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        b'x' => {
            let mut ahead = rest.clone();
            match (ahead.next().and_then(digit), ahead.next().and_then(digit)) {
                (Some(high), Some(low)) => {
                    *rest = ahead;
                    high << 4 | low
                }
                _ => b'x',
            }
        }
        other => other,
    })
}

/// A byte in an error text.
fn shown(byte: u8) -> char {
    if byte.is_ascii_graphic() { char::from(byte) } else { '?' }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All requests in these bytes, if they come in pieces of such a size.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>, RequestError> {
        let mut intake = Intake::default();
        let mut requests = Vec::new();
        for piece in bytes.chunks(piece) {
            intake.buffer().extend_from_slice(piece);
            while let Some(words) = intake.next(RequestLimits::CLIENT)? {
                requests.push(words.from(0).map(<[u8]>::to_vec).collect());
            }
        }
        Ok(requests)
    }

    fn words(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    /// A request as clients write it.
    fn array(words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(word);
            bytes.extend(b"\r\n");
        }
        bytes
    }

    #[test]
    fn arrays_and_lines_are_requests_and_empty_ones_are_passed_over() {
        let bytes =
            b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\n\r\nPING  \"a b\" 'c'\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\n";
        let expected = vec![words(&["GET", "a"]), words(&["PING", "a b", "c"]), words(&["QUIT"])];
        assert_eq!(read(bytes, bytes.len()), Ok(expected));
    }

    #[test]
    fn quotations_in_lines_are_those_of_redis() {
        let line = |line: &str| split_line(line.as_bytes());
        assert_eq!(line(r#"SET "\x41\n\"" '\'' \x"#), Ok(words(&["SET", "A\n\"", "'", "\\x"])));
        assert_eq!(line(r#""\xg1""#), Ok(words(&["xg1"])));
        for bad in ["\"a", "'a", "\"a\"b", "\"a\\"] {
            assert_eq!(line(bad), Err(RequestError::Quotes), "{bad}");
        }
    }

    #[test]
    fn declared_lengths_are_refused_before_anything_is_kept_for_them() {
        for (bytes, error) in [
            ("*4097\r\n", RequestError::Words),
            ("*9223372036854775807\r\n", RequestError::Words),
            ("*99999999999999999999\r\n", RequestError::Words),
            ("*x\r\n", RequestError::Words),
            ("*+1\r\n", RequestError::Words),
            (&format!("*{}", "0".repeat(40)), RequestError::Words),
            ("*1\r\n$1048577\r\n", RequestError::Length),
            ("*1\r\n$-1\r\n", RequestError::Length),
            ("*1\r\n$9223372036854775807\r\n", RequestError::Length),
            ("*1\r\n:1\r\n", RequestError::NotBulk(':')),
            ("*1\r\n*1\r\n", RequestError::NotBulk('*')),
            ("*1\r\n$1\r\nabc", RequestError::Unended),
            ("\u{16}\u{3}\u{1}", RequestError::Foreign),
            ("POST / HTTP/1.1\r\n", RequestError::Foreign),
            ("put /x HTTP/1.1\r\n", RequestError::Foreign),
            ("Host: localhost\r\n", RequestError::Foreign),
        ] {
            assert_eq!(read(bytes.as_bytes(), bytes.len()), Err(error), "{bytes}");
        }
        let mut intake = Intake::default();
        intake.buffer().extend_from_slice(b"*4096\r\n$1000000\r\nabc");
        assert!(intake.next(RequestLimits::CLIENT).is_ok_and(|words| words.is_none()));
        assert!(intake.received.capacity() < 3 * READ_BYTES);
    }

    #[test]
    fn ten_thousand_nested_arrays_are_refused_at_the_second() {
        let bytes = "*1\r\n".repeat(10_000);
        assert_eq!(read(bytes.as_bytes(), bytes.len()), Err(RequestError::NotBulk('*')));
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_64_kib() {
        assert_eq!(read(&vec![b'a'; LINE_BYTES_MAX - 1], 1_000), Ok(Vec::new()));
        assert_eq!(read(&vec![b'a'; LINE_BYTES_MAX + 1], 1_000), Err(RequestError::LongLine));
    }

    #[test]
    fn a_stranger_may_send_less_than_a_client() {
        let verdict = |bytes: &[u8], limits| {
            let mut intake = Intake::default();
            intake.buffer().extend_from_slice(bytes);
            intake.next(limits).map(|words| words.is_some())
        };
        assert_eq!(verdict(b"*11\r\n", RequestLimits::STRANGER), Err(RequestError::Words));
        assert_eq!(verdict(b"*11\r\n", RequestLimits::CLIENT), Ok(false));
        assert_eq!(verdict(b"*1\r\n$20000\r\n", RequestLimits::STRANGER), Err(RequestError::Length));
        assert_eq!(verdict(b"*1\r\n$20000\r\n", RequestLimits::CLIENT), Ok(false));
    }

    proptest! {
        #[test]
        fn requests_come_out_as_they_went_in_however_they_are_cut(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 0..5),
            piece in 1..50_usize,
        ) {
            let bytes: Vec<u8> = requests.iter().flat_map(|request| array(request)).collect();
            prop_assert_eq!(read(&bytes, piece), Ok(requests));
        }

        #[test]
        fn arbitrary_bytes_are_read_the_same_however_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"*$\r\n019-\"' ".to_vec())], 0..200),
            piece in 1..50_usize,
        ) {
            let whole = read(&bytes, bytes.len().max(1));
            let cut = read(&bytes, piece);
            prop_assert_eq!(whole.is_ok(), cut.is_ok());
            if whole.is_ok() {
                prop_assert_eq!(whole, cut);
            }
        }
    }
}
