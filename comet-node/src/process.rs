//! The process around a node: what a panic does to it, and when it is told to stop.

use std::{io, panic::PanicHookInfo, process, sync::Arc, thread, time::Duration};

use comet_runtime::TurnWatch;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::heartbeat::{Heartbeat, Sign};

/// Exit code after a bug, as `sysexits.h` has it for internal software errors.
const EXIT_BUG: i32 = 70;

/// Ends the process when any thread panics.
///
/// A panic inside an actor would only close its mailbox, and a node with a dead part inside is worse than one
/// that is started again: everything acknowledged is on the disk. Damage that the store finds in its file
/// shows as a panic of the engine, which the store catches and reports; those pass.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if !comet_store::catches_panics() {
            eprintln!("{}", sentence(panic));
            process::exit(EXIT_BUG);
        }
    }));
}

fn sentence(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let what = payload.downcast_ref::<&str>().map(ToString::to_string);
    let what = what.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
    let place = panic.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
    format!(
        "comet-node: this is a bug in Comet{place}: {what}; nothing acknowledged is lost, please report it"
    )
}

/// The longest that one turn may take before the process ends: twenty times what its budget allows.
const TURN_MAX: Duration = Duration::from_secs(1);

/// How often the watchdog looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Ends the process when a turn does not end: its thread serves nobody and cannot be killed.
///
/// The watchdog's thread ends when nobody else holds the watches any more.
pub fn watch_turns(watches: Vec<Arc<TurnWatch>>) -> io::Result<()> {
    let watch = move || {
        while watches.iter().any(|watch| Arc::strong_count(watch) > 1) {
            if watches.iter().filter_map(|watch| watch.running_for()).any(|time| time > TURN_MAX) {
                eprintln!(
                    "comet-node: a handler has run for over a second and cannot be stopped; ending the process"
                );
                process::exit(EXIT_BUG);
            }
            thread::park_timeout(WATCH_INTERVAL);
        }
    };
    thread::Builder::new().name("watchdog".into()).spawn(watch).map(drop)
}

/// How often each thread is asked whether it still works.
const PULSE_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks in a row a thread of actors may leave unanswered.
///
/// None of their messages takes a second, and an answer needs one turn of the thread: on two cores with twenty threads that
/// never rest, each gets a tenth of a core, so that a second's work still fits twice into these looks.
pub const SILENT_LOOKS_MAX: u32 = 20;

/// How many looks in a row the store's thread may leave unanswered: it waits for its disk, and one that is mended within
/// a minute costs no restart.
pub const SILENT_STORE_LOOKS_MAX: u32 = 60;

/// Ends the process when one of these threads stops answering.
///
/// The watchdog's thread ends when all of them have ended in good order.
pub fn watch_threads(mut heartbeats: Vec<Heartbeat>) -> io::Result<()> {
    let watch = move || {
        while !heartbeats.is_empty() {
            thread::park_timeout(PULSE_INTERVAL);
            heartbeats.retain_mut(|heartbeat| match heartbeat.look() {
                Sign::Alive => true,
                Sign::Ended => false,
                Sign::Silent => {
                    let name = heartbeat.name();
                    eprintln!("comet-node: the thread {name:?} does not answer any more; ending the process");
                    process::exit(EXIT_BUG);
                }
            });
        }
    };
    thread::Builder::new().name("heartbeat".into()).spawn(watch).map(drop)
}

/// The signals that ask a process to stop: Ctrl-C, what service managers send, and a terminal that goes away.
///
/// From the moment they are caught they no longer end the process by themselves, so that temporary files go
/// and states are saved even if one comes while the node is still starting.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl StopSignals {
    /// Catches them from now on.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves at the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Carries out `stop`, unless a second signal says that there is no time for it.
    pub async fn or_at_once(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => {}
            () = self.next() => log::warn!("told to stop twice; what is under way is given up"),
        }
    }
}
