//! An active object: its Lua table in a VM, and the turns that its handlers run in.
//!
//! A turn is a run of a handler between two waits. [`Object::begin`] and [`Object::resume`] run one each and
//! report what it came to: a new state to keep, requests to send, an outcome or a wait. When a turn fails the
//! object is spent: its owner drops it and restores the next one from the state that was kept last.

mod arguments;
mod series;

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId, clock::WallMs};
use comet_store::{Code, Version};
use mlua::{Function, Table, Value as LuaValue};

use crate::{
    Caller, Event, Failure, Limits, OpResult, Outcome, Reach, Request, Trail, Value, WaitId,
    contact_policy::{Allowance, Capabilities},
    dht::Usage,
    policy::{Policy, PolicyFields},
    sandbox::{
        Fault, Paused, Prototype, Ran, VALUE_FIELD, Vm,
        host::{Network, Scope, Turn},
        memory::Category,
        text::clean,
    },
    state,
};

pub use self::series::{Most, Series};

/// Fields of a state between two readings of the clock, while it is restored.
const FIELDS_PER_READING: usize = 64;

/// Names one event's run of a handler, over all its turns.
pub type InvocationId = u64;

/// The handlers that a script can define.
pub const HANDLERS: [&str; 5] = ["onGet", "onPut", "onUpdate", "onDelete", "onTimer"];

/// What an object is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Blueprint {
    /// The object's key.
    pub key: Key,
    /// Its handlers.
    pub code: Code,
    /// The put's data, encoded.
    pub data: Bytes,
    /// What its handlers made of it; empty for a new object.
    pub state: Bytes,
    /// How far it may reach.
    pub reach: Reach,
}

/// What a turn needs to know of the world.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock.
    pub now: WallMs,
    /// The node that the turn runs on.
    pub local: Contact,
    /// Seeds `math.random` for this turn.
    pub seed: u64,
}

/// Why an object could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// The script does not compile, fails, or defines no object.
    #[error("{0}")]
    BadCode(String),
    /// What is stored of the object cannot be read.
    #[error("the stored object cannot be read: {0}")]
    Unreadable(String),
    /// The VM is full.
    #[error("the sandbox has no room")]
    NoRoom,
}

/// What one turn came to.
#[derive(Debug)]
pub struct Report {
    /// The event whose turn it was; `None` for a callback's.
    pub invocation: Option<InvocationId>,
    /// The request whose callback's turn it was; `None` for an event's.
    pub callback: Option<WaitId>,
    /// How it ended.
    pub end: Result<Progress, Failure>,
    /// What the invocation has used so far.
    pub usage: Usage,
    /// What this turn has cost: its time or, in simulated time, what its steps are worth.
    pub cost: Duration,
    /// Who caused it; `None` if a timer did.
    pub caller: Option<Caller>,
    /// Requests to send, now that the turn is committed. Empty if it failed.
    pub requests: Vec<Request>,
    /// Lines that the handler logged, also in a turn that failed.
    pub log: Vec<String>,
    /// The object's state, if the turn changed it.
    pub state: Option<Bytes>,
    /// The invocation is over and has asked for the object's deletion.
    pub delete_self: bool,
}

/// How a turn ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The invocation is over.
    Done(Outcome),
    /// It waits for an answer.
    Waiting,
}

struct Invocation {
    id: Option<InvocationId>,
    callback: Option<WaitId>,
    handler: &'static str,
    caller: Option<Caller>,
    trail: Trail,
    usage: Usage,
    /// One of its turns asked for the object's deletion, which follows the last one.
    delete_self: bool,
}

enum Wait {
    Handler { invocation: Invocation, paused: Paused },
    Callback { function: Function, caller: Option<Caller>, trail: Trail },
}

/// A live object in a VM.
pub struct Object {
    vm: Rc<Vm>,
    category: Category,
    limits: Rc<Limits>,
    key: Key,
    reach: Reach,
    aso: Table,
    value_as_put: Option<LuaValue>,
    kept: Bytes,
    /// What was put, code and data.
    put_bytes: usize,
    policy: Policy,
    capabilities: Capabilities,
    /// The highest put that `onUpdate` handled or refused.
    decided: Option<Version>,
    allowance: Allowance,
    waits: BTreeMap<WaitId, Wait>,
    /// What the answers to open requests must not tell: see [`Turn::veiled`].
    veiled: BTreeMap<WaitId, Vec<NodeId>>,
    next_wait: WaitId,
}

impl Object {
    /// Runs the script in `vm` and restores the state.
    pub(crate) fn activate(
        vm: &Rc<Vm>,
        blueprint: &Blueprint,
        moment: Moment,
    ) -> Result<Self, ActivationError> {
        let limits = vm.limits().clone();
        let prototype = vm.prototype(&blueprint.code).map_err(|error| ActivationError::BadCode(error.0))?;
        let unreadable = |error: crate::DecodeError| ActivationError::Unreadable(error.to_string());
        let data = Value::decode(&blueprint.data, limits.value_bounds()).map_err(unreadable)?;
        let state = state::decode(&blueprint.state, &limits).map_err(unreadable)?;
        let category = vm.move_in().ok_or(ActivationError::NoRoom)?;
        let made =
            define(vm, category, &limits, blueprint, &prototype, &data, moment).and_then(|(aso, value)| {
                let put = (!matches!(value, LuaValue::Table(_))).then_some(value);
                let (capabilities, decided) =
                    state.map(|state| vm.timed(|| restore(vm, &aso, state))).transpose()?.unwrap_or_default();
                let policy =
                    Policy::of(&PolicyFields::of(&aso), &limits).map_err(ActivationError::BadCode)?;
                let limit_bytes = limits.memory_bytes as u64;
                if vm.live_bytes(category, 0).0 as u64 > limit_bytes {
                    return Err(ActivationError::BadCode(Failure::Memory { limit_bytes }.to_string()));
                }
                Ok((aso, put, capabilities, decided, policy))
            });
        let (aso, value_as_put, capabilities, decided, policy) =
            made.inspect_err(|_| vm.move_out(category))?;
        let allowance = Allowance::full(limits.own_postage(), limits.postage(), moment.now);
        Ok(Self {
            vm: vm.clone(),
            category,
            limits,
            key: blueprint.key,
            reach: blueprint.reach,
            aso,
            value_as_put,
            kept: blueprint.state.clone(),
            put_bytes: blueprint.code.source.len().saturating_add(blueprint.data.len()),
            policy,
            capabilities,
            decided,
            allowance,
            waits: BTreeMap::new(),
            veiled: BTreeMap::new(),
            next_wait: 1,
        })
    }

    /// What the object asks of its node.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The state that was kept last: what the object is restored from if a turn fails.
    pub fn state(&self) -> &Bytes {
        &self.kept
    }

    /// The handlers that the object has, in the order of [`HANDLERS`].
    pub fn handlers(&self) -> Vec<&'static str> {
        HANDLERS.into_iter().filter(|name| self.handler(name).is_some()).collect()
    }

    /// True if the script defines this handler.
    pub fn has(&self, handler: &str) -> bool {
        self.handler(handler).is_some()
    }

    /// The highest put that `onUpdate` has handled or refused.
    pub fn decided(&self) -> Option<&Version> {
        self.decided.as_ref()
    }

    /// True if `onUpdate` has handled or refused this put or a later one.
    pub fn has_decided(&self, put: &Version) -> bool {
        self.decided.as_ref().is_some_and(|decided| put <= decided)
    }

    /// Notes that `onUpdate` has handled or refused this put.
    pub fn note_decided(&mut self, put: Version) {
        self.decided = self.decided.max(Some(put));
        // The fields are those of a turn that ended well; they have been encoded before.
        if let Err(problem) = self.keep_state() {
            log::warn!("a decision of the object {} is not kept: {problem}", self.key.brief());
        }
    }

    /// Requests whose answers are still to come.
    pub fn open_waits(&self) -> usize {
        self.waits.len()
    }

    /// True if the answer to this request is still to come.
    pub fn awaits(&self, wait: WaitId) -> bool {
        self.waits.contains_key(&wait)
    }

    /// Forgets whoever waits in the middle of a handler or a callback: nothing of it runs any more. Callbacks
    /// that have not begun still will.
    pub fn forget_runs(&mut self) {
        self.waits.retain(|_, wait| matches!(wait, Wait::Callback { .. }));
        self.veiled.retain(|wait, _| self.waits.contains_key(wait));
    }

    /// Takes over from another object of the same key: goes on with its messages, and numbers requests after
    /// its own, whose answers may still come.
    pub fn succeed(&mut self, other: &Self) {
        self.next_wait = self.next_wait.max(other.next_wait);
        self.allowance = other.allowance;
    }

    /// Goes on with what was left when the object was in memory last.
    pub fn allow(&mut self, allowance: Allowance) {
        self.allowance = allowance;
    }

    /// What the object may still send, and when that is all that it ever may.
    pub fn allowance(&self) -> (Allowance, WallMs) {
        let (own, others) = (self.limits.own_postage(), self.limits.postage());
        (self.allowance, self.allowance.full_ms(own, others, self.interval_ms()))
    }

    /// The time in which the allowance refills, in milliseconds.
    fn interval_ms(&self) -> u64 {
        self.policy.timer_seconds.unwrap_or(self.limits.timer_seconds).saturating_mul(1_000)
    }

    /// Live bytes of the object, script and state included.
    pub fn live_bytes(&self) -> usize {
        self.vm.live_bytes(self.category, self.stack_bytes()).0
    }

    /// The stacks of those who wait.
    fn stack_bytes(&self) -> usize {
        let stacks = self.waits.values().map(|wait| match wait {
            Wait::Handler { paused, .. } => paused.stack_bytes,
            Wait::Callback { .. } => 0,
        });
        stacks.sum()
    }

    /// Runs the first turn of an event. An object without the handler gives the default outcome: a get its
    /// value, everything else [`Outcome::Accept`].
    pub fn begin(&mut self, id: InvocationId, event: &Event, trail: Trail, moment: Moment) -> Report {
        let invocation = self.invocation(id, event, trail, moment.now);
        let Some(handler) = self.handler(event.handler()) else {
            return self.without_handler(event, invocation, moment);
        };
        let caller = self.open_turn(&invocation, moment);
        let ran = self.run_first(handler, event, caller);
        self.close_turn(invocation, ran)
    }

    /// Introduces an event. Whoever caused it may be called back.
    fn invocation(&mut self, id: InvocationId, event: &Event, trail: Trail, now: WallMs) -> Invocation {
        let caller = event.caller();
        // The own key needs no right: its replicas may always be addressed.
        if let Some(Caller { node, callback: Some(key), .. }) = caller
            && *key != self.key
        {
            self.capabilities.grant(*node, *key, now, self.limits.capabilities);
        }
        Invocation {
            id: Some(id),
            callback: None,
            handler: event.handler(),
            caller: caller.cloned(),
            trail,
            usage: Usage::default(),
            delete_self: false,
        }
    }

    /// Runs an event's handler until it returns, waits or fails, in the turn that was opened for this caller.
    fn run_first(&self, handler: Function, event: &Event, caller: mlua::Result<Option<LuaValue>>) -> Ran {
        caller
            .and_then(|caller| self.call(handler, event, caller))
            .unwrap_or_else(|error| Ran::Failed(self.vm.failure(&error)))
    }

    /// Runs the next turn of whoever waited for this answer; `None` if nobody does.
    pub fn resume(&mut self, wait: WaitId, result: OpResult, moment: Moment) -> Option<Report> {
        let veiled = self.veiled.remove(&wait).unwrap_or_default();
        match self.waits.remove(&wait)? {
            Wait::Handler { invocation, paused } => {
                let opened = self.open_turn(&invocation, moment);
                let ran = match opened.and_then(|_| self.answer(result, &veiled)) {
                    Ok(args) => self.vm.resume(self.category, paused, args),
                    Err(error) => Ran::Failed(self.vm.failure(&error)),
                };
                Some(self.close_turn(invocation, ran))
            }
            Wait::Callback { function, caller, trail } => {
                let invocation = Invocation {
                    id: None,
                    callback: Some(wait),
                    handler: "callback",
                    caller,
                    trail,
                    usage: Usage::default(),
                    delete_self: false,
                };
                let opened = self.open_turn(&invocation, moment);
                let ran = match opened.and_then(|_| self.answer(result, &veiled)) {
                    Ok(mut args) => {
                        args.push_front(LuaValue::Table(self.aso.clone()));
                        self.vm.call(self.category, function, args)
                    }
                    Err(error) => Ran::Failed(self.vm.failure(&error)),
                };
                Some(self.close_turn(invocation, ran))
            }
        }
    }

    fn handler(&self, name: &str) -> Option<Function> {
        self.vm.handler(&self.aso, name)
    }

    fn without_handler(&mut self, event: &Event, mut invocation: Invocation, moment: Moment) -> Report {
        let outcome = match event {
            Event::Get { .. } => {
                let value = self.aso.raw_get(VALUE_FIELD).unwrap_or(LuaValue::Nil);
                self.reply(&value).map(Outcome::Reply)
            }
            Event::Timer => Ok(Outcome::Ticked),
            Event::Put { .. } | Event::Update { .. } | Event::Delete { .. } => Ok(Outcome::Accept),
        };
        self.vm.begin_work();
        invocation.usage.memory_bytes = self.live_bytes() as u64;
        let mut turn = Turn { scope: Some(self.scope(&invocation, moment)), ..Turn::default() };
        self.commit(&invocation, 0, &mut turn, outcome.map(Progress::Done))
    }

    fn scope(&self, invocation: &Invocation, moment: Moment) -> Scope {
        Scope {
            key: self.key,
            local: moment.local,
            now: moment.now,
            limits: self.limits.clone(),
            aso: self.aso.to_pointer(),
            network: Some(Network {
                caller: invocation.caller.as_ref().map(|caller| caller.node),
                reach: self.reach,
                capabilities: self.capabilities.clone(),
                postage: self.allowance.others,
                own_postage: self.allowance.own,
                interval_ms: self.interval_ms(),
                copy_bytes: self.put_bytes.saturating_add(self.kept.len()),
                trail: invocation.trail,
                open_waits: self.waits.len(),
                next_wait: self.next_wait,
            }),
        }
    }

    /// Opens a turn, which has to be closed also where this fails. Returns the caller as a Lua value.
    fn open_turn(&self, invocation: &Invocation, moment: Moment) -> mlua::Result<Option<LuaValue>> {
        let begun = self.vm.begin_work();
        let caller = match &invocation.caller {
            Some(caller) => self.vm.introduce(caller).map(Some),
            None => {
                self.vm.introduce_nobody();
                Ok(None)
            }
        };
        let scope = self.scope(invocation, moment);
        self.vm.open_turn(
            self.category,
            begun,
            Turn { scope: Some(scope), seed: Some(moment.seed), ..Turn::default() },
        );
        caller
    }

    fn close_turn(&mut self, invocation: Invocation, ran: Ran) -> Report {
        let turn = self.vm.close_turn(self.category);
        self.report(invocation, ran, turn)
    }

    /// What a turn that is closed came to, its state kept if it ended well.
    fn report(&mut self, mut invocation: Invocation, ran: Ran, mut turn: Turn) -> Report {
        let usage = &mut invocation.usage;
        usage.messages = usage.messages.saturating_add(turn.messages());
        turn.share_trail(matches!(ran, Ran::Waits(_)));
        invocation.delete_self |= turn.delete_self;
        let paused_bytes = if let Ran::Waits(paused) = &ran { paused.stack_bytes } else { 0 };
        let stack_bytes = self.stack_bytes().saturating_add(paused_bytes);
        let (live, collection_steps) = self.vm.live_bytes(self.category, stack_bytes);
        let steps = self.vm.steps().saturating_add(collection_steps);
        usage.steps = usage.steps.saturating_add(steps);
        usage.memory_bytes = live as u64;
        let too_large = live > self.limits.memory_bytes;
        let end = match ran {
            Ran::Failed(failure) => Err(failure),
            _ if too_large => Err(Failure::Memory { limit_bytes: self.limits.memory_bytes as u64 }),
            Ran::Returned(first, second) => {
                self.outcome(invocation.handler, &first, &second).map(Progress::Done)
            }
            Ran::Waits(paused) => {
                if let Some(network) = turn.scope.as_ref().and_then(|scope| scope.network.as_ref()) {
                    invocation.trail = network.trail;
                }
                let report = self.commit(&invocation, steps, &mut turn, Ok(Progress::Waiting));
                self.waits.insert(paused.wait, Wait::Handler { invocation, paused });
                return report;
            }
        };
        self.commit(&invocation, steps, &mut turn, end)
    }

    /// Keeps what the turn did, if it ended well.
    fn commit(
        &mut self,
        invocation: &Invocation,
        steps: u64,
        turn: &mut Turn,
        end: Result<Progress, Failure>,
    ) -> Report {
        let mut report = self.keep(invocation, turn, end);
        report.cost = self.vm.cost_of_work(steps);
        report
    }

    fn keep(&mut self, invocation: &Invocation, turn: &mut Turn, end: Result<Progress, Failure>) -> Report {
        let mut report = Report {
            invocation: invocation.id,
            callback: invocation.callback,
            end,
            usage: invocation.usage,
            cost: Duration::ZERO,
            caller: invocation.caller.clone(),
            requests: Vec::new(),
            log: std::mem::take(&mut turn.log),
            state: None,
            delete_self: false,
        };
        if report.end.is_err() {
            return report;
        }
        if let Some(network) = turn.scope.take().and_then(|scope| scope.network) {
            self.capabilities = network.capabilities;
            self.allowance = Allowance { own: network.own_postage, others: network.postage };
            self.next_wait = network.next_wait;
        }
        match self.keep_state() {
            Ok(state) => report.state = state,
            Err(problem) => {
                report.end = Err(Failure::BadState(problem));
                return report;
            }
        }
        self.veiled.append(&mut turn.veiled);
        report.delete_self = invocation.delete_self && report.end != Ok(Progress::Waiting);
        for (request, callback) in std::mem::take(&mut turn.requests) {
            if let Some(function) = callback {
                let caller = invocation.caller.clone();
                self.waits
                    .insert(request.wait, Wait::Callback { function, caller, trail: turn.callback_trail });
            }
            report.requests.push(request);
        }
        report
    }

    /// Encodes the state; `None` if it is the one that was kept last.
    fn keep_state(&mut self) -> Result<Option<Bytes>, String> {
        let bounds = self.limits.value_bounds();
        let mut fields = PolicyFields::default();
        let write = |out: &mut Vec<u8>| {
            fields = self
                .vm
                .encode_state(&self.aso, self.value_as_put.as_ref(), bounds, out)
                .map_err(|fault| clean(&fault.of("aso"), self.limits.log_line_bytes))?;
            Ok(())
        };
        let state = self.vm.with_scratch(|out| {
            state::encode(write, &self.capabilities, self.decided.as_ref(), out)?;
            Ok::<_, String>((*out != self.kept).then(|| Bytes::copy_from_slice(out)))
        })?;
        let Some(state) = state else { return Ok(None) };
        self.policy = Policy::of(&fields, &self.limits)?;
        self.kept = state.clone();
        Ok(Some(state))
    }

    /// Reads what a handler returned: raw, since its turn is over and no metamethod may run any more.
    fn outcome(&self, handler: &str, first: &LuaValue, second: &LuaValue) -> Result<Outcome, Failure> {
        let refuse = || {
            let reason = match second {
                LuaValue::String(reason) => reason.to_string_lossy(),
                _ => format!("{handler} returned false"),
            };
            Outcome::Refuse(clean(&reason, self.limits.log_line_bytes))
        };
        Ok(match (handler, first) {
            ("onGet", value) => Outcome::Reply(self.reply(value)?),
            ("onPut" | "onDelete" | "onUpdate", LuaValue::Boolean(false)) => refuse(),
            ("onPut" | "onDelete", _) | ("onUpdate", LuaValue::Boolean(true)) => Outcome::Accept,
            ("onUpdate", LuaValue::Nil) => Outcome::Handled,
            ("onUpdate", other) => {
                let kind = other.type_name();
                return Err(Failure::BadReply(format!("onUpdate returned a {kind}, not true, false or nil")));
            }
            _ => Outcome::Ticked,
        })
    }

    fn reply(&self, value: &LuaValue) -> Result<Bytes, Failure> {
        let bounds = self.limits.reply_bounds();
        let encoded = self.vm.with_scratch(|out| {
            match value {
                LuaValue::Table(table) if *table == self.aso => {
                    self.vm.encode_state(&self.aso, None, bounds, out).map(drop)
                }
                value => self.vm.encode(value, bounds, out),
            }?;
            Ok(Bytes::copy_from_slice(out))
        });
        encoded.map_err(|fault: Fault| {
            Failure::BadReply(clean(&fault.of("the reply"), self.limits.log_line_bytes))
        })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        self.vm.move_out(self.category);
    }
}

/// Runs the script, which defines the object's table.
fn define(
    vm: &Rc<Vm>,
    category: Category,
    limits: &Rc<Limits>,
    blueprint: &Blueprint,
    prototype: &Prototype,
    data: &Value,
    moment: Moment,
) -> Result<(Table, LuaValue), ActivationError> {
    let bad = |error: &mlua::Error| ActivationError::BadCode(vm.failure(error).to_string());
    let (env, aso, script) = vm.furnish(category, prototype).map_err(|error| bad(&error))?;
    let scope = Scope {
        key: blueprint.key,
        local: moment.local,
        now: moment.now,
        limits: limits.clone(),
        aso: aso.to_pointer(),
        network: None,
    };
    vm.open_turn(category, vm.now(), Turn { scope: Some(scope), seed: Some(moment.seed), ..Turn::default() });
    let value = vm.to_lua(data).and_then(|value| aso.raw_set(VALUE_FIELD, &value).map(|()| value));
    let ran = value.as_ref().map(|_| vm.call(category, script, ()));
    vm.close_turn(category);
    match ran {
        Ok(Ran::Returned(..)) => {}
        Ok(Ran::Failed(failure)) => return Err(ActivationError::BadCode(failure.to_string())),
        Ok(Ran::Waits(..)) => return Err(ActivationError::BadCode("the script must not wait".into())),
        Err(error) => return Err(bad(error)),
    }
    let value = value.map_err(|error| bad(&error))?;
    let defined = match env.raw_get::<LuaValue>("aso") {
        Ok(LuaValue::Table(defined)) if !vm.is_node(&defined) => defined,
        _ => {
            return Err(ActivationError::BadCode("the script must leave a table in the global 'aso'".into()));
        }
    };
    if defined != aso && defined.raw_get::<LuaValue>(VALUE_FIELD).is_ok_and(|value| value.is_nil()) {
        defined.raw_set(VALUE_FIELD, &value).map_err(|error| bad(&error))?;
    }
    Ok((defined, value))
}

/// Replaces the fields that the script set by those that were kept; functions stay as the script made them.
fn restore(
    vm: &Vm,
    aso: &Table,
    state: state::State,
) -> Result<(Capabilities, Option<Version>), ActivationError> {
    let unreadable = |error: mlua::Error| ActivationError::Unreadable(error.to_string());
    let mut stale = Vec::new();
    aso.for_each(|key: LuaValue, value: LuaValue| {
        let is_value = key.as_string().is_some_and(|name| *name.as_bytes() == *VALUE_FIELD.as_bytes());
        if !value.is_function() && !is_value {
            stale.push(key);
        }
        Ok(())
    })
    .map_err(unreadable)?;
    for key in stale {
        aso.raw_set(key, LuaValue::Nil).map_err(unreadable)?;
    }
    for (n, (key, value)) in state.fields.iter().enumerate() {
        if n % FIELDS_PER_READING == FIELDS_PER_READING - 1 && vm.is_late() {
            return Err(ActivationError::Unreadable("its fields take too long to make".into()));
        }
        let (key, value) = (vm.to_lua(key).map_err(unreadable)?, vm.to_lua(value).map_err(unreadable)?);
        aso.raw_set(key, value).map_err(unreadable)?;
    }
    Ok((state.capabilities, state.decided))
}

#[cfg(test)]
mod tests;
