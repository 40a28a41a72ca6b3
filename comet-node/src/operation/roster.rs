//! The nodes that an operation may ask, nearest first, and how it stands with each.

use std::{collections::BTreeMap, time::Instant};

use comet_routing::{Contact, NodeId};
use comet_runtime::Refusal;

/// Nodes that one operation asks at most: Kademlia's k.
pub const CANDIDATES_MAX: usize = 20;

/// How an operation stands with one node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing<T> {
    Unasked,
    /// Not asked, and it did not answer somebody else's question in time.
    Doubtful,
    /// Its answer is awaited.
    Asked,
    /// It has the request and takes its time.
    Slow,
    /// Its request was not acknowledged in time; an answer still counts.
    Suspect {
        since: Instant,
    },
    Answered(T),
    /// It is there and said no.
    Refused(Refusal),
    /// It will not answer.
    Failed(Refusal),
}

/// The candidates of one operation.
#[derive(Clone, Debug)]
pub(super) struct Roster<T> {
    candidates: Vec<(Contact, Standing<T>)>,
    /// How many of them, the first ones, are the nodes where the object belongs. The others were asked before that
    /// was known: what they have counts, that they lack it does not.
    belonging: usize,
}

/// How many candidates stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) unasked: usize,
    pub(super) doubtful: usize,
    pub(super) asked: usize,
    pub(super) slow: usize,
    pub(super) suspect: usize,
    pub(super) answered: usize,
    /// Refusals that another node would give as well: see [`is_verdict`].
    pub(super) verdicts: usize,
    /// Nodes that do not hold the object.
    pub(super) absent: usize,
    /// All other refusals.
    pub(super) refused: usize,
    pub(super) failed: usize,
}

impl Tally {
    /// Nodes that are alive: they said something.
    pub(super) fn heard(&self) -> usize {
        self.answered + self.verdicts + self.absent + self.refused
    }
}

impl<T> Roster<T> {
    /// Takes the first [`CANDIDATES_MAX`] different nodes.
    pub(super) fn new(candidates: impl IntoIterator<Item = Contact>) -> Self {
        let mut roster = Vec::<(Contact, Standing<T>)>::new();
        for contact in candidates {
            let known = roster.iter().any(|(known, _)| known.id == contact.id);
            if !known && roster.len() < CANDIDATES_MAX {
                roster.push((contact, Standing::Unasked));
            }
        }
        Self { belonging: roster.len(), candidates: roster }
    }

    pub(super) fn len(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(Contact, Standing<T>)> {
        self.candidates.iter()
    }

    /// The nearest node that was not asked; from now on it is.
    pub(super) fn ask_next(&mut self) -> Option<Contact> {
        let unasked = |(_, standing): &&mut (Contact, Standing<T>)| matches!(standing, Standing::Unasked);
        let (contact, standing) = self.candidates.iter_mut().find(unasked)?;
        *standing = Standing::Asked;
        Some(*contact)
    }

    /// This node was asked before; it is a candidate whether it was known to be one or not.
    pub(super) fn begin_with(&mut self, node: Contact, standing: Standing<T>) {
        match self.find(&node.id) {
            Some(unasked) => *unasked = standing,
            None => self.candidates.push((node, standing)),
        }
    }

    /// The nearest doubtful node, if it is nearer than some node that was asked or if there are places that nobody
    /// else can take; from now on it is asked, and a suspect.
    pub(super) fn ask_doubtful(&mut self, places: usize, now: Instant) -> Option<Contact> {
        let untouched = |standing: &Standing<T>| matches!(standing, Standing::Unasked | Standing::Doubtful);
        let farthest_asked = self.candidates.iter().rposition(|(_, standing)| !untouched(standing));
        let within = if places > 0 { self.candidates.len() } else { farthest_asked? };
        let mut nearest = self.candidates[..within].iter_mut();
        let (contact, standing) = nearest.find(|(_, standing)| matches!(standing, Standing::Doubtful))?;
        *standing = Standing::Suspect { since: now };
        Some(*contact)
    }

    /// This node did not answer somebody else's question in time.
    pub(super) fn doubt(&mut self, id: &NodeId) {
        if let Some(unasked @ Standing::Unasked) = self.find(id) {
            *unasked = Standing::Doubtful;
        }
    }

    /// Ends the wait for a node; ignored if it is not awaited.
    pub(super) fn settle(&mut self, id: &NodeId, standing: Standing<T>) {
        if let Some(awaited) = self.find(id)
            && matches!(awaited, Standing::Asked | Standing::Slow | Standing::Suspect { .. })
        {
            *awaited = standing;
        }
    }

    pub(super) fn suspect(&mut self, id: &NodeId, since: Instant) {
        if let Some(awaited @ Standing::Asked) = self.find(id) {
            *awaited = Standing::Suspect { since };
        }
    }

    pub(super) fn slow(&mut self, id: &NodeId) {
        if let Some(awaited @ Standing::Asked) = self.find(id) {
            *awaited = Standing::Slow;
        }
    }

    /// Takes these nodes, nearest first, instead of those from before. Who is among both stands as before; of
    /// the others those stay whose answer is there or may come in time.
    pub(super) fn settle_on(&mut self, nodes: impl IntoIterator<Item = Contact>) {
        let before = std::mem::replace(self, Self::new(nodes)).candidates;
        for (contact, standing) in before {
            match self.find(&contact.id) {
                Some(known) => *known = standing,
                None if matches!(standing, Standing::Asked | Standing::Slow | Standing::Answered(_)) => {
                    self.candidates.push((contact, standing));
                }
                None => {}
            }
        }
    }

    fn find(&mut self, id: &NodeId) -> Option<&mut Standing<T>> {
        self.candidates.iter_mut().find(|(contact, _)| contact.id == *id).map(|(_, standing)| standing)
    }

    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (place, (_, standing)) in self.candidates.iter().enumerate() {
            let belongs = place < self.belonging;
            let count = match standing {
                Standing::Unasked => &mut tally.unasked,
                Standing::Doubtful => &mut tally.doubtful,
                Standing::Asked => &mut tally.asked,
                // One that does not belong keeps nobody else from being asked.
                Standing::Slow if !belongs => &mut tally.suspect,
                Standing::Slow => &mut tally.slow,
                Standing::Suspect { .. } => &mut tally.suspect,
                Standing::Answered(_) => &mut tally.answered,
                Standing::Refused(refusal) if is_verdict(refusal) => &mut tally.verdicts,
                Standing::Refused(_) if !belongs => &mut tally.failed,
                Standing::Refused(Refusal::NotFound) => &mut tally.absent,
                Standing::Refused(_) => &mut tally.refused,
                Standing::Failed(_) => &mut tally.failed,
            };
            *count += 1;
        }
        tally
    }

    /// The refusals that `chosen` picks, nearest first.
    pub(super) fn refusals(&self, chosen: impl Fn(&Refusal) -> bool) -> impl Iterator<Item = &Refusal> {
        self.candidates.iter().filter_map(move |(_, standing)| match standing {
            Standing::Refused(refusal) if chosen(refusal) => Some(refusal),
            _ => None,
        })
    }

    /// Who does not hold the object, nearest first.
    pub(super) fn absent(&self) -> Vec<Contact> {
        let lacks = |standing: &Standing<T>| matches!(standing, Standing::Refused(Refusal::NotFound));
        self.candidates.iter().filter(|(_, standing)| lacks(standing)).map(|(node, _)| *node).collect()
    }

    /// Who answered what, nearest first.
    pub(super) fn answers(&self) -> Vec<(Contact, T)>
    where
        T: Clone,
    {
        let answer = |(contact, standing): &(Contact, Standing<T>)| match standing {
            Standing::Answered(answer) => Some((*contact, answer.clone())),
            _ => None,
        };
        self.candidates.iter().filter_map(answer).collect()
    }

    /// Who refused or failed, nearest first; those still awaited are listed with `late`, if it is given.
    pub(super) fn failures(&self, late: Option<&Refusal>) -> Vec<(Contact, Refusal)> {
        let failure = |(contact, standing): &(Contact, Standing<T>)| match standing {
            Standing::Refused(refusal) | Standing::Failed(refusal) => Some((*contact, refusal.clone())),
            Standing::Asked | Standing::Slow | Standing::Suspect { .. } => {
                late.map(|late| (*contact, late.clone()))
            }
            Standing::Unasked | Standing::Doubtful | Standing::Answered(_) => None,
        };
        self.candidates.iter().filter_map(failure).collect()
    }
}

/// True for a refusal that is about the request or the object, so that asking a node farther away would be
/// pointless, or would even go behind the object's back.
pub(super) fn is_verdict(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NotFound | Refusal::QuotaExceeded(_) | Refusal::Unsupported => false,
        _ => !refusal.retryable(),
    }
}

/// The refusal whose kind occurs most often, the nearest node's of that kind, and how often it occurs.
pub(super) fn commonest<'a>(refusals: impl Iterator<Item = &'a Refusal>) -> Option<(&'a Refusal, usize)> {
    let mut kinds = BTreeMap::<&str, (usize, usize, &Refusal)>::new();
    for (place, refusal) in refusals.enumerate() {
        kinds.entry(refusal.code()).or_insert((0, place, refusal)).0 += 1;
    }
    let most = kinds.into_values().max_by_key(|(count, place, _)| (*count, std::cmp::Reverse(*place)));
    most.map(|(count, _, refusal)| (refusal, count))
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The `n`-th nearest candidate.
    pub(in crate::operation) fn node(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), (Ipv4Addr::LOCALHOST, 7400 + u16::from(n)).into())
    }

    #[test]
    fn a_node_is_a_candidate_once_and_twenty_are_enough() {
        let roster = Roster::<()>::new((0..30).flat_map(|n| [node(n), node(n)]));
        let nodes: Vec<_> = roster.iter().map(|(contact, _)| *contact).collect();
        assert_eq!(nodes, (0..20).map(node).collect::<Vec<_>>());
    }

    #[test]
    fn that_a_node_lacks_it_which_the_search_did_not_find_says_nothing() {
        let mut roster = Roster::<()>::new([1, 2].map(node));
        assert_eq!(roster.ask_next().zip(roster.ask_next()), Some((node(1), node(2))));
        roster.settle_on([2, 3].map(node));
        for asked in [1, 2] {
            roster.settle(&node(asked).id, Standing::Refused(Refusal::NotFound));
        }
        let tally = roster.tally();
        assert_eq!((tally.heard(), tally.absent, tally.failed), (1, 1, 1));
    }

    #[test]
    fn of_equally_common_refusals_the_nearest_is_shown() {
        let refusals = [
            Refusal::Unsupported,
            Refusal::Refused("near".into()),
            Refusal::Stale { held_sequence: 7 },
            Refusal::Refused("far".into()),
            Refusal::Stale { held_sequence: 9 },
        ];
        assert_eq!(commonest(refusals.iter()), Some((&Refusal::Refused("near".into()), 2)));
        assert_eq!(commonest([].iter()), None);
    }
}
