//! The way to an object on this replica, from any thread.
//!
//! An active object is in the [`Directory`] and gets its visits directly; a plain value is read from the store
//! without waking anybody; everything else goes to the shard that the key belongs to.

use std::sync::Arc;

use actix::prelude::*;
use comet_routing::{Key, clock::Clock};
use comet_store::StoreReader;
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
        for _ in 0..ATTEMPTS_MAX {
            let object = self.directory.find(&key);
            if object.is_none()
                && let Some(served) = self.serve_plain(&key, &visit)
            {
                return served;
            }
            let (reply, outcome) = oneshot::channel();
            let deliver = Deliver { key, visit: visit.clone(), reply };
            let sent = match object {
                Some(object) => object.try_send(deliver).or_else(|refused| match refused {
                    SendError::Closed(deliver) => self.to_shard(deliver),
                    full => Err(full),
                }),
                None => self.to_shard(deliver),
            };
            match sent {
                Ok(()) => {}
                Err(SendError::Full(_)) => return Err(Refusal::Overloaded("the object".into())),
                Err(SendError::Closed(_)) => return Err(Refusal::Stopping("the node".into())),
            }
            if let Ok(result) = outcome.await {
                return result;
            }
        }
        Err(Refusal::Stopping("the object".into()))
    }

    fn to_shard(&self, deliver: Deliver) -> Result<(), SendError<Deliver>> {
        let shard = Self::shard_of(&deliver.key, self.shards.len());
        match self.shards.get(shard) {
            Some(shard) => shard.try_send(deliver),
            None => Err(SendError::Closed(deliver)),
        }
    }

    /// A get of a plain value, or of nothing, is answered from the store at once.
    fn serve_plain(&self, key: &Key, visit: &Visit) -> Option<Result<Served, Refusal>> {
        let Visit::Get { .. } = visit else { return None };
        match self.reader.record(key, self.clock.wall_ms()) {
            Ok(None) => Some(Err(Refusal::NotFound)),
            Ok(Some(record)) if record.code.is_none() => Some(Ok(Served::Got {
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
