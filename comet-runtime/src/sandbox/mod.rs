//! The Luau sandbox: a VM that up to 250 objects share without seeing each other.
//!
//! Isolation is by environment: each script runs with a table of its own as its globals, which falls back to
//! a frozen allow-list (`prelude.lua`, `libraries.lua`). Budgets are by turn: [`meter`] counts steps and time, Luau's memory
//! limit bounds what a turn allocates, and [`memory`] tells what each object holds. Scripts enter as source
//! text only, since Luau does not verify bytecode; they are compiled once per code hash and VM.

pub(crate) mod host;
mod marshal;
pub(crate) mod memory;
pub(crate) mod meter;
mod pace;
pub(crate) mod pool;
pub(crate) mod seen;
pub(crate) mod text;
mod verdict;
pub(crate) mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
    sync::{Arc, LazyLock},
    time::Duration,
};

use comet_routing::Contact;
use comet_store::{Code, Hash};
use mlua::{
    Function, IntoLuaMulti, Lua, LuaOptions, LuaString, StdLib, Table, Thread, Value as LuaValue,
    chunk::{self, ChunkMode},
    thread::ThreadStatus,
};

use self::{
    host::{Host, Turn},
    marshal::Marshal,
    memory::{Category, Ledger},
    meter::Stopwatch,
    pace::Pace,
    watch::{TurnWatch, process_time},
};
use crate::{
    Bounds, Caller, CallerAddresses, Failure, HANDLERS, Limits, Origin, Value, WaitId, policy::PolicyFields,
};

pub(crate) use self::marshal::{Fault, VALUE_FIELD};

/// How a chunk is called in error messages: `script:3: …`.
const CHUNK_NAME: &str = "=script";
/// How the prelude is called; errors that point there are moved to the author's line.
const PRELUDE_NAME: &str = "=comet";

/// The project's own Lua as bytecode, compiled once per process: what a compiler leaves behind in the heap would
/// otherwise be under every VM.
static PRELUDE: LazyLock<Vec<u8>> = LazyLock::new(|| compile_own(include_str!("prelude.lua")));
static LIBRARIES: LazyLock<Vec<u8>> = LazyLock::new(|| compile_own(include_str!("libraries.lua")));

/// A VM takes new objects only while it holds less than this: a full collection of it stays under a
/// millisecond.
const VM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The largest buffer for encoding that a VM keeps.
const SCRATCH_BYTES_KEPT: usize = 4 * 1024;
/// Idle threads that a VM keeps for the next turns.
const THREADS_KEPT: usize = 8;
/// A thread whose stack grew by more than this is not kept for other objects.
const THREAD_KEPT_BYTES: usize = 8 * 1024;
/// References from Rust into a VM that its reference stack holds from the start: two for each object, one for each
/// compiled script, and 300 for a turn. That stack must not have to grow within a turn: mlua panics if a script
/// has just used the memory up. What open requests refer to comes on top, see [`Vm::expect_waits`].
const REFERENCES: usize = 1100;
/// Compiled scripts that a VM keeps.
const PROTOTYPES_MAX: usize = 256;
/// Bytes of a VM that a full collection walks in the time of one step.
const COLLECTED_BYTES_PER_STEP: usize = 256;

/// Why a script did not become a function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CompileError(pub(crate) String);

/// What running Lua for a while came to.
pub(crate) enum Ran {
    /// The function returned; its first two results.
    Returned(LuaValue, LuaValue),
    /// It waits.
    Waits(Paused),
    /// It failed.
    Failed(Failure),
}

/// A turn's thread between that turn and the next.
pub(crate) struct Paused {
    /// The request that it waits for.
    pub(crate) wait: WaitId,
    thread: Thread,
    /// How far its stack has grown. Threads belong to the VM, so this is what the object must account for.
    pub(crate) stack_bytes: usize,
}

/// A compiled script, shared by all objects of a VM with that code.
#[derive(Clone)]
pub(crate) struct Prototype {
    script: Function,
    pace: Pace,
}

/// One Luau state and the objects that live in it.
pub(crate) struct Vm {
    lua: Lua,
    ledger: Ledger,
    host: Rc<Host>,
    marshal: Rc<Marshal>,
    limits: Rc<Limits>,
    stopwatch: Option<Stopwatch>,
    watch: Option<Arc<TurnWatch>>,
    caller_addresses: CallerAddresses,
    /// When the work that is being measured began.
    began: Cell<Duration>,
    env_meta: Table,
    contact: Table,
    /// The names of handlers, so that looking for one makes no string.
    handler_names: Vec<LuaString>,
    prototypes: RefCell<BTreeMap<Hash, Prototype>>,
    /// How the script of each category runs.
    paces: [Cell<Pace>; Category::MAX as usize + 1],
    /// Objects that have made requests since they moved in.
    askers: RefCell<BTreeSet<Category>>,
    /// What the reference stack has room for at least.
    references: Cell<usize>,
    threads: RefCell<Vec<Thread>>,
    /// Categories without an object, longest unused first, since what their last one left is collected late.
    free: RefCell<VecDeque<Category>>,
    /// Objects have moved out since the VM was last collected as a whole.
    left_behind: Cell<bool>,
    last_caller: RefCell<Option<(Caller, LuaValue)>>,
    /// Where values are encoded, so that each needs memory only once it is known how much.
    scratch: RefCell<Vec<u8>>,
}

/// Whether a turn's wall-clock time counts.
#[derive(Clone, Debug)]
pub enum Backstop {
    /// A turn ends when its time is up, even if it has steps left.
    WallClock,
    /// As with `WallClock`, and a watchdog on another thread can see since when the turn has been running.
    Watched(Arc<TurnWatch>),
    /// Only steps count: for simulated time, where the verdict must not depend on the machine.
    StepsOnly,
}

#[allow(clippy::expect_used, reason = "nothing from outside has a part in it")]
fn compile_own(source: &str) -> Vec<u8> {
    chunk::Compiler::new().compile(source).expect("the project's own source compiles")
}

/// Every name that a script can see, sorted; what is in a library is written `library.name`.
#[allow(clippy::expect_used, reason = "nothing from outside has a part in it")]
pub fn sandbox_globals() -> Vec<String> {
    Vm::new(Rc::default(), Backstop::StepsOnly, CallerAddresses::default())
        .and_then(|vm| vm.global_names())
        .expect("a new VM has room for its own globals")
}

impl Vm {
    /// A VM with no objects.
    pub(crate) fn new(
        limits: Rc<Limits>,
        backstop: Backstop,
        caller_addresses: CallerAddresses,
    ) -> mlua::Result<Rc<Self>> {
        let libraries =
            StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::BIT | StdLib::UTF8 | StdLib::COROUTINE;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let host = Rc::new(Host::default());
        let marshal = Rc::new(Marshal::new(&lua)?);
        let lent = host::lend(&lua, &host, &marshal)?;
        let own =
            |compiled: &'static [u8]| lua.load(compiled).set_name(PRELUDE_NAME).set_mode(ChunkMode::Binary);
        lent.raw_set("libraries", own(&LIBRARIES).into_function()?)?;
        let (env_meta, contact) = own(&PRELUDE).call(lent)?;
        lua.sandbox(true)?;
        let ledger = Ledger::of(&lua)?;
        let handler_names = HANDLERS.iter().map(|name| lua.create_string(name)).collect::<Result<_, _>>()?;
        make_references(&lua, REFERENCES)?;
        let interrupted = host.clone();
        lua.set_interrupt(move |_| {
            if let Some(exceeded) = pace::exceeded() {
                interrupted.meter.exceed(exceeded);
            }
            interrupted.meter.step()
        });
        pace::watch(&lua)?;
        let stopwatch = match &backstop {
            Backstop::WallClock | Backstop::Watched(_) => Some(process_time as Stopwatch),
            Backstop::StepsOnly => None,
        };
        Ok(Rc::new(Self {
            lua,
            ledger,
            host,
            marshal,
            limits,
            stopwatch,
            began: Cell::default(),
            watch: if let Backstop::Watched(watch) = backstop { Some(watch) } else { None },
            caller_addresses,
            env_meta,
            contact,
            handler_names,
            prototypes: RefCell::default(),
            paces: [const { Cell::new(Pace::Instructions) }; Category::MAX as usize + 1],
            askers: RefCell::default(),
            references: Cell::new(REFERENCES),
            threads: RefCell::default(),
            free: RefCell::new((1..=memory::OBJECTS_MAX).collect()),
            left_behind: Cell::new(false),
            last_caller: RefCell::default(),
            scratch: RefCell::default(),
        }))
    }

    /// The limits that hold in this VM.
    pub(crate) fn limits(&self) -> &Rc<Limits> {
        &self.limits
    }

    /// The Luau state.
    pub(crate) fn lua(&self) -> &Lua {
        &self.lua
    }

    /// Makes a Lua value.
    pub(crate) fn to_lua(&self, value: &Value) -> mlua::Result<LuaValue> {
        self.marshal.to_lua(&self.lua, value)
    }

    /// The function in the field that a handler has in an object's table, if there is one.
    pub(crate) fn handler(&self, aso: &Table, name: &str) -> Option<Function> {
        let at = HANDLERS.iter().position(|known| *known == name)?;
        match aso.raw_get(self.handler_names.get(at)?) {
            Ok(LuaValue::Function(handler)) => Some(handler),
            _ => None,
        }
    }

    /// Appends the encoding of a Lua value.
    pub(crate) fn encode(&self, value: &LuaValue, bounds: Bounds, out: &mut Vec<u8>) -> Result<(), Fault> {
        self.marshal.encode(&self.lua, value, bounds, out)
    }

    /// Appends the encoding of an object's fields; see [`Marshal::encode_state`].
    pub(crate) fn encode_state(
        &self,
        aso: &Table,
        value_as_put: Option<&LuaValue>,
        bounds: Bounds,
        out: &mut Vec<u8>,
    ) -> Result<PolicyFields, Fault> {
        self.marshal.encode_state(&self.lua, aso, value_as_put, bounds, out)
    }

    /// What `write` makes of an empty buffer, and what it returns.
    pub(crate) fn with_scratch<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut scratch = self.scratch.take();
        scratch.clear();
        let written = write(&mut scratch);
        if scratch.capacity() <= SCRATCH_BYTES_KEPT {
            self.scratch.replace(scratch);
        }
        written
    }

    /// A node as those see it whom it contacted.
    pub(crate) fn veil(&self, node: &Contact) -> Contact {
        self.caller_addresses.veil(node)
    }

    /// True if this table stands for a node.
    pub(crate) fn is_node(&self, table: &Table) -> bool {
        self.marshal.is_node(table)
    }

    /// True if another object may move in.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.borrow().is_empty() && self.lua.used_memory() < VM_BYTES_MAX
    }

    /// Gives a new object its memory category; `None` if the VM is full.
    pub(crate) fn move_in(&self) -> Option<Category> {
        self.free.borrow_mut().pop_front()
    }

    /// Takes a category back. What is left in it is collected sooner or later.
    pub(crate) fn move_out(&self, category: Category) {
        self.askers.borrow_mut().remove(&category);
        self.free.borrow_mut().push_back(category);
        self.left_behind.set(true);
    }

    /// Collects what objects that moved out have left behind; true if another one may move in then.
    pub(crate) fn tidy(&self) -> bool {
        if !self.free.borrow().is_empty() && self.left_behind.take() {
            self.lua.gc_collect().ok();
        }
        self.has_room()
    }

    /// True if a script has been compiled here already.
    pub(crate) fn knows(&self, code: &Code) -> bool {
        self.prototypes.borrow().contains_key(&code.hash)
    }

    /// The compiled script.
    pub(crate) fn prototype(&self, code: &Code) -> Result<Prototype, CompileError> {
        if let Some(compiled) = self.prototypes.borrow().get(&code.hash) {
            return Ok(compiled.clone());
        }
        self.ledger.charge_main_to(memory::HOST);
        let script =
            self.compile(code.source.as_bytes()).map_err(|error| CompileError(self.sentence(&error)))?;
        let compiled = Prototype { script, pace: Pace::of(&code.source) };
        let mut prototypes = self.prototypes.borrow_mut();
        if prototypes.len() >= PROTOTYPES_MAX {
            prototypes.pop_first();
        }
        prototypes.insert(code.hash, compiled.clone());
        Ok(compiled)
    }

    /// Source text only: Luau believes whatever bytecode it is given.
    fn compile(&self, source: &[u8]) -> mlua::Result<Function> {
        self.lua.load(source).set_name(CHUNK_NAME).set_mode(ChunkMode::Text).into_function()
    }

    /// A fresh environment with its `aso` table, and the script as a function that runs in it.
    pub(crate) fn furnish(
        &self,
        category: Category,
        prototype: &Prototype,
    ) -> mlua::Result<(Table, Table, Function)> {
        if let Some(pace) = self.paces.get(usize::from(category)) {
            pace.set(prototype.pace);
        }
        self.ledger.charge_main_to(category);
        let env = self.lua.create_table()?;
        let aso = self.lua.create_table()?;
        env.raw_set("aso", &aso)?;
        env.set_metatable(Some(self.env_meta.clone()))?;
        let script = prototype.script.deep_clone()?;
        script.set_environment(env.clone())?;
        Ok((env, aso, script))
    }

    /// Starts `function` on behalf of the object that owns `category`.
    pub(crate) fn call(&self, category: Category, function: Function, args: impl IntoLuaMulti) -> Ran {
        let kept = self.threads.borrow_mut().pop();
        let thread = match kept {
            Some(thread) => thread.reset(function).map(|()| thread),
            None => {
                self.ledger.charge_main_to(memory::HOST);
                self.lua.create_thread(function)
            }
        };
        match thread {
            Ok(thread) => self.run(category, thread, 0, args),
            Err(error) => Ran::Failed(self.failure(&error)),
        }
    }

    /// Goes on in a thread that waited.
    pub(crate) fn resume(&self, category: Category, paused: Paused, args: impl IntoLuaMulti) -> Ran {
        self.run(category, paused.thread, paused.stack_bytes, args)
    }

    fn run(&self, category: Category, thread: Thread, grown_bytes: usize, args: impl IntoLuaMulti) -> Ran {
        let host_bytes = self.ledger.bytes_of(memory::HOST);
        self.ledger.charge_to(&thread, category);
        self.paces.get(usize::from(category)).map_or(Pace::Instructions, Cell::get).set(&thread);
        // No more than two results are looked at: each takes a slot of the VM's reference stack.
        let result = thread.resume::<(LuaValue, LuaValue)>(args);
        self.ledger.charge_to(&thread, memory::HOST);
        let grown = self.ledger.bytes_of(memory::HOST).saturating_sub(host_bytes);
        let stack_bytes = grown_bytes.saturating_add(grown);
        if let Some(exceeded) = self.host.meter.exceeded().or_else(pace::exceeded) {
            return Ran::Failed(self.verdict(exceeded));
        }
        match result {
            Ok((wait, _)) if thread.status() == ThreadStatus::Resumable => match wait.as_i64() {
                Some(wait) => Ran::Waits(Paused { wait: wait as WaitId, thread, stack_bytes }),
                None => Ran::Failed(Failure::Error("the handler gave up control without waiting".into())),
            },
            Ok((first, second)) => {
                let mut threads = self.threads.borrow_mut();
                if threads.len() < THREADS_KEPT && stack_bytes <= THREAD_KEPT_BYTES {
                    threads.push(thread);
                }
                Ran::Returned(first, second)
            }
            Err(error) => Ran::Failed(self.failure(&error)),
        }
    }

    /// Opens a turn that began when the stopwatch showed so much: budgets are full, the turn's state is `turn`,
    /// allocation is limited.
    pub(crate) fn open_turn(&self, category: Category, begun: Duration, turn: Turn) {
        *self.host.turn.borrow_mut() = turn;
        self.fill_budgets(category, begun);
    }

    /// Begins another turn of the same cause in the place of one that has left nothing to do: budgets are full again.
    pub(crate) fn next_turn(&self, category: Category, seed: u64) {
        let begun = self.begin_work();
        self.host.turn.borrow_mut().seed = Some(seed);
        self.fill_budgets(category, begun);
    }

    fn fill_budgets(&self, category: Category, begun: Duration) {
        let deadline = self.deadline_after(begun);
        if let (Some(watch), Some((_, end))) = (&self.watch, deadline) {
            watch.turn_begins(end.saturating_sub(self.turn_time_max()));
        }
        self.host.meter.reset(self.limits.steps, deadline);
        pace::turn_begins(deadline);
        self.lua.set_memory_limit(self.lua.used_memory().saturating_add(self.limits.turn_alloc_bytes)).ok();
        self.ledger.charge_main_to(category);
    }

    /// True if the turn that is open has nothing to send, to log or to delete.
    pub(crate) fn turn_is_plain(&self) -> bool {
        let turn = self.host.turn.borrow();
        turn.requests.is_empty() && turn.log.is_empty() && !turn.delete_self
    }

    /// When what began then has to be over.
    fn deadline_after(&self, begun: Duration) -> Option<(Stopwatch, Duration)> {
        self.stopwatch.map(|read| (read, begun.saturating_add(self.turn_time_max())))
    }

    /// What the stopwatch shows; nothing where only steps count.
    pub(crate) fn now(&self) -> Duration {
        self.stopwatch.map_or(Duration::ZERO, |read| read())
    }

    fn turn_time_max(&self) -> Duration {
        Duration::from_millis(self.limits.turn_ms)
    }

    /// Does what the host does for an object between two turns, in the time of a turn.
    pub(crate) fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        pace::turn_begins(self.deadline_after(self.now()));
        let done = work();
        pace::turn_ends();
        done
    }

    /// True if the time of what is being done is up.
    pub(crate) fn is_late(&self) -> bool {
        pace::is_late()
    }

    /// Closes the turn of the object that owns `category`, whatever became of it, and gives its state back.
    pub(crate) fn close_turn(&self, category: Category) -> Turn {
        if let Some(watch) = &self.watch {
            watch.turn_ends();
        }
        pace::turn_ends();
        self.ledger.charge_main_to(memory::HOST);
        self.lua.set_memory_limit(0).ok();
        let turn = std::mem::take(&mut *self.host.turn.borrow_mut());
        if !turn.requests.is_empty() {
            self.expect_waits(category);
        }
        turn
    }

    /// Makes room on the reference stack for all that the requests of an object can refer to, unless there is.
    fn expect_waits(&self, category: Category) {
        let mut askers = self.askers.borrow_mut();
        if !askers.insert(category) {
            return;
        }
        let needed = REFERENCES.saturating_add(askers.len().saturating_mul(self.limits.waits));
        if needed > self.references.get() {
            let room = needed.max(self.references.get().saturating_mul(2));
            if make_references(&self.lua, room).is_ok() {
                self.references.set(room);
            }
        }
    }

    /// Bytes of an object whose threads wait on stacks of `stack_bytes`, what is not collected yet included.
    pub(crate) fn counted_bytes(&self, category: Category, stack_bytes: usize) -> usize {
        self.ledger.bytes_of(category).saturating_add(stack_bytes)
    }

    /// Live bytes of an object whose threads wait on stacks of `stack_bytes`, and the steps that a collection
    /// cost to find out. The VM is collected only if the object looks larger than it may be.
    pub(crate) fn live_bytes(&self, category: Category, stack_bytes: usize) -> (usize, u64) {
        let count = || self.counted_bytes(category, stack_bytes);
        let counted = count();
        if counted <= self.limits.memory_bytes {
            return (counted, 0);
        }
        let walked = self.lua.used_memory();
        self.lua.gc_collect().ok();
        self.left_behind.set(false);
        (count(), (walked / COLLECTED_BYTES_PER_STEP) as u64)
    }

    /// Starts to measure what is done for an object, and returns what the stopwatch shows.
    pub(crate) fn begin_work(&self) -> Duration {
        self.host.meter.reset(self.limits.steps, None);
        let began = self.now();
        self.began.set(began);
        began
    }

    /// What the stopwatch showed when the turn that runs or ran last began.
    pub(crate) fn began(&self) -> Duration {
        self.began.get()
    }

    /// What was done since then has cost: its time or, where only steps count, what so many steps are worth of
    /// a turn's time.
    pub(crate) fn cost_of_work(&self, steps: u64) -> Duration {
        self.cost_since(self.began.get(), steps)
    }

    /// As [`Self::cost_of_work`], for what began when the stopwatch showed so much.
    pub(crate) fn cost_since(&self, began: Duration, steps: u64) -> Duration {
        let elapsed = self.stopwatch.map(|read| read().saturating_sub(began));
        elapsed.unwrap_or_else(|| self.worth_of(steps))
    }

    /// As [`Self::cost_since`], until the last turn began.
    pub(crate) fn cost_before_turn(&self, began: Duration, steps: u64) -> Duration {
        let elapsed = self.stopwatch.map(|_| self.began.get().saturating_sub(began));
        elapsed.unwrap_or_else(|| self.worth_of(steps))
    }

    /// What so many steps are worth of a turn's time.
    fn worth_of(&self, steps: u64) -> Duration {
        let turn_ns = u128::from(self.limits.turn_ms).saturating_mul(1_000_000);
        let all_ns = turn_ns.saturating_mul(steps.into());
        let cost_ns = all_ns.checked_div(self.limits.steps.into()).unwrap_or(all_ns);
        Duration::from_nanos(u64::try_from(cost_ns).unwrap_or(u64::MAX))
    }

    /// Steps of the turn that runs or ran last.
    pub(crate) fn steps(&self) -> u64 {
        self.host.meter.steps()
    }

    /// Hides the contact that a turn before this one came from: a node that an object keeps must not tell what
    /// it brought to another object.
    pub(crate) fn introduce_nobody(&self) {
        if self.last_caller.take().is_some() {
            // Setting a field to nil neither allocates nor fails.
            self.contact.raw_set("node", LuaValue::Nil).ok();
        }
    }

    /// Shows the caller's side of the contact to the script, and returns the caller as a Lua value.
    pub(crate) fn introduce(&self, caller: &Caller) -> mlua::Result<LuaValue> {
        if let Some((known, table)) = &*self.last_caller.borrow()
            && known == caller
        {
            return Ok(table.clone());
        }
        self.ledger.charge_main_to(memory::HOST);
        let node = self.marshal.node(&self.lua, &self.caller_addresses.shown(caller))?;
        self.contact.raw_set("node", &node)?;
        self.contact.raw_set("key", caller.callback.map(|key| key.to_string()))?;
        self.contact.raw_set("owner", caller.owner.map(|owner| text::hex(&owner)))?;
        self.contact.raw_set("replica", caller.origin == Origin::Replica)?;
        let node = LuaValue::Table(node);
        *self.last_caller.borrow_mut() = Some((caller.clone(), node.clone()));
        Ok(node)
    }

    /// The names that a script can see, libraries included, sorted.
    fn global_names(&self) -> mlua::Result<Vec<String>> {
        fn walk(table: &Table, path: &str, names: &mut Vec<String>) -> mlua::Result<()> {
            table.for_each(|name: String, value: LuaValue| match value {
                LuaValue::Table(library) => walk(&library, &format!("{path}{name}."), names),
                _ => {
                    names.push(format!("{path}{name}"));
                    Ok(())
                }
            })
        }
        let mut names = Vec::new();
        walk(&self.env_meta.raw_get("__index")?, "", &mut names)?;
        names.sort();
        Ok(names)
    }
}

/// Holds so many references at once, which leaves the reference stack with room for them.
fn make_references(lua: &Lua, count: usize) -> mlua::Result<()> {
    let references: mlua::Result<Vec<_>> = (0..count).map(|_| lua.create_string("")).collect();
    references.map(drop)
}

#[cfg(test)]
mod tests {
    use comet_routing::Key;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::{Op, Request, Trail};

    /// How many references a script that has used all memory up leaves room for, up to what is asked for.
    fn references_without_memory(vm: &Vm, most: usize) -> usize {
        vm.lua.set_memory_limit(vm.lua.used_memory()).expect("Luau has such a limit");
        let made: Vec<_> = (0..most).map_while(|_| vm.lua.create_string("").ok()).collect();
        vm.lua.set_memory_limit(0).expect("Luau has such a limit");
        made.len()
    }

    #[test]
    fn references_for_the_requests_of_every_object_need_no_memory_within_a_turn() {
        let all = REFERENCES + usize::from(memory::OBJECTS_MAX) * Limits::default().waits;
        for (asks, room) in [(false, false), (true, true)] {
            let vm = Vm::new(Rc::default(), Backstop::StepsOnly, CallerAddresses::default());
            let vm = vm.expect("a VM can be made");
            while let Some(category) = vm.move_in() {
                vm.open_turn(category, Duration::ZERO, Turn::default());
                if asks {
                    let op = Op::Lookup { key: Key::of(b"k") };
                    let request = Request { wait: 1, op, trail: Trail::default() };
                    vm.host.turn.borrow_mut().requests.push((request, None));
                }
                vm.close_turn(category);
            }
            assert_eq!(references_without_memory(&vm, all) == all, room, "asks: {asks}");
            assert!(references_without_memory(&vm, REFERENCES) == REFERENCES, "asks: {asks}");
        }
    }

    #[test]
    fn bytecode_is_never_read() {
        let vm = Vm::new(Rc::default(), Backstop::StepsOnly, CallerAddresses::default());
        let vm = vm.expect("a VM can be made");
        let real = mlua::chunk::Compiler::new().compile("local x = 1 return x + 1").expect("it compiles");
        let accepted = vm.lua.load(real.clone()).set_mode(ChunkMode::Binary).into_function();
        assert!(accepted.is_ok(), "the control: these bytes are a program");
        assert!(vm.compile(&real).is_err());
        vm.host.meter.reset(u64::MAX, None);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for n in 0..10_000 {
            // Half of them are what the compiler makes, damaged; half are bytes behind a version.
            let mut blob = real.clone();
            if n % 2 == 0 {
                blob = (0..rng.random_range(0..300)).map(|_| rng.random()).collect();
                blob.insert(0, rng.random_range(0..10));
            } else {
                let at = rng.random_range(1..blob.len());
                blob[at] = rng.random();
            }
            // The version may be a blank to a text, and what follows its end: a text that does nothing.
            if let Ok(empty) = vm.compile(&blob) {
                assert!(empty.call::<LuaValue>(()).is_ok_and(|result| result.is_nil()), "{blob:?}");
            }
        }
    }
}
