//! What a write promises its driver, and how it goes in a few situations.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use comet_routing::clock::Clock;
use comet_store::Version;
use proptest::prelude::*;

use super::*;
use crate::operation::roster::tests::node;

const DEADLINE: Duration = Duration::from_secs(5);

fn start() -> Period {
    Period::starting(Clock::System.now(), DEADLINE)
}

fn write(nodes: u8, wanted: u8, quorum: Option<u8>) -> (Write<()>, Instant) {
    let period = start();
    (Write::new((1..=nodes).map(node), 0, wanted, quorum, period), period.began)
}

/// Polls until there is nothing to ask; returns who was asked, and the step after that.
fn asked(write: &mut Write<()>, now: Instant) -> (Vec<Contact>, WriteStep<()>) {
    let mut asked = Vec::new();
    loop {
        match write.poll(now) {
            WriteStep::Ask(contact) => asked.push(contact),
            step => return (asked, step),
        }
    }
}

fn nodes(range: impl IntoIterator<Item = u8>) -> Vec<Contact> {
    range.into_iter().map(node).collect()
}

fn decided(write: &mut Write<()>, now: Instant) -> WriteOutcome<()> {
    match asked(write, now).1 {
        WriteStep::Done(outcome) => outcome,
        step => panic!("the write is not decided: {step:?}"),
    }
}

#[test]
fn a_put_is_done_at_a_majority_and_over_when_the_rest_has_answered() {
    let (mut write, now) = write(20, 8, None);
    let wait = WriteStep::Wait { until: now + DEADLINE };
    assert_eq!(asked(&mut write, now), (nodes(1..=8), wait.clone()));
    (1..=4).for_each(|n| write.on_stored(&node(n), ()));
    assert_eq!(asked(&mut write, now), (vec![], wait.clone()));
    write.on_stored(&node(8), ());
    let outcome = decided(&mut write, now);
    assert_eq!((outcome.result, outcome.wanted, outcome.quorum), (Ok(()), 8, 5));
    let stored: Vec<_> = outcome.stored.into_iter().map(|(contact, ())| contact).collect();
    assert_eq!(stored, nodes([1, 2, 3, 4, 8]), "nearest first");
    assert_eq!(asked(&mut write, now), (vec![], wait));
    [5, 6, 7].into_iter().for_each(|n| write.on_stored(&node(n), ()));
    assert_eq!(asked(&mut write, now), (vec![], WriteStep::Over));
}

#[test]
fn a_node_that_misses_most_of_its_swarm_does_not_take_the_rest_for_it() {
    let period = start();
    let missing =
        |missed, wanted, quorum| Write::<()>::new((1..=2).map(node), missed, wanted, quorum, period);
    let outcome = decided(&mut missing(9, 8, None), period.began);
    let reason = "of the nodes for it 2 answer and 9 stopped answering a short while ago".into();
    let refusal = Refusal::NoQuorum { stored: 0, wanted: 8, quorum: 5, reason };
    assert_eq!((outcome.result, outcome.stored), (Err(refusal), vec![]), "and nobody is asked");
    assert_eq!(asked(&mut missing(1, 8, None), period.began).0, nodes(1..=2), "two of three are a majority");
    assert_eq!(asked(&mut missing(9, 2, None), period.began).0, nodes(1..=2), "two were wanted");
}

#[test]
fn nobody_waits_for_a_doubtful_node_and_it_is_asked_all_the_same() {
    let (first, now) = write(6, 3, None);
    let mut first = first.doubting(&nodes([1, 3, 6]));
    assert_eq!(asked(&mut first, now).0, nodes([2, 4, 5, 1, 3]), "three that are there, and two nearer ones");
    first.on_stored(&node(1), ());
    first.on_stored(&node(4), ());
    assert_eq!(decided(&mut first, now).result, Ok(()));

    let (second, now) = write(2, 3, None);
    let mut write = second.doubting(&nodes([1, 2]));
    assert_eq!(asked(&mut write, now).0, nodes([1, 2]), "there is nobody else");
    write.on_stored(&node(1), ());
    assert_eq!(asked(&mut write, now).0, [], "two of two are needed");
    write.on_stored(&node(2), ());
    assert_eq!(decided(&mut write, now).result, Ok(()));
}

#[test]
fn a_write_by_majority_takes_no_less_whatever_quorum_is_configured() {
    let quorum = |configured| {
        let mut write = write(8, 8, configured).0.by_majority();
        asked(&mut write, start().began);
        (1..=8).for_each(|n| write.on_stored(&node(n), ()));
        decided(&mut write, start().began).quorum
    };
    assert_eq!([None, Some(1), Some(5), Some(7)].map(quorum), [5, 5, 5, 7]);
}

const VERSION: Version = Version { sequence: 7, hash: [1; 32] };

/// A write of eight copies, in the place of [`VERSION`].
fn rivalled() -> (Write<()>, Instant) {
    let (write, now) = write(8, 8, None);
    (write.by_majority().among_rivals(Expected::Version(VERSION)), now)
}

#[test]
fn rivals_meet_at_the_nearest_node_and_who_is_beaten_there_asks_nobody_else() {
    let (mut first, now) = rivalled();
    let mut second = first.clone();
    assert_eq!(asked(&mut first, now).0, nodes([1]));
    first.on_stored(&node(1), ());
    assert_eq!(asked(&mut first, now).0, nodes(2..=8));
    assert_eq!(asked(&mut second, now).0, nodes([1]));
    let beaten = Refusal::Conflict { held: Some(VERSION) };
    second.on_refused(&node(1), beaten.clone());
    assert_eq!(decided(&mut second, now).result, Err(beaten));
}

#[test]
fn a_nearest_node_that_lacks_what_the_others_hold_or_is_silent_stops_nobody() {
    let (mut behind, now) = rivalled();
    let mut silent = behind.clone();
    assert_eq!(asked(&mut behind, now).0, nodes([1]));
    behind.on_refused(&node(1), Refusal::Conflict { held: None });
    assert_eq!(asked(&mut behind, now).0, nodes(2..=8));
    (2..=6).for_each(|n| behind.on_stored(&node(n), ()));
    assert_eq!(decided(&mut behind, now).result, Ok(()));
    assert_eq!(asked(&mut silent, now).0, nodes([1]));
    silent.on_suspect(&node(1), now);
    assert_eq!(asked(&mut silent, now).0, nodes([2]));
    silent.on_stored(&node(2), ());
    assert_eq!(asked(&mut silent, now).0, nodes(3..=8));
}

#[test]
fn a_node_that_fails_or_is_suspect_brings_in_the_next_even_after_the_quorum() {
    let (mut write, now) = write(20, 3, None);
    assert_eq!(asked(&mut write, now).0, nodes(1..=3));
    write.on_suspect(&node(1), now);
    assert_eq!(asked(&mut write, now).0, nodes([4]));
    write.on_failed(&node(2), Refusal::Unreachable("gone".into()));
    assert_eq!(asked(&mut write, now).0, nodes([5]));
    write.on_stored(&node(1), ());
    write.on_stored(&node(3), ());
    assert_eq!(decided(&mut write, now).result, Ok(()), "the suspect's late answer counts");
    write.on_failed(&node(4), Refusal::Unreachable("gone".into()));
    write.on_failed(&node(5), Refusal::Unreachable("gone".into()));
    assert_eq!(asked(&mut write, now).0, nodes([6]));
}

#[test]
fn a_put_is_not_given_up_while_a_suspect_may_still_make_the_quorum() {
    let (mut write, now) = write(2, 2, None);
    asked(&mut write, now);
    write.on_stored(&node(1), ());
    write.on_suspect(&node(2), now);
    assert_eq!(asked(&mut write, now), (vec![], WriteStep::Wait { until: now + DEADLINE }));
    write.on_stored(&node(2), ());
    assert_eq!(decided(&mut write, now).result, Ok(()));
}

#[test]
fn in_a_small_swarm_a_majority_of_its_nodes_is_enough() {
    for (existing, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3)] {
        let (mut write, now) = write(existing, 8, None);
        assert_eq!(asked(&mut write, now).0, nodes(1..=existing));
        (1..=quorum).for_each(|n| write.on_stored(&node(n), ()));
        let outcome = decided(&mut write, now);
        assert_eq!((outcome.result, outcome.wanted, outcome.quorum), (Ok(()), existing, quorum));
    }
}

#[test]
fn a_configured_quorum_is_not_lowered_for_want_of_nodes() {
    let (mut write, now) = write(2, 8, Some(3));
    let refusal =
        Refusal::NoQuorum { stored: 0, wanted: 2, quorum: 3, reason: "the swarm has 2 nodes for it".into() };
    let (asked, step) = asked(&mut write, now);
    assert_eq!(asked, vec![], "nobody is troubled with a put that cannot succeed");
    assert!(matches!(step, WriteStep::Done(outcome) if outcome.result == Err(refusal)));
    assert_eq!(write.poll(now), WriteStep::Over);
}

#[test]
fn a_put_of_one_copy_does_not_wait_for_a_configured_quorum_of_three() {
    let (mut write, now) = write(20, 1, Some(3));
    assert_eq!(asked(&mut write, now).0, nodes([1]));
    write.on_stored(&node(1), ());
    assert_eq!(decided(&mut write, now).quorum, 1);
}

#[test]
fn an_object_that_refuses_is_not_gone_round() {
    let (mut write, now) = write(20, 8, None);
    asked(&mut write, now);
    let no = || Refusal::Refused("read-only".into());
    (1..=3).for_each(|n| write.on_refused(&node(n), no()));
    assert_eq!(asked(&mut write, now).0, vec![], "nobody farther away is asked instead");
    write.on_refused(&node(4), no());
    let outcome = decided(&mut write, now);
    assert_eq!(outcome.result, Err(no()));
    assert_eq!(outcome.failed, (1..=4).map(|n| (node(n), no())).collect::<Vec<_>>());
}

#[test]
fn a_few_stale_replicas_do_not_speak_for_all() {
    let (mut write, now) = write(8, 8, None);
    asked(&mut write, now);
    (1..=4).for_each(|n| write.on_stored(&node(n), ()));
    (5..=8).for_each(|n| write.on_refused(&node(n), Refusal::Stale { held_sequence: 9 }));
    let reason = Refusal::Stale { held_sequence: 9 }.to_string();
    let expected = Refusal::NoQuorum { stored: 4, wanted: 8, quorum: 5, reason };
    assert_eq!(decided(&mut write, now).result, Err(expected));
}

#[test]
fn a_full_replica_is_replaced_and_a_stale_one_is_not() {
    let (mut write, now) = write(20, 3, None);
    asked(&mut write, now);
    write.on_refused(&node(1), Refusal::QuotaExceeded("full".into()));
    write.on_refused(&node(2), Refusal::Stale { held_sequence: 1 });
    assert_eq!(asked(&mut write, now).0, nodes([4]));
}

#[test]
fn at_the_deadline_those_who_did_not_answer_have_failed() {
    let (mut write, now) = write(3, 3, None);
    asked(&mut write, now);
    write.on_stored(&node(2), ());
    let outcome = decided(&mut write, now + DEADLINE);
    let late = Refusal::Timeout { deadline_ms: 5_000 };
    assert_eq!(outcome.failed, [(node(1), late.clone()), (node(3), late.clone())]);
    let expected = Refusal::NoQuorum { stored: 1, wanted: 3, quorum: 2, reason: late.to_string() };
    assert_eq!(outcome.result, Err(expected));
    assert_eq!(write.poll(now + DEADLINE), WriteStep::Over);
}

#[test]
fn without_candidates_there_is_no_quorum() {
    let (mut write, now) = write(0, 8, None);
    let outcome = decided(&mut write, now);
    assert!(matches!(outcome.result, Err(Refusal::NoQuorum { stored: 0, wanted: 0, quorum: 1, .. })));
}

/// What may happen to a node that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stores,
    Refuses,
    IsFull,
    Fails,
    IsSuspect,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop::sample::select(vec![Fate::Stores, Fate::Refuses, Fate::IsFull, Fate::Fails, Fate::IsSuspect])
}

fn refusal_in(fate: Fate) -> Refusal {
    match fate {
        Fate::Refuses => Refusal::Refused("no".into()),
        Fate::IsFull => Refusal::QuotaExceeded("full".into()),
        _ => Refusal::Unreachable("gone".into()),
    }
}

proptest! {
    #[test]
    fn every_write_ends_asks_nobody_twice_and_reports_what_it_was_told(
        existing in 0_u8..30,
        wanted in 0_u8..=20,
        quorum in prop::option::of(0_u8..=20),
        fates in prop::collection::vec((fate(), any::<prop::sample::Index>()), 0..80),
    ) {
        let period = start();
        let mut write = Write::new((1..=existing).map(node), 0, wanted, quorum, period);
        let mut fates = fates.into_iter();
        let (mut ever, mut awaited) = (BTreeSet::new(), BTreeMap::new());
        let (mut stored, mut failed) = (BTreeSet::new(), BTreeMap::new());
        let mut decisions = 0;
        let mut now = period.began;
        for _ in 0..500 {
            match write.poll(now) {
                WriteStep::Ask(contact) => {
                    prop_assert!(ever.insert(contact), "{contact:?} is asked twice");
                    awaited.insert(contact, Fate::Stores);
                    let certain = awaited.values().filter(|fate| **fate != Fate::IsSuspect).count();
                    prop_assert!(certain <= usize::from(wanted.max(1)));
                    prop_assert!(ever.len() <= 20);
                }
                WriteStep::Done(outcome) => {
                    decisions += 1;
                    let said: BTreeSet<_> = outcome.stored.iter().map(|(contact, ())| *contact).collect();
                    prop_assert_eq!(&said, &stored);
                    let enough = stored.len() >= usize::from(outcome.quorum);
                    prop_assert_eq!(outcome.result.is_ok(), enough);
                    let mut expected = failed.clone();
                    if now >= period.deadline && !enough {
                        expected.extend(awaited.keys().map(|contact| (*contact, period.timeout())));
                    }
                    prop_assert_eq!(outcome.failed.into_iter().collect::<BTreeMap<_, _>>(), expected);
                }
                WriteStep::Over => break,
                WriteStep::Wait { until } => match fates.next() {
                    Some((fate, index)) if !awaited.is_empty() => {
                        let contact = *index.get(&awaited.keys().copied().collect::<Vec<_>>());
                        awaited.remove(&contact);
                        match fate {
                            Fate::Stores => {
                                stored.insert(contact);
                                write.on_stored(&contact, ());
                            }
                            Fate::Refuses | Fate::IsFull => {
                                failed.insert(contact, refusal_in(fate));
                                write.on_refused(&contact, refusal_in(fate));
                            }
                            Fate::Fails => {
                                failed.insert(contact, refusal_in(fate));
                                write.on_failed(&contact, refusal_in(fate));
                            }
                            Fate::IsSuspect => {
                                awaited.insert(contact, Fate::IsSuspect);
                                write.on_suspect(&contact, now);
                            }
                        }
                    }
                    _ => now = until,
                },
            }
        }
        prop_assert_eq!(write.poll(now), WriteStep::Over);
        prop_assert_eq!(decisions, 1);
    }
}
