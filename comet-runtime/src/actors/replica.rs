//! The way to an object on this replica, from any thread.
//!
//! An active object is in the [`Directory`] and gets its visits directly; a plain value is read from the store
//! without waking anybody; everything else goes to the shard that the key belongs to.

use std::{sync::Arc, time::Instant};

use actix::prelude::*;
use comet_routing::{Key, clock::Clock};
use comet_store::{Seal, StoreReader};
use dashmap::DashMap;
use tokio::sync::oneshot;

use super::aso::{Aso, Deliver, series::DeliverSeries};
use crate::{
    Refusal,
    dht::Usage,
    visit::{Served, Visit},
};

/// How often a visit is sent again when its object stopped before it began: each turn that fails ends the object for those behind it.
const ATTEMPTS_MAX: usize = 16;

/// The active objects of one node.
#[derive(Default)]
pub struct Directory {
    active: DashMap<Key, Addr<Aso>>,
}

impl Directory {
    /// Active objects.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// True if no object is active.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// True if this object is active.
    pub fn contains(&self, key: &Key) -> bool {
        self.active.contains_key(key)
    }

    pub(super) fn enter(&self, key: Key, object: Addr<Aso>) {
        self.active.insert(key, object);
    }

    /// Takes out an object that has stopped; a successor under the same key stays.
    pub(super) fn remove_stopped(&self, key: &Key) {
        self.active.remove_if(key, |_, object| !object.connected());
    }
}

/// How far a visit has come.
#[derive(Debug)]
pub enum Begun {
    /// It is over.
    Served(Result<Served, Refusal>),
    /// It waits for its turn. What is dropped without an answer was never begun.
    Sent(oneshot::Receiver<Result<Served, Refusal>>),
}

impl Begun {
    fn refused(refusal: Refusal) -> Self {
        Self::Served(Err(refusal))
    }
}

/// Serves visits to the objects of one node.
#[derive(Clone)]
pub struct Replica {
    directory: Arc<Directory>,
    reader: StoreReader,
    shards: Arc<[Recipient<Deliver>]>,
    clock: Clock,
}

impl Replica {
    /// A way to the objects that these shards keep. There must be at least one shard.
    pub fn new(
        directory: Arc<Directory>,
        reader: StoreReader,
        shards: Vec<Recipient<Deliver>>,
        clock: Clock,
    ) -> Self {
        assert!(!shards.is_empty(), "objects need a shard to live on");
        Self { directory, reader, shards: shards.into(), clock }
    }

    /// Which of `shards` shards an object belongs to.
    pub(super) fn shard_of(key: &Key, shards: usize) -> usize {
        usize::from(u16::from_be_bytes([key.as_bytes()[0], key.as_bytes()[1]])) % shards
    }

    /// The active objects.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Carries out a visit.
    pub async fn serve(&self, key: Key, visit: Visit) -> Result<Served, Refusal> {
        self.serve_sent(self.clock.now(), key, visit).await
    }

    /// Carries out a visit that was sent at this time.
    pub async fn serve_sent(&self, sent: Instant, key: Key, visit: Visit) -> Result<Served, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            match self.begin(sent, key, &visit) {
                Begun::Served(served) => return served,
                Begun::Sent(outcome) => {
                    if let Ok(served) = outcome.await {
                        return served;
                    }
                }
            }
        }
        Err(Refusal::Stopping("the object".into()))
    }

    /// Serves a visit at once or sends it to its object or, if that is not active, to its shard, for those who have more to do before
    /// they wait. A visit that was never begun is theirs to send again.
    ///
    /// An address is used where it lies in the directory: a copy of it would have a place in the mailbox to itself, so that the
    /// mailbox were never full.
    pub fn begin(&self, sent: Instant, key: Key, visit: &Visit) -> Begun {
        let deliver = |visit| {
            let (reply, outcome) = oneshot::channel();
            (Deliver { key, visit, sent, reply }, Begun::Sent(outcome))
        };
        let (deliver, begun) = match self.directory.active.get(&key) {
            Some(object) => {
                let (deliver, begun) = deliver(visit.clone());
                match object.try_send(deliver) {
                    Ok(()) => return begun,
                    Err(SendError::Full(_)) => {
                        return Begun::refused(Refusal::Overloaded("the object".into()));
                    }
                    Err(SendError::Closed(deliver)) => (deliver, begun),
                }
            }
            None => match self.serve_plain(&key, visit) {
                Some(served) => return Begun::Served(served),
                None => deliver(visit.clone()),
            },
        };
        let shard = &self.shards[Self::shard_of(&key, self.shards.len())];
        match shard.try_send(deliver) {
            Ok(()) => begun,
            Err(SendError::Full(_)) => Begun::refused(Refusal::Overloaded("the node".into())),
            Err(SendError::Closed(_)) => Begun::refused(Refusal::Stopping("the node".into())),
        }
    }

    /// Sends several gets of one object to it at once, if it is active and takes them. Those that are not among what comes back
    /// were never begun.
    pub fn begin_series(
        &self,
        sent: Instant,
        key: Key,
        get: &Visit,
        times: usize,
    ) -> Option<oneshot::Receiver<Vec<Begun>>> {
        let object = self.directory.active.get(&key)?;
        let (reply, begun) = oneshot::channel();
        object.try_send(DeliverSeries { key, visit: get.clone(), times, sent, reply }).ok()?;
        Some(begun)
    }

    /// A get of a plain value, or of nothing, is answered from the store at once.
    fn serve_plain(&self, key: &Key, visit: &Visit) -> Option<Result<Served, Refusal>> {
        let Visit::Get { .. } = visit else { return None };
        match self.reader.record(key, self.clock.wall_ms()) {
            Ok(None) => Some(Err(Refusal::NotFound)),
            Ok(Some(record)) if record.code.is_none() => Some(Ok(Served::Got {
                seal: Seal::of(&record).map(Box::new),
                value: record.data,
                version: record.version,
                active: false,
                usage: Usage::default(),
            })),
            Ok(Some(_)) => None,
            Err(error) => Some(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use comet_store::{StoreConfig, in_memory};

    use super::*;

    /// A shard whose objects stop before the first `dropped` visits begin.
    struct Probe {
        dropped: usize,
        heard: usize,
    }

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Handler<Deliver> for Probe {
        type Result = ();

        fn handle(&mut self, message: Deliver, _: &mut Self::Context) {
            self.heard += 1;
            if self.heard > self.dropped {
                message.reply.send(Ok(Served::Ticked)).ok();
            }
        }
    }

    fn replica(dropped: usize) -> Replica {
        let (_, reader) = in_memory(StoreConfig::default());
        let shard = Probe { dropped, heard: 0 }.start().recipient();
        Replica::new(Arc::default(), reader, vec![shard], Clock::System)
    }

    #[actix::test]
    async fn a_visit_that_was_never_begun_is_sent_again() {
        let served = replica(ATTEMPTS_MAX - 1).serve(Key::of("a"), Visit::Wake).await;
        assert_eq!(served, Ok(Served::Ticked));
        let refused = replica(ATTEMPTS_MAX).serve(Key::of("a"), Visit::Wake).await;
        assert_eq!(refused, Err(Refusal::Stopping("the object".into())));
    }
}
