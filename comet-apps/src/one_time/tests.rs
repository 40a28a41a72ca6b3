use std::time::Duration;

use comet_runtime::testing::{TestConfig, TestSwarm};
use proptest::prelude::*;

use super::*;

mod interleaving;

const MINUTE: Duration = Duration::from_secs(60);

/// A swarm of eight with a value on the five nodes closest to its key, nearest first.
async fn swarm(seed: u64) -> (TestSwarm, OneTime, Vec<usize>) {
    let swarm = TestSwarm::new(seed, TestConfig { replicas: 5, ..TestConfig::default() });
    let object = OneTime::at(Key::of("secret"));
    object.create(&swarm, "burn".into(), 5).await.expect("it is stored");
    let holders = swarm.holders("secret");
    assert_eq!(holders.len(), 5);
    (swarm, object, holders)
}

/// A read at one replica while only these others can be reached.
fn read_at(
    swarm: &TestSwarm,
    holders: &[usize],
    reader: usize,
    reachable: &[usize],
) -> Result<Value, Refusal> {
    let at = holders[reader];
    let away: Vec<_> = (0..8)
        .filter(|node| *node != at && !reachable.iter().any(|replica| holders[*replica] == *node))
        .collect();
    away.iter().for_each(|node| swarm.silence(*node));
    let live = [&[reader], reachable].concat();
    let nearer = live.iter().filter(|replica| **replica < reader).count();
    let reply = swarm.get_at(nearer, "secret");
    away.iter().for_each(|node| swarm.wake(*node));
    reply
}

fn declined(votes: u32) -> Value {
    let reason = format!("{votes} of 5 replicas agreed and a majority must; ask again later");
    Value::map([("refused".into(), reason.as_str().into())])
}

#[actix_rt::test]
async fn the_first_reader_gets_it_and_then_it_is_gone_everywhere() {
    let (swarm, object, _) = swarm(1).await;
    assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
    assert_eq!(object.take(&swarm).await, Ok(None));
    swarm.advance(5 * MINUTE);
    assert!(swarm.holders("secret").is_empty());
}

#[actix_rt::test]
async fn a_replica_claims_for_nobody_who_names_another() {
    let (swarm, object, holders) = swarm(21).await;
    let other = swarm.node(holders[1]).id.to_string();
    let naming = Value::map([("claimant".into(), other.as_str().into())]);
    let unread = |unread: bool| Ok(Value::map([("unread".into(), unread.into())]));
    assert_eq!(swarm.get_with("secret", naming.clone()), unread(true), "the nearest is asked and not meant");
    assert!(swarm.sent("secret").is_empty(), "no vote was asked for");
    assert_eq!(swarm.get_at(0, "secret"), Ok("burn".into()));
    assert_eq!(swarm.get_with("secret", naming), unread(false));
    assert_eq!(object.take(&swarm).await, Ok(None));
}

#[actix_rt::test]
async fn a_node_next_to_the_key_that_does_not_hold_it_keeps_it_from_nobody() {
    let swarm = TestSwarm::new(22, TestConfig { replicas: 5, ..TestConfig::default() });
    let object = OneTime::at(Key::of("secret"));
    let distance = |node: &usize| Key::of("secret").distance_to(&swarm.node(*node).id);
    let nearest = (0..8).min_by_key(distance).expect("there are eight");
    swarm.silence(nearest);
    object.create(&swarm, "burn".into(), 5).await.expect("it is stored");
    swarm.wake(nearest);
    assert!(!swarm.holders("secret").contains(&nearest));
    assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
}

#[actix_rt::test]
async fn a_minority_refuses_and_the_value_is_still_there_when_the_others_return() {
    let (swarm, object, holders) = swarm(2).await;
    assert_eq!(read_at(&swarm, &holders, 0, &[1]), Ok(declined(2)));
    assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
}

#[actix_rt::test]
async fn of_two_sides_of_a_partition_one_at_most_reads_it() {
    let (swarm, _, holders) = swarm(3).await;
    assert_eq!(read_at(&swarm, &holders, 0, &[1]), Ok(declined(2)));
    assert_eq!(read_at(&swarm, &holders, 3, &[2, 4]), Ok("burn".into()));
    assert_eq!(swarm.holders("secret").len(), 3, "the far side has not heard of it");
    assert_eq!(read_at(&swarm, &holders, 1, &[0]), Ok(declined(2)));
    assert_eq!(
        read_at(&swarm, &holders, 0, &[1, 3]),
        Ok(declined(2)),
        "the reader's replica does not vote again"
    );
}

#[actix_rt::test]
async fn two_claims_that_split_the_votes_are_both_refused_and_either_may_ask_again() {
    let (swarm, object, holders) = swarm(4).await;
    // A claim of replica 0 that is still under way has the votes of 2 and 3.
    let key = Key::of("secret");
    let claim = |withdrawn: bool| {
        let fields = [("by".into(), Value::Int(9)), ("turn".into(), Value::Int(1))];
        let fields = fields.into_iter().chain([("withdrawn".into(), withdrawn.into())]);
        Value::map([("claim".into(), Value::map(fields))])
    };
    let tell = |replicas: &[usize], payload: &Value| {
        for replica in replicas {
            let nearer = &holders[..*replica];
            nearer.iter().for_each(|node| swarm.silence(*node));
            assert_eq!(swarm.get_from(holders[0], key, Some(payload.clone())), Ok(true.into()));
            nearer.iter().for_each(|node| swarm.wake(*node));
        }
    };
    tell(&[2, 3, 4], &claim(false));
    assert_eq!(
        object.take(&swarm).await,
        Err(AppError::Declined("2 of 5 replicas agreed and a majority must; ask again later".into()))
    );
    tell(&[2, 3], &claim(true));
    assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
}

#[actix_rt::test]
async fn a_withdrawal_frees_nobody_elses_vote() {
    let (swarm, _, holders) = swarm(5).await;
    let payload = |withdrawn: bool| {
        let claim = [
            ("by".into(), Value::Int(9)),
            ("turn".into(), Value::Int(1)),
            ("withdrawn".into(), withdrawn.into()),
        ];
        Some(Value::map([("claim".into(), Value::map(claim))]))
    };
    let key = Key::of("secret");
    assert_eq!(swarm.get_from(holders[1], key, payload(false)), Ok(true.into()));
    let held = swarm.field(0, "secret", "vote");
    swarm.get_from(holders[2], key, payload(true)).expect("it is answered");
    assert_eq!(swarm.field(0, "secret", "vote"), held, "another node's claim of the same number");
    assert_eq!(swarm.get_from(holders[1], key, payload(false)), Ok(false.into()), "one turn, one vote");
    swarm.get_from(holders[1], key, payload(true)).expect("it is answered");
    assert_eq!(swarm.field(0, "secret", "vote"), None);
}

#[actix_rt::test]
async fn a_copy_that_is_made_later_has_no_vote_and_nor_has_a_stranger() {
    let swarm = TestSwarm::new(6, TestConfig { replicas: 3, ..TestConfig::default() });
    let copier = APP
        .source
        .replace("return false, \"a one-time value cannot be changed\"", "put(getASOKey(), self, 6)");
    let value = with_settings("burn".into(), [("count", Value::Int(3))]);
    swarm.put("secret", value, &copier).expect("it is stored");
    swarm.update("secret", "copy yourself").expect("it copies itself");
    let holders = swarm.holders("secret");
    assert_eq!(holders.len(), 7);
    let seated = |replica| swarm.field(replica, "secret", "seated");
    assert_eq!((seated(2), seated(3)), (Some(true.into()), Some(false.into())));
    // Without two of the three voters the five copies are no majority, and with two they are asked in vain.
    swarm.silence(holders[0]);
    swarm.silence(holders[1]);
    let reason = "1 of 3 replicas agreed and a majority must; ask again later";
    assert_eq!(swarm.get_at(4, "secret"), Ok(Value::map([("refused".into(), reason.into())])));
    swarm.wake(holders[0]);
    assert_eq!(swarm.get_at(5, "secret"), Ok("burn".into()), "a copy may claim");
}

#[actix_rt::test]
async fn a_replica_that_was_away_does_not_leak_it_and_is_deleted() {
    let (swarm, object, holders) = swarm(7).await;
    swarm.silence(holders[2]);
    assert_eq!(object.take(&swarm).await, Ok(Some("burn".into())));
    swarm.wake(holders[2]);
    assert!(swarm.holders("secret").contains(&holders[2]), "it has not heard of the read");
    let reply = read_at(&swarm, &holders, 2, &[0, 1, 3, 4]);
    assert_eq!(reply, Ok(declined(1)));
    swarm.advance(2 * MINUTE);
    assert!(!swarm.holders("secret").contains(&holders[2]), "the timer deletes it");
}

#[actix_rt::test]
async fn it_cannot_be_changed_and_makes_sense_of_nothing_else() {
    let (swarm, object, _) = swarm(8).await;
    let refused = Err(Refusal::Refused("a one-time value cannot be changed".into()));
    assert_eq!(swarm.update("secret", "other"), refused);
    let node = Value::Node(swarm.node(0));
    let odd = [
        "x".into(),
        with_settings(Value::Nil, []),
        with_settings("x".into(), [("count", Value::Int(0))]),
        with_settings("x".into(), [("count", Value::Int(21))]),
        with_settings("x".into(), [("count", 2.5.into())]),
        with_settings("x".into(), [("voters", vec![node.clone(), "y".into()].into())]),
        with_settings("x".into(), [("voters", vec![node; 21].into())]),
    ];
    let why = "the value must be { value = …, voters = 1 to 20 nodes } or { value = …, count = 1 to 20 }";
    for value in odd {
        assert_eq!(swarm.put("odd", value, APP.source), Err(Refusal::Refused(why.into())));
    }
    let claim = Value::map([("claim".into(), Value::map([("by".into(), "me".into())]))]);
    assert_eq!(swarm.get_with("secret", claim), Ok(false.into()), "no vote for half a claim");
    assert_eq!(swarm.get_with("secret", "anything"), Ok("burn".into()), "a stranger's payload is a read");
    assert_eq!(object.take(&swarm).await, Ok(None));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Each read reaches any of the other replicas, in any order of reads: every way in which single-round claims
    /// can interleave, since what a claim collects is decided by who hears of it first.
    #[test]
    fn however_reads_and_partitions_mix_at_most_one_reader_gets_it(
        reads in proptest::collection::vec((0_usize..5, 0_u8..32, any::<bool>()), 1..12),
    ) {
        let runtime = actix_rt::Runtime::new().expect("a runtime");
        let (swarm, _, holders) = runtime.block_on(swarm(9));
        let mut given = 0;
        for (reader, mask, tick) in reads {
            if !swarm.holders("secret").contains(&holders[reader]) {
                continue;
            }
            let held = swarm.holders("secret");
            let reachable: Vec<_> = (0..5).filter(|n| *n != reader && mask & 1 << n != 0).collect();
            let voters = 1 + reachable.iter().filter(|n| held.contains(&holders[**n])).count();
            let first = given == 0;
            let reply = read_at(&swarm, &holders, reader, &reachable);
            let got = reply == Ok("burn".into());
            given += u32::from(got);
            prop_assert!(given <= 1);
            prop_assert!(!got || voters >= 3, "a minority gave it away");
            if tick && first {
                swarm.fire_timer("secret");
            }
        }
    }
}
