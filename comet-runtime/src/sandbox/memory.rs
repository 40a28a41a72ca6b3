//! Luau's memory categories: which object of a VM owns how many bytes.
//!
//! This is the crate's only unsafe code. Luau counts every allocation under the category that its thread
//! carries (`lua_setmemcat`), up to 255 of them, and reports a category's live bytes, garbage included until
//! it is collected (`lua_totalbytes`). mlua has no safe call for either. Both calls only read or write a
//! byte or a counter of a live state: they allocate nothing, call back nothing and raise nothing.
#![allow(unsafe_code, reason = "mlua has no safe call for Luau's memory categories")]

use mlua::{Lua, Thread, ffi};

/// The owner of an allocation within one VM.
pub(crate) type Category = u8;

/// What belongs to the VM itself.
pub(crate) const HOST: Category = 0;

/// The most objects that one VM meters apart; Luau has 255 categories and the VM keeps one.
pub(crate) const OBJECTS_MAX: Category = 250;

/// Charges what `thread` and the main state allocate from now on to `category`.
pub(crate) fn charge_to(lua: &Lua, thread: &Thread, category: Category) {
    charge_main_to(lua, category);
    // SAFETY: `thread` is alive, so its state is; the call stores one byte in it.
    unsafe { ffi::lua_setmemcat(thread.state(), i32::from(category)) };
}

/// Charges what the host allocates in the main state from now on to `category`.
pub(crate) fn charge_main_to(lua: &Lua, category: Category) {
    // SAFETY: the state handed to the closure is alive for its duration; the call stores one byte in it,
    // and the stack is left as it was.
    let done = unsafe { lua.exec_raw::<()>((), |state| ffi::lua_setmemcat(state, i32::from(category))) };
    debug_assert!(done.is_ok(), "setting a memory category cannot fail");
}

/// Bytes that belong to `category`, garbage included.
pub(crate) fn bytes_of(lua: &Lua, category: Category) -> usize {
    let mut bytes = 0;
    let out = &raw mut bytes;
    // SAFETY: the state is alive for the closure's duration, the call reads a counter, and `out` points to a
    // local that outlives the closure, which runs before `exec_raw` returns.
    let done = unsafe {
        lua.exec_raw::<()>((), move |state| *out = ffi::lua_totalbytes(state, i32::from(category)))
    };
    debug_assert!(done.is_ok(), "reading a counter cannot fail");
    bytes
}
