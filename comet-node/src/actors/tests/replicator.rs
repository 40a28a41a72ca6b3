//! The replicator between a real store in memory, a probe router and probe peers.

use std::collections::BTreeSet;

use comet_runtime::{Origin, Value};
use comet_store::{Ownership, PutRecord, Record, ReplicaStore, Rule, content_hash};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::{
    actors::{Carry, CheckSoon, Replicator, ReplicatorConfig, Surveyor},
    operation::{Heard, OwnRole},
    upkeep::UpkeepCounters,
    wire::{Summary, Verdict},
};

const PERIOD: Duration = Duration::from_secs(3_600);

/// What peers were told, in the order in which it came.
#[derive(Clone, Debug, PartialEq)]
enum ToldPeer {
    Digest(Contact, usize),
    Copy(Contact, Key),
}

/// Stands for the courier and the peers behind it.
struct Peers {
    verdicts: BTreeMap<NodeId, Verdict>,
    kept: BTreeSet<(NodeId, Key)>,
    told: Vec<(Instant, ToldPeer)>,
}

impl Actor for Peers {
    type Context = Context<Self>;
}

impl Handler<Carry> for Peers {
    type Result = ();

    fn handle(&mut self, carry: Carry, _: &mut Self::Context) {
        let Carry { to, request, answer, .. } = carry;
        let heard = match Request::decode(&request).expect("nodes send what they understand") {
            Request::Digest { summaries } => {
                self.told.push((Instant::now(), ToldPeer::Digest(to, summaries.len())));
                let Some(verdict) = self.verdicts.get(&to.id) else { panic!("{to:?} is nobody's peer") };
                let has = |summary: &Summary| self.kept.contains(&(to.id, summary.key));
                let of = |summary| if has(summary) { Verdict::Same } else { verdict.clone() };
                Heard::Reply(Reply::Compared { verdicts: summaries.iter().map(of).collect() })
            }
            Request::Replicate { object, .. } => {
                self.told.push((Instant::now(), ToldPeer::Copy(to, object.key)));
                self.kept.insert((to.id, object.key));
                Heard::Reply(Reply::Stored { version: plain(1, 1).version, usage: Usage::default() })
            }
            other => panic!("upkeep does not send {other:?}"),
        };
        answer.send(heard).ok();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Says(Contact, Verdict);

impl Handler<Says> for Peers {
    type Result = ();

    fn handle(&mut self, Says(peer, verdict): Says, _: &mut Self::Context) {
        self.kept.clear();
        self.verdicts.insert(peer.id, verdict);
    }
}

#[derive(Message)]
#[rtype(result = "Messages")]
struct TakeTold;

#[derive(MessageResponse)]
struct Messages(Vec<(Instant, ToldPeer)>);

impl Handler<TakeTold> for Peers {
    type Result = Messages;

    fn handle(&mut self, _: TakeTold, _: &mut Self::Context) -> Self::Result {
        Messages(std::mem::take(&mut self.told))
    }
}

struct Yard {
    peers: Addr<Peers>,
    objects: Addr<Objects>,
    store: Addr<ReplicaStore>,
    replicator: Addr<Replicator>,
    counters: Arc<UpkeepCounters>,
}

impl Yard {
    /// A node at distance `own` of [`key`], among these others.
    fn start(own: u8, verdicts: impl IntoIterator<Item = (u8, Verdict)>) -> Self {
        let clock = Clock::starting_at(WALL_MS);
        let verdicts: Vec<_> = verdicts.into_iter().map(|(n, verdict)| (node(n), verdict)).collect();
        let router = Knower::start_with(verdicts.iter().map(|(peer, _)| *peer));
        let peers = Peers {
            verdicts: verdicts.into_iter().map(|(peer, verdict)| (peer.id, verdict)).collect(),
            kept: BTreeSet::new(),
            told: Vec::new(),
        };
        let peers = peers.start();
        let (writer, reader) = comet_store::in_memory(StoreConfig::default());
        let store = ReplicaStore::new(writer, clock, Vec::new()).start();
        let objects = Objects::start_with(ms(0), Ok(Served::Deleted { held: true }));
        let counters = Arc::<UpkeepCounters>::default();
        let surveyor = Surveyor {
            own: node(own),
            gate: gate(),
            replica: replica(&objects, clock),
            reader,
            closest: router.clone().recipient(),
            find_node: router.recipient(),
            carry: peers.clone().recipient(),
            role: OwnRole::default(),
            diversity: exempt(),
            counters: counters.clone(),
            clock,
        };
        let config = ReplicatorConfig::new(PERIOD, 1_000_000);
        let replicator = Replicator::new(surveyor, config, ChaCha12Rng::seed_from_u64(1)).start();
        Self { peers, objects, store, replicator, counters }
    }

    async fn hold(&self, record: Record) {
        let put = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
        self.store.send(put).await.expect("the store runs").expect("it stores");
    }

    async fn told(&self) -> Vec<ToldPeer> {
        self.timed().await.into_iter().map(|(_, told)| told).collect()
    }

    /// What the peers were told since the last time, and when.
    async fn timed(&self) -> Vec<(Instant, ToldPeer)> {
        self.peers.send(TakeTold).await.expect("the peers run").0
    }
}

/// A value at [`key`] that wants so many replicas.
pub(super) fn plain(sequence: u64, replicas: u8) -> Record {
    let data = Value::Int(1).encode();
    Record {
        key: key(),
        ownership: None,
        version: Version { sequence, hash: content_hash(None, &data) },
        created_ms: WALL_MS,
        expires_ms: WALL_MS + 86_400_000,
        ttl_seconds: 86_400,
        replicas,
        code: None,
        publication: None,
        data,
        state: Bytes::new(),
    }
}

const MINUTE: Duration = Duration::from_secs(61);

#[test]
fn copies_go_only_to_those_who_lack_the_object_or_are_behind() {
    paused(async {
        let verdicts =
            [(1, Verdict::Same), (2, Verdict::Missing), (3, Verdict::Older), (4, Verdict::Missing)];
        let yard = Yard::start(0, verdicts);
        yard.hold(plain(1, 4)).await;
        sleep(MINUTE).await;
        let told = yard.told().await;
        let (digests, copies) = told.split_at(3);
        let asked = [1, 2, 3].map(|n| ToldPeer::Digest(node(n), 1));
        assert!(asked.iter().all(|digest| digests.contains(digest)), "{told:?}");
        assert_eq!(copies, [ToldPeer::Copy(node(3), key()), ToldPeer::Copy(node(2), key())]);
        assert!(visits(&yard.objects).await.is_empty());
        sleep(PERIOD * 2).await;
        let later = yard.told().await;
        assert!(later.iter().all(|told| matches!(told, ToldPeer::Digest(..))), "{later:?}");
        assert_eq!(yard.counters.counts().copies, 2);
    });
}

#[test]
fn a_copy_that_is_others_duty_goes_once_they_have_had_it_for_two_periods() {
    paused(async {
        let yard = Yard::start(9, [(1, Verdict::Same), (2, Verdict::Missing)]);
        yard.hold(plain(1, 2)).await;
        sleep(PERIOD * 2).await;
        assert!(visits(&yard.objects).await.is_empty(), "the grace began with the first check");
        sleep(PERIOD * 3 / 2).await;
        let dropped = visits(&yard.objects).await;
        let release = Visit::Release { version: plain(1, 2).version };
        assert!(
            dropped.first().is_some_and(|(at, visit)| *at == key() && same(visit, &release)),
            "{dropped:?}"
        );
    });
}

fn same(a: &Visit, b: &Visit) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

#[test]
fn a_node_that_was_away_learns_of_a_deletion() {
    paused(async {
        let gone = Verdict::Gone { sequence: 7, ownership: None };
        let yard = Yard::start(0, [(1, gone)]);
        yard.hold(plain(5, 4)).await;
        sleep(MINUTE).await;
        let visits = visits(&yard.objects).await;
        let [(at, Visit::Delete { caller, deletion, .. })] = visits.as_slice() else {
            panic!("one deletion, not {visits:?}")
        };
        assert_eq!((*at, deletion.version.sequence), (key(), 7));
        assert_eq!((caller.node, caller.origin), (node(1), Origin::Client));
    });
}

#[test]
fn nobody_is_told_of_an_object_that_looks_after_itself() {
    paused(async {
        let yard = Yard::start(0, [(1, Verdict::Missing)]);
        yard.hold(plain(1, 0)).await;
        sleep(PERIOD * 2).await;
        assert_eq!(yard.told().await, []);
    });
}

#[test]
fn what_somebody_found_wanting_is_checked_at_once() {
    paused(async {
        let yard = Yard::start(0, [(1, Verdict::Same)]);
        yard.hold(plain(1, 4)).await;
        sleep(MINUTE).await;
        yard.told().await;
        yard.peers.send(Says(node(1), Verdict::Older)).await.expect("the peers run");
        yard.replicator.do_send(CheckSoon { key: key() });
        sleep(Duration::from_secs(5)).await;
        let told = yard.told().await;
        assert_eq!(told, [ToldPeer::Digest(node(1), 1), ToldPeer::Copy(node(1), key())]);
    });
}

#[test]
fn a_plain_copy_that_objects_elsewhere_overrule_goes_at_once_and_on_the_word_of_one_in_time() {
    paused(async {
        // Whoever is offered the copy answers that it holds version 1 still.
        let release = Visit::Release { version: plain(5, 4).version };
        let two = Yard::start(0, [(1, Verdict::Older), (2, Verdict::Older)]);
        two.hold(plain(5, 4)).await;
        sleep(MINUTE).await;
        let dropped = visits(&two.objects).await;
        assert!(dropped.len() == 1 && same(&dropped[0].1, &release), "{dropped:?}");

        let one = Yard::start(0, [(1, Verdict::Older), (2, Verdict::Same)]);
        one.hold(plain(5, 4)).await;
        sleep(MINUTE).await;
        assert!(visits(&one.objects).await.is_empty());
    });
}

#[test]
fn a_deletion_without_a_believable_proof_moves_nobody() {
    paused(async {
        let forged = Box::new(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] });
        for (sequence, ownership) in [(u64::MAX, None), (7, Some(forged))] {
            let yard = Yard::start(0, [(1, Verdict::Gone { sequence, ownership }), (2, Verdict::Missing)]);
            yard.hold(plain(5, 4)).await;
            sleep(MINUTE).await;
            assert!(visits(&yard.objects).await.is_empty());
            assert_eq!(yard.told().await.last(), Some(&ToldPeer::Copy(node(2), key())));
        }
    });
}

#[test]
fn early_checks_do_not_keep_the_round_waiting() {
    paused(async {
        let yard = Yard::start(0, [(1, Verdict::Same)]);
        for n in 0..200_u8 {
            let mut bytes = KEY;
            bytes[0] ^= n;
            yard.hold(Record { key: Key::from_bytes(bytes), ..plain(1, 4) }).await;
        }
        for n in 0..60 {
            for m in 0..200_u8 {
                // As many requests as come, for objects that are not here.
                yard.replicator.do_send(CheckSoon { key: Key::of(format!("{n} {m}")) });
            }
            sleep(Duration::from_secs(1)).await;
        }
        sleep(MINUTE).await;
        assert_eq!(yard.counters.counts().rounds, 1);
        assert_eq!(yard.counters.counts().checks, 200);
    });
}

#[test]
fn many_objects_share_digests_and_keep_to_the_budget() {
    paused(async {
        let yard = Yard::start(0, [(1, Verdict::Missing)]);
        let blob = Value::str("x".repeat(50_000)).encode();
        for n in 0..100_u8 {
            let mut bytes = KEY;
            bytes[0] ^= n;
            let version = Version { sequence: 1, hash: content_hash(None, &blob) };
            let record = Record { key: Key::from_bytes(bytes), data: blob.clone(), version, ..plain(1, 4) };
            yard.hold(record).await;
        }
        sleep(MINUTE * 2).await;
        let told = yard.timed().await;
        let digests = told.iter().filter(|(_, told)| matches!(told, ToldPeer::Digest(..))).count();
        assert_eq!((digests, told.len()), (2, 102));
        let took = told[101].0 - told[0].0;
        let sent = yard.counters.counts().sent_bytes;
        let allowed = 1_000_000.0 * (took.as_secs_f64() + 1.0);
        assert!(sent > 5_000_000 && sent as f64 <= allowed, "{sent} bytes in {took:?}");
    });
}
