//! Many checks at once: what they want to know of one node goes into one digest.

use std::collections::BTreeMap;

use comet_routing::{Contact, NodeId};

use super::Check;
use crate::wire::{DIGEST_MAX, Summary, Verdict};

/// Checks that are carried out together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    checks: Vec<Check>,
}

/// What one node is to compare, and which checks want to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Digest {
    /// Who is asked.
    pub to: Contact,
    /// What is held here, at most [`DIGEST_MAX`] objects.
    pub summaries: Vec<Summary>,
    /// The place of each summary's check in the batch.
    places: Vec<usize>,
}

/// A copy that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Copy {
    /// To whom.
    pub to: Contact,
    /// Of what.
    pub summary: Summary,
    /// The place of its check in the batch.
    place: usize,
}

impl Batch {
    /// A batch of these checks.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { checks }
    }

    /// The digests to send next; none when every check knows what it wants to know.
    pub fn digests(&mut self) -> Vec<Digest> {
        let mut digests = BTreeMap::<NodeId, Vec<Digest>>::new();
        for (place, check) in self.checks.iter_mut().enumerate() {
            for to in check.ask() {
                let of_node = digests.entry(to.id).or_default();
                if of_node.last().is_none_or(|last| last.summaries.len() >= DIGEST_MAX) {
                    of_node.push(Digest { to, summaries: Vec::new(), places: Vec::new() });
                }
                if let Some(digest) = of_node.last_mut() {
                    digest.summaries.push(check.summary());
                    digest.places.push(place);
                }
            }
        }
        digests.into_values().flatten().collect()
    }

    /// A node answered a digest, with one verdict for each of its summaries, or not at all.
    pub fn on_compared(&mut self, digest: &Digest, verdicts: Option<Vec<Verdict>>) {
        let verdicts = verdicts.filter(|verdicts| verdicts.len() == digest.summaries.len());
        let mut verdicts = verdicts.map(Vec::into_iter);
        for place in &digest.places {
            let Some(check) = self.checks.get_mut(*place) else { continue };
            match verdicts.as_mut().and_then(Iterator::next) {
                Some(verdict) => check.on_verdict(&digest.to.id, verdict),
                None => check.on_silence(&digest.to.id),
            }
        }
    }

    /// The copies to send next.
    pub fn copies(&mut self) -> Vec<Copy> {
        let mut copies = Vec::new();
        for (place, check) in self.checks.iter_mut().enumerate() {
            let summary = check.summary();
            copies.extend(check.copies().into_iter().map(|to| Copy { to, summary, place }));
        }
        copies
    }

    /// What came of a copy.
    pub fn on_copied(&mut self, copy: &Copy, copied: super::Copied) {
        if let Some(check) = self.checks.get_mut(copy.place) {
            check.on_copied(&copy.to.id, copied);
        }
    }

    /// The checks, when there is nothing left to send.
    pub fn into_checks(self) -> Vec<Check> {
        self.checks
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use comet_routing::{Diversity, Key, PrivateRanges};
    use comet_store::Version;

    use super::*;
    use crate::upkeep::{Conclusion, Copied};

    fn node(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), (Ipv4Addr::LOCALHOST, 7_400 + u16::from(n)).into())
    }

    /// A batch of `objects` whose two other replicas are nodes 1 and 2.
    fn batch(objects: u16) -> Batch {
        let diversity = Diversity { private_ranges: PrivateRanges::Exempt, ..Diversity::default() };
        let check = |n: u16| {
            let version = Version { sequence: u64::from(n), hash: [0; 32] };
            let summary = Summary { key: Key::of(n.to_string()), version };
            Check::new(summary, 20, Some(node(9)), [node(1), node(2)], diversity)
        };
        Batch::new((0..objects).map(check).collect())
    }

    #[test]
    fn each_node_gets_as_few_digests_as_possible() {
        let mut batch = batch(200);
        let digests = batch.digests();
        let sizes: Vec<_> = digests.iter().map(|digest| (digest.to, digest.summaries.len())).collect();
        assert_eq!(sizes, [(node(1), 128), (node(1), 72), (node(2), 128), (node(2), 72)]);
        assert_eq!(batch.digests(), []);
    }

    #[test]
    fn verdicts_and_copies_find_their_checks() {
        let mut batch = batch(2);
        let digests = batch.digests();
        batch.on_compared(&digests[0], Some(vec![Verdict::Same, Verdict::Missing]));
        batch.on_compared(&digests[1], Some(vec![Verdict::Newer, Verdict::Same]));
        let copies = batch.copies();
        assert_eq!(copies.iter().map(|copy| copy.to).collect::<Vec<_>>(), [node(1)]);
        assert_eq!(copies[0].summary, digests[0].summaries[1]);
        batch.on_copied(&copies[0], Copied::Held(copies[0].summary.version));
        let ends: Vec<_> = batch.into_checks().iter().map(Check::conclusion).collect();
        assert_eq!(ends, [Conclusion::Outdated, Conclusion::Short], "two others of nineteen are known");
    }

    #[test]
    fn an_answer_of_the_wrong_length_is_no_answer() {
        let mut batch = batch(2);
        let digests = batch.digests();
        batch.on_compared(&digests[0], Some(vec![Verdict::Missing]));
        batch.on_compared(&digests[1], None);
        assert_eq!(batch.copies(), []);
    }
}
