//! Contacts that were dropped because they did not answer.
//!
//! They are tried again now and then, which is how the halves of a network that was parted find each other.
//! And they are counted for a while: a node that has just lost nearly everybody is more likely cut off from
//! its swarm than left alone by it, and what it stores on the rest is not stored by the swarm.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::{Rng, seq::IteratorRandom};

use crate::{Contact, NodeId};

/// Contacts remembered; the one lost first makes room.
const LOST_MAX: usize = 64;

/// How long a lost contact counts. A swarm that really shrank is believed after that.
const MISSED: Duration = Duration::from_secs(600);

/// Lost contacts, and when each was lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost {
    contacts: VecDeque<(Contact, Instant)>,
}

impl Lost {
    /// This contact was dropped.
    pub(crate) fn note(&mut self, contact: Contact, now: Instant) {
        self.forget(&contact.id);
        self.contacts.push_back((contact, now));
        if self.contacts.len() > LOST_MAX {
            self.contacts.pop_front();
        }
    }

    /// This contact is there again; true if it was lost.
    pub(crate) fn forget(&mut self, id: &NodeId) -> bool {
        let before = self.contacts.len();
        self.contacts.retain(|(contact, _)| contact.id != *id);
        self.contacts.len() < before
    }

    /// How many were lost a short while ago.
    pub(crate) fn missed(&self, now: Instant) -> usize {
        self.contacts.iter().filter(|(_, at)| now.saturating_duration_since(*at) < MISSED).count()
    }

    /// All of them.
    pub(crate) fn contacts(&self) -> Vec<Contact> {
        self.contacts.iter().map(|(contact, _)| *contact).collect()
    }

    /// A few of them, to be tried again.
    pub(crate) fn sample(&self, count: usize, rng: &mut impl Rng) -> Vec<Contact> {
        self.contacts.iter().map(|(contact, _)| *contact).sample(rng, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn contact(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), ([10, 0, 0, n], 4_000).into())
    }

    #[test]
    fn a_lost_contact_counts_for_ten_minutes_unless_it_comes_back() {
        let now = Clock::System.now();
        let mut lost = Lost::default();
        (1..=3).for_each(|n| lost.note(contact(n), now));
        lost.note(contact(3), now + Duration::from_secs(1));
        assert!(lost.forget(&contact(1).id) && !lost.forget(&contact(1).id));
        assert_eq!(lost.missed(now + MISSED - Duration::from_millis(1)), 2);
        assert_eq!(lost.missed(now + MISSED), 1, "the third was lost a second later");
    }

    #[test]
    fn the_first_of_too_many_is_forgotten() {
        let now = Clock::System.now();
        let mut lost = Lost::default();
        (0..=64).for_each(|n| lost.note(contact(n), now));
        assert_eq!((lost.missed(now), lost.contacts[0].0), (64, contact(1)));
    }
}
