//! What this node's own replica does alone, without asking any other actor of the node what to do.
//!
//! Whoever reads one answer gets the nearest replica's. Where that is this node itself, as its view of the routing
//! table tells, neither the coordinator nor the router has anything to add, and the object is asked directly. A get that
//! comes to nothing here goes to the coordinator with what the own replica said, which is not asked again.
//!
//! A put goes to all replicas. Only a node that has been alone since it started, as nobody told it to be anything else, is all
//! of them.

mod values;

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use comet_routing::{Contact, Key, TableView, clock::Clock};
use comet_runtime::{
    Bounds, Refusal, Value,
    actors::Replica,
    dht::{Answer, Expected, Get, GetReport, Put, PutReport, Read},
    visit::{Served, Visit},
};
use comet_store::Version;

use crate::{
    config::ReplicationConfig,
    operation::{
        Admitted, Company, Gate, OwnRole, OwnSaid, Period, Plan, Purse, Sequence, Write, WriteStep,
        request::object_of,
    },
    wire::Request,
};

/// The way to this node's own replica.
#[derive(Clone)]
pub struct Shortcut {
    /// This node, as peers know it.
    pub own: Contact,
    /// How it takes part.
    pub role: OwnRole,
    /// Its objects.
    pub replica: Replica,
    /// What requests may do.
    pub gate: Arc<Gate>,
    /// Whom it knows.
    pub view: TableView,
    /// What a client that chooses nothing gets.
    pub replication: ReplicationConfig,
    /// Whether there should be others.
    pub company: Company,
    /// Numbers unsigned puts.
    pub sequence: Sequence,
    /// Time.
    pub clock: Clock,
}

/// How far a get came that wants a `T`.
#[derive(Debug)]
pub enum Reached<T> {
    /// It is over.
    Over(Result<T, Refusal>),
    /// Others have to be asked. If the own replica was, then this is what it said.
    Elsewhere(Option<OwnSaid>),
}

/// How far a put came.
#[derive(Debug, PartialEq)]
pub enum Stored {
    /// It is over.
    Over(Result<PutReport, Refusal>),
    /// It is the coordinator's.
    Elsewhere(Box<Put>),
}

impl<T> Reached<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Reached<U> {
        match self {
            Self::Over(result) => Reached::Over(result.map(map)),
            Self::Elsewhere(own) => Reached::Elsewhere(own),
        }
    }
}

impl Shortcut {
    /// Asks the own replica, if one answer is wanted and this node is certainly the nearest to the key.
    pub async fn get(&self, get: &Get) -> Reached<GetReport> {
        let now = self.clock.now();
        if get.read != Read::First || !self.is_nearest(&get.key, now) {
            return Reached::Elsewhere(None);
        }
        let visit = match self.visit(get.payload.as_ref()) {
            Ok(visit) => visit,
            Err(refusal) => return Reached::Over(Err(refusal)),
        };
        let configured = self.configured_deadline();
        let deadline = get.deadline.unwrap_or(configured).min(configured);
        let report = |answer| GetReport { answers: vec![answer], failed: Vec::new() };
        match within(deadline, pin!(self.replica.serve_sent(now, get.key, visit))).await {
            Some(served) => self.answer(served).map(report),
            None => Reached::Over(Err(timeout(deadline))),
        }
    }

    fn is_nearest(&self, key: &Key, now: Instant) -> bool {
        !self.role.is_client() && self.view.is_nearest(key, now)
    }

    fn configured_deadline(&self) -> Duration {
        Duration::from_millis(self.replication.deadline_ms)
    }

    fn visit(&self, payload: Option<&Value>) -> Result<Visit, Refusal> {
        let payload = payload.map(Value::encode);
        self.gate.admit_get(self.own, payload.as_ref(), None, Purse::first_of_client())
    }

    /// What the own replica's answer to a get comes to.
    fn answer(&self, served: Result<Served, Refusal>) -> Reached<Answer> {
        match served {
            Ok(Served::Got { value, version, active, usage, .. }) => {
                let limits = self.gate.limits();
                let bytes = limits.reply_bytes.max(limits.value_bytes);
                let value = Value::decode(&value, Bounds { bytes, depth: limits.depth });
                let corrupt = |error| Refusal::Corrupt(format!("its value cannot be read: {error}"));
                let answer = value.map(|value| Answer { replica: self.own, value, version, active, usage });
                Reached::Over(answer.map_err(corrupt))
            }
            Ok(_) => Reached::Elsewhere(None),
            Err(refusal) => {
                let mut purse = Purse::of_client(Plan::Nearest);
                purse.ask_own(self.own.id, 0);
                purse.on_refused(&self.own.id, &refusal);
                Reached::Elsewhere(Some(OwnSaid { refusal, purse }))
            }
        }
    }

    /// Stores an object here, if nobody else is to store it; else it is the coordinator's to put, in the time that is left. So is
    /// one that meets a newer version: it has to be put again, after that.
    pub async fn put(&self, put: Put) -> Stored {
        let now = self.clock.now();
        let is_alone = self.view.has_been_alone() && !self.company.is_expected(now);
        if !is_alone || self.role.is_client() || put.expected != Expected::Any {
            return Stored::Elsewhere(Box::new(put));
        }
        let period = Period::of_client(now, put.deadline, &self.replication);
        let (version, visit, ttl) = match self.admit(&put) {
            Ok(admitted) => admitted,
            Err(refusal) => return Stored::Over(Err(refusal)),
        };
        let (key, replicas) = (put.key, put.replicas.unwrap_or(self.replication.replicas));
        let mut write = Write::new([self.own], 0, replicas, self.replication.write_quorum, period);
        if let WriteStep::Ask(own) = write.poll(now) {
            match within(period.left(now), pin!(self.replica.serve_sent(now, key, visit))).await {
                Some(Ok(Served::Stored { version, usage })) => write.on_stored(&own, (version, usage)),
                Some(Err(Refusal::Stale { .. })) if put.owner.is_none() => {
                    let deadline = Some(period.left(self.clock.now()));
                    return Stored::Elsewhere(Box::new(Put { deadline, ..put }));
                }
                Some(Err(refusal)) => write.on_refused(&own, refusal),
                Some(Ok(_)) => write.on_failed(&own, Refusal::Unsupported),
                None => write.on_failed(&own, period.timeout()),
            }
        }
        match write.poll(self.clock.now()) {
            WriteStep::Done(outcome) => Stored::Over(outcome.report(version, ttl)),
            // The only one that is asked has answered, or the time is up.
            _ => Stored::Over(Err(period.timeout())),
        }
    }

    /// What a put comes to on the only replica: its version, how it is carried out there, and how long it is kept.
    fn admit(&self, put: &Put) -> Result<(Version, Visit, Duration), Refusal> {
        let now_ms = self.clock.wall_ms();
        let sequence = put.owner.as_ref().map_or_else(|| self.sequence.next(now_ms), |(signed, _)| *signed);
        let object = object_of(put.clone(), sequence, &self.replication);
        let ttl = Duration::from_secs(self.gate.granted_seconds(object.ttl_seconds));
        let mut purse = Purse::of_client(Plan::Equal(object.replicas.max(1).into()));
        let trail = purse.ask_own(self.own.id, 0).into();
        let admitted = self.gate.admit(Request::Put { object, trail }, self.own, now_ms)?;
        let Admitted::Visit { visit, .. } = admitted else { return Err(Refusal::Unsupported) };
        let Visit::Put { record, .. } = &visit else { return Err(Refusal::Unsupported) };
        Ok((record.version, visit, ttl))
    }
}

fn timeout(deadline: Duration) -> Refusal {
    Refusal::Timeout { deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX) }
}

/// What this comes to, or `None` if that takes longer than `deadline`.
///
/// To set a clock costs as much as the whole way to an object on the same thread and back. So one is set only for what is
/// not over when all others on this thread have had their turn.
async fn within<W: Future>(deadline: Duration, mut work: Pin<&mut W>) -> Option<W::Output> {
    tokio::select! {
        biased;
        done = &mut work => return Some(done),
        () = tokio::task::yield_now() => {}
    }
    Box::pin(tokio::time::timeout(deadline, work)).await.ok()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{Instant, sleep};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up_at_the_deadline_and_not_before() {
        let start = Instant::now();
        assert_eq!(within(DEADLINE, pin!(pending::<()>())).await, None);
        assert_eq!(start.elapsed(), DEADLINE);
        assert_eq!(within(DEADLINE, pin!(ready(1))).await, Some(1));
        let slow = async {
            sleep(DEADLINE - Duration::from_millis(1)).await;
            2
        };
        assert_eq!(within(DEADLINE, pin!(slow)).await, Some(2));
    }
}
