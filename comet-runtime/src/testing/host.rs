//! One node of the fake swarm: its copies, and the turns that they run.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use comet_routing::{Contact, Key, clock::WallMs};
use comet_store::{Expected, Record, Seal, Version};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::TestConfig;
use crate::{
    Backstop, Blueprint, Caller, Event, Failure, InvocationId, Limits, Moment, Object, Op, OpResult, Outcome,
    Progress, Reach, Refusal, Report, Request, Trail, Value, VmPool, WaitId,
    actors::activation_refusal,
    dht::Usage,
    object_log::{Author, ObjectLog},
    rules::{self, OnDelete, OnPut},
    state,
    visit::{Holding, Served, Visit},
};

/// A request that an object sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentRequest {
    /// The node that it ran on.
    pub node: Contact,
    /// What it asked.
    pub op: Op,
}

/// A request on its way.
pub(super) struct Sent {
    pub(super) key: Key,
    pub(super) request: Request,
    pub(super) copy: Option<Record>,
}

/// Under which a visit's outcome can be collected.
pub(super) type Ticket = u64;

struct Copy {
    record: Record,
    /// `None` after a failed turn, until the next visit restores it.
    object: Option<Object>,
    log: ObjectLog,
    timer_due: Option<WallMs>,
    usage: Usage,
}

enum Errand {
    Answer,
    Update { caller: Caller, record: Arc<Record>, trail: Trail },
    Delete,
    Arrive { previous: Option<Box<Copy>> },
    Tick,
}

pub(super) struct Host {
    contact: Contact,
    pool: VmPool,
    reach: Reach,
    rng: ChaCha12Rng,
    copies: BTreeMap<Key, Copy>,
    errands: BTreeMap<InvocationId, (Key, &'static str, Errand)>,
    outcomes: BTreeMap<Ticket, Result<Served, Refusal>>,
    next: InvocationId,
    sent: Vec<(u64, Key, SentRequest)>,
}

impl Host {
    pub(super) fn new(contact: Contact, limits: &Rc<Limits>, config: &TestConfig, seed: u64) -> Self {
        Self {
            contact,
            pool: VmPool::new(limits.clone(), Backstop::StepsOnly).showing(config.caller_addresses),
            reach: config.reach,
            rng: ChaCha12Rng::seed_from_u64(seed),
            copies: BTreeMap::new(),
            errands: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            next: 1,
            sent: Vec::new(),
        }
    }

    pub(super) fn contact(&self) -> Contact {
        self.contact
    }

    pub(super) fn holds(&self, key: &Key, now: WallMs) -> bool {
        self.copies.get(key).is_some_and(|copy| copy.record.expires_ms > now)
    }

    pub(super) fn next_due(&self) -> Option<(WallMs, Key)> {
        self.copies.iter().filter_map(|(key, copy)| copy.timer_due.map(|due| (due, *key))).min()
    }

    pub(super) fn expire(&mut self, now: WallMs) {
        self.copies.retain(|_, copy| copy.record.expires_ms > now);
    }

    /// The version of the living copy, if there is one.
    pub(super) fn version(&self, key: &Key, now: WallMs) -> Option<Version> {
        let copy = self.copies.get(key).filter(|copy| copy.record.expires_ms > now)?;
        Some(copy.record.version)
    }

    pub(super) fn sent_by(&self, key: &Key) -> impl Iterator<Item = (u64, SentRequest)> {
        let key = *key;
        self.sent.iter().filter(move |(_, by, _)| *by == key).map(|(order, _, sent)| (*order, sent.clone()))
    }

    pub(super) fn field(&mut self, key: &Key, field: &str) -> Option<Value> {
        let copy = self.copies.get(key)?;
        let kept = copy.object.as_ref().map_or(&copy.record.state, Object::state);
        let state = state::decode(kept, self.pool.limits()).ok().flatten()?;
        let found = state.fields.into_iter().find(|(name, _)| name.as_text() == Some(field));
        found.map(|(_, value)| value)
    }

    /// Begins a visit. Its outcome is there once every request that comes back is answered.
    pub(super) fn visit(
        &mut self,
        key: Key,
        visit: Visit,
        now: WallMs,
    ) -> Result<(Ticket, VecDeque<Sent>), Refusal> {
        self.copies.retain(|held, copy| *held != key || copy.record.expires_ms > now);
        self.next += 1;
        let ticket = self.next;
        let sent = match visit {
            Visit::Put { caller, record, condition, trail } => {
                let held = self.copies.get(&key).map(|copy| copy.record.version);
                rules::check_expected(held, condition.map_or(Expected::Any, |condition| condition.expected))?;
                self.put(ticket, caller, record, trail, now)?
            }
            visit => self.visit_held(ticket, key, visit, now)?,
        };
        Ok((ticket, sent))
    }

    fn visit_held(
        &mut self,
        ticket: Ticket,
        key: Key,
        visit: Visit,
        now: WallMs,
    ) -> Result<VecDeque<Sent>, Refusal> {
        self.restore(key, now)?;
        let copy = self.copies.get_mut(&key).ok_or(Refusal::NotFound)?;
        let version = copy.record.version;
        let done = match (visit, &copy.object) {
            (Visit::Log, _) => Served::Logged(copy.log.lines(now)),
            (Visit::Get { .. }, None) => Served::Got {
                value: copy.record.data.clone(),
                version,
                active: false,
                usage: Usage::default(),
                seal: Seal::of(&copy.record).map(Box::new),
            },
            (Visit::Inspect { .. }, object) => {
                let handlers = object.as_ref().map_or_else(Vec::new, Object::handlers);
                Served::Inspected(Box::new(Holding {
                    record: copy.record.clone(),
                    handlers: handlers.into_iter().map(str::to_owned).collect(),
                    active: object.is_some(),
                    usage: copy.usage,
                }))
            }
            (Visit::Delete { caller, deletion, trail }, object) => {
                let has_handler = object.as_ref().is_some_and(|object| object.has("onDelete"));
                match rules::on_delete(&copy.record, &deletion, has_handler) {
                    OnDelete::Refuse(refusal) => return Err(refusal),
                    OnDelete::Ask => {
                        return Ok(self.run(
                            ticket,
                            key,
                            &Event::Delete { caller },
                            trail,
                            Errand::Delete,
                            now,
                        ));
                    }
                    OnDelete::Remove(_) => {
                        self.copies.remove(&key);
                        Served::Deleted { held: true }
                    }
                }
            }
            (Visit::Get { caller, payload, trail }, Some(_)) => {
                return Ok(self.run(
                    ticket,
                    key,
                    &Event::Get { caller, payload },
                    trail,
                    Errand::Answer,
                    now,
                ));
            }
            (Visit::Wake, Some(object)) => {
                copy.timer_due = object.policy().timer_seconds.map(|period| now + period * 1_000);
                return Ok(self.run(ticket, key, &Event::Timer, Trail::FRESH, Errand::Tick, now));
            }
            (Visit::Release { .. } | Visit::Withdraw { .. }, _) => {
                self.copies.remove(&key);
                Served::Deleted { held: true }
            }
            // There is one writer at a time here, so nobody has to be waited for.
            (Visit::Claim { .. } | Visit::Unclaim { .. }, _) => Served::Noted,
            (Visit::Wake | Visit::Put { .. }, _) => Served::Ticked,
        };
        self.outcomes.insert(ticket, Ok(done));
        Ok(VecDeque::new())
    }

    fn put(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        record: Arc<Record>,
        trail: Trail,
        now: WallMs,
    ) -> Result<VecDeque<Sent>, Refusal> {
        let key = record.key;
        self.restore(key, now)?;
        let Some(copy) = self.copies.get_mut(&key) else {
            rules::may_create(&record)?;
            return self.arrive(ticket, Arc::unwrap_or_clone(record), caller, trail, now);
        };
        let has_handler = copy.object.as_ref().is_some_and(|object| object.has("onUpdate"));
        match rules::on_put(&copy.record, &record, caller.origin, has_handler) {
            OnPut::Refuse(refusal) => Err(refusal),
            OnPut::Renew => {
                copy.record.expires_ms = copy.record.expires_ms.max(record.expires_ms);
                let version = copy.record.version;
                self.outcomes.insert(ticket, Ok(Served::Stored { version, usage: Usage::default() }));
                Ok(VecDeque::new())
            }
            OnPut::Ask if has_handler => {
                let (data, code) = (record.data.clone(), record.code.clone());
                let event = Event::Update { caller: caller.clone(), data, code };
                Ok(self.run(ticket, key, &event, trail, Errand::Update { caller, record, trail }, now))
            }
            OnPut::Ask => self.arrive(ticket, Arc::unwrap_or_clone(record), caller, trail, now),
        }
    }

    /// A record takes its place: at once if it is plain, else if its `onPut` agrees.
    fn arrive(
        &mut self,
        ticket: Ticket,
        record: Record,
        caller: Caller,
        trail: Trail,
        now: WallMs,
    ) -> Result<VecDeque<Sent>, Refusal> {
        let (key, version) = (record.key, record.version);
        let object = match &record.code {
            Some(_) => Some(self.activate(&record, now)?),
            None => None,
        };
        let active = object.is_some();
        let copy =
            Copy { record, object, log: ObjectLog::default(), timer_due: None, usage: Usage::default() };
        let previous = self.copies.insert(key, copy).map(Box::new);
        if active {
            return Ok(self.run(
                ticket,
                key,
                &Event::Put { caller },
                trail,
                Errand::Arrive { previous },
                now,
            ));
        }
        self.outcomes.insert(ticket, Ok(Served::Stored { version, usage: Usage::default() }));
        Ok(VecDeque::new())
    }

    fn activate(&mut self, record: &Record, now: WallMs) -> Result<Object, Refusal> {
        let code = record.code.clone().ok_or(Refusal::NotFound)?;
        let (data, state) = (record.data.clone(), record.state.clone());
        let blueprint = Blueprint { key: record.key, code, data, state, reach: self.reach };
        let moment = self.moment(now);
        self.pool.activate(&blueprint, moment).map_err(activation_refusal)
    }

    /// Brings an object back that a failed turn ended.
    fn restore(&mut self, key: Key, now: WallMs) -> Result<(), Refusal> {
        let Some(copy) = self.copies.get(&key) else { return Ok(()) };
        if copy.object.is_none() && copy.record.code.is_some() {
            let object = self.activate(&copy.record.clone(), now)?;
            self.copies.entry(key).and_modify(|copy| copy.object = Some(object));
        }
        Ok(())
    }

    fn moment(&mut self, now: WallMs) -> Moment {
        Moment { now, local: self.contact, seed: self.rng.next_u64() }
    }

    fn run(
        &mut self,
        ticket: Ticket,
        key: Key,
        event: &Event,
        trail: Trail,
        errand: Errand,
        now: WallMs,
    ) -> VecDeque<Sent> {
        self.errands.insert(ticket, (key, event.handler(), errand));
        let moment = self.moment(now);
        let object = self.copies.get_mut(&key).and_then(|copy| copy.object.as_mut());
        match object.map(|object| object.begin(ticket, event, trail, moment)) {
            Some(report) => self.settle(key, report, now),
            None => VecDeque::new(),
        }
    }

    /// Hands an object the answer to one of its requests.
    pub(super) fn answer(&mut self, key: Key, wait: WaitId, result: OpResult, now: WallMs) -> VecDeque<Sent> {
        let moment = self.moment(now);
        let object = self.copies.get_mut(&key).and_then(|copy| copy.object.as_mut());
        match object.and_then(|object| object.resume(wait, result, moment)) {
            Some(report) => self.settle(key, report, now),
            None => VecDeque::new(),
        }
    }

    /// The outcome of a visit.
    pub(super) fn collect(&mut self, ticket: Ticket) -> Result<Served, Refusal> {
        self.outcomes.remove(&ticket).unwrap_or_else(|| Err(Refusal::Timeout { deadline_ms: 10_000 }))
    }

    fn settle(&mut self, key: Key, report: Report, now: WallMs) -> VecDeque<Sent> {
        let limits = self.pool.limits().clone();
        let Some(copy) = self.copies.get_mut(&key) else { return VecDeque::new() };
        match report.callback {
            Some(_) if report.end == Ok(Progress::Waiting) => {}
            Some(_) => copy.usage.extend_by(report.usage),
            None => copy.usage = report.usage,
        }
        report.log.iter().for_each(|line| copy.log.push(now, Author::Handler, line, &limits));
        let progress = match report.end {
            Ok(progress) => progress,
            Err(failure) => {
                self.fail(key, report.invocation, failure, now);
                return VecDeque::new();
            }
        };
        if let Some(object) = &copy.object {
            copy.record.state = object.state().clone();
            obey_policy(&mut copy.record, &mut copy.timer_due, object, now);
        }
        let mut sent = VecDeque::new();
        for request in report.requests {
            let copied = matches!(request.op, Op::Copy { .. }).then(|| copy.record.clone());
            self.next += 1;
            let noted = SentRequest { node: self.contact, op: request.op.clone() };
            self.sent.push((self.next, key, noted));
            sent.push_back(Sent { key, request, copy: copied });
        }
        if let Progress::Done(outcome) = progress {
            let errand =
                report.invocation.and_then(|id| self.errands.remove(&id).map(|errand| (id, errand.2)));
            if let Some((id, errand)) = errand {
                sent.extend(self.conclude(id, key, errand, outcome, report.usage, now));
            }
        }
        if report.delete_self {
            self.copies.remove(&key);
        }
        sent
    }

    fn fail(&mut self, key: Key, id: Option<InvocationId>, failure: Failure, now: WallMs) {
        let limits = self.pool.limits().clone();
        let errand = id.and_then(|id| self.errands.remove(&id));
        let handler = errand.as_ref().map_or("callback", |(_, handler, _)| handler);
        if let Some(copy) = self.copies.get_mut(&key) {
            copy.log.push(now, Author::Node, &format!("{handler} failed: {failure}"), &limits);
            copy.object = None;
        }
        if let (Some((_, _, Errand::Arrive { previous })), Some(_)) = (errand, id) {
            self.copies.remove(&key);
            if let Some(previous) = previous {
                self.copies.insert(key, *previous);
            }
        }
        if let Some(id) = id {
            self.outcomes.insert(id, Err(Refusal::HandlerFailed { handler: handler.into(), failure }));
        }
    }

    fn conclude(
        &mut self,
        id: InvocationId,
        key: Key,
        errand: Errand,
        outcome: Outcome,
        usage: Usage,
        now: WallMs,
    ) -> VecDeque<Sent> {
        let Some(version) = self.copies.get(&key).map(|copy| copy.record.version) else {
            return VecDeque::new();
        };
        let served = match (errand, outcome) {
            (Errand::Arrive { previous }, Outcome::Refuse(reason)) => {
                self.copies.remove(&key);
                if let Some(previous) = previous {
                    self.copies.insert(key, *previous);
                }
                Err(Refusal::Refused(reason))
            }
            (_, Outcome::Refuse(reason)) => Err(Refusal::Refused(reason)),
            (Errand::Answer, Outcome::Reply(value)) => {
                let seal = self.copies.get(&key).and_then(|copy| Seal::of(&copy.record)).map(Box::new);
                Ok(Served::Got { value, version, active: true, usage, seal })
            }
            (Errand::Update { caller, record, trail }, Outcome::Accept) => {
                match self.arrive(id, Arc::unwrap_or_clone(record), caller, trail, now) {
                    Ok(sent) => return sent,
                    Err(refusal) => Err(refusal),
                }
            }
            (Errand::Delete, Outcome::Accept) => {
                self.copies.remove(&key);
                Ok(Served::Deleted { held: true })
            }
            (Errand::Tick, _) => Ok(Served::Ticked),
            (_, _) => Ok(Served::Stored { version, usage }),
        };
        self.outcomes.insert(id, served);
        VecDeque::new()
    }
}

fn obey_policy(record: &mut Record, timer_due: &mut Option<WallMs>, object: &Object, now: WallMs) {
    let policy = object.policy();
    if let Some(ttl) = policy.ttl_seconds {
        record.expires_ms =
            record.expires_ms.min(record.created_ms.saturating_add(ttl.saturating_mul(1_000)));
    }
    match policy.timer_seconds {
        Some(period) => {
            timer_due.get_or_insert(now + period * 1_000);
        }
        None => *timer_due = None,
    }
}
