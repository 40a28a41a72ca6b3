//! Whether this node can be reached from outside, as others find.
//!
//! A node cannot tell by itself: it may sit behind a network that lets nobody in. So it asks some contacts to
//! dial it back, each in another network, so that nobody answers for several. One that most of them cannot reach, twice in a row, takes part as a client: it asks, and holds
//! nothing that others would have to come for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use comet_routing::{Contact, Diversity};
use rand::{Rng, RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

/// Contacts that are asked in one round.
const ASKED_MAX: usize = 4;
/// Answers, and so networks, that it takes to become a client: fewer could be the whim of one neighbour.
const ANSWERS_MIN: usize = 3;
/// How long a dial may take.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// The pause before the first round: a node that has just started is making its first contacts.
const FIRST_ROUND_AFTER: Duration = Duration::from_secs(5);
/// The pause after a round that told nothing, or nothing that is believed yet.
const PAUSE_WHILE_UNKNOWN: Duration = Duration::from_secs(60);
/// The pause between rounds. A network seldom changes.
const PAUSE: Duration = Duration::from_secs(600);

/// How a node takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// Nobody could say yet; it is taken for a server.
    #[default]
    Unknown,
    /// Others can reach it, so it holds replicas.
    Server,
    /// Others cannot reach it, so it only asks.
    Client,
}

/// The role of this node, for all who act on it. Cheap to clone; all clones show the same.
#[derive(Clone, Debug, Default)]
pub struct OwnRole(Arc<AtomicU8>);

impl OwnRole {
    /// The role now.
    pub fn now(&self) -> Role {
        match self.0.load(Ordering::Relaxed) {
            role if role == Role::Server as u8 => Role::Server,
            role if role == Role::Client as u8 => Role::Client,
            _ => Role::Unknown,
        }
    }

    /// True if others cannot reach this node.
    pub fn is_client(&self) -> bool {
        self.now() == Role::Client
    }

    /// Changes the role for everybody.
    pub fn set(&self, role: Role) {
        self.0.store(role as u8, Ordering::Relaxed);
    }
}

/// One round of asking contacts to dial this node back, and the role that follows.
#[derive(Clone, Debug, Default)]
pub struct Reachability {
    role: Role,
    /// True if most of those who answered in the last round could not reach this node. It takes another such
    /// round, of other contacts perhaps, to believe them.
    is_doubted: bool,
    reached: usize,
    not_reached: usize,
}

impl Reachability {
    /// Begins a round: whom of these contacts to ask, one of each network.
    pub fn begin(
        &mut self,
        mut contacts: Vec<Contact>,
        diversity: Diversity,
        rng: &mut impl Rng,
    ) -> Vec<Contact> {
        (self.reached, self.not_reached) = (0, 0);
        contacts.shuffle(rng);
        Diversity { per_prefix: 1, ..diversity }.nearest(ASKED_MAX, contacts)
    }

    /// A contact has dialled back, or could not. Those that do not answer say nothing.
    pub fn on_verdict(&mut self, reachable: bool) {
        if reachable {
            self.reached += 1;
        } else {
            self.not_reached += 1;
        }
    }

    /// Ends the round: the role from now on.
    pub fn conclude(&mut self) -> Role {
        let enough = self.reached + self.not_reached >= ANSWERS_MIN;
        let is_doubted = enough && self.not_reached > self.reached;
        if is_doubted && self.is_doubted {
            self.role = Role::Client;
        } else if self.reached > self.not_reached {
            self.role = Role::Server;
        }
        self.is_doubted = is_doubted;
        self.role
    }

    /// How long to wait before the next round, ± 20 %.
    pub fn pause(&self, rng: &mut impl Rng) -> Duration {
        let is_open = self.role == Role::Unknown || self.is_doubted && self.role != Role::Client;
        let pause = if is_open { PAUSE_WHILE_UNKNOWN } else { PAUSE };
        spread(pause, rng)
    }

    /// How long to wait before the first round, ± 20 %.
    pub fn first_pause(rng: &mut impl Rng) -> Duration {
        spread(FIRST_ROUND_AFTER, rng)
    }
}

/// In whole milliseconds, as the runtime's timers are.
fn spread(pause: Duration, rng: &mut impl Rng) -> Duration {
    let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(rng.random_range(ms * 8 / 10..=ms * 12 / 10))
}

#[cfg(test)]
mod tests {
    use comet_routing::{NodeId, PrivateRanges, is_private};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    fn contacts(count: u8) -> Vec<Contact> {
        let contact = |n| Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, n, 1], 7400).into());
        (1..=count).map(contact).collect()
    }

    fn judged(reachability: &mut Reachability, reached: usize, not_reached: usize) -> Role {
        reachability.begin(Vec::new(), Diversity::default(), &mut ChaCha12Rng::seed_from_u64(1));
        (0..reached).for_each(|_| reachability.on_verdict(true));
        (0..not_reached).for_each(|_| reachability.on_verdict(false));
        reachability.conclude()
    }

    #[test]
    fn a_node_that_most_of_at_least_three_cannot_reach_twice_in_a_row_is_a_client() {
        let of = |reached, not_reached| {
            let mut reachability = Reachability::default();
            judged(&mut reachability, reached, not_reached);
            judged(&mut reachability, reached, not_reached)
        };
        assert_eq!(of(0, 2), Role::Unknown, "two are too few");
        assert_eq!(of(0, 3), Role::Client);
        assert_eq!(of(1, 2), Role::Client);
        assert_eq!(of(2, 2), Role::Unknown, "half is not most");
        assert_eq!(of(1, 3), Role::Client);
        assert_eq!(of(2, 1), Role::Server);
        assert_eq!(of(1, 0), Role::Server);
    }

    /// The role of a node that an attacker calls unreachable from every host of one network, and others from one
    /// network each call reachable.
    fn role_beside_a_crowd(private_ranges: PrivateRanges) -> Role {
        let diversity = Diversity { private_ranges, ..Diversity::default() };
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let host = |n| Contact::new(NodeId::from_bytes([n; 32]), ([10, 0, 0, n], 7400).into());
        let known: Vec<_> = (100..=250).map(host).chain(contacts(2)).collect();
        let mut reachability = Reachability::default();
        for _ in 0..9 {
            for asked in reachability.begin(known.clone(), diversity, &mut rng) {
                reachability.on_verdict(!is_private(asked.addr.ip()));
            }
            if reachability.conclude() == Role::Client {
                return Role::Client;
            }
        }
        reachability.role
    }

    #[test]
    fn all_nodes_of_one_network_have_one_voice() {
        assert_eq!(role_beside_a_crowd(PrivateRanges::Counted), Role::Server);
        assert_eq!(role_beside_a_crowd(PrivateRanges::Exempt), Role::Client, "the control");
    }

    #[test]
    fn a_client_stays_one_until_most_can_reach_it() {
        let mut reachability = Reachability::default();
        assert_eq!(judged(&mut reachability, 0, 4), Role::Unknown);
        assert_eq!(judged(&mut reachability, 0, 4), Role::Client);
        assert_eq!(judged(&mut reachability, 0, 0), Role::Client, "nobody answered");
        assert_eq!(judged(&mut reachability, 2, 2), Role::Client);
        assert_eq!(judged(&mut reachability, 3, 1), Role::Server);
        assert_eq!(judged(&mut reachability, 0, 2), Role::Server);
    }

    #[test]
    fn rounds_come_sooner_while_nothing_is_known() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut reachability = Reachability::default();
        let mut pauses = |reachability: &Reachability| -> Vec<u64> {
            (0..100).map(|_| reachability.pause(&mut rng).as_secs()).collect()
        };
        assert!(pauses(&reachability).iter().all(|second| (48..=72).contains(second)));
        judged(&mut reachability, 3, 0);
        assert!(pauses(&reachability).iter().all(|second| (480..=720).contains(second)));
        judged(&mut reachability, 0, 3);
        assert!(pauses(&reachability).iter().all(|second| (48..=72).contains(second)), "to be confirmed");
        judged(&mut reachability, 0, 3);
        assert!(pauses(&reachability).iter().all(|second| (480..=720).contains(second)));
    }

    #[test]
    fn one_round_alone_makes_no_server_a_client() {
        let mut reachability = Reachability::default();
        assert_eq!(judged(&mut reachability, 4, 0), Role::Server);
        assert_eq!(judged(&mut reachability, 0, 4), Role::Server);
        assert_eq!(judged(&mut reachability, 0, 0), Role::Server);
        assert_eq!(judged(&mut reachability, 1, 3), Role::Server, "not in a row");
        assert_eq!(judged(&mut reachability, 1, 3), Role::Client);
    }

    #[test]
    fn everybody_sees_the_same_role() {
        let role = OwnRole::default();
        let other = role.clone();
        assert_eq!(other.now(), Role::Unknown);
        role.set(Role::Client);
        assert!(other.is_client());
        role.set(Role::Server);
        assert_eq!(other.now(), Role::Server);
    }

    proptest! {
        #[test]
        fn a_round_asks_few_and_each_once(count in 0_u8..60, seed in any::<u64>()) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut asked = Reachability::default().begin(contacts(count), Diversity::default(), &mut rng);
            asked.sort();
            asked.dedup();
            prop_assert_eq!(asked.len(), usize::from(count).min(ASKED_MAX));
        }
    }
}
