//! Replies, and how each version of the protocol writes them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use comet_runtime::{Refusal, Value};
use redis_protocol::{error::RedisProtocolError, resp2, resp3};

use crate::json::to_json;

/// Longest text of an error, in bytes.
const ERROR_BYTES_MAX: usize = 1024;

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What a connection speaks until it says `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, booleans, doubles and push messages.
    Resp3,
}

/// What a command is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A word of the protocol, such as `OK`.
    Simple(&'static str),
    /// A code in capitals and a text.
    Error(Cow<'static, str>),
    /// A whole number.
    Int(i64),
    /// Another number.
    Double(f64),
    /// True or false; 1 or 0 in RESP2.
    Bool(bool),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// Several replies.
    List(Vec<Reply>),
    /// Pairs; in RESP2 a list of twice as many.
    Map(Vec<(Reply, Reply)>),
    /// What the client did not ask for just now; a list in RESP2.
    Push(Vec<Reply>),
}

impl Reply {
    /// Done.
    pub const OK: Self = Self::Simple("OK");

    /// A text as bytes.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(text.into().into())
    }

    /// An error that is no refusal of the swarm.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Error(text.into())
    }

    /// What the swarm refused, as an error whose first word programs match on. What may be tried again is `TRYAGAIN`,
    /// which client libraries know, and the stable code follows; all else is the stable code in capitals.
    pub fn refusal(refusal: &Refusal) -> Self {
        let code = refusal.code();
        Self::error(match refusal {
            refusal if refusal.retryable() => format!("TRYAGAIN {code}: {refusal}"),
            Refusal::Refused(reason) => format!("REFUSED {reason}"),
            _ => format!("{} {refusal}", code.to_ascii_uppercase()),
        })
    }

    /// What GET answers: a string's bytes, a number in digits, a boolean as 1 or 0, anything else as JSON.
    pub fn of_plain(value: &Value) -> Self {
        match value {
            Value::Nil => Self::Null,
            Value::Str(bytes) => Self::Bulk(bytes.clone()),
            Value::Bool(truth) => Self::Bulk(Bytes::from_static(if *truth { b"1" } else { b"0" })),
            Value::Int(number) => Self::text(number.to_string()),
            Value::Float(number) => Self::text(digits(*number)),
            Value::List(_) | Value::Map(_) | Value::Node(_) => Self::text(to_json(value).to_string()),
        }
    }

    /// What COMET.GET answers: the value itself, as far as the protocol has its kind.
    pub fn of_value(value: &Value) -> Self {
        match value {
            Value::Nil => Self::Null,
            Value::Str(bytes) => Self::Bulk(bytes.clone()),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(number) => Self::Int(*number),
            Value::Float(number) => Self::Double(*number),
            Value::List(items) => Self::List(items.iter().map(Self::of_value).collect()),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|(key, value)| (Self::of_value(key), Self::of_value(value)));
                Self::Map(pairs.collect())
            }
            Value::Node(node) => Self::Map(vec![
                (Self::text("id"), Self::text(node.id.to_string())),
                (Self::text("addr"), Self::text(node.addr.to_string())),
            ]),
        }
    }

    /// Appends the reply as this version of the protocol writes it.
    pub fn write(&self, protocol: Protocol, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
        match (self, protocol) {
            (Self::List(items), _) | (Self::Push(items), Protocol::Resp2) => {
                write_head(b'*', items.len(), out);
                items.iter().try_for_each(|item| item.write(protocol, out))
            }
            (Self::Push(items), Protocol::Resp3) => {
                write_head(b'>', items.len(), out);
                items.iter().try_for_each(|item| item.write(protocol, out))
            }
            (Self::Map(pairs), _) => {
                match protocol {
                    Protocol::Resp2 => write_head(b'*', pairs.len().saturating_mul(2), out),
                    Protocol::Resp3 => write_head(b'%', pairs.len(), out),
                }
                pairs.iter().try_for_each(|(key, value)| {
                    key.write(protocol, out)?;
                    value.write(protocol, out)
                })
            }
            (leaf, Protocol::Resp2) => leaf.write_leaf2(out),
            (leaf, Protocol::Resp3) => leaf.write_leaf3(out),
        }
    }

    fn write_leaf2(&self, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
        use resp2::types::BorrowedFrame;
        let error;
        let number;
        let frame = match self {
            Self::Simple(word) => BorrowedFrame::SimpleString(word.as_bytes()),
            Self::Error(text) => {
                error = one_line(text);
                BorrowedFrame::Error(&error)
            }
            Self::Int(number) => BorrowedFrame::Integer(*number),
            Self::Bool(truth) => BorrowedFrame::Integer(i64::from(*truth)),
            Self::Double(double) => {
                number = digits(*double);
                BorrowedFrame::BulkString(number.as_bytes())
            }
            Self::Bulk(bytes) => BorrowedFrame::BulkString(bytes),
            Self::Null | Self::List(_) | Self::Map(_) | Self::Push(_) => BorrowedFrame::Null,
        };
        resp2::encode::extend_encode_borrowed(out, &frame, false).map(drop)
    }

    fn write_leaf3(&self, out: &mut BytesMut) -> Result<(), RedisProtocolError> {
        use resp3::types::BorrowedFrame;
        let attributes = None;
        let error;
        let frame = match self {
            Self::Simple(word) => BorrowedFrame::SimpleString { data: word.as_bytes(), attributes },
            Self::Error(text) => {
                error = one_line(text);
                BorrowedFrame::SimpleError { data: &error, attributes }
            }
            Self::Int(number) => BorrowedFrame::Number { data: *number, attributes },
            Self::Bool(truth) => BorrowedFrame::Boolean { data: *truth, attributes },
            Self::Double(number) => BorrowedFrame::Double { data: *number, attributes },
            Self::Bulk(bytes) => BorrowedFrame::BlobString { data: bytes, attributes },
            Self::Null | Self::List(_) | Self::Map(_) | Self::Push(_) => BorrowedFrame::Null,
        };
        resp3::encode::complete::extend_encode_borrowed(out, &frame, false).map(drop)
    }
}

/// The line before the elements of a list, a map or a push message.
fn write_head(kind: u8, elements: usize, out: &mut BytesMut) {
    out.put_u8(kind);
    out.put_slice(elements.to_string().as_bytes());
    out.put_slice(b"\r\n");
}

/// An error's text as one line of bounded length: a handler may have written it.
fn one_line(text: &str) -> Cow<'_, str> {
    let ends = text.char_indices().map(|(at, char)| at.saturating_add(char.len_utf8()));
    let end = if text.len() <= ERROR_BYTES_MAX {
        Some(text.len())
    } else {
        ends.take_while(|end| *end <= ERROR_BYTES_MAX).last()
    };
    let text = end.and_then(|end| text.get(..end)).unwrap_or_default();
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, " "))
    } else {
        Cow::Borrowed(text)
    }
}

/// A number as Redis prints it: the shortest digits that mean it, with an exponent where they would be many.
fn digits(number: f64) -> String {
    let size = number.abs();
    if number.is_nan() {
        "nan".to_owned()
    } else if number.is_infinite() || size == 0.0 || (1e-5..1e17).contains(&size) {
        number.to_string()
    } else {
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp3::types::BytesFrame;

    use super::*;

    fn written(reply: &Reply, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        reply.write(protocol, &mut out).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn every_kind_is_written_as_its_version_of_the_protocol_has_it() {
        let map = Reply::Map(vec![(Reply::text("a"), Reply::Double(0.5))]);
        for (reply, resp2, resp3) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::error("ERR no\r\nway"), "-ERR no  way\r\n", "-ERR no  way\r\n"),
            (Reply::Int(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::Bool(true), ":1\r\n", "#t\r\n"),
            (Reply::Double(0.5), "$3\r\n0.5\r\n", ",0.5\r\n"),
            (Reply::text("a"), "$1\r\na\r\n", "$1\r\na\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::List(vec![]), "*0\r\n", "*0\r\n"),
            (map, "*2\r\n$1\r\na\r\n$3\r\n0.5\r\n", "%1\r\n$1\r\na\r\n,0.5\r\n"),
            (Reply::Push(vec![Reply::Int(1)]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
        ] {
            assert_eq!(written(&reply, Protocol::Resp2), resp2);
            assert_eq!(written(&reply, Protocol::Resp3), resp3);
        }
    }

    #[test]
    fn plain_values_are_texts_and_tables_are_json() {
        let table = Value::map([("a".into(), Value::List(vec![1.into(), true.into()]))]);
        for (value, text) in [
            (Value::str("x"), "x"),
            (Value::Int(42), "42"),
            (Value::Float(1.5), "1.5"),
            (Value::Float(1e300), "1e+300"),
            (Value::Float(1e-7), "1e-7"),
            (Value::Float(f64::NEG_INFINITY), "-inf"),
            (Value::Bool(false), "0"),
            (table, r#"{"a":[1,true]}"#),
        ] {
            assert_eq!(Reply::of_plain(&value), Reply::text(text));
        }
        assert_eq!(Reply::of_plain(&Value::Nil), Reply::Null);
    }

    #[test]
    fn a_refusal_is_one_line_that_begins_with_a_code() {
        let line = |refusal: &Refusal| written(&Reply::refusal(refusal), Protocol::Resp2);
        assert_eq!(line(&Refusal::Refused("sold\nout".into())), "-REFUSED sold out\r\n");
        assert_eq!(line(&Refusal::BadCode("line 1".into())), "-BAD_CODE the code is not usable: line 1\r\n");
        let overloaded = Refusal::Overloaded("the object".into());
        assert_eq!(line(&overloaded), "-TRYAGAIN overloaded: the object has too much to do; try again\r\n");
        let long = Refusal::Refused("ä".repeat(5_000));
        assert!(line(&long).len() <= ERROR_BYTES_MAX + 3);
    }

    /// What the crate's decoder is expected to find. It has no order in maps, and no NaN that is equal to itself.
    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            Just(Reply::OK),
            "[A-Z]{1,8} \\PC{0,30}".prop_map(Reply::error),
            any::<i64>().prop_map(Reply::Int),
            any::<bool>().prop_map(Reply::Bool),
            (-1e9..1e9).prop_map(Reply::Double),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Reply::Bulk(bytes.into())),
            Just(Reply::Null),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| prop::collection::vec(inner, 0..5).prop_map(Reply::List))
    }

    fn is_same(reply: &Reply, frame: &BytesFrame) -> bool {
        match (reply, frame) {
            (Reply::Simple(word), BytesFrame::SimpleString { data, .. }) => word.as_bytes() == data,
            (Reply::Error(text), BytesFrame::SimpleError { data, .. }) => text.as_bytes() == data.as_bytes(),
            (Reply::Int(number), BytesFrame::Number { data, .. }) => number == data,
            (Reply::Bool(truth), BytesFrame::Boolean { data, .. }) => truth == data,
            (Reply::Double(number), BytesFrame::Double { data, .. }) => number == data,
            (Reply::Bulk(bytes), BytesFrame::BlobString { data, .. }) => bytes == data,
            (Reply::Null, BytesFrame::Null) => true,
            (Reply::List(items), BytesFrame::Array { data, .. }) => {
                items.len() == data.len() && items.iter().zip(data).all(|(item, frame)| is_same(item, frame))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_decoded_as_the_same_and_nothing_follows(reply in any_reply()) {
            let mut out = BytesMut::new();
            reply.write(Protocol::Resp3, &mut out).unwrap();
            let (frame, read) = resp3::decode::complete::decode_bytes(&out.clone().freeze()).unwrap().unwrap();
            prop_assert_eq!(read, out.len());
            prop_assert!(is_same(&reply, &frame), "{:?} was read as {:?}", reply, frame);
            let mut out = BytesMut::new();
            reply.write(Protocol::Resp2, &mut out).unwrap();
            let (_, read) = resp2::decode::decode_bytes(&out.clone().freeze()).unwrap().unwrap();
            prop_assert_eq!(read, out.len());
        }
    }
}
