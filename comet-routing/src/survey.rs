//! How a lookup stands: what it knows of each node, and what each of its paths sees of them.

use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

use crate::{Contact, Distance, Diversity, Prefix};

/// The most disjoint paths that a lookup can have.
pub const PATHS_MAX: usize = 8;

/// What a lookup knows of one node.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) contact: Contact,
    /// Another address of this node, named by a path that had not named the first.
    spare: Option<SocketAddr>,
    pub(crate) state: State,
    /// The paths whose nodes named it.
    pub(crate) heard_by: PathSet,
    /// True if it is asked whatever closer nodes are known.
    pub(crate) anchor: bool,
    /// How many nodes there are from a seed to this one, both counted.
    pub(crate) hops: u32,
}

/// How far a lookup has got with a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Known by name only.
    Unasked,
    /// Its request is in flight.
    Asked { path: usize, suspect_at: Instant, lost_at: Instant },
    /// It did not answer in time; an answer still counts.
    Suspect { lost_at: Instant },
    /// It will not answer.
    Failed,
    /// It answered.
    Answered,
}

/// A set of paths, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathSet(u8);

impl PathSet {
    pub(crate) const fn only(path: usize) -> Self {
        Self(1 << path)
    }

    const fn first(paths: usize) -> Self {
        Self(u8::MAX >> (PATHS_MAX - paths))
    }

    const fn with(self, path: usize) -> Self {
        Self(self.0 | 1 << path)
    }

    const fn without(self, path: usize) -> Self {
        Self(self.0 & !(1 << path))
    }

    const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn has(self, path: usize) -> bool {
        self.0 & (1 << path) != 0
    }

    /// The paths in ascending order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let path = rest.trailing_zeros();
            (rest != 0).then(|| {
                rest &= rest - 1;
                path as usize
            })
        })
    }
}

impl Peer {
    /// A node that `path` has just named.
    pub(crate) const fn new(contact: Contact, path: usize, hops: u32) -> Self {
        let (heard_by, state) = (PathSet::only(path), State::Unasked);
        Self { contact, spare: None, state, heard_by, anchor: false, hops }
    }

    /// `path` named it at this address.
    pub(crate) fn heard_again(&mut self, addr: SocketAddr, path: usize) {
        // A liar could name an honest node at a wrong address. One other address is kept, but only from a
        // path that is not the first one's.
        if addr != self.contact.addr && !self.heard_by.has(path) && self.spare.is_none() {
            self.spare = Some(addr);
            if matches!(self.state, State::Suspect { .. } | State::Failed) {
                self.try_spare();
            }
        }
        self.heard_by = self.heard_by.with(path);
    }

    /// Its time is up, if it was asked.
    pub(crate) fn suspect(&mut self) {
        if let State::Asked { lost_at, .. } = self.state {
            self.state = State::Suspect { lost_at };
            self.try_spare();
        }
    }

    /// Makes it unasked again at its other address, if it has one.
    pub(crate) fn try_spare(&mut self) {
        if let Some(addr) = self.spare.take() {
            self.contact.addr = addr;
            self.state = State::Unasked;
        }
    }
}

/// What each path of a lookup is after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The closest nodes that it cares for.
    pub(crate) k: usize,
    /// How many of them need not answer.
    pub(crate) excused: usize,
    /// How many of them may be in one network.
    pub(crate) diversity: Diversity,
}

/// How a lookup stands, from one pass over its peers.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    paths: [PathView; PATHS_MAX],
    /// Requests that are neither answered nor overdue.
    pub(crate) in_flight: usize,
    /// Nodes that were asked and did not answer, or not yet.
    pub(crate) unanswered: usize,
    answered: usize,
    /// Suspects that may answer yet.
    overdue: usize,
    next_suspect: Option<Instant>,
    next_lost: Option<Instant>,
}

/// What one path sees of its closest nodes, those left out that do not answer and are not excused.
#[derive(Clone, Debug, Default)]
struct PathView {
    seen: usize,
    /// Nodes among them that do not answer.
    excused: usize,
    /// How far the places of each network are taken, in halves.
    crowds: BTreeMap<Prefix, usize>,
    in_flight: usize,
    /// The nearest node that nobody asked.
    candidate: Option<Distance>,
    /// True if the answer of one of them is awaited.
    awaited: bool,
}

impl Survey {
    /// Surveys `peers` for this many paths, each of which cares for its closest nodes and for its anchors.
    pub(crate) fn of(peers: &BTreeMap<Distance, Peer>, paths: usize, wanted: &Wanted, now: Instant) -> Self {
        let mut survey = Self::default();
        let mut looking = PathSet::first(paths);
        for (&distance, peer) in peers {
            survey.count(peer, now);
            let silent = matches!(peer.state, State::Suspect { .. } | State::Failed);
            let prefix = wanted.diversity.prefix_of(&peer.contact);
            let seen_by = if peer.anchor { peer.heard_by } else { peer.heard_by.and(looking) };
            for path in seen_by.iter() {
                let view = &mut survey.paths[path];
                if prefix.is_some_and(|prefix| !view.has_place(prefix, silent, wanted.diversity.per_prefix)) {
                    continue;
                }
                if silent && view.excused >= wanted.excused {
                    continue;
                }
                view.excused += usize::from(silent);
                view.see(peer.state, distance);
                if view.seen >= wanted.k {
                    looking = looking.without(path);
                }
            }
        }
        survey
    }

    /// The nearest node that the least busy path wants to ask, and that path.
    pub(crate) fn next_query(&self) -> Option<(usize, Distance)> {
        let wishes = self.paths.iter().enumerate().filter_map(|(path, view)| {
            let candidate = view.candidate?;
            Some((view.in_flight, path, candidate))
        });
        wishes.min().map(|(_, path, candidate)| (path, candidate))
    }

    /// When time alone changes something that matters, `None` if it cannot: then the lookup is over.
    pub(crate) fn next_change(&self, k: usize) -> Option<Instant> {
        if self.paths.iter().any(|view| view.awaited || view.candidate.is_some()) {
            return self.next_suspect;
        }
        // A few suspects among many answers are dead and not worth the time. Many among few answers mean a
        // slow network.
        self.next_lost.filter(|_| self.answered < k && self.answered < self.overdue)
    }

    fn count(&mut self, peer: &Peer, now: Instant) {
        match peer.state {
            State::Unasked => {}
            State::Asked { path, suspect_at, .. } => {
                self.in_flight += 1;
                self.paths[path].in_flight += 1;
                self.next_suspect = Some(self.next_suspect.map_or(suspect_at, |at| at.min(suspect_at)));
            }
            State::Suspect { lost_at } => {
                self.unanswered += 1;
                if lost_at > now {
                    self.overdue += 1;
                    self.next_lost = Some(self.next_lost.map_or(lost_at, |at| at.min(lost_at)));
                }
            }
            State::Failed => self.unanswered += 1,
            State::Answered => self.answered += 1,
        }
    }
}

impl PathView {
    /// Takes a place for a node of this network, if one is left.
    ///
    /// One that is silent takes half a place: it stands in nobody's way, but whoever names one dead node of a
    /// network after the other does not keep the path waiting for all of them.
    fn has_place(&mut self, prefix: Prefix, silent: bool, places: usize) -> bool {
        let taken = self.crowds.entry(prefix).or_default();
        let has_place = *taken < places.saturating_mul(2);
        *taken += if silent { 1 } else { 2 };
        has_place
    }

    fn see(&mut self, state: State, distance: Distance) {
        self.seen += 1;
        match state {
            State::Unasked => self.candidate = self.candidate.or(Some(distance)),
            State::Asked { .. } => self.awaited = true,
            State::Suspect { .. } | State::Failed | State::Answered => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_paths_holds_what_was_put_in() {
        let set = PathSet::first(3).without(1).with(7);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2, 7]);
        assert_eq!(set.and(PathSet::only(2)), PathSet::only(2));
        assert_eq!(PathSet::first(PATHS_MAX).iter().count(), PATHS_MAX);
    }
}
