//! The actor that writes.
//!
//! [`ReplicaStore`] runs on an arbiter of its own, because commits block its thread. It collects writes while
//! its mailbox has any and commits them as one group once the mailbox is empty: under load groups grow by
//! themselves, and a lone write waits for nobody. Every write is answered after its group.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use comet_routing::{
    Key,
    clock::{Clock, WallMs},
};
use tokio::sync::oneshot;

use crate::{
    Deleted, Deletion, Durability, PutOutcome, Record, Rule, Source, StoreError, StoreWriter, Version,
    engine::OnDisk, writer::Swept,
};

/// How often [`Durability::Interval`] takes what was written to the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(1);

/// Stores a record that came from a client or a replica.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<PutOutcome, StoreError>")]
pub struct PutRecord {
    /// The record, verified by the sender: version, ownership and sizes.
    pub record: Arc<Record>,
    /// Whom to charge it to; `None` for this node's own clients.
    pub source: Option<Source>,
    /// When it may take the place of what is held.
    pub rule: Rule,
    /// When its timer is due, by this node's wall clock.
    pub timer_ms: Option<WallMs>,
}

/// Stores a record, and tells what came of it on the store's thread: one message less and no future for each put, where the same
/// could be awaited.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PutAndTell {
    /// The put.
    pub put: PutRecord,
    /// Hears what came of it. It must not block: others wait for the store.
    pub tell: Box<dyn FnOnce(Result<PutOutcome, StoreError>) + Send>,
}

/// Saves what an object's handlers made of it. Done without effect if that version is no longer held.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveState {
    /// The object.
    pub key: Key,
    /// The version that the state belongs to.
    pub version: Version,
    /// The state.
    pub state: Bytes,
    /// When the object's timer is due; `None` if it has none.
    pub timer_ms: Option<WallMs>,
    /// The record's new expiry; `None` leaves it.
    pub expires_ms: Option<WallMs>,
}

/// Saves an object's log. Done without effect if the object is no longer held; the log goes with the object.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveLog {
    /// The object.
    pub key: Key,
    /// All of its log, at most [`crate::LOG_BYTES_MAX`] bytes.
    pub log: Bytes,
}

/// Forgets an object.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Deleted, StoreError>")]
pub struct DeleteRecord {
    /// The object.
    pub key: Key,
    /// Remember this, even if the object is not held.
    pub deletion: Option<Deletion>,
    /// Whom to charge the memory of it to if the object is not held, else it is whom the record is charged to; `None`
    /// for this node's own clients.
    pub source: Option<Source>,
}

/// Forgets an object that other nodes keep, without remembering that as a deletion. Done without effect if another
/// version is held by then.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Deleted, StoreError>")]
pub struct ReleaseRecord {
    /// The object.
    pub key: Key,
    /// The version that is to go.
    pub version: Version,
}

/// Saves what the node wants to know about itself after a restart.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveMeta {
    /// Under this name.
    pub name: String,
    /// Name and value take at most [`crate::META_BYTES_MAX`] bytes.
    pub value: Bytes,
}

/// Takes everything written so far to the disk, whatever the durability.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Flush;

/// A record reached the end of its lifetime and is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct RecordExpired {
    /// The object.
    pub key: Key,
}

/// Commits the open group, once the mailbox is empty.
#[derive(Message)]
#[rtype(result = "()")]
struct CommitGroup;

/// Sweeps out what has expired.
#[derive(Message)]
#[rtype(result = "()")]
struct Sweep;

/// What became of a group.
type Committed = Result<(), StoreError>;

/// The single writer of a node's store, as an actor.
pub struct ReplicaStore {
    writer: StoreWriter,
    clock: Clock,
    expired: Vec<Recipient<RecordExpired>>,
    /// Whoever wants to hear of the open group.
    waiting: Vec<Box<dyn FnOnce(Committed)>>,
    opened_at: Option<Instant>,
}

impl ReplicaStore {
    /// The actor around a writer; it tells `expired` about each record that it sweeps out.
    pub fn new(writer: StoreWriter, clock: Clock, expired: Vec<Recipient<RecordExpired>>) -> Self {
        Self { writer, clock, expired, waiting: Vec::new(), opened_at: None }
    }

    /// Decides a write now and answers it after its group.
    fn write<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        decide: impl FnOnce(&mut StoreWriter, WallMs) -> Result<T, StoreError>,
    ) -> ResponseFuture<Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        // A writer that no longer waits has no use for the answer.
        self.write_and_tell(ctx, decide, |outcome| drop(answer.send(outcome)));
        Box::pin(async move { answered.await.unwrap_or(Err(StoreError::Stopped)) })
    }

    /// As [`Self::write`], for whoever wants to be told.
    fn write_and_tell<T: 'static>(
        &mut self,
        ctx: &mut Context<Self>,
        decide: impl FnOnce(&mut StoreWriter, WallMs) -> Result<T, StoreError>,
        tell: impl FnOnce(Result<T, StoreError>) + 'static,
    ) {
        let now = self.clock.now();
        let decided = self.writer.ready(now).and_then(|()| decide(&mut self.writer, self.clock.wall_ms()));
        match decided {
            Ok(outcome) if self.writer.has_open_group() => {
                self.waiting.push(Box::new(|committed: Committed| tell(committed.map(|()| outcome))));
                self.grow_group(now, ctx);
            }
            decided => tell(decided),
        }
    }

    /// Commits the group if it is full or old, else when the mailbox is empty.
    fn grow_group(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let opened_at = *self.opened_at.get_or_insert_with(|| {
            ctx.notify(CommitGroup);
            now
        });
        let age_max = Duration::from_millis(self.writer.config().group_ms_max);
        if self.waiting.len() >= self.writer.config().group_writes_max
            || now.saturating_duration_since(opened_at) >= age_max
        {
            self.commit_group();
        }
    }

    fn commit_group(&mut self) {
        let by = match self.writer.config().durability {
            Durability::Commit => OnDisk::Now,
            Durability::Interval => OnDisk::Later,
        };
        // Those who wait hear of a failure, and the writer has logged it.
        let _ = self.commit(by);
    }

    fn commit(&mut self, by: OnDisk) -> Result<(), StoreError> {
        self.opened_at = None;
        let committed = self.writer.commit(by, self.clock.now());
        for tell in self.waiting.drain(..) {
            tell(committed.as_ref().map(|_| ()).map_err(StoreError::clone));
        }
        for key in committed? {
            self.expired.iter().for_each(|recipient| recipient.do_send(RecordExpired { key }));
        }
        Ok(())
    }
}

impl Actor for ReplicaStore {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.writer.config().queue_max);
        ctx.run_interval(Duration::from_millis(self.writer.config().sweep_interval_ms.max(1)), |_, ctx| {
            ctx.notify(Sweep);
        });
        if self.writer.config().durability == Durability::Interval {
            ctx.run_interval(DISK_INTERVAL, |store, _| {
                // The writer has logged a failure.
                let _ = store.commit(OnDisk::Now);
            });
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        // There is nobody left to tell, and the writer has logged a failure.
        let _ = self.commit(OnDisk::Now);
    }
}

impl Handler<PutRecord> for ReplicaStore {
    type Result = ResponseFuture<Result<PutOutcome, StoreError>>;

    fn handle(&mut self, put: PutRecord, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, now| writer.put(&put.record, put.source, put.rule, put.timer_ms, now))
    }
}

impl Handler<PutAndTell> for ReplicaStore {
    type Result = ();

    fn handle(&mut self, PutAndTell { put, tell }: PutAndTell, ctx: &mut Self::Context) {
        let decide =
            |writer: &mut StoreWriter, now| writer.put(&put.record, put.source, put.rule, put.timer_ms, now);
        self.write_and_tell(ctx, decide, tell);
    }
}

impl Handler<SaveState> for ReplicaStore {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, save: SaveState, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, _| {
            writer.save_state(&save.key, save.version, save.state, save.timer_ms, save.expires_ms)
        })
    }
}

impl Handler<SaveLog> for ReplicaStore {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, save: SaveLog, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, _| writer.save_log(&save.key, save.log))
    }
}

impl Handler<DeleteRecord> for ReplicaStore {
    type Result = ResponseFuture<Result<Deleted, StoreError>>;

    fn handle(&mut self, delete: DeleteRecord, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, now| writer.delete(&delete.key, delete.deletion, delete.source, now))
    }
}

impl Handler<ReleaseRecord> for ReplicaStore {
    type Result = ResponseFuture<Result<Deleted, StoreError>>;

    fn handle(&mut self, release: ReleaseRecord, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, _| writer.release_version(&release.key, release.version))
    }
}

impl Handler<SaveMeta> for ReplicaStore {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, save: SaveMeta, ctx: &mut Self::Context) -> Self::Result {
        self.write(ctx, |writer, _| writer.save_meta(save.name, save.value))
    }
}

impl Handler<Flush> for ReplicaStore {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        self.writer.ready(self.clock.now())?;
        self.commit(OnDisk::Now)
    }
}

impl Handler<CommitGroup> for ReplicaStore {
    type Result = ();

    fn handle(&mut self, _: CommitGroup, _: &mut Self::Context) {
        self.commit_group();
    }
}

impl Handler<Sweep> for ReplicaStore {
    type Result = ();

    fn handle(&mut self, _: Sweep, ctx: &mut Self::Context) {
        let now = self.clock.now();
        if self.writer.ready(now).is_err() {
            return;
        }
        match self.writer.sweep(self.clock.wall_ms()) {
            Ok(Swept::All) => {}
            Ok(Swept::Part) => ctx.notify(Sweep),
            Err(error) => log::warn!("expired records could not be swept out: {error}"),
        }
        self.commit_group();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    };

    use super::*;
    use crate::{
        StoreConfig, StoreReader,
        codec::{Header, expiry_entry_ms},
        engine::{Batch, Engine, EngineError, Reader, memory::MemoryEngine},
        sample::{NOW, active, plain},
    };

    /// An engine that counts its commits and fails when told to.
    #[derive(Clone, Default)]
    struct Probe {
        inner: MemoryEngine,
        commits: Arc<AtomicUsize>,
        is_full: Arc<AtomicBool>,
        last: Arc<Mutex<Option<OnDisk>>>,
    }

    impl Engine for Probe {
        fn commit(&mut self, batch: Batch, by: OnDisk) -> Result<(), EngineError> {
            self.commits.fetch_add(1, SeqCst);
            *self.last.lock().unwrap() = Some(by);
            if self.is_full.load(SeqCst) {
                return Err(EngineError::Io { reason: "no space left on device".into() });
            }
            self.inner.commit(batch, by)
        }

        fn reader(&self) -> Arc<dyn Reader> {
            self.inner.reader()
        }
    }

    /// An actor that keeps what it is told.
    #[derive(Default)]
    struct Listener(Vec<Key>);

    impl Actor for Listener {
        type Context = Context<Self>;
    }

    impl Handler<RecordExpired> for Listener {
        type Result = ();

        fn handle(&mut self, expired: RecordExpired, _: &mut Self::Context) {
            self.0.push(expired.key);
        }
    }

    #[derive(Message)]
    #[rtype(result = "Vec<Key>")]
    struct Heard;

    impl Handler<Heard> for Listener {
        type Result = Vec<Key>;

        fn handle(&mut self, _: Heard, _: &mut Self::Context) -> Self::Result {
            std::mem::take(&mut self.0)
        }
    }

    async fn start(
        engine: &Probe,
        config: StoreConfig,
        expired: Vec<Recipient<RecordExpired>>,
    ) -> (Addr<ReplicaStore>, StoreReader) {
        let header = Header { network: "test".into() };
        let writer = StoreWriter::new(Box::new(engine.clone()), header, config).unwrap();
        let reader = writer.reader();
        let store = ReplicaStore::new(writer, Clock::starting_at(NOW), expired).start();
        store.send(Flush).await.unwrap().unwrap();
        (store, reader)
    }

    fn put(record: Record) -> PutRecord {
        PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None }
    }

    const STORED: Result<PutOutcome, StoreError> = Ok(PutOutcome::Stored { replaced: None });

    fn full() -> StoreError {
        StoreError::Unwritable { reason: "no space left on device".into() }
    }

    #[actix::test]
    async fn a_lone_write_waits_for_nobody() {
        tokio::time::pause();
        let engine = Probe::default();
        let (store, reader) = start(&engine, StoreConfig::default(), vec![]).await;
        let before = Clock::System.now();
        let record = plain("name", 1, b"data");
        assert_eq!(store.send(put(record.clone())).await.unwrap(), STORED);
        assert_eq!(reader.record(&record.key, NOW), Ok(Some(record)));
        assert_eq!(Clock::System.now(), before);
        assert_eq!(engine.commits.load(SeqCst), 1);
    }

    #[actix::test]
    async fn writes_that_arrive_together_are_committed_together_and_at_most_a_group_of_them() {
        tokio::time::pause();
        let engine = Probe::default();
        let (store, reader) = start(&engine, StoreConfig::default(), vec![]).await;
        let waiting: Vec<_> = (0..300).map(|n| store.send(put(plain(&n.to_string(), 1, b"data")))).collect();
        for answer in waiting {
            assert_eq!(answer.await.unwrap(), STORED);
        }
        assert_eq!(engine.commits.load(SeqCst), 2);
        assert_eq!(reader.totals().records, 300);
    }

    #[actix::test]
    async fn a_storm_of_states_of_one_object_is_one_commit() {
        tokio::time::pause();
        let engine = Probe::default();
        let (store, reader) = start(&engine, StoreConfig::default(), vec![]).await;
        let record = active("name", 1, b"data", "aso.n = 0");
        store.send(put(record.clone())).await.unwrap().unwrap();
        let save = |n: u8| SaveState {
            key: record.key,
            version: record.version,
            state: Bytes::from(vec![n]),
            timer_ms: None,
            expires_ms: None,
        };
        let waiting: Vec<_> = (1..=200).map(|n| store.send(save(n))).collect();
        for answer in waiting {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(engine.commits.load(SeqCst), 2);
        assert_eq!(reader.record(&record.key, NOW).unwrap().unwrap().state, Bytes::from(vec![200]));
    }

    #[actix::test]
    async fn of_racing_puts_with_one_sequence_the_highest_hash_wins_whatever_the_order() {
        tokio::time::pause();
        let (store, reader) = start(&Probe::default(), StoreConfig::default(), vec![]).await;
        let records: Vec<_> = (0..100u8).map(|n| plain("name", 1, &[n])).collect();
        let waiting: Vec<_> = records.iter().map(|record| store.send(put(record.clone()))).collect();
        for answer in waiting {
            answer.await.unwrap().unwrap();
        }
        let winner = records.iter().max_by_key(|record| record.version).unwrap();
        assert_eq!(reader.record(&winner.key, NOW).as_ref(), Ok(&Some(winner.clone())));
    }

    #[actix::test]
    async fn a_full_disk_refuses_leaves_reading_alone_and_is_tried_again_after_a_pause() {
        tokio::time::pause();
        let engine = Probe::default();
        let config = StoreConfig { sweep_interval_ms: 3_600_000, ..StoreConfig::default() };
        let (store, reader) = start(&engine, config, vec![]).await;
        let (before, during, after) = (plain("a", 1, b""), plain("b", 1, b""), plain("c", 1, b""));
        store.send(put(before.clone())).await.unwrap().unwrap();

        engine.is_full.store(true, SeqCst);
        let together = [store.send(put(during.clone())), store.send(put(after.clone()))];
        for answer in together {
            assert_eq!(answer.await.unwrap(), Err(full()));
        }
        assert_eq!(reader.record(&before.key, NOW), Ok(Some(before.clone())));
        assert_eq!(reader.totals().records, 1);
        assert_eq!(reader.check(), Err(full()), "whoever only reads can tell");

        // The pause is one second after the first failure and two after the second.
        for (pause_ms, attempts) in [(999, 2), (1, 3), (1_999, 3)] {
            tokio::time::advance(Duration::from_millis(pause_ms)).await;
            assert_eq!(store.send(put(after.clone())).await.unwrap(), Err(full()));
            assert_eq!(engine.commits.load(SeqCst), attempts);
        }
        engine.is_full.store(false, SeqCst);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(store.send(put(after.clone())).await.unwrap(), STORED);
        assert_eq!(reader.check(), Ok(()));
        assert_eq!(reader.record(&after.key, NOW), Ok(Some(after)));
        assert_eq!(reader.record(&during.key, NOW), Ok(None));
        assert_eq!(reader.totals().records, 2);
    }

    #[actix::test]
    async fn what_expires_is_swept_out_and_told() {
        tokio::time::pause();
        let listener = Listener::default().start();
        let config = StoreConfig { sweep_max: 2, ..StoreConfig::default() };
        let engine = Probe::default();
        let (store, reader) = start(&engine, config, vec![listener.clone().recipient()]).await;
        let expires_ms = NOW + 500;
        let mut keys = Vec::new();
        for n in 0..5 {
            let record = Record { expires_ms, ..plain(&n.to_string(), 1, b"") };
            keys.push(record.key);
            store.send(put(record)).await.unwrap().unwrap();
        }
        let stays = plain("stays", 1, b"");
        store.send(put(stays.clone())).await.unwrap().unwrap();
        let swept_ms = expiry_entry_ms(expires_ms) - NOW + StoreConfig::default().sweep_interval_ms;
        tokio::time::sleep(Duration::from_millis(swept_ms + 100)).await;
        let mut told = listener.send(Heard).await.unwrap();
        told.sort_unstable();
        keys.sort_unstable();
        assert_eq!(told, keys);
        assert_eq!(reader.keys(None, 9), Ok(vec![stays.key]));
        assert_eq!(engine.commits.load(SeqCst), 6 + 3);
    }

    #[test]
    fn a_store_that_stops_leaves_nothing_in_memory_only() {
        let engine = Probe::default();
        let system = System::new();
        let _reader = system.block_on(async {
            let config = StoreConfig { durability: Durability::Interval, ..StoreConfig::default() };
            let (store, reader) = start(&engine, config, vec![]).await;
            assert_eq!(store.send(put(plain("name", 1, b"data"))).await.unwrap(), STORED);
            assert_eq!(engine.last.lock().unwrap().take(), Some(OnDisk::Later));
            reader
        });
        drop(system);
        assert_eq!(engine.last.lock().unwrap().take(), Some(OnDisk::Now));
    }

    #[actix::test]
    async fn with_an_interval_the_disk_follows_every_second() {
        tokio::time::pause();
        let engine = Probe::default();
        let config = StoreConfig { durability: Durability::Interval, ..StoreConfig::default() };
        let (store, _) = start(&engine, config, vec![]).await;
        assert_eq!(store.send(put(plain("name", 1, b"data"))).await.unwrap(), STORED);
        assert_eq!(engine.last.lock().unwrap().take(), Some(OnDisk::Later));
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(engine.last.lock().unwrap().take(), Some(OnDisk::Now));
        assert_eq!(engine.commits.load(SeqCst), 2);
    }
}
