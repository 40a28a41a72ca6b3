//! What Luau lets pass between two interrupts, and how it is watched all the same.
//!
//! Luau interrupts at calls, returns and loop turns only. A straight stretch of code has none, and one
//! instruction of it may read a long string as a number, compare or join two: 16 KB of source are enough for
//! seconds. So strings have a largest size, and a script that could hold a long stretch runs in Luau's
//! single-step mode, in which the clock is read every few instructions.
//!
//! This is unsafe code, as mlua has no safe call for `lua_singlestep` and for the two callbacks. They are set
//! once per VM. `debugstep` runs between two instructions, as a debugger would, and does no more than what
//! Luau does itself at a loop turn: it calls the interrupt, which may raise. `onallocate` only looks at sizes.
//! Both find the turn that runs on their thread in a cell of that thread.
#![allow(unsafe_code, reason = "mlua has no safe call for Luau's single-step mode")]

use std::{
    cell::Cell,
    ffi::{c_int, c_void},
    time::Duration,
};

use mlua::{Lua, Thread, ffi};

use super::{
    host::STRING_BYTES_MAX,
    meter::{Exceeded, Stopwatch},
};

/// Largest block of a string. A buffer grows by half, so that a string of [`STRING_BYTES_MAX`] can be built.
const STRING_BLOCK_BYTES_MAX: usize = STRING_BYTES_MAX / 2 * 3 + 1024;

/// Instructions between two readings of the clock. The worst one takes some 0.3 ms at the largest strings.
const INSTRUCTIONS_PER_READING: u32 = 8;

/// Signs in a source up to which it runs at full speed. Each instruction that could be slow takes one at least.
const SIGNS_MAX: usize = 16;

thread_local! {
    static TURN: Watched = const { Watched::nothing() };
}

/// The turn that runs on this thread.
struct Watched {
    until: Cell<Option<(Stopwatch, Duration)>>,
    instructions: Cell<u32>,
    exceeded: Cell<Option<Exceeded>>,
}

/// Where the clock is read while a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At calls, returns and loop turns.
    Interrupts,
    /// Between instructions, too.
    Instructions,
}

impl Pace {
    /// The pace at which this source has to run. Counts signs wherever they stand, so that nothing hides.
    pub(crate) fn of(source: &str) -> Self {
        let signs = source.bytes().filter(|byte| b"+-*/%^<>=~.[{:#,".contains(byte)).count();
        let loops = source.matches("for").count();
        if signs.saturating_add(loops) > SIGNS_MAX { Self::Instructions } else { Self::Interrupts }
    }

    /// Makes what `thread` runs from now on run at this pace.
    pub(crate) fn set(self, thread: &Thread) {
        // SAFETY: `thread` is alive, so its state is; the call stores one flag in it.
        unsafe { ffi::lua_singlestep(thread.state(), c_int::from(self == Self::Instructions)) };
    }
}

impl Watched {
    const fn nothing() -> Self {
        Self { until: Cell::new(None), instructions: Cell::new(0), exceeded: Cell::new(None) }
    }

    /// One more instruction; true if the turn has to end.
    fn step(&self) -> bool {
        match self.instructions.get().checked_sub(1) {
            Some(left) => self.instructions.set(left),
            None => {
                self.instructions.set(INSTRUCTIONS_PER_READING - 1);
                self.read_clock();
            }
        }
        self.exceeded.get().is_some()
    }

    fn read_clock(&self) {
        if let Some((read, deadline)) = self.until.get()
            && read() > deadline
        {
            self.exceeded.set(Some(Exceeded::Time));
        }
    }
}

/// Watches what runs in this VM.
pub(crate) fn watch(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: the state is alive, its callbacks are one structure per VM, and both functions have the
    // signatures that Luau asks for and live as long as the program.
    unsafe {
        lua.exec_raw((), |state| {
            let callbacks = ffi::lua_callbacks(state);
            (*callbacks).debugstep = Some(stepped);
            (*callbacks).onallocate = Some(allocated);
        })
    }
}

/// A turn begins on this thread. Without a deadline only the sizes of strings are looked at.
pub(crate) fn turn_begins(until: Option<(Stopwatch, Duration)>) {
    TURN.with(|turn| {
        turn.until.set(until);
        turn.instructions.set(0);
        turn.exceeded.set(None);
    });
}

/// The turn on this thread is over: what the host still does has no deadline.
pub(crate) fn turn_ends() {
    TURN.with(|turn| turn.until.set(None));
}

/// Reads the clock on behalf of the host; true if the turn has to end.
pub(crate) fn is_late() -> bool {
    TURN.with(|turn| {
        turn.read_clock();
        turn.exceeded.get().is_some()
    })
}

/// What the turn on this thread has exceeded between two interrupts.
pub(crate) fn exceeded() -> Option<Exceeded> {
    TURN.with(|turn| turn.exceeded.get())
}

unsafe extern "C-unwind" fn stepped(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    if TURN.with(Watched::step) {
        // SAFETY: Luau calls this between two instructions of a running state, where it may raise; nothing of
        // this frame has a destructor.
        unsafe {
            if let Some(interrupt) = (*ffi::lua_callbacks(state)).interrupt {
                interrupt(state, -1);
            }
        }
    }
}

unsafe extern "C-unwind" fn allocated(
    _: *mut ffi::lua_State,
    _: *mut c_void,
    _: usize,
    bytes: usize,
    _: u8,
    kind: c_int,
    _: c_int,
) {
    if kind == ffi::LUA_TSTRING && bytes > STRING_BLOCK_BYTES_MAX {
        TURN.with(|turn| turn.exceeded.set(Some(Exceeded::Memory)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_runs_at_full_speed_only_if_no_stretch_of_it_can_be_long() {
        let small = "function aso:onGet() self.n = self.n + 1 return self.n end";
        assert_eq!(Pace::of(small), Pace::Interrupts);
        for slow in
            ["x = -s ", "x = s < t ", "x = s .. t ", "for i = s, 1 do end ", "x = { ... } ", "x = #t "]
        {
            assert_eq!(Pace::of(slow), Pace::Interrupts, "{slow}");
            assert_eq!(Pace::of(&slow.repeat(17)), Pace::Instructions, "{slow}");
        }
    }

    #[test]
    fn the_clock_is_read_between_instructions() {
        let turn = Watched::nothing();
        turn.until.set(Some((|| Duration::from_secs(1), Duration::from_secs(2))));
        assert!((0..1_000).all(|_| !turn.step()), "the time is not up");
        turn.until.set(Some((|| Duration::from_secs(3), Duration::from_secs(2))));
        let steps = (0..1_000).take_while(|_| !turn.step()).count() as u32;
        assert!(steps < INSTRUCTIONS_PER_READING, "{steps}");
        assert!(turn.step(), "the verdict sticks");
    }
}
