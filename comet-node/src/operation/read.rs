//! Hearing the replicas closest to a key.
//!
//! A [`Read`] has one of three [`Rule`]s. Under each it asks no more nodes at once than it needs answers, and
//! the next one as soon as a node fails, is suspect, or does not hold the object. That an object does not
//! exist is concluded only when as many of the closest *live* nodes as could hold it have said so, and that it
//! refuses only when several of its replicas have; an answer is better than any number of them. A suspect
//! is waited for when nobody else could still answer, but not longer than [`PATIENCE`].
//!
//! A read may begin before anybody has searched for the nodes closest to the key: with those that are
//! [known](Read::unsearched) to be close. It asks for the search as soon as one of them is no help, and does not conclude that
//! there is no such object before that has ended. Nodes that may not be the closest can neither hold it up nor have it end with a
//! definite no: then a second slow one and any such no are no help, too.

use std::time::{Duration, Instant};

use comet_routing::{Contact, rtt};
use comet_runtime::Refusal;

use super::{
    Period,
    roster::{Roster, Standing, Tally, commonest, is_verdict},
};

/// How long a suspect is waited for after it became one: a second, the longest timeout of any peer.
const PATIENCE: Duration = rtt::TIMEOUT_MAX;

/// How many nodes a [hasty](Read::hasty) read of one answer asks at once at most. When the nearest nodes do not
/// hold an object, it probably does not exist, and hearing that from all of them one by one takes long.
const BREADTH_MAX: usize = 4;

/// How many replicas have to give the same [definite no](Read::on_refused) before a read of one answer believes it: a
/// single one that lies shall not end a get.
const AGREEMENT: usize = 2;

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
    /// Begin to search for the nodes closest to the key, then poll again: see [`Read::on_found`].
    Search {
        /// How many live nodes have to be heard.
        count: usize,
    },
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
    /// All answers, nearest first, those included that did not agree enough to be a result.
    pub heard: Vec<(Contact, T)>,
    /// Who refused or failed, nearest first; not those who merely do not hold the object.
    pub failed: Vec<(Contact, Refusal)>,
    /// Who is there and does not hold the object, nearest first.
    pub absent: Vec<Contact>,
}

/// A read from the nodes closest to a key. `T` is what a replica answers.
#[derive(Clone, Debug)]
pub struct Read<T> {
    roster: Roster<T>,
    rule: Rule<T>,
    /// Live nodes to be heard before the search ends.
    reach: usize,
    period: Period,
    search: Search,
    /// False while the candidates are those that are probably the nearest.
    are_nearest: bool,
    hasty: bool,
    /// Replicas that have to agree on a definite no.
    agreement: usize,
}

/// How far the search for the nodes closest to the key has come.
#[derive(Clone, Debug, PartialEq)]
enum Search {
    /// The nodes that are known may do.
    Unneeded,
    Running,
    Ended,
    Failed(Refusal),
}

impl<T: Clone> Read<T> {
    /// A read that hears up to `reach` live nodes of `candidates`, which come nearest first.
    pub fn new(
        candidates: impl IntoIterator<Item = Contact>,
        rule: Rule<T>,
        reach: usize,
        period: Period,
    ) -> Self {
        let roster = Roster::new(candidates);
        Self {
            roster,
            rule,
            reach,
            period,
            search: Search::Ended,
            are_nearest: true,
            hasty: false,
            agreement: AGREEMENT,
        }
    }

    /// Its candidates are only those that happen to be known: it searches for others if they are no help. Whether
    /// they are certainly the nearest says `are_nearest`.
    pub fn unsearched(self, are_nearest: bool) -> Self {
        Self { search: Search::Unneeded, are_nearest, ..self }
    }

    /// It would rather hear two replicas than wait for a slow one, and asks several nodes at once after some
    /// that do not hold the object. So a handler may run on more than one replica.
    pub fn hasty(self) -> Self {
        Self { hasty: true, ..self }
    }

    /// Its key is an owner's: a value can be checked, a definite no cannot. So more than half of the replicas have to
    /// agree on one, where there are so many.
    pub fn wary(self) -> Self {
        Self { agreement: (self.reach / 2 + 1).max(AGREEMENT), ..self }
    }

    /// This replica was asked before, and refused.
    pub fn after(mut self, by: Contact, refusal: Refusal) -> Self {
        self.roster.begin_with(by, Standing::Refused(refusal));
        self
    }

    /// The search found these live nodes, nearest first.
    pub fn on_found(&mut self, nodes: impl IntoIterator<Item = Contact>) {
        self.roster.settle_on(nodes);
        (self.search, self.are_nearest) = (Search::Ended, true);
    }

    /// The search could not be made.
    pub fn on_search_failed(&mut self, refusal: Refusal) {
        // There is nobody better to ask.
        (self.search, self.are_nearest) = (Search::Failed(refusal), true);
    }

    /// This replica answered.
    pub fn on_answer(&mut self, by: &Contact, answer: T) {
        self.roster.settle(&by.id, Standing::Answered(answer));
    }

    /// This node is there and says no: it does not hold the object, cannot say at the moment, or gives a definite no
    /// that another replica would give as well. Of those a read of one answer wants several that agree.
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

    /// This node has the request, but takes longer to answer than the network does.
    pub fn on_slow(&mut self, node: &Contact) {
        if self.hasty {
            self.roster.slow(&node.id);
        }
    }

    /// What to do next.
    pub fn poll(&mut self, now: Instant) -> ReadStep<T> {
        let tally = self.roster.tally();
        if self.is_satisfied(&tally) || now >= self.period.deadline {
            return ReadStep::Done(self.conclude(&tally, now));
        }
        let mut helpless = tally.suspect + tally.absent + tally.refused + tally.failed;
        if !self.are_nearest {
            helpless += tally.verdicts + tally.slow.saturating_sub(1);
        }
        let unsupported = tally.verdicts > 0 && tally.unasked + tally.asked + tally.slow == 0;
        if self.search == Search::Unneeded && (helpless > 0 || unsupported || self.roster.len() == 0) {
            self.search = Search::Running;
            return ReadStep::Search { count: self.reach };
        }
        let in_reach = tally.heard() + tally.asked + tally.slow < self.reach;
        if in_reach
            && self.expected(&tally) < self.needed() + self.breadth(&tally)
            && let Some(next) = self.roster.ask_next()
        {
            return ReadStep::Ask(next);
        }
        if tally.asked + tally.slow > 0 || self.search == Search::Running {
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
        // One slow node is done without; if the next is slow as well, it is the object that is slow.
        let awaited = tally.asked + tally.slow.saturating_sub(1);
        match self.rule {
            Rule::Quorum { same, .. } => self.agreeing(same).len() + awaited,
            Rule::First | Rule::All => tally.answered + awaited,
        }
    }

    /// Nodes to be asked at once besides those that are needed.
    fn breadth(&self, tally: &Tally) -> usize {
        match self.rule {
            // Either they agree with what was said, or one of them has the answer.
            Rule::First if tally.verdicts > 0 => self.agreement.saturating_sub(self.noes().1 + 1),
            Rule::First if self.hasty => tally.absent.min(BREADTH_MAX - 1),
            Rule::First | Rule::All | Rule::Quorum { .. } => 0,
        }
    }

    fn is_satisfied(&self, tally: &Tally) -> bool {
        match self.rule {
            Rule::First => tally.answered > 0 || (self.are_nearest && self.noes().1 >= self.agreement),
            Rule::All => false,
            Rule::Quorum { same, .. } => self.agreeing(same).len() >= self.needed(),
        }
    }

    /// The commonest definite no, and how many gave it.
    fn noes(&self) -> (Option<&Refusal>, usize) {
        commonest(self.roster.refusals(is_verdict)).map_or((None, 0), |(no, count)| (Some(no), count))
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
        let (heard, absent) = (self.roster.answers(), self.roster.absent());
        let result = match self.rule {
            Rule::First => heard.first().map(|first| vec![first.clone()]),
            Rule::All => Some(heard.clone()).filter(|answers| !answers.is_empty()),
            Rule::Quorum { same, .. } => (self.agreeing(same).len() >= self.needed()).then(|| heard.clone()),
        };
        ReadOutcome { result: result.ok_or_else(|| self.failure(tally, late)), heard, failed, absent }
    }

    fn failure(&self, tally: &Tally, late: bool) -> Refusal {
        if tally.answered > 0 {
            return self.disagreement(tally);
        }
        let (verdict, _) = self.noes();
        let search = if let Search::Failed(refusal) = &self.search { Some(refusal) } else { None };
        let refusal = verdict
            .or(search)
            .or_else(|| self.roster.refusals(|refusal| *refusal != Refusal::NotFound).next());
        let unheard = tally.asked + tally.slow > 0 || self.search == Search::Running || tally.absent == 0;
        let mut failures = self.roster.failures(None).into_iter().map(|(_, why)| why);
        let disbelieved = failures.find(|why| matches!(why, Refusal::Corrupt(_)));
        match refusal {
            Some(refusal) => refusal.clone(),
            None if late && unheard => self.period.timeout(),
            None if tally.absent > 0 => Refusal::NotFound,
            None if self.roster.len() == 0 => Refusal::Unreachable("no node to ask is known".into()),
            None => disbelieved.unwrap_or_else(|| {
                let asked = self.roster.len();
                Refusal::Unreachable(format!("none of the {asked} nodes closest to the key answered"))
            }),
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
