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

use super::aso::{Aso, Deliver};
use crate::{
    Refusal,
    dht::Usage,
    visit::{Served, Visit},
};

/// How often a visit is sent again when its object stopped before it began.
const ATTEMPTS_MAX: usize = 4;

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

    pub(super) fn find(&self, key: &Key) -> Option<Addr<Aso>> {
        self.active.get(key).map(|entry| entry.value().clone())
    }

    pub(super) fn enter(&self, key: Key, object: Addr<Aso>) {
        self.active.insert(key, object);
    }

    /// Takes out an object that has stopped; a successor under the same key stays.
    pub(super) fn remove_stopped(&self, key: &Key) {
        self.active.remove_if(key, |_, object| !object.connected());
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
            let object = self.directory.find(&key);
            if object.is_none()
                && let Some(served) = self.serve_plain(&key, &visit)
            {
                return served;
            }
            let (reply, outcome) = oneshot::channel();
            let deliver = Deliver { key, visit: visit.clone(), sent, reply };
            self.send(object, deliver)?;
            if let Ok(result) = outcome.await {
                return result;
            }
        }
        Err(Refusal::Stopping("the object".into()))
    }

    /// Sends a visit to its object or, if that is not active, to its shard.
    fn send(&self, object: Option<Addr<Aso>>, deliver: Deliver) -> Result<(), Refusal> {
        let deliver = match object {
            None => deliver,
            Some(object) => match object.try_send(deliver) {
                Ok(()) => return Ok(()),
                Err(SendError::Full(_)) => return Err(Refusal::Overloaded("the object".into())),
                Err(SendError::Closed(deliver)) => deliver,
            },
        };
        let shard = &self.shards[Self::shard_of(&deliver.key, self.shards.len())];
        shard.try_send(deliver).map_err(|refused| match refused {
            SendError::Full(_) => Refusal::Overloaded("the node".into()),
            SendError::Closed(_) => Refusal::Stopping("the node".into()),
        })
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
