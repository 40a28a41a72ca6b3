//! The actor through which every request to a peer goes.
//!
//! It encodes nothing and decides nothing about a request; it hands it to the transport, watches for the
//! acknowledgement, and tells whoever has to know: the router how the contact behaves, the one who asked what
//! the peer said. So a peer's timeout is kept in one place, and one unacknowledged request is one suspicion.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Contact, Rtt, Timeouts,
    actor::{ContactAnswered, ContactSuspected, QueryFailed, QueryReplied, SendFindNode, SendPing},
    clock::Clock,
};
use comet_runtime::Refusal;
use tokio::{sync::oneshot, time};

use crate::{
    operation::Heard,
    transport::{self, Ask, TransportError},
    wire::{CONTACTS_MAX, Reply, Request, decode_answer},
};

/// A peer that has the request is not slow before this time: a handler may wait for the disk, and its node may be
/// busy.
const SLOW_MIN: Duration = Duration::from_millis(100);

/// Carry a request to a peer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Carry {
    /// Who has to answer.
    pub to: Contact,
    /// The request's frame.
    pub request: Bytes,
    /// When to give up, from now.
    pub deadline: Duration,
    /// Fires at most once, if something takes too long; an answer may still come.
    pub overdue: oneshot::Sender<Overdue>,
    /// Fires once. When its receiver is dropped the request is called off.
    pub answer: oneshot::Sender<Heard>,
}

impl Carry {
    /// For whoever waits until the deadline and does not care what takes too long. If no courier takes it, the
    /// receiver ends without an answer.
    pub fn patient(to: Contact, request: Bytes, deadline: Duration) -> (Self, oneshot::Receiver<Heard>) {
        let (overdue, _) = oneshot::channel();
        let (answer, heard) = oneshot::channel();
        (Self { to, request, deadline, overdue, answer }, heard)
    }
}

/// What takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// The request was not acknowledged within the peer's timeout: the peer may be gone.
    Acknowledgement,
    /// The peer has the request, and did not answer it in time either: its handler is slow.
    Answer,
}

/// The router, told once: it is started after its courier, as each knows the other.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Connect(pub RouterLinks);

/// Where a courier reports to the router.
#[derive(Clone, Debug)]
pub struct RouterLinks {
    /// A query was answered.
    pub replied: Recipient<QueryReplied>,
    /// A query was not answered.
    pub failed: Recipient<QueryFailed>,
    /// A contact answered.
    pub answered: Recipient<ContactAnswered>,
    /// A contact did not acknowledge a request in time.
    pub suspected: Recipient<ContactSuspected>,
}

/// Times and limits of a [`Courier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CourierConfig {
    /// How long a peer may take to answer a query or a ping. The router stops waiting sooner.
    pub query_deadline: Duration,
    /// Messages that may wait in the mailbox.
    pub mailbox: usize,
}

impl Default for CourierConfig {
    fn default() -> Self {
        Self { query_deadline: Duration::from_secs(3), mailbox: 4_096 }
    }
}

/// Carries requests to peers and watches over them.
pub struct Courier {
    ask: Recipient<Ask>,
    clock: Clock,
    config: CourierConfig,
    timeouts: Rc<RefCell<Timeouts>>,
    router: Option<RouterLinks>,
}

impl Courier {
    /// A courier for the transport behind `ask`. Until it gets [`Connect`] it tells no router anything.
    pub fn new(ask: Recipient<Ask>, clock: Clock, config: CourierConfig) -> Self {
        Self { ask, clock, config, timeouts: Rc::default(), router: None }
    }

    fn errand(&self, to: Contact) -> Errand {
        let (ask, clock) = (self.ask.clone(), self.clock);
        Errand { ask, clock, to, timeouts: Rc::clone(&self.timeouts), router: self.router.clone() }
    }
}

impl Actor for Courier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.config.mailbox);
    }
}

impl Handler<Connect> for Courier {
    type Result = ();

    fn handle(&mut self, Connect(router): Connect, _: &mut Self::Context) {
        self.router = Some(router);
    }
}

impl Handler<Carry> for Courier {
    type Result = ();

    fn handle(&mut self, carry: Carry, _: &mut Self::Context) {
        let Carry { to, request, deadline, overdue, mut answer } = carry;
        let errand = self.errand(to);
        actix::spawn(async move {
            let delivery = tokio::select! {
                biased;
                delivery = errand.deliver(request, deadline, Some(overdue)) => delivery,
                // Whoever asked has lost interest, and nothing is known against the peer.
                () = answer.closed() => return,
            };
            if let Some(rtt) = delivery.rtt {
                errand.report_answer(rtt);
            }
            answer.send(delivery.heard).ok();
        });
    }
}

impl Handler<SendPing> for Courier {
    type Result = ();

    fn handle(&mut self, SendPing { to }: SendPing, _: &mut Self::Context) {
        let (errand, deadline) = (self.errand(to), self.config.query_deadline);
        actix::spawn(async move {
            if let Some(rtt) = errand.deliver(Request::Ping.encode(), deadline, None).await.rtt {
                errand.report_answer(rtt);
            }
        });
    }
}

impl Handler<SendFindNode> for Courier {
    type Result = ();

    fn handle(&mut self, send: SendFindNode, _: &mut Self::Context) {
        let SendFindNode { query, to, target, count } = send;
        let count = u8::try_from(count.min(CONTACTS_MAX)).unwrap_or(u8::MAX);
        let (errand, deadline) = (self.errand(to), self.config.query_deadline);
        actix::spawn(async move {
            let request = Request::FindNode { target, count }.encode();
            let delivery = errand.deliver(request, deadline, None).await;
            let Some(router) = &errand.router else { return };
            match (delivery.heard, delivery.rtt) {
                (Heard::Reply(Reply::Nodes { contacts }), Some(rtt)) => {
                    router.replied.do_send(QueryReplied { query, closer: contacts, rtt });
                }
                (_, rtt) => {
                    // A refusal is an answer, too: the contact is there.
                    rtt.into_iter().for_each(|rtt| errand.report_answer(rtt));
                    router.failed.do_send(QueryFailed { query });
                }
            }
        });
    }
}

/// One request on its way to one peer.
struct Errand {
    ask: Recipient<Ask>,
    clock: Clock,
    to: Contact,
    timeouts: Rc<RefCell<Timeouts>>,
    router: Option<RouterLinks>,
}

/// What came of a request.
struct Delivery {
    heard: Heard,
    /// How long the acknowledgement took, connecting included; `None` if the peer did not answer.
    rtt: Option<Duration>,
}

impl Errand {
    /// Sends a request and waits for the answer; says so if something is overdue: to `overdue`, and of a missing
    /// acknowledgement to the router.
    async fn deliver(
        &self,
        request: Bytes,
        deadline: Duration,
        mut overdue: Option<oneshot::Sender<Overdue>>,
    ) -> Delivery {
        let sent = self.clock.now();
        let timeout = self.timeouts.borrow().of(&self.to.id, sent);
        let (suspect_at, slow_at) = (sent + timeout, sent + timeout.max(SLOW_MIN));
        let is_stranger = self.timeouts.borrow().is_stranger(&self.to.id, sent);
        let Ok(pending) = self.ask.send(Ask { to: self.to, request, deadline }).await else {
            return Delivery::failed(Refusal::Stopping("the transport".into()));
        };
        let (mut acknowledged, mut reply) = (pending.acknowledged, pending.reply);
        let mut rtt = None;
        let (mut awaits_acknowledgement, mut suspect) = (true, false);
        let outcome = loop {
            tokio::select! {
                biased;
                measured = &mut acknowledged, if awaits_acknowledgement => {
                    awaits_acknowledgement = false;
                    rtt = measured.ok().map(|measured| self.learn(measured, sent));
                    if let Some(taken) = rtt.filter(|_| is_stranger) {
                        self.timeouts.borrow_mut().observe_first(taken);
                    }
                }
                outcome = &mut reply => break outcome.unwrap_or(Err(TransportError::Closed)),
                () = sleep_until(suspect_at), if rtt.is_none() && !suspect => {
                    suspect = true;
                    self.report_suspicion(&mut overdue);
                }
                () = sleep_until(slow_at), if rtt.is_some() && overdue.is_some() => {
                    overdue.take().map(|overdue| overdue.send(Overdue::Answer));
                }
            }
        };
        match outcome {
            Ok(frame) => Delivery::answered(&frame, rtt.unwrap_or_else(|| self.since(sent))),
            Err(error) => {
                if rtt.is_none() && !suspect && speaks_against_peer(error) {
                    self.report_suspicion(&mut overdue);
                }
                Delivery::failed(refusal_of(error, deadline))
            }
        }
    }

    /// The peer has acknowledged the request: its timeout follows what the connection measured. Returns how long
    /// that took, connecting included.
    fn learn(&self, measured: transport::Rtt, sent: Instant) -> Duration {
        let estimated = Rtt::estimated(measured.smoothed, measured.variation);
        self.timeouts.borrow_mut().learn(self.to.id, estimated, self.clock.now());
        self.since(sent)
    }

    fn since(&self, sent: Instant) -> Duration {
        self.clock.now().saturating_duration_since(sent)
    }

    fn report_suspicion(&self, overdue: &mut Option<oneshot::Sender<Overdue>>) {
        if let Some(overdue) = overdue.take() {
            overdue.send(Overdue::Acknowledgement).ok();
        }
        if let Some(router) = &self.router {
            router.suspected.do_send(ContactSuspected { id: self.to.id });
        }
    }

    fn report_answer(&self, rtt: Duration) {
        if let Some(router) = &self.router {
            router.answered.do_send(ContactAnswered { contact: self.to, rtt: Some(rtt) });
        }
    }
}

impl Delivery {
    fn failed(refusal: Refusal) -> Self {
        Self { heard: Heard::Failed(refusal), rtt: None }
    }

    fn answered(frame: &[u8], rtt: Duration) -> Self {
        match decode_answer(frame) {
            Ok(Ok(reply)) => Self { heard: Heard::Reply(reply), rtt: Some(rtt) },
            Ok(Err(refusal)) => Self { heard: Heard::Refused(refusal), rtt: Some(rtt) },
            // A peer that talks rubbish is of no use, whatever its round-trip time.
            Err(error) => Self::failed(Refusal::Unreachable(format!("the peer's answer: {error}"))),
        }
    }
}

/// True if an unacknowledged request that ended so says something about the peer, rather than about this node
/// or about a deadline shorter than the peer's timeout.
fn speaks_against_peer(error: TransportError) -> bool {
    match error {
        TransportError::Unreachable | TransportError::WrongPeer { .. } | TransportError::Closed => true,
        TransportError::TimedOut | TransportError::TooLarge | TransportError::Busy => false,
    }
}

fn refusal_of(error: TransportError, deadline: Duration) -> Refusal {
    match error {
        TransportError::TimedOut => {
            Refusal::Timeout { deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) }
        }
        TransportError::Busy => Refusal::Overloaded("the transport".into()),
        TransportError::Unreachable
        | TransportError::WrongPeer { .. }
        | TransportError::TooLarge
        | TransportError::Closed => Refusal::Unreachable(error.to_string()),
    }
}

async fn sleep_until(at: Instant) {
    time::sleep_until(time::Instant::from_std(at)).await;
}
