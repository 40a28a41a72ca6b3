//! Values across the border between Rust and Lua.
//!
//! Lua's side is always read raw, so no metamethod ever runs on the host's behalf, and with the bounds of
//! [`Bounds`], so a cycle or a huge table is an error and not a hang.

use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use comet_routing::{Contact, KEY_BYTES, NodeId};
use mlua::{Lua, Table, Value as LuaValue};

use super::{
    pace,
    seen::{self, Seen, SeenTable},
    text::clean,
};
use crate::{
    Value,
    codec::{self, Bounds, ELEMENTS_MAX},
    is_veiled,
    policy::PolicyFields,
};

/// The field of `aso` that holds the put's data.
pub(crate) const VALUE_FIELD: &str = "value";

/// How much of a field's name a fault's path shows, in bytes.
const PATH_STEP_BYTES_MAX: usize = 40;

/// What writing one table entry costs, in the meter's unit of work, beyond its bytes.
const WORK_PER_ENTRY: usize = 256;
/// What writing one byte costs.
const WORK_PER_BYTE: u64 = 2;

/// Entries of a map between two readings of the clock: keys that were chosen to fall into one place of Luau's
/// table make each entry take as long as there are entries.
const ENTRIES_PER_READING: usize = 64;

/// Longest encoding of a table that is remembered while a value is written.
const REMEMBERED_BYTES_MAX: usize = 4 * 1024;

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

    fn below(mut self, key: Seen<'_>) -> Self {
        let step = match key {
            Seen::Str(name) => format!(".{}", clean(&String::from_utf8_lossy(name), PATH_STEP_BYTES_MAX)),
            Seen::Int(n) => format!("[{n}]"),
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

impl From<mlua::Error> for Fault {
    fn from(error: mlua::Error) -> Self {
        Self::new(format!("cannot be read: {error}"))
    }
}

/// Carries values in and out of one VM; owns the tables that stand for nodes there.
#[derive(Clone)]
pub(crate) struct Marshal {
    node_meta: Table,
    /// Where that is in memory.
    node_meta_address: *const c_void,
    interned: Table,
}

impl Marshal {
    /// For a VM in which no node has been seen. The prelude fills `node_meta`.
    pub(crate) fn new(lua: &Lua) -> mlua::Result<Self> {
        let weak = lua.create_table()?;
        weak.set("__mode", "v")?;
        let interned = lua.create_table()?;
        interned.set_metatable(Some(weak))?;
        let node_meta = lua.create_table()?;
        Ok(Self { node_meta_address: node_meta.to_pointer(), node_meta, interned })
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
                for (n, item) in (1_usize..).zip(items) {
                    table.raw_set(n, self.to_lua(lua, item)?)?;
                }
                LuaValue::Table(table)
            }
            Value::Map(entries) => {
                let table = lua.create_table_with_capacity(0, entries.len())?;
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n % ENTRIES_PER_READING == ENTRIES_PER_READING - 1 && pace::is_late() {
                        return Err(mlua::Error::runtime("the value takes too long to make"));
                    }
                    table.raw_set(self.to_lua(lua, key)?, self.to_lua(lua, value)?)?;
                }
                LuaValue::Table(table)
            }
        })
    }

    /// The interned table of a node: equal ids give the same table for as long as a script holds on to it, one with
    /// the address and one without.
    pub(crate) fn node(&self, lua: &Lua, node: &Contact) -> mlua::Result<Table> {
        // A node as it called and the same node as it was found are two: an object that only heard from it must not
        // learn its address from another that looked for it.
        let mut name = [0; KEY_BYTES + 1];
        name[..KEY_BYTES].copy_from_slice(node.id.as_bytes());
        name[KEY_BYTES] = is_veiled(node).into();
        let id = lua.create_string(name)?;
        if let Some(known) = self.interned.raw_get::<Option<Table>>(&id)? {
            self.move_node(lua, &known, node)?;
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
    fn move_node(&self, lua: &Lua, table: &Table, node: &Contact) -> mlua::Result<()> {
        if self.read_node(lua, table).is_ok_and(|known| known.addr == node.addr) {
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
        table.metatable().is_some_and(|meta| meta.to_pointer() == self.node_meta_address)
    }

    /// The contact that a node table stands for.
    pub(crate) fn read_node(&self, lua: &Lua, table: &Table) -> Result<Contact, Fault> {
        if !self.is_node(table) {
            return Err(Fault::new("is not a node"));
        }
        seen::look_into(lua, table, node_in)?
    }

    /// Reads a Lua value by way of its encoding, so that there is one walk over Lua tables and not two. Says
    /// how much work that was, also where it failed.
    pub(crate) fn read(
        &self,
        lua: &Lua,
        value: &LuaValue,
        bounds: Bounds,
        charge: impl FnOnce(u64),
    ) -> Result<Value, Fault> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(self, bounds, &mut out);
        let encoded = encoder.root(lua, value);
        let entries = encoder.visited.saturating_add(encoder.elements);
        let bytes_work = (out.len() as u64).saturating_mul(WORK_PER_BYTE);
        charge((entries.saturating_mul(WORK_PER_ENTRY) as u64).saturating_add(bytes_work));
        encoded?;
        Value::decode(&out, bounds).map_err(|error| Fault::new(format!("is not usable: {error}")))
    }

    /// Appends the encoding of a Lua value.
    pub(crate) fn encode(
        &self,
        lua: &Lua,
        value: &LuaValue,
        bounds: Bounds,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        Encoder::new(self, bounds, out).root(lua, value)
    }

    /// Appends the encoding of an object's state: every field of its table that is not a function, but for
    /// `value` where that still is what was put. Returns the fields that its policy is made of.
    pub(crate) fn encode_state(
        &self,
        lua: &Lua,
        aso: &Table,
        value_as_put: Option<&LuaValue>,
        bounds: Bounds,
        out: &mut Vec<u8>,
    ) -> Result<PolicyFields, Fault> {
        let mut encoder = Encoder::new(self, bounds, out);
        let (mut fields, mut has_value, mut policy) = (0_usize, false, PolicyFields::default());
        seen::look_into(lua, aso, |aso| {
            encoder.entries(aso, |encoder, key, value| {
                let is_function = matches!(value, Seen::Function);
                let Seen::Str(name) = key else {
                    if is_function {
                        return Ok(());
                    }
                    fields = fields.saturating_add(1);
                    return encoder.entry(key, value, 0);
                };
                policy.note(name, value);
                let is_value = name == VALUE_FIELD.as_bytes();
                has_value |= is_value;
                if is_function || is_value && value_as_put.is_some_and(|put| same(put, value)) {
                    return Ok(());
                }
                fields = fields.saturating_add(1);
                codec::write_str(encoder.out, name);
                encoder.weigh()?;
                encoder.value(value, 1).map_err(|fault| fault.below(key))
            })
        })??;
        if value_as_put.is_some_and(|put| !put.is_nil()) && !has_value {
            fields = fields.saturating_add(1);
            codec::write_str(encoder.out, VALUE_FIELD.as_bytes());
            codec::write_nil(encoder.out);
        }
        encoder.count(fields)?;
        let start = encoder.start;
        encoder.prepend(start, |header| codec::write_map_header(header, fields));
        encoder.weigh()?;
        Ok(policy)
    }
}

/// The contact that this node stands for.
fn node_in(table: SeenTable<'_>) -> Result<Contact, Fault> {
    fn parsed<T: FromStr>(text: &[u8]) -> Option<T> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }
    let (mut id, mut ip, mut port) = (None, None, None);
    table.entries(|key, value| {
        match (key, value) {
            (Seen::Str(b"id"), Seen::Str(text)) => id = parsed::<NodeId>(text),
            (Seen::Str(b"ip"), Seen::Str(text)) => ip = parsed::<IpAddr>(text),
            (Seen::Str(b"port"), Seen::Int(n)) => port = u16::try_from(n).ok(),
            _ => {}
        }
        Ok::<_, Fault>(())
    })?;
    match (id, ip, port) {
        (Some(id), Some(ip), Some(port)) => Ok(Contact::new(id, SocketAddr::new(ip, port))),
        _ => Err(Fault::new("is a damaged node")),
    }
}

/// True if a handler cannot have changed one into the other. Tables can change inside, so they never are.
fn same(put: &LuaValue, now: Seen<'_>) -> bool {
    match (put, now) {
        // Equal strings of one VM are one string.
        (LuaValue::String(put), Seen::Str(now)) => put.as_bytes().as_ptr() == now.as_ptr(),
        (LuaValue::Boolean(put), Seen::Bool(now)) => *put == now,
        (put, Seen::Int(now)) => *put == LuaValue::Integer(now),
        (put, Seen::Float(now)) => *put == LuaValue::Number(now),
        _ => false,
    }
}

/// Why the length of a list is not known.
enum NoList {
    /// It is another kind of table.
    Other,
    Unreadable(mlua::Error),
}

impl From<mlua::Error> for NoList {
    fn from(error: mlua::Error) -> Self {
        Self::Unreadable(error)
    }
}

struct Encoder<'a> {
    marshal: &'a Marshal,
    bounds: Bounds,
    start: usize,
    /// List items and map entries written.
    elements: usize,
    /// Table entries looked at.
    visited: usize,
    /// Depth of the deepest table since this was last set.
    deepest: usize,
    /// Tables that were written, by address. A table has room for more entries than it holds, and all of that is
    /// walked, so one that is referred to thousands of times must not be walked as often.
    remembered: HashMap<*const c_void, Remembered>,
    out: &'a mut Vec<u8>,
}

/// What a table came to.
struct Remembered {
    bytes: Box<[u8]>,
    elements: usize,
    /// Levels of tables below it.
    height: usize,
}

impl<'a> Encoder<'a> {
    fn new(marshal: &'a Marshal, bounds: Bounds, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { marshal, bounds, start, elements: 0, visited: 0, deepest: 0, remembered: HashMap::new(), out }
    }

    fn root(&mut self, lua: &Lua, value: &LuaValue) -> Result<(), Fault> {
        match value {
            LuaValue::Table(table) => seen::look_into(lua, table, |table| self.value(Seen::Table(table), 0))?,
            LuaValue::String(text) => self.value(Seen::Str(&text.as_bytes()), 0),
            other => self.value(Seen::without_contents(other), 0),
        }
    }

    fn value(&mut self, value: Seen<'_>, depth: usize) -> Result<(), Fault> {
        match value {
            Seen::Nil => codec::write_nil(self.out),
            Seen::Bool(b) => codec::write_bool(self.out, b),
            Seen::Int(n) => codec::write_int(self.out, n),
            Seen::Float(n) => codec::write_float(self.out, n),
            Seen::Str(text) => codec::write_str(self.out, text),
            Seen::Table(table) if self.is_node(table) => codec::write_node(self.out, &node_in(table)?),
            Seen::Table(table) => self.table(table, depth)?,
            other => {
                return Err(Fault::new(format!("is a {}, which cannot be kept or sent", other.type_name())));
            }
        }
        self.weigh()
    }

    fn is_node(&self, table: SeenTable<'_>) -> bool {
        table.metatable() == self.marshal.node_meta_address
    }

    fn weigh(&self) -> Result<(), Fault> {
        if self.out.len().saturating_sub(self.start) > self.bounds.bytes {
            return Err(Fault::new(format!("has more than {} bytes", self.bounds.bytes)));
        }
        Ok(())
    }

    fn count(&mut self, elements: usize) -> Result<(), Fault> {
        self.elements = self.elements.saturating_add(elements);
        if self.elements > ELEMENTS_MAX {
            return Err(Fault::new(format!("has more than {ELEMENTS_MAX} elements")));
        }
        Ok(())
    }

    fn table(&mut self, table: SeenTable<'_>, depth: usize) -> Result<(), Fault> {
        if depth >= self.bounds.depth {
            return Err(Fault::new(format!("is nested deeper than {} levels", self.bounds.depth)));
        }
        if !table.metatable().is_null() {
            return Err(Fault::new("is a table with a metatable, which cannot be kept or sent"));
        }
        let address = table.address();
        if self.write_again(address, depth)? {
            return Ok(());
        }
        let (start, elements) = (self.out.len(), self.elements);
        let deepest_elsewhere = std::mem::replace(&mut self.deepest, depth);
        match self.list_length(table)? {
            Some(items) => self.list(table, items, depth)?,
            None => self.map(table, depth)?,
        }
        let bytes = self.out.get(start..).unwrap_or_default();
        if bytes.len() <= REMEMBERED_BYTES_MAX {
            let elements = self.elements.saturating_sub(elements);
            let height = self.deepest.saturating_sub(depth);
            self.remembered.insert(address, Remembered { bytes: bytes.into(), elements, height });
        }
        self.deepest = self.deepest.max(deepest_elsewhere);
        Ok(())
    }

    /// Writes a table that was written before; false if it was not, or cannot stand at this depth.
    fn write_again(&mut self, address: *const c_void, depth: usize) -> Result<bool, Fault> {
        let Some(known) = self.remembered.get(&address) else { return Ok(false) };
        let deepest = depth.saturating_add(known.height);
        if deepest >= self.bounds.depth {
            return Ok(false);
        }
        self.out.extend_from_slice(&known.bytes);
        self.deepest = self.deepest.max(deepest);
        self.count(known.elements)?;
        Ok(true)
    }

    /// How many items the table has if its keys are 1, 2, 3, …, whatever order it keeps them in. Looks at keys
    /// only: what writes while it finds out writes every level of a nested table twice.
    fn list_length(&mut self, table: SeenTable<'_>) -> Result<Option<usize>, Fault> {
        let (mut entries, mut highest) = (0_usize, 0);
        let walked = table.entries(|key, _| {
            entries = entries.saturating_add(1);
            match key {
                Seen::Int(n) if n > 0 && entries <= ELEMENTS_MAX => {
                    highest = highest.max(n);
                    Ok(())
                }
                _ => Err(NoList::Other),
            }
        });
        self.visited = self.visited.saturating_add(entries);
        match walked {
            Err(NoList::Unreadable(error)) => Err(error.into()),
            Err(NoList::Other) => Ok(None),
            Ok(()) => Ok((highest == entries as i64).then_some(entries)),
        }
    }

    fn list(&mut self, table: SeenTable<'_>, items: usize, depth: usize) -> Result<(), Fault> {
        self.count(items)?;
        codec::write_list_header(self.out, items);
        // There are not more than `ELEMENTS_MAX`.
        table.items(items as c_int, |n, item| {
            self.visited = self.visited.saturating_add(1);
            self.value(item, depth.saturating_add(1)).map_err(|fault| fault.below(Seen::Int(n.into())))
        })
    }

    fn map(&mut self, table: SeenTable<'_>, depth: usize) -> Result<(), Fault> {
        let start = self.out.len();
        let mut entries = 0_usize;
        self.entries(table, |encoder, key, value| {
            entries = entries.saturating_add(1);
            encoder.count(1)?;
            encoder.entry(key, value, depth)
        })?;
        self.prepend(start, |header| codec::write_map_header(header, entries));
        Ok(())
    }

    fn entry(&mut self, key: Seen<'_>, value: Seen<'_>, depth: usize) -> Result<(), Fault> {
        if matches!(key, Seen::Table(table) if !self.is_node(table)) {
            return Err(Fault::new("has a table as key, which cannot be kept or sent"));
        }
        let below = depth.saturating_add(1);
        self.value(key, below)?;
        self.value(value, below).map_err(|fault| fault.below(key))
    }

    /// Visits a table raw, in Lua's order.
    fn entries(
        &mut self,
        table: SeenTable<'_>,
        mut visit: impl FnMut(&mut Self, Seen<'_>, Seen<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        table.entries(|key, value| {
            self.visited = self.visited.saturating_add(1);
            visit(self, key, value)
        })
    }

    /// Puts a header, whose length depends on what follows it, before what was written since `start`.
    fn prepend(&mut self, start: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let end = self.out.len();
        write(self.out);
        let header_bytes = self.out.len().saturating_sub(end);
        if let Some(written) = self.out.get_mut(start..) {
            written.rotate_right(header_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
