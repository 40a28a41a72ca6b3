//! Steps and time of one turn.
//!
//! Luau calls the interrupt at every loop turn and call: a step. The step budget gives the same verdict on
//! every replica; wall-clock time is the backstop for the rare step that is slow. Once over, the meter fails
//! at every later step until it is reset: a limit that failed once would be swallowed by `pcall`.

use std::{cell::Cell, time::Duration};

use mlua::VmState;

/// Steps between two readings of the clock, about 20 ns each, while nothing expensive was charged. A library
/// function that charges nothing takes a millisecond at most.
const STEPS_PER_READING: u64 = 4;

/// Steps for which the clock is read at every one after a call of expensive work was charged.
const WATCHED_STEPS: u64 = 64 * 1024;

/// Work, in byte comparisons, that costs as much as one step.
const WORK_PER_STEP: u64 = 64;

/// Reads monotonic time since some fixed moment.
pub(crate) type Stopwatch = fn() -> Duration;

/// Which budget a turn exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Steps,
    Time,
    Memory,
}

/// Counts the steps of the turn that runs now.
#[derive(Default)]
pub(crate) struct Meter {
    steps: Cell<u64>,
    steps_max: Cell<u64>,
    next_reading: Cell<u64>,
    watched_until: Cell<u64>,
    until: Cell<Option<(Stopwatch, Duration)>>,
    exceeded: Cell<Option<Exceeded>>,
}

impl Meter {
    /// Starts a turn that ends at the latest when the stopwatch shows so much. Without one (in simulated time)
    /// only steps count.
    pub(crate) fn reset(&self, steps_max: u64, until: Option<(Stopwatch, Duration)>) {
        self.steps.set(0);
        self.steps_max.set(steps_max);
        self.watched_until.set(0);
        self.next_reading.set(if until.is_some() { STEPS_PER_READING } else { u64::MAX });
        self.until.set(until);
        self.exceeded.set(None);
    }

    /// Steps so far.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// The budget that this turn exceeded, if it did.
    pub(crate) fn exceeded(&self) -> Option<Exceeded> {
        self.exceeded.get()
    }

    /// One step: goes on or, from the moment that a budget is used up, fails.
    pub(crate) fn step(&self) -> mlua::Result<VmState> {
        let steps = self.steps.get().saturating_add(1);
        self.steps.set(steps);
        if steps > self.steps_max.get() {
            self.exceed(Exceeded::Steps);
        } else if steps >= self.next_reading.get() {
            self.read_clock(steps);
        }
        match self.exceeded.get() {
            None => Ok(VmState::Continue),
            Some(_) => Err(mlua::Error::runtime("the turn's budget is used up")),
        }
    }

    /// Adds the steps that a library call of so many byte comparisons is worth, and watches the clock
    /// closely while it runs.
    pub(crate) fn charge(&self, work: u64) {
        let steps = self.steps.get().saturating_add(work / WORK_PER_STEP);
        self.steps.set(steps);
        if self.until.get().is_some() {
            self.watched_until.set(steps.saturating_add(WATCHED_STEPS));
            self.next_reading.set(steps.saturating_add(1));
        }
    }

    /// Notes that the turn ran out of memory.
    pub(crate) fn out_of_memory(&self) {
        self.exceed(Exceeded::Memory);
    }

    /// Ends the turn at its next step, for the first reason that was given.
    pub(crate) fn exceed(&self, what: Exceeded) {
        if self.exceeded.get().is_none() {
            self.exceeded.set(Some(what));
        }
    }

    fn read_clock(&self, steps: u64) {
        let Some((read, deadline)) = self.until.get() else { return };
        let pause = if steps < self.watched_until.get() { 1 } else { STEPS_PER_READING };
        self.next_reading.set(steps.saturating_add(pause));
        if read() > deadline {
            self.exceed(Exceeded::Time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_may_use_its_budget_and_not_one_step_more() {
        let meter = Meter::default();
        meter.reset(3, None);
        assert!((0..3).all(|_| meter.step().is_ok()));
        assert_eq!(meter.exceeded(), None);
        assert!(meter.step().is_err());
        assert_eq!(meter.exceeded(), Some(Exceeded::Steps));
        assert!(meter.step().is_err(), "the verdict sticks");
        meter.reset(3, None);
        assert!(meter.step().is_ok(), "until the next turn");
    }

    #[test]
    fn the_clock_is_the_backstop() {
        let meter = Meter::default();
        meter.reset(u64::MAX, Some((late, late())));
        let steps = (0..1_000).take_while(|_| meter.step().is_ok()).count();
        assert_eq!(meter.exceeded(), None, "a clock that stands still never ends a turn");
        assert_eq!(steps, 1_000);
        meter.reset(u64::MAX, Some((running, running())));
        let steps = (0..1_000).take_while(|_| meter.step().is_ok()).count() as u64;
        assert_eq!(meter.exceeded(), Some(Exceeded::Time));
        assert_eq!(steps + 1, STEPS_PER_READING);
        meter.reset(u64::MAX, Some((running, running())));
        meter.charge(6_400);
        assert!(meter.step().is_err(), "after expensive work the very next step looks at the clock");
        assert_eq!(meter.steps(), 101);
    }

    fn late() -> Duration {
        Duration::from_secs(5)
    }

    fn running() -> Duration {
        use std::sync::atomic::{AtomicU64, Ordering};
        static READINGS: AtomicU64 = AtomicU64::new(0);
        Duration::from_millis(READINGS.fetch_add(1, Ordering::Relaxed))
    }
}
