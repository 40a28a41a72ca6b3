//! What this node's own replica does alone, and gets that go on from what it said.

use comet_routing::{RoutingTable, TableConfig, TableView};
use comet_runtime::{
    Failure, Trail, Value,
    dht::{Expected, Get, Put, Read},
};
use comet_store::{Code, PutRecord, Record, ReplicaStore, Rule, content_hash};

use super::*;
use crate::{
    actors::{GetFurther, PutObject},
    operation::{OwnSaid, Role},
    shortcut::{Reached, Shortcut, Stored},
};

fn get() -> Get {
    Get { key: key(), payload: None, read: Read::First, deadline: None }
}

fn elsewhere(put: Put) -> Stored {
    Stored::Elsewhere(Box::new(put))
}

fn accepted() -> Result<Served, Refusal> {
    Ok(Served::Stored { version: version(1), usage: Usage::default() })
}

fn got(value: Bytes) -> Result<Served, Refusal> {
    Ok(Served::Got { value, version: version(1), active: true, usage: Usage::default(), seal: None })
}

fn seven() -> Result<Served, Refusal> {
    got(Value::Int(7).encode())
}

fn failed() -> Refusal {
    Refusal::HandlerFailed { handler: "onGet".into(), failure: Failure::Error("no".into()) }
}

/// The shortcut of node 0, which knows these nodes, to an object that answers so after a while.
async fn shortcut(
    known: &[Contact],
    after: Duration,
    outcome: Result<Served, Refusal>,
) -> (Shortcut, Addr<Objects>) {
    let (own, clock) = (node(0), Clock::starting_at(WALL_MS));
    let (writer, reader) = comet_store::in_memory(StoreConfig::default());
    let (code, data) = (Code::new("aso = {}"), Value::Nil.encode());
    let record = Record {
        key: key(),
        version: Version { sequence: 1, hash: content_hash(Some(&code.hash), &data) },
        data,
        code: Some(code),
        state: Bytes::new(),
        publication: None,
        ownership: None,
        created_ms: WALL_MS,
        ttl_seconds: 60,
        expires_ms: WALL_MS + 60_000,
        replicas: 8,
    };
    let put = PutRecord { record: record.into(), source: None, rule: Rule::IfNewer, timer_ms: None };
    ReplicaStore::new(writer, clock, vec![]).start().send(put).await.unwrap().unwrap();
    let objects = Objects::start_with(after, outcome);
    let config = TableConfig { private_ranges: PrivateRanges::Exempt, ..TableConfig::default() };
    let (mut table, view) = (RoutingTable::new(own.id, config), TableView::new(own.id, config));
    known.iter().for_each(|node| {
        table.on_reached(*node, clock.now());
    });
    view.show(&table);
    let shards = vec![objects.clone().recipient()];
    let replica = Replica::new(Arc::new(Directory::default()), reader, shards, clock);
    let shortcut = Shortcut {
        own,
        role: OwnRole::default(),
        replica,
        gate: gate(),
        view,
        replication: ReplicationConfig::default(),
        company: Company { has_peers: false, had_contacts: false, started: clock.now() },
        sequence: Sequence::default(),
        clock,
    };
    (shortcut, objects)
}

#[test]
fn the_nearest_node_asks_its_own_replica_and_nobody_else() {
    paused(async {
        let (shortcut, objects) = shortcut(&[node(1), node(2)], ms(0), seven()).await;
        let Reached::Over(Ok(report)) = shortcut.get(&get()).await else { panic!("it is over") };
        assert_eq!((report.answers[0].replica, &report.answers[0].value), (node(0), &Value::Int(7)));
        let visits = visits(&objects).await;
        let [(_, Visit::Get { trail, .. })] = visits.as_slice() else { panic!("{visits:?}") };
        assert_eq!(*trail, Trail::FRESH.most(), "as the nearest of several gets it");
    });
}

#[test]
fn what_takes_others_is_left_to_the_coordinator() {
    paused(async {
        let (mut shortcut, objects) = shortcut(&[], ms(0), seven()).await;
        let all = Get { read: Read::All, ..get() };
        assert!(matches!(shortcut.get(&all).await, Reached::Elsewhere(None)));
        shortcut.role.set(Role::Client);
        assert!(matches!(shortcut.get(&get()).await, Reached::Elsewhere(None)), "it keeps nothing");
        shortcut.role.set(Role::Server);
        let mut table = RoutingTable::new(node(3).id, TableConfig::default());
        table.on_reached(node(1), shortcut.clock.now());
        shortcut.view = TableView::new(node(3).id, TableConfig::default());
        shortcut.view.show(&table);
        assert!(
            matches!(shortcut.get(&get()).await, Reached::Elsewhere(None)),
            "node 1 is nearer than node 3"
        );
        assert!(visits(&objects).await.is_empty());
    });
}

#[test]
fn what_the_own_replica_refused_is_taken_into_account_and_it_is_not_asked_again() {
    paused(async {
        let broken = || Refusal::BadCode("it does not compile".into());
        let (shortcut, objects) = shortcut(&[node(1)], ms(0), Err(broken())).await;
        let Reached::Elsewhere(Some(own)) = shortcut.get(&get()).await else { panic!("others are needed") };
        assert_eq!(own.refusal, broken());
        let refusing = |n| answering(n, Err(broken()));
        let station = Station::start(node(0), [refusing(1), refusing(2)], |_| {});
        let further = GetFurther { get: get(), own };
        assert_eq!(station.coordinator.send(further).await.unwrap(), Err(broken()));
        assert_eq!(asked(&station.network).await, [(ms(0), node(1))], "two that agree are believed");
        assert!(visits(&station.objects).await.is_empty());
        assert_eq!(visits(&objects).await.len(), 1);
    });
}

#[test]
fn an_own_replica_without_the_object_leaves_the_next_one_all_that_a_get_may_cause() {
    paused(async {
        for (refusal, next_messages) in [(Refusal::NotFound, Trail::FRESH.most().messages), (failed(), 1)] {
            let (shortcut, _) = shortcut(&[node(1)], ms(0), Err(refusal)).await;
            let reached = shortcut.get(&get()).await;
            let Reached::Elsewhere(Some(OwnSaid { mut purse, .. })) = reached else { panic!("{reached:?}") };
            assert_eq!(purse.ask(node(1).id, 0).map(|trail| trail.messages), Some(next_messages));
        }
    });
}

#[test]
fn a_get_ends_at_its_deadline_and_tells_of_a_value_that_cannot_be_read() {
    paused(async {
        let (slow, _) = shortcut(&[], ms(900), seven()).await;
        let hasty = Get { deadline: Some(ms(200)), ..get() };
        let reached = slow.get(&hasty).await;
        assert!(matches!(reached, Reached::Over(Err(Refusal::Timeout { deadline_ms: 200 }))), "{reached:?}");
        let (broken, _) = shortcut(&[], ms(0), got(Bytes::from_static(&[0xc1]))).await;
        let reached = broken.get(&get()).await;
        assert!(matches!(reached, Reached::Over(Err(Refusal::Corrupt(_)))), "{reached:?}");
    });
}

#[test]
fn several_values_are_what_as_many_gets_would_have_and_are_waited_for_together() {
    paused(async {
        let (shortcut, objects) = shortcut(&[node(1), node(2)], ms(10), seven()).await;
        let (missing, began) = (Key::of("nothing is here"), tokio::time::Instant::now());
        let near = |key: &Key| shortcut.view.is_nearest(key, shortcut.clock.now());
        assert!(near(&key()), "the object is this node's");
        let values = shortcut.values(&[key(), key(), key()]).await.expect("this node is the nearest");
        let seven = |reached: &Reached<Value>| matches!(reached, Reached::Over(Ok(Value::Int(7))));
        assert!(values.iter().all(seven), "{values:?}");
        assert_eq!((values.len(), visits(&objects).await.len()), (3, 3));
        assert_eq!(began.elapsed(), ms(10), "and not one after the other");
        let far =
            (0..).map(|n: u32| Key::of(n.to_string())).find(|key| !near(key)).expect("others have keys");
        assert!(shortcut.values(&[key(), far]).await.is_none(), "others have to be asked");
        let (shortcut, _) = self::shortcut(&[], ms(0), Err(failed())).await;
        let values = shortcut.values(&[missing, key()]).await.expect("it is alone");
        let refused = values.iter().map(|reached| match reached {
            Reached::Elsewhere(Some(own)) => own.refusal.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(refused.collect::<Vec<_>>(), [Refusal::NotFound, failed()]);
    });
}

#[test]
fn of_several_values_those_in_time_are_told_and_the_others_end_at_the_deadline() {
    paused(async {
        let deadline = ReplicationConfig::default().deadline_ms;
        let (shortcut, _) = shortcut(&[], ms(deadline + 1), seven()).await;
        let nothing = Key::of("nothing is here");
        let values = shortcut.values(&[nothing, key(), nothing]).await.expect("it is alone");
        let [first, Reached::Over(Err(Refusal::Timeout { deadline_ms })), last] = &values[..] else {
            panic!("{values:?}")
        };
        for reached in [first, last] {
            assert!(matches!(reached, Reached::Elsewhere(Some(_))), "behind it as well: {values:?}");
        }
        assert_eq!(*deadline_ms, deadline);
    });
}

#[test]
fn a_node_that_was_always_alone_stores_a_put_as_its_coordinator_would() {
    paused(async {
        for replicas in [1, 8] {
            let (shortcut, objects) = shortcut(&[], ms(0), accepted()).await;
            let Stored::Over(report) = shortcut.put(hello(replicas)).await else {
                panic!("nobody else has it")
            };
            let station = Station::start(node(0), [], |_| {});
            assert_eq!(report, station.coordinator.send(PutObject(hello(replicas))).await.unwrap());
            let (ours, theirs) = (visits(&objects).await, visits(&station.objects).await);
            let [(_, Visit::Put { trail, record, .. })] = ours.as_slice() else { panic!("{ours:?}") };
            let [(_, Visit::Put { trail: other, .. })] = theirs.as_slice() else { panic!("{theirs:?}") };
            assert_eq!((trail, record.replicas), (other, replicas));
        }
    });
}

#[test]
fn a_put_is_left_to_the_coordinator_where_others_are_to_have_it() {
    paused(async {
        let (mut shortcut, objects) = shortcut(&[], ms(0), accepted()).await;
        let conditional = Put { expected: Expected::Absent, ..hello(8) };
        assert_eq!(shortcut.put(conditional.clone()).await, elsewhere(conditional));
        shortcut.company.has_peers = true;
        assert_eq!(shortcut.put(hello(8)).await, elsewhere(hello(8)), "it is cut off");
        shortcut.company.has_peers = false;
        shortcut.role.set(Role::Client);
        assert_eq!(shortcut.put(hello(8)).await, elsewhere(hello(8)), "it keeps nothing");
        shortcut.role.set(Role::Server);
        let (mut table, now) = (RoutingTable::new(node(0).id, TableConfig::default()), shortcut.clock.now());
        table.on_reached(node(1), now);
        shortcut.view.show(&table);
        shortcut.view.show(&RoutingTable::new(node(0).id, TableConfig::default()));
        assert_eq!(shortcut.put(hello(8)).await, elsewhere(hello(8)), "node 1 is missed");
        assert!(visits(&objects).await.is_empty());
    });
}

#[test]
fn a_put_that_was_outrun_by_another_clock_is_left_to_the_coordinator_and_to_the_time_that_is_left() {
    paused(async {
        let (outrun, _) = shortcut(&[], ms(900), Err(Refusal::Stale { held_sequence: 9 })).await;
        let again = Put { deadline: Some(ms(4_100)), ..hello(8) };
        assert_eq!(outrun.put(hello(8)).await, elsewhere(again));
        let (slow, _) = shortcut(&[], ms(900), accepted()).await;
        let hasty = Put { deadline: Some(ms(200)), ..hello(8) };
        let (full, _) = shortcut(&[], ms(0), Err(Refusal::QuotaExceeded("full".into()))).await;
        for refused in [slow.put(hasty).await, full.put(hello(8)).await] {
            let no_quorum =
                matches!(refused, Stored::Over(Err(Refusal::NoQuorum { stored: 0, wanted: 1, .. })));
            assert!(no_quorum, "{refused:?}");
        }
    });
}
