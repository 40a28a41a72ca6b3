//! A value that at most one reader gets (paper, section 5: Vanish), also under concurrent reads and partitions.
//!
//! The paper's form, [`crate::OneTimeFast`], gives the value out at whichever replica is read first, so two that
//! do not hear of each other in time both do. Here the replica that is read *claims* the value and hands it out
//! only with the votes of a majority of the voters; otherwise it declines, and the value stays.
//!
//! # Why at most one claim wins
//!
//! A claim is (node, number, turn): `node` is the id that the connection proved, `number` is drawn at random
//! whenever the object comes into a node's memory, and `turn` counts its reads from then on.
//!
//! 1. *The voters are fixed by the put.* [`OneTime::create`] names n nodes in the value. Only they have a vote,
//!    only in the replica that the put itself brought them, and a majority is more than n / 2. A copy that upkeep
//!    or a hand-over makes has no vote, and neither has a voter that lost its disk and was sent a copy again.
//! 2. *A voter's vote belongs to one claim at a time*, and its "yes" leaves after that is on disk
//!    (`aso.durable`). So two claims can both have a majority only if some voter's vote passed from the one to
//!    the other.
//! 3. *A vote leaves a claim only when that claim can no longer win.* It passes in two ways. The claimant withdraws
//!    it, having counted too few votes and declined; or a later turn of the same node and number asks. A claim
//!    wins only while its turn is the latest and the value unread, and sets `read`, after which this replica
//!    makes no claims. The reply leaves when `read` and the replica's own vote are on disk.
//! 4. *Nothing of a claim outlives its claimant's memory.* After a restart or a failed turn no handler is waiting
//!    for its votes, and later claims have another number. That is needed because a claim leaves before the turn
//!    that made it is on disk: a turn that came twice would let late messages of the one free the votes of the other.
//! 5. *Late and repeated messages change nothing.* The same turn never gets a vote twice, an earlier one never while
//!    a later one holds it, and a withdrawal frees only its own claim's vote. A repeated claim may take a vote for
//!    a claim that is lost, which costs a vote and gives nothing away.
//!
//! So of two winning claims one would, by 2 and 3, have lost before the other won.
//!
//! # What it costs, and what it does not promise
//!
//! A get gives the replica that is asked first 14 messages. A claim takes one for each other voter, and 15 of twenty
//! are a majority; the withdrawal, or the deletion of the others, has what is left. Beyond eight voters a withdrawal
//! does not reach all, as if it were lost. Deletions go on at the next three ticks. A replica that is asked in
//! another's stead has too few messages to claim, and declines.
//!
//! A claim takes as long as the slowest voter, and a get that may go to any replica is put to a second one when the
//! first takes long: that would make one reader two claimants, who take each other's votes. So [`OneTime::take`]
//! asks all replicas and names the one that is to claim. A plain get names nobody: behind several dead voters it
//! can be declined again and again until upkeep and routing have noticed them.
//!
//! Two concurrent claims may split the votes; both are declined, withdrawn, and either reader may ask again. While
//! no majority of the voters is reachable, or once half of them are gone for good, nobody gets the value. A
//! reply that is lost on the way takes the value with it. A withdrawal that is lost leaves its votes where they are, until
//! the same replica is read again before it restarts. A node that lies can say anything, has the value if it is a replica, and can use votes up, as anyone can use
//! the value up by reading it. A disk that is set back to an older state forgets votes.
//!
//! Without a list of voters, as from the command line, `count` says how many replicas the put goes to, and all that it
//! brought the object to vote. If slow nodes made it go to more, n / 2 + 1 of `count` is a majority only for up to
//! `count` + 1 nodes with an even `count`, and `count` with an odd one.

use comet_routing::Key;
use comet_runtime::{
    Refusal, Value,
    dht::{Dht, Expected, Get, Put, PutReport, Read},
};
use comet_store::Code;

use crate::{
    App, AppError, Setting,
    client::{declined, with_settings},
};

/// Replicas that one [`OneTime::take`] lets claim, one after the other: those before the last did not answer.
const CLAIMANTS_MAX: usize = 3;

pub(crate) const APP: App = App {
    name: "one-time",
    summary: "gives its value to at most one reader, with the votes of a majority of its replicas",
    source: include_str!("../aso/one_time.lua"),
    settings: &[Setting {
        name: "count",
        meaning: "how many replicas the put goes to, 1 to 20; more than half of them must agree to a read",
        default: Some("8"),
    }],
};

/// A one-time value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneTime {
    key: Key,
}

impl OneTime {
    /// The one-time value at a key.
    pub fn at(key: Key) -> Self {
        Self { key }
    }

    /// Stores the value on the `replicas` nodes closest to the key, 1 to 20, which become its voters.
    ///
    /// Fails with [`Refusal::NoQuorum`] if it did not reach a majority of the nodes that were found before, which
    /// can happen while many nodes come and go; then nobody can read it.
    pub async fn create(&self, dht: &impl Dht, value: Value, replicas: u8) -> Result<PutReport, Refusal> {
        let mut voters = dht.lookup(self.key).await?.nodes;
        voters.truncate(usize::from(replicas));
        let list = Value::List(voters.iter().copied().map(Value::Node).collect());
        let put = Put {
            key: self.key,
            data: with_settings(value, [("voters", list)]).encode(),
            code: Some(Code::new(APP.source)),
            publication: None,
            ttl: None,
            replicas: Some(voters.len() as u8),
            owner: None,
            expected: Expected::Any,
            deadline: None,
        };
        let report = dht.put(put).await?;
        let seated = report.stored.iter().filter(|(node, _)| voters.iter().any(|voter| voter.id == node.id));
        let (stored, wanted) = (seated.count() as u8, voters.len() as u8);
        let quorum = wanted / 2 + 1;
        if stored < quorum {
            let reason = "the nodes closest to the key are no longer those that were found".into();
            return Err(Refusal::NoQuorum { stored, wanted, quorum, reason });
        }
        Ok(report)
    }

    /// The value, or `None` if somebody has read it. [`AppError::Declined`] if no majority agreed: the value is
    /// still there, and asking again later may succeed.
    pub async fn take(&self, dht: &impl Dht) -> Result<Option<Value>, AppError> {
        let Some(nearest) = dht.lookup(self.key).await?.nodes.into_iter().next() else { return Ok(None) };
        let mut claimant = nearest.id;
        for _ in 0..CLAIMANTS_MAX {
            let payload = Value::map([("claimant".into(), Value::str(claimant.to_string()))]);
            let get = Get { key: self.key, payload: Some(payload), read: Read::All, deadline: None };
            let report = match dht.get(get).await {
                Err(Refusal::NotFound) => return Ok(None),
                heard => heard?,
            };
            if let Some(answer) = report.answers.iter().find(|answer| answer.replica.id == claimant) {
                return outcome(&answer.value);
            }
            // A claim that failed, or takes too long, may have won: nobody else is to claim for this reader.
            let failed = report.failed.into_iter().find(|(node, _)| node.id == claimant);
            if let Some((_, refusal)) =
                failed.filter(|(_, why)| !matches!(why, Refusal::NotFound | Refusal::Unreachable(_)))
            {
                return Err(refusal.into());
            }
            let unread = |value: &Value| value.field("unread") == Some(&true.into());
            match report.answers.iter().find(|answer| unread(&answer.value)) {
                Some(next) => claimant = next.replica.id,
                None => return Ok(None),
            }
        }
        Err(AppError::Declined("the replicas that were to claim it did not answer; ask again later".into()))
    }
}

/// What the replica that claims says: the value, nothing if somebody has read it, or why not now.
fn outcome(answer: &Value) -> Result<Option<Value>, AppError> {
    match (answer, declined(answer)) {
        (_, Some(reason)) => Err(AppError::Declined(reason)),
        (Value::Nil, None) => Ok(None),
        (value, None) => Ok(Some(value.clone())),
    }
}

#[cfg(test)]
mod tests;
