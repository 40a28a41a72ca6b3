//! Threads that are to answer now and then, and what it means when one does not.
//!
//! A thread that hangs takes its actors with it, and nobody hears of it: the node goes on to accept connections and serves
//! nobody. So each is asked to count its [`Pulse`] once per look, and one that leaves too many looks unanswered is dead.
//! Looks are counted, not time: a process that was frozen, or a machine that slept, wakes up with all its threads
//! behind by hours and nothing wrong.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

/// How often a thread has answered; its thread's owner holds it for as long as the thread is to answer.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

/// Watches one thread.
pub struct Heartbeat {
    name: String,
    pulse: Weak<Pulse>,
    ask: Box<dyn Fn(Weak<Pulse>) + Send>,
    silent_looks_max: u32,
    answered: u64,
    silent_looks: u32,
}

/// What a look at a thread shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It answers, or has some looks left.
    Alive,
    /// It has not answered for too long.
    Silent,
    /// It is not to answer any more.
    Ended,
}

impl Pulse {
    /// The thread answers.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Heartbeat {
    /// Watches the thread `name`, which `ask` asks to [`beat`](Pulse::beat) once; it may leave `silent_looks_max` looks
    /// unanswered.
    pub fn new(
        name: impl Into<String>,
        pulse: &Arc<Pulse>,
        silent_looks_max: u32,
        ask: impl Fn(Weak<Pulse>) + Send + 'static,
    ) -> Self {
        ask(Arc::downgrade(pulse));
        let (pulse, ask) = (Arc::downgrade(pulse), Box::new(ask));
        Self { name: name.into(), pulse, ask, silent_looks_max, answered: 0, silent_looks: 0 }
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sees whether the thread has answered since the last look, and asks again if so: no more than one question waits.
    pub fn look(&mut self) -> Sign {
        let Some(pulse) = self.pulse.upgrade() else { return Sign::Ended };
        let answered = pulse.0.load(Ordering::Relaxed);
        if answered > self.answered {
            (self.answered, self.silent_looks) = (answered, 0);
            (self.ask)(Arc::downgrade(&pulse));
            return Sign::Alive;
        }
        self.silent_looks = self.silent_looks.saturating_add(1);
        if self.silent_looks > self.silent_looks_max { Sign::Silent } else { Sign::Alive }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_answers_in_time_lives_and_one_that_does_not_is_silent() {
        let pulse = Arc::<Pulse>::default();
        let mut heartbeat = Heartbeat::new("store", &pulse, 2, |_| {});
        for _ in 0..5 {
            assert_eq!([heartbeat.look(), heartbeat.look()], [Sign::Alive; 2], "it is late");
            pulse.beat();
            assert_eq!(heartbeat.look(), Sign::Alive);
        }
        assert_eq!(
            [heartbeat.look(), heartbeat.look(), heartbeat.look()],
            [Sign::Alive, Sign::Alive, Sign::Silent]
        );
    }

    #[test]
    fn a_thread_that_has_not_answered_is_not_asked_again() {
        let (pulse, asked) = (Arc::<Pulse>::default(), Arc::new(AtomicU64::new(0)));
        let count = asked.clone();
        let ask = move |_: Weak<Pulse>| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let mut heartbeat = Heartbeat::new("network", &pulse, 9, ask);
        heartbeat.look();
        heartbeat.look();
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        pulse.beat();
        heartbeat.look();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_thread_that_is_stopping_need_not_answer() {
        let pulse = Arc::<Pulse>::default();
        let mut heartbeat = Heartbeat::new("store", &pulse, 0, |_| {});
        assert_eq!(heartbeat.look(), Sign::Silent, "the control");
        drop(pulse);
        assert_eq!(heartbeat.look(), Sign::Ended);
    }
}
