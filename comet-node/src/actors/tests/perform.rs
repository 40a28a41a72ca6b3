//! What objects ask, through a coordinator and a real courier.

use comet_runtime::{
    Nodes, Op, OpOutcome, Request as Wish, Trail, Value,
    actors::Perform,
    dht::{Expected, Put},
};
use comet_store::{Code, Publication, Record, content_hash};

use super::*;
use crate::actors::PutObject;

const TRAIL: Trail = Trail { messages: 8, bytes: 8_192, depth: 2 };

fn perform(op: Op) -> Perform {
    Perform { object: key(), request: Wish { wait: 1, op, trail: TRAIL }, copy: None }
}

fn put_to(key: Key, nodes: Nodes) -> Perform {
    perform(Op::Put { key, data: Value::Int(1), nodes })
}

fn storing(n: u8) -> (Contact, Manner) {
    answering(n, Ok(stored()))
}

fn got(n: u8, value: i64) -> (Contact, Manner) {
    let value = Value::Int(value).encode();
    answering(
        n,
        Ok(Reply::Got { value, version: version(1), active: true, usage: Usage::default(), seal: None }),
    )
}

fn station(own: u8, peers: impl IntoIterator<Item = (Contact, Manner)>) -> Station {
    Station::start(node(own), peers, |config| config.replication.replicas = 2)
}

fn nodes(range: impl IntoIterator<Item = u8>) -> Vec<Contact> {
    range.into_iter().map(node).collect()
}

async fn done(station: &Station, perform: Perform) -> OpOutcome {
    station.coordinator.send(perform).await.unwrap().unwrap()
}

async fn addressed(station: &Station) -> Vec<Contact> {
    asked(&station.network).await.into_iter().map(|(_, to)| to).collect()
}

#[test]
fn a_put_to_the_own_key_goes_to_the_other_replicas() {
    paused(async {
        let station = station(1, (2..=5).map(storing));
        let outcome = done(&station, put_to(key(), Nodes::Closest)).await;
        assert_eq!(outcome, OpOutcome::Nodes(nodes([2, 3])));
        assert_eq!(addressed(&station).await, nodes([2, 3]));
        assert!(visits(&station.objects).await.is_empty());
    });
}

#[test]
fn nodes_named_for_the_own_key_must_be_close_to_it() {
    paused(async {
        let station = station(1, (2..=5).map(storing));
        let forged = Contact { addr: node(200).addr, ..node(3) };
        let named = Nodes::These(vec![node(77), forged, node(1)]);
        let outcome = done(&station, put_to(key(), named)).await;
        assert_eq!(outcome, OpOutcome::Nodes(nodes([1, 3])), "itself, if it names itself");
        assert_eq!(addressed(&station).await, nodes([3]), "at the address that the lookup found");
    });
}

#[test]
fn a_put_to_a_callback_key_goes_straight_to_its_node() {
    paused(async {
        let station = station(1, [storing(2), storing(77)]);
        let callback = Key::of("callback");
        let outcome = done(&station, put_to(callback, Nodes::These(nodes([77])))).await;
        assert_eq!(outcome, OpOutcome::Nodes(nodes([77])));
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 0);
        let requests = station.requests().await;
        let [(_, to, Request::Put { object, trail })] = requests.as_slice() else { panic!("{requests:?}") };
        assert_eq!((*to, object.key), (node(77), callback));
        assert_eq!((trail.messages, trail.depth), (7, 2), "what it cost to send it is gone");
        assert!(trail.bytes < TRAIL.bytes, "and its bytes");
    });
}

#[test]
fn a_node_whose_address_the_object_does_not_know_is_looked_for() {
    paused(async {
        let station = station(1, [storing(2), storing(3), storing(77)]);
        let veiled = |n| Contact { addr: ([127, 0, 0, 0], 0).into(), ..node(n) };
        let callback = Key::of("callback");
        let named = Nodes::These(vec![veiled(3), node(77)]);
        let outcome = done(&station, put_to(callback, named)).await;
        assert_eq!(outcome, OpOutcome::Nodes(nodes([3, 77])));
        assert_eq!(addressed(&station).await, nodes([3, 77]));
        assert_eq!(station.router.send(CountLookups).await.unwrap(), 1, "the other's address is known");
        let unknown = done(&station, put_to(callback, Nodes::These(vec![veiled(99)]))).await;
        assert_eq!(unknown, OpOutcome::Nodes(vec![]));
        assert!(addressed(&station).await.is_empty(), "nobody is asked where nobody can be");
    });
}

#[test]
fn a_dead_replica_is_replaced_and_who_refuses_is_not_reported() {
    paused(async {
        let peers = [(node(2), Manner::Lost), answering(3, Err(Refusal::Refused("no".into()))), storing(4)];
        let station = station(1, peers);
        let outcome = done(&station, put_to(key(), Nodes::Count(2))).await;
        assert_eq!(outcome, OpOutcome::Nodes(nodes([4])));
        assert_eq!(station.started.elapsed(), ms(340));
    });
}

#[test]
fn a_copy_carries_code_and_state_and_what_is_left_of_the_lifetime() {
    paused(async {
        let station = station(1, [storing(2), storing(3)]);
        let (code, data) = (Code::new("aso = {}"), Value::Int(1).encode());
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let publication = Box::new(Publication::sign(&pair, "test", &code.hash));
        let record = Record {
            key: key(),
            ownership: None,
            version: Version { sequence: 5, hash: content_hash(Some(&code.hash), &data) },
            created_ms: WALL_MS - 10_000,
            expires_ms: WALL_MS + 59_500,
            ttl_seconds: 3_600,
            replicas: 1,
            code: Some(code),
            publication: Some(publication.clone()),
            data,
            state: Value::List(vec![]).encode(),
        };
        let copy = Perform { copy: Some(Box::new(record)), ..perform(Op::Copy { nodes: Nodes::Closest }) };
        assert_eq!(done(&station, copy).await, OpOutcome::Nodes(nodes([2])), "one replica is wanted");
        let requests = station.requests().await;
        let [(_, _, Request::Replicate { object, state, age_seconds, remaining_seconds, trail })] =
            requests.as_slice()
        else {
            panic!("{requests:?}")
        };
        assert_eq!((object.sequence, object.code.as_deref()), (5, Some("aso = {}")));
        assert_eq!(object.publication, Some(publication), "and its publisher's signature");
        assert_eq!((state, *age_seconds, *remaining_seconds), (&Value::List(vec![]).encode(), 10, 60));
        assert_eq!((trail.messages, trail.depth), (3, 2), "with half of what is left of the budget");
    });
}

#[test]
fn a_get_without_nodes_brings_one_value_and_with_nodes_theirs() {
    paused(async {
        let station = station(1, [got(2, 20), got(3, 30), got(4, 40)]);
        let get = |nodes| perform(Op::Get { key: key(), nodes, payload: Some(Value::Int(9)) });
        assert_eq!(done(&station, get(Nodes::Closest)).await, OpOutcome::Value(Value::Int(20)));
        let requests = station.requests().await;
        let [(_, _, Request::Get { callback, payload, trail, .. })] = requests.as_slice() else {
            panic!("{requests:?}")
        };
        assert_eq!(*callback, Some(key()), "it accepts a put at its own key");
        assert_eq!(trail.messages, 6, "most of what is left, and one for another in its stead");
        assert_eq!(*payload, Some(Value::Int(9).encode()));
        let values = vec![(node(2), Value::Int(20)), (node(4), Value::Int(40))];
        let named = get(Nodes::These(nodes([4, 2, 99])));
        assert_eq!(done(&station, named).await, OpOutcome::Values(values));
        let values = vec![(node(2), Value::Int(20)), (node(3), Value::Int(30))];
        assert_eq!(done(&station, get(Nodes::Count(2))).await, OpOutcome::Values(values));
    });
}

#[test]
fn an_object_that_is_alone_gets_no_answer_and_reaches_nobody() {
    paused(async {
        let station = station(1, []);
        let get = perform(Op::Get { key: key(), nodes: Nodes::Closest, payload: None });
        let answer = station.coordinator.send(get).await.unwrap();
        assert_eq!(answer, Err(Refusal::Unreachable("no node to ask is known".into())));
        assert_eq!(done(&station, put_to(key(), Nodes::Closest)).await, OpOutcome::Nodes(vec![]));
        assert_eq!(done(&station, put_to(key(), Nodes::These(vec![]))).await, OpOutcome::Nodes(vec![]));
        let lookup = done(&station, perform(Op::Lookup { key: key() })).await;
        assert_eq!(lookup, OpOutcome::Nodes(nodes([1])));
    });
}

#[test]
fn a_deletion_by_an_object_reports_who_held_it() {
    paused(async {
        let peers = [answering(2, Ok(Reply::Deleted { held: true })), answering(3, Err(Refusal::NotFound))];
        let station = station(1, peers);
        let delete = perform(Op::Delete { key: key(), nodes: Nodes::Count(5) });
        assert_eq!(done(&station, delete).await, OpOutcome::Nodes(nodes([2])));
    });
}

#[test]
fn what_breaks_a_rule_is_refused_to_the_object_that_asks() {
    paused(async {
        let station = station(1, [storing(2)]);
        let data = Value::str("x".repeat(70_000));
        let put = perform(Op::Put { key: key(), data, nodes: Nodes::Closest });
        let refused = station.coordinator.send(put).await.unwrap();
        assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{refused:?}");
        let copy = perform(Op::Copy { nodes: Nodes::Closest });
        assert!(matches!(station.coordinator.send(copy).await.unwrap(), Err(Refusal::Invalid(_))));
    });
}

#[test]
fn the_objects_of_a_node_share_what_they_may_ask_in_a_second() {
    paused(async {
        let station = Station::start(node(0), [], |config: &mut CoordinatorConfig| {
            config.object_requests_per_second = 2;
        });
        let ask = || station.coordinator.send(perform(Op::Lookup { key: key() }));
        assert!(ask().await.unwrap().is_ok());
        assert!(ask().await.unwrap().is_ok());
        assert_eq!(ask().await.unwrap(), Err(Refusal::Overloaded("the node's objects".into())));
        sleep(ms(500)).await;
        assert!(ask().await.unwrap().is_ok(), "half a second later there is room for one more");
    });
}

/// The messages that each node which is asked may cause.
async fn granted(station: &Station) -> Vec<u8> {
    let requests = station.requests().await;
    let trails = requests.iter().map(|(_, _, request)| match request {
        Request::Get { trail, .. } | Request::Put { trail, .. } => trail.messages,
        request => panic!("neither get nor put but {request:?}"),
    });
    trails.collect()
}

#[test]
fn a_request_to_many_nodes_divides_its_budget_among_them() {
    paused(async {
        let station = station(1, [got(2, 20), got(3, 30), got(4, 40), got(5, 50)]);
        done(&station, perform(Op::Get { key: key(), nodes: Nodes::Count(4), payload: None })).await;
        assert_eq!(granted(&station).await, [1; 4], "four of the eight are gone");
    });
}

#[test]
fn as_many_nodes_are_asked_as_can_be_paid_for() {
    paused(async {
        let get = Op::Get { key: key(), nodes: Nodes::Count(5), payload: None };
        for (trail, asked) in [
            (Trail { messages: 3, ..TRAIL }, 3),
            (Trail { bytes: 250, ..TRAIL }, 2),
            (Trail { bytes: 50, ..TRAIL }, 0),
        ] {
            let station = station(1, [got(2, 20), got(3, 30), got(4, 40), got(5, 50), got(6, 60)]);
            let perform =
                Perform { request: Wish { wait: 1, op: get.clone(), trail }, ..perform(get.clone()) };
            done(&station, perform).await;
            assert_eq!(addressed(&station).await.len(), asked, "{trail:?}");
        }
    });
}

#[test]
fn a_node_that_is_asked_in_anothers_stead_is_paid_for() {
    paused(async {
        let absent = |n| answering(n, Err(Refusal::NotFound));
        let station = station(1, [absent(2), absent(3), absent(4), absent(5), got(6, 60)]);
        let op = Op::Get { key: Key::of("other"), nodes: Nodes::Closest, payload: None };
        let request = Wish { wait: 1, op, trail: Trail { messages: 1, ..TRAIL } };
        let refused = station.coordinator.send(Perform { object: key(), request, copy: None }).await.unwrap();
        assert!(matches!(refused, Err(Refusal::Unreachable(_) | Refusal::NotFound)), "{refused:?}");
        assert_eq!(addressed(&station).await.len(), 1);
    });
}

#[test]
fn the_replicas_of_a_clients_request_share_one_budget() {
    paused(async {
        let station = Station::start(node(0), (1..=5).map(storing), |config| config.replication.replicas = 4);
        let put = Put {
            key: key(),
            data: Value::Int(1).encode(),
            code: None,
            publication: None,
            ttl: None,
            replicas: None,
            owner: None,
            expected: Expected::Any,
            deadline: None,
        };
        station.coordinator.send(PutObject(put)).await.unwrap().unwrap();
        let granted = granted(&station).await;
        assert_eq!(granted, [4; 3], "and the own replica has the fourth part");
    });
}
