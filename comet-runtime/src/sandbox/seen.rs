//! Lua values looked at where they lie, without a handle to each.
//!
//! This is unsafe code, for speed alone. mlua hands out a string, a table or a function as a handle, which is
//! made and dropped on a stack of its own for some 50 ns, and the walk over an object's state, which every turn
//! ends with, needs one for each name and for most values. Without them the state of an object with five fields
//! takes 0.55 to 0.6 µs instead of 1.0, and a turn of an object that counts 1.0 instead of 1.1 to 1.2.
//! The two functions of mlua that put a table on the stack are public and undocumented; the documented
//! `exec_raw` makes a protected call, which nothing here needs, for 0.2 µs more.
//!
//! What makes it sound: a value is only ever lent to a closure, and while that runs the value stays on the Lua
//! stack of whoever called. So it cannot be collected, and Luau moves neither tables nor strings. Tables are
//! named by their place on the stack, never by address, so a stack that grows does no harm. Nothing that is
//! called here allocates in Lua but [`ffi::lua_checkstack`], which catches what it raises; nothing runs a
//! metamethod or raises, so no frame with a destructor is ever jumped over. A place counts from the frame of whoever
//! called, so whoever is lent a table must not look into it from a function that Lua calls meanwhile; the walk calls none.
#![allow(unsafe_code, reason = "mlua reads no table without a handle for each of its values")]

use std::{
    ffi::{c_int, c_void},
    marker::PhantomData,
    ptr, slice,
};

use mlua::{IntoLua, Lua, Table, Value as LuaValue, ffi};

/// Stack places that the walk over a table takes: a key and a value.
const PLACES_PER_TABLE: c_int = 2;

/// The largest double below which every whole number has an `i64`: 2^63.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

/// A Lua value, lent for `'a`.
#[derive(Clone, Copy)]
pub(crate) enum Seen<'a> {
    Nil,
    Bool(bool),
    /// A number without a fraction that is exactly this.
    Int(i64),
    Float(f64),
    Str(&'a [u8]),
    Table(SeenTable<'a>),
    Function,
    /// Anything else, by the name of its type.
    Other(&'static str),
}

/// A Lua table, lent for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct SeenTable<'a> {
    state: *mut ffi::lua_State,
    /// Where on the stack of `state` it lies, counted from the bottom.
    place: c_int,
    lent: PhantomData<&'a Table>,
}

impl Seen<'static> {
    /// A value as far as it can be seen without looking into it: of texts and tables no more than their type.
    pub(crate) fn without_contents(value: &LuaValue) -> Self {
        match value {
            LuaValue::Nil => Self::Nil,
            LuaValue::Boolean(b) => Self::Bool(*b),
            LuaValue::Integer(n) => Self::Int(*n),
            LuaValue::Number(n) => Self::Float(*n),
            LuaValue::Function(_) => Self::Function,
            other => Self::Other(other.type_name()),
        }
    }
}

impl Seen<'_> {
    /// What Lua calls a value of this kind.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "boolean",
            Self::Int(_) => "integer",
            Self::Float(_) => "number",
            Self::Str(_) => "string",
            Self::Table(_) => "table",
            Self::Function => "function",
            Self::Other(name) => name,
        }
    }

    fn number(n: f64) -> Self {
        // Zero below zero is not the integer 0, whose bits are others.
        let whole = n as i64;
        if n < INT_END && (whole as f64).to_bits() == n.to_bits() { Self::Int(whole) } else { Self::Float(n) }
    }
}

/// Lends a table to `read`.
///
/// # Errors
///
/// Lua has no room on its stack.
pub(crate) fn look_into<T>(
    lua: &Lua,
    table: &Table,
    read: impl FnOnce(SeenTable<'_>) -> T,
) -> mlua::Result<T> {
    lua.exec_raw_lua(|raw| {
        let state = raw.state();
        let top = Top::of(state, 1)?;
        // SAFETY: there is room for the one value that is pushed; mlua makes sure that it is of this VM.
        unsafe { table.push_into_stack(raw)? };
        let seen = SeenTable { state, place: top.place.saturating_add(1), lent: PhantomData };
        Ok(read(seen))
    })
}

impl<'a> SeenTable<'a> {
    /// Where the table is in memory; it stays there.
    pub(crate) fn address(self) -> *const c_void {
        // SAFETY: a value lies at this place for as long as `self` can be used; the call reads its address.
        unsafe { ffi::lua_topointer(self.state, self.place) }
    }

    /// Where its metatable is in memory; null without one.
    pub(crate) fn metatable(self) -> *const c_void {
        // SAFETY: as above.
        unsafe { ffi::lua_getmetatablepointer(self.state, self.place) }
    }

    /// Visits every entry, raw, in Lua's order, until the visitor fails.
    ///
    /// # Errors
    ///
    /// The visitor's, or Lua has no room on its stack.
    pub(crate) fn entries<E: From<mlua::Error>>(
        self,
        mut visit: impl FnMut(Seen<'_>, Seen<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let top = Top::of(self.state, PLACES_PER_TABLE)?;
        let (key, value) = (top.place.saturating_add(1), top.place.saturating_add(2));
        let mut at = 0;
        loop {
            // SAFETY: a table lies at this place, `at` is 0 or what the last call returned, and there is room for
            // the two values that the call pushes. It holds `at` against the size that the table has now.
            at = unsafe { ffi::lua_rawiter(self.state, self.place, at) };
            if at < 0 {
                return Ok(());
            }
            // SAFETY: the two values lie there until the top is restored, which is after the visit.
            let (key, value) = unsafe { (seen(self.state, key), seen(self.state, value)) };
            visit(key, value)?;
            top.restore();
        }
    }

    /// Visits the values at 1 to `count`, raw, until the visitor fails; what is not there is nil.
    ///
    /// # Errors
    ///
    /// The visitor's, or Lua has no room on its stack.
    pub(crate) fn items<E: From<mlua::Error>>(
        self,
        count: c_int,
        mut visit: impl FnMut(c_int, Seen<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let top = Top::of(self.state, PLACES_PER_TABLE)?;
        for n in 1..=count {
            // SAFETY: a table lies at this place, there is room for the value that the call pushes, and that lies
            // there until the top is restored, which is after the visit.
            let item = unsafe {
                ffi::lua_rawgeti_(self.state, self.place, n);
                seen(self.state, top.place.saturating_add(1))
            };
            visit(n, item)?;
            top.restore();
        }
        Ok(())
    }
}

/// The value at a place of the stack.
///
/// # Safety
///
/// A value has to lie there for all of `'a`.
unsafe fn seen<'a>(state: *mut ffi::lua_State, place: c_int) -> Seen<'a> {
    // SAFETY: the value is there, and each call is the one for its type, so that nothing is converted.
    unsafe {
        match ffi::lua_type(state, place) {
            ffi::LUA_TNIL => Seen::Nil,
            ffi::LUA_TBOOLEAN => Seen::Bool(ffi::lua_toboolean(state, place) != 0),
            ffi::LUA_TNUMBER => Seen::number(ffi::lua_tonumber(state, place)),
            ffi::LUA_TINTEGER => Seen::Int(ffi::lua_tointeger64(state, place, ptr::null_mut())),
            ffi::LUA_TSTRING => {
                let mut len = 0;
                let bytes = ffi::lua_tolstring(state, place, &raw mut len);
                Seen::Str(slice::from_raw_parts(bytes.cast(), len))
            }
            ffi::LUA_TTABLE => Seen::Table(SeenTable { state, place, lent: PhantomData }),
            ffi::LUA_TFUNCTION => Seen::Function,
            ffi::LUA_TTHREAD => Seen::Other("thread"),
            ffi::LUA_TVECTOR => Seen::Other("vector"),
            ffi::LUA_TBUFFER => Seen::Other("buffer"),
            ffi::LUA_TLIGHTUSERDATA => Seen::Other("lightuserdata"),
            // Scripts cannot make any, and the host makes none but mlua's errors.
            ffi::LUA_TUSERDATA => Seen::Other("error"),
            _ => Seen::Other("other"),
        }
    }
}

/// How high a stack was, and is again when this is dropped.
struct Top {
    state: *mut ffi::lua_State,
    place: c_int,
}

impl Top {
    /// The top of this stack, above which there is room for so many more values.
    fn of(state: *mut ffi::lua_State, room: c_int) -> mlua::Result<Self> {
        // SAFETY: the state is alive, since whoever calls runs in it or holds a table on its stack. The first call
        // makes room or says that it could not, the second reads a number.
        unsafe {
            if ffi::lua_checkstack(state, room) == 0 {
                return Err(mlua::Error::StackError);
            }
            Ok(Self { state, place: ffi::lua_gettop(state) })
        }
    }

    /// Takes off what lies above.
    fn restore(&self) {
        // SAFETY: the stack is at least as high: whoever was lent something has given it back.
        unsafe { ffi::lua_settop(self.state, self.place) };
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn height(lua: &Lua) -> c_int {
        // SAFETY: the state is alive, and the call reads a number.
        lua.exec_raw_lua(|raw| unsafe { ffi::lua_gettop(raw.state()) })
    }

    fn nested(lua: &Lua) -> Table {
        lua.load("local t = {} for i = 1, 50 do t['name ' .. i] = { 'item ' .. i, { i } } end return t")
            .eval()
            .expect("it runs")
    }

    #[test]
    fn what_is_lent_outlives_its_place_in_the_table_and_a_collection() {
        let lua = Lua::new();
        let table = nested(&lua);
        let mut visited = 0;
        let looked = look_into(&lua, &table, |seen| {
            seen.entries(|key, value| {
                visited += 1;
                let Seen::Str(name) = key else { unreachable!("all keys are names") };
                let before = name.to_vec();
                table.raw_set(lua.create_string(name)?, LuaValue::Nil)?;
                lua.gc_collect()?;
                let garbage: Vec<_> = (0..10).map(|n| lua.create_string(format!("junk {n}"))).collect();
                assert_eq!((name, garbage.len()), (&before[..], 10));
                let Seen::Table(inner) = value else { unreachable!("all values are tables") };
                inner.items(2, |n, item| {
                    assert_eq!(
                        (n == 1, n == 2),
                        (matches!(item, Seen::Str(_)), matches!(item, Seen::Table(_)))
                    );
                    Ok::<_, mlua::Error>(())
                })
            })
        });
        assert!(matches!(looked, Ok(Ok(()))), "{looked:?}");
        assert_eq!((visited, table.is_empty()), (50, true));
    }

    #[test]
    fn the_stack_is_left_as_it_was_however_a_visit_ends() {
        let lua = Lua::new();
        let (table, before) = (nested(&lua), height(&lua));
        let stop = || mlua::Error::runtime("stop");
        let failed = look_into(&lua, &table, |seen| {
            seen.entries(|_, value| {
                let Seen::Table(inner) = value else { unreachable!("all values are tables") };
                inner.items(2, |n, _| if n == 2 { Err(stop()) } else { Ok(()) })
            })
        });
        assert!(matches!(failed, Ok(Err(mlua::Error::RuntimeError(_)))));
        assert_eq!(height(&lua), before);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            look_into(&lua, &table, |seen| {
                seen.entries(|_, _| -> mlua::Result<()> {
                    assert!(height(&lua) > before, "the control: something lies on it");
                    panic!("in the midst of it")
                })
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(height(&lua), before);
    }

    #[test]
    fn a_stack_that_cannot_grow_is_an_error() {
        fn depth(seen: SeenTable<'_>) -> mlua::Result<u32> {
            let mut below = 0;
            seen.entries(|_, value| {
                let Seen::Table(inner) = value else { return Ok(()) };
                below = depth(inner)?;
                Ok::<_, mlua::Error>(())
            })?;
            Ok(below + 1)
        }
        let lua = Lua::new();
        let table: Table =
            lua.load("local t = {} for _ = 2, 200 do t = { t } end return t").eval().expect("it runs");
        lua.set_memory_limit(lua.used_memory()).expect("Luau has such a limit");
        let looked = look_into(&lua, &table, depth).and_then(|depth| depth);
        assert!(matches!(looked, Err(mlua::Error::StackError)), "{looked:?}");
        lua.set_memory_limit(0).expect("Luau has such a limit");
        let looked = look_into(&lua, &table, depth).and_then(|depth| depth);
        assert_eq!(looked.ok(), Some(200), "the control: with memory there is no end");
    }
}
