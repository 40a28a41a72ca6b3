//! Why a handler runs: who waits for its outcome, and what is to be done with it.

use std::sync::Arc;

use actix::{
    MailboxError,
    prelude::{Recipient, SendError},
};
use comet_store::{Deletion, PutAndTell, PutOutcome, PutRecord, Record, Rule, Source, StoreError};
use tokio::sync::oneshot;

use super::Reply;
use crate::{
    ActivationError, Blueprint, Caller, Condition, Limits, Reach, Refusal, Trail, state, visit::Served,
};

/// A put whose object is new here.
pub(crate) struct Arrival {
    /// Who brings it.
    pub(crate) caller: Caller,
    /// What the store has to hold for it, if that matters.
    pub(crate) condition: Option<Condition>,
    /// What its `onPut` may cause.
    pub(crate) trail: Trail,
    /// Who waits.
    pub(crate) reply: Reply,
}

/// What an invocation is for.
pub(super) enum Errand {
    /// A get.
    Answer(Reply),
    /// A put that met an object here.
    Update { reply: Reply, caller: Caller, record: Arc<Record>, trail: Trail },
    /// A deletion that no owner signed.
    Delete { reply: Reply, deletion: Deletion },
    /// The arrival of a new object, whom it is charged to, and when it may take the place of what is stored.
    Arrive { reply: Reply, source: Option<Source>, rule: Rule },
    /// The timer.
    Tick,
    /// What came of a request that the object made.
    Callback,
}

impl Errand {
    /// Tells whoever waits, if anybody does.
    pub(super) fn answer(self, result: Result<Served, Refusal>) {
        if let Some(reply) = self.into_reply() {
            reply.send(result).ok();
        }
    }

    /// The way back to whoever waits, if anybody does.
    pub(super) fn into_reply(self) -> Option<Reply> {
        match self {
            Self::Answer(reply) => Some(reply),
            Self::Update { reply, .. } | Self::Delete { reply, .. } | Self::Arrive { reply, .. } => {
                Some(reply)
            }
            Self::Tick | Self::Callback => None,
        }
    }
}

/// What an object is made from, if the record is an active one.
pub(crate) fn blueprint(record: &Record, reach: Reach) -> Option<Blueprint> {
    let code = record.code.clone()?;
    Some(Blueprint { key: record.key, code, data: record.data.clone(), state: record.state.clone(), reach })
}

/// A record as it may enter: the state of a copy without the sender's capabilities.
pub(crate) fn newcomer(mut record: Arc<Record>, limits: &Limits) -> Result<Arc<Record>, Refusal> {
    let state = state::without_capabilities(&record.state, limits)
        .map_err(|error| Refusal::Invalid(format!("the state of the copy cannot be read: {error}")))?;
    if state != record.state {
        Arc::make_mut(&mut record).state = state;
    }
    Ok(record)
}

/// An activation error as the one who brought or wanted the object hears it.
pub(crate) fn activation_refusal(error: ActivationError) -> Refusal {
    match error {
        ActivationError::BadCode(text) => Refusal::BadCode(text),
        ActivationError::Unreadable(text) => Refusal::Corrupt(text),
        ActivationError::NoRoom => Refusal::Overloaded("the sandbox".into()),
    }
}

/// Answers a put once the store has decided. It goes on after the actor has stopped: whoever waits must hear.
/// Says afterwards whether the record is stored.
pub(crate) fn answer_when_put(
    put: impl Future<Output = Result<Result<PutOutcome, StoreError>, MailboxError>> + 'static,
    reply: Reply,
    served: Served,
) -> oneshot::Receiver<bool> {
    let (tell, stored) = oneshot::channel();
    actix::spawn(async move {
        let result = outcome_of(put.await.unwrap_or(Err(StoreError::Stopped)), served);
        tell.send(result.is_ok()).ok();
        reply.send(result).ok();
    });
    stored
}

/// Puts a record, and has the store answer it, or `decline` on the store's thread if the rule leaves it to an object's handlers.
pub(crate) fn put_and_answer(
    store: &Recipient<PutAndTell>,
    put: PutRecord,
    reply: Reply,
    served: Served,
    decline: impl FnOnce(Reply) + Send + 'static,
) {
    let tell = Box::new(|outcome| match outcome {
        Ok(PutOutcome::HasHandlers) => decline(reply),
        outcome => drop(reply.send(outcome_of(outcome, served))),
    });
    match store.try_send(PutAndTell { put, tell }) {
        Ok(()) => {}
        Err(SendError::Full(PutAndTell { tell, .. })) => tell(Err(StoreError::Overloaded)),
        Err(SendError::Closed(PutAndTell { tell, .. })) => tell(Err(StoreError::Stopped)),
    }
}

/// What a put came to that the store has decided.
fn outcome_of(outcome: Result<PutOutcome, StoreError>, served: Served) -> Result<Served, Refusal> {
    match outcome? {
        PutOutcome::Stored { .. } | PutOutcome::Unchanged => Ok(served),
        // Only who asks for it hears this, and has it declined.
        PutOutcome::HasHandlers => Err(Refusal::Unsupported),
        PutOutcome::Unexpected { held } => Err(Refusal::Conflict { held }),
        PutOutcome::Stale { held } => Err(Refusal::Stale { held_sequence: held.sequence }),
    }
}

/// Answers once a write is stored. It goes on after the actor has stopped: whoever waits must hear.
pub(crate) fn answer_when_stored<T: 'static>(
    write: impl Future<Output = Result<Result<T, StoreError>, MailboxError>> + 'static,
    reply: Reply,
    served: Served,
) {
    actix::spawn(async move {
        let result = match write.await {
            Ok(Ok(_)) => Ok(served),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(StoreError::Stopped.into()),
        };
        reply.send(result).ok();
    });
}

/// Answers once what an object changed is stored, even after its actor has stopped. Says afterwards what came
/// of it.
pub(super) fn answer_when_saved(
    saved: impl Future<Output = Result<(), StoreError>> + 'static,
    answer: Option<(Reply, Served)>,
) -> oneshot::Receiver<Result<(), StoreError>> {
    let (tell, stored) = oneshot::channel();
    actix::spawn(async move {
        let result = saved.await;
        tell.send(result.clone()).ok();
        if let Some((reply, served)) = answer {
            reply.send(result.map(|()| served).map_err(Refusal::from)).ok();
        }
    });
    stored
}
