//! What clients ask of the swarm.

use std::{cell::RefCell, rc::Rc, time::Duration};

use bytes::Bytes;
use comet_routing::{Contact, Key, actor::Asking};
use comet_runtime::{
    Bounds, Refusal, Trail, Value,
    dht::{
        self, Answer, Delete, DeleteReport, Get, GetReport, Inspection, LogLine, LogProof, LookupReport, Put,
        PutReport, ReplicaLog, Usage,
    },
};
use comet_store::{Shown, Version, content_hash};
use tokio::sync::oneshot;

use super::{
    Operation,
    conversation::{Conversation, Places, beside_the_point},
    deletion::{Removal, deleted},
};
use crate::{
    operation::{
        CANDIDATES_MAX, Gate, OwnSaid, Plan, Purse, Read, ReadOutcome, Rule, Write, WriteOutcome,
        request::object_of,
    },
    wire::{Object, Reply, Request},
};

/// How often a put or a deletion that was outrun by another node's clock is tried again.
pub(super) const OUTRUN_MAX: u8 = 2;

/// One replica's answer to a get.
#[derive(Clone, Debug)]
pub(super) struct Got {
    pub(super) value: Value,
    /// The value as it came, which is what a quorum compares.
    bytes: Bytes,
    version: Version,
    active: bool,
    usage: Usage,
}

impl Got {
    /// Reads the reply to a get of this key. Refuses one that is something else, breaks this node's limits, or is
    /// not what the owner of the key put.
    pub(super) fn read(reply: Reply, key: &Key, gate: &Gate) -> Result<Self, Refusal> {
        let Reply::Got { value: bytes, version, active, usage, seal } = reply else {
            return Err(beside_the_point());
        };
        let shown = if active { Shown::Reply } else { Shown::Value(&bytes) };
        gate.believe(key, &version, seal.as_deref(), shown).map_err(|_| unproven())?;
        let limits = gate.limits();
        let bounds = if active { limits.reply_bounds() } else { limits.value_bounds() };
        let value = Value::decode(&bytes, Bounds { bytes: bounds.bytes.max(limits.value_bytes), ..bounds });
        let value = value.map_err(|_| beside_the_point())?;
        Ok(Self { value, bytes, version, active, usage })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.version == other.version && self.bytes == other.bytes
    }

    fn by(self, replica: Contact) -> Answer {
        let Self { value, version, active, usage, .. } = self;
        Answer { replica, value, version, active, usage }
    }
}

impl Operation {
    /// Stores an object; the report is sent once a quorum has it, and the rest is stored afterwards.
    ///
    /// An unsigned put that meets a newer one was not outrun by another writer but by another node's clock:
    /// whoever puts last wins, so it is put again, after that one.
    pub(super) async fn put(self, put: Put, reply: oneshot::Sender<Result<PutReport, Refusal>>) {
        let mut reply = Some(reply);
        let mut attempts_left = if put.owner.is_some() { 0 } else { OUTRUN_MAX };
        let replicas = put.replicas.unwrap_or(self.replication.replicas);
        let purse = purse_of(Plan::Equal(replicas.max(1).into()));
        let mut sequence = put.owner.as_ref().map_or_else(|| self.next_sequence(), |(sequence, _)| *sequence);
        while let Some(held) = self.put_once(put.clone(), sequence, &mut reply, attempts_left, &purse).await {
            // It orders this put alone: a peer that makes a number up moves no other operation.
            sequence = self.next_sequence().max(held + 1);
            attempts_left -= 1;
        }
    }

    /// Puts once and reports, unless the put was outrun by a sequence that can be outdone, and attempts are left:
    /// then that sequence.
    async fn put_once(
        &self,
        put: Put,
        sequence: u64,
        reply: &mut Option<oneshot::Sender<Result<PutReport, Refusal>>>,
        attempts_left: u8,
        purse: &Rc<RefCell<Purse>>,
    ) -> Option<u64> {
        let version =
            Version { sequence, hash: content_hash(put.code.as_ref().map(|code| &code.hash), &put.data) };
        let (key, is_plain) = (put.key, put.code.is_none() && put.owner.is_none());
        let object = object_of(put, sequence, &self.replication);
        let (replicas, ttl_seconds) = (object.replicas, self.access.gate.granted_seconds(object.ttl_seconds));
        let ttl = Duration::from_secs(ttl_seconds);
        let mut outrun_by = None;
        let sequence_max = self.access.gate.sequence_max(self.access.clock.wall_ms());
        let mut report = |result| match result {
            Err(Refusal::Stale { held_sequence }) if attempts_left > 0 && held_sequence < sequence_max => {
                outrun_by = Some(held_sequence);
            }
            // Whoever asked may have stopped waiting.
            result => drop(reply.take().map(|reply| reply.send(result))),
        };
        match self.prepare_put(object, purse).await {
            Ok((conversation, Places { nodes, late, missed })) => {
                let quorum = self.replication.write_quorum;
                let write = Write::new(nodes, missed, replicas, quorum, self.period).doubting(&late);
                let decided = |outcome: WriteOutcome<_>| report(outcome.report(version, ttl));
                let stored = conversation.write(write, |reply| stored(&reply), decided).await;
                if is_plain {
                    let kept: Vec<_> =
                        stored.into_iter().map(|(node, (version, _))| (node, version)).collect();
                    self.withdraw(key, version, &kept);
                }
            }
            Err(refusal) => report(Err(refusal)),
        }
        outrun_by
    }

    async fn prepare_put(
        &self,
        object: Object,
        purse: &Rc<RefCell<Purse>>,
    ) -> Result<(Conversation, Places), Refusal> {
        let (key, copies) = (object.key, usize::from(object.replicas));
        let conversation = self.converse(Request::Put { object, trail: Trail::SPENT.into() }, purse)?;
        // A put that goes to the members of the table is refused where they are gone, and handed on where it is not quite
        // theirs: it need not hear from everybody first.
        Ok((conversation, self.places(&key, copies, Asking::Seldom).await?))
    }

    /// Reads an object; the own replica may have been asked already.
    pub(super) async fn get(self, get: Get, own: Option<OwnSaid>) -> Result<GetReport, Refusal> {
        let (rule, reach) = self.rule_of(get.read)?;
        let payload = get.payload.map(|payload| payload.encode());
        let request = Request::Get { key: get.key, payload, callback: None, trail: Trail::SPENT.into() };
        let (refusal, purse) = own.map(|OwnSaid { refusal, purse }| (refusal, purse)).unzip();
        let purse = purse.unwrap_or_else(|| Purse::of_client(plan_of(get.read)));
        let conversation = self.converse(request, &Rc::new(RefCell::new(purse)))?;
        let wary = |read: Read<Got>| if get.key.is_owned() { read.wary() } else { read };
        let read = |candidates| wary(Read::new(candidates, rule, reach, self.period));
        let read = match get.read {
            dht::Read::First => {
                let known = self.neighbours(&get.key).await;
                read(known.contacts).unsearched(known.are_nearest).hasty()
            }
            dht::Read::Quorum(_) => read(self.candidates(&get.key).await?).hasty(),
            dht::Read::All => read(self.replicas(&get.key).await?),
        };
        let read = match refusal {
            Some(refusal) => read.after(self.access.own, refusal),
            None => read,
        };
        let gate = &self.access.gate;
        let outcome = conversation.read(read, |reply| Got::read(reply, &get.key, gate)).await;
        // Replicas that differ are what may have kept the read from a result.
        let holders: Vec<_> = outcome.heard.iter().map(|(replica, got)| (*replica, got.version)).collect();
        self.mend(get.key, &holders, &outcome.absent);
        let is_own = |node: &Contact| node.id == self.access.own.id;
        if matches!(outcome.result, Err(Refusal::NotFound)) && outcome.absent.iter().all(is_own) {
            self.must_not_be_cut_off()?;
        }
        let answers = outcome.result?.into_iter().map(|(replica, got)| got.by(replica)).collect();
        Ok(GetReport { answers, failed: outcome.failed })
    }

    /// Whose answers are wanted, and how many live nodes are heard. An object may have more replicas than this
    /// node's default, so whoever wants all of them hears all candidates.
    fn rule_of(&self, read: dht::Read) -> Result<(Rule<Got>, usize), Refusal> {
        let replicas = usize::from(self.replication.replicas);
        match read {
            dht::Read::First => Ok((Rule::First, replicas)),
            dht::Read::All => Ok((Rule::All, CANDIDATES_MAX)),
            dht::Read::Quorum(n) if (1..=CANDIDATES_MAX).contains(&usize::from(n)) => {
                Ok((Rule::Quorum { n, same: Got::is_same }, replicas.max(n.into())))
            }
            dht::Read::Quorum(n) => {
                Err(Refusal::Invalid(format!("a quorum of {n}; it takes 1 to {CANDIDATES_MAX}")))
            }
        }
    }

    /// Deletes an object wherever it may be: how many replicas it has is not known here.
    pub(super) async fn delete(self, Delete { key, owner, .. }: Delete) -> Result<DeleteReport, Refusal> {
        let purse = purse_of(Plan::Equal(self.replication.replicas.into()));
        let removal = match owner {
            Some((sequence, ownership)) => {
                let trail = Trail::SPENT.into();
                let request = Request::Delete { key, sequence, ownership: Some(ownership.into()), trail };
                let mut removal = Removal::default();
                removal.note(self.hear_all(key, request, &purse, |reply| deleted(&reply)).await?);
                removal
            }
            None => {
                let nodes = self.replicas(&key).await?;
                self.remove(key, nodes, CANDIDATES_MAX, &purse).await?
            }
        };
        let Removal { held, failed, unheard } = removal;
        if held.is_empty() {
            let why = |which: fn(&Refusal) -> bool| failed.iter().map(|(_, why)| why).find(|why| which(why));
            let refused = why(|why| !why.retryable()).or_else(|| why(is_said)).cloned();
            return Err(refused.or(unheard).unwrap_or(Refusal::NotFound));
        }
        Ok(DeleteReport { deleted: held, failed })
    }

    /// Finds the live nodes closest to a key.
    pub(super) async fn look_up(self, key: &Key) -> Result<LookupReport, Refusal> {
        let found = self.find(key, CANDIDATES_MAX).await?;
        Ok(LookupReport {
            nodes: self.access.with_own(key, found.closest),
            hops: found.hops,
            queries: found.queries,
        })
    }

    /// Asks every replica what it holds.
    pub(super) async fn inspect(self, key: Key) -> Result<Vec<Inspection>, Refusal> {
        let held = |reply| if let Reply::Inspected(held) = reply { Some(held) } else { None };
        let outcome = self.hear_all(key, Request::Inspect { key }, &purse_of(Plan::Nothing), held).await?;
        Ok(outcome.result?.into_iter().map(|(replica, held)| held.at(replica)).collect())
    }

    /// Asks every replica for the object's log.
    pub(super) async fn logs(self, key: Key, proof: Option<LogProof>) -> Result<Vec<ReplicaLog>, Refusal> {
        let outcome =
            self.hear_all(key, Request::Logs { key, proof }, &purse_of(Plan::Nothing), logged).await?;
        Ok(outcome.result?.into_iter().map(|(replica, lines)| ReplicaLog { replica, lines }).collect())
    }

    async fn hear_all<T: Clone>(
        &self,
        key: Key,
        request: Request,
        purse: &Rc<RefCell<Purse>>,
        said: impl Fn(Reply) -> Option<T>,
    ) -> Result<ReadOutcome<T>, Refusal> {
        let said = |reply| said(reply).ok_or_else(beside_the_point);
        let conversation = self.converse(request, purse)?;
        let candidates = self.replicas(&key).await?;
        let read = Read::new(candidates, Rule::All, CANDIDATES_MAX, self.period);
        Ok(conversation.read(read, said).await)
    }
}

/// How the budget of a get is divided. A quorum is of equal answers, so all have the same to answer with; of all
/// answers the nearest replica's counts most to an object that lets one of its replicas speak for the others.
fn plan_of(read: dht::Read) -> Plan {
    match read {
        dht::Read::First | dht::Read::All => Plan::Nearest,
        dht::Read::Quorum(n) => Plan::Equal(n.max(1).into()),
    }
}

/// What a client's request may cause.
pub(super) fn purse_of(plan: Plan) -> Rc<RefCell<Purse>> {
    Rc::new(RefCell::new(Purse::of_client(plan)))
}

/// What a replica that stored an object says.
pub(super) fn stored(reply: &Reply) -> Option<(Version, Usage)> {
    if let Reply::Stored { version, usage } = reply { Some((*version, *usage)) } else { None }
}

fn unproven() -> Refusal {
    Refusal::Corrupt("what it shows is not what the owner of the key has signed".into())
}

/// True if a node that is there said so itself.
fn is_said(refusal: &Refusal) -> bool {
    !matches!(refusal, Refusal::Unreachable(_) | Refusal::Timeout { .. })
}

fn logged(reply: Reply) -> Option<Vec<LogLine>> {
    if let Reply::Log { lines } = reply { Some(lines) } else { None }
}
