//! Values across the border between Rust and Lua.
//!
//! Lua's side is always read raw, so no metamethod ever runs on the host's behalf, and with the bounds of
//! [`Bounds`], so a cycle or a huge table is an error and not a hang.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use comet_routing::{Contact, NodeId};
use mlua::{Lua, Table, Value as LuaValue};

use crate::{
    Value,
    codec::{self, Bounds},
};

/// The field of `aso` that holds the put's data.
pub(crate) const VALUE_FIELD: &str = "value";

/// Why something in Lua is not a value, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    path: String,
    what: String,
}

impl Fault {
    fn new(what: impl Into<String>) -> Self {
        Self { path: String::new(), what: what.into() }
    }

    fn below(mut self, key: &LuaValue) -> Self {
        let step = match key {
            LuaValue::String(name) => format!(".{}", name.to_string_lossy()),
            LuaValue::Integer(n) => format!("[{n}]"),
            other => format!("[{}]", other.type_name()),
        };
        self.path.insert_str(0, &step);
        self
    }

    /// The fault as a sentence about the thing called `name`.
    pub(crate) fn of(&self, name: &str) -> String {
        format!("{name}{} {}", self.path, self.what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("it"))
    }
}

/// Carries values in and out of one VM; owns the tables that stand for nodes there.
#[derive(Clone)]
pub(crate) struct Marshal {
    node_meta: Table,
    interned: Table,
}

impl Marshal {
    /// For a VM in which no node has been seen. The prelude fills `node_meta`.
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        let weak = lua.create_table()?;
        weak.set("__mode", "v")?;
        let interned = lua.create_table()?;
        interned.set_metatable(Some(weak))?;
        Ok(Self { node_meta: lua.create_table()?, interned })
    }

    /// The metatable of every node table.
    pub(crate) fn node_meta(&self) -> &Table {
        &self.node_meta
    }

    /// Makes a Lua value.
    pub(crate) fn to_lua(&self, lua: &Lua, value: &Value) -> mlua::Result<LuaValue> {
        Ok(match value {
            Value::Nil => LuaValue::Nil,
            Value::Bool(b) => LuaValue::Boolean(*b),
            Value::Int(n) => LuaValue::Integer(*n),
            Value::Float(n) => LuaValue::Number(*n),
            Value::Str(bytes) => LuaValue::String(lua.create_string(bytes)?),
            Value::Node(node) => LuaValue::Table(self.node(lua, node)?),
            Value::List(items) => {
                let table = lua.create_table_with_capacity(items.len(), 0)?;
                for (i, item) in items.iter().enumerate() {
                    table.raw_set(i + 1, self.to_lua(lua, item)?)?;
                }
                LuaValue::Table(table)
            }
            Value::Map(entries) => {
                let table = lua.create_table_with_capacity(0, entries.len())?;
                for (key, value) in entries {
                    table.raw_set(self.to_lua(lua, key)?, self.to_lua(lua, value)?)?;
                }
                LuaValue::Table(table)
            }
        })
    }

    /// The interned table of a node: equal ids give the same table for as long as a script holds on to it.
    pub(crate) fn node(&self, lua: &Lua, node: &Contact) -> mlua::Result<Table> {
        let id = lua.create_string(node.id.as_bytes())?;
        if let Some(known) = self.interned.raw_get::<Option<Table>>(&id)? {
            self.move_node(&known, node)?;
            return Ok(known);
        }
        let made = lua.create_table_with_capacity(0, 3)?;
        made.raw_set("id", node.id.to_string())?;
        made.raw_set("ip", node.addr.ip().to_string())?;
        made.raw_set("port", node.addr.port())?;
        made.set_metatable(Some(self.node_meta.clone()))?;
        made.set_readonly(true);
        self.interned.raw_set(id, &made)?;
        Ok(made)
    }

    /// Follows a node to a new address, so that one id never stands for two tables.
    fn move_node(&self, table: &Table, node: &Contact) -> mlua::Result<()> {
        if self.read_node(table).is_ok_and(|known| known.addr == node.addr) {
            return Ok(());
        }
        table.set_readonly(false);
        table.raw_set("ip", node.addr.ip().to_string())?;
        table.raw_set("port", node.addr.port())?;
        table.set_readonly(true);
        Ok(())
    }

    /// True if this table is a node made by the host.
    pub(crate) fn is_node(&self, table: &Table) -> bool {
        table.metatable().is_some_and(|meta| meta.to_pointer() == self.node_meta.to_pointer())
    }

    /// The contact that a node table stands for.
    pub(crate) fn read_node(&self, table: &Table) -> Result<Contact, Fault> {
        if !self.is_node(table) {
            return Err(Fault::new("is not a node"));
        }
        let read = || -> Option<Contact> {
            let id: NodeId = table.raw_get::<String>("id").ok()?.parse().ok()?;
            let ip: IpAddr = table.raw_get::<String>("ip").ok()?.parse().ok()?;
            Some(Contact::new(id, SocketAddr::new(ip, table.raw_get("port").ok()?)))
        };
        read().ok_or_else(|| Fault::new("is a damaged node"))
    }

    /// Reads a Lua value by way of its encoding, so that there is one walk over Lua tables and not two.
    pub(crate) fn from_lua(&self, value: &LuaValue, bounds: Bounds) -> Result<Value, Fault> {
        let mut out = Vec::new();
        self.encode(value, bounds, &mut out)?;
        Value::decode(&out, bounds).map_err(|error| Fault::new(format!("is not usable: {error}")))
    }

    /// Appends the encoding of a Lua value.
    pub(crate) fn encode(&self, value: &LuaValue, bounds: Bounds, out: &mut Vec<u8>) -> Result<(), Fault> {
        Encoder { marshal: self, bounds, start: out.len(), out }.value(value, 0)
    }

    /// Appends the encoding of an object's state: every field of its table that is not a function, but for
    /// `value` where that still is what was put.
    pub(crate) fn encode_state(
        &self,
        aso: &Table,
        value_as_put: Option<&LuaValue>,
        bounds: Bounds,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let start = out.len();
        let mut encoder = Encoder { marshal: self, bounds, start, out };
        let mut fields = 0;
        encoder.entries(aso, |encoder, key, value| {
            if value.is_function()
                || (is_value_field(&key) && value_as_put.is_some_and(|put| same(put, &value)))
            {
                return Ok(());
            }
            fields += 1;
            encoder.entry(&key, &value, 0)
        })?;
        if value_as_put.is_some_and(|put| !put.is_nil()) && is_absent(aso) {
            fields += 1;
            codec::write_str(encoder.out, VALUE_FIELD.as_bytes());
            codec::write_nil(encoder.out);
        }
        encoder.prepend(start, |header| codec::write_map_header(header, fields));
        Ok(())
    }
}

fn is_value_field(key: &LuaValue) -> bool {
    matches!(key, LuaValue::String(name) if *name.as_bytes() == *VALUE_FIELD.as_bytes())
}

fn is_absent(aso: &Table) -> bool {
    matches!(aso.raw_get::<LuaValue>(VALUE_FIELD), Ok(LuaValue::Nil))
}

/// True if a handler cannot have changed one into the other. Tables can change inside, so they never are.
fn same(put: &LuaValue, now: &LuaValue) -> bool {
    match (put, now) {
        (LuaValue::Table(_), _) => false,
        (LuaValue::String(a), LuaValue::String(b)) => a.to_pointer() == b.to_pointer(),
        (a, b) => a == b,
    }
}

struct Encoder<'a> {
    marshal: &'a Marshal,
    bounds: Bounds,
    start: usize,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    fn value(&mut self, value: &LuaValue, depth: usize) -> Result<(), Fault> {
        match value {
            LuaValue::Nil => codec::write_nil(self.out),
            LuaValue::Boolean(b) => codec::write_bool(self.out, *b),
            LuaValue::Integer(n) => codec::write_int(self.out, *n),
            LuaValue::Number(n) => codec::write_float(self.out, *n),
            LuaValue::String(text) => codec::write_str(self.out, &text.as_bytes()),
            LuaValue::Table(table) if self.marshal.is_node(table) => {
                codec::write_node(self.out, &self.marshal.read_node(table)?);
            }
            LuaValue::Table(table) => self.table(table, depth)?,
            other => return Err(Fault::new(format!("is a {}, which cannot be kept or sent", kind(other)))),
        }
        let size = self.out.len() - self.start;
        if size > self.bounds.bytes {
            return Err(Fault::new(format!("has more than {} bytes", self.bounds.bytes)));
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), Fault> {
        if depth >= self.bounds.depth {
            return Err(Fault::new(format!("is nested deeper than {} levels", self.bounds.depth)));
        }
        if table.metatable().is_some() {
            return Err(Fault::new("is a table with a metatable, which cannot be kept or sent"));
        }
        let start = self.out.len();
        if self.list(table, depth)? {
            return Ok(());
        }
        self.out.truncate(start);
        let mut entries = 0;
        self.entries(table, |encoder, key, value| {
            entries += 1;
            encoder.entry(&key, &value, depth)
        })?;
        self.prepend(start, |header| codec::write_map_header(header, entries));
        Ok(())
    }

    /// Writes the table as a list; false if it turns out not to be one.
    fn list(&mut self, table: &Table, depth: usize) -> Result<bool, Fault> {
        let start = self.out.len();
        let mut items = 0;
        let mut is_list = true;
        self.entries(table, |encoder, key, value| {
            if !is_list || key.as_i64() != Some(items + 1) {
                is_list = false;
                return Ok(());
            }
            items += 1;
            encoder.value(&value, depth + 1).map_err(|fault| fault.below(&key))
        })?;
        if is_list {
            self.prepend(start, |header| codec::write_list_header(header, items as usize));
        }
        Ok(is_list)
    }

    fn entry(&mut self, key: &LuaValue, value: &LuaValue, depth: usize) -> Result<(), Fault> {
        let table_key = matches!(key, LuaValue::Table(table) if !self.marshal.is_node(table));
        if table_key {
            return Err(Fault::new("has a table as key, which cannot be kept or sent"));
        }
        self.value(key, depth + 1)?;
        self.value(value, depth + 1).map_err(|fault| fault.below(key))
    }

    /// Visits a table raw, in Lua's order.
    fn entries(
        &mut self,
        table: &Table,
        mut visit: impl FnMut(&mut Self, LuaValue, LuaValue) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut fault = None;
        let walked = table.for_each(|key: LuaValue, value: LuaValue| {
            visit(self, key, value).map_err(|found| {
                fault = Some(found);
                mlua::Error::runtime("stop")
            })
        });
        match (fault, walked) {
            (Some(fault), _) => Err(fault),
            (None, Err(error)) => Err(Fault::new(format!("cannot be read: {error}"))),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Puts a header, whose length depends on what follows it, before what was written since `start`.
    fn prepend(&mut self, start: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let mut header = Vec::with_capacity(5);
        write(&mut header);
        self.out.splice(start..start, header);
    }
}

fn kind(value: &LuaValue) -> &'static str {
    match value {
        LuaValue::Error(_) => "error",
        other => other.type_name(),
    }
}
