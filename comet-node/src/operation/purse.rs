//! What the nodes that an operation asks may cause: one budget, divided and never copied.
//!
//! A client's request has a fresh [`Trail`] and asks for nothing; what an object asks is paid for out of the
//! object's: a message for each node, and the bytes of the frame. What is left is divided by a [`Plan`].

use std::collections::BTreeMap;

use comet_routing::NodeId;
use comet_runtime::{Refusal, Trail};

/// How a [`Purse`] is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// So many nodes get equal parts: each of them is to do something. Whoever is asked besides gets nothing.
    Equal(usize),
    /// The first that is asked gets most, the next most of the rest: one of them answers for all.
    Nearest,
    /// Nobody gets anything.
    Nothing,
}

/// The budget of one operation, however often it asks.
#[derive(Clone, Debug)]
pub struct Purse {
    left: Trail,
    plan: Plan,
    is_charged: bool,
    /// Equal parts that are kept for nodes that are asked in place of others.
    spare: usize,
    /// What each node gets under [`Plan::Equal`], once one was asked.
    each: Option<Trail>,
    given: BTreeMap<NodeId, Trail>,
}

impl Purse {
    /// That of a client's request.
    pub fn of_client(plan: Plan) -> Self {
        Self { left: Trail::FRESH, plan, is_charged: false, spare: 0, each: None, given: BTreeMap::new() }
    }

    /// What the own node may cause if a client's request begins there, and [`Plan::Nearest`] divides it.
    pub fn first_of_client() -> Trail {
        Trail::FRESH.most()
    }

    /// That of an object's request.
    pub fn of_object(trail: Trail, plan: Plan) -> Self {
        Self { left: trail, plan, is_charged: true, spare: 0, each: None, given: BTreeMap::new() }
    }

    /// Keeps so many equal parts, for nodes that are asked in place of others.
    pub fn sparing(self, spare: usize) -> Self {
        Self { spare, ..self }
    }

    /// True if it pays for the frames that nodes are asked with.
    pub fn is_charged(&self) -> bool {
        self.is_charged
    }

    /// How many of so many nodes can be asked with frames of so many bytes.
    pub fn affords(&self, nodes: usize, frame_bytes: usize) -> usize {
        if self.is_charged { nodes.min(self.left.affords(frame_bytes)) } else { nodes }
    }

    /// Pays for a frame to a node and gives what the node may cause; `None` if it cannot be paid for.
    pub fn ask(&mut self, node: NodeId, frame_bytes: usize) -> Option<Trail> {
        if self.is_charged && self.left.take(1, frame_bytes).messages == 0 {
            return None;
        }
        Some(self.ask_own(node, frame_bytes))
    }

    /// What the own node may cause, if it is asked: that is no message.
    pub fn ask_own(&mut self, own: NodeId, frame_bytes: usize) -> Trail {
        let part = match self.plan {
            Plan::Nothing | Plan::Equal(0) => Trail { depth: self.left.depth, ..Trail::SPENT },
            Plan::Equal(nodes) => {
                self.plan = Plan::Equal(nodes - 1);
                let mut free = self.left;
                if self.is_charged {
                    // The others have to be asked as well.
                    let _theirs = free.take(nodes - 1, frame_bytes);
                }
                let each = *self.each.get_or_insert_with(|| free.part(nodes + self.spare));
                let Trail { messages, bytes, .. } = self.left;
                Trail { messages: each.messages.min(messages), bytes: each.bytes.min(bytes), ..each }
            }
            Plan::Nearest => self.left.most(),
        };
        self.left.give(part);
        self.given.insert(own, part);
        part
    }

    /// True if this node got less than another, since it was asked only in its stead: that its handler failed says
    /// nothing about the object.
    pub fn stinted(&self, node: &NodeId) -> bool {
        let most = self.given.values().map(|part| part.messages).max();
        self.plan == Plan::Nearest && self.given.get(node).is_some_and(|part| Some(part.messages) < most)
    }

    /// Takes back what a node got that refused before any handler ran.
    pub fn on_refused(&mut self, node: &NodeId, refusal: &Refusal) {
        if ran_nothing(refusal) {
            self.take_back(node);
        }
    }

    fn take_back(&mut self, node: &NodeId) {
        let Some(part) = self.given.remove(node) else { return };
        self.left.take_back(part);
        if part.messages == 0 && part.bytes == 0 {
            return;
        }
        if let Plan::Equal(nodes) = self.plan {
            self.plan = Plan::Equal(nodes + 1);
        }
    }
}

/// True if no handler heard of a request that was refused for this.
fn ran_nothing(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NotFound | Refusal::Stale { .. })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    /// What so many nodes get, one after the other.
    fn given(purse: &mut Purse, nodes: u8, frame_bytes: usize) -> Vec<Option<u8>> {
        (0..nodes).map(|n| purse.ask(node(n), frame_bytes).map(|part| part.messages)).collect()
    }

    #[test]
    fn the_first_that_answers_for_all_gets_what_is_said_of_it() {
        let own = Purse::of_client(Plan::Nearest).ask_own(node(1), 70_000);
        assert_eq!(own, Purse::first_of_client());
        assert!(own.messages > 0);
    }

    #[test]
    fn a_put_to_eight_replicas_gives_each_two_messages_and_the_ninth_none() {
        let mut purse = Purse::of_client(Plan::Equal(8));
        let first = purse.ask(node(0), 70_000).unwrap();
        assert_eq!(
            first,
            Trail { messages: 2, bytes: 16 * 1024, depth: 4 },
            "a client's frame costs nothing"
        );
        let rest: Vec<_> = (1..10).map(|n| purse.ask(node(n), 70_000).unwrap().messages).collect();
        assert_eq!(rest, [2, 2, 2, 2, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn of_a_get_the_nearest_gets_most_and_who_is_asked_instead_little() {
        let messages = given(&mut Purse::of_client(Plan::Nearest), 5, 100);
        assert_eq!(messages, [14, 1, 1, 0, 0].map(Some));
        let mut purse = Purse::of_client(Plan::Nearest);
        given(&mut purse, 2, 100);
        assert_eq!((purse.stinted(&node(0)), purse.stinted(&node(1))), (false, true));
    }

    #[test]
    fn an_object_pays_for_each_node_and_divides_the_rest() {
        let trail = Trail { messages: 10, bytes: 1_000, depth: 2 };
        let mut purse = Purse::of_object(trail, Plan::Equal(3));
        assert_eq!((purse.affords(20, 100), purse.affords(20, 300)), (10, 3));
        assert_eq!(
            purse.ask_own(node(0), 100),
            Trail { messages: 2, bytes: 266, depth: 2 },
            "the own node is free"
        );
        let mut purse = Purse::of_object(trail, Plan::Equal(3));
        assert_eq!(given(&mut purse, 4, 100), [Some(2), Some(2), Some(2), None]);
        let mut purse = Purse::of_object(trail, Plan::Equal(3)).sparing(1);
        assert_eq!(
            given(&mut purse, 5, 100),
            [Some(1), Some(1), Some(1), Some(0), None],
            "one is kept for a fourth"
        );
        let mut purse = Purse::of_object(Trail { messages: 3, ..trail }, Plan::Nothing);
        assert_eq!(given(&mut purse, 4, 100), [Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn what_was_not_used_is_given_to_another() {
        let mut purse = Purse::of_client(Plan::Nearest);
        assert_eq!(given(&mut purse, 1, 100), [Some(14)]);
        purse.take_back(&node(0));
        purse.take_back(&node(0));
        assert_eq!(purse.ask(node(1), 100), Some(Trail::FRESH.most()));
        let mut purse = Purse::of_client(Plan::Equal(1));
        assert_eq!(given(&mut purse, 2, 100), [Some(16), Some(0)]);
        purse.take_back(&node(1));
        assert_eq!(
            purse.ask(node(2), 100).map(|part| part.messages),
            Some(0),
            "who had nothing gives nothing back"
        );
    }

    proptest! {
        #[test]
        fn no_purse_gives_more_than_it_has(
            messages in 0..=16_u8,
            bytes in 0..=131_072_u32,
            plan in prop_oneof![(0..=20_usize).prop_map(Plan::Equal), Just(Plan::Nearest), Just(Plan::Nothing)],
            is_charged in any::<bool>(),
            frames in prop::collection::vec((0..=70_000_usize, any::<bool>()), 0..40),
        ) {
            let trail = Trail { messages, bytes, depth: 4 };
            let mut purse = Purse { is_charged, ..Purse::of_object(trail, plan) };
            let (mut spent, mut spent_bytes) = (0, 0);
            for (n, (frame_bytes, is_unused)) in frames.into_iter().enumerate() {
                let is_own = n == 7;
                let part = if is_own {
                    purse.ask_own(node(n as u8), frame_bytes)
                } else {
                    let Some(part) = purse.ask(node(n as u8), frame_bytes) else { continue };
                    part
                };
                let is_paid = is_charged && !is_own;
                spent += usize::from(is_paid);
                spent_bytes += if is_paid { frame_bytes } else { 0 };
                if is_unused {
                    purse.take_back(&node(n as u8));
                } else {
                    spent += usize::from(part.messages);
                    spent_bytes += part.bytes as usize;
                }
            }
            prop_assert!(spent <= usize::from(messages), "{spent} messages of {messages}");
            prop_assert!(spent_bytes <= bytes as usize, "{spent_bytes} bytes of {bytes}");
        }
    }
}
