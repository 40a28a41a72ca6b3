//! Luau's memory categories: which object of a VM owns how many bytes.
//!
//! This is unsafe code. Luau counts every allocation under the category that its thread
//! carries (`lua_setmemcat`), up to 255 of them, and reports a category's live bytes, garbage included until
//! it is collected (`lua_totalbytes`). mlua has no safe call for either. Both calls only read or write a
//! byte or a counter of a live state: they allocate nothing, call back nothing and raise nothing.
//!
//! A thread's stack is counted under the category that made the thread, whoever runs in it.
#![allow(unsafe_code, reason = "mlua has no safe call for Luau's memory categories")]

use mlua::{Lua, Thread, ffi};

/// The owner of an allocation within one VM.
pub(crate) type Category = u8;

/// What belongs to the VM itself.
pub(crate) const HOST: Category = 0;

/// The most objects that one VM meters apart; Luau has 255 categories and the VM keeps one.
pub(crate) const OBJECTS_MAX: Category = 250;

/// The categories of one VM.
pub(crate) struct Ledger {
    main: *mut ffi::lua_State,
    /// Keeps the state behind `main` alive.
    _lua: Lua,
}

impl Ledger {
    /// The categories of this VM.
    pub(crate) fn of(lua: &Lua) -> mlua::Result<Self> {
        let mut main = std::ptr::null_mut();
        let out = &raw mut main;
        // SAFETY: `out` points to a local that outlives the closure, which runs before `exec_raw` returns,
        // and the stack is left as it was.
        unsafe { lua.exec_raw::<()>((), move |state| *out = ffi::lua_mainthread(state))? };
        Ok(Self { main, _lua: lua.clone() })
    }

    /// Charges what `thread` and the main state allocate from now on to `category`.
    pub(crate) fn charge_to(&self, thread: &Thread, category: Category) {
        self.charge_main_to(category);
        // SAFETY: `thread` is alive, so its state is; the call stores one byte in it.
        unsafe { ffi::lua_setmemcat(thread.state(), i32::from(category)) };
    }

    /// Charges what the host allocates in the main state from now on to `category`.
    pub(crate) fn charge_main_to(&self, category: Category) {
        // SAFETY: `_lua` keeps the state alive; the call stores one byte in it.
        unsafe { ffi::lua_setmemcat(self.main, i32::from(category)) };
    }

    /// Bytes that belong to `category`, garbage included.
    pub(crate) fn bytes_of(&self, category: Category) -> usize {
        // SAFETY: `_lua` keeps the state alive; the call reads a counter.
        unsafe { ffi::lua_totalbytes(self.main, i32::from(category)) }
    }
}
