//! Puts with a condition, through a coordinator and a real courier: who is asked to wait, and what follows.

use comet_runtime::dht::PutReport;

use super::*;
use crate::actors::PutObject;

/// What this node's clock gives a put.
const SEQUENCE: u64 = WALL_MS * 1_000;

fn held() -> Version {
    version(1)
}

fn put(expected: Expected) -> PutObject {
    PutObject(Put { expected, ..hello(3) })
}

fn noting(n: u8) -> (Contact, Manner) {
    answering(n, Ok(Reply::Noted))
}

fn conflict(n: u8, held: Option<Version>) -> (Contact, Manner) {
    answering(n, Err(Refusal::Conflict { held }))
}

fn station(peers: impl IntoIterator<Item = (Contact, Manner)>) -> Station {
    Station::start(node(9), peers, |_| {})
}

/// Once the first put goes out, these peers answer so.
fn when_it_puts(station: &Station, answers: Vec<(Contact, Manner)>) {
    let network = station.network.clone();
    actix::spawn(async move {
        // The nearest one notes the claim at 40 ms, the others at 80 ms.
        sleep(ms(60)).await;
        answers.into_iter().for_each(|(contact, manner)| network.do_send(Treat(contact, manner)));
    });
}

async fn sent(station: &Station, expected: Expected) -> Result<PutReport, Refusal> {
    station.coordinator.send(put(expected)).await.expect("the coordinator runs")
}

/// What was asked of whom: `c` a claim, `p` a put, `u` that a claim is over.
async fn log(station: &Station) -> Vec<(char, Contact)> {
    sleep(ms(100)).await;
    let requests = station.requests().await.into_iter();
    let line = |(_, to, request)| match request {
        Request::Claim { .. } => ('c', to),
        Request::PutIf { .. } => ('p', to),
        Request::Unclaim { .. } => ('u', to),
        request => panic!("not part of a conditional put: {request:?}"),
    };
    requests.map(line).collect()
}

fn lines(kind: char, nodes: impl IntoIterator<Item = u8>) -> Vec<(char, Contact)> {
    nodes.into_iter().map(|n| (kind, node(n))).collect()
}

#[test]
fn a_put_is_claimed_at_the_nearest_replica_then_at_all_and_then_stored_at_all() {
    paused(async {
        let station = station((1..=4).map(noting));
        when_it_puts(&station, (1..=3).map(|n| answering(n, Ok(stored()))).collect());
        let report = sent(&station, Expected::Version(held())).await;
        let report = report.expect("all replicas take it");
        assert_eq!((report.stored.len() >= 2, report.quorum), (true, 2));
        assert_eq!(log(&station).await, [lines('c', 1..=3), lines('p', 1..=3)].concat());
    });
}

#[test]
fn who_meets_a_rival_at_the_nearest_replica_asks_nobody_else_and_stores_nothing() {
    paused(async {
        let station = station([conflict(1, Some(held())), noting(2), noting(3)]);
        let refused = sent(&station, Expected::Version(held())).await;
        assert_eq!(refused, Err(Refusal::Conflict { held: Some(held()) }));
        assert_eq!(log(&station).await, lines('c', [1]));
    });
}

#[test]
fn a_nearest_replica_that_tells_of_a_rival_for_too_long_is_asked_beside_the_others() {
    paused(async {
        let station = station([conflict(1, Some(held())), noting(2), noting(3)]);
        let told = Err(Refusal::Conflict { held: Some(held()) });
        assert_eq!(sent(&station, Expected::Version(held())).await, told);
        sleep(ms(29_000)).await;
        assert_eq!(sent(&station, Expected::Version(held())).await, told, "a rival may still be there");
        assert_eq!(log(&station).await, lines('c', [1, 1]));
        sleep(ms(1_000)).await;
        sent(&station, Expected::Version(held())).await.expect_err("the others note puts and store none");
        let log = log(&station).await;
        assert_eq!(log[..6], [lines('c', 1..=3), lines('p', 1..=3)].concat(), "two of three wait for it");
    });
}

#[test]
fn where_most_replicas_hold_something_else_nothing_is_stored() {
    paused(async {
        let newer = Some(version(2));
        let station = station([noting(1), conflict(2, newer), conflict(3, newer), noting(4)]);
        let refused = sent(&station, Expected::Absent).await;
        assert_eq!(refused, Err(Refusal::Conflict { held: newer }));
        let log = log(&station).await;
        assert_eq!(log, [lines('c', 1..=3), lines('u', [1])].concat(), "and nobody farther is asked instead");
    });
}

#[test]
fn nobody_farther_away_takes_the_place_of_a_silent_replica() {
    paused(async {
        let lost = |n| (node(n), Manner::Fails(TransportError::Closed));
        let station = station([noting(1), lost(2), lost(3), noting(4), noting(5)]);
        let refused = sent(&station, Expected::Absent).await;
        assert!(matches!(refused, Err(Refusal::NoQuorum { stored: 0, quorum: 2, .. })), "{refused:?}");
        let log = log(&station).await;
        assert!(log.iter().all(|(kind, to)| *kind != 'p' && *to != node(4)), "{log:?}");
    });
}

#[test]
fn a_put_is_claimed_again_after_what_a_replica_holds_that_is_ahead() {
    paused(async {
        let ahead = Some(version(SEQUENCE + 1_000_000));
        let station = station([noting(1), conflict(2, ahead), noting(3)]);
        sent(&station, Expected::Version(held())).await.expect_err("nobody stores it");
        let claims = station.requests().await.into_iter().filter_map(|(_, _, request)| match request {
            Request::Claim { object, .. } => Some(object.sequence),
            _ => None,
        });
        let sequences: Vec<_> = claims.collect();
        assert_eq!(sequences.first(), Some(&SEQUENCE));
        assert!(sequences.iter().any(|sequence| *sequence > SEQUENCE + 1_000_000), "{sequences:?}");
    });
}

#[test]
fn a_put_that_most_replicas_claimed_and_few_stored_is_undecided() {
    paused(async {
        let station = station((1..=3).map(noting));
        let answers =
            [answering(1, Ok(stored())), conflict(2, Some(version(5))), conflict(3, Some(version(5)))];
        when_it_puts(&station, answers.into());
        let refused = sent(&station, Expected::Version(held())).await;
        let Err(Refusal::NoQuorum { stored: 1, reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("undecided"), "{reason}");
        assert_eq!(log(&station).await.last(), Some(&('u', node(3))), "the replicas need not wait on");
    });
}
