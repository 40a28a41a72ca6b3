//! The fields of `aso` that the node reads: `timer`, `replicas`, `durable`, `ttl`.

use mlua::{Table, Value as LuaValue};

use crate::Limits;

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
#[derive(Clone, Debug)]
pub(crate) struct PolicyFields {
    has_timer: bool,
    timer: LuaValue,
    replicas: LuaValue,
    durable: LuaValue,
    ttl: LuaValue,
}

impl Default for PolicyFields {
    fn default() -> Self {
        let nil = || LuaValue::Nil;
        Self { has_timer: false, timer: nil(), replicas: nil(), durable: nil(), ttl: nil() }
    }
}

impl PolicyFields {
    /// The fields of this table.
    pub(crate) fn of(aso: &Table) -> Self {
        let mut fields = Self::default();
        for name in FIELDS {
            fields.note(name.as_bytes(), &aso.raw_get(name).unwrap_or(LuaValue::Nil));
        }
        fields
    }

    /// Looks at one field, for those who walk over all of them anyway.
    pub(crate) fn note(&mut self, name: &[u8], value: &LuaValue) {
        match name {
            b"onTimer" => self.has_timer = value.is_function(),
            b"timer" => self.timer = value.clone(),
            b"replicas" => self.replicas = value.clone(),
            b"durable" => self.durable = value.clone(),
            b"ttl" => self.ttl = value.clone(),
            _ => {}
        }
    }
}

impl Policy {
    /// What these fields ask for, or which one makes no sense.
    pub(crate) fn of(fields: &PolicyFields, limits: &Limits) -> Result<Self, String> {
        let timer = seconds("timer", &fields.timer)?.unwrap_or(limits.timer_seconds);
        let replicas = match &fields.replicas {
            LuaValue::Nil => None,
            value => match value.as_i64().and_then(|n| u8::try_from(n).ok()) {
                Some(n) if n <= REPLICAS_MAX => Some(n),
                _ => return Err(format!("aso.replicas must be a whole number from 0 to {REPLICAS_MAX}")),
            },
        };
        let durable = match fields.durable {
            LuaValue::Nil => false,
            LuaValue::Boolean(durable) => durable,
            _ => return Err("aso.durable must be true or false".into()),
        };
        Ok(Self {
            timer_seconds: fields.has_timer.then_some(timer.max(limits.timer_seconds_min)),
            replicas,
            durable,
            ttl_seconds: seconds("ttl", &fields.ttl)?,
        })
    }
}

/// A positive number of seconds; fractions are rounded up, so that nothing becomes 0.
fn seconds(name: &str, value: &LuaValue) -> Result<Option<u64>, String> {
    let n = match value {
        LuaValue::Nil => return Ok(None),
        LuaValue::Integer(n) => *n as f64,
        LuaValue::Number(n) => *n,
        _ => f64::NAN,
    };
    if n > 0.0 && n <= 1e10 {
        Ok(Some(n.ceil() as u64))
    } else {
        Err(format!("aso.{name} must be a positive number of seconds"))
    }
}
