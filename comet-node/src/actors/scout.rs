//! The actor that finds out whether this node can be reached from outside.

use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{Contact, Diversity, actor::Contacts};
use futures_util::future::join_all;
use rand_chacha::ChaCha12Rng;

use super::Carry;
use crate::{
    operation::{Heard, OwnRole, PROBE_DEADLINE, Reachability, Role},
    wire::{Reply, Request},
};

/// How long a contact may take to dial back, and to say so.
const ANSWER_DEADLINE: Duration = PROBE_DEADLINE.saturating_add(Duration::from_secs(2));

/// Asks contacts to dial this node back, now and then, and keeps its role.
pub struct Scout {
    contacts: Recipient<Contacts>,
    carry: Recipient<Carry>,
    role: OwnRole,
    reachability: Reachability,
    diversity: Diversity,
    rng: ChaCha12Rng,
}

impl Scout {
    /// A scout that asks contacts of the router through the courier, and shows what it finds in `role`.
    /// `diversity` says what counts as a network.
    pub fn new(
        contacts: Recipient<Contacts>,
        carry: Recipient<Carry>,
        role: OwnRole,
        diversity: Diversity,
        rng: ChaCha12Rng,
    ) -> Self {
        Self { contacts, carry, role, reachability: Reachability::default(), diversity, rng }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let contacts = self.contacts.send(Contacts).into_actor(self);
        ctx.spawn(contacts.map(|contacts, actor, ctx| {
            let known = contacts.unwrap_or_default();
            let asked = actor.reachability.begin(known, actor.diversity, &mut actor.rng);
            let request = Request::DialBack.encode();
            let answers = asked.into_iter().map(|contact| ask(&actor.carry, contact, request.clone()));
            let answers = join_all(answers.collect::<Vec<_>>()).into_actor(actor);
            ctx.spawn(answers.map(|answers, actor, ctx| actor.conclude(answers, ctx)));
        }));
    }

    fn conclude(&mut self, answers: Vec<Option<bool>>, ctx: &mut Context<Self>) {
        for reachable in answers.into_iter().flatten() {
            self.reachability.on_verdict(reachable);
        }
        let (before, role) = (self.role.now(), self.reachability.conclude());
        if before != role {
            self.role.set(role);
            announce(role);
        }
        let pause = self.reachability.pause(&mut self.rng);
        ctx.run_later(pause, Self::begin);
    }
}

/// Whether one contact could dial back; `None` if it did not say.
fn ask(carry: &Recipient<Carry>, to: Contact, request: Bytes) -> impl Future<Output = Option<bool>> + use<> {
    let (request, answered) = Carry::patient(to, request, ANSWER_DEADLINE);
    carry.try_send(request).ok();
    async move {
        match answered.await {
            Ok(Heard::Reply(Reply::Dialled { reachable })) => Some(reachable),
            _ => None,
        }
    }
}

fn announce(role: Role) {
    match role {
        Role::Client => log::warn!(
            "other nodes cannot reach this one from outside; it takes part as a client and holds no replicas. \
             Forward its UDP port to it if it should"
        ),
        Role::Server => log::info!("other nodes can reach this one from outside"),
        Role::Unknown => {}
    }
}

impl Actor for Scout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let pause = Reachability::first_pause(&mut self.rng);
        ctx.run_later(pause, Self::begin);
    }
}
