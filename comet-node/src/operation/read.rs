//! Hearing the replicas closest to a key.
//!
//! A [`Read`] has one of three [`Rule`]s. Under each it asks no more nodes at once than it needs answers, and
//! the next one as soon as a node fails, is suspect, or does not hold the object. That an object does not
//! exist is concluded only when as many of the closest *live* nodes as could hold it have said so. A suspect
//! is waited for when nobody else could still answer, but not longer than [`PATIENCE`].

use std::time::{Duration, Instant};

use comet_routing::{Contact, rtt};
use comet_runtime::Refusal;

use super::{
    Period,
    roster::{Roster, Standing, Tally, is_verdict},
};

/// How long a suspect is waited for after it became one: a second, the longest timeout of any peer.
const PATIENCE: Duration = rtt::TIMEOUT_MAX;

/// Whose answers a [`Read`] wants.
#[derive(Clone, Copy, Debug)]
pub enum Rule<T> {
    /// One answer, the nearest replica's if it comes in time.
    First,
    /// Everybody's.
    All,
    /// So many equal ones.
    Quorum {
        /// How many.
        n: u8,
        /// Whether two answers are equal.
        same: fn(&T, &T) -> bool,
    },
}

/// What a [`Read`] wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadStep<T> {
    /// Ask this node, then poll again.
    Ask(Contact),
    /// Nothing to do before `until` unless something is reported.
    Wait {
        /// When to poll again at the latest.
        until: Instant,
    },
    /// Finished.
    Done(ReadOutcome<T>),
}

/// What a read brought back.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOutcome<T> {
    /// At least one answer, nearest first; else why there is none.
    pub result: Result<Vec<(Contact, T)>, Refusal>,
    /// Who refused or failed, nearest first; not those who merely do not hold the object.
    pub failed: Vec<(Contact, Refusal)>,
}

/// A read from the nodes closest to a key. `T` is what a replica answers.
#[derive(Clone, Debug)]
pub struct Read<T> {
    roster: Roster<T>,
    rule: Rule<T>,
    /// Live nodes to be heard before the search ends.
    reach: usize,
    period: Period,
}

impl<T: Clone> Read<T> {
    /// A read that hears up to `reach` live nodes of `candidates`, which come nearest first.
    pub fn new(
        candidates: impl IntoIterator<Item = Contact>,
        rule: Rule<T>,
        reach: usize,
        period: Period,
    ) -> Self {
        Self { roster: Roster::new(candidates), rule, reach, period }
    }

    /// This replica answered.
    pub fn on_answer(&mut self, by: &Contact, answer: T) {
        self.roster.settle(&by.id, Standing::Answered(answer));
    }

    /// This node is there and says no, perhaps because it does not hold the object.
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

    /// What to do next.
    pub fn poll(&mut self, now: Instant) -> ReadStep<T> {
        let tally = self.roster.tally();
        if self.is_satisfied(&tally) || now >= self.period.deadline {
            return ReadStep::Done(self.conclude(&tally, now));
        }
        let in_reach = tally.heard() + tally.asked < self.reach;
        if in_reach
            && self.expected(&tally) < self.needed()
            && let Some(next) = self.roster.ask_next()
        {
            return ReadStep::Ask(next);
        }
        if tally.asked > 0 {
            return ReadStep::Wait { until: self.period.deadline };
        }
        match self.patient_until(&tally, now) {
            Some(until) => ReadStep::Wait { until: until.min(self.period.deadline) },
            None => ReadStep::Done(self.conclude(&tally, now)),
        }
    }

    /// Answers that end the read.
    fn needed(&self) -> usize {
        match self.rule {
            Rule::First => 1,
            Rule::All => usize::MAX,
            Rule::Quorum { n, .. } => usize::from(n.max(1)),
        }
    }

    /// Answers towards [`Self::needed`] that there are, or are to come from nodes that are not suspect.
    fn expected(&self, tally: &Tally) -> usize {
        match self.rule {
            Rule::Quorum { same, .. } => self.agreeing(same).len() + tally.asked,
            Rule::First | Rule::All => tally.answered + tally.asked,
        }
    }

    fn is_satisfied(&self, tally: &Tally) -> bool {
        match self.rule {
            Rule::First => tally.answered > 0 || tally.verdicts > 0,
            Rule::All => false,
            Rule::Quorum { same, .. } => self.agreeing(same).len() >= self.needed(),
        }
    }

    /// The largest group of equal answers; of groups of one size, the one with the nearest replica.
    fn agreeing(&self, same: fn(&T, &T) -> bool) -> Vec<&T> {
        let mut groups = Vec::<Vec<&T>>::new();
        for answer in self.iter_answers() {
            match groups.iter_mut().find(|group| same(group[0], answer)) {
                Some(group) => group.push(answer),
                None => groups.push(vec![answer]),
            }
        }
        groups.into_iter().rev().max_by_key(Vec::len).unwrap_or_default()
    }

    fn iter_answers(&self) -> impl Iterator<Item = &T> {
        self.roster.iter().filter_map(|(_, standing)| match standing {
            Standing::Answered(answer) => Some(answer),
            _ => None,
        })
    }

    /// Until when the suspects are worth waiting for, `None` if they are not.
    fn patient_until(&self, tally: &Tally, now: Instant) -> Option<Instant> {
        // Enough live nodes have been heard to do without those that seem dead.
        if tally.heard() >= self.reach {
            return None;
        }
        let ends = self.roster.iter().filter_map(|(_, standing)| match standing {
            Standing::Suspect { since } => Some(*since + PATIENCE),
            _ => None,
        });
        ends.filter(|end| *end > now).max()
    }

    fn conclude(&self, tally: &Tally, now: Instant) -> ReadOutcome<T> {
        let late = now >= self.period.deadline;
        let unheard = if late { self.period.timeout() } else { silent() };
        let mut failed = match self.rule {
            Rule::First => self.roster.failures(late.then_some(&unheard)),
            Rule::All | Rule::Quorum { .. } => self.roster.failures(Some(&unheard)),
        };
        failed.retain(|(_, refusal)| *refusal != Refusal::NotFound);
        let result = match self.rule {
            Rule::First => self.roster.answers().into_iter().next().map(|first| vec![first]),
            Rule::All => Some(self.roster.answers()).filter(|answers| !answers.is_empty()),
            Rule::Quorum { same, .. } => {
                Some(self.roster.answers()).filter(|_| self.agreeing(same).len() >= self.needed())
            }
        };
        ReadOutcome { result: result.ok_or_else(|| self.failure(tally, late)), failed }
    }

    fn failure(&self, tally: &Tally, late: bool) -> Refusal {
        if tally.answered > 0 {
            return self.disagreement(tally);
        }
        let verdict = self.roster.refusals(is_verdict).next();
        let refusal =
            verdict.or_else(|| self.roster.refusals(|refusal| *refusal != Refusal::NotFound).next());
        match refusal {
            Some(refusal) => refusal.clone(),
            None if late && (tally.asked > 0 || tally.absent == 0) => self.period.timeout(),
            None if tally.absent > 0 => Refusal::NotFound,
            None if self.roster.len() == 0 => Refusal::Unreachable("no node to ask is known".into()),
            None => Refusal::Unreachable(format!(
                "none of the {} nodes closest to the key answered",
                self.roster.len()
            )),
        }
    }

    fn disagreement(&self, tally: &Tally) -> Refusal {
        let most = match self.rule {
            Rule::Quorum { same, .. } => self.agreeing(same).len(),
            Rule::First | Rule::All => tally.answered,
        };
        let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        let asked = self.roster.len() - tally.unasked;
        let reason = format!(
            "{} answered and at most {most} of them agree, {} do not hold it, {} refused or failed",
            tally.answered,
            tally.absent,
            asked - tally.answered - tally.absent
        );
        Refusal::NoQuorum { stored: count(most), wanted: count(asked), quorum: count(self.needed()), reason }
    }
}

/// What is said of a node that was given up before the deadline.
fn silent() -> Refusal {
    Refusal::Unreachable("the node did not acknowledge the request".into())
}

#[cfg(test)]
mod tests;
