//! Values: what MessagePack and a Lua table share.

use std::{cmp::Ordering, fmt};

use bytes::Bytes;
use comet_routing::Contact;

/// What an object's value, its state fields, payloads and replies are made of.
///
/// Maps keep no order of their own: [`Value::map`] sorts the entries, so equal maps are equal values and
/// encode to equal bytes. An empty Lua table is an empty list.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// Nothing; as a reply, "no value".
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number. Luau computes in doubles, so a handler sees whole numbers up to 2^53 exactly.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Bytes, mostly UTF-8 text.
    Str(Bytes),
    /// Values at 1, 2, 3, …
    List(Vec<Value>),
    /// Any other table: sorted by key, each key once, no key nil or NaN.
    Map(Vec<(Value, Value)>),
    /// A node of the swarm.
    Node(Contact),
}

impl Value {
    /// A string value.
    pub fn str(text: impl AsRef<[u8]>) -> Self {
        Self::Str(Bytes::copy_from_slice(text.as_ref()))
    }

    /// A map: entries sorted by key; of entries with one key the last stays.
    pub fn map(entries: impl IntoIterator<Item = (Value, Value)>) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.order(b));
        entries.reverse();
        entries.dedup_by(|(a, _), (b, _)| a.order(b) == Ordering::Equal);
        entries.reverse();
        Self::Map(entries)
    }

    /// The field of a map that has this name.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find_map(|(key, value)| match key {
            Self::Str(text) if text == name.as_bytes() => Some(value),
            _ => None,
        })
    }

    /// The text of a UTF-8 string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number as a whole one, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// A total order: by kind, then by content; floats by `total_cmp`.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Nil, Self::Nil) => Ordering::Equal,
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Str(a), Self::Str(b)) => a.cmp(b),
            (Self::Node(a), Self::Node(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => by_items(a.iter(), b.iter(), Self::order),
            (Self::Map(a), Self::Map(b)) => {
                by_items(a.iter(), b.iter(), |x, y| x.0.order(&y.0).then_with(|| x.1.order(&y.1)))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Nil => 0,
            Self::Bool(_) => 1,
            Self::Int(_) => 2,
            Self::Float(_) => 3,
            Self::Str(_) => 4,
            Self::List(_) => 5,
            Self::Map(_) => 6,
            Self::Node(_) => 7,
        }
    }
}

fn by_items<T>(
    a: impl ExactSizeIterator<Item = T>,
    b: impl ExactSizeIterator<Item = T>,
    mut order: impl FnMut(T, T) -> Ordering,
) -> Ordering {
    let lengths = a.len().cmp(&b.len());
    a.zip(b).map(|(x, y)| order(x, y)).find(|found| found.is_ne()).unwrap_or(lengths)
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(n) => write!(f, "{n:?}"),
            Self::Str(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Map(entries) => f.debug_map().entries(entries.iter().map(|(k, v)| (k, v))).finish(),
            Self::Node(node) => write!(f, "{node:?}"),
        }
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Float(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::List(items)
    }
}

impl From<Contact> for Value {
    fn from(node: Contact) -> Self {
        Self::Node(node)
    }
}
