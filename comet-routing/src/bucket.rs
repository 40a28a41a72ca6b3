//! One k-bucket: the contacts that share a prefix of one length with us, and those that wait for a place.
//!
//! Both lists run from the least to the most recently seen (Maymounkov and Mazières, section 2.2). A bucket
//! knows nothing of the table around it: limits that span buckets are passed in as a predicate.

use std::time::Instant;

use crate::{Contact, NodeId, Prefix};

/// A contact that has answered us, and how it has behaved since.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) contact: Contact,
    /// When it last answered.
    pub(crate) seen: Instant,
    /// Failures in a row since then: requests that it left unanswered, those of one moment counted once.
    pub(crate) suspicions: u32,
    /// When the last of them was counted.
    pub(crate) suspected: Option<Instant>,
}

impl Entry {
    pub(crate) fn new(contact: Contact, seen: Instant) -> Self {
        Self { contact, seen, suspicions: 0, suspected: None }
    }

    fn is_in(&self, prefix: Prefix) -> bool {
        Prefix::of(self.contact.addr.ip()) == prefix
    }
}

/// The contacts of one shared-prefix length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bucket {
    /// Members, which can be reached from outside, least recently seen first.
    entries: Vec<Entry>,
    /// Newcomers that answered us and wait for a member to go, least recently seen first.
    waiting: Vec<Entry>,
    /// When a lookup last went into this bucket's range.
    pub(crate) looked_up: Option<Instant>,
    /// When somebody last got none of the places that were left, for want of other prefixes.
    pub(crate) turned_away: Option<Instant>,
}

impl Bucket {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn waiting(&self) -> &[Entry] {
        &self.waiting
    }

    pub(crate) fn entry_mut(&mut self, id: &NodeId) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.contact.id == *id)
    }

    /// Members whose address is in `prefix`.
    pub(crate) fn members_in(&self, prefix: Prefix) -> usize {
        self.entries.iter().filter(|entry| entry.is_in(prefix)).count()
    }

    /// Waiting newcomers whose address is in `prefix`, `except` the one with this id.
    pub(crate) fn waiting_in(&self, prefix: Prefix, except: &NodeId) -> usize {
        self.waiting.iter().filter(|entry| entry.is_in(prefix) && entry.contact.id != *except).count()
    }

    /// Adds a member as the most recently seen; the caller has checked that there is a place.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Takes a member out.
    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.contact.id == *id)?;
        Some(self.entries.remove(at))
    }

    /// Lets a newcomer wait as the most recently seen; the one that has waited longest makes room.
    pub(crate) fn wait(&mut self, entry: Entry, places: usize) {
        self.stop_waiting(&entry.contact.id);
        if places == 0 {
            return;
        }
        if self.waiting.len() >= places {
            self.waiting.remove(0);
        }
        self.waiting.push(entry);
    }

    /// Takes a newcomer out of the waiting list.
    pub(crate) fn stop_waiting(&mut self, id: &NodeId) -> Option<Entry> {
        let at = self.waiting.iter().position(|entry| entry.contact.id == *id)?;
        Some(self.waiting.remove(at))
    }

    /// The most recently seen newcomer that `fits`: it is the likeliest to be alive still.
    pub(crate) fn next_waiting(&self, fits: impl Fn(&Contact) -> bool) -> Option<Contact> {
        self.waiting.iter().rev().map(|entry| entry.contact).find(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn contact(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, n, 1], 4_000).into())
    }

    #[test]
    fn the_newcomer_that_waited_longest_makes_room() {
        let now = Clock::System.now();
        let mut bucket = Bucket::default();
        for n in 1..=3 {
            bucket.wait(Entry::new(contact(n), now), 2);
        }
        let ids: Vec<_> = bucket.waiting().iter().map(|entry| entry.contact).collect();
        assert_eq!(ids, [contact(2), contact(3)]);
    }

    #[test]
    fn a_newcomer_seen_again_waits_once_and_as_the_latest() {
        let now = Clock::System.now();
        let mut bucket = Bucket::default();
        for n in [1, 2, 1] {
            bucket.wait(Entry::new(contact(n), now), 5);
        }
        let ids: Vec<_> = bucket.waiting().iter().map(|entry| entry.contact).collect();
        assert_eq!(ids, [contact(2), contact(1)]);
        assert_eq!(bucket.next_waiting(|_| true), Some(contact(1)));
    }

    #[test]
    fn without_places_nobody_waits() {
        let mut bucket = Bucket::default();
        bucket.wait(Entry::new(contact(1), Clock::System.now()), 0);
        assert!(bucket.waiting().is_empty());
    }
}
