//! The world around an object: probes that stand for the store, the network and the shard, and a clock that waits for nobody.

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

#[derive(Clone)]
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) patience: PatienceLimits,
    /// What callers' networks have used of the thread's time before anything happens.
    pub(super) used: Vec<(Prefix, Duration)>,
    pub(super) slice: Duration,
    pub(super) heard: Rc<RefCell<Vec<(u64, Heard)>>>,
    pub(super) store_ms: u64,
    /// When the network answers a request; `None` if it never does.
    pub(super) network_ms: Option<u64>,
    pub(super) store_refuses: Rc<Cell<bool>>,
    /// Whose timer the shard lets tick.
    pub(super) object: Rc<RefCell<Option<Addr<Aso>>>>,
}

impl World {
    pub(super) fn new() -> Self {
        tokio::time::pause();
        Self {
            clock: Clock::starting_at(NOW),
            limits: Limits::default(),
            patience: PatienceLimits::default(),
            used: Vec::new(),
            slice: SLICE,
            heard: Rc::default(),
            store_ms: 0,
            network_ms: Some(0),
            store_refuses: Rc::default(),
            object: Rc::default(),
        }
    }

    /// Milliseconds since the start, to ten: timers of the async runtime are late by up to one each.
    pub(super) fn ms(&self) -> u64 {
        (self.clock.wall_ms() - NOW) / 10 * 10
    }

    /// The same world, before anything was heard.
    pub(super) fn again(&self) -> Self {
        Self { heard: Rc::default(), ..self.clone() }
    }

    fn note(&self, heard: Heard) {
        self.heard.borrow_mut().push((self.ms(), heard));
    }

    /// What was heard since the last time.
    pub(super) fn heard(&self) -> Vec<(u64, Heard)> {
        self.heard.take()
    }

    pub(super) fn shared(&self) -> Shared {
        let (_, reader) = comet_store::in_memory(StoreConfig::default());
        let probe = Probe(self.clone()).start();
        let now = self.clock.now();
        let mut shares = Shares::new(ShareLimits::default(), now);
        self.used.iter().for_each(|(network, used)| shares.charge(*network, *used, now));
        Rc::new(Surroundings {
            links: Links::new(&probe, reader, probe.clone().recipient()),
            pool: VmPool::new(self.limits.clone().into(), Backstop::StepsOnly),
            stopped: probe.clone().recipient(),
            timer_due: probe.recipient(),
            clock: self.clock,
            local: node(9),
            reach: Reach::Strict,
            publishers: Arc::default(),
            state_flush: Duration::from_millis(200),
            rng: ChaCha12Rng::seed_from_u64(1).into(),
            allowances: RefCell::default(),
            cpu: CpuAccounts::new(CpuRate::daily(10), 100).into(),
            claims: Default::default(),
            patience: self.patience,
            shares: shares.into(),
            slice: self.slice,
            places: Places::new(100, 1).into(),
            blame: Blame::new(CpuRate::daily(86_400), CpuRate::daily(86_400)).into(),
            timers: TimerQueue::new(CpuRate::daily(86_400), NOW).into(),
            outage: Default::default(),
        })
    }

    /// An object that was in the store.
    pub(super) fn resting(&self, code: &str) -> Addr<Aso> {
        let (shared, record) = (self.shared(), record(1, Some(code)));
        let object = activate(&shared, &record);
        self.start(Aso::resting(shared, object, record, None))
    }

    pub(super) fn start(&self, object: Aso) -> Addr<Aso> {
        let object = object.launch();
        self.object.replace(Some(object.clone()));
        object
    }

    /// When the object's timer is first due, in milliseconds from the start.
    pub(super) fn first_tick_ms(&self, period_ms: u64) -> u64 {
        first_due(&Key::of("test"), period_ms, NOW) - NOW
    }

    /// An object that somebody puts.
    pub(super) fn arriving(&self, code: &str) -> (Addr<Aso>, Receiver<Result<Served, Refusal>>) {
        let (shared, record) = (self.shared(), record(1, Some(code)));
        let object = activate(&shared, &record);
        let (reply, outcome) = oneshot::channel();
        let arrival = Arrival { caller: caller(), condition: None, trail: Trail::FRESH, reply };
        (Aso::arriving(shared, object, record, arrival).launch(), outcome)
    }

    pub(super) async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// Answers as its world says, and notes what it is told.
struct Probe(World);

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
        self.0.note(Heard::Put(put.record.data.clone(), put.rule));
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
