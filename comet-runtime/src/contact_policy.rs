//! Who an object may contact (paper, section 4.4), and how often.
//!
//! An object may address the replicas of its own key, and a node that contacted it, at the callback
//! key that the contact carried, once per contact. That right is a [`Capabilities`] entry: it may be used at
//! once or kept, it expires, and no other object can use it. An object whose code is signed by a publisher that
//! the node trusts may address any key.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use comet_routing::{Contact, Key, NodeId, clock::WallMs};
use comet_store::Publication;
use serde::{Deserialize, Serialize};

use crate::{Nodes, Op, is_veiled};

/// Objects whose spent allowances a shard remembers after they have left memory.
const ALLOWANCES_MAX: usize = 4_096;

/// How long a kept capability stays valid, in milliseconds.
const CAPABILITY_MS: u64 = 24 * 3_600 * 1_000;

/// How far objects may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The paper's rule.
    #[default]
    Strict,
    /// Any key: for code that a trusted publisher signed, and for private swarms whose operator trusts every
    /// author.
    Open,
}

impl Reach {
    /// How far an object reaches that comes with this publication, where others reach so far and these
    /// publishers, by public key, are trusted.
    pub fn extended_by(self, publication: Option<&Publication>, trusted: &BTreeSet<[u8; 32]>) -> Self {
        match publication {
            Some(publication) if trusted.contains(&publication.public_key) => Self::Open,
            _ => self,
        }
    }
}

/// One-shot rights to put to a callback key at a node. Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    kept: VecDeque<Capability>,
}

/// The right to put once to `key` at `node`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Where the contact came from, and where the put goes: handlers need not know the address.
    pub node: Contact,
    /// The callback key that it carried.
    pub key: Key,
    /// When the right ends, by this replica's wall clock.
    pub expires_ms: WallMs,
}

/// Callers whose rights there is room for, however many each of them would have.
const CALLERS_AT_LEAST: usize = 16;

impl Capabilities {
    /// Restores kept capabilities.
    pub fn restore(kept: impl IntoIterator<Item = Capability>) -> Self {
        Self { kept: kept.into_iter().collect() }
    }

    /// Those that are kept, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Capability> {
        self.kept.iter()
    }

    /// Notes that `node` made contact with a callback key. The oldest right makes room; that of the node itself, if it has
    /// many, so that no single caller pushes out all others.
    pub fn grant(&mut self, node: Contact, key: Key, now: WallMs, kept_max: usize) {
        self.kept.retain(|capability| capability.expires_ms > now);
        while self.kept.len() >= kept_max.max(1) {
            let is_own = |capability: &Capability| capability.node.id == node.id;
            let own = self.kept.iter().filter(|capability| is_own(capability)).count();
            let has_many = own > kept_max / CALLERS_AT_LEAST;
            let oldest = self.kept.iter().position(is_own).filter(|_| has_many).unwrap_or(0);
            self.kept.remove(oldest);
        }
        self.kept.push_back(Capability { node, key, expires_ms: now.saturating_add(CAPABILITY_MS) });
    }

    /// The address of the last contact with this node that left a right.
    pub fn address_of(&self, node: &NodeId) -> Option<SocketAddr> {
        let contacts = self.kept.iter().rev().map(|capability| capability.node);
        contacts
            .filter(|contact| contact.id == *node && !is_veiled(contact))
            .map(|contact| contact.addr)
            .next()
    }

    /// Uses one right up; false if there is none.
    fn take(&mut self, node: NodeId, key: Key, now: WallMs) -> bool {
        let found = self.kept.iter().position(|capability| {
            capability.node.id == node && capability.key == key && capability.expires_ms > now
        });
        found.and_then(|at| self.kept.remove(at)).is_some()
    }
}

/// Says whether an object with this key may send this request, using up a capability where that is what
/// permits it.
pub fn permit(
    op: &Op,
    own: &Key,
    reach: Reach,
    capabilities: &mut Capabilities,
    now: WallMs,
) -> Result<(), String> {
    let own_replicas = op.key().is_none_or(|key| key == own);
    if own_replicas || reach == Reach::Open {
        return Ok(());
    }
    if let Op::Put { key, nodes: Nodes::These(nodes), .. } = op
        && let [node] = nodes.as_slice()
        && capabilities.take(node.id, *key, now)
    {
        return Ok(());
    }
    Err("an object whose code is not signed by a publisher that this node trusts may contact only the replicas of \
         its own key, and a caller once at the callback key that its contact carried"
        .into())
}

/// A bucket of tokens, messages or bytes, that refills evenly over an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageBucket {
    tokens: f64,
    filled_ms: WallMs,
}

impl MessageBucket {
    /// A full bucket.
    pub fn full(messages: u32, now: WallMs) -> Self {
        Self { tokens: f64::from(messages), filled_ms: now }
    }

    /// Takes one token; false if there is none.
    pub fn take(&mut self, messages: u32, interval_ms: u64, now: WallMs) -> bool {
        let any = self.level(messages, interval_ms, now) > 0;
        if any {
            self.tokens -= 1.0;
        }
        any
    }

    /// How many whole tokens are there.
    fn level(&mut self, max: u32, interval_ms: u64, now: WallMs) -> usize {
        let passed = now.saturating_sub(self.filled_ms) as f64 / interval_ms.max(1) as f64;
        self.tokens = (self.tokens + passed * f64::from(max)).min(f64::from(max));
        self.filled_ms = self.filled_ms.max(now);
        self.tokens as usize
    }

    /// When it is full again, by the clock that it was filled by.
    fn full_ms(&self, messages: u32, interval_ms: u64) -> WallMs {
        let missing = f64::from(messages) - self.tokens;
        let wait_ms = missing.max(0.0) * interval_ms as f64 / f64::from(messages.max(1));
        self.filled_ms.saturating_add(wait_ms.ceil() as u64)
    }
}

/// What may be sent in one timer interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostageLimits {
    /// Messages, one for each node that is asked.
    pub messages: u32,
    /// Their bytes.
    pub bytes: u32,
}

/// What an object may still send in its timer interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Postage {
    messages: MessageBucket,
    bytes: MessageBucket,
}

impl Postage {
    /// That of an object that has sent nothing.
    pub fn full(limits: PostageLimits, now: WallMs) -> Self {
        Self {
            messages: MessageBucket::full(limits.messages, now),
            bytes: MessageBucket::full(limits.bytes, now),
        }
    }

    /// How many of so many nodes it can ask with frames of so many bytes.
    pub fn affords(
        &mut self,
        nodes: usize,
        frame_bytes: usize,
        limits: PostageLimits,
        interval_ms: u64,
        now: WallMs,
    ) -> usize {
        let bytes = self.bytes.level(limits.bytes, interval_ms, now);
        let frames = bytes.checked_div(frame_bytes).unwrap_or(usize::MAX);
        nodes.min(frames).min(self.messages.level(limits.messages, interval_ms, now))
    }

    /// Pays for as many nodes as it [affords](Self::affords).
    pub fn pay(&mut self, nodes: usize, frame_bytes: usize) {
        self.messages.tokens -= nodes as f64;
        self.bytes.tokens -= nodes as f64 * frame_bytes as f64;
    }

    fn full_ms(&self, limits: PostageLimits, interval_ms: u64) -> WallMs {
        let messages = self.messages.full_ms(limits.messages, interval_ms);
        messages.max(self.bytes.full_ms(limits.bytes, interval_ms))
    }
}

/// What one object may still send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// To the replicas of its own key.
    pub own: Postage,
    /// To anybody else.
    pub others: Postage,
}

impl Allowance {
    /// That of an object that has sent nothing.
    pub fn full(own: PostageLimits, others: PostageLimits, now: WallMs) -> Self {
        Self { own: Postage::full(own, now), others: Postage::full(others, now) }
    }

    /// When nothing of it is spent any more.
    pub fn full_ms(&self, own: PostageLimits, others: PostageLimits, interval_ms: u64) -> WallMs {
        self.own.full_ms(own, interval_ms).max(self.others.full_ms(others, interval_ms))
    }
}

/// What objects had spent when they left memory: leaving and coming back does not refill an allowance.
#[derive(Debug, Default)]
pub struct Allowances {
    spent: BTreeMap<Key, (WallMs, Allowance)>,
}

impl Allowances {
    /// Remembers an allowance that is full again at `full_ms`. Where there is no room, the one that is full
    /// first is forgotten.
    pub fn keep(&mut self, key: Key, allowance: Allowance, full_ms: WallMs, now: WallMs) {
        if full_ms <= now {
            return;
        }
        if self.spent.len() >= ALLOWANCES_MAX {
            let first = self.spent.iter().min_by_key(|(_, (full_ms, _))| *full_ms).map(|(key, _)| *key);
            first.and_then(|first| self.spent.remove(&first));
        }
        self.spent.insert(key, (full_ms, allowance));
    }

    /// What the object has left, if it was remembered.
    pub fn take(&mut self, key: &Key) -> Option<Allowance> {
        self.spent.remove(key).map(|(_, allowance)| allowance)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::Value;

    fn node(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), (Ipv4Addr::LOCALHOST, 7400 + u16::from(n)).into())
    }

    fn put_to(key: Key, to: u8) -> Op {
        Op::Put { key, data: Value::Nil, nodes: Nodes::These(vec![node(to)]) }
    }

    #[test]
    fn only_the_publication_of_a_trusted_publisher_extends_the_reach() {
        let by = |n| Publication { public_key: [n; 32], signature: [0; 64] };
        let trusted = BTreeSet::from([[1; 32], [2; 32]]);
        let reach =
            |publication: Option<Publication>| Reach::Strict.extended_by(publication.as_ref(), &trusted);
        assert_eq!(reach(Some(by(2))), Reach::Open);
        assert_eq!(reach(Some(by(3))), Reach::Strict);
        assert_eq!(reach(None), Reach::Strict);
        assert_eq!(Reach::Open.extended_by(None, &BTreeSet::new()), Reach::Open);
    }

    #[test]
    fn a_capability_works_once_for_its_node_and_key() {
        let (own, callback) = (Key::of("own"), Key::of("callback"));
        let mut kept = Capabilities::default();
        kept.grant(node(1), callback, 0, 8);
        let mut ask = |op: &Op, now| permit(op, &own, Reach::Strict, &mut kept, now).is_ok();
        assert!(!ask(&put_to(callback, 2), 1), "another node");
        assert!(!ask(&put_to(Key::of("other"), 1), 1), "another key");
        assert!(ask(&put_to(callback, 1), 1));
        assert!(!ask(&put_to(callback, 1), 1), "it is used up");
    }

    #[test]
    fn one_node_however_often_it_calls_leaves_others_their_rights() {
        let mut kept = Capabilities::default();
        (0..20).for_each(|n| kept.grant(node(n), Key::of("callback"), 0, 256));
        (0..1_000_u32).for_each(|n| kept.grant(node(99), Key::of(n.to_string()), 1, 256));
        assert_eq!(kept.iter().len(), 256);
        assert!((0..20).all(|n| kept.address_of(&node(n).id).is_some()));
        assert!(kept.take(node(99).id, Key::of("999"), 2), "its own newest is there as well");
    }

    #[test]
    fn a_capability_expires_and_the_oldest_makes_room() {
        let own = Key::of("own");
        let mut kept = Capabilities::default();
        kept.grant(node(1), Key::of("a"), 0, 2);
        assert!(
            permit(&put_to(Key::of("a"), 1), &own, Reach::Strict, &mut kept.clone(), CAPABILITY_MS - 1)
                .is_ok()
        );
        assert!(
            permit(&put_to(Key::of("a"), 1), &own, Reach::Strict, &mut kept.clone(), CAPABILITY_MS).is_err()
        );
        kept.grant(node(1), Key::of("b"), 1, 2);
        kept.grant(node(1), Key::of("c"), 2, 2);
        let keys: Vec<_> = kept.iter().map(|capability| capability.key).collect();
        assert_eq!(keys, [Key::of("b"), Key::of("c")]);
    }

    #[test]
    fn the_own_key_is_always_allowed_and_strangers_only_where_the_operator_says_so() {
        let own = Key::of("own");
        let mut none = Capabilities::default();
        let get = |key| Op::Get { key, nodes: Nodes::Closest, payload: None };
        assert!(permit(&get(own), &own, Reach::Strict, &mut none, 0).is_ok());
        assert!(permit(&get(Key::of("b")), &own, Reach::Strict, &mut none, 0).is_err());
        assert!(permit(&Op::Lookup { key: Key::of("b") }, &own, Reach::Strict, &mut none, 0).is_err());
        assert!(permit(&get(Key::of("b")), &own, Reach::Open, &mut none, 0).is_ok());
    }

    #[test]
    fn a_bucket_refills_evenly_and_never_overflows() {
        let mut bucket = MessageBucket::full(20, 0);
        let spent = (0..100).filter(|_| bucket.take(20, 600_000, 0)).count();
        assert_eq!(spent, 20);
        assert!(!bucket.take(20, 600_000, 29_000));
        assert!(bucket.take(20, 600_000, 30_000), "one every thirty seconds");
        let later = (0..100).filter(|_| bucket.take(20, 600_000, u64::MAX)).count();
        assert_eq!(later, 20);
        assert!(!bucket.take(20, 600_000, 0), "a clock that steps back gives nothing");
    }

    #[test]
    fn postage_is_for_messages_and_their_bytes() {
        let limits = PostageLimits { messages: 20, bytes: 1_000 };
        let mut postage = Postage::full(limits, 0);
        assert_eq!(postage.affords(30, 10, limits, 600_000, 0), 20, "as many as there are messages");
        assert_eq!(postage.affords(30, 300, limits, 600_000, 0), 3, "as many as there are bytes for");
        postage.pay(3, 300);
        assert_eq!(
            postage.affords(1, 300, limits, 600_000, 60_000),
            0,
            "a tenth of the interval brings a hundred"
        );
        assert_eq!(postage.affords(1, 300, limits, 600_000, 120_000), 1);
        assert_eq!(postage.affords(1, 1_001, limits, 600_000, u64::MAX), 0, "larger than all of it");
    }

    #[test]
    fn a_spent_allowance_is_remembered_until_it_is_full_again() {
        let key = |n: usize| Key::of(n.to_string());
        let limits = PostageLimits { messages: 20, bytes: 20_000 };
        let mut allowance = Allowance::full(limits, limits, 0);
        assert_eq!(allowance.full_ms(limits, limits, 600_000), 0);
        assert_eq!(allowance.others.affords(1, 10, limits, 600_000, 0), 1);
        allowance.others.pay(1, 10);
        assert_eq!(allowance.full_ms(limits, limits, 600_000), 30_000, "one of twenty");
        let mut kept = Allowances::default();
        kept.keep(key(0), allowance, 30_000, 30_000);
        assert_eq!(kept.take(&key(0)), None, "there is nothing to remember");
        for n in 0..=ALLOWANCES_MAX {
            kept.keep(key(n), allowance, 30_000 + n as u64, 0);
        }
        assert_eq!(kept.take(&key(0)), None, "it made room");
        assert_eq!(kept.take(&key(1)), Some(allowance));
        assert_eq!(kept.take(&key(1)), None);
    }
}
