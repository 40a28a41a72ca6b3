//! Deleting what nobody has signed for, for clients and objects alike.
//!
//! Whoever deletes last means what is there now. A deletion that meets a newer put was therefore not outrun by
//! another writer but by another node's clock, and goes again after that put: to those who refused it for that
//! reason, and to those who have done it already, so that all of them remember a deletion above the put.
//! Whoever refused for another reason is not asked twice.

use std::{cell::RefCell, rc::Rc};

use comet_routing::{Contact, Key};
use comet_runtime::{Refusal, Trail};

use super::{Operation, client::OUTRUN_MAX, conversation::beside_the_point};
use crate::{
    operation::{Purse, Read, ReadOutcome, Rule},
    wire::{Reply, Request},
};

/// What a deletion achieved.
#[derive(Debug, Default)]
pub(super) struct Removal {
    /// Nodes that held the object and deleted it, nearest first.
    pub(super) held: Vec<Contact>,
    /// Nodes that refused or failed; not those who merely do not hold the object.
    pub(super) failed: Vec<(Contact, Refusal)>,
    /// Why nobody answered, if nobody did.
    pub(super) unheard: Option<Refusal>,
}

impl Operation {
    /// Deletes an object at up to `reach` live nodes of `nodes`.
    pub(super) async fn remove(
        &self,
        key: Key,
        mut nodes: Vec<Contact>,
        reach: usize,
        purse: &Rc<RefCell<Purse>>,
    ) -> Result<Removal, Refusal> {
        let mut removal = Removal::default();
        let mut sequence = self.next_sequence();
        for attempts_left in (0..=OUTRUN_MAX).rev() {
            let request = Request::Delete { key, sequence, ownership: None, trail: Trail::SPENT.into() };
            let read = Read::new(nodes, Rule::All, reach, self.period);
            let outcome = self
                .converse(request, purse)?
                .read(read, |reply| deleted(&reply).ok_or_else(beside_the_point))
                .await;
            let outrun_by = self.outrun_by(&outcome.failed).filter(|_| attempts_left > 0);
            let Some(held_sequence) = outrun_by else {
                removal.note(outcome);
                break;
            };
            nodes = removal.note_and_ask_again(outcome);
            // It orders this deletion alone: a peer that makes a number up moves no other operation.
            sequence = self.next_sequence().max(held_sequence + 1);
        }
        removal.held.sort_by_cached_key(|node| key.distance_to(&node.id));
        Ok(removal)
    }

    /// The highest sequence number that the deletion met, of those that can be outdone.
    fn outrun_by(&self, failed: &[(Contact, Refusal)]) -> Option<u64> {
        let max = self.access.gate.sequence_max(self.access.clock.wall_ms());
        let held = failed.iter().filter_map(|(_, refusal)| match refusal {
            Refusal::Stale { held_sequence } => Some(*held_sequence),
            _ => None,
        });
        held.filter(|held| *held < max).max()
    }
}

impl Removal {
    /// Takes up what was heard, for good.
    pub(super) fn note(&mut self, outcome: ReadOutcome<bool>) {
        self.note_answers(outcome.result);
        self.failed.extend(outcome.failed);
    }

    /// Takes up what was heard, and gives the nodes to be asked again.
    fn note_and_ask_again(&mut self, outcome: ReadOutcome<bool>) -> Vec<Contact> {
        let mut again = self.note_answers(outcome.result);
        for (node, refusal) in outcome.failed {
            match refusal {
                Refusal::Stale { .. } => again.push(node),
                refusal => self.failed.push((node, refusal)),
            }
        }
        self.unheard = None;
        again
    }

    /// Gives the nodes that answered.
    fn note_answers(&mut self, answers: Result<Vec<(Contact, bool)>, Refusal>) -> Vec<Contact> {
        match answers {
            Ok(answers) => {
                let held = answers.iter().filter(|(node, held)| *held && !self.held.contains(node));
                let held: Vec<_> = held.map(|(node, _)| *node).collect();
                self.held.extend(held);
                answers.into_iter().map(|(node, _)| node).collect()
            }
            Err(refusal) => {
                self.unheard = Some(refusal);
                Vec::new()
            }
        }
    }
}

/// Whether a replica held what it was to delete.
pub(super) fn deleted(reply: &Reply) -> Option<bool> {
    if let Reply::Deleted { held } = reply { Some(*held) } else { None }
}
