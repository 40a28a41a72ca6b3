//! What stands for the store, the network and the shard.

use super::*;

/// What the probes heard.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Heard {
    Put(Bytes, Rule),
    Saved(Version, i64),
    Logged(Vec<String>),
    Released(Version),
    Deleted(Option<Deletion>),
    Performed(crate::Op),
    Stopped,
}

/// Answers as its world says, and notes what it is told.
pub(super) struct Probe(pub(super) World);

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Probe {
    fn store<T: 'static>(&self, outcome: T) -> ResponseFuture<Result<T, StoreError>> {
        let (ms, refuses) = (self.0.store_ms, self.0.store_refuses.get());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            if refuses { Err(StoreError::Unwritable { reason: "full".into() }) } else { Ok(outcome) }
        })
    }
}

impl Handler<PutRecord> for Probe {
    type Result = ResponseFuture<Result<PutOutcome, StoreError>>;

    fn handle(&mut self, put: PutRecord, _: &mut Self::Context) -> Self::Result {
        self.0.note(Heard::Put(put.record.data, put.rule));
        self.store(PutOutcome::Stored { replaced: None })
    }
}

impl Handler<PutAndTell> for Probe {
    type Result = ();

    fn handle(&mut self, _: PutAndTell, _: &mut Self::Context) {
        unreachable!("objects await their own puts");
    }
}

impl Handler<SaveState> for Probe {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, save: SaveState, _: &mut Self::Context) -> Self::Result {
        self.0.note(Heard::Saved(save.version, n(&save.state)));
        self.store(())
    }
}

impl Handler<SaveLog> for Probe {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, save: SaveLog, _: &mut Self::Context) -> Self::Result {
        let lines = ObjectLog::decode(&save.log).lines(NOW).into_iter().map(|line| line.text).collect();
        self.0.note(Heard::Logged(lines));
        self.store(())
    }
}

impl Handler<DeleteRecord> for Probe {
    type Result = ResponseFuture<Result<Deleted, StoreError>>;

    fn handle(&mut self, delete: DeleteRecord, _: &mut Self::Context) -> Self::Result {
        self.0.note(Heard::Deleted(delete.deletion));
        self.store(Deleted::Gone)
    }
}

impl Handler<ReleaseRecord> for Probe {
    type Result = ResponseFuture<Result<Deleted, StoreError>>;

    fn handle(&mut self, release: ReleaseRecord, _: &mut Self::Context) -> Self::Result {
        self.0.note(Heard::Released(release.version));
        self.store(Deleted::Gone)
    }
}

impl Handler<Flush> for Probe {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        self.store(())
    }
}

impl Handler<Perform> for Probe {
    type Result = ResponseFuture<OpResult>;

    fn handle(&mut self, perform: Perform, _: &mut Self::Context) -> Self::Result {
        self.0.note(Heard::Performed(perform.request.op));
        let ms = self.0.network_ms;
        Box::pin(async move {
            match ms {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
            Ok(OpOutcome::Nodes(vec![node(3)]))
        })
    }
}

impl Handler<AsoStopped> for Probe {
    type Result = ();

    fn handle(&mut self, _: AsoStopped, _: &mut Self::Context) {
        self.0.note(Heard::Stopped);
    }
}

impl Handler<TimerDue> for Probe {
    type Result = ();

    fn handle(&mut self, _: TimerDue, _: &mut Self::Context) {
        if let Some(object) = &*self.0.object.borrow() {
            drop(visit(object, Visit::Wake));
        }
    }
}
