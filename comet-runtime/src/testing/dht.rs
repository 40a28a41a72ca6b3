//! The fake network: what the requests of objects, and of typed clients, come to.

use std::{future::ready, sync::Arc};

use comet_routing::{Contact, Key};
use comet_store::{Deletion, Record, Version};

use super::{Swarm, TestSwarm};
use crate::{
    Caller, Nodes, Op, OpOutcome, OpResult, Origin, Refusal, Request, Trail, Value,
    dht::{
        Answer, Delete, DeleteReport, Dht, Get, GetReport, Inspection, LogProof, LookupReport, Put,
        PutReport, Read, ReplicaLog, Usage,
    },
    visit::{Served, Visit},
};

impl Swarm {
    /// Carries out a request that the object at `from` on node `at` sent.
    pub(super) fn perform(
        &mut self,
        at: usize,
        from: Key,
        request: &Request,
        copy: Option<Record>,
    ) -> OpResult {
        let (trail, op) = (request.trail, &request.op);
        let own = from;
        match &request.op {
            Op::Lookup { key } => {
                let found = self.closest(key, 20);
                Ok(OpOutcome::Nodes(self.contacts(found)))
            }
            Op::Get { .. } => self.get_for(at, own, op, trail),
            Op::Put { key, data, .. } => {
                let mut record = self.record(*key, data, None);
                record.ttl_seconds = 3_600;
                self.store_for(at, own, op, &record, trail)
            }
            Op::Copy { .. } => match copy {
                Some(record) => self.store_for(at, own, op, &record, trail),
                None => Err(Refusal::Invalid("the object to copy is missing".into())),
            },
            Op::Delete { key, nodes } => {
                let caller = Caller { origin: Origin::Client, ..self.client(at, None) };
                let (targets, trail) = self.paid(at, self.targets(at, &own, key, nodes), op, None, trail);
                let deletion = self.deletion();
                let mut gone = Vec::new();
                for target in targets {
                    let deletion = Box::new(deletion.clone());
                    let visit = Visit::Delete { caller: caller.clone(), deletion, trail };
                    if self.visit(target, *key, visit).is_ok() {
                        gone.push(target);
                    }
                }
                Ok(OpOutcome::Nodes(self.contacts(gone)))
            }
        }
    }

    fn contacts(&self, nodes: Vec<usize>) -> Vec<Contact> {
        nodes.into_iter().map(|at| self.hosts[at].contact()).collect()
    }

    /// Whom a request reaches. A request to the object's own key goes to its other replicas.
    fn targets(&self, at: usize, own: &Key, key: &Key, nodes: &Nodes) -> Vec<usize> {
        let mut found = match nodes {
            Nodes::Closest => self.closest(key, self.config.replicas + usize::from(own == key)),
            Nodes::Count(count) => self.closest(key, usize::from(*count) + usize::from(own == key)),
            Nodes::These(nodes) => {
                return nodes
                    .iter()
                    .filter_map(|node| self.at(node))
                    .filter(|at| !self.silent[*at])
                    .collect();
            }
        };
        if own == key {
            let wanted = found.len().saturating_sub(1);
            found.retain(|&found| found != at);
            found.truncate(wanted);
        }
        found
    }

    /// Those of the nodes that a request can pay for, and what each of them may cause.
    fn paid(
        &self,
        at: usize,
        mut targets: Vec<usize>,
        op: &Op,
        copy: Option<&Record>,
        trail: Trail,
    ) -> (Vec<usize>, Trail) {
        let copy_bytes = copy.map_or(0, |record| {
            record.data.len() + record.state.len() + record.code.as_ref().map_or(0, |code| code.source.len())
        });
        let frame_bytes = op.frame_bytes(copy_bytes);
        let mut left = trail;
        let paid = trail.affords(frame_bytes);
        let mut asked = 0;
        targets.retain(|target| {
            asked += usize::from(*target != at);
            *target == at || asked <= paid
        });
        left.give(Trail {
            messages: asked.min(paid) as u8,
            bytes: (asked.min(paid) * frame_bytes) as u32,
            depth: 0,
        });
        let each = left.part(targets.len());
        (targets, each)
    }

    /// A get: where no nodes are named one answers in the end, and half of what is left goes to each that is asked.
    fn get_for(&mut self, at: usize, own: Key, op: &Op, mut trail: Trail) -> OpResult {
        let Op::Get { key, nodes, payload } = op else { return Err(Refusal::Unsupported) };
        let (key, caller, one) = (*key, self.client(at, Some(own)), *nodes == Nodes::Closest);
        let targets = self.targets(at, &own, &key, nodes);
        let (targets, each) = if one { (targets, trail) } else { self.paid(at, targets, op, None, trail) };
        let mut answers = Vec::new();
        for target in targets {
            let is_paid = target == at || !one || trail.take(1, op.frame_bytes(0)).messages > 0;
            let each = if one { trail.part(2) } else { each };
            if !is_paid {
                break;
            }
            let visit = Visit::Get { caller: caller.clone(), payload: payload.clone(), trail: each };
            let Ok(Served::Got { value, .. }) = self.visit(target, key, visit) else { continue };
            let Ok(value) = Value::decode(&value, self.config.limits.reply_bounds()) else { continue };
            if one {
                return Ok(OpOutcome::Value(value));
            }
            answers.push((self.hosts[target].contact(), value));
        }
        if one { Err(Refusal::NotFound) } else { Ok(OpOutcome::Values(answers)) }
    }

    fn store_for(&mut self, at: usize, own: Key, op: &Op, record: &Record, trail: Trail) -> OpResult {
        let (key, nodes, origin) = match op {
            Op::Put { key, nodes, .. } => (*key, nodes, Origin::Client),
            Op::Copy { nodes } => (own, nodes, Origin::Replica),
            _ => return Err(Refusal::Unsupported),
        };
        let caller = Caller { origin, ..self.client(at, None) };
        let targets = self.targets(at, &own, &key, nodes);
        let (targets, trail) = self.paid(at, targets, op, Some(record), trail);
        let (record, mut stored) = (Arc::new(record.clone()), Vec::new());
        for target in targets {
            let (caller, record) = (caller.clone(), Arc::clone(&record));
            let visit = Visit::Put { caller, record, condition: None, trail };
            if self.visit(target, key, visit).is_ok() {
                stored.push(target);
            }
        }
        Ok(OpOutcome::Nodes(self.contacts(stored)))
    }
}

impl Dht for TestSwarm {
    fn put(&self, put: Put) -> impl Future<Output = Result<PutReport, Refusal>> {
        let limits = self.inner.borrow().config.limits.clone();
        let outcome = Value::decode(&put.data, limits.value_bounds())
            .map_err(|error| Refusal::Invalid(error.to_string()))
            .and_then(|value| {
                let code = put.code.as_ref().map(|code| &*code.source);
                self.put_expecting(0, put.key, &value, code, put.expected)
            });
        let swarm = self.inner.borrow();
        let version = Version {
            sequence: swarm.sequence,
            hash: comet_store::content_hash(put.code.as_ref().map(|code| &code.hash), &put.data),
        };
        let stored = swarm.contacts(swarm.closest(&put.key, swarm.config.replicas));
        let wanted = swarm.config.replicas as u8;
        ready(outcome.map(|()| PutReport {
            version,
            stored: stored.into_iter().map(|node| (node, Usage::default())).collect(),
            failed: Vec::new(),
            wanted,
            quorum: wanted / 2 + 1,
            ttl: super::TTL,
        }))
    }

    fn get(&self, get: Get) -> impl Future<Output = Result<GetReport, Refusal>> {
        let mut swarm = self.inner.borrow_mut();
        let mut report = GetReport { answers: Vec::new(), failed: Vec::new() };
        let mut left = Trail::FRESH;
        for replica in swarm.closest(&get.key, swarm.config.replicas) {
            let contact = swarm.hosts[replica].contact();
            let caller = swarm.client(0, None);
            let trail = left.most();
            left.give(trail);
            let visit = Visit::Get { caller, payload: get.payload.clone(), trail };
            match swarm.visit(replica, get.key, visit) {
                Ok(Served::Got { value, version, active, usage, .. }) => {
                    let bounds = swarm.config.limits.reply_bounds();
                    let value = Value::decode(&value, bounds).unwrap_or(Value::Nil);
                    report.answers.push(Answer { replica: contact, value, version, active, usage });
                }
                Ok(_) => {}
                Err(refusal) => {
                    if refusal == Refusal::NotFound {
                        // No handler ran, so nothing is used up.
                        left.take_back(trail);
                    }
                    report.failed.push((contact, refusal));
                }
            }
            if get.read == Read::First && !report.answers.is_empty() {
                break;
            }
        }
        let refusal = report.failed.first().map(|(_, refusal)| refusal.clone());
        ready(if report.answers.is_empty() { Err(refusal.unwrap_or(Refusal::NotFound)) } else { Ok(report) })
    }

    fn delete(&self, delete: Delete) -> impl Future<Output = Result<DeleteReport, Refusal>> {
        let mut swarm = self.inner.borrow_mut();
        let caller = swarm.client(0, None);
        let deletion = match delete.owner {
            Some((sequence, ownership)) => Deletion::up_to(sequence, Some(ownership.into())),
            None => swarm.deletion(),
        };
        let mut report = DeleteReport { deleted: Vec::new(), failed: Vec::new() };
        for at in swarm.closest(&delete.key, swarm.config.nodes) {
            let contact = swarm.hosts[at].contact();
            let deletion = Box::new(deletion.clone());
            let trail = Trail::FRESH.part(swarm.config.replicas);
            let visit = Visit::Delete { caller: caller.clone(), deletion, trail };
            match swarm.visit(at, delete.key, visit) {
                Ok(_) => report.deleted.push(contact),
                Err(Refusal::NotFound) => {}
                Err(refusal) => report.failed.push((contact, refusal)),
            }
        }
        let refusal = report.failed.first().map(|(_, refusal)| refusal.clone());
        ready(if report.deleted.is_empty() { Err(refusal.unwrap_or(Refusal::NotFound)) } else { Ok(report) })
    }

    fn lookup(&self, key: Key) -> impl Future<Output = Result<LookupReport, Refusal>> {
        let swarm = self.inner.borrow();
        let nodes = swarm.contacts(swarm.closest(&key, 20));
        ready(Ok(LookupReport { nodes, hops: 1, queries: 0 }))
    }

    fn inspect(&self, key: Key) -> impl Future<Output = Result<Vec<Inspection>, Refusal>> {
        let mut swarm = self.inner.borrow_mut();
        let now = swarm.now;
        let mut found = Vec::new();
        for at in swarm.closest(&key, swarm.config.nodes) {
            let replica = swarm.hosts[at].contact();
            let caller = swarm.client(0, None);
            if let Ok(Served::Inspected(holding)) = swarm.visit(at, key, Visit::Inspect { caller }) {
                found.push(holding.inspection(replica, now));
            }
        }
        ready(if found.is_empty() { Err(Refusal::NotFound) } else { Ok(found) })
    }

    fn logs(&self, key: Key, _: Option<LogProof>) -> impl Future<Output = Result<Vec<ReplicaLog>, Refusal>> {
        let mut swarm = self.inner.borrow_mut();
        let mut found = Vec::new();
        for at in swarm.closest(&key, swarm.config.nodes) {
            let replica = swarm.hosts[at].contact();
            if let Ok(Served::Logged(lines)) = swarm.visit(at, key, Visit::Log) {
                found.push(ReplicaLog { replica, lines });
            }
        }
        ready(if found.is_empty() { Err(Refusal::NotFound) } else { Ok(found) })
    }
}

#[cfg(test)]
mod tests {
    use comet_store::Expected;

    use super::*;

    #[test]
    fn a_put_takes_the_place_of_what_it_expects_and_of_nothing_else() {
        let (swarm, key) = (TestSwarm::seeded(1), Key::of("n"));
        let put = |n: i64, expected| swarm.put_expecting(0, key, &Value::Int(n), None, expected);
        assert_eq!(put(1, Expected::Absent), Ok(()));
        let nearest = swarm.inner.borrow().closest(&key, 1)[0];
        let held = || swarm.inner.borrow().hosts[nearest].version(&key, swarm.now_ms());
        let first = held();
        assert_eq!(put(2, Expected::Absent), Err(Refusal::Conflict { held: first }));
        let expected = Expected::Version(first.expect("it is held"));
        assert_eq!(put(2, expected), Ok(()));
        assert_eq!(put(3, expected), Err(Refusal::Conflict { held: held() }));
        assert_eq!(swarm.get("n"), Ok(Value::Int(2)));
        assert_eq!(put(3, Expected::Any), Ok(()), "the control: nothing is expected");
    }
}
