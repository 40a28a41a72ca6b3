//! The routing table: who we know, more of them the nearer they are to us.
//!
//! Contacts lie in k-buckets by the number of leading bits that their id shares with ours. A contact enters
//! in one way only, [`RoutingTable::on_reached`]: a connection to it was made from outside. An answer is no
//! proof of that, since it may have come over a connection which the peer itself had opened from behind a
//! network that lets nobody in. What others say about third nodes, and requests that reach us, never change
//! the table, so filling it with inventions costs an attacker real nodes that answer, and the limits per
//! network [`Prefix`] make those dear.
//!
//! The transport proves who is reached, so a member that is reached at a new address moves there: its owner
//! has moved. Nothing else can change an address, hence nobody can steal an id.
//!
//! Not here: sending, timers, the choice of whom to ask. The driver sends the probes and pings that the table
//! asks for, and reports.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{
    Contact, KEY_BYTES, Key, NodeId, Prefix, PrivateRanges,
    bucket::{Bucket, Entry},
};

/// How long a bucket counts as incomplete after somebody was turned away from it: as long as a bucket without
/// lookups is left alone. Whoever is still there then is met, and turned away, again.
const TURNED_AWAY: Duration = Duration::from_secs(3_600);

/// Limits of a [`RoutingTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Contacts per bucket (Kademlia's k).
    pub k: usize,
    /// Newcomers that may wait per bucket.
    pub cache: usize,
    /// Contacts of one prefix per bucket, and as many among those that wait for it.
    pub per_prefix_bucket: usize,
    /// Contacts of one prefix in the whole table.
    pub per_prefix_table: usize,
    /// Whether the limits per prefix hold for loopback and private addresses too.
    pub private_ranges: PrivateRanges,
    /// A contact leaves after this many failures in a row.
    pub suspicions_max: u32,
    /// Requests that stay unanswered within this time are one failure, as they are one outage.
    pub suspicion_spacing: Duration,
    /// A full bucket's least recently seen contact is not pinged if it answered within this time.
    pub fresh: Duration,
}

impl Default for TableConfig {
    /// The values of the design; `fresh` is a guess that keeps a busy node from pinging at every answer. Three
    /// suspicions a second apart outlast a moment without a network, and still end within a few seconds.
    fn default() -> Self {
        Self {
            k: 20,
            cache: 20,
            per_prefix_bucket: 2,
            per_prefix_table: 3,
            private_ranges: PrivateRanges::Counted,
            suspicions_max: 3,
            suspicion_spacing: Duration::from_secs(1),
            fresh: Duration::from_secs(60),
        }
    }
}

/// What an answer, or having been reached, did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It was a member and is now the most recently seen of its bucket, at this address.
    Refreshed,
    /// It took a free place.
    Entered,
    /// It would get a place, or its member would move here: probe it, and report with
    /// [`RoutingTable::on_reached`] or [`RoutingTable::on_unreachable`].
    Wanted,
    /// Its bucket is full, it waits. If `ping` is a contact, ping that one and report with
    /// [`RoutingTable::on_answer`] or [`RoutingTable::on_failure`].
    Waiting {
        /// The bucket's least recently seen contact, unless it answered a short while ago.
        ping: Option<Contact>,
    },
    /// Too many contacts of its prefix are known already. A member that moved there has left the table.
    Crowded,
    /// It is this node itself.
    Own,
}

/// What an unanswered request did to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// It is no member.
    Unknown,
    /// It stays for now. If `ping` is a contact, newcomers wait for its place: ping it again after
    /// [`TableConfig::suspicion_spacing`] and report.
    Suspected {
        /// The suspect, if this was a failure of its own and somebody waits for its place.
        ping: Option<Contact>,
    },
    /// It has left.
    Dropped {
        /// The newcomer that waited for its place: probe it and report.
        replacement: Option<Contact>,
    },
}

/// The contacts that one node knows.
///
/// Bounded by 256 buckets of `k` members and `cache` newcomers; in a swarm of n nodes about k·log₂ n.
#[derive(Clone, Debug)]
pub struct RoutingTable {
    pub(crate) own: NodeId,
    config: TableConfig,
    /// By the bits shared with `own`, 0 to 255; a bucket that was never touched is absent.
    buckets: BTreeMap<usize, Bucket>,
    /// Members by prefix, for those prefixes that are limited.
    members_by_prefix: BTreeMap<Prefix, usize>,
}

impl RoutingTable {
    /// An empty table of the node `own`.
    pub fn new(own: NodeId, config: TableConfig) -> Self {
        Self { own, config, buckets: BTreeMap::new(), members_by_prefix: BTreeMap::new() }
    }

    /// `contact` answered a request of ours, from this address, and the transport has proved its identity.
    pub fn on_answer(&mut self, contact: Contact, now: Instant) -> Admission {
        if contact.id == self.own {
            return Admission::Own;
        }
        let index = self.index_of(&contact.id);
        match self.find(&contact.id) {
            Some(member) if member.addr == contact.addr => {
                self.leave(index, &contact.id);
                self.join(index, Entry::new(contact, now));
                Admission::Refreshed
            }
            None if self.is_full(index) => self.let_wait(index, contact, now),
            None if !self.fits(index, &contact) => self.turn_away(index, now),
            Some(_) | None => Admission::Wanted,
        }
    }

    /// A new connection to `contact` was made from outside, and the transport has proved its identity.
    pub fn on_reached(&mut self, contact: Contact, now: Instant) -> Admission {
        if contact.id == self.own {
            return Admission::Own;
        }
        let index = self.index_of(&contact.id);
        if let Some(member) = self.leave(index, &contact.id) {
            if member.contact.addr == contact.addr || self.fits(index, &contact) {
                self.join(index, Entry::new(contact, now));
                return Admission::Refreshed;
            }
            return self.turn_away(index, now);
        }
        if self.is_full(index) {
            return self.let_wait(index, contact, now);
        }
        if !self.fits(index, &contact) {
            return self.turn_away(index, now);
        }
        self.bucket(index).stop_waiting(&contact.id);
        self.join(index, Entry::new(contact, now));
        Admission::Entered
    }

    /// No connection to this newcomer can be made from outside. Returns another one that waits for the place,
    /// to be probed.
    pub fn on_unreachable(&mut self, id: &NodeId) -> Option<Contact> {
        let index = self.index_of(id);
        self.buckets.get_mut(&index)?.stop_waiting(id);
        if self.is_full(index) { None } else { self.next_in_line(index) }
    }

    /// A request of ours to this node was not answered in time.
    pub fn on_failure(&mut self, id: &NodeId, now: Instant) -> Suspicion {
        let index = self.index_of(id);
        let TableConfig { suspicions_max, suspicion_spacing, .. } = self.config;
        let Some(bucket) = self.buckets.get_mut(&index) else { return Suspicion::Unknown };
        bucket.stop_waiting(id);
        let contested = !bucket.waiting().is_empty();
        let Some(entry) = bucket.entry_mut(id) else { return Suspicion::Unknown };
        let is_same = |at| now.saturating_duration_since(at) < suspicion_spacing;
        if entry.suspected.is_some_and(is_same) {
            return Suspicion::Suspected { ping: None };
        }
        entry.suspicions += 1;
        entry.suspected = Some(now);
        if entry.suspicions < suspicions_max {
            return Suspicion::Suspected { ping: contested.then_some(entry.contact) };
        }
        self.leave(index, id);
        Suspicion::Dropped { replacement: self.next_in_line(index) }
    }

    /// True if this contact would get a place, or move, if it could be reached: worth a probe when it is heard
    /// of.
    pub fn wants(&self, contact: &Contact) -> bool {
        let index = self.index_of(&contact.id);
        match self.find(&contact.id) {
            Some(member) => member.addr != contact.addr,
            None => contact.id != self.own && !self.is_full(index) && self.fits(index, contact),
        }
    }

    /// True if this node is a member.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.find(id).is_some()
    }

    /// Where this member was reached, `None` if it is no member.
    pub fn find(&self, id: &NodeId) -> Option<Contact> {
        let bucket = self.buckets.get(&self.index_of(id))?;
        let entry = bucket.entries().iter().find(|entry| entry.contact.id == *id)?;
        Some(entry.contact)
    }

    /// The `n` members closest to `target`, nearest first. This node itself is never among them.
    ///
    /// Members under suspicion are left out unless there are too few others, so that nodes which have gone
    /// are not handed on, and a moment without a network does not leave us without anybody to ask.
    pub fn closest(&self, target: &Key, n: usize) -> Vec<Contact> {
        let mut closest = self.closest_where(target, n, |entry| entry.suspicions == 0);
        if closest.len() < n {
            closest.extend(self.closest_where(target, n - closest.len(), |entry| entry.suspicions > 0));
            closest.sort_by_cached_key(|contact| target.distance_to(&contact.id));
        }
        closest
    }

    /// True if the members closest to `target` are, as far as one can tell, the closest nodes that there are. A
    /// bucket with places left turns nobody away but those of whose prefix there are too many. If it has not done
    /// that lately, it has all the nodes of its range that were ever met.
    pub fn is_complete_around(&self, target: &Key, now: Instant) -> bool {
        let has_all = |bucket: &Bucket| {
            let lately = |at| now.saturating_duration_since(at) < TURNED_AWAY;
            bucket.entries().len() < self.config.k && !bucket.turned_away.is_some_and(lately)
        };
        let bucket = self.buckets.get(&target.distance_to(&self.own).leading_zeros());
        !self.is_empty() && bucket.is_none_or(has_all)
    }

    /// Notes that a lookup went towards `target`, which is what keeps its bucket from being idle.
    pub fn on_lookup(&mut self, target: &Key, now: Instant) {
        let index = target.distance_to(&self.own).leading_zeros();
        if index < KEY_BYTES * 8 {
            self.bucket(index).looked_up = Some(now);
        }
    }

    /// A random key in the range of each bucket that no lookup went into for `idle`, farthest range first.
    ///
    /// Ranges nearer than our nearest contact are left out: a lookup there finds what one for our own id
    /// finds.
    pub fn buckets_idle_since(&self, now: Instant, idle: Duration, rng: &mut impl Rng) -> Vec<Key> {
        let Some(nearest) = self.nearest_bucket() else { return Vec::new() };
        let looked_up = |index| self.buckets.get(&index).and_then(|bucket| bucket.looked_up);
        (0..=nearest)
            .filter(|&index| looked_up(index).is_none_or(|at| now.saturating_duration_since(at) >= idle))
            .map(|index| self.random_key_in(index, rng))
            .collect()
    }

    /// All members, farthest bucket first, in each the least recently seen first.
    pub fn contacts(&self) -> Vec<Contact> {
        let entries = self.buckets.values().flat_map(Bucket::entries);
        entries.map(|entry| entry.contact).collect()
    }

    /// The members that are perhaps nearer to `target` than this node is: nobody whose id differs from its own at an
    /// earlier bit than the target does.
    pub(crate) fn rivals(&self, target: &Key) -> impl Iterator<Item = &Contact> {
        let split = target.distance_to(&self.own).leading_zeros();
        let entries = self.buckets.range(split..).flat_map(|(_, bucket)| bucket.entries());
        entries.map(|entry| &entry.contact)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.entries().len()).sum()
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`RoutingTable::closest`], of the members that count.
    pub(crate) fn closest_where(
        &self,
        target: &Key,
        n: usize,
        counts: impl Fn(&Entry) -> bool,
    ) -> Vec<Contact> {
        // Whoever is in the target's own bucket agrees with the target for longer than anybody else. All
        // buckets nearer to us first differ from it at one and the same bit, and each farther bucket at
        // an earlier bit than the one before.
        let split = target.distance_to(&self.own).leading_zeros();
        let farther = self.buckets.range(..split).rev().map(|(_, bucket)| vec![bucket]);
        let groups = [
            self.buckets.get(&split).into_iter().collect(),
            self.buckets.range(split + 1..).map(|(_, bucket)| bucket).collect(),
        ];
        let mut closest = Vec::new();
        for group in groups.into_iter().chain(farther) {
            if closest.len() >= n {
                break;
            }
            let members = group.into_iter().flat_map(Bucket::entries).filter(|entry| counts(entry));
            let mut group: Vec<_> = members.map(|entry| entry.contact).collect();
            group.sort_by_cached_key(|contact| target.distance_to(&contact.id));
            closest.extend(group);
        }
        closest.truncate(n);
        closest
    }

    /// There are places, and none for this newcomer's prefix.
    fn turn_away(&mut self, index: usize, now: Instant) -> Admission {
        self.bucket(index).turned_away = Some(now);
        Admission::Crowded
    }

    fn let_wait(&mut self, index: usize, contact: Contact, now: Instant) -> Admission {
        let TableConfig { cache, per_prefix_bucket, fresh, .. } = self.config;
        let limited = self.limited_prefix(&contact);
        let bucket = self.bucket(index);
        if limited.is_some_and(|prefix| bucket.waiting_in(prefix, &contact.id) >= per_prefix_bucket) {
            return Admission::Crowded;
        }
        bucket.wait(Entry::new(contact, now), cache);
        let oldest = bucket.entries().first();
        let stale = oldest.filter(|entry| now.saturating_duration_since(entry.seen) >= fresh);
        Admission::Waiting { ping: stale.map(|entry| entry.contact) }
    }

    /// The newcomer for whom there is a place now. It waits no longer: it enters when it is reached.
    fn next_in_line(&mut self, index: usize) -> Option<Contact> {
        let bucket = self.buckets.get(&index)?;
        let next = bucket.next_waiting(|contact| self.fits(index, contact))?;
        self.bucket(index).stop_waiting(&next.id).map(|entry| entry.contact)
    }

    fn is_full(&self, index: usize) -> bool {
        self.buckets.get(&index).is_some_and(|bucket| bucket.entries().len() >= self.config.k)
    }

    fn join(&mut self, index: usize, entry: Entry) {
        if let Some(prefix) = self.limited_prefix(&entry.contact) {
            *self.members_by_prefix.entry(prefix).or_default() += 1;
        }
        self.bucket(index).push(entry);
    }

    fn leave(&mut self, index: usize, id: &NodeId) -> Option<Entry> {
        let entry = self.buckets.get_mut(&index)?.remove(id)?;
        if let Some(prefix) = self.limited_prefix(&entry.contact) {
            let members = self.members_by_prefix.entry(prefix).or_default();
            *members = members.saturating_sub(1);
            if *members == 0 {
                self.members_by_prefix.remove(&prefix);
            }
        }
        Some(entry)
    }

    /// True if the limits per prefix leave a place for this contact, which is no member.
    fn fits(&self, index: usize, contact: &Contact) -> bool {
        let Some(prefix) = self.limited_prefix(contact) else { return true };
        let in_table = self.members_by_prefix.get(&prefix).copied().unwrap_or(0);
        let in_bucket = self.buckets.get(&index).map_or(0, |bucket| bucket.members_in(prefix));
        in_table < self.config.per_prefix_table && in_bucket < self.config.per_prefix_bucket
    }

    fn limited_prefix(&self, contact: &Contact) -> Option<Prefix> {
        self.config.private_ranges.prefix_of(contact.addr.ip())
    }

    fn nearest_bucket(&self) -> Option<usize> {
        self.buckets.iter().rev().find(|(_, bucket)| !bucket.entries().is_empty()).map(|(&index, _)| index)
    }

    fn random_key_in(&self, index: usize, rng: &mut impl Rng) -> Key {
        let mut bytes = [0; KEY_BYTES];
        rng.fill_bytes(&mut bytes);
        let own = self.own.as_bytes();
        let (whole, bits) = (index / 8, index % 8);
        bytes[..whole].copy_from_slice(&own[..whole]);
        // The bits before the bucket's are ours, its own bit is not, the rest stays random.
        let kept = !(0xff_u8 >> bits);
        let flipped = 0x80_u8 >> bits;
        bytes[whole] = (own[whole] & kept) | (!own[whole] & flipped) | (bytes[whole] & !kept & !flipped);
        Key::from_bytes(bytes)
    }

    fn index_of(&self, id: &NodeId) -> usize {
        self.own.distance(id).leading_zeros()
    }

    fn bucket(&mut self, index: usize) -> &mut Bucket {
        self.buckets.entry(index).or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::clock::Clock;

    const OWN: NodeId = NodeId::from_bytes([0; 32]);
    const MINUTE: Duration = Duration::from_secs(60);
    const SPACING: Duration = Duration::from_secs(1);

    /// A contact of the farthest bucket, each in a network of its own.
    fn far(n: u8) -> Contact {
        let mut id = [n; 32];
        id[0] = 0x80;
        Contact::new(NodeId::from_bytes(id), ([192, n, 2, 1], 4_000).into())
    }

    fn at(contact: Contact, ip: [u8; 4]) -> Contact {
        Contact::new(contact.id, (ip, 4_000).into())
    }

    fn small() -> RoutingTable {
        RoutingTable::new(OWN, TableConfig { k: 2, cache: 2, ..TableConfig::default() })
    }

    fn full(now: Instant) -> RoutingTable {
        let mut table = small();
        for n in [1, 2] {
            assert_eq!(table.on_reached(far(n), now), Admission::Entered);
        }
        table
    }

    #[test]
    fn a_full_bucket_may_not_have_everybody_around_a_key() {
        let now = Clock::System.now();
        let mut table = small();
        assert!(!table.is_complete_around(&far(9).id.as_key(), now), "nobody is known");
        table.on_reached(far(1), now);
        assert!(table.is_complete_around(&far(9).id.as_key(), now));
        table.on_reached(far(2), now);
        assert!(!table.is_complete_around(&far(9).id.as_key(), now));
        assert!(table.is_complete_around(&OWN.as_key(), now), "the buckets nearer to us have places");
    }

    #[test]
    fn a_bucket_with_places_that_turned_somebody_away_does_not_have_everybody_for_an_hour() {
        let now = Clock::System.now();
        let mut table =
            RoutingTable::new(OWN, TableConfig { per_prefix_bucket: 1, ..TableConfig::default() });
        table.on_reached(far(1), now);
        let crowd = at(far(2), [192, 1, 2, 9]);
        assert_eq!(table.on_answer(crowd, now), Admission::Crowded);
        assert!(!table.is_complete_around(&far(9).id.as_key(), now));
        assert!(table.is_complete_around(&far(9).id.as_key(), now + TURNED_AWAY));
        assert_eq!(table.on_reached(crowd, now + MINUTE), Admission::Crowded);
        assert!(!table.is_complete_around(&far(9).id.as_key(), now + TURNED_AWAY));
    }

    #[test]
    fn a_newcomer_waits_while_the_least_recently_seen_is_pinged() {
        let now = Clock::System.now();
        let mut table = full(now);
        let waiting = table.on_answer(far(3), now + MINUTE);
        assert_eq!(waiting, Admission::Waiting { ping: Some(far(1)) });
        assert_eq!(table.on_answer(far(1), now + MINUTE), Admission::Refreshed);
        assert_eq!(table.contacts(), [far(2), far(1)], "the pinged contact answered and stays");
    }

    #[test]
    fn a_contact_that_answered_just_now_is_not_pinged() {
        let now = Clock::System.now();
        assert_eq!(full(now).on_answer(far(3), now), Admission::Waiting { ping: None });
    }

    #[test]
    fn three_suspicions_drop_a_contact_for_the_newcomer_that_waits() {
        let now = Clock::System.now();
        let mut table = full(now);
        table.on_answer(far(3), now + MINUTE);
        let mut fail = |second| table.on_failure(&far(1).id, now + MINUTE + SPACING * second);
        assert_eq!(fail(1), Suspicion::Suspected { ping: Some(far(1)) });
        assert_eq!(fail(2), Suspicion::Suspected { ping: Some(far(1)) });
        assert_eq!(fail(3), Suspicion::Dropped { replacement: Some(far(3)) });
        assert_eq!(fail(4), Suspicion::Unknown);
        assert_eq!(table.contacts(), [far(2)], "the newcomer has yet to be reached");
        assert_eq!(table.on_reached(far(3), now + MINUTE), Admission::Entered);
        assert_eq!(table.contacts(), [far(2), far(3)]);
    }

    #[test]
    fn requests_that_fail_in_one_moment_are_one_failure() {
        let now = Clock::System.now();
        let mut table = full(now);
        let moments = [0, 1, 999, 1_000, 1_999].map(|ms| now + Duration::from_millis(ms));
        for at in moments {
            assert_eq!(table.on_failure(&far(1).id, at), Suspicion::Suspected { ping: None });
        }
        let at = now + Duration::from_secs(2);
        assert_eq!(table.on_failure(&far(1).id, at), Suspicion::Dropped { replacement: None });
    }

    #[test]
    fn an_answer_alone_does_not_enter() {
        let now = Clock::System.now();
        let mut table = small();
        assert_eq!(table.on_answer(far(1), now), Admission::Wanted);
        assert!(table.is_empty());
        assert_eq!(table.on_reached(far(1), now), Admission::Entered);
        assert_eq!(table.on_answer(far(1), now), Admission::Refreshed);
    }

    #[test]
    fn the_place_of_an_unreachable_newcomer_is_offered_to_the_next() {
        let now = Clock::System.now();
        let mut table = full(now);
        table.on_answer(far(3), now);
        table.on_answer(far(4), now);
        for second in 0..2 {
            table.on_failure(&far(1).id, now + SPACING * second);
        }
        assert_eq!(table.on_unreachable(&far(9).id), None, "there is no place yet");
        let dropped = table.on_failure(&far(1).id, now + SPACING * 2);
        assert_eq!(dropped, Suspicion::Dropped { replacement: Some(far(4)) });
        assert_eq!(table.on_unreachable(&far(4).id), Some(far(3)));
        assert_eq!(table.on_unreachable(&far(3).id), None);
    }

    #[test]
    fn an_answer_wipes_out_earlier_suspicions() {
        let now = Clock::System.now();
        let mut table = full(now);
        for _ in 0..10 {
            table.on_failure(&far(1).id, now);
            assert_eq!(table.on_failure(&far(1).id, now + SPACING), Suspicion::Suspected { ping: None });
            table.on_answer(far(1), now);
        }
        assert!(table.contains(&far(1).id));
    }

    #[test]
    fn a_suspect_is_named_only_when_others_are_too_few() {
        let now = Clock::System.now();
        let mut table = full(now);
        let (nearer, farther) = (far(1), far(2));
        table.on_failure(&nearer.id, now);
        let target = nearer.id.as_key();
        assert_eq!(table.closest(&target, 1), [farther]);
        assert_eq!(table.closest(&target, 2), [nearer, farther]);
    }

    #[test]
    fn a_contact_that_is_reached_at_a_new_address_has_moved() {
        let now = Clock::System.now();
        let mut table = full(now);
        let moved = at(far(1), [198, 51, 100, 1]);
        assert_eq!(table.on_answer(moved, now), Admission::Wanted);
        assert_eq!(table.contacts(), [far(1), far(2)], "an answer does not move it");
        assert_eq!(table.on_reached(moved, now), Admission::Refreshed);
        assert_eq!(table.contacts(), [far(2), moved]);
    }

    #[test]
    fn a_contact_that_moves_into_a_crowded_prefix_leaves() {
        let now = Clock::System.now();
        let mut table = RoutingTable::new(OWN, TableConfig::default());
        for n in 1..=3 {
            table.on_reached(far(n), now);
        }
        for n in [1, 2] {
            assert_eq!(table.on_reached(at(far(n), [203, 0, 113, n]), now), Admission::Refreshed);
        }
        assert_eq!(table.on_reached(at(far(3), [203, 0, 113, 3]), now), Admission::Crowded);
        assert!(!table.contains(&far(3).id));
    }

    #[test]
    fn one_prefix_gets_two_places_in_a_bucket_and_three_in_the_table() {
        let now = Clock::System.now();
        let enter = |private_ranges, ip: fn(u8) -> [u8; 4]| {
            let config = TableConfig { private_ranges, ..TableConfig::default() };
            let mut table = RoutingTable::new(OWN, config);
            for n in 1..=10 {
                table.on_reached(at(far(n), ip(n)), now);
                table.on_reached(Contact::new(NodeId::from_bytes([n; 32]), (ip(n), 1).into()), now);
            }
            table.len()
        };
        assert_eq!(enter(PrivateRanges::Counted, |n| [203, 0, 113, n]), 3);
        assert_eq!(enter(PrivateRanges::Exempt, |n| [203, 0, 113, n]), 3);
        assert_eq!(enter(PrivateRanges::Counted, |n| [127, 0, 0, n]), 3);
        assert_eq!(enter(PrivateRanges::Exempt, |n| [127, 0, 0, n]), 20);
    }

    #[test]
    fn one_prefix_cannot_fill_the_waiting_list() {
        let now = Clock::System.now();
        let mut table = RoutingTable::new(OWN, TableConfig { k: 1, ..TableConfig::default() });
        table.on_reached(far(1), now);
        let waits: Vec<_> = (2..=5).map(|n| table.on_answer(at(far(n), [203, 0, 113, n]), now)).collect();
        let waiting = Admission::Waiting { ping: None };
        assert_eq!(waits, [waiting, waiting, Admission::Crowded, Admission::Crowded]);
    }

    #[test]
    fn idle_buckets_are_refreshed_with_a_key_in_their_range() {
        let now = Clock::System.now();
        let mut table = RoutingTable::new(OWN, TableConfig::default());
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        assert_eq!(table.buckets_idle_since(now, MINUTE, &mut rng), []);
        let mut near = [0; 32];
        near[1] = 0b0000_1000;
        table.on_reached(Contact::new(NodeId::from_bytes(near), ([192, 0, 2, 1], 1).into()), now);
        let shared = |keys: Vec<Key>| -> Vec<_> {
            keys.iter().map(|key| key.distance_to(&OWN).leading_zeros()).collect()
        };
        let keys = table.buckets_idle_since(now, MINUTE, &mut rng);
        keys.iter().skip(1).for_each(|key| table.on_lookup(key, now));
        assert_eq!(shared(keys), (0..=12).collect::<Vec<_>>());
        assert_eq!(shared(table.buckets_idle_since(now, MINUTE, &mut rng)), [0]);
        assert_eq!(table.buckets_idle_since(now + MINUTE, MINUTE, &mut rng).len(), 13);
    }

    proptest! {
        #[test]
        fn closest_is_what_sorting_everybody_gives(
            ids in prop::collection::vec((any::<[u8; 32]>(), 0_u8..4), 0..80),
            target in any::<[u8; 32]>(),
            n in 0_usize..30,
        ) {
            let now = Clock::System.now();
            let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
            let mut table = RoutingTable::new(OWN, config);
            for (mut id, zeros) in ids {
                id[..usize::from(zeros)].fill(0);
                table.on_reached(Contact::new(NodeId::from_bytes(id), ([10, 0, 0, 1], 1).into()), now);
            }
            let target = Key::from_bytes(target);
            let mut everybody = table.contacts();
            everybody.sort_by_key(|contact| target.distance_to(&contact.id));
            everybody.truncate(n);
            prop_assert_eq!(table.closest(&target, n), everybody);
        }

        #[test]
        fn no_sequence_of_events_breaks_a_limit(
            events in prop::collection::vec((any::<u8>(), 0_u8..6, 0_u8..4), 1..300),
        ) {
            let now = Clock::System.now();
            let config = TableConfig { k: 4, cache: 3, ..TableConfig::default() };
            let mut table = RoutingTable::new(OWN, config);
            for (at, (n, net, event)) in (0..).zip(events) {
                let contact = Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, net, n], 1).into());
                match event {
                    0 => drop(table.on_answer(contact, now)),
                    1 => drop(table.on_reached(contact, now)),
                    2 => drop(table.on_unreachable(&contact.id)),
                    _ => drop(table.on_failure(&contact.id, now + SPACING * at)),
                }
                let mut by_prefix = BTreeMap::<Prefix, usize>::new();
                for bucket in table.buckets.values() {
                    prop_assert!(bucket.entries().len() <= 4 && bucket.waiting().len() <= 3);
                    for entry in bucket.entries() {
                        let prefix = Prefix::of(entry.contact.addr.ip());
                        prop_assert!(bucket.members_in(prefix) <= 2);
                        *by_prefix.entry(prefix).or_default() += 1;
                    }
                }
                prop_assert!(by_prefix.values().all(|&members| members <= 3));
                prop_assert_eq!(&by_prefix, &table.members_by_prefix);
                prop_assert!(!table.contains(&OWN));
            }
        }
    }
}
