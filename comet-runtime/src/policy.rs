//! The fields of `aso` that the node reads: `timer`, `replicas`, `durable`, `ttl`.

use mlua::{Table, Value as LuaValue};

use crate::{Limits, sandbox::seen::Seen};

/// The most replicas that an object may ask for.
pub const REPLICAS_MAX: u8 = 20;

/// What an object asks of its node, checked whenever a turn commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Seconds between two runs of `onTimer`, at least the operator's minimum; `None` without that handler.
    pub timer_seconds: Option<u64>,
    /// Replicas wanted, 0 to 20; 0 leaves replication to the handlers. `None` leaves it to the put.
    pub replicas: Option<u8>,
    /// Replies wait until the state is on disk.
    pub durable: bool,
    /// Lifetime from the put, in seconds; it can only shorten what the put was granted.
    pub ttl_seconds: Option<u64>,
}

/// The names of the fields that a policy is made of.
const FIELDS: [&str; 5] = ["onTimer", "timer", "replicas", "durable", "ttl"];

/// The fields of an object that its policy is made of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PolicyFields {
    has_timer: bool,
    timer: Wish,
    replicas: Wish,
    durable: Wish,
    ttl: Wish,
}

/// What such a field holds.
#[derive(Clone, Copy, Debug, Default)]
enum Wish {
    #[default]
    Unset,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// What no policy can be made of.
    Other,
}

impl From<Seen<'_>> for Wish {
    fn from(value: Seen<'_>) -> Self {
        match value {
            Seen::Nil => Self::Unset,
            Seen::Bool(b) => Self::Bool(b),
            Seen::Int(n) => Self::Int(n),
            Seen::Float(n) => Self::Float(n),
            _ => Self::Other,
        }
    }
}

impl PolicyFields {
    /// The fields of this table.
    pub(crate) fn of(aso: &Table) -> Self {
        let mut fields = Self::default();
        for name in FIELDS {
            let value = aso.raw_get(name).unwrap_or(LuaValue::Nil);
            fields.note(name.as_bytes(), Seen::without_contents(&value));
        }
        fields
    }

    /// Looks at one field, for those who walk over all of them anyway.
    pub(crate) fn note(&mut self, name: &[u8], value: Seen<'_>) {
        match name {
            b"onTimer" => self.has_timer = matches!(value, Seen::Function),
            b"timer" => self.timer = value.into(),
            b"replicas" => self.replicas = value.into(),
            b"durable" => self.durable = value.into(),
            b"ttl" => self.ttl = value.into(),
            _ => {}
        }
    }
}

impl Policy {
    /// What these fields ask for, or which one makes no sense.
    pub(crate) fn of(fields: &PolicyFields, limits: &Limits) -> Result<Self, String> {
        let timer = seconds("timer", fields.timer)?.unwrap_or(limits.timer_seconds);
        let replicas = match fields.replicas {
            Wish::Unset => None,
            Wish::Int(n) if (0..=i64::from(REPLICAS_MAX)).contains(&n) => u8::try_from(n).ok(),
            _ => return Err(format!("aso.replicas must be a whole number from 0 to {REPLICAS_MAX}")),
        };
        let durable = match fields.durable {
            Wish::Unset => false,
            Wish::Bool(durable) => durable,
            _ => return Err("aso.durable must be true or false".into()),
        };
        Ok(Self {
            timer_seconds: fields.has_timer.then_some(timer.max(limits.timer_seconds_min)),
            replicas,
            durable,
            ttl_seconds: seconds("ttl", fields.ttl)?,
        })
    }
}

/// A positive number of seconds; fractions are rounded up, so that nothing becomes 0.
fn seconds(name: &str, value: Wish) -> Result<Option<u64>, String> {
    let n = match value {
        Wish::Unset => return Ok(None),
        Wish::Int(n) => n as f64,
        Wish::Float(n) => n,
        _ => f64::NAN,
    };
    if n > 0.0 && n <= 1e10 {
        Ok(Some(n.ceil() as u64))
    } else {
        Err(format!("aso.{name} must be a positive number of seconds"))
    }
}
