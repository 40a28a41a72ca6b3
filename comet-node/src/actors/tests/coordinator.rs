//! What clients ask, through a coordinator and a real courier.

use comet_runtime::{
    Value,
    dht::{Delete, Get, Read},
};

use super::*;
use crate::{
    actors::{DeleteObject, GetObject, InspectObject, LookUp, PutObject},
    operation::Role,
    wire::Held,
};

fn put(replicas: u8) -> PutObject {
    PutObject(hello(replicas))
}

fn get(read: Read) -> GetObject {
    GetObject(Get { key: key(), payload: None, read, deadline: None })
}

fn got(value: i64) -> Answer {
    let value = Value::Int(value).encode();
    Ok(Reply::Got { value, version: version(1), active: false, usage: Usage::default(), seal: None })
}

fn storing(n: u8) -> (Contact, Manner) {
    answering(n, Ok(stored()))
}

fn no_change(_: &mut CoordinatorConfig) {}

fn contacts<T>(pairs: &[(Contact, T)]) -> Vec<Contact> {
    pairs.iter().map(|(contact, _)| *contact).collect()
}

#[test]
fn a_node_that_is_alone_keeps_what_it_is_given() {
    paused(async {
        let station = Station::start(node(0), [], no_change);
        let report = station.coordinator.send(put(8)).await.unwrap().unwrap();
        assert_eq!(contacts(&report.stored), [node(0)]);
        assert_eq!((report.wanted, report.quorum, report.ttl), (1, 1, ms(86_400_000)));
        let visits = visits(&station.objects).await;
        let [(_, Visit::Put { caller, .. })] = visits.as_slice() else { panic!("{visits:?}") };
        assert_eq!(caller.node, node(0), "its own clients come through it");
        assert_eq!(station.coordinator.send(get(Read::First)).await.unwrap(), Err(Refusal::NotFound));
    });
}

#[test]
fn a_node_that_is_cut_off_neither_acknowledges_alone_nor_says_that_nothing_exists() {
    paused(async {
        let company = Company { has_peers: true, had_contacts: false, started: Instant::now().into_std() };
        let station = Station::start_in(company, node(0), [], no_change);
        let refused = station.coordinator.send(put(8)).await.unwrap().unwrap_err();
        assert!(matches!(refused, Refusal::Unreachable(_)) && refused.retryable(), "{refused:?}");
        assert!(visits(&station.objects).await.is_empty());
        let unknown = station.coordinator.send(get(Read::First)).await.unwrap();
        assert_eq!(unknown, Err(refused));
    });
}

#[test]
fn the_own_node_stores_only_where_it_belongs_by_distance() {
    paused(async {
        let station = Station::start(node(9), (1..=3).map(storing), no_change);
        let report = station.coordinator.send(put(3)).await.unwrap().unwrap();
        assert_eq!(report.wanted, 3);
        assert_eq!(asked(&station.network).await, [1, 2, 3].map(|n| (ms(0), node(n))));
        assert!(visits(&station.objects).await.is_empty());
    });
}

#[test]
fn a_node_that_others_cannot_reach_stores_nothing_itself() {
    paused(async {
        let station = Station::start(node(0), (1..=3).map(storing), no_change);
        station.role.set(Role::Client);
        let report = station.coordinator.send(put(3)).await.unwrap().unwrap();
        assert_eq!((report.wanted, contacts(&report.stored)), (3, vec![node(1), node(2)]));
        assert!(visits(&station.objects).await.is_empty());
        station.role.set(Role::Server);
        station.coordinator.send(put(3)).await.unwrap().unwrap();
        assert_eq!(visits(&station.objects).await.len(), 1, "the control: it is the nearest");
    });
}

#[test]
fn a_lost_put_goes_to_the_next_node_after_the_timeout_and_not_sooner() {
    paused(async {
        let peers = [(node(1), Manner::Lost), storing(2), storing(3), storing(4)];
        let station = Station::start(node(9), peers, no_change);
        let report = station.coordinator.send(put(1)).await.unwrap().unwrap();
        assert_eq!(contacts(&report.stored), [node(2)]);
        assert_eq!(station.started.elapsed(), ms(340));
        assert_eq!(asked(&station.network).await, [(ms(0), node(1)), (ms(300), node(2))]);
    });
}

#[test]
fn a_put_returns_at_the_quorum_and_goes_on_behind_the_callers_back() {
    paused(async {
        let far = (node(3), Manner::Late { answered_ms: 250, answer: Ok(stored()) });
        let peers = [storing(1), storing(2), far, (node(4), Manner::Lost), storing(5)];
        let station = Station::start(node(9), peers, |config| config.operations_max = 1);
        let report = station.coordinator.send(put(4)).await.unwrap();
        assert_eq!(station.started.elapsed(), ms(250));
        assert_eq!(contacts(&report.unwrap().stored), [node(1), node(2), node(3)]);
        let busy = Err(Refusal::Overloaded("the node".into()));
        assert_eq!(station.coordinator.send(put(4)).await.unwrap(), busy, "the first one still runs");
        sleep(ms(100)).await;
        let asked = asked(&station.network).await;
        assert_eq!(asked.last(), Some(&(ms(300), node(5))), "the lost copy is made elsewhere");
        sleep(ms(5_000)).await;
        assert!(station.coordinator.send(put(4)).await.unwrap().is_ok(), "and then it is over");
    });
}

#[test]
fn nodes_that_are_late_are_written_to_and_count_for_the_quorum() {
    paused(async {
        let peers = [storing(1), storing(2), (node(3), Manner::Lost), (node(4), Manner::Lost)];
        let station = Station::start(node(9), peers, no_change);
        station.router.send(SetLate(vec![node(3), node(4)])).await.unwrap();
        let report = station.coordinator.send(put(3)).await.unwrap().unwrap();
        assert_eq!((report.wanted, report.quorum), (3, 2), "three exist whether the third is late or not");
        assert_eq!(station.started.elapsed(), ms(40), "nobody waits for it");
        asked(&station.network).await;
        station.router.send(SetLate(vec![node(2), node(3), node(4)])).await.unwrap();
        station.coordinator.send(put(3)).await.unwrap().unwrap();
        let asked: Vec<_> = asked(&station.network).await.into_iter().map(|(_, to)| to).collect();
        assert_eq!(asked, [1, 2, 3, 4].map(node), "a late node that is there after all has its copy");
    });
}

#[test]
fn an_unsigned_put_outranks_the_one_before_even_within_one_millisecond() {
    paused(async {
        let station = Station::start(node(0), [], no_change);
        for _ in 0..2 {
            station.coordinator.send(put(1)).await.unwrap().unwrap();
        }
        let sequences: Vec<_> = visits(&station.objects)
            .await
            .into_iter()
            .map(|(_, visit)| match visit {
                Visit::Put { record, .. } => record.version.sequence,
                visit => panic!("no put but {visit:?}"),
            })
            .collect();
        assert_eq!(sequences, [WALL_MS * 1_000, WALL_MS * 1_000 + 1]);
    });
}

#[test]
fn an_unsigned_put_that_another_nodes_clock_outran_is_put_after_it() {
    paused(async {
        let held_sequence = (WALL_MS + 500) * 1_000;
        let stale = answering(1, Err(Refusal::Stale { held_sequence }));
        let station = Station::start(node(9), [stale], no_change);
        let refused = station.coordinator.send(put(1)).await.unwrap();
        assert_eq!(refused, Err(Refusal::Stale { held_sequence }), "a node that always says so ends it");
        let sequences: Vec<_> = station
            .requests()
            .await
            .into_iter()
            .map(|(_, _, request)| match request {
                Request::Put { object, .. } => object.sequence,
                request => panic!("no put but {request:?}"),
            })
            .collect();
        assert_eq!(sequences, [WALL_MS * 1_000, held_sequence + 1, held_sequence + 1]);
    });
}

#[test]
fn what_a_peer_says_to_outrun_one_put_moves_no_other() {
    paused(async {
        let held_sequence = (WALL_MS + 3_600_000) * 1_000;
        let stale = answering(1, Err(Refusal::Stale { held_sequence }));
        let station = Station::start(node(9), [stale, storing(2)], no_change);
        station.coordinator.send(put(1)).await.unwrap().unwrap_err();
        station.requests().await;
        let elsewhere = PutObject(Put { replicas: Some(2), key: Key::of("elsewhere"), ..put(2).0 });
        station.coordinator.send(elsewhere).await.unwrap().ok();
        let requests = station.requests().await;
        let Some((_, _, Request::Put { object, .. })) = requests.first() else { panic!("{requests:?}") };
        assert!(object.sequence < (WALL_MS + 60_000) * 1_000, "{}", object.sequence);
    });
}

#[test]
fn a_sequence_that_no_put_can_outdo_ends_it() {
    paused(async {
        let held_sequence = u64::MAX;
        let stale = answering(1, Err(Refusal::Stale { held_sequence }));
        let station = Station::start(node(9), [stale], no_change);
        let refused = station.coordinator.send(put(1)).await.unwrap();
        assert_eq!(refused, Err(Refusal::Stale { held_sequence }));
        assert_eq!(station.requests().await.len(), 1);
    });
}

#[test]
fn what_no_replica_could_take_is_refused_without_asking_any() {
    paused(async {
        let station = Station::start(node(9), (1..=3).map(storing), no_change);
        let put = PutObject(Put { data: Bytes::from_static(b"\xc1"), ..put(3).0 });
        assert!(matches!(station.coordinator.send(put).await.unwrap(), Err(Refusal::Invalid(_))));
        assert_eq!(asked(&station.network).await, []);
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 0);
    });
}

#[test]
fn a_get_is_hedged_at_the_timeout_and_says_who_answered() {
    paused(async {
        let station = Station::start(node(9), [(node(1), Manner::Lost), answering(2, got(7))], no_change);
        let report = station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        assert_eq!(station.started.elapsed(), ms(340));
        let [answer] = report.answers.as_slice() else { panic!("{report:?}") };
        assert_eq!((answer.replica, &answer.value), (node(2), &Value::Int(7)));
    });
}

#[test]
fn a_get_of_nothing_asks_the_closest_nodes_and_itself_and_no_more() {
    paused(async {
        let peers = (1..=12).map(|n| answering(n, Err(Refusal::NotFound)));
        let station = Station::start(node(0), peers, no_change);
        assert_eq!(station.coordinator.send(get(Read::First)).await.unwrap(), Err(Refusal::NotFound));
        let asked: Vec<_> = asked(&station.network).await.into_iter().map(|(_, to)| to).collect();
        assert_eq!(asked, (1..=7).map(node).collect::<Vec<_>>(), "seven peers and this node are eight");
    });
}

fn nearest<const N: usize>(contacts: [Contact; N]) -> Prospects {
    Prospects { contacts: contacts.into(), are_nearest: true }
}

#[test]
fn where_those_who_are_probably_near_lack_the_object_there_is_a_lookup() {
    paused(async {
        let lacking = |n| answering(n, Err(Refusal::NotFound));
        let station = Station::start(node(9), [answering(1, got(7)), lacking(5), lacking(6)], no_change);
        let probable = Prospects { are_nearest: false, ..nearest([node(5), node(6)]) };
        station.router.send(SetNeighbours(probable, 0)).await.unwrap();
        let report = station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        assert_eq!(report.answers[0].replica, node(1));
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 1);
    });
}

#[test]
fn a_neighbour_that_answers_saves_the_lookup() {
    paused(async {
        let station = Station::start(node(9), [answering(1, got(7)), answering(2, got(8))], no_change);
        station.router.send(SetNeighbours(nearest([node(1), node(2)]), 0)).await.unwrap();
        let report = station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        assert_eq!(report.answers[0].replica, node(1));
        assert_eq!(asked(&station.network).await, [(ms(0), node(1))]);
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 0);
        station.coordinator.send(get(Read::Quorum(1))).await.unwrap().unwrap();
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 1, "the control: a quorum looks up");
    });
}

#[test]
fn a_slow_replica_is_done_without_and_its_answer_still_counts() {
    paused(async {
        let slow = Manner::Answers { acknowledged_ms: 40, answered_ms: 600, answer: got(7) };
        let slower = Manner::Answers { acknowledged_ms: 40, answered_ms: 900, answer: got(8) };
        let station = Station::start(node(9), [(node(1), slow), (node(2), slower)], no_change);
        let report = station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        assert_eq!(asked(&station.network).await, [(ms(0), node(1)), (ms(300), node(2))]);
        assert_eq!((report.answers[0].replica, station.started.elapsed()), (node(1), ms(600)));
    });
}

#[test]
fn a_node_that_is_cut_off_refuses_what_it_could_not_keep() {
    paused(async {
        let station = Station::start(node(0), [storing(1)], no_change);
        station.router.send(SetNeighbours(nearest([]), 9)).await.unwrap();
        let refused = station.coordinator.send(put(8)).await.unwrap();
        assert!(
            matches!(refused, Err(Refusal::NoQuorum { stored: 0, wanted: 8, quorum: 5, .. })),
            "{refused:?}"
        );
        assert_eq!(asked(&station.network).await, []);
        station.router.send(SetNeighbours(nearest([]), 1)).await.unwrap();
        let report = station.coordinator.send(put(8)).await.unwrap().unwrap();
        assert_eq!((report.wanted, report.quorum), (3, 2), "the control: one of three is gone");
    });
}

#[test]
fn a_put_and_a_deletion_end_at_their_deadlines() {
    paused(async {
        let station = Station::start(node(9), [(node(1), Manner::Lost)], no_change);
        let put = PutObject(Put { deadline: Some(ms(200)), ..put(1).0 });
        let refused = station.coordinator.send(put).await.unwrap();
        assert!(
            matches!(&refused, Err(Refusal::NoQuorum { stored: 0, reason, .. }) if reason.contains("200 ms")),
            "{refused:?}"
        );
        assert_eq!(station.started.elapsed(), ms(200));
        let delete = Delete { key: key(), owner: None, deadline: Some(ms(100)) };
        station.coordinator.send(DeleteObject(delete)).await.unwrap().unwrap_err();
        assert_eq!(station.started.elapsed(), ms(300));
    });
}

#[test]
fn a_quorum_of_equal_answers_is_found_among_others() {
    paused(async {
        let peers = [answering(1, got(1)), answering(2, got(2)), answering(3, got(2))];
        let station = Station::start(node(9), peers, no_change);
        let report = station.coordinator.send(get(Read::Quorum(2))).await.unwrap().unwrap();
        let values: Vec<_> = report.answers.into_iter().map(|answer| answer.value).collect();
        assert_eq!(values, [Value::Int(1), Value::Int(2), Value::Int(2)]);
        let refusal = station.coordinator.send(get(Read::Quorum(0))).await.unwrap();
        assert!(matches!(refusal, Err(Refusal::Invalid(_))));
    });
}

#[test]
fn a_peer_that_answers_something_else_is_passed_over() {
    paused(async {
        let station = Station::start(node(9), [storing(1), answering(2, got(7))], no_change);
        let report = station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        assert_eq!(report.answers[0].replica, node(2));
        assert_eq!(contacts(&report.failed), [node(1)]);
    });
}

#[test]
fn a_deletion_reports_who_held_the_object() {
    paused(async {
        let held = |n, held| answering(n, Ok(Reply::Deleted { held }));
        let peers = [held(1, true), held(2, false), answering(3, Err(Refusal::NotFound)), held(4, true)];
        let station = Station::start(node(9), peers, no_change);
        let delete = || DeleteObject(Delete { key: key(), owner: None, deadline: None });
        let report = station.coordinator.send(delete()).await.unwrap().unwrap();
        assert_eq!(report.deleted, [node(1), node(4)]);

        let no = || Err(Refusal::Refused("keep".into()));
        let station = Station::start(node(9), [answering(1, no()), held(2, false)], no_change);
        let refused = station.coordinator.send(delete()).await.unwrap();
        assert_eq!(refused, Err(Refusal::Refused("keep".into())));
    });
}

#[test]
fn a_lookup_lists_this_node_where_it_belongs() {
    paused(async {
        let station = Station::start(node(2), [storing(1), storing(3)], no_change);
        let report = station.coordinator.send(LookUp(key())).await.unwrap().unwrap();
        assert_eq!(report.nodes, [node(1), node(2), node(3)]);
        assert_eq!((report.hops, report.queries), (2, 9));
    });
}

#[test]
fn an_inspection_hears_every_replica_and_waits_a_second_for_the_dead() {
    paused(async {
        let held = Held {
            version: version(1),
            owner: None,
            handlers: vec![],
            code_hash: None,
            age_seconds: 1,
            remaining_seconds: 2,
            data_bytes: 3,
            state_bytes: 0,
            replicas: 8,
            active: false,
            usage: Usage::default(),
        };
        let peers = [answering(1, Ok(Reply::Inspected(held))), (node(2), Manner::Lost)];
        let station = Station::start(node(9), peers, no_change);
        let inspections = station.coordinator.send(InspectObject(key())).await.unwrap().unwrap();
        let replicas: Vec<_> = inspections.into_iter().map(|inspection| inspection.replica).collect();
        assert_eq!(replicas, [node(1)]);
        assert_eq!(station.started.elapsed(), ms(1_300));
    });
}

#[test]
fn an_operation_ends_at_its_deadline() {
    paused(async {
        let slow = Manner::Answers { acknowledged_ms: 40, answered_ms: 9_000, answer: got(7) };
        let station = Station::start(node(9), [(node(1), slow)], no_change);
        let get = GetObject(Get { deadline: Some(ms(700)), ..get(Read::First).0 });
        let refused = station.coordinator.send(get).await.unwrap();
        assert_eq!(refused, Err(Refusal::Timeout { deadline_ms: 700 }));
        assert_eq!(station.started.elapsed(), ms(700));
    });
}
