//! The iterative lookup: asks ever closer nodes until the closest ones have answered.
//!
//! A [`Lookup`] is pulled: [`Lookup::poll`] says what to do next, the driver does it and reports. It keeps
//! every node it heard of in order of distance to the target (as rust-libp2p's `closest.rs` does) and adds
//! two things.
//!
//! *Disjoint paths* (Baumgart and Mies, S/Kademlia, section 4.4): the seeds are dealt out to a few paths. A
//! path asks only nodes that its own nodes named, and no node is asked by two paths; an answer serves every
//! path that had named its sender. So a liar misleads the paths that trusted it and no other, and as each
//! path asks at least [`LookupConfig::anchors`] of its seeds, one liar does not capture a path either. The
//! results are merged by distance.
//!
//! *Suspicion instead of failure*: a node that lets its time pass is suspect. The lookup goes on without it,
//! asks more nodes at once, and still takes a late answer.
//!
//! And it is after nodes of many networks: of each [`Prefix`](crate::Prefix) a path asks only the nearest few, and
//! goes on to nodes farther away, so that a crowd of ids made up around the target does not use up the result.
//!
//! Not here: how nodes are reached, and what time is right for which node.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    Contact, Distance, Diversity, Key, NodeId, rtt,
    survey::{PATHS_MAX, PathSet, Peer, State, Survey, Wanted},
};

/// How one lookup proceeds and where it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupConfig {
    /// This node, which is never asked and never a result.
    pub own: NodeId,
    /// When the lookup ends with what it has.
    pub deadline: Instant,
    /// How many of the closest nodes are wanted, and how many contacts of one reply are taken.
    pub k: usize,
    /// How many of those `k` may be nodes that do not answer. Each of the others is replaced by a node farther away,
    /// which may be dead as well and costs its timeout.
    pub excused: usize,
    /// How many of those `k` may be in one network.
    pub diversity: Diversity,
    /// Requests in flight at first (Kademlia's α).
    pub alpha: usize,
    /// Requests in flight at most; each node that does not answer raises `alpha` by one up to here.
    pub alpha_max: usize,
    /// Disjoint paths, 1 to [`PATHS_MAX`]; there are never more than seeds.
    pub paths: usize,
    /// Seeds of each path that are asked even if others name closer nodes, so that a liar which is asked
    /// first does not have the path to itself.
    pub anchors: usize,
    /// Nodes remembered at most, shared out evenly to the paths; this bounds the requests too.
    pub tracked_max: usize,
    /// When an unanswered node is suspect, unless [`Lookup::on_sent`] says otherwise.
    pub timeout: Duration,
    /// How long after their requests suspects are waited for at the end, if there are more of them than
    /// answers and fewer than `k` answers.
    pub patience: Duration,
}

impl LookupConfig {
    /// The design's values, for the node `own`, until `deadline`.
    pub fn new(own: NodeId, deadline: Instant) -> Self {
        Self {
            own,
            deadline,
            k: 20,
            excused: 0,
            diversity: Diversity::default(),
            alpha: 8,
            alpha_max: 16,
            paths: 8,
            anchors: 2,
            tracked_max: 800,
            timeout: rtt::TIMEOUT_STRANGER,
            patience: rtt::TIMEOUT_MAX,
        }
    }
}

/// What a [`Lookup`] wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this contact for nodes closer to the target, then poll again.
    Query(Contact),
    /// Nothing to do before `until` unless something is reported.
    Wait {
        /// When to poll again at the latest.
        until: Instant,
    },
    /// Finished.
    Done(Outcome),
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The closest nodes that answered, nearest first, `k` at most, of one network as many as may be.
    pub closest: Vec<Contact>,
    /// Seeds that are asked and have not answered in time, nearest first, `k` at most: dead, or merely late. Only
    /// seeds, which have answered before; of nodes that others name there is no telling whether they exist.
    pub late: Vec<Contact>,
    /// Contacts that were given up a short while ago, if fewer than `k` nodes were found; 0 from the lookup itself,
    /// which does not know. With them the swarm is larger than it looks from here, perhaps because this node is
    /// cut off from it.
    pub missed: usize,
    /// The longest chain of nodes, each named by the one before, from a seed (1) to one of `closest`.
    pub hops: u32,
    /// Requests made.
    pub queries: u32,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every path heard from the closest nodes it knew of.
    Converged,
    /// Its time was up: closer nodes may exist.
    Deadline,
}

/// A search for the nodes closest to a key.
#[derive(Clone, Debug)]
pub struct Lookup {
    target: Key,
    config: LookupConfig,
    peers: BTreeMap<Distance, Peer>,
    /// How many of `peers` each path brought in.
    introduced: Vec<usize>,
    queries: u32,
}

impl Lookup {
    /// A lookup that starts from `seeds`, usually the closest contacts of the own routing table.
    pub fn new(target: Key, seeds: impl IntoIterator<Item = Contact>, config: LookupConfig) -> Self {
        let others = seeds.into_iter().filter(|seed| seed.id != config.own);
        let mut seeds: Vec<_> = others.take(config.tracked_max).collect();
        seeds.sort_by_cached_key(|seed| target.distance_to(&seed.id));
        seeds.dedup_by_key(|seed| seed.id);
        let paths = config.paths.clamp(1, PATHS_MAX).min(seeds.len().max(1));
        let mut lookup =
            Self { target, config, peers: BTreeMap::new(), introduced: vec![0; paths], queries: 0 };
        for (n, seed) in seeds.into_iter().enumerate() {
            lookup.hear_of(seed, PathSet::only(n % paths), 1);
        }
        for peer in lookup.peers.values_mut().take(config.anchors * paths) {
            peer.anchor = true;
        }
        lookup
    }

    /// What the lookup is after.
    pub const fn target(&self) -> &Key {
        &self.target
    }

    /// How many live nodes it wants to find at least.
    pub const fn wanted(&self) -> usize {
        self.config.k.saturating_sub(self.config.excused)
    }

    /// The request to `contact`, which [`Lookup::poll`] has just asked for, makes it suspect at `suspect_at`.
    pub fn on_sent(&mut self, contact: Contact, suspect_at: Instant) {
        if let Some(Peer { state: State::Asked { suspect_at: at, .. }, .. }) = self.asked_at(contact) {
            *at = suspect_at;
        }
    }

    /// `from` answered, proved to be at this address, and named `closer`. Ignored if it was never asked.
    pub fn on_reply(&mut self, from: Contact, closer: impl IntoIterator<Item = Contact>) {
        let Some(peer) = self.peers.get_mut(&self.target.distance_to(&from.id)) else { return };
        if !matches!(peer.state, State::Asked { .. } | State::Suspect { .. }) {
            return;
        }
        peer.state = State::Answered;
        peer.contact = from;
        let (heard_by, hops) = (peer.heard_by, peer.hops + 1);
        for contact in closer.into_iter().take(self.config.k) {
            self.hear_of(contact, heard_by, hops);
        }
    }

    /// `from` will not answer, or cannot be reached at this address.
    pub fn on_failure(&mut self, from: Contact) {
        if let Some(peer) = self.asked_at(from) {
            peer.state = State::Failed;
            peer.try_spare();
        }
    }

    /// `from` did not acknowledge its request in time: the lookup goes on without it before its timeout.
    ///
    /// True if a request to it was in flight, so that it is time to poll.
    pub fn on_suspicion(&mut self, from: &NodeId) -> bool {
        let peer = self.peers.get_mut(&self.target.distance_to(from));
        let asked = peer.filter(|peer| matches!(peer.state, State::Asked { .. }));
        asked.map(Peer::suspect).is_some()
    }

    /// Says what to do next. Poll after every report, again after each [`Step::Query`], and at
    /// [`Step::Wait`]'s time.
    pub fn poll(&mut self, now: Instant) -> Step {
        for peer in self.peers.values_mut() {
            if matches!(peer.state, State::Asked { suspect_at, .. } if suspect_at <= now) {
                peer.suspect();
            }
        }
        if now >= self.config.deadline {
            return Step::Done(self.outcome(Ended::Deadline));
        }
        let LookupConfig { k, excused, diversity, .. } = self.config;
        let survey = Survey::of(&self.peers, self.introduced.len(), &Wanted { k, excused, diversity }, now);
        let width = (self.config.alpha + survey.unanswered).min(self.config.alpha_max);
        if survey.in_flight < width
            && let Some((path, distance)) = survey.next_query()
            && let Some(peer) = self.peers.get_mut(&distance)
        {
            let (suspect_at, lost_at) = (now + self.config.timeout, now + self.config.patience);
            peer.state = State::Asked { path, suspect_at, lost_at };
            self.queries += 1;
            return Step::Query(peer.contact);
        }
        match survey.next_change(self.config.k) {
            Some(until) => Step::Wait { until: until.min(self.config.deadline) },
            None => Step::Done(self.outcome(Ended::Converged)),
        }
    }

    /// The nodes of `paths` named this contact.
    fn hear_of(&mut self, contact: Contact, paths: PathSet, hops: u32) {
        if contact.id == self.config.own {
            return;
        }
        let distance = self.target.distance_to(&contact.id);
        for path in paths.iter() {
            if let Some(peer) = self.peers.get_mut(&distance) {
                peer.heard_again(contact.addr, path);
            } else if self.has_room(distance, path) {
                self.introduced[path] += 1;
                self.peers.insert(distance, Peer::new(contact, path, hops));
            }
        }
    }

    fn has_room(&mut self, distance: Distance, path: usize) -> bool {
        let places = (self.config.tracked_max / self.introduced.len()).max(1);
        self.introduced[path] < places || self.forget_farther(distance, path)
    }

    /// Forgets the farthest node that only `path` named and nobody asked, if it is farther than `distance`.
    fn forget_farther(&mut self, distance: Distance, path: usize) -> bool {
        let farther = self.peers.range(distance..).rev();
        let mut idle = farther.filter(|(_, peer)| {
            !peer.anchor && peer.heard_by == PathSet::only(path) && matches!(peer.state, State::Unasked)
        });
        let Some(farthest) = idle.next().map(|(&farthest, _)| farthest) else { return false };
        self.peers.remove(&farthest);
        self.introduced[path] -= 1;
        true
    }

    fn asked_at(&mut self, contact: Contact) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&self.target.distance_to(&contact.id))?;
        let asked = matches!(peer.state, State::Asked { .. } | State::Suspect { .. });
        (asked && peer.contact.addr == contact.addr).then_some(peer)
    }

    fn outcome(&self, ended: Ended) -> Outcome {
        let answered = self.peers.values().filter(|peer| matches!(peer.state, State::Answered));
        let closest = self.config.diversity.nearest(self.config.k, answered.map(|peer| peer.contact));
        let hops = |node: &Contact| self.peers.get(&self.target.distance_to(&node.id)).map(|peer| peer.hops);
        let late = self.peers.values().filter(|peer| {
            peer.hops == 1 && matches!(peer.state, State::Asked { .. } | State::Suspect { .. })
        });
        Outcome {
            late: late.take(self.config.k).map(|peer| peer.contact).collect(),
            missed: 0,
            hops: closest.iter().filter_map(hops).max().unwrap_or(0),
            closest,
            queries: self.queries,
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, seq::IndexedRandom};
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::clock::Clock;

    const OWN: NodeId = NodeId::from_bytes([0xff; 32]);
    /// All distances below are measured from zero, so that a node's number is its rank.
    const TARGET: Key = Key::from_bytes([0; 32]);

    fn node(n: u16) -> Contact {
        let mut id = [0; 32];
        let [high, low] = n.to_be_bytes();
        (id[0], id[1]) = (high, low);
        Contact::new(NodeId::from_bytes(id), ([10, high, low, 1], 4_000).into())
    }

    fn moved(n: u16) -> Contact {
        Contact::new(node(n).id, ([192, 0, 2, 1], 4_000).into())
    }

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn config(now: Instant) -> LookupConfig {
        LookupConfig::new(OWN, now + Duration::from_secs(5))
    }

    fn one_path(now: Instant) -> LookupConfig {
        LookupConfig { paths: 1, k: 3, alpha: 1, anchors: 1, ..config(now) }
    }

    fn queries(lookup: &mut Lookup, now: Instant) -> Vec<Contact> {
        std::iter::from_fn(|| match lookup.poll(now) {
            Step::Query(contact) => Some(contact),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn it_asks_the_nearest_first_and_ends_when_the_closest_have_answered() {
        let now = Clock::System.now();
        let mut lookup = Lookup::new(TARGET, [node(9), node(5)], one_path(now));
        assert_eq!(lookup.poll(now), Step::Query(node(5)));
        assert_eq!(lookup.poll(now), Step::Wait { until: now + ms(300) });
        lookup.on_reply(node(5), [node(2), node(3)]);
        assert_eq!(lookup.poll(now), Step::Query(node(2)));
        lookup.on_reply(node(2), []);
        assert_eq!(lookup.poll(now), Step::Query(node(3)));
        lookup.on_reply(node(3), []);
        let closest = vec![node(2), node(3), node(5)];
        let done = Outcome { closest, late: vec![], missed: 0, hops: 2, queries: 3, ended: Ended::Converged };
        assert_eq!(lookup.poll(now), Step::Done(done));
    }

    #[test]
    fn without_seeds_it_ends_at_once_with_nothing() {
        let now = Clock::System.now();
        let mut lookup = Lookup::new(TARGET, [], config(now));
        let (closest, late, ended) = (vec![], vec![], Ended::Converged);
        let done = Outcome { closest, late, missed: 0, hops: 0, queries: 0, ended };
        assert_eq!(lookup.poll(now), Step::Done(done));
    }

    #[test]
    fn a_suspect_is_passed_over_and_its_late_answer_still_counts() {
        let now = Clock::System.now();
        let mut lookup = Lookup::new(TARGET, [node(1), node(5), node(7)], one_path(now));
        assert_eq!(lookup.poll(now), Step::Query(node(1)));
        lookup.on_sent(node(1), now + ms(40));
        assert_eq!(lookup.poll(now), Step::Wait { until: now + ms(40) });
        assert_eq!(queries(&mut lookup, now + ms(40)), [node(5), node(7)], "one more than alpha");
        lookup.on_reply(node(1), [node(2)]);
        assert_eq!(queries(&mut lookup, now + ms(50)), [], "narrow again, and two are in flight");
        lookup.on_reply(node(5), []);
        lookup.on_reply(node(7), []);
        assert_eq!(queries(&mut lookup, now + ms(50)), [node(2)]);
    }

    #[test]
    fn a_suspect_does_not_count_among_the_k_closest() {
        let now = Clock::System.now();
        let config = LookupConfig { k: 2, alpha_max: 1, ..one_path(now) };
        let mut lookup = Lookup::new(TARGET, [node(1), node(5), node(7)], config);
        assert_eq!(queries(&mut lookup, now), [node(1)]);
        for next in [node(5), node(7)] {
            assert_eq!(queries(&mut lookup, now + ms(300)), [next]);
            lookup.on_reply(next, []);
        }
        assert!(
            matches!(lookup.poll(now + ms(300)), Step::Done(outcome) if outcome.closest == [node(5), node(7)])
        );
    }

    #[test]
    fn excused_nodes_are_not_replaced_by_others_farther_away() {
        let now = Clock::System.now();
        for (excused, asked_then) in [(0, vec![node(4), node(5)]), (1, vec![node(4)]), (2, vec![])] {
            let config = LookupConfig { alpha: 3, excused, ..one_path(now) };
            let mut lookup = Lookup::new(TARGET, (1..=6).map(node), config);
            assert_eq!(queries(&mut lookup, now), [1, 2, 3].map(node));
            lookup.on_reply(node(2), []);
            lookup.on_failure(node(1));
            lookup.on_failure(node(3));
            assert_eq!(queries(&mut lookup, now), asked_then, "{excused} excused");
        }
    }

    #[test]
    fn suspects_are_waited_for_with_patience_only_while_they_outnumber_the_answers() {
        let now = Clock::System.now();
        let config = LookupConfig { alpha: 3, ..one_path(now) };
        let mut lookup = Lookup::new(TARGET, [1, 2, 3].map(node), config);
        assert_eq!(queries(&mut lookup, now).len(), 3);
        lookup.on_reply(node(1), []);
        assert_eq!(lookup.poll(now + ms(300)), Step::Wait { until: now + ms(1_000) });
        let mut slow = lookup.clone();
        slow.on_reply(node(3), []);
        let done = Outcome {
            closest: vec![node(1), node(3)],
            late: vec![node(2)],
            missed: 0,
            hops: 1,
            queries: 3,
            ended: Ended::Converged,
        };
        assert_eq!(slow.poll(now + ms(400)), Step::Done(done));
        let done = Outcome {
            closest: vec![node(1)],
            late: vec![node(2), node(3)],
            missed: 0,
            hops: 1,
            queries: 3,
            ended: Ended::Converged,
        };
        assert_eq!(lookup.poll(now + ms(1_000)), Step::Done(done));
    }

    #[test]
    fn at_its_deadline_it_ends_with_what_it_has() {
        let now = Clock::System.now();
        let config = LookupConfig { deadline: now + ms(100), ..one_path(now) };
        let mut lookup = Lookup::new(TARGET, [node(1), node(2)], config);
        queries(&mut lookup, now);
        lookup.on_reply(node(1), []);
        queries(&mut lookup, now);
        let done = Outcome {
            closest: vec![node(1)],
            late: vec![node(2)],
            missed: 0,
            hops: 1,
            queries: 2,
            ended: Ended::Deadline,
        };
        assert_eq!(lookup.poll(now + ms(100)), Step::Done(done));
    }

    #[test]
    fn a_reply_from_a_node_that_was_never_asked_is_ignored() {
        let now = Clock::System.now();
        let mut lookup = Lookup::new(TARGET, [node(5), node(9)], one_path(now));
        queries(&mut lookup, now);
        lookup.on_reply(node(9), [node(1)]);
        lookup.on_reply(node(77), [node(1)]);
        lookup.on_reply(node(5), []);
        assert_eq!(queries(&mut lookup, now), [node(9)]);
    }

    #[test]
    fn of_one_reply_k_contacts_are_taken_and_never_this_node() {
        let now = Clock::System.now();
        let target = OWN.as_key();
        let mut lookup = Lookup::new(target, [node(1_000)], one_path(now));
        queries(&mut lookup, now);
        let me = Contact::new(OWN, node(1).addr);
        lookup.on_reply(node(1_000), [me].into_iter().chain((1..500).map(node)));
        assert_eq!(lookup.peers.len(), 1 + 2);
    }

    #[test]
    fn what_one_path_can_make_us_remember_is_bounded_and_nearer_nodes_displace_farther() {
        let now = Clock::System.now();
        let mut lookup = Lookup::new(TARGET, [node(900)], LookupConfig { tracked_max: 3, ..one_path(now) });
        queries(&mut lookup, now);
        lookup.on_reply(node(900), [node(50), node(60), node(40)]);
        let known: Vec<_> = lookup.peers.values().map(|peer| peer.contact).collect();
        assert_eq!(known, [node(40), node(50), node(900)]);
    }

    #[test]
    fn a_wrong_address_named_first_does_not_hide_a_node() {
        let now = Clock::System.now();
        let config = LookupConfig { paths: 2, k: 3, ..config(now) };
        let mut lookup = Lookup::new(TARGET, [node(8), node(9)], config);
        assert_eq!(queries(&mut lookup, now), [node(8), node(9)]);
        lookup.on_reply(node(8), [moved(1)]);
        lookup.on_reply(node(9), [node(1)]);
        assert_eq!(queries(&mut lookup, now), [moved(1)]);
        lookup.on_failure(moved(1));
        assert_eq!(queries(&mut lookup, now), [node(1)]);
        lookup.on_failure(moved(1));
        lookup.on_reply(node(1), []);
        assert!(matches!(lookup.poll(now), Step::Done(Outcome { closest, .. }) if closest[0] == node(1)));
    }

    /// The nodes that a lookup finds when the nearest seed names a crowd of accomplices and nobody else.
    fn found_beside_a_liar(paths: usize) -> Vec<Contact> {
        let now = Clock::System.now();
        let config = LookupConfig { paths, k: 4, alpha: 1, anchors: 1, ..config(now) };
        let mut lookup = Lookup::new(TARGET, [50, 60, 70, 80].map(node), config);
        loop {
            match lookup.poll(now) {
                // 10 to 19 are accomplices of 50; the honest ones know the nearest node of all.
                Step::Query(liar) if liar == node(50) => lookup.on_reply(liar, (10..14).map(node)),
                Step::Query(accomplice) if (10..20).any(|n| node(n) == accomplice) => {
                    lookup.on_reply(accomplice, (10..20).map(node));
                }
                Step::Query(honest) => lookup.on_reply(honest, [node(1)]),
                Step::Wait { .. } => unreachable!("every query is answered at once"),
                Step::Done(outcome) => return outcome.closest,
            }
        }
    }

    #[test]
    fn a_liar_misleads_only_the_path_that_asked_it() {
        assert_eq!(found_beside_a_liar(2).first(), Some(&node(1)));
        assert_eq!(found_beside_a_liar(1).first(), Some(&node(10)), "the control: one path, all misled");
    }

    /// A node that tries to be one of many of its network.
    fn of_crowd(n: u16) -> Contact {
        Contact::new(node(n).id, ([203, 0, 113, n as u8], 4_000).into())
    }

    /// How many of forty nodes of one network, nearer than all others, a lookup for eight nodes finds and asks.
    fn of_a_crowd(per_prefix: usize, crowd_is_silent: bool) -> (usize, usize, Vec<Contact>) {
        let now = Clock::System.now();
        let diversity = Diversity { per_prefix, ..Diversity::default() };
        let config = LookupConfig { paths: 2, k: 8, diversity, ..config(now) };
        let mut lookup = Lookup::new(TARGET, (200..208).map(node), config);
        let (mut later, mut asked) = (now, 0);
        loop {
            match lookup.poll(later) {
                Step::Query(member) if (1..=40).any(|n| of_crowd(n) == member) => {
                    asked += 1;
                    if !crowd_is_silent {
                        lookup.on_reply(member, (1..=40).map(of_crowd));
                    }
                }
                // What honest tables hold: no more than three of a network, and their neighbours.
                Step::Query(honest) => {
                    lookup.on_reply(honest, [5, 6, 7].map(of_crowd).into_iter().chain((100..105).map(node)));
                }
                Step::Wait { until } => later = until,
                Step::Done(outcome) => {
                    let found = outcome.closest.iter().filter(|node| (1..=40).any(|n| of_crowd(n) == **node));
                    return (found.count(), asked, outcome.closest);
                }
            }
        }
    }

    #[test]
    fn a_crowd_of_one_network_gets_two_places_and_the_lookup_goes_on_behind_it() {
        let (found, _, closest) = of_a_crowd(2, false);
        assert_eq!(found, 2);
        assert_eq!(closest[2..], [100, 101, 102, 103, 104, 200].map(node));
        let (found, ..) = of_a_crowd(usize::MAX, false);
        assert_eq!(found, 8, "the control: without the limit it has them all");
    }

    #[test]
    fn of_a_network_that_is_silent_few_are_tried() {
        let (found, asked, closest) = of_a_crowd(2, true);
        assert_eq!((found, closest.len()), (0, 8));
        assert!(asked <= 6, "{asked} asked");
    }

    /// A network of nodes that know some others; some of them are silent. Five share a prefix.
    #[derive(Debug)]
    struct World {
        knows: BTreeMap<NodeId, Vec<Contact>>,
        silent: Vec<bool>,
    }

    fn housed(n: u16) -> Contact {
        let [network, host] = [n / 5, n % 5].map(|n| u8::try_from(n).expect("worlds are small"));
        Contact::new(node(n).id, ([10, 0, network, host], 4_000).into())
    }

    fn world(size: u16, silent_percent: u32, rng: &mut ChaCha12Rng) -> World {
        let nodes: Vec<_> = (1..=size).map(housed).collect();
        let mut knows = BTreeMap::new();
        for contact in &nodes {
            knows.insert(contact.id, nodes.sample(rng, 12).copied().collect());
        }
        let silent = nodes.iter().map(|_| rng.random_ratio(silent_percent, 100)).collect();
        World { knows, silent }
    }

    proptest! {
        #[test]
        fn every_lookup_keeps_its_promises(
            size in 1_u16..200, silent_percent in 0_u32..60, paths in 1_usize..=8, seed: u64,
        ) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let world = world(size, silent_percent, &mut rng);
            let is_silent = |contact: &Contact| {
                world.silent.iter().zip(1..).any(|(&silent, n)| silent && housed(n) == *contact)
            };
            let start = Clock::System.now();
            let (mut now, mut events) = (start, BTreeMap::<(Instant, usize), Contact>::new());
            let config = LookupConfig { paths, ..config(now) };
            let seeds: Vec<_> = (0..8).map(|_| housed(rng.random_range(1..=size))).collect();
            let mut lookup = Lookup::new(TARGET, seeds, config);
            let (mut asked, mut answered) = (Vec::<Contact>::new(), Vec::new());
            let outcome = loop {
                match lookup.poll(now) {
                    Step::Query(contact) => {
                        prop_assert!(!asked.contains(&contact), "asked twice");
                        asked.push(contact);
                        if !is_silent(&contact) {
                            events.insert((now + ms(rng.random_range(1..600)), asked.len()), contact);
                        }
                        let LookupConfig { k, excused, diversity, .. } = config;
                        let survey = Survey::of(&lookup.peers, 8, &Wanted { k, excused, diversity }, now);
                        prop_assert!(survey.in_flight <= config.alpha_max);
                        prop_assert!(survey.in_flight <= config.alpha + asked.len() - answered.len());
                        prop_assert!(asked.len() <= usize::from(size), "it ends");
                    }
                    Step::Wait { until } => {
                        prop_assert!(until > now, "time goes on");
                        let next = events.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until);
                        now = next.unwrap_or(until);
                        if next.is_some() && let Some((_, from)) = events.pop_first() {
                            answered.push(from);
                            lookup.on_reply(from, world.knows[&from.id].iter().copied());
                        }
                    }
                    Step::Done(outcome) => break outcome,
                }
            };
            prop_assert!(now <= config.deadline);
            prop_assert!(outcome.closest.len() <= config.k);
            prop_assert!(outcome.closest.is_sorted_by_key(|contact| TARGET.distance_to(&contact.id)));
            prop_assert!(outcome.closest.iter().all(|contact| answered.contains(contact)));
            prop_assert_eq!(outcome.queries as usize, asked.len());
            if outcome.ended == Ended::Converged {
                let mut best = answered.clone();
                best.sort_by_key(|contact| TARGET.distance_to(&contact.id));
                let best = config.diversity.nearest(config.k, best);
                prop_assert_eq!(outcome.closest, best, "nearest of all that answered, two of a prefix");
            }
        }
    }
}
