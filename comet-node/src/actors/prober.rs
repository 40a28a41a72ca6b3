//! The actor that makes connections only to see whether they can be made.
//!
//! It does so for two who want to know: the router, before it lets a contact into its table, and a peer that
//! asks whether it can be reached from outside. Only an address from which that peer was heard is dialled, so
//! nobody can have a third party knocked at, and each peer only now and then.

use std::time::Duration;

use actix::prelude::*;
use comet_routing::{
    Contact, NodeId,
    actor::{ContactReached, ContactUnreachable, SendProbe},
    clock::Clock,
};
use comet_runtime::Refusal;

use crate::{
    operation::{PROBE_DEADLINE, Pauses, Places},
    transport::{Probe, TransportError},
};

/// Peers dialled back at a time, and of them each peer once.
const DIAL_BACKS_MAX: usize = 32;
/// How long a peer has to wait before it is dialled back again. It asks others meanwhile.
const DIAL_BACK_PAUSE: Duration = Duration::from_secs(30);
/// Peers that were dialled back and are remembered.
const DIALLED_BACK_MAX: usize = 4_096;
/// Messages that may wait.
const MAILBOX: usize = 256;

/// Dial a peer back at the address that it asks from: true if that succeeds.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<bool, Refusal>")]
pub struct DialBack {
    /// Who asks, and from where.
    pub contact: Contact,
}

/// Makes connections only to see whether they can be made.
pub struct Prober {
    probe: Recipient<Probe>,
    reached: Recipient<ContactReached>,
    unreachable: Recipient<ContactUnreachable>,
    clock: Clock,
    places: Places,
    pauses: Pauses<NodeId>,
}

impl Prober {
    /// A prober for the transport behind `probe`, which tells the router what came of its probes.
    pub fn new(
        probe: Recipient<Probe>,
        reached: Recipient<ContactReached>,
        unreachable: Recipient<ContactUnreachable>,
        clock: Clock,
    ) -> Self {
        let places = Places::new(DIAL_BACKS_MAX, 1);
        let pauses = Pauses::new(DIAL_BACK_PAUSE, DIALLED_BACK_MAX);
        Self { probe, reached, unreachable, clock, places, pauses }
    }
}

impl Actor for Prober {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<SendProbe> for Prober {
    type Result = ();

    fn handle(&mut self, SendProbe { to }: SendProbe, _: &mut Self::Context) {
        let probing = self.probe.send(Probe { contact: to, deadline: PROBE_DEADLINE });
        let (reached, unreachable) = (self.reached.clone(), self.unreachable.clone());
        actix::spawn(async move {
            match probing.await {
                Ok(Ok(())) => reached.do_send(ContactReached { contact: to }),
                Ok(Err(error)) if speaks_of_peer(error) => {
                    unreachable.do_send(ContactUnreachable { id: to.id });
                }
                // The router forgets a probe about which it hears nothing.
                Ok(Err(_)) | Err(_) => {}
            }
        });
    }
}

impl Handler<DialBack> for Prober {
    type Result = ResponseFuture<Result<bool, Refusal>>;

    fn handle(&mut self, DialBack { contact }: DialBack, _: &mut Self::Context) -> Self::Result {
        let overloaded = || Refusal::Overloaded("the node".into());
        let Some(place) = self.places.take(contact.id) else {
            return Box::pin(async move { Err(overloaded()) });
        };
        if !self.pauses.begin(contact.id, self.clock.now()) {
            return Box::pin(async move { Err(overloaded()) });
        }
        let probing = self.probe.send(Probe { contact, deadline: PROBE_DEADLINE });
        Box::pin(async move {
            let _place = place;
            match probing.await {
                Ok(Ok(())) => Ok(true),
                Ok(Err(error)) if speaks_of_peer(error) => Ok(false),
                Ok(Err(_)) => Err(overloaded()),
                Err(_) => Err(Refusal::Stopping("the node".into())),
            }
        })
    }
}

/// True if a probe that failed so was made: the peer did not let it in. Otherwise this node had too much to do,
/// or the peer has.
fn speaks_of_peer(error: TransportError) -> bool {
    !matches!(error, TransportError::Busy | TransportError::Closed)
}
