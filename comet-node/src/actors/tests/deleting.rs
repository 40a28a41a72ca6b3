//! Deletions, and what becomes of them where another node's clock is ahead.

use comet_runtime::{
    Nodes, Op, OpOutcome, Request as Wish, Trail,
    actors::Perform,
    dht::{Delete, DeleteReport},
};
use comet_store::Ownership;

use super::*;
use crate::actors::DeleteObject;

/// What this node's clock gives a deletion.
const SEQUENCE: u64 = WALL_MS * 1_000;
/// An hour ahead of it.
const AHEAD: u64 = SEQUENCE + 3_600_000_000;

fn held(held: bool) -> Answer {
    Ok(Reply::Deleted { held })
}

fn stale(held_sequence: u64) -> Answer {
    Err(Refusal::Stale { held_sequence })
}

fn station(peers: impl IntoIterator<Item = (u8, Answer)>) -> Station {
    let peers = peers.into_iter().map(|(n, answer)| answering(n, answer));
    Station::start(node(9), peers, |config| config.replication.replicas = 4)
}

fn delete() -> DeleteObject {
    DeleteObject(Delete { key: key(), owner: None, deadline: None })
}

async fn deleted(station: &Station) -> Result<DeleteReport, Refusal> {
    station.coordinator.send(delete()).await.expect("the coordinator runs")
}

/// From 20 ms on, while the first answers are on their way, these peers answer so.
fn later(station: &Station, peers: impl IntoIterator<Item = (u8, Answer)>) {
    let network = station.network.clone();
    let peers: Vec<_> = peers.into_iter().map(|(n, answer)| answering(n, answer)).collect();
    actix::spawn(async move {
        sleep(ms(20)).await;
        peers.into_iter().for_each(|(contact, manner)| network.do_send(Treat(contact, manner)));
    });
}

/// Whom peers were asked to delete for, when, and with which sequence number.
async fn attempts(station: &Station) -> Vec<(u64, Contact, u64)> {
    let requests = station.requests().await.into_iter();
    let attempt = |(at, to, request): (Duration, Contact, Request)| match request {
        Request::Delete { sequence, ownership: None, .. } => (at.as_millis() as u64, to, sequence),
        request => panic!("no unsigned deletion but {request:?}"),
    };
    requests.map(attempt).collect()
}

fn contacts(failed: &[(Contact, Refusal)]) -> Vec<Contact> {
    failed.iter().map(|(contact, _)| *contact).collect()
}

#[test]
fn a_deletion_outrun_by_another_nodes_clock_goes_again_after_that_put() {
    paused(async {
        let keeps = || Err(Refusal::Refused("keep".into()));
        let peers = [(1, stale(AHEAD)), (2, held(true)), (3, keeps()), (4, held(false)), (5, stale(7))];
        let station = station(peers);
        later(&station, [(1, held(true)), (2, held(false)), (5, held(true))]);
        let report = deleted(&station).await.unwrap();
        assert_eq!(report.deleted, [node(1), node(2), node(5)]);
        assert_eq!(contacts(&report.failed), [node(3), node(9)], "no object here deletes anything");
        let first = [1, 2, 3, 4, 5].map(|n| (0, node(n), SEQUENCE));
        let second = [2, 4, 1, 5].map(|n| (40, node(n), AHEAD + 1));
        assert_eq!(attempts(&station).await, [&first[..], &second].concat());
    });
}

#[test]
fn a_peer_that_always_calls_a_deletion_outdated_ends_it() {
    paused(async {
        let station = station([(1, stale(AHEAD))]);
        assert_eq!(deleted(&station).await, Err(Refusal::Stale { held_sequence: AHEAD }));
        let sequences: Vec<_> = attempts(&station).await.into_iter().map(|(_, _, s)| s).collect();
        assert_eq!(sequences, [SEQUENCE, AHEAD + 1, AHEAD + 1]);
    });
}

#[test]
fn a_sequence_number_that_nobody_could_have_put_is_not_outdone() {
    paused(async {
        let station = station([(1, stale(u64::MAX)), (2, held(true))]);
        let report = deleted(&station).await.unwrap();
        assert_eq!(report.deleted, [node(2)]);
        assert_eq!(contacts(&report.failed), [node(1), node(9)]);
        assert_eq!(attempts(&station).await.len(), 2, "each was asked once");
        deleted(&station).await.unwrap();
        let next = [1, 2].map(|n| (40, node(n), SEQUENCE + 40_000));
        assert_eq!(attempts(&station).await, next, "and no later one is moved");
    });
}

#[test]
fn an_owners_deletion_is_not_renumbered() {
    paused(async {
        let station = station([(1, stale(AHEAD))]);
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let public_key = ring::signature::KeyPair::public_key(&pair).as_ref().try_into().unwrap();
        let key = Key::owned(public_key, "name");
        let act = comet_store::Act::Delete;
        let statement = comet_store::Statement { network: "test", key: &key, sequence: 7, act };
        let ownership = Ownership::sign(&pair, Key::salt("name"), &statement);
        let delete = DeleteObject(Delete { key, owner: Some((7, ownership.clone())), deadline: None });
        let refused = station.coordinator.send(delete).await.unwrap();
        assert_eq!(refused, Err(Refusal::Stale { held_sequence: AHEAD }));
        let requests = station.requests().await;
        let [(_, _, Request::Delete { sequence: 7, ownership: Some(sent), .. })] = requests.as_slice() else {
            panic!("{requests:?}")
        };
        assert_eq!(**sent, ownership);
    });
}

#[test]
fn a_replica_that_could_not_is_not_taken_for_one_that_has_nothing() {
    paused(async {
        let busy = || Refusal::Overloaded("the object".into());
        let station = station([(1, Err(busy())), (2, held(false))]);
        assert_eq!(deleted(&station).await, Err(busy()));
    });
}

#[test]
fn an_objects_deletion_goes_again_as_a_clients_does_and_out_of_the_same_budget() {
    paused(async {
        let station = station([(1, stale(AHEAD)), (2, held(false))]);
        later(&station, [(1, held(true))]);
        let trail = Trail { messages: 4, bytes: 4_096, depth: 2 };
        let op = Op::Delete { key: key(), nodes: Nodes::Count(2) };
        let perform = Perform { object: Key::of("other"), request: Wish { wait: 1, op, trail }, copy: None };
        let outcome = station.coordinator.send(perform).await.unwrap();
        assert_eq!(outcome, Ok(OpOutcome::Nodes(vec![node(1)])));
        let requests = station.requests().await;
        let sent: Vec<_> = requests
            .iter()
            .map(|(_, to, request)| match request {
                Request::Delete { sequence, trail, .. } => (*to, *sequence, trail.messages),
                request => panic!("no deletion but {request:?}"),
            })
            .collect();
        let expected = [(1, SEQUENCE), (2, SEQUENCE), (2, AHEAD + 1), (1, AHEAD + 1)];
        assert_eq!(sent, expected.map(|(n, sequence)| (node(n), sequence, 0)));
    });
}
