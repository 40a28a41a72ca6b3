//! Applications that guard a value, in a swarm: who gets it, who does not, and what is left of it.

use std::{collections::BTreeSet, time::Duration};

use comet_apps::{
    AccessLog, Act, AppError, Challenge, FlexibleTimeout, OneTime, OneTimeFast, Password, Policy,
    Replication, compose, find,
};
use comet_node::config::NodeConfig;
use comet_routing::Key;
use comet_runtime::{
    Value,
    dht::{Dht, Get, Read},
};
use comet_tests::harness::{Cluster, Failure, Sim, SimNode};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// All objects are checked every ten minutes.
const PERIOD: Duration = Duration::from_secs(600);

/// The SHA-256 of `pepper:open sesame`.
const VERIFIER: &str = "9aba11084003bed0fe5e87b5bfa3ca33dfe30fdb52e7b44d944c794b1e3b1b78";

/// What a reader of a one-time value gets.
type Taken = Result<Option<Value>, AppError>;

fn every_ten_minutes() -> NodeConfig {
    let mut config = NodeConfig::default();
    config.replication.upkeep_seconds = PERIOD.as_secs();
    config
}

fn holders<'a>(cluster: &'a Cluster, name: &str) -> BTreeSet<&'a str> {
    cluster.holders_of(name).into_iter().map(SimNode::name).collect()
}

/// The live nodes that do not hold the object of this name, so that what they are asked goes over the wire.
fn strangers<'a>(cluster: &'a Cluster, name: &str) -> Vec<&'a SimNode> {
    cluster.live().filter(|node| !node.holds(&Key::of(name))).collect()
}

/// Reads a one-time value through all of these nodes at the same moment.
async fn take_at_once(object: OneTime, through: &[&SimNode]) -> Result<Vec<Taken>, Failure> {
    let readers = through.iter().map(|node| {
        let client = node.client();
        actix_rt::spawn(async move { object.take(&client).await })
    });
    let readers: Vec<_> = readers.collect();
    let mut taken = Vec::new();
    for reader in readers {
        taken.push(reader.await?);
    }
    Ok(taken)
}

/// Reads a one-time value through all of these nodes at the same moment, each at a replica of its own.
async fn claim_at_once(name: &str, through: &[&SimNode], at: &[&SimNode]) -> Result<Vec<Taken>, Failure> {
    let readers = through.iter().zip(at).map(|(node, claimant)| {
        let (client, key, claimant) = (node.client(), Key::of(name), claimant.contact().id);
        let payload = Value::map([("claimant".into(), claimant.to_string().as_str().into())]);
        actix_rt::spawn(async move {
            let get = Get { key, payload: Some(payload), read: Read::All, deadline: None };
            let report = client.get(get).await?;
            let answer = report.answers.into_iter().find(|answer| answer.replica.id == claimant);
            Ok(answer.map_or(Value::Nil, |answer| answer.value))
        })
    });
    let readers: Vec<_> = readers.collect();
    let mut taken = Vec::new();
    for reader in readers {
        taken.push(reader.await?.map(|answer| match answer.field("refused") {
            None if answer != Value::Nil => Some(answer),
            _ => None,
        }));
    }
    Ok(taken)
}

fn winners(taken: &[Taken]) -> usize {
    taken.iter().filter(|taken| matches!(taken, Ok(Some(_)))).count()
}

fn is_declined(taken: &Taken) -> bool {
    matches!(taken, Err(AppError::Declined(_)))
}

#[test]
fn a_value_with_a_lifetime_ends_on_its_second_on_copies_and_on_who_comes_back() {
    Sim::seeded(51).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        let letter = FlexibleTimeout::at(Key::of("letter"));
        letter.create(&cluster["n2"].client(), "burn".into(), 3 * PERIOD).await?;
        sim.run_for(SECOND).await;
        let first = cluster.holders_of("letter");
        let away = &first[..4];
        for node in away {
            node.crash().await;
        }
        // Time enough for everybody to read.
        sim.run_for(3 * PERIOD - 10 * SECOND).await;
        let copies = cluster.holders_of("letter");
        assert_eq!(copies.len(), 8, "upkeep made up for those that are away");
        assert!(copies.iter().any(|node| !first.iter().any(|other| other.name() == node.name())));
        for node in cluster.live() {
            let value = letter.read(&node.client()).await?;
            assert_eq!(value, Some("burn".into()), "before its end through {}", node.name());
        }
        sim.run_for(10 * SECOND).await;
        for node in away {
            node.restart().await;
        }
        for node in cluster.live() {
            assert_eq!(letter.read(&node.client()).await?, None, "after its end through {}", node.name());
        }
        sim.run_for(2 * MINUTE).await;
        assert_eq!(holders(&cluster, "letter"), BTreeSet::new());
        cluster.check().await
    });
}

#[test]
fn at_most_one_of_many_who_read_at_once_gets_a_one_time_value() {
    Sim::seeded(52).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        for n in 0..10 {
            let object = OneTime::at(Key::of(format!("secret {n}")));
            object.create(&cluster["n1"].client(), "s3cret".into(), 8).await?;
            let readers: Vec<_> = cluster.nodes().iter().skip(n % 3).step_by(3).collect();
            let taken = if n % 2 == 0 {
                take_at_once(object, &readers).await?
            } else {
                let replicas = cluster.closest_to(&format!("secret {n}"), 8);
                claim_at_once(&format!("secret {n}"), &readers, &replicas).await?
            };
            assert!(winners(&taken) <= 1, "secret {n}: {taken:?}");
            sim.run_for(5 * SECOND).await;
            // Who asks alone gets it, unless somebody has it already.
            let mut later = Vec::new();
            for node in ["n4", "n9", "n14"] {
                later.push(object.take(&cluster[node].client()).await);
            }
            assert_eq!(winners(&taken) + winners(&later), 1, "secret {n}: {taken:?}, then {later:?}");
            assert_eq!(later[1..], [Ok(None), Ok(None)], "secret {n}");
        }
        cluster.check().await
    });
}

#[test]
fn a_swarm_that_is_parted_between_the_voters_gives_a_one_time_value_to_nobody() {
    Sim::seeded(53).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let object = OneTime::at(Key::of("secret"));
        object.create(&cluster["n1"].client(), "s3cret".into(), 8).await?;
        sim.run_for(SECOND).await;
        let (voters, others) = (cluster.holders_of("secret"), strangers(&cluster, "secret"));
        let side: Vec<_> = voters[..4].iter().chain(&others[..4]).map(|node| node.name()).collect();
        cluster.partition(&side);
        let taken = take_at_once(object, &[others[0], others[7], voters[0], voters[7]]).await?;
        assert!(taken.iter().all(is_declined), "{taken:?}");
        cluster.heal();
        sim.run_for(MINUTE).await;
        assert_eq!(object.take(&others[0].client()).await?, Some("s3cret".into()));
        assert_eq!(object.take(&others[7].client()).await?, None);
        cluster.check().await
    });
}

#[test]
fn the_side_with_most_voters_gets_a_one_time_value_and_the_other_never_does() {
    Sim::seeded(54).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        let object = OneTime::at(Key::of("secret"));
        object.create(&cluster["n1"].client(), "s3cret".into(), 8).await?;
        sim.run_for(SECOND).await;
        let (voters, others) = (cluster.holders_of("secret"), strangers(&cluster, "secret"));
        let few: Vec<_> = voters[..3].iter().chain(&others[..3]).map(|node| node.name()).collect();
        cluster.partition(&few);
        let taken = take_at_once(object, &[others[0], others[7]]).await?;
        assert!(is_declined(&taken[0]), "{taken:?}");
        assert_eq!(taken[1], Ok(Some("s3cret".into())));
        // Both sides look after their replicas for half an hour, and meet.
        sim.run_for(3 * PERIOD).await;
        cluster.heal();
        for wait in [Duration::ZERO, MINUTE, PERIOD, PERIOD] {
            sim.run_for(wait).await;
            for node in cluster.live() {
                let taken = object.take(&node.client()).await;
                assert!(taken == Ok(None) || is_declined(&taken), "through {}: {taken:?}", node.name());
            }
        }
        assert_eq!(holders(&cluster, "secret"), BTreeSet::new());
        cluster.check().await
    });
}

#[test]
fn a_replica_that_was_away_while_a_one_time_value_was_read_gives_it_to_nobody() {
    Sim::seeded(55).run(async |sim| {
        let cluster = Cluster::start_with(&sim, 16, &every_ten_minutes()).await;
        let object = OneTime::at(Key::of("secret"));
        object.create(&cluster["n1"].client(), "s3cret".into(), 8).await?;
        sim.run_for(SECOND).await;
        let away = cluster.holders_of("secret")[2];
        away.crash().await;
        // Upkeep makes copies, which have no vote.
        sim.run_for(2 * PERIOD).await;
        assert_eq!(cluster.holders_of("secret").len(), 8);
        let reader = strangers(&cluster, "secret")[0];
        assert_eq!(object.take(&reader.client()).await?, Some("s3cret".into()));
        sim.run_for(2 * PERIOD).await;
        assert_eq!(holders(&cluster, "secret"), BTreeSet::new());
        assert!(away.holds(&Key::of("secret")), "it has not heard of the read");
        away.restart().await;
        for wait in [5 * SECOND, MINUTE, PERIOD, PERIOD] {
            sim.run_for(wait).await;
            for node in cluster.live() {
                let taken = object.take(&node.client()).await;
                assert!(taken == Ok(None) || is_declined(&taken), "through {}: {taken:?}", node.name());
            }
        }
        assert!(!away.holds(&Key::of("secret")), "upkeep tells it");
        cluster.check().await
    });
}

#[test]
fn a_fast_one_time_value_is_gone_after_the_first_read_and_deleted_where_somebody_was_away() {
    Sim::seeded(56).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let object = OneTimeFast::at(Key::of("secret"));
        object.create(&cluster["n1"].client(), &"burn".into()).await?;
        sim.run_for(SECOND).await;
        let away = cluster.holders_of("secret")[5];
        away.crash().await;
        let reader = strangers(&cluster, "secret")[0];
        assert_eq!(object.take(&reader.client()).await?, Some("burn".into()));
        sim.run_for(SECOND).await;
        for node in cluster.live() {
            assert_eq!(object.take(&node.client()).await?, None, "through {}", node.name());
        }
        away.restart().await;
        assert!(holders(&cluster, "secret").contains(away.name()), "it has not heard of the read");
        sim.run_for(5 * MINUTE).await;
        assert_eq!(holders(&cluster, "secret"), BTreeSet::new());
        cluster.check().await
    });
}

#[test]
fn a_password_opens_its_value_through_any_node_and_an_answer_serves_no_other() {
    Sim::seeded(57).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let (key, diary) = (Key::of("diary"), Password::at(Key::of("diary")));
        diary.create(&cluster["n2"].client(), "dear".into(), "pepper", "open sesame").await?;
        sim.run_for(SECOND).await;
        let wrong = AppError::Declined("the password is wrong".into());
        for node in cluster.live() {
            let (client, own) = (node.client(), node.contact().id);
            assert_eq!(diary.read(&client, own, "open sesame").await, Ok("dear".into()), "{}", node.name());
            assert_eq!(diary.read(&client, own, "open barley").await, Err(wrong.clone()), "{}", node.name());
        }
        assert!(cluster["n5"].get("diary").await?.is_some_and(|answer| answer.field("refused").is_some()));
        // Somebody sees the answer that is sent through one node, and tries it through another.
        let (honest, thief) = (&cluster["n7"], &cluster["n8"]);
        let challenge = honest.get("diary").await?.as_ref().and_then(Challenge::read);
        let challenge = challenge.ok_or_else(|| Failure::new("no challenge"))?;
        let answer = challenge.payload(&key, honest.contact().id, "open sesame");
        let stolen = thief.get_with("diary", Some(answer.clone())).await?;
        assert_eq!(stolen, Some(Value::map([("refused".into(), "the password is wrong".into())])));
        assert_eq!(honest.get_with("diary", Some(answer)).await?, Some("dear".into()));
        cluster.check().await
    });
}

#[test]
fn an_access_log_unites_what_replicas_saw_that_were_up_at_different_times() {
    Sim::seeded(58).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let laptop = AccessLog::at(Key::of("laptop"));
        laptop.create(&cluster["n2"].client(), "here".into()).await?;
        sim.run_for(SECOND).await;
        let (replicas, readers) = (cluster.holders_of("laptop"), strangers(&cluster, "laptop"));
        // A reader asks the replicas from the nearest on, so the second one meets another.
        assert_eq!(laptop.read(&readers[0].client()).await?, "here".into());
        sim.run_for(SECOND).await;
        let nearest = cluster.closest_to("laptop", 1)[0];
        nearest.crash().await;
        assert_eq!(laptop.read(&readers[1].client()).await?, "here".into());
        nearest.restart().await;
        sim.run_for(30 * SECOND).await;

        let log = laptop.log(&readers[2].client(), None).await?;
        let of = |act| log.iter().filter(move |entry| entry.act == act);
        let stored_at: BTreeSet<_> = of(Act::Stored).map(|entry| entry.host.clone()).collect();
        let expected: BTreeSet<_> = replicas.iter().map(|node| node.contact().id.to_string()).collect();
        assert_eq!(stored_at, expected);
        assert!(of(Act::Stored).all(|entry| entry.by.id == cluster["n2"].contact().id), "{log:?}");
        let reads: Vec<_> = of(Act::Read).map(|entry| (entry.by.id, entry.host.clone())).collect();
        assert_eq!(
            reads.iter().map(|(by, _)| *by).collect::<Vec<_>>(),
            [readers[0].contact().id, readers[1].contact().id]
        );
        assert_eq!(reads[0].1, nearest.contact().id.to_string());
        assert_ne!(reads[1].1, reads[0].1);
        cluster.check().await
    });
}

#[test]
fn sybils_next_to_a_key_get_no_copy_and_lost_replicas_are_made_up_for_without_them() {
    Sim::seeded(59).run(async |sim| {
        let mut cluster = Cluster::start_with(&sim, 12, &every_ten_minutes()).await;
        let policy = Policy { threshold: 3, target: 5, spread: 4 };
        let (key, client) = (Key::of("share"), cluster["n1"].client());
        Replication::at(key).create(&client, b"7 of 50", policy).await?;
        // Ordinary objects are pushed to whoever joins next to their keys.
        for n in 0..8 {
            cluster["n1"].put(&format!("plain {n}"), n).await?;
        }
        // Every replica has seen its neighbourhood once.
        sim.run_for(PERIOD + MINUTE).await;
        let replicas: Vec<_> = cluster.holders_of("share").iter().map(|node| node.contact()).collect();
        assert_eq!(replicas.len(), 5);
        let old: Vec<_> = cluster.live().map(SimNode::contact).collect();
        for _ in 0..8 {
            cluster.grow().await;
        }
        let is_sybil = |node: &SimNode| !old.contains(&node.contact());
        assert!(cluster.closest_to("share", 5).iter().any(|node| is_sybil(node)), "one is next to the key");
        sim.run_for(3 * PERIOD).await;
        let held: Vec<_> = cluster.holders_of("share").iter().map(|node| node.contact()).collect();
        assert_eq!(held, replicas, "nobody else has it while enough live");
        let pushed =
            (0..8).filter(|n| cluster.holders_of(&format!("plain {n}")).iter().any(|node| is_sybil(node)));
        assert_eq!(pushed.count(), 8, "each plain value went to a newcomer");

        cluster.crash_all_but_one(cluster.holders_of("share")[..4].to_vec()).await;
        assert_eq!(cluster.holders_of("share").len(), 2);
        sim.run_for(2 * PERIOD).await;
        let held = cluster.holders_of("share");
        assert_eq!(held.len(), 5, "{:?}", holders(&cluster, "share"));
        assert!(!held.iter().any(|node| is_sybil(node)), "{:?}", holders(&cluster, "share"));
        let reader = strangers(&cluster, "share")[0];
        assert_eq!(Replication::at(key).read(&reader.client()).await?, "7 of 50".into());
        cluster.check().await
    });
}

#[test]
fn a_log_before_a_password_in_a_value_with_a_lifetime_notes_every_attempt_until_the_end() {
    Sim::seeded(60).run(async |sim| {
        let cluster = Cluster::start(&sim, 16).await;
        let parts =
            ["flexible-timeout", "access-log", "password"].map(|name| find(name).expect("an application"));
        let (object, key) = (compose(&parts)?, Key::of("diary"));
        let settings =
            [("seconds", Value::Int(90)), ("salt", "pepper".into()), ("verifier", VERIFIER.into())];
        object.create(&cluster["n2"].client(), key, "dear".into(), settings).await?;
        sim.run_for(SECOND).await;
        let (reader, guesser) = (&cluster["n7"], &cluster["n11"]);
        let read = async |node: &SimNode, password| {
            Password::at(key).read(&node.client(), node.contact().id, password).await
        };
        assert_eq!(read(reader, "open sesame").await, Ok("dear".into()));
        let wrong = AppError::Declined("the password is wrong".into());
        assert_eq!(read(guesser, "open barley").await, Err(wrong));
        let log = AccessLog::at(key).log(&cluster["n4"].client(), None).await?;
        let by = |node: &SimNode| {
            let by = node.contact().id;
            log.iter().filter(|entry| entry.act == Act::Read && entry.by.id == by).count()
        };
        assert!(by(reader) > 0 && by(guesser) > 0, "{log:?}");
        sim.run_for(90 * SECOND).await;
        for node in cluster.live() {
            assert!(matches!(node.get("diary").await?, None | Some(Value::Nil)), "through {}", node.name());
        }
        sim.run_for(MINUTE).await;
        assert_eq!(holders(&cluster, "diary"), BTreeSet::new());
        cluster.check().await
    });
}
