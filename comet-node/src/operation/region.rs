//! Which objects a node keeps for others.

use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{REPLICAS_MAX, Refusal};

/// A node keeps objects for whose keys fewer nodes than this are nearer, of all that it knows: twice as many as a put
/// can ask for. The room is for views that differ, for nodes that are gone and still known, and for sets of replicas that
/// reach farther because some of the nearest are not taken.
///
/// A smaller swarm, and a node that does not know as many, takes any key.
pub const REGION_NODES: usize = 2 * REPLICAS_MAX as usize;

/// Refuses what does not belong to the node `own`, where `known` are the contacts that it knows nearest to
/// the key, [`REGION_NODES`] of them if there are as many.
///
/// The refusal names no nodes, since a writer should go by what a lookup over disjoint paths finds and not by what one
/// node says.
pub fn belongs_to(own: &NodeId, key: &Key, known: &[Contact]) -> Result<(), Refusal> {
    let distance = key.distance_to(own);
    let nearer = known.iter().filter(|contact| key.distance_to(&contact.id) < distance).count();
    if nearer < REGION_NODES { Ok(()) } else { Err(Refusal::Elsewhere { nearer: nearer as u64 }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::roster::tests::node;

    #[test]
    fn a_key_belongs_to_a_node_that_is_among_the_nearest_or_knows_too_few_to_say() {
        let key = Key::from_bytes([0; 32]);
        let known: Vec<_> = (1..=60).map(node).collect();
        let nearest = |n: usize| &known[..n];
        assert_eq!(belongs_to(&node(40).id, &key, nearest(REGION_NODES)), Ok(()));
        let elsewhere = Err(Refusal::Elsewhere { nearer: 40 });
        assert_eq!(belongs_to(&node(41).id, &key, nearest(REGION_NODES)), elsewhere);
        assert_eq!(belongs_to(&node(99).id, &key, nearest(REGION_NODES - 1)), Ok(()));
        assert_eq!(belongs_to(&node(99).id, &key, &[]), Ok(()));
    }
}
