//! One request put to several nodes, as a machine says; this node's own replica is asked without the network.

use std::{cell::RefCell, rc::Rc, time::Instant};

use bytes::Bytes;
use comet_routing::{
    Contact, Key, Outcome, Prospects,
    actor::{Asking, FindNode, FindNodeError, Neighbours},
};
use comet_runtime::{Refusal, Trail, visit::Visit};
use futures_util::{
    StreamExt,
    future::{FutureExt, LocalBoxFuture},
    stream::FuturesUnordered,
};
use tokio::{sync::oneshot, time};

use super::{Access, Carry, Operation};
use crate::{
    actors::Overdue,
    operation::{
        Admitted, CANDIDATES_MAX, Heard, Period, Purse, Read, ReadOutcome, ReadStep, Write, WriteOutcome,
        WriteStep, reply_of,
    },
    wire::{self, Reply, Request},
};

/// A request and what is heard about it.
pub(super) struct Conversation {
    access: Rc<Access>,
    period: Period,
    request: Request,
    /// The frame that was made last, and the budget in it: most nodes get the same.
    frame: Option<(Trail, Bytes)>,
    /// The most bytes that a frame has, whatever the budget in it; 0 if the purse does not pay for frames.
    frame_bytes: usize,
    purse: Rc<RefCell<Purse>>,
    /// What the request does on this node.
    key: Key,
    visit: Visit,
    news: FuturesUnordered<LocalBoxFuture<'static, Option<News>>>,
}

enum News {
    /// The node lets something wait.
    Overdue(Contact, Overdue),
    /// A search ended.
    Found(Result<Outcome, Refusal>),
    /// The node will say no more.
    Heard(Contact, Heard),
}

/// Where the object of a key belongs.
pub(super) struct Places {
    /// The nodes closest to the key, nearest first.
    pub(super) nodes: Vec<Contact>,
    /// Those of them that have not answered in time.
    pub(super) late: Vec<Contact>,
    /// Nodes that would perhaps be among them, had they not stopped answering a short while ago.
    pub(super) missed: usize,
}

impl Operation {
    /// Finds the nodes closest to a key that answer, so many of them.
    pub(super) async fn find(&self, key: &Key, count: usize) -> Result<Outcome, Refusal> {
        find(&self.access, FindNode { target: *key, count, asking: Asking::Always }, self.period).await
    }

    /// The nodes closest to a key, nearest first, this one among them, as far as they are worth asking before anybody has
    /// searched for them; perhaps nobody.
    pub(super) async fn neighbours(&self, key: &Key) -> Prospects {
        let copies = self.replication.replicas.into();
        let asked = self.access.neighbours.send(Neighbours { target: *key, count: CANDIDATES_MAX, copies });
        let Prospects { mut contacts, are_nearest } = asked.await.unwrap_or_default();
        if !contacts.is_empty() {
            contacts = self.access.with_own(key, contacts);
        }
        Prospects { contacts, are_nearest }
    }

    /// The nodes closest to a key, nearest first, this one among them where it belongs.
    pub(super) async fn candidates(&self, key: &Key) -> Result<Vec<Contact>, Refusal> {
        Ok(self.access.with_own(key, self.find(key, CANDIDATES_MAX).await?.closest))
    }

    /// As [`Operation::candidates`], and nodes that are late: replicas whose answer does not come in time must hear
    /// of a write as well, and count for its quorum whether they hear or not.
    pub(super) async fn replicas(&self, key: &Key) -> Result<Vec<Contact>, Refusal> {
        Ok(self.places(key, CANDIDATES_MAX, Asking::Always).await?.nodes)
    }

    /// Where so many copies of an object belong.
    pub(super) async fn places(&self, key: &Key, copies: usize, asking: Asking) -> Result<Places, Refusal> {
        let find_node = FindNode { target: *key, count: copies, asking };
        let Outcome { mut closest, late, missed, .. } = find(&self.access, find_node, self.period).await?;
        closest.extend(&late);
        if closest.is_empty() {
            self.must_not_be_cut_off()?;
        }
        Ok(Places { nodes: self.access.with_own(key, closest), late, missed })
    }

    /// Refuses if this node should know others and does not: it cannot tell what there is.
    pub(super) fn must_not_be_cut_off(&self) -> Result<(), Refusal> {
        if self.access.company.is_expected(self.access.clock.now()) {
            return Err(Refusal::Unreachable("this node cannot reach its swarm at the moment".into()));
        }
        Ok(())
    }

    /// Begins a conversation, unless the request breaks a rule that this node would hold a peer to as well. What
    /// budget the request carries is decided node by node, out of the purse.
    pub(super) fn converse(
        &self,
        request: Request,
        purse: &Rc<RefCell<Purse>>,
    ) -> Result<Conversation, Refusal> {
        let (request, now_ms) = (request.with_trail(wire::Trail::LONGEST), self.access.clock.wall_ms());
        let frame_bytes = if purse.borrow().is_charged() { request.encode().len() } else { 0 };
        match self.access.gate.admit(request.clone(), self.access.own, now_ms)? {
            Admitted::Visit { key, visit } => Ok(Conversation {
                access: Rc::clone(&self.access),
                period: self.period,
                request,
                frame: None,
                frame_bytes,
                purse: Rc::clone(purse),
                key,
                visit,
                news: FuturesUnordered::new(),
            }),
            _ => Err(Refusal::Unsupported),
        }
    }
}

impl Conversation {
    /// Drives a write until it is over, and reports the moment it is decided. `said` reads the replies. Returns who
    /// has stored it in the end.
    pub(super) async fn write<T: Clone>(
        mut self,
        mut write: Write<T>,
        said: impl Fn(Reply) -> Option<T>,
        decided: impl FnOnce(WriteOutcome<T>),
    ) -> Vec<(Contact, T)> {
        let mut decided = Some(decided);
        loop {
            let until = match write.poll(self.now()) {
                WriteStep::Ask(node) => {
                    self.ask(node);
                    continue;
                }
                WriteStep::Done(outcome) => {
                    if let Some(decided) = decided.take() {
                        decided(outcome);
                    }
                    continue;
                }
                WriteStep::Over => return write.stored(),
                WriteStep::Wait { until } => until,
            };
            match self.next(until).await {
                None => {}
                Some(News::Overdue(node, Overdue::Acknowledgement)) => write.on_suspect(&node, self.now()),
                // A write has no use for a node that takes its time and none instead of it, and does not search.
                Some(News::Overdue(_, Overdue::Answer) | News::Found(_)) => {}
                Some(News::Heard(node, Heard::Refused(refusal))) => write.on_refused(&node, refusal),
                Some(News::Heard(node, Heard::Failed(refusal))) => write.on_failed(&node, refusal),
                Some(News::Heard(node, Heard::Reply(reply))) => match said(reply) {
                    Some(said) => write.on_stored(&node, said),
                    None => write.on_failed(&node, beside_the_point()),
                },
            }
        }
    }

    /// Drives a read to its end. `said` reads the replies; one that it does not believe is its sender's failure.
    pub(super) async fn read<T: Clone>(
        mut self,
        mut read: Read<T>,
        said: impl Fn(Reply) -> Result<T, Refusal>,
    ) -> ReadOutcome<T> {
        loop {
            let until = match read.poll(self.now()) {
                ReadStep::Ask(node) => {
                    self.ask(node);
                    continue;
                }
                ReadStep::Search { count } => {
                    self.search(count);
                    continue;
                }
                ReadStep::Done(outcome) => return outcome,
                ReadStep::Wait { until } => until,
            };
            match self.next(until).await {
                None => {}
                Some(News::Overdue(node, Overdue::Acknowledgement)) => read.on_suspect(&node, self.now()),
                Some(News::Overdue(node, Overdue::Answer)) => read.on_slow(&node),
                Some(News::Found(Ok(found))) => {
                    read.on_found(self.access.with_own(&self.key, found.closest));
                }
                Some(News::Found(Err(refusal))) => read.on_search_failed(refusal),
                Some(News::Heard(node, Heard::Refused(refusal))) => read.on_refused(&node, refusal),
                Some(News::Heard(node, Heard::Failed(refusal))) => read.on_failed(&node, refusal),
                Some(News::Heard(node, Heard::Reply(reply))) => match said(reply) {
                    Ok(answer) => read.on_answer(&node, answer),
                    Err(why) => read.on_failed(&node, why),
                },
            }
        }
    }

    fn now(&self) -> Instant {
        self.access.clock.now()
    }

    /// How many of so many nodes can be asked.
    pub(super) fn affords(&self, nodes: usize) -> usize {
        self.purse.borrow().affords(nodes, self.frame_bytes)
    }

    fn ask(&mut self, node: Contact) {
        if node.id == self.access.own.id {
            return self.ask_own(node);
        }
        let part = self.purse.borrow_mut().ask(node.id, self.frame_bytes);
        let Some(trail) = part else {
            let spent = News::Heard(node, Heard::Failed(too_much()));
            return self.news.push(std::future::ready(Some(spent)).boxed_local());
        };
        let request = self.frame_with(trail);
        let (overdue, is_overdue) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let deadline = self.period.left(self.now());
        let carry = Carry { to: node, request, deadline, overdue, answer };
        // A courier that does not take it drops `answer`.
        self.access.carry.try_send(carry).ok();
        let what = is_overdue.map(move |what| what.ok().map(|what| News::Overdue(node, what)));
        self.news.push(what.boxed_local());
        let heard = answered.map(move |heard| {
            let untaken = |_| Heard::Failed(Refusal::Overloaded("the courier".into()));
            Some(News::Heard(node, heard.unwrap_or_else(untaken)))
        });
        self.news.push(heard.boxed_local());
    }

    fn search(&mut self, count: usize) {
        let (access, key, period) = (Rc::clone(&self.access), self.key, self.period);
        let found = async move {
            Some(News::Found(
                find(&access, FindNode { target: key, count, asking: Asking::Always }, period).await,
            ))
        };
        self.news.push(found.boxed_local());
    }

    fn frame_with(&mut self, trail: Trail) -> Bytes {
        match &self.frame {
            Some((known, frame)) if *known == trail => frame.clone(),
            _ => {
                let frame = self.request.clone().with_trail(trail.into()).encode();
                self.frame = Some((trail, frame.clone()));
                frame
            }
        }
    }

    fn ask_own(&mut self, own: Contact) {
        let trail = self.purse.borrow_mut().ask_own(own.id, self.frame_bytes);
        let (access, key, visit) = (Rc::clone(&self.access), self.key, self.visit.clone().with_trail(trail));
        let served = async move {
            let served = access.replica.serve(key, visit).await;
            let answer = served.and_then(|served| reply_of(served, own, access.clock.wall_ms()));
            Some(News::Heard(own, answer.map_or_else(Heard::Refused, Heard::Reply)))
        };
        self.news.push(served.boxed_local());
    }

    /// What a handler failed at that had less to send than the first that was asked is no verdict.
    fn judged(&self, news: News) -> News {
        match news {
            News::Heard(node, Heard::Refused(refusal @ Refusal::HandlerFailed { .. }))
                if self.purse.borrow().stinted(&node.id) =>
            {
                News::Heard(node, Heard::Failed(refusal))
            }
            news => news,
        }
    }

    /// The next news, or `None` once it is `until`.
    async fn next(&mut self, until: Instant) -> Option<News> {
        let mut time_is_up = std::pin::pin!(time::sleep_until(time::Instant::from_std(until)));
        loop {
            tokio::select! {
                biased;
                news = self.news.next(), if !self.news.is_empty() => {
                    if let Some(Some(news)) = news {
                        if let News::Heard(node, Heard::Refused(refusal)) = &news {
                            self.purse.borrow_mut().on_refused(&node.id, refusal);
                        }
                        return Some(self.judged(news));
                    }
                }
                () = &mut time_is_up => return None,
            }
        }
    }
}

impl Access {
    /// The candidates among these nodes and this one, nearest first: of one network no more than may be, whether
    /// they were found, are late, or are this node.
    pub(super) fn with_own(&self, key: &Key, mut nodes: Vec<Contact>) -> Vec<Contact> {
        if !self.role.is_client() {
            nodes.push(self.own);
        }
        nodes.sort_by_cached_key(|node| key.distance_to(&node.id));
        self.diversity.nearest(CANDIDATES_MAX, nodes)
    }
}

async fn find(access: &Access, find_node: FindNode, period: Period) -> Result<Outcome, Refusal> {
    let finding = access.find_node.send(find_node);
    match time::timeout_at(time::Instant::from_std(period.deadline), finding).await {
        Ok(Ok(Ok(outcome))) => Ok(outcome),
        Ok(Ok(Err(FindNodeError::Busy(_)))) => Err(Refusal::Overloaded("the router".into())),
        Ok(Ok(Err(FindNodeError::Stopped)) | Err(_)) => Err(Refusal::Stopping("the node".into())),
        Err(_) => Err(period.timeout()),
    }
}

fn too_much() -> Refusal {
    Refusal::Unreachable("the messages that this request may cause are used up, or their bytes".into())
}

/// What is said of a node whose reply is of no use.
pub(super) fn beside_the_point() -> Refusal {
    Refusal::Unreachable("the peer answered something else than it was asked".into())
}
