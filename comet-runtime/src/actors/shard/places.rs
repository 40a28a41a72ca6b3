//! Who has a place in the sandbox of a shard, and who gives it up when there is none left.
//!
//! An object holds its place on behalf of somebody: its owner or, if it has none, the network that it was put or
//! woken from. When the places are used up, the object that was visited the longest ago leaves; nobody's
//! objects take more than a quarter of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use comet_routing::{Key, Prefix};

/// The part of all places that the objects of one holder may take: one in so many.
pub const PARTS: usize = 4;

/// Objects that may be on their way out, and so the places that may be taken beyond those that there are.
const LEAVING_MAX: usize = 64;

/// On whose behalf an object has its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// Its owner, by public key.
    Owner([u8; 32]),
    /// The network that it was put or woken from.
    Network(Prefix),
    /// The timers of objects that nobody else woke.
    Timers,
    /// The clients of this node, which may take all places.
    Node,
}

/// Whether there is a place for one more object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is.
    Free,
    /// There is, and this object is to give up its own for it.
    Instead(Key),
    /// There is none.
    Full,
}

/// The places of one shard.
#[derive(Debug)]
pub(crate) struct Places {
    places_max: usize,
    parts: usize,
    held: BTreeMap<Key, (Holder, Instant)>,
    /// The same, longest unvisited first, in all and by holder. Those who are leaving are not among them.
    by_visit: BTreeSet<(Instant, Key)>,
    by_holder: BTreeMap<Holder, BTreeSet<(Instant, Key)>>,
    leaving: BTreeSet<Key>,
}

impl Places {
    /// So many places, none of them taken, of which one holder may take one part of so many.
    pub(crate) fn new(places_max: usize, parts: usize) -> Self {
        Self {
            places_max,
            parts,
            held: BTreeMap::new(),
            by_visit: BTreeSet::new(),
            by_holder: BTreeMap::new(),
            leaving: BTreeSet::new(),
        }
    }

    /// Looks for a place. For a holder that has its part already, one of its own objects gives way.
    pub(crate) fn find(&mut self, holder: Holder) -> Room {
        let part = self.places_max.div_ceil(self.parts.max(1));
        let own = self.by_holder.get(&holder).filter(|own| own.len() >= part && holder != Holder::Node);
        let from = match own {
            Some(own) => own,
            None if self.by_visit.len() < self.places_max => return Room::Free,
            None => &self.by_visit,
        };
        let full = self.leaving.len() >= LEAVING_MAX || self.held.len() >= self.places_max + LEAVING_MAX;
        match from.first().copied() {
            Some((_, victim)) if !full => {
                self.unlist(&victim);
                self.leaving.insert(victim);
                Room::Instead(victim)
            }
            _ => Room::Full,
        }
    }

    /// An object takes a place.
    pub(crate) fn enter(&mut self, key: Key, holder: Holder, now: Instant) {
        self.leave(&key);
        self.held.insert(key, (holder, now));
        self.list(key, holder, now);
    }

    /// Somebody visits an object.
    pub(crate) fn visited(&mut self, key: &Key, now: Instant) {
        let Some((holder, _)) = self.held.get(key).copied() else { return };
        self.enter(*key, holder, now);
    }

    /// An object has left.
    pub(crate) fn leave(&mut self, key: &Key) {
        self.unlist(key);
        self.held.remove(key);
        self.leaving.remove(key);
    }

    /// Those who were to leave and have not, since they are busy, keep their places.
    pub(crate) fn keep_those_who_stay(&mut self, now: Instant) {
        for key in std::mem::take(&mut self.leaving) {
            self.visited(&key, now);
        }
    }

    fn list(&mut self, key: Key, holder: Holder, at: Instant) {
        self.by_visit.insert((at, key));
        self.by_holder.entry(holder).or_default().insert((at, key));
    }

    fn unlist(&mut self, key: &Key) {
        let Some((holder, at)) = self.held.get(key) else { return };
        self.by_visit.remove(&(*at, *key));
        if let Some(own) = self.by_holder.get_mut(holder) {
            own.remove(&(*at, *key));
            if own.is_empty() {
                self.by_holder.remove(holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use comet_routing::clock::Clock;

    use super::*;

    fn key(n: u64) -> Key {
        Key::of(n.to_string())
    }

    fn network(n: u8) -> Holder {
        Holder::Network(Prefix::of([192, 0, n, 1].into()))
    }

    /// An object comes at second `n`, and whoever is to leave leaves.
    fn come(places: &mut Places, n: u64, holder: Holder, start: Instant) -> Room {
        let room = places.find(holder);
        if let Room::Instead(victim) = room {
            places.leave(&victim);
        }
        if room != Room::Full {
            places.enter(key(n), holder, start + Duration::from_secs(n));
        }
        room
    }

    /// How many of 50 objects that others visit keep their places while a network has 1,000 of its own woken.
    fn survivors(parts: usize) -> usize {
        let start = Clock::System.now();
        let mut places = Places::new(100, parts);
        for n in 0..50 {
            assert_eq!(come(&mut places, n, network(n as u8), start), Room::Free);
        }
        for n in 1_000..2_000 {
            come(&mut places, n, network(200), start);
        }
        (0..50).filter(|n| places.held.contains_key(&key(*n))).count()
    }

    #[test]
    fn one_network_takes_a_quarter_of_the_places_and_then_its_own_give_way() {
        assert_eq!(survivors(PARTS), 50);
        assert_eq!(survivors(1), 0, "the control: it may take them all");
    }

    #[test]
    fn when_all_are_taken_the_longest_unvisited_leaves() {
        let start = Clock::System.now();
        let mut places = Places::new(4, PARTS);
        for n in 0..4 {
            assert_eq!(come(&mut places, n, network(n as u8), start), Room::Free);
        }
        places.visited(&key(0), start + Duration::from_secs(9));
        assert_eq!(come(&mut places, 10, network(10), start), Room::Instead(key(1)));
        assert_eq!(come(&mut places, 11, Holder::Node, start), Room::Instead(key(2)));
        assert_eq!(come(&mut places, 12, Holder::Node, start), Room::Instead(key(3)));
        assert_eq!(places.held.len(), 4);
    }

    #[test]
    fn who_is_busy_keeps_its_place_and_no_more_than_a_few_are_taken_beyond() {
        let start = Clock::System.now();
        let mut places = Places::new(8, PARTS);
        let mut taken = 0;
        for n in 0..1_000 {
            let room = places.find(Holder::Node);
            if room != Room::Full {
                places.enter(key(n), Holder::Node, start);
                taken += 1;
            }
            if n % 100 == 99 {
                places.keep_those_who_stay(start);
            }
        }
        assert_eq!((taken, places.held.len()), (8 + LEAVING_MAX, 8 + LEAVING_MAX));
        assert_eq!(places.by_visit.len(), 8 + LEAVING_MAX);
        (0..1_000).for_each(|n| places.leave(&key(n)));
        assert!(places.by_visit.is_empty() && places.by_holder.is_empty());
    }
}
