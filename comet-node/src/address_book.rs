//! The contacts that a node remembers from one run to the next.
//!
//! Whoever answers a starting node first could fill its routing table, and what a node saves is what its table
//! holds. So saving adds to what is remembered instead of replacing it: contacts that are known now have places of
//! their own, and those of earlier runs keep theirs. Among the earlier ones those stay that have been remembered for
//! longest, since whoever fills a table once fills it again with others. A contact is forgotten when it answered at
//! none of several starts.

use std::collections::BTreeMap;

use bytes::Bytes;
use comet_routing::{Contact, Diversity};
use comet_runtime::{Bounds, Value};
use rand::{Rng, seq::SliceRandom};

/// Contacts that are remembered and read back at most.
const REMEMBERED_MAX: usize = 200;
/// Contacts of earlier runs for which whoever is known now makes no room.
const EARLIER_MAX: usize = 120;
/// Starts at which a contact may be silent while others answer.
const SILENCES_MAX: u8 = 4;

/// Contacts of this run and of earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBook {
    /// In the order in which they were first remembered.
    entries: Vec<Entry>,
    earlier_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    contact: Contact,
    /// Starts in a row at which it was greeted in vain.
    silences: u8,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self { entries: Vec::new(), earlier_max: EARLIER_MAX }
    }
}

impl AddressBook {
    /// The same book, in which those who are known now replace everybody else.
    #[cfg(test)]
    pub(crate) fn replacing(self) -> Self {
        Self { earlier_max: 0, ..self }
    }

    /// Reads a book back from the store; what is damaged is no reason not to start.
    pub fn decode(bytes: &[u8]) -> Self {
        let bounds = Bounds { bytes: 64 * 1024, depth: 2 };
        let Ok(Value::List(items)) = Value::decode(bytes, bounds) else { return Self::default() };
        let entries = items.into_iter().filter_map(Entry::read).take(REMEMBERED_MAX).collect();
        Self { entries, ..Self::default() }
    }

    /// The book as the store keeps it: a list of contacts, or of pairs of a contact and its silences.
    pub fn encode(&self) -> Bytes {
        Value::List(self.entries.iter().map(Entry::write).collect()).encode()
    }

    /// True if nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Remembers the contacts that are known now, besides those of earlier runs.
    pub fn note_known(&mut self, mut known: Vec<Contact>, rng: &mut impl Rng) {
        let now: BTreeMap<_, _> = known.iter().map(|contact| (contact.id, *contact)).collect();
        let is_earlier = |entry: &&Entry| !now.contains_key(&entry.contact.id);
        let mut places_earlier = self.entries.iter().filter(is_earlier).count().min(self.earlier_max);
        let mut places_known = REMEMBERED_MAX - places_earlier;
        let mut entries = Vec::new();
        for entry in &self.entries {
            let (entry, places) = match now.get(&entry.contact.id) {
                Some(contact) => (Entry::heard(*contact), &mut places_known),
                None => (*entry, &mut places_earlier),
            };
            if *places > 0 {
                *places -= 1;
                entries.push(entry);
            }
        }
        known.shuffle(rng);
        known.retain(|contact| self.entries.iter().all(|entry| entry.contact.id != contact.id));
        entries.extend(known.into_iter().take(places_known).map(Entry::heard));
        self.entries = entries;
    }

    /// Whom to greet at a start: up to `count` contacts at random, of as many networks as there are, and rather those
    /// that were silent seldom. Nobody of `greeted`.
    pub fn pick(
        &self,
        count: usize,
        greeted: &[Contact],
        diversity: Diversity,
        rng: &mut impl Rng,
    ) -> Vec<Contact> {
        let mut left: Vec<_> =
            self.entries.iter().filter(|entry| !greeted.contains(&entry.contact)).collect();
        left.shuffle(rng);
        left.sort_by_key(|entry| entry.silences);
        let left: Vec<_> = left.into_iter().map(|entry| entry.contact).collect();
        let one_each = Diversity { per_prefix: 1, ..diversity };
        let mut picked = one_each.nearest(count, left.iter().copied());
        let rest: Vec<_> = left.into_iter().filter(|contact| !picked.contains(contact)).collect();
        picked.extend(rest.into_iter().take(count - picked.len()));
        picked
    }

    /// This contact was greeted at a start at which others answered, and did not.
    pub fn on_silence(&mut self, contact: &Contact) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.contact == *contact) {
            entry.silences += 1;
        }
        self.entries.retain(|entry| entry.silences <= SILENCES_MAX);
    }
}

impl Entry {
    const fn heard(contact: Contact) -> Self {
        Self { contact, silences: 0 }
    }

    fn read(item: Value) -> Option<Self> {
        match item {
            Value::Node(contact) => Some(Self::heard(contact)),
            Value::List(pair) => match pair.as_slice() {
                [Value::Node(contact), Value::Int(silences)] => {
                    Some(Self { contact: *contact, silences: u8::try_from(*silences).ok()? })
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn write(&self) -> Value {
        let node = Value::Node(self.contact);
        if self.silences == 0 { node } else { Value::List(vec![node, Value::Int(self.silences.into())]) }
    }
}

#[cfg(test)]
mod tests {
    use comet_routing::NodeId;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    fn honest(n: u8) -> Contact {
        Contact::new(NodeId::from_bytes([n; 32]), ([198, 18, n, 1], 7400).into())
    }

    /// A node that an attacker runs in the `n`-th of many networks, under an id of its own in each run.
    fn hostile(n: u8, run: u8) -> Contact {
        let mut id = [n; 32];
        (id[0], id[1]) = (0xff, run);
        Contact::new(NodeId::from_bytes(id), ([203, n, run, 1], 7400).into())
    }

    fn book_of(contacts: impl IntoIterator<Item = Contact>) -> AddressBook {
        let mut book = AddressBook::default();
        book.note_known(contacts.into_iter().collect(), &mut ChaCha12Rng::seed_from_u64(1));
        book
    }

    fn honest_in(contacts: &[Contact]) -> usize {
        contacts.iter().filter(|contact| contact.id.as_bytes()[0] != 0xff).count()
    }

    /// Honest contacts that are left to a node with this book after ten runs in which its table held nobody but an
    /// attacker's nodes, and those among whom it greets at the next start.
    fn besieged(mut book: AddressBook) -> (usize, usize) {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        for run in 0..10 {
            book = AddressBook { earlier_max: book.earlier_max, ..AddressBook::decode(&book.encode()) };
            book.note_known((0..=255).map(|n| hostile(n, run)).collect(), &mut rng);
        }
        let contacts: Vec<_> = book.entries.iter().map(|entry| entry.contact).collect();
        (honest_in(&contacts), honest_in(&book.pick(16, &[], Diversity::default(), &mut rng)))
    }

    #[test]
    fn a_table_full_of_an_attackers_nodes_displaces_no_old_contacts() {
        let book = book_of((0..150).map(honest));
        let (kept, greeted) = besieged(book.clone());
        assert_eq!(kept, 120);
        assert!(greeted >= 3, "{greeted} of 16");
        assert_eq!(besieged(book.replacing()), (0, 0), "the control: what is saved replaces what was saved");
    }

    #[test]
    fn a_contact_that_is_silent_at_five_starts_is_forgotten_unless_it_is_known_again() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let mut book = book_of([honest(1), honest(2)]);
        for _ in 0..4 {
            book.on_silence(&honest(1));
            book.on_silence(&honest(2));
            book = AddressBook::decode(&book.encode());
        }
        book.note_known(vec![honest(2)], &mut rng);
        book.on_silence(&honest(1));
        book.on_silence(&honest(2));
        assert_eq!(book.pick(9, &[], Diversity::default(), &mut rng), [honest(2)]);
    }

    #[test]
    fn a_start_greets_nodes_of_many_networks_first_and_those_that_were_silent_last() {
        let mut rng = ChaCha12Rng::seed_from_u64(4);
        let crowd = (1..=100).map(|n| Contact::new(hostile(n, 0).id, ([203, 0, 113, n], 7400).into()));
        let mut book = book_of(crowd.chain((0..8).map(honest)));
        book.on_silence(&honest(3));
        let diversity = Diversity::default();
        let picked = book.pick(9, &[], diversity, &mut rng);
        assert_eq!((picked.len(), honest_in(&picked)), (9, 8));
        assert_eq!(picked[8], honest(3));
        assert_eq!(honest_in(&book.pick(20, &picked, diversity, &mut rng)), 0, "others the next time");
        let other = book.pick(9, &[], diversity, &mut rng);
        assert_ne!(picked, other, "not the same each time");
    }

    #[test]
    fn a_contact_that_moved_is_remembered_where_it_is() {
        let mut book = book_of([honest(1)]);
        let moved = Contact::new(honest(1).id, honest(2).addr);
        book.note_known(vec![moved], &mut ChaCha12Rng::seed_from_u64(5));
        assert_eq!(book, book_of([moved]));
    }

    #[test]
    fn damaged_contacts_are_no_contacts() {
        assert!(AddressBook::decode(b"rubbish").is_empty());
        let nonsense = Value::List(vec![Value::Int(1), Value::List(vec![]), Value::Node(honest(1))]);
        assert_eq!(AddressBook::decode(&nonsense.encode()), book_of([honest(1)]), "the rest is read");
    }

    proptest! {
        #[test]
        fn a_book_has_its_bounds_nobody_twice_and_reads_back_as_it_was(
            runs in prop::collection::vec(prop::collection::vec(any::<(u8, u8)>(), 0..300), 1..5), seed: u64,
        ) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut book = AddressBook::default();
            for known in runs {
                let known: BTreeMap<_, _> =
                    known.into_iter().map(|(n, run)| hostile(n, run)).map(|contact| (contact.id, contact)).collect();
                let few = known.len() <= REMEMBERED_MAX - EARLIER_MAX;
                book.note_known(known.values().copied().collect(), &mut rng);
                prop_assert!(book.len() <= REMEMBERED_MAX);
                let mut ids: Vec<_> = book.entries.iter().map(|entry| entry.contact.id).collect();
                prop_assert!(!few || known.keys().all(|id| ids.contains(id)), "who is known now is remembered");
                ids.sort_unstable();
                ids.dedup();
                prop_assert_eq!(ids.len(), book.len());
                prop_assert_eq!(&AddressBook::decode(&book.encode()), &book);
            }
        }
    }
}
