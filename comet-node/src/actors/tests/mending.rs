//! What the coordinator has done beside its operations about replicas that are not as they should be.

use comet_runtime::{
    Value,
    dht::{Expected, Get, Put, Read},
};
use comet_store::content_hash;

use super::*;
use crate::actors::{GetObject, PutObject};

fn holding(n: u8, sequence: u64) -> (Contact, Manner) {
    let (value, usage) = (Value::Int(1).encode(), Usage::default());
    answering(n, Ok(Reply::Got { value, version: version(sequence), active: false, usage, seal: None }))
}

fn get(read: Read) -> GetObject {
    GetObject(Get { key: key(), payload: None, read, deadline: None })
}

async fn told(station: &Station, what: impl Fn(&Request) -> bool) -> Vec<Contact> {
    let requests = station.requests().await.into_iter();
    requests.filter(|(_, _, request)| what(request)).map(|(_, to, _)| to).collect()
}

#[test]
fn a_holder_of_the_newest_version_is_asked_to_see_to_those_who_are_behind_once_a_minute() {
    paused(async {
        let peers = [holding(1, 5), holding(2, 7), holding(3, 7)];
        let station = Station::start(node(9), peers, |_| ());
        let checks = |request: &Request| *request == Request::Check { key: key() };
        for expected in [vec![node(2)], vec![]] {
            station.coordinator.send(get(Read::All)).await.unwrap().unwrap();
            sleep(ms(100)).await;
            assert_eq!(told(&station, checks).await, expected);
        }
        sleep(ms(60_000)).await;
        station.coordinator.send(get(Read::All)).await.unwrap().unwrap();
        sleep(ms(100)).await;
        assert_eq!(told(&station, checks).await, [node(2)]);
    });
}

#[test]
fn replicas_that_differ_too_much_for_a_quorum_are_seen_to_as_well() {
    paused(async {
        let peers = [holding(1, 5), holding(2, 7), holding(3, 6)];
        let station = Station::start(node(9), peers, |_| ());
        let refused = station.coordinator.send(get(Read::Quorum(2))).await.unwrap();
        assert!(matches!(refused, Err(Refusal::NoQuorum { .. })), "{refused:?}");
        sleep(ms(100)).await;
        let checks = |request: &Request| *request == Request::Check { key: key() };
        assert_eq!(told(&station, checks).await, [node(2)]);
    });
}

#[test]
fn a_holder_is_asked_when_a_nearer_node_lacks_the_object() {
    paused(async {
        let peers = [answering(1, Err(Refusal::NotFound)), holding(2, 5)];
        let station = Station::start(node(9), peers, |_| ());
        station.coordinator.send(get(Read::First)).await.unwrap().unwrap();
        sleep(ms(100)).await;
        let checks = |request: &Request| *request == Request::Check { key: key() };
        assert_eq!(told(&station, checks).await, [node(2)]);
    });
}

#[test]
fn a_value_that_went_past_an_object_which_kept_itself_is_taken_back() {
    paused(async {
        let data = Value::Int(1).encode();
        let put_version = Version { sequence: WALL_MS * 1_000, hash: content_hash(None, &data) };
        let storing = |n, version| answering(n, Ok(Reply::Stored { version, usage: Usage::default() }));
        for (second, expected) in [(version(5), vec![node(3), node(4)]), (put_version, vec![])] {
            let peers = [(1, version(5)), (2, second), (3, put_version), (4, put_version)];
            let station = Station::start(node(9), peers.map(|(n, kept)| storing(n, kept)), |_| ());
            let data = data.clone();
            let put = Put {
                key: key(),
                data,
                code: None,
                publication: None,
                ttl: None,
                replicas: Some(4),
                owner: None,
                expected: Expected::Any,
                deadline: None,
            };
            station.coordinator.send(PutObject(put)).await.unwrap().unwrap();
            sleep(ms(1_000)).await;
            let taken_back = Request::Withdraw { key: key(), version: put_version };
            assert_eq!(told(&station, |request| *request == taken_back).await, expected);
        }
    });
}
