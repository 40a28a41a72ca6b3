//! Puts that take place only where something is held: first most replicas agree to wait for the put, then it is stored.
//!
//! The replicas are the nodes closest to the key, as many as the put asks for, and nobody takes the place of one that
//! is silent: majorities have to meet. That a writer was refused before it stored anything is certain; a put that
//! fails after that may have been stored by some, and says so.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use comet_routing::{Contact, Key, actor::Asking};
use comet_runtime::{
    Caller, Origin, Refusal, Trail,
    dht::{Expected, Put, PutReport},
    visit::Visit,
};
use comet_store::{Version, content_hash};
use tokio::sync::oneshot;

use super::{
    Access, Operation,
    client::{OUTRUN_MAX, purse_of, stored},
    conversation::Places,
};
use crate::{
    operation::{Plan, Write, WriteOutcome, request::object_of},
    wire::{Object, Reply, Request},
};

/// The longest that a conditional put may take, well below the time for which replicas wait for it.
const DEADLINE_MAX: Duration = Duration::from_secs(10);

/// A put for which most replicas wait.
struct Claimed {
    object: Object,
    version: Version,
    expected: Option<Version>,
    ticket: u64,
    places: Places,
}

/// What becomes of a claim if a few replicas hold a higher version than the put will have, which would replace it in
/// the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// The claim is given back, and the put goes after that version.
    Heeded,
    /// The put follows all the same: a replica that is ahead each time lies, and would keep a key from everybody.
    Ignored,
}

impl Operation {
    /// Stores an object where this version is held, or nothing; reports once most replicas have it, and goes on until
    /// the rest have it as well.
    pub(super) async fn put_if(
        mut self,
        put: Put,
        expected: Option<Version>,
        reply: oneshot::Sender<Result<PutReport, Refusal>>,
    ) {
        self.period.deadline = self.period.deadline.min(self.period.began + DEADLINE_MAX);
        let is_plain = put.code.is_none() && put.owner.is_none();
        match self.claim_in_order(&put, expected).await {
            Ok(claimed) => self.put_claimed(claimed, is_plain, reply).await,
            // Whoever asked may have stopped waiting.
            Err(refusal) => drop(reply.send(Err(refusal))),
        }
    }

    /// Claims, and again with a higher sequence number where that is this node's to choose and some replica has a
    /// higher one: what it holds would otherwise replace the put in the end.
    async fn claim_in_order(&self, put: &Put, expected: Option<Version>) -> Result<Claimed, Refusal> {
        let mut attempts_left = if put.owner.is_some() { 0 } else { OUTRUN_MAX };
        let after_expected = expected.map_or(0, |expected| expected.sequence.saturating_add(1));
        let mut sequence = match &put.owner {
            Some((sequence, _)) => *sequence,
            None => self.next_sequence().max(after_expected),
        };
        let sequence_max = self.access.gate.sequence_max(self.access.clock.wall_ms());
        loop {
            let ahead = if put.owner.is_some() || attempts_left > 0 { Ahead::Heeded } else { Ahead::Ignored };
            match self.claim(put.clone(), sequence, expected, ahead).await {
                Err(Refusal::Stale { held_sequence })
                    if attempts_left > 0 && held_sequence < sequence_max =>
                {
                    sequence = self.next_sequence().max(held_sequence + 1);
                    attempts_left -= 1;
                }
                result => return result,
            }
        }
    }

    async fn claim(
        &self,
        put: Put,
        sequence: u64,
        expected: Option<Version>,
        ahead: Ahead,
    ) -> Result<Claimed, Refusal> {
        let hash = content_hash(put.code.as_ref().map(|code| &code.hash), &put.data);
        let (version, ticket) = (Version { sequence, hash }, self.next_sequence());
        let object = object_of(put, sequence, &self.replication);
        let (key, copies) = (object.key, usize::from(object.replicas.max(1)));
        let claim = Request::Claim { object: object.clone(), expected, ticket };
        let conversation = self.converse(claim, &purse_of(Plan::Nothing))?;
        let mut places = self.places(&key, copies, Asking::Always).await?;
        places.nodes.truncate(copies);
        let expectation = expected.map_or(Expected::Absent, Expected::Version);
        let now = self.access.clock.now();
        let claim = self.write_to(&places, object.replicas);
        let claim = match self.rivals.borrow().are_believed(&key, expectation, now) {
            true => claim.among_rivals(expectation),
            false => claim,
        };
        let (decided, decision) = oneshot::channel();
        let access = Rc::clone(&self.access);
        actix::spawn(async move {
            let mut given_back = None;
            let decide = |outcome: WriteOutcome<()>| {
                let granted: Vec<_> = outcome.stored.iter().map(|(node, ())| *node).collect();
                let refusal = refused(outcome, version, ahead);
                if refusal.is_some() {
                    access.unclaim(key, ticket, &granted);
                    given_back = Some(granted);
                }
                decided.send(refusal).ok();
            };
            let noted = |reply| matches!(reply, Reply::Noted).then_some(());
            let granted = conversation.write(claim, noted, decide).await;
            if let Some(given_back) = given_back {
                let late = granted.iter().map(|(node, ())| node);
                access.unclaim(key, ticket, late.filter(|node| !given_back.contains(node)));
            }
        });
        match decision.await {
            Ok(None) => {
                self.rivals.borrow_mut().passed(&key);
                Ok(Claimed { object, version, expected, ticket, places })
            }
            Ok(Some(refusal)) => {
                if matches!(refusal, Refusal::Conflict { held } if expectation.is_met_by(held)) {
                    self.rivals.borrow_mut().met(key, expectation, now);
                }
                Err(refusal)
            }
            Err(_) => Err(Refusal::Stopping("the node".into())),
        }
    }

    async fn put_claimed(
        self,
        claimed: Claimed,
        is_plain: bool,
        reply: oneshot::Sender<Result<PutReport, Refusal>>,
    ) {
        let Claimed { object, version, expected, ticket, places } = claimed;
        let (key, replicas) = (object.key, object.replicas);
        let ttl = Duration::from_secs(self.access.gate.granted_seconds(object.ttl_seconds));
        let request = Request::PutIf { object, expected, ticket, trail: Trail::SPENT.into() };
        let purse = purse_of(Plan::Equal(replicas.max(1).into()));
        let conversation = match self.converse(request, &purse) {
            Ok(conversation) => conversation,
            Err(refusal) => return drop(reply.send(Err(refusal))),
        };
        let asked = places.nodes.len();
        let mut is_refused = false;
        let report = |outcome: WriteOutcome<_>| {
            is_refused = outcome.result.is_err();
            drop(reply.send(settled(outcome, asked).report(version, ttl)));
        };
        let write = self.write_to(&places, replicas);
        let kept = conversation.write(write, |reply| stored(&reply), report).await;
        if is_refused {
            self.access.unclaim(key, ticket, &places.nodes);
        }
        if is_plain {
            let kept: Vec<_> = kept.into_iter().map(|(node, (version, _))| (node, version)).collect();
            self.withdraw(key, version, &kept);
        }
    }

    /// A write to these nodes that most of them have to take.
    fn write_to<T: Clone>(&self, places: &Places, replicas: u8) -> Write<T> {
        let (nodes, quorum) = (places.nodes.clone(), self.replication.write_quorum);
        Write::new(nodes, places.missed, replicas, quorum, self.period).doubting(&places.late).by_majority()
    }
}

impl Access {
    /// Lets nodes wait no more for a put.
    fn unclaim<'a>(&self, key: Key, ticket: u64, nodes: impl IntoIterator<Item = &'a Contact>) {
        let frame: Bytes = Request::Unclaim { key, ticket }.encode();
        for node in nodes {
            if node.id == self.own.id {
                let caller = Caller { node: self.own, callback: None, owner: None, origin: Origin::Client };
                let (replica, visit) = (self.replica.clone(), Visit::Unclaim { caller, ticket });
                actix::spawn(async move { replica.serve(key, visit).await.ok() });
            } else {
                self.tell(*node, frame.clone());
            }
        }
    }
}

/// Why a claim of this version leads to no put; nothing is stored then.
fn refused(outcome: WriteOutcome<()>, version: Version, ahead: Ahead) -> Option<Refusal> {
    let WriteOutcome { result, failed, wanted, quorum, .. } = outcome;
    let refusals = || failed.iter().map(|(_, refusal)| refusal);
    let Err(refusal) = result else {
        let highest = refusals().filter_map(held_by).filter(|held| *held >= version).max();
        let highest = highest.filter(|_| ahead == Ahead::Heeded)?;
        return Some(Refusal::Stale { held_sequence: highest.sequence });
    };
    let conflict = refusals().filter(|refusal| matches!(refusal, Refusal::Conflict { .. })).max_by_key(held);
    match (refusal, conflict) {
        (Refusal::NoQuorum { .. }, Some(conflict)) => Some(conflict.clone()),
        (Refusal::NoQuorum { reason, .. }, None) => {
            Some(Refusal::NoQuorum { stored: 0, wanted, quorum, reason })
        }
        (refusal, _) => Some(refusal),
    }
}

fn held(refusal: &&Refusal) -> Option<Version> {
    held_by(refusal)
}

fn held_by(refusal: &Refusal) -> Option<Version> {
    if let Refusal::Conflict { held } = refusal { *held } else { None }
}

/// The outcome of a put that was claimed: if it failed, whether it is certain that nobody has stored it.
fn settled<T>(outcome: WriteOutcome<T>, asked: usize) -> WriteOutcome<T> {
    let is_conflict = |refusal: &Refusal| matches!(refusal, Refusal::Conflict { .. });
    let is_silent = |refusal: &Refusal| matches!(refusal, Refusal::Timeout { .. } | Refusal::Unreachable(_));
    let conflict = outcome.failed.iter().map(|(_, refusal)| refusal).find(|refusal| is_conflict(refusal));
    let all_heard = outcome.stored.len() + outcome.failed.len() >= asked
        && !outcome.failed.iter().any(|(_, refusal)| is_silent(refusal));
    let (stored, wanted, quorum) = (count(outcome.stored.len()), outcome.wanted, outcome.quorum);
    let result = match (outcome.result, conflict) {
        (Ok(()), _) => Ok(()),
        (Err(Refusal::NoQuorum { .. } | Refusal::Conflict { .. }), Some(conflict))
            if stored == 0 && all_heard =>
        {
            Err(conflict.clone())
        }
        (Err(refusal @ (Refusal::NoQuorum { .. } | Refusal::Conflict { .. })), _) => {
            let why = match refusal {
                Refusal::NoQuorum { reason, .. } => reason,
                conflict => conflict.to_string(),
            };
            let reason = format!("whether the put takes place is undecided, read the object to see ({why})");
            Err(Refusal::NoQuorum { stored, wanted, quorum, reason })
        }
        (Err(refusal), _) => Err(refusal),
    };
    WriteOutcome { result, ..outcome }
}

fn count(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use comet_routing::NodeId;

    use super::*;

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    fn node(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), ([127, 0, 0, 1], 7400 + u16::from(n)).into())
    }

    fn conflict(held: u64) -> Refusal {
        Refusal::Conflict { held: Some(version(held)) }
    }

    fn no_quorum(stored: u8, reason: &str) -> Refusal {
        Refusal::NoQuorum { stored, wanted: 8, quorum: 5, reason: reason.into() }
    }

    /// Stored by so many of eight, while these refused.
    fn outcome(result: Result<(), Refusal>, stored: u8, failed: &[Refusal]) -> WriteOutcome<()> {
        let stored = (0..stored).map(|n| (node(n), ())).collect();
        let failed = failed.iter().map(|refusal| (node(9), refusal.clone())).collect();
        WriteOutcome { result, stored, failed, wanted: 8, quorum: 5 }
    }

    #[test]
    fn a_claim_without_a_majority_stores_nothing_and_tells_what_is_held() {
        let refused =
            |result, failed: &[Refusal]| refused(outcome(result, 4, failed), version(7), Ahead::Heeded);
        let few = || Err(no_quorum(4, "conflict"));
        assert_eq!(refused(few(), &[conflict(3), conflict(5), Refusal::NotFound]), Some(conflict(5)));
        let late = Refusal::Timeout { deadline_ms: 9 };
        assert_eq!(refused(few(), &[late]), Some(no_quorum(0, "conflict")), "nothing is stored");
        assert_eq!(refused(Err(conflict(3)), &[conflict(3)]), Some(conflict(3)));
    }

    #[test]
    fn a_claim_that_a_few_replicas_are_ahead_of_is_made_again_after_them() {
        let told = |failed: &[Refusal], ahead| super::refused(outcome(Ok(()), 5, failed), version(7), ahead);
        let refused = |failed: &[Refusal]| told(failed, Ahead::Heeded);
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&[conflict(6), Refusal::Conflict { held: None }]), None, "those will follow");
        assert_eq!(refused(&[conflict(6), conflict(8)]), Some(Refusal::Stale { held_sequence: 8 }));
        assert_eq!(refused(&[conflict(7)]), Some(Refusal::Stale { held_sequence: 7 }));
        assert_eq!(told(&[conflict(8)], Ahead::Ignored), None, "one that is always ahead stops nobody");
    }

    #[test]
    fn a_put_that_failed_is_a_conflict_if_nobody_stored_it_and_else_undecided() {
        let settled = |stored, failed: &[Refusal]| {
            let asked = usize::from(stored) + failed.len();
            let refusal = Err(no_quorum(stored, "too few"));
            settled(outcome(refusal, stored, failed), asked).result
        };
        assert_eq!(settled(0, &[conflict(3), Refusal::Unsupported]), Err(conflict(3)));
        for (stored, failed) in [(1, conflict(3)), (0, Refusal::Timeout { deadline_ms: 9 })] {
            let result = settled(stored, &[conflict(3), failed]);
            let Err(Refusal::NoQuorum { stored: told, reason, .. }) = result else { panic!("{result:?}") };
            assert!(told == stored && reason.contains("undecided"), "{reason}");
        }
    }
}
