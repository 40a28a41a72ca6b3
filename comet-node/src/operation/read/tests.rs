//! What a read promises its driver, and how it goes in a few situations.

use std::collections::{BTreeMap, BTreeSet};

use comet_routing::clock::Clock;
use proptest::prelude::*;

use super::*;
use crate::operation::roster::tests::node;

const DEADLINE: Duration = Duration::from_secs(5);
const REACH: usize = 3;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn quorum(n: u8) -> Rule<u8> {
    Rule::Quorum { n, same: |a, b| a == b }
}

fn read(nodes: u8, rule: Rule<u8>) -> (Read<u8>, Instant) {
    let period = Period::starting(Clock::System.now(), DEADLINE);
    (Read::new((1..=nodes).map(node), rule, REACH, period), period.began)
}

/// Polls until there is nothing to ask; returns who was asked, and the step after that.
fn asked(read: &mut Read<u8>, now: Instant) -> (Vec<Contact>, ReadStep<u8>) {
    let mut asked = Vec::new();
    loop {
        match read.poll(now) {
            ReadStep::Ask(contact) => asked.push(contact),
            step => return (asked, step),
        }
    }
}

fn done(read: &mut Read<u8>, now: Instant) -> ReadOutcome<u8> {
    match asked(read, now).1 {
        ReadStep::Done(outcome) => outcome,
        step => panic!("the read is not finished: {step:?}"),
    }
}

fn nodes(range: impl IntoIterator<Item = u8>) -> Vec<Contact> {
    range.into_iter().map(node).collect()
}

fn gone() -> Refusal {
    Refusal::Unreachable("gone".into())
}

#[test]
fn a_replica_that_refused_before_is_not_asked_again_and_its_no_counts() {
    let no = || Refusal::BadCode("it does not compile".into());
    for first in [node(1), node(9)] {
        let (fresh, now) = read(5, Rule::First);
        let mut later = fresh.clone().after(first, no());
        let next = if first == node(1) { node(2) } else { node(1) };
        assert_eq!(asked(&mut later, now).0, [next]);
        later.on_refused(&next, no());
        assert_eq!(done(&mut later, now).result, Err(no()), "two have said so");
        let mut control = fresh;
        assert_eq!(asked(&mut control, now).0, nodes([1]));
        control.on_refused(&node(1), no());
        assert_eq!(asked(&mut control, now).0, nodes([2]), "one alone is not believed");
    }
}

#[test]
fn a_replica_that_lacked_the_object_before_is_no_reason_to_conclude_that_there_is_none() {
    let (fresh, now) = read(REACH as u8, Rule::First);
    let mut later = fresh.after(node(1), Refusal::NotFound);
    assert_eq!(asked(&mut later, now).0, nodes([2]));
    later.on_answer(&node(2), 7);
    assert_eq!(done(&mut later, now).result, Ok(vec![(node(2), 7)]));
}

#[test]
fn the_nearest_replica_answers_and_nobody_else_is_asked() {
    let (mut read, now) = read(5, Rule::First);
    assert_eq!(asked(&mut read, now), (nodes([1]), ReadStep::Wait { until: now + DEADLINE }));
    read.on_answer(&node(1), 7);
    assert_eq!(
        done(&mut read, now),
        ReadOutcome {
            result: Ok(vec![(node(1), 7)]),
            heard: vec![(node(1), 7)],
            failed: vec![],
            absent: vec![]
        }
    );
}

#[test]
fn a_suspect_is_hedged_and_its_late_answer_still_counts() {
    let (mut read, now) = read(5, Rule::First);
    asked(&mut read, now);
    read.on_suspect(&node(1), now);
    assert_eq!(asked(&mut read, now).0, nodes([2]));
    read.on_answer(&node(1), 7);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7)]));
}

#[test]
fn a_slow_handler_is_waited_for_until_the_deadline() {
    let (mut read, now) = read(5, Rule::First);
    asked(&mut read, now);
    assert_eq!(asked(&mut read, now + ms(4_999)), (vec![], ReadStep::Wait { until: now + DEADLINE }));
    let outcome = done(&mut read, now + DEADLINE);
    let late = Refusal::Timeout { deadline_ms: 5_000 };
    assert_eq!(
        outcome,
        ReadOutcome {
            result: Err(late.clone()),
            heard: vec![],
            failed: vec![(node(1), late)],
            absent: vec![]
        }
    );
}

#[test]
fn nothing_is_found_only_when_the_closest_live_nodes_said_so() {
    let (mut read, now) = read(9, Rule::First);
    for n in [1, 2] {
        assert_eq!(asked(&mut read, now).0, nodes([n]));
        read.on_refused(&node(n), Refusal::NotFound);
    }
    assert_eq!(asked(&mut read, now).0, nodes([3]));
    read.on_failed(&node(3), gone());
    assert_eq!(asked(&mut read, now).0, nodes([4]), "a dead node has no say");
    read.on_refused(&node(4), Refusal::NotFound);
    let (failed, absent) = (vec![(node(3), gone())], [1, 2, 4].map(node).to_vec());
    let outcome = ReadOutcome { result: Err(Refusal::NotFound), heard: vec![], failed, absent };
    assert_eq!(done(&mut read, now), outcome);
}

#[test]
fn where_too_few_have_spoken_a_suspect_is_waited_for_a_second() {
    let (mut read, now) = read(2, Rule::First);
    asked(&mut read, now);
    read.on_suspect(&node(1), now);
    asked(&mut read, now);
    read.on_refused(&node(2), Refusal::NotFound);
    assert_eq!(asked(&mut read, now).1, ReadStep::Wait { until: now + ms(1_000) });
    assert_eq!(done(&mut read.clone(), now + ms(1_000)).result, Err(Refusal::NotFound));
    read.on_answer(&node(1), 7);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7)]));
}

#[test]
fn a_replica_that_may_hold_it_forbids_to_say_that_it_is_not_there() {
    let (mut read, now) = read(3, Rule::First);
    let busy = Refusal::Overloaded("the object".into());
    asked(&mut read, now);
    read.on_refused(&node(1), busy.clone());
    asked(&mut read, now);
    read.on_refused(&node(2), Refusal::NotFound);
    asked(&mut read, now);
    read.on_refused(&node(3), Refusal::NotFound);
    assert_eq!(done(&mut read, now).result, Err(busy));
}

fn private() -> Refusal {
    Refusal::Refused("private".into())
}

#[test]
fn a_definite_no_is_the_answer_when_two_replicas_give_it() {
    let (mut read, now) = read(5, Rule::First);
    asked(&mut read, now);
    read.on_refused(&node(1), private());
    assert_eq!(asked(&mut read, now).0, nodes([2]), "one alone ends nothing");
    read.on_refused(&node(2), Refusal::Invalid("the payload".into()));
    assert_eq!(asked(&mut read, now).0, nodes([3]), "they do not agree");
    read.on_refused(&node(3), private());
    assert_eq!(done(&mut read, now).result, Err(private()));
}

#[test]
fn an_answer_is_better_than_the_no_of_one_who_lies() {
    let (mut lied_to, now) = read(5, Rule::First);
    asked(&mut lied_to, now);
    lied_to.on_refused(&node(1), private());
    let mut gullible = Read { agreement: 1, ..lied_to.clone() };
    asked(&mut lied_to, now);
    lied_to.on_answer(&node(2), 7);
    assert_eq!(done(&mut lied_to, now).result, Ok(vec![(node(2), 7)]));
    assert_eq!(done(&mut gullible, now).result, Err(private()), "the control");
}

#[test]
fn where_values_can_be_checked_more_than_half_of_the_replicas_must_agree_on_a_no() {
    let period = Period::starting(Clock::System.now(), DEADLINE);
    let (trusting, now) = (Read::new((1..=9).map(node), Rule::First, 8, period), period.began);
    let (mut wary, mut trusting) = (trusting.clone().wary(), trusting);
    assert_eq!(asked(&mut wary, now).0, nodes([1]));
    wary.on_refused(&node(1), private());
    assert_eq!(asked(&mut wary, now).0, nodes(2..=5), "the others at once");
    (2..=4).for_each(|n| wary.on_refused(&node(n), private()));
    let mut lied_to = wary.clone();
    lied_to.on_answer(&node(5), 7);
    assert_eq!(done(&mut lied_to, now).result, Ok(vec![(node(5), 7)]), "four liars are not enough");
    wary.on_refused(&node(5), private());
    assert_eq!(done(&mut wary, now).result, Err(private()));

    for n in [1, 2] {
        asked(&mut trusting, now);
        trusting.on_refused(&node(n), private());
    }
    assert_eq!(done(&mut trusting, now).result, Err(private()), "the control: two are");
}

#[test]
fn the_no_of_the_only_replica_there_is_is_believed() {
    let (read, now) = read(1, Rule::First);
    let mut read = read.wary();
    asked(&mut read, now);
    read.on_refused(&node(1), private());
    assert_eq!(done(&mut read, now).result, Err(private()));
}

#[test]
fn all_live_replicas_are_heard_and_a_dead_one_is_replaced() {
    let (mut read, now) = read(5, Rule::All);
    assert_eq!(asked(&mut read, now).0, nodes(1..=3));
    read.on_failed(&node(2), gone());
    assert_eq!(asked(&mut read, now).0, nodes([4]));
    read.on_answer(&node(4), 4);
    read.on_refused(&node(1), Refusal::NotFound);
    read.on_answer(&node(3), 3);
    let answers = vec![(node(3), 3), (node(4), 4)];
    let (failed, absent) = (vec![(node(2), gone())], nodes([1]));
    assert_eq!(
        done(&mut read, now),
        ReadOutcome { result: Ok(answers.clone()), heard: answers, failed, absent }
    );
}

#[test]
fn a_quorum_of_equal_answers_asks_farther_while_they_differ() {
    let (mut read, now) = read(5, quorum(2));
    assert_eq!(asked(&mut read, now).0, nodes([1, 2]));
    read.on_answer(&node(1), 7);
    read.on_answer(&node(2), 8);
    assert_eq!(asked(&mut read, now).0, nodes([3]));
    read.on_answer(&node(3), 8);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7), (node(2), 8), (node(3), 8)]));
}

#[test]
fn without_a_quorum_the_reader_hears_what_was_seen() {
    let (mut read, now) = read(5, quorum(2));
    asked(&mut read, now);
    read.on_answer(&node(1), 7);
    read.on_answer(&node(2), 8);
    asked(&mut read, now);
    read.on_refused(&node(3), Refusal::NotFound);
    let reason = "2 answered and at most 1 of them agree, 1 do not hold it, 0 refused or failed".into();
    let expected = Refusal::NoQuorum { stored: 1, wanted: 3, quorum: 2, reason };
    assert_eq!(done(&mut read, now).result, Err(expected));
}

#[test]
fn nobody_to_ask_and_nobody_who_answers_are_told_apart() {
    let (mut nobody, now) = read(0, Rule::First);
    assert_eq!(done(&mut nobody, now).result, Err(Refusal::Unreachable("no node to ask is known".into())));
    let (mut dead, now) = read(1, Rule::All);
    asked(&mut dead, now);
    dead.on_failed(&node(1), gone());
    let text = "none of the 1 nodes closest to the key answered";
    assert_eq!(done(&mut dead, now).result, Err(Refusal::Unreachable(text.into())));
}

/// A read in a hurry that knows these nodes and has not searched.
fn unsearched(known: impl IntoIterator<Item = u8>) -> (Read<u8>, Instant) {
    let period = Period::starting(Clock::System.now(), DEADLINE);
    let read = Read::new(known.into_iter().map(node), Rule::First, REACH, period);
    (read.unsearched(true).hasty(), period.began)
}

/// As [`unsearched`], with candidates that may not be the nearest.
fn guessed(known: impl IntoIterator<Item = u8>) -> (Read<u8>, Instant) {
    let (read, now) = unsearched(known);
    (read.unsearched(false), now)
}

#[test]
fn nodes_that_may_not_be_the_nearest_hold_up_no_read_by_being_slow() {
    for (are_guessed, (mut read, now)) in [(true, guessed([5, 6])), (false, unsearched([5, 6]))] {
        for n in [5, 6] {
            assert_eq!(asked(&mut read, now).0, nodes([n]));
            read.on_slow(&node(n));
        }
        if !are_guessed {
            assert_eq!(asked(&mut read, now).0, [], "the object is slow");
            continue;
        }
        assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
        read.on_found(nodes([1, 2, 3]));
        assert_eq!(asked(&mut read, now).0, nodes([1]));
        let mut late = read.clone();
        late.on_answer(&node(5), 9);
        assert_eq!(done(&mut late, now).result, Ok(vec![(node(5), 9)]), "it still counts");
        read.on_answer(&node(1), 7);
        assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7)]));
    }
}

#[test]
fn nodes_that_may_not_be_the_nearest_end_no_read_with_a_definite_no() {
    let no = || Refusal::Refused("no".into());
    let (mut read, now) = guessed([5, 6]);
    assert_eq!(asked(&mut read, now).0, nodes([5]));
    read.on_refused(&node(5), no());
    assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
    assert_eq!(asked(&mut read, now).0, nodes([6]));
    read.on_refused(&node(6), no());
    assert_eq!(asked(&mut read, now), (vec![], ReadStep::Wait { until: now + DEADLINE }), "no conclusion");
    let mut alone = read.clone();
    alone.on_search_failed(Refusal::Overloaded("the router".into()));
    assert_eq!(done(&mut alone, now).result, Err(no()), "there is nobody better to ask");
    read.on_found(nodes([1, 2]));
    assert_eq!(asked(&mut read, now).0.first(), Some(&node(1)));
    read.on_answer(&node(1), 7);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7)]));

    let (mut certain, now) = unsearched([5, 6]);
    for n in [5, 6] {
        assert_eq!(asked(&mut certain, now).0, nodes([n]));
        certain.on_refused(&node(n), no());
    }
    assert_eq!(done(&mut certain, now).result, Err(no()), "the control");
}

#[test]
fn a_known_replica_that_answers_makes_the_search_needless() {
    let (mut read, now) = unsearched([2, 4]);
    assert_eq!(asked(&mut read, now), (nodes([2]), ReadStep::Wait { until: now + DEADLINE }));
    read.on_answer(&node(2), 7);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(2), 7)]));
}

#[test]
fn a_read_searches_once_when_nobody_is_known_or_the_known_are_no_help() {
    let trouble: [fn(&mut Read<u8>, Instant); 4] = [
        |read, now| read.on_suspect(&node(2), now),
        |read, _| read.on_failed(&node(2), gone()),
        |read, _| read.on_refused(&node(2), Refusal::NotFound),
        |read, _| read.on_refused(&node(2), Refusal::Overloaded("it".into())),
    ];
    for trouble in trouble {
        let (mut read, now) = unsearched([2]);
        asked(&mut read, now);
        trouble(&mut read, now);
        assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
        assert_eq!(
            asked(&mut read, now),
            (vec![], ReadStep::Wait { until: now + DEADLINE }),
            "no conclusion"
        );
    }
    let (mut read, now) = unsearched([]);
    assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
    assert_eq!(asked(&mut read, now), (vec![], ReadStep::Wait { until: now + DEADLINE }));
}

#[test]
fn what_was_heard_before_the_search_ended_counts_only_of_those_that_it_found() {
    let (mut read, now) = unsearched([5, 6]);
    asked(&mut read, now);
    read.on_refused(&node(5), Refusal::NotFound);
    assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
    assert_eq!(asked(&mut read, now).0, nodes([6]), "the known ones are asked meanwhile");
    read.on_refused(&node(6), Refusal::NotFound);
    read.on_found(nodes([1, 2, 5]));
    assert_eq!(asked(&mut read, now).0, nodes([1, 2]), "5 has spoken, 6 has no say");
    read.on_refused(&node(1), Refusal::NotFound);
    read.on_refused(&node(2), Refusal::NotFound);
    assert_eq!(done(&mut read, now).result, Err(Refusal::NotFound));
}

#[test]
fn without_a_search_nobody_can_say_that_it_is_not_there() {
    let (mut read, now) = unsearched([2]);
    asked(&mut read, now);
    read.on_refused(&node(2), Refusal::NotFound);
    assert_eq!(read.poll(now), ReadStep::Search { count: REACH });
    let late = done(&mut read.clone(), now + DEADLINE).result;
    assert_eq!(late, Err(Refusal::Timeout { deadline_ms: 5_000 }));
    let busy = Refusal::Overloaded("the router".into());
    read.on_search_failed(busy.clone());
    assert_eq!(done(&mut read, now).result, Err(busy));
}

#[test]
fn in_a_hurry_one_slow_replica_is_done_without() {
    let (slow, now) = read(5, Rule::First);
    let (mut read, mut patient) = (slow.clone().hasty(), slow);
    asked(&mut read, now);
    read.on_slow(&node(1));
    assert_eq!(asked(&mut read, now).0, nodes([2]));
    read.on_slow(&node(2));
    assert_eq!(asked(&mut read, now).0, [], "the object is slow");
    read.on_answer(&node(1), 7);
    assert_eq!(done(&mut read, now).result, Ok(vec![(node(1), 7)]));

    asked(&mut patient, now);
    patient.on_slow(&node(1));
    assert_eq!(asked(&mut patient, now).0, [], "the control");
}

#[test]
fn in_a_hurry_absence_is_heard_from_ever_more_nodes_at_once() {
    let period = Period::starting(Clock::System.now(), DEADLINE);
    let mut read = Read::new((1..=20).map(node), Rule::First, 8, period).hasty();
    let mut next = 1;
    for at_once in [1, 2, 4, 1] {
        let expected = nodes(next..next + at_once);
        assert_eq!(asked(&mut read, period.began).0, expected);
        expected.iter().for_each(|node| read.on_refused(node, Refusal::NotFound));
        next += at_once;
    }
    assert_eq!(done(&mut read, period.began).result, Err(Refusal::NotFound), "eight have spoken");
}

/// What may happen to a node that was asked.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answers(u8),
    HoldsNothing,
    Refuses,
    Fails,
    IsSuspect,
    IsSlow,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        (0_u8..2).prop_map(Fate::Answers),
        Just(Fate::HoldsNothing),
        Just(Fate::Refuses),
        Just(Fate::Fails),
        Just(Fate::IsSuspect),
        Just(Fate::IsSlow),
    ]
}

fn rule() -> impl Strategy<Value = Rule<u8>> {
    prop_oneof![Just(Rule::First), Just(Rule::All), (1_u8..6).prop_map(quorum)]
}

proptest! {
    #[test]
    fn every_read_ends_asks_nobody_twice_and_reports_what_it_was_told(
        existing in 0_u8..30,
        reach in 1_usize..=20,
        rule in rule(),
        hasty: bool,
        known in prop::option::of(0_u8..30),
        fates in prop::collection::vec((fate(), any::<prop::sample::Index>()), 0..80),
    ) {
        let period = Period::starting(Clock::System.now(), DEADLINE);
        let in_flight_max = match rule {
            Rule::First if hasty => BREADTH_MAX + 1,
            Rule::First => 1,
            Rule::All => reach,
            Rule::Quorum { n, .. } => usize::from(n) + usize::from(hasty),
        };
        let known = known.filter(|_| matches!(rule, Rule::First));
        let mut read = Read::new((1..=known.unwrap_or(existing).min(existing)).map(node), rule, reach, period);
        if hasty {
            read = read.hasty();
        }
        if known.is_some() {
            read = read.unsearched(fates.len() % 2 == 0);
        }
        let mut searching = false;
        let mut fates = fates.into_iter();
        let (mut ever, mut asked, mut suspect) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut answers = BTreeMap::new();
        let mut now = period.began;
        let mut outcome = None;
        for _ in 0..500 {
            match read.poll(now) {
                ReadStep::Ask(contact) => {
                    prop_assert!(ever.insert(contact), "{contact:?} is asked twice");
                    asked.insert(contact);
                    prop_assert!(asked.len() <= in_flight_max && ever.len() <= 20);
                }
                ReadStep::Search { .. } => {
                    prop_assert!(known.is_some() && !searching);
                    searching = true;
                }
                ReadStep::Done(done) => {
                    outcome = Some(done);
                    break;
                }
                ReadStep::Wait { until } => {
                    prop_assert!(until > now && until <= period.deadline);
                    if searching {
                        searching = false;
                        read.on_found((1..=existing).map(node));
                        continue;
                    }
                    let awaited: Vec<_> = asked.union(&suspect).copied().collect();
                    let Some((fate, index)) = fates.next().filter(|_| !awaited.is_empty()) else {
                        now = until;
                        continue;
                    };
                    let contact = *index.get(&awaited);
                    if matches!(fate, Fate::IsSlow) {
                        read.on_slow(&contact);
                        continue;
                    }
                    asked.remove(&contact);
                    suspect.remove(&contact);
                    match fate {
                        Fate::Answers(answer) => {
                            answers.insert(contact, answer);
                            read.on_answer(&contact, answer);
                        }
                        Fate::HoldsNothing => read.on_refused(&contact, Refusal::NotFound),
                        Fate::Refuses => read.on_refused(&contact, Refusal::Overloaded("it".into())),
                        Fate::Fails => read.on_failed(&contact, gone()),
                        Fate::IsSuspect => {
                            suspect.insert(contact);
                            read.on_suspect(&contact, now);
                        }
                        Fate::IsSlow => {}
                    }
                }
            }
        }
        let outcome = outcome.expect("the read ends");
        match (rule, outcome.result) {
            (Rule::First, Ok(one)) => {
                prop_assert_eq!(one.len(), 1);
                prop_assert_eq!(answers.get(&one[0].0), Some(&one[0].1));
            }
            (_, Ok(some)) => prop_assert_eq!(some.into_iter().collect::<BTreeMap<_, _>>(), answers),
            (Rule::Quorum { .. }, Err(_)) => {}
            (_, Err(_)) => prop_assert!(answers.is_empty()),
        }
        prop_assert!(outcome.failed.iter().all(|(contact, _)| ever.contains(contact)));
    }
}
