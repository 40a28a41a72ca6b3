//! What objects ask of the swarm.
//!
//! An object's request has no quorum: it reports who accepted. What the object may ask at all is decided where
//! it lives; here it is only held to the nodes that it may name.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use comet_routing::{Contact, Key};
use comet_runtime::{Nodes, Op, OpOutcome, OpResult, Refusal, Trail, Value, actors::Perform, is_veiled};
use comet_store::Record;
use futures_util::future::join_all;

use super::{
    Operation, client,
    conversation::{Conversation, beside_the_point},
};
use crate::{
    operation::{
        Plan, Purse, Read, Rule,
        request::{object_from, replicate},
    },
    wire::{Reply, Request},
};

/// Whom a request goes to: how many live nodes out of which.
struct Targets {
    nodes: Vec<Contact>,
    reach: usize,
}

impl Operation {
    /// Carries out a request of an object. A lookup is paid for where the object lives.
    pub(super) async fn perform(self, perform: Perform) -> OpResult {
        let Perform { object, request, copy } = perform;
        let trail = request.trail;
        match request.op {
            Op::Lookup { key } => {
                let nodes = self.candidates(&key).await?;
                Ok(OpOutcome::Nodes(nodes))
            }
            Op::Get { key, nodes, payload } => self.get_for(object, key, nodes, payload, trail).await,
            Op::Put { key, data, nodes } => {
                let put = object_from(key, &data, self.next_sequence(), &self.replication);
                let targets = (nodes, put.replicas);
                let request = Request::Put { object: put, trail: trail.into() };
                let stored = |reply| client::stored(&reply).map(|_| ());
                self.tell(object, key, targets, trail, request, stored).await
            }
            Op::Copy { nodes } => match copy {
                Some(copy) => self.copy(object, nodes, *copy, trail).await,
                None => Err(Refusal::Invalid("the object to copy is missing".into())),
            },
            Op::Delete { key, nodes } => {
                let Targets { nodes, reach } =
                    self.targets(&object, &key, nodes, self.replication.replicas, trail).await?;
                let purse = purse_of(trail, Plan::Nothing);
                Ok(OpOutcome::Nodes(self.remove(key, nodes, reach, &purse).await?.held))
            }
        }
    }

    /// A get; without named nodes the nearest replica's answer, else that of each. An object that reads accepts
    /// puts at its own key.
    async fn get_for(
        &self,
        object: Key,
        key: Key,
        nodes: Nodes,
        payload: Option<Value>,
        trail: Trail,
    ) -> OpResult {
        let one = nodes == Nodes::Closest;
        let payload = payload.map(|payload| payload.encode());
        let Targets { nodes, reach } =
            self.targets(&object, &key, nodes, self.replication.replicas, trail).await?;
        let request = Request::Get { key, payload, callback: Some(object), trail: trail.into() };
        // One node answers in the end; the others are asked only in its stead.
        let conversation = if one {
            self.converse(request, &purse_of(trail, Plan::Nearest))?
        } else {
            self.divided(request, trail, &nodes, reach)?
        };
        let gate = &self.access.gate;
        let rule = if one { Rule::First } else { Rule::All };
        let read = Read::new(nodes, rule, reach, self.period);
        let read = if key.is_owned() { read.wary() } else { read };
        let answers = conversation.read(read, |reply| client::Got::read(reply, &key, gate)).await.result;
        if one {
            let answer = answers?.into_iter().next();
            return Ok(OpOutcome::Value(answer.map_or(Value::Nil, |(_, got)| got.value)));
        }
        let answers = answers.unwrap_or_default().into_iter();
        Ok(OpOutcome::Values(answers.map(|(node, got)| (node, got.value)).collect()))
    }

    /// Hands the object itself, code and state, to other nodes.
    async fn copy(&self, object: Key, nodes: Nodes, record: Record, trail: Trail) -> OpResult {
        // With 0 the object leaves nothing to its node, but here it asks.
        let replicas = if record.replicas == 0 { self.replication.replicas } else { record.replicas };
        let now_ms = self.access.clock.wall_ms();
        let request = replicate(record, trail, now_ms);
        let stored = |reply| client::stored(&reply).map(|_| ());
        self.tell(object, object, (nodes, replicas), trail, request, stored).await
    }

    /// Sends a request to all its targets and says which of them accepted.
    async fn tell(
        &self,
        object: Key,
        key: Key,
        (nodes, replicas): (Nodes, u8),
        trail: Trail,
        request: Request,
        accepted: impl Fn(Reply) -> Option<()>,
    ) -> OpResult {
        let Targets { nodes, reach } = self.targets(&object, &key, nodes, replicas, trail).await?;
        let conversation = self.divided(request, trail, &nodes, reach)?;
        let read = Read::new(nodes, Rule::All, reach, self.period);
        let accepted = |reply| accepted(reply).ok_or_else(beside_the_point);
        let answers = conversation.read(read, accepted).await.result.unwrap_or_default();
        Ok(OpOutcome::Nodes(answers.into_iter().map(|(node, ())| node).collect()))
    }

    /// A conversation with `reach` of the nodes, or as many as can be paid for, in which each may cause the same.
    fn divided(
        &self,
        request: Request,
        trail: Trail,
        nodes: &[Contact],
        reach: usize,
    ) -> Result<Conversation, Refusal> {
        let purse = purse_of(trail, Plan::Nothing);
        let conversation = self.converse(request, &purse)?;
        let asked = conversation.affords(nodes.len().min(reach));
        let spare = nodes.len().saturating_sub(asked).min(1);
        purse.replace(Purse::of_object(trail, Plan::Equal(asked)).sparing(spare));
        Ok(conversation)
    }

    /// The nodes that a request of `object` for `key` goes to; `replicas` of them if it does not say.
    ///
    /// What goes to the object's own key goes to its *other* replicas. Nodes that it names for that key are
    /// addressed only if a lookup finds them close to it, and at the address that the lookup proved; those that
    /// it names for another key are the ones that contacted it, or its operator lets it name anyone.
    async fn targets(
        &self,
        object: &Key,
        key: &Key,
        nodes: Nodes,
        replicas: u8,
        trail: Trail,
    ) -> Result<Targets, Refusal> {
        let own = object == key;
        let count = match &nodes {
            Nodes::Closest => usize::from(replicas.max(1)),
            Nodes::Count(count) => usize::from(*count),
            Nodes::These(named) => named.len(),
        };
        let mut found = match nodes {
            Nodes::These(named) if !own => {
                return Ok(Targets { nodes: self.addressed(named, trail).await, reach: count });
            }
            Nodes::These(named) => {
                let mut found = self.replicas(key).await?;
                found.retain(|node| named.iter().any(|name| name.id == node.id));
                return Ok(Targets { nodes: found, reach: count });
            }
            Nodes::Closest | Nodes::Count(_) => self.replicas(key).await?,
        };
        if own {
            found.retain(|node| node.id != self.access.own.id);
        }
        Ok(Targets { nodes: found, reach: count })
    }

    /// The nodes, with addresses that lookups found for those whose own the object does not know: it kept them for
    /// longer than this node may, or brought them along from another. Who is not found is left out, and no more are looked
    /// for than the object can pay a message to.
    async fn addressed(&self, named: Vec<Contact>, trail: Trail) -> Vec<Contact> {
        let mut seen = BTreeSet::new();
        let named = named.into_iter().filter(|node| seen.insert(node.id)).take(trail.messages.into());
        let found = named.map(async |node| {
            if !is_veiled(&node) {
                return Some(node);
            }
            let near = self.candidates(&Key::from_bytes(*node.id.as_bytes())).await.unwrap_or_default();
            near.into_iter().find(|found| found.id == node.id)
        });
        join_all(found).await.into_iter().flatten().collect()
    }
}

/// What an object's request may cost and cause.
fn purse_of(trail: Trail, plan: Plan) -> Rc<RefCell<Purse>> {
    Rc::new(RefCell::new(Purse::of_object(trail, plan)))
}
