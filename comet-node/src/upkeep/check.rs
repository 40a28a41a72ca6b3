//! Whether one object is where it should be, and what to do where it is not.
//!
//! Who should hold it is judged as a put does it: of one network no more nodes count than may hold the same object.
//! Otherwise a crowd of one network that settles around the key would be handed all copies, and could lose them.

use comet_routing::{Contact, Diversity, NodeId};
use comet_store::{Ownership, Version};

use crate::{
    operation::CANDIDATES_MAX,
    wire::{Summary, Verdict},
};

/// One object's check: which of the nodes closest to its key hold it, and who is to be sent a copy.
///
/// The nodes are asked nearest first, as many as should hold the object; one that is silent or refuses a copy
/// gives its place to the next.
#[derive(Clone, Debug)]
pub struct Check {
    summary: Summary,
    /// The other nodes, nearest first.
    nodes: Vec<(Contact, Standing)>,
    /// How many of them should hold the object.
    wanted: usize,
    is_own_duty: bool,
    is_crowded: bool,
    diversity: Diversity,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    Unasked,
    Asked,
    /// It holds this version.
    Holds,
    /// It holds a higher one.
    IsAhead,
    /// It holds a lower version.
    IsBehind,
    /// It holds nothing.
    Lacks,
    /// A copy is on its way.
    IsSent,
    /// Its object was offered the copy and kept what it had.
    Keeps,
    /// It was deleted there.
    Deleted {
        sequence: u64,
        ownership: Option<Box<Ownership>>,
    },
    /// It refused the copy.
    Refuses,
    Silent,
}

/// What came of sending a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The node now holds this version.
    Held(Version),
    /// It holds a higher version.
    Stale,
    /// It said no.
    Refused,
    /// It did not answer.
    Silent,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Conclusion {
    /// As many nodes hold the object as should; this node is one of them.
    Kept,
    /// As many nodes hold the object as should, and this node need not.
    HandedOver,
    /// Fewer nodes hold it than should.
    Short,
    /// Others hold a newer version. One of them sends it, as this node should hold the object.
    Outdated,
    /// Active objects at other nodes were offered this copy and decided to keep themselves.
    Overruled {
        /// In how many networks: those of one may all be somebody's.
        by: usize,
    },
    /// The object was deleted while this node was away.
    Deleted {
        /// Who says so.
        by: Contact,
        /// The deletion's sequence number, not below this copy's.
        sequence: u64,
        /// The owner's signature under it.
        ownership: Option<Box<Ownership>>,
    },
}

impl Check {
    /// A check of an object that should be on the `replicas` nodes closest to its key, of each network as many as
    /// `diversity` lets count.
    ///
    /// `others` are the nodes known there, in any order. `own` is this node, or nobody where this node holds no
    /// replicas of its own and so gives away what it has.
    pub fn new(
        summary: Summary,
        replicas: u8,
        own: Option<Contact>,
        others: impl IntoIterator<Item = Contact>,
        diversity: Diversity,
    ) -> Self {
        let (key, replicas) = (summary.key, usize::from(replicas));
        let is_own = |node: &Contact| own.is_some_and(|own| own.id == node.id);
        let mut nodes: Vec<_> = others.into_iter().filter(|node| !is_own(node)).chain(own).collect();
        nodes.sort_by_cached_key(|node| key.distance_to(&node.id));
        nodes.dedup_by_key(|node| node.id);
        let mut nodes = diversity.nearest(CANDIDATES_MAX + 1, nodes);
        let holders = &nodes[..replicas.min(nodes.len())];
        let (is_own_duty, is_crowded) = (holders.iter().any(is_own), diversity.is_crowded(holders));
        nodes.retain(|node| !is_own(node));
        nodes.truncate(CANDIDATES_MAX);
        let nodes = nodes.into_iter().map(|node| (node, Standing::Unasked)).collect();
        Self {
            summary,
            nodes,
            wanted: replicas - usize::from(is_own_duty),
            is_own_duty,
            is_crowded,
            diversity,
        }
    }

    /// What is checked.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// True if this node is one of those who should hold the object.
    pub fn is_own_duty(&self) -> bool {
        self.is_own_duty
    }

    /// True if one network has all the places that it may have: nodes that know different ones of it would judge
    /// differently.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// Nodes to be told the version that is held here; from now on their verdicts are awaited.
    pub fn ask(&mut self) -> Vec<Contact> {
        let mut free = self.wanted.saturating_sub(self.count(Standing::takes_place));
        let mut asked = Vec::new();
        for (node, standing) in &mut self.nodes {
            if free > 0 && *standing == Standing::Unasked {
                *standing = Standing::Asked;
                asked.push(*node);
                free -= 1;
            }
        }
        asked
    }

    /// A node compared versions.
    pub fn on_verdict(&mut self, by: &NodeId, verdict: Verdict) {
        let sequence_here = self.summary.version.sequence;
        let standing = match verdict {
            Verdict::Same => Standing::Holds,
            Verdict::Newer => Standing::IsAhead,
            Verdict::Older => Standing::IsBehind,
            Verdict::Missing => Standing::Lacks,
            // Its copy deleted itself there and is not to be brought back.
            Verdict::Left => Standing::Refuses,
            Verdict::Gone { sequence, ownership } if sequence >= sequence_here => {
                Standing::Deleted { sequence, ownership }
            }
            // A deletion of something older says nothing about this copy.
            Verdict::Gone { .. } => Standing::Refuses,
        };
        self.settle(by, &Standing::Asked, standing);
    }

    /// A node did not answer.
    pub fn on_silence(&mut self, node: &NodeId) {
        self.settle(node, &Standing::Asked, Standing::Silent);
    }

    /// Nodes to be sent a copy; from now on it is on its way. None once the object was deleted. That somebody claims
    /// to have something newer stops nobody: if it is true, the newer copy comes after this one.
    pub fn copies(&mut self) -> Vec<Contact> {
        let next = self.next_to_send();
        let mut sent = Vec::new();
        for (node, standing) in &mut self.nodes {
            if Some(&*standing) == next.as_ref() {
                *standing = Standing::IsSent;
                sent.push(*node);
            }
        }
        sent
    }

    /// Who is to be sent a copy next: first those who hold something older. Where that is an active object which
    /// keeps itself, this copy should not be here at all, and is not spread to others.
    fn next_to_send(&self) -> Option<Standing> {
        let count = |of: Standing| self.count(|standing| *standing == of);
        if self.deletion().is_some() {
            return None;
        }
        if count(Standing::IsBehind) > 0 {
            return Some(Standing::IsBehind);
        }
        let undecided = count(Standing::IsSent) + count(Standing::Keeps);
        (undecided == 0).then_some(Standing::Lacks)
    }

    /// What came of a copy.
    pub fn on_copied(&mut self, to: &NodeId, copied: Copied) {
        let standing = match copied {
            Copied::Held(version) if version >= self.summary.version => Standing::Holds,
            Copied::Held(_) => Standing::Keeps,
            Copied::Stale => Standing::IsAhead,
            Copied::Refused => Standing::Refuses,
            Copied::Silent => Standing::Silent,
        };
        self.settle(to, &Standing::IsSent, standing);
    }

    /// What the check came to, when there is nobody left to ask or to send to.
    pub fn conclusion(&self) -> Conclusion {
        if let Some((by, sequence, ownership)) = self.deletion() {
            return Conclusion::Deleted { by, sequence, ownership: ownership.cloned().map(Box::new) };
        }
        let keep = self.nodes.iter().filter(|(_, standing)| *standing == Standing::Keeps);
        let networks = self.diversity.networks(keep.map(|(node, _)| node));
        if networks > 0 {
            return Conclusion::Overruled { by: networks };
        }
        let ahead = self.count(|standing| *standing == Standing::IsAhead);
        let held = ahead + self.count(|standing| *standing == Standing::Holds);
        match (held >= self.wanted, self.is_own_duty) {
            (true, false) => Conclusion::HandedOver,
            _ if ahead > 0 => Conclusion::Outdated,
            (true, true) => Conclusion::Kept,
            (false, _) => Conclusion::Short,
        }
    }

    /// The deletion that goes farthest, and who says so.
    fn deletion(&self) -> Option<(Contact, u64, Option<&Ownership>)> {
        let deletions = self.nodes.iter().filter_map(|(node, standing)| match standing {
            Standing::Deleted { sequence, ownership } => Some((*node, *sequence, ownership.as_deref())),
            _ => None,
        });
        deletions.max_by_key(|(_, sequence, ownership)| (ownership.is_some(), *sequence))
    }

    fn count(&self, of: impl Fn(&Standing) -> bool) -> usize {
        self.nodes.iter().filter(|(_, standing)| of(standing)).count()
    }

    fn settle(&mut self, node: &NodeId, from: &Standing, to: Standing) {
        let found = self.nodes.iter_mut().find(|(known, standing)| known.id == *node && standing == from);
        if let Some((_, standing)) = found {
            *standing = to;
        }
    }
}

impl Standing {
    /// True if nobody else need be asked in this node's stead.
    fn takes_place(&self) -> bool {
        !matches!(self, Self::Unasked | Self::Refuses | Self::Silent)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use comet_routing::{Key, PrivateRanges};
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = Key::from_bytes([0; 32]);
    const COUNTED: Diversity = Diversity { per_prefix: 2, private_ranges: PrivateRanges::Counted };
    const EXEMPT: Diversity = Diversity { per_prefix: 2, private_ranges: PrivateRanges::Exempt };

    /// The node at distance `n` from the key.
    fn node(n: u8) -> Contact {
        let mut id = [0; 32];
        id[31] = n;
        Contact::new(NodeId::from_bytes(id), (Ipv4Addr::LOCALHOST, 7_400 + u16::from(n)).into())
    }

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    /// Three replicas, the node at distance `own` checks, ten nodes are known.
    fn check(own: u8) -> Check {
        let summary = Summary { key: KEY, version: version(5) };
        Check::new(summary, 3, Some(node(own)), (1..=10).rev().map(node), EXEMPT)
    }

    fn gone(sequence: u64) -> Verdict {
        Verdict::Gone { sequence, ownership: None }
    }

    #[test]
    fn the_nearest_others_are_asked_and_nobody_twice() {
        let mut check = check(2);
        assert!(check.is_own_duty());
        assert_eq!(check.ask(), [node(1), node(3)]);
        assert_eq!(check.ask(), []);
        check.on_verdict(&node(1).id, Verdict::Same);
        check.on_verdict(&node(3).id, Verdict::Same);
        assert_eq!((check.ask(), check.copies()), (vec![], vec![]));
        assert_eq!(check.conclusion(), Conclusion::Kept);
    }

    #[test]
    fn who_lacks_it_or_is_behind_gets_a_copy_and_who_is_silent_gives_way_to_the_next() {
        let mut check = check(2);
        check.ask();
        check.on_silence(&node(1).id);
        check.on_verdict(&node(3).id, Verdict::Missing);
        assert_eq!(check.ask(), [node(4)]);
        check.on_verdict(&node(4).id, Verdict::Older);
        assert_eq!(check.copies(), [node(4)], "first those who might object");
        assert_eq!(check.copies(), [], "a copy is sent once");
        check.on_copied(&node(4).id, Copied::Refused);
        assert_eq!(check.copies(), [node(3)]);
        check.on_copied(&node(3).id, Copied::Held(version(5)));
        assert_eq!(check.conclusion(), Conclusion::Short);
        assert_eq!(check.ask(), [node(5)]);
        check.on_verdict(&node(5).id, Verdict::Same);
        assert_eq!(check.conclusion(), Conclusion::Kept);
    }

    #[test]
    fn a_node_that_is_not_among_the_closest_hands_over_to_all_of_them() {
        let mut check = check(9);
        assert!(!check.is_own_duty());
        assert_eq!(check.ask(), [node(1), node(2), node(3)]);
        for n in [1, 2] {
            check.on_verdict(&node(n).id, Verdict::Same);
        }
        check.on_verdict(&node(3).id, Verdict::Missing);
        assert_eq!(check.copies(), [node(3)]);
        assert_eq!(check.conclusion(), Conclusion::Short);
        check.on_copied(&node(3).id, Copied::Held(version(5)));
        assert_eq!(check.conclusion(), Conclusion::HandedOver);
    }

    #[test]
    fn a_node_that_holds_no_replicas_hands_over_what_it_has() {
        let summary = Summary { key: KEY, version: version(5) };
        let mut check = Check::new(summary, 3, None, (2..=9).map(node), EXEMPT);
        assert!(!check.is_own_duty());
        assert_eq!(check.ask(), [node(2), node(3), node(4)]);
    }

    #[test]
    fn one_who_claims_to_be_ahead_keeps_nobody_from_being_sent_a_copy() {
        let mut check = check(2);
        check.ask();
        check.on_verdict(&node(1).id, Verdict::Missing);
        check.on_verdict(&node(3).id, Verdict::Newer);
        assert_eq!(check.copies(), [node(1)]);
        check.on_copied(&node(1).id, Copied::Held(version(5)));
        assert_eq!(check.conclusion(), Conclusion::Outdated);
    }

    #[test]
    fn an_old_copy_that_is_others_duty_is_handed_over_to_those_who_have_a_newer_one() {
        let mut check = check(9);
        check.ask();
        for n in [1, 2] {
            check.on_verdict(&node(n).id, Verdict::Newer);
        }
        check.on_verdict(&node(3).id, Verdict::Same);
        assert_eq!(check.conclusion(), Conclusion::HandedOver);
    }

    #[test]
    fn of_several_deletions_the_signed_and_then_the_highest_counts() {
        let ownership = Some(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] }.into());
        let mut check = check(9);
        check.ask();
        check.on_verdict(&node(1).id, gone(9));
        check.on_verdict(&node(2).id, Verdict::Gone { sequence: 7, ownership: ownership.clone() });
        check.on_verdict(&node(3).id, gone(6));
        assert_eq!(check.conclusion(), Conclusion::Deleted { by: node(2), sequence: 7, ownership });
    }

    #[test]
    fn a_deletion_counts_unless_it_is_of_something_older() {
        let mut check = check(2);
        check.ask();
        check.on_verdict(&node(1).id, gone(4));
        check.on_verdict(&node(3).id, gone(5));
        let deleted = Conclusion::Deleted { by: node(3), sequence: 5, ownership: None };
        assert_eq!(check.conclusion(), deleted);
        assert_eq!(check.copies(), []);
    }

    #[test]
    fn an_object_that_keeps_itself_overrules_the_copy() {
        let mut check = check(2);
        check.ask();
        check.on_verdict(&node(1).id, Verdict::Older);
        check.on_verdict(&node(3).id, Verdict::Missing);
        assert_eq!(check.copies(), [node(1)]);
        check.on_copied(&node(1).id, Copied::Held(version(4)));
        assert_eq!(check.copies(), [], "what should not be here is not spread");
        assert_eq!(check.conclusion(), Conclusion::Overruled { by: 1 });
    }

    /// The node at distance `n`, in a network of its own.
    fn honest(n: u8) -> Contact {
        Contact::new(node(n).id, ([10, 0, n, 1], 7_400).into())
    }

    /// Eight replicas; nodes 1 to 40 are all of one network, nearer to the key than the honest ones from 41 on. One
    /// of those, at distance `own`, checks.
    fn check_beside_a_crowd(own: u8, diversity: Diversity) -> Check {
        let crowd = (1..=40).map(|n| Contact::new(node(n).id, ([10, 0, 0, n], 7_400).into()));
        let summary = Summary { key: KEY, version: version(5) };
        Check::new(summary, 8, Some(honest(own)), crowd.chain((41..60).map(honest)), diversity)
    }

    #[test]
    fn a_crowd_of_one_network_takes_over_two_copies_and_no_more() {
        for own in 41..=46 {
            let mut check = check_beside_a_crowd(own, COUNTED);
            assert!(check.is_own_duty(), "{own}");
            let of_crowd = check.ask().into_iter().filter(|node| node.addr.ip() < honest(41).addr.ip());
            assert_eq!(of_crowd.count(), 2);
        }
        let mut check = check_beside_a_crowd(47, COUNTED);
        assert!(check.is_crowded() && !check_beside_a_crowd(47, EXEMPT).is_crowded());
        let asked: Vec<_> = (1..=2).map(node).chain((41..=46).map(honest)).map(|node| node.id).collect();
        assert_eq!(check.ask().into_iter().map(|node| node.id).collect::<Vec<_>>(), asked);
        asked[..7].iter().for_each(|holder| check.on_verdict(holder, Verdict::Same));
        assert_eq!(check.conclusion(), Conclusion::Short, "one honest holder is missing yet");

        let mut check = check_beside_a_crowd(41, EXEMPT);
        assert!(!check.is_own_duty(), "the control: where the network is exempt, the crowd takes all");
        let asked = check.ask();
        asked.iter().for_each(|node| check.on_verdict(&node.id, Verdict::Same));
        assert_eq!((asked.len(), check.conclusion()), (8, Conclusion::HandedOver));
    }

    #[test]
    fn objects_that_keep_themselves_in_one_network_are_one_witness() {
        let overruled = |diversity| {
            let mut check = check_beside_a_crowd(41, diversity);
            for crowd in [1, 2] {
                check.ask();
                check.on_verdict(&node(crowd).id, Verdict::Older);
            }
            assert_eq!(check.copies().len(), 2);
            [1, 2].iter().for_each(|n| check.on_copied(&node(*n).id, Copied::Held(version(4))));
            check.conclusion()
        };
        assert_eq!(overruled(COUNTED), Conclusion::Overruled { by: 1 });
        assert_eq!(overruled(EXEMPT), Conclusion::Overruled { by: 2 }, "the control");
    }

    fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
        prop_oneof![
            Just(None),
            Just(Some(Verdict::Same)),
            Just(Some(Verdict::Older)),
            Just(Some(Verdict::Missing)),
            Just(Some(Verdict::Newer)),
            Just(Some(Verdict::Left)),
            (0..10_u64).prop_map(|sequence| Some(gone(sequence))),
        ]
    }

    fn copied() -> impl Strategy<Value = Copied> {
        prop_oneof![
            (0..10_u64).prop_map(|sequence| Copied::Held(version(sequence))),
            Just(Copied::Stale),
            Just(Copied::Refused),
            Just(Copied::Silent),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_answered_each_node_is_asked_once_and_sent_once_and_it_ends(
            own in 0..12_u8,
            replicas in 1..20_u8,
            says in proptest::collection::vec((verdicts(), copied()), 12),
        ) {
            let summary = Summary { key: KEY, version: version(5) };
            let mut check = Check::new(summary, replicas, Some(node(own)), (1..=11).map(node), EXEMPT);
            let (mut asked, mut sent) = (Vec::new(), Vec::new());
            loop {
                let (ask, mut idle) = (check.ask(), true);
                for to in ask {
                    idle = false;
                    prop_assert!(to.id != node(own).id && !asked.contains(&to));
                    asked.push(to);
                    match says[usize::from(to.addr.port() - 7_400)].0.clone() {
                        Some(verdict) => check.on_verdict(&to.id, verdict),
                        None => check.on_silence(&to.id),
                    }
                }
                for to in check.copies() {
                    idle = false;
                    prop_assert!(asked.contains(&to) && !sent.contains(&to));
                    let (verdict, copied) = &says[usize::from(to.addr.port() - 7_400)];
                    prop_assert!(matches!(verdict, Some(Verdict::Older | Verdict::Missing)));
                    sent.push(to);
                    check.on_copied(&to.id, *copied);
                }
                if idle {
                    break;
                }
            }
            if check.conclusion() == Conclusion::HandedOver {
                prop_assert!(!check.is_own_duty(), "nobody drops what he should hold");
            }
        }
    }
}
