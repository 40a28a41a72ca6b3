//! Where a node's actors run.
//!
//! Each [`Worker`] is one OS thread with an actix system of its own. Handlers run where compiled Luau and
//! deep recursion have room, so the stacks are large; the store's writer blocks its thread on every commit,
//! so it has one to itself. A node's assembly knows only [`Stage`]s: in a simulation all of them are the one
//! thread that simulates.

use std::{
    io,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use actix::{
    Actor, Addr, ArbiterHandle, Context, System,
    dev::channel::{AddressReceiver, channel},
};

use crate::heartbeat::{Heartbeat, Pulse};

/// Stack of a worker, in bytes. Luau's compiler recurses with the nesting of the source.
pub const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Messages that a mailbox holds until its actor has started and set its own capacity.
const MAILBOX: usize = 64;

/// A thread on which actors run.
#[derive(Debug)]
pub struct Worker {
    name: String,
    system: System,
    /// Gone before the thread is asked to stop: a thread that stops may take its time.
    pulse: Option<Arc<Pulse>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread; `name` is what a debugger shows.
    pub fn spawn(name: &str) -> io::Result<Self> {
        let (started, system) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(move || {
                let runner = System::new();
                started.send(System::current()).ok();
                if let Err(error) = runner.run() {
                    log::error!("a worker thread ended with {error}");
                }
            })?;
        let system = system.recv().map_err(|_| io::Error::other("the thread ended at once"))?;
        Ok(Self { name: name.into(), system, pulse: Some(Arc::default()), thread: Some(thread) })
    }

    /// Watches this thread for as long as the worker exists; it may leave so many looks unanswered.
    pub fn heartbeat(&self, silent_looks_max: u32) -> Heartbeat {
        let arbiter = self.system.arbiter().clone();
        let pulse = self.pulse.clone().unwrap_or_default();
        Heartbeat::new(&self.name, &pulse, silent_looks_max, move |pulse| {
            // A thread that has ended does not answer.
            arbiter.spawn_fn(move || {
                if let Some(pulse) = pulse.upgrade() {
                    pulse.beat();
                }
            });
        })
    }

    /// Where actors of this thread are started, for as long as the worker exists.
    pub fn stage(&self) -> Stage {
        Stage::Thread(self.system.arbiter().clone())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.pulse = None;
        self.system.stop();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so; there is nothing to add.
            thread.join().ok();
        }
    }
}

/// Where actors are started.
#[derive(Clone, Debug)]
pub enum Stage {
    /// On a worker's thread.
    Thread(ArbiterHandle),
    /// On the thread that asks, in the set of local tasks that it is running then; with that set they end.
    Here,
}

impl Stage {
    /// Starts an actor; `make` runs on its thread.
    pub fn start<A>(&self, make: impl FnOnce() -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        self.seat(Seat::new(), make)
    }

    /// Runs something on the thread, with its set of local tasks around it. On a worker that has gone nothing runs.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        match self {
            Self::Thread(arbiter) => drop(arbiter.spawn_fn(work)),
            Self::Here => work(),
        }
    }

    /// Starts an actor whose address is known already.
    pub fn seat<A>(&self, seat: Seat<A>, make: impl FnOnce() -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let Seat { address, receiver } = seat;
        let run = move || {
            Context::with_receiver(receiver).run(make());
        };
        match self {
            Self::Thread(arbiter) => {
                assert!(arbiter.spawn_fn(run), "a worker takes actors for as long as it exists");
            }
            Self::Here => run(),
        }
        address
    }
}

/// The address of an actor that is still to be started: for actors that need to know each other.
pub struct Seat<A: Actor> {
    address: Addr<A>,
    receiver: AddressReceiver<A>,
}

impl<A: Actor<Context = Context<A>>> Seat<A> {
    /// An address that takes messages from now on.
    pub fn new() -> Self {
        let (sender, receiver) = channel(MAILBOX);
        Self { address: Addr::new(sender), receiver }
    }

    /// The address.
    pub fn address(&self) -> Addr<A> {
        self.address.clone()
    }
}

impl<A: Actor<Context = Context<A>>> Default for Seat<A> {
    fn default() -> Self {
        Self::new()
    }
}
