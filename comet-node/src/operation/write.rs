//! Storing something on the nodes closest to its key.
//!
//! A [`Write`] asks as many nodes at once as copies are wanted, and the next one whenever a node fails or is
//! suspect. Nodes of which it is [doubtful](Write::doubting) that they are there are asked besides, so that
//! nobody has to wait for them and they hear of it if they are. It is [done](WriteStep::Done) as soon as a quorum
//! has stored it, and may then be driven on until it is [over](WriteStep::Over), so that the rest is stored as
//! well.
//!
//! *How many copies.* No more than there are nodes: of `wanted` 8 in a swarm of 3 nodes become 3. Nodes that were
//! there a short while ago count as well, so that a node that is cut off from its swarm does not take itself for
//! one. The quorum is a majority of that number. A configured quorum is never more than what the put asks for, but it is not
//! lowered for want of nodes: who insists on three copies is refused while there are only two nodes.

use std::time::{Duration, Instant};

use comet_routing::Contact;
use comet_runtime::{
    Refusal,
    dht::{Expected, PutReport, Usage},
};
use comet_store::Version;

use super::{
    Period,
    roster::{Roster, Standing, Tally, commonest, is_verdict},
};

/// What a [`Write`] wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteStep<T> {
    /// Ask this node to store it, then poll again.
    Ask(Contact),
    /// Nothing to do before `until` unless something is reported.
    Wait {
        /// When to poll again at the latest.
        until: Instant,
    },
    /// It is decided, once. What is still under way may be left to run; polling goes on until it is over.
    Done(WriteOutcome<T>),
    /// Nothing is under way any more.
    Over,
}

/// What a write achieved when it was decided.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteOutcome<T> {
    /// Whether a quorum stored it; else why not.
    pub result: Result<(), Refusal>,
    /// Who stored it so far, nearest first, and what they said.
    pub stored: Vec<(Contact, T)>,
    /// Who refused or failed so far, nearest first.
    pub failed: Vec<(Contact, Refusal)>,
    /// Copies wanted: no more than there are nodes.
    pub wanted: u8,
    /// Copies that were needed.
    pub quorum: u8,
}

impl WriteOutcome<(Version, Usage)> {
    /// What whoever put `version` hears; an object that handles puts itself may have kept another, and says so.
    pub fn report(self, version: Version, ttl: Duration) -> Result<PutReport, Refusal> {
        let Self { result, stored, failed, wanted, quorum } = self;
        result?;
        let version = stored.first().map_or(version, |(_, (version, _))| *version);
        let stored = stored.into_iter().map(|(node, (_, usage))| (node, usage)).collect();
        Ok(PutReport { version, stored, failed, wanted, quorum, ttl })
    }
}

/// A write to the nodes closest to a key. `T` is what a node says when it has stored it.
#[derive(Clone, Debug)]
pub struct Write<T> {
    roster: Roster<T>,
    /// Nodes that are missed.
    missed: usize,
    wanted: usize,
    quorum: usize,
    period: Period,
    phase: Phase,
    /// What is expected to be held by a write that has rivals.
    rivalled: Option<Expected>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Undecided,
    Succeeded,
    Failed,
}

impl<T: Clone> Write<T> {
    /// A write of `wanted` copies (at least one) to the first of `candidates`, which come nearest first; besides
    /// them so many nodes are `missed`.
    ///
    /// `quorum` is the configured one, `None` for a majority.
    pub fn new(
        candidates: impl IntoIterator<Item = Contact>,
        missed: usize,
        wanted: u8,
        quorum: Option<u8>,
        period: Period,
    ) -> Self {
        let roster = Roster::new(candidates);
        let asked_for = usize::from(wanted.max(1));
        let wanted = asked_for.min(roster.len().saturating_add(missed));
        let quorum = quorum.map_or(wanted / 2 + 1, |quorum| usize::from(quorum).clamp(1, asked_for));
        Self { roster, missed, wanted, quorum, period, phase: Phase::Undecided, rivalled: None }
    }

    /// These nodes may be gone: their answers count, and nobody waits for them.
    pub fn doubting(mut self, nodes: &[Contact]) -> Self {
        nodes.iter().for_each(|node| self.roster.doubt(&node.id));
        self
    }

    /// More than half of the copies are needed, even if the configured quorum is less.
    pub fn by_majority(mut self) -> Self {
        self.quorum = self.quorum.max(self.wanted / 2 + 1);
        self
    }

    /// Others may be writing under the same expectation. The nearest node is asked before all others, so that those
    /// who race meet there: the one that it lets pass finds the rest free, and the others stop at once.
    pub fn among_rivals(mut self, expected: Expected) -> Self {
        self.rivalled = Some(expected);
        self
    }

    /// This node has stored it.
    pub fn on_stored(&mut self, by: &Contact, said: T) {
        self.roster.settle(&by.id, Standing::Answered(said));
    }

    /// This node is there and says no.
    pub fn on_refused(&mut self, by: &Contact, refusal: Refusal) {
        self.roster.settle(&by.id, Standing::Refused(refusal));
    }

    /// This node will not answer.
    pub fn on_failed(&mut self, by: &Contact, refusal: Refusal) {
        self.roster.settle(&by.id, Standing::Failed(refusal));
    }

    /// This node did not acknowledge the request in time; a late answer still counts.
    pub fn on_suspect(&mut self, node: &Contact, now: Instant) {
        self.roster.suspect(&node.id, now);
    }

    /// Who has stored it so far, nearest first, and what they said.
    pub fn stored(&self) -> Vec<(Contact, T)> {
        self.roster.answers()
    }

    /// What to do next.
    pub fn poll(&mut self, now: Instant) -> WriteStep<T> {
        let tally = self.roster.tally();
        let late = now >= self.period.deadline;
        if self.phase == Phase::Undecided {
            if tally.answered >= self.quorum {
                return self.decide(Phase::Succeeded, Ok(()), None);
            }
            if late || self.attainable(&tally) < self.quorum || self.is_beaten(&tally) {
                let timeout = late.then(|| self.period.timeout());
                let failure = self.failure(&tally, timeout.as_ref());
                return self.decide(Phase::Failed, Err(failure), timeout.as_ref());
            }
        }
        if self.phase != Phase::Failed && !late {
            let places = if self.waits_for_first(&tally) { 0 } else { self.places_free(&tally) };
            if places > 0
                && let Some(next) = self.roster.ask_next()
            {
                return WriteStep::Ask(next);
            }
            if let Some(next) = self.roster.ask_doubtful(places, now) {
                return WriteStep::Ask(next);
            }
        }
        let finished = late || (tally.asked == 0 && tally.suspect == 0);
        if finished && self.phase != Phase::Undecided {
            return WriteStep::Over;
        }
        WriteStep::Wait { until: self.period.deadline }
    }

    /// Copies that are neither stored nor expected. A node with a verdict keeps its place: where the object
    /// says no, nobody farther away is to be persuaded.
    fn places_free(&self, tally: &Tally) -> usize {
        self.wanted.saturating_sub(tally.answered + tally.verdicts + tally.asked)
    }

    /// True while a write that has rivals waits for the first node that says something.
    fn waits_for_first(&self, tally: &Tally) -> bool {
        self.rivalled.is_some() && tally.asked > 0 && tally.heard() == 0
    }

    /// True if nobody has let this write pass, and somebody a rival.
    fn is_beaten(&self, tally: &Tally) -> bool {
        let is_rival = |refusal: &Refusal| match (refusal, self.rivalled) {
            (Refusal::Conflict { held }, Some(expected)) => expected.is_met_by(*held),
            _ => false,
        };
        tally.answered == 0 && self.roster.refusals(is_rival).next().is_some()
    }

    /// Copies that there may be in the end.
    fn attainable(&self, tally: &Tally) -> usize {
        tally.answered
            + tally.asked
            + tally.suspect
            + self.places_free(tally).min(tally.unasked + tally.doubtful)
    }

    fn decide(&mut self, phase: Phase, result: Result<(), Refusal>, late: Option<&Refusal>) -> WriteStep<T> {
        self.phase = phase;
        WriteStep::Done(WriteOutcome {
            result,
            stored: self.roster.answers(),
            failed: self.roster.failures(late),
            wanted: count(self.wanted),
            quorum: count(self.quorum),
        })
    }

    /// The verdict that most of those who answered gave; else that there is no quorum.
    fn failure(&self, tally: &Tally, late: Option<&Refusal>) -> Refusal {
        if let Some((verdict, times)) = commonest(self.roster.refusals(is_verdict))
            && times * 2 > tally.heard()
        {
            return verdict.clone();
        }
        let reasons: Vec<_> = self.roster.failures(late).into_iter().map(|(_, refusal)| refusal).collect();
        let reason = match commonest(reasons.iter()) {
            Some((refusal, _)) => refusal.to_string(),
            None if self.missed > 0 => {
                let (there, gone) = (self.roster.len(), self.missed);
                format!("of the nodes for it {there} answer and {gone} stopped answering a short while ago")
            }
            None => format!("the swarm has {} nodes for it", self.roster.len()),
        };
        Refusal::NoQuorum {
            stored: count(tally.answered),
            wanted: count(self.wanted),
            quorum: count(self.quorum),
            reason,
        }
    }
}

fn count(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
