//! The tracker on the fake swarm.

use comet_runtime::testing::{TestConfig, TestSwarm};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const TORRENT: [u8; 20] = [7; 20];

fn id(n: u16) -> [u8; 20] {
    let mut id = *b"-CM0100-000000000000";
    id[18..].copy_from_slice(&n.to_be_bytes());
    id
}

fn v4(n: u16) -> SocketAddr {
    let [high, low] = n.to_be_bytes();
    ([198, high, low, 1], 6881).into()
}

fn v6(n: u16) -> SocketAddr {
    ([0x2001, 0xdb8, n, 0, 0, 0, 0, 1], 6881).into()
}

fn leecher(n: u16) -> Announce {
    Announce::new(AnnounceEvent::Started, id(n), v4(n), 1_000)
}

fn seed(n: u16) -> Announce {
    Announce { left: 0, ..leecher(n) }
}

/// A peer whose record is as long as any.
fn far(n: u16) -> Announce {
    Announce {
        address: v6(n),
        event: AnnounceEvent::Regular,
        coordinate: at(f64::from(n), 5.0),
        ..leecher(n)
    }
}

fn at(x_ms: f64, y_ms: f64) -> Option<Coordinate> {
    Some(Coordinate { x_ms, y_ms, height_ms: 1.0, error: 0.2 })
}

async fn opened(seed: u64, config: TestConfig) -> (TestSwarm, Tracker) {
    let swarm = TestSwarm::new(seed, config);
    let tracker = Tracker::at(Key::of("torrent"));
    tracker.create(&swarm, None).await.expect("it is stored");
    (swarm, tracker)
}

fn scraped(complete: u64, incomplete: u64, downloaded: u64) -> Scrape {
    Scrape { complete, incomplete, downloaded }
}

/// Announces at the replica that is so many places from the nearest, as a reader that knows no nearer one would.
fn announce_at(swarm: &TestSwarm, replica: usize, announce: &Announce) -> Introduction {
    let holders = swarm.holders("torrent");
    holders[..replica].iter().for_each(|&nearer| swarm.silence(nearer));
    let answer = swarm.get_with("torrent", announce.payload()).expect("it answers");
    holders[..replica].iter().for_each(|&nearer| swarm.wake(nearer));
    introduction(&answer).expect("it is an introduction")
}

#[actix_rt::test]
async fn a_leecher_and_a_seed_find_each_other() {
    let (swarm, tracker) = opened(1, TestConfig::default()).await;
    let first = tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    assert_eq!((first.addresses(), first.scrape), (vec![], scraped(1, 0, 0)));
    let second = tracker.announce(&swarm, &leecher(2)).await.expect("it is registered");
    assert_eq!((second.addresses(), second.scrape), (vec![v4(1)], scraped(1, 1, 0)));
    let first = tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    assert_eq!(first.addresses(), [v4(2)]);
}

#[actix_rt::test]
async fn peers_that_announce_at_different_replicas_find_each_other_at_once() {
    let (swarm, _) = opened(2, TestConfig::default()).await;
    announce_at(&swarm, 0, &seed(1));
    let met = announce_at(&swarm, 2, &leecher(2));
    assert_eq!((met.addresses(), met.scrape), (vec![v4(1)], scraped(1, 1, 0)));
}

#[actix_rt::test]
async fn what_the_budget_of_messages_kept_back_is_told_with_the_next_ticks() {
    let (swarm, tracker) = opened(3, TestConfig::default()).await;
    for n in 0..60 {
        announce_at(&swarm, 0, &leecher(n));
    }
    assert!(announce_at(&swarm, 1, &seed(100)).scrape.incomplete < 60);
    swarm.advance(MINUTE);
    assert_eq!(announce_at(&swarm, 1, &seed(100)).scrape, scraped(1, 60, 0));
    let many = tracker.announce(&swarm, &leecher(200)).await.expect("it is registered");
    assert_eq!(many.interval, 30 * MINUTE);
}

#[actix_rt::test]
async fn a_replica_that_was_away_hears_of_peers_with_their_next_announce() {
    let (swarm, tracker) = opened(4, TestConfig::default()).await;
    let away = swarm.holders("torrent")[1];
    swarm.silence(away);
    tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    swarm.wake(away);
    assert_eq!(announce_at(&swarm, 1, &leecher(2)).addresses(), []);
    tracker
        .announce(&swarm, &Announce { event: AnnounceEvent::Regular, ..seed(1) })
        .await
        .expect("it is known");
    swarm.advance(MINUTE);
    assert_eq!(announce_at(&swarm, 1, &leecher(2)).addresses(), [v4(1)]);
}

#[actix_rt::test]
async fn who_has_met_few_comes_back_after_two_minutes() {
    let (swarm, tracker) = opened(5, TestConfig::default()).await;
    let alone = tracker.announce(&swarm, &leecher(1)).await.expect("it is registered");
    assert_eq!(alone.interval, 2 * MINUTE);
    for n in 2..6 {
        tracker.announce(&swarm, &leecher(n)).await.expect("it is registered");
    }
    let in_company = tracker.announce(&swarm, &leecher(6)).await.expect("it is registered");
    assert_eq!(in_company.interval, 30 * MINUTE);
}

#[actix_rt::test]
async fn the_nearest_by_coordinates_come_first_and_a_fifth_at_random() {
    let (swarm, tracker) = opened(6, TestConfig::default()).await;
    for n in 1..=100 {
        let there = Announce { coordinate: at(f64::from(n) * 10.0, 0.0), ..leecher(n) };
        tracker.announce(&swarm, &there).await.expect("it is registered");
    }
    let here = Announce { coordinate: at(0.0, 0.0), want: Some(10), ..leecher(0) };
    let met = tracker.announce(&swarm, &here).await.expect("it is registered").addresses();
    assert_eq!(met.len(), 10);
    assert_eq!(met[..8], (1..=8).map(v4).collect::<Vec<_>>());
    assert_eq!(
        met.iter().filter(|peer| (1..=10).any(|n| v4(n) == **peer)).count(),
        8,
        "the rest are any two"
    );
}

#[actix_rt::test]
async fn without_coordinates_neighbours_by_address_come_first() {
    let (swarm, tracker) = opened(7, TestConfig::default()).await;
    let address = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
    for n in 0..40 {
        tracker.announce(&swarm, &leecher(n)).await.expect("it is registered");
    }
    for near in ["203.0.113.9:1", "203.0.7.7:1", "[2001:db8::1]:1", "[2001:db8:0:9::1]:1"] {
        let near = Announce { address: address(near), ..leecher(900) };
        tracker.announce(&swarm, &near).await.expect("it is registered");
    }
    let asks = |own: &str| Announce { address: address(own), want: Some(2), ..leecher(901) };
    let met = tracker.announce(&swarm, &asks("203.0.113.5:1")).await.expect("it is registered");
    assert_eq!(met.addresses()[0], address("203.0.113.9:1"));
    let met = tracker.announce(&swarm, &asks("[2001:db8::5]:1")).await.expect("it is registered");
    assert_eq!(met.addresses().len(), 2);
    assert_eq!(met.peers6.len(), 36, "its own family before the other");
}

#[actix_rt::test]
async fn a_peer_that_stops_is_forgotten_everywhere_and_nobody_else_can_stop_it() {
    let (swarm, tracker) = opened(8, TestConfig::default()).await;
    tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    let forged = Announce { event: AnnounceEvent::Stopped, peer_id: id(66), ..seed(1) };
    let heard = tracker.announce(&swarm, &forged).await.expect("it is answered");
    assert_eq!(heard.scrape, scraped(1, 0, 0));
    let stopped = Announce { event: AnnounceEvent::Stopped, ..seed(1) };
    let heard = tracker.announce(&swarm, &stopped).await.expect("it is answered");
    assert_eq!((heard.scrape, heard.interval), (scraped(0, 0, 0), Duration::ZERO));
    assert_eq!(announce_at(&swarm, 2, &leecher(2)).addresses(), []);
}

#[actix_rt::test]
async fn a_peer_that_falls_silent_is_forgotten_after_two_intervals() {
    let (swarm, tracker) = opened(9, TestConfig::default()).await;
    tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    swarm.advance(61 * MINUTE);
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(1, 0, 0)));
    swarm.advance(MINUTE);
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(0, 0, 0)));
}

#[actix_rt::test]
async fn a_download_counts_once_on_every_replica() {
    let (swarm, tracker) = opened(10, TestConfig::default()).await;
    tracker.announce(&swarm, &leecher(1)).await.expect("it is registered");
    for _ in 0..3 {
        let done = Announce { event: AnnounceEvent::Completed, ..seed(1) };
        tracker.announce(&swarm, &done).await.expect("it is registered");
    }
    tracker.announce(&swarm, &seed(2)).await.expect("it is registered");
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(2, 0, 1)), "who was a seed from the start has not");
    assert_eq!(scrape(&swarm.get_at(2, "torrent").expect("it answers")), Some(scraped(2, 0, 1)));
}

#[actix_rt::test]
async fn ids_come_in_the_order_of_the_addresses() {
    let (swarm, tracker) = opened(11, TestConfig::default()).await;
    for n in 1..4 {
        tracker.announce(&swarm, &leecher(n)).await.expect("it is registered");
        let long = Announce { address: v6(n), ..leecher(100 + n) };
        tracker.announce(&swarm, &long).await.expect("it is registered");
    }
    let asks = Announce { ids: PeerIds::Wanted, ..leecher(9) };
    let met = tracker.announce(&swarm, &asks).await.expect("it is registered");
    let ids: Vec<_> = met.ids.chunks(20).map(|id| u16::from_be_bytes([id[18], id[19]])).collect();
    let expected: Vec<_> = met
        .addresses()
        .iter()
        .map(|peer| match peer {
            SocketAddr::V4(peer) => u16::from_be_bytes([peer.ip().octets()[1], peer.ip().octets()[2]]),
            SocketAddr::V6(peer) => 100 + peer.ip().segments()[2],
        })
        .collect();
    assert_eq!((ids, met.addresses().len()), (expected, 6));
}

#[actix_rt::test]
async fn a_bad_announce_is_told_what_is_wrong_with_it() {
    let (swarm, tracker) = opened(12, TestConfig::default()).await;
    let Value::Map(good) = leecher(1).payload() else { panic!("a payload is a map") };
    let with = |name: &str, value: Value| Value::map(good.iter().cloned().chain([(name.into(), value)]));
    let cases = [
        ("hello".into(), "an announce is a map"),
        (Value::List(vec![]), "peer_id must have 20 bytes"),
        (with("peer_id", "short".into()), "peer_id must have 20 bytes"),
        (with("address", "1.2.3.4:5".into()), "address must be an IP address and a port, 6 or 18 bytes"),
        (
            with("address", "\u{1}\u{1}\u{1}\u{1}\0\0".into()),
            "address must be an IP address and a port, 6 or 18 bytes",
        ),
        (with("left", Value::Nil), "left must say how many bytes the peer lacks"),
        (with("left", Value::Float(f64::NAN)), "left must say how many bytes the peer lacks"),
        (with("event", "paused".into()), "event must be started, stopped, completed or empty"),
        (with("event", Value::Int(3)), "event must be started, stopped, completed or empty"),
        (
            with("coordinates", Value::List(vec![1.into()])),
            "coordinates must be { x, y, height } in milliseconds",
        ),
        (
            with("coordinates", Value::List(vec![1.into(), f64::INFINITY.into(), 1.into()])),
            "coordinates must be { x, y, height } in milliseconds",
        ),
    ];
    for (payload, problem) in cases {
        let answer = swarm.get_with("torrent", payload.clone());
        assert_eq!(answer, Ok(Value::map([("refused".into(), problem.into())])), "{payload:?}");
    }
    let odd_want = swarm.get_with("torrent", with("numwant", "many".into())).expect("it answers");
    assert!(introduction(&odd_want).is_some(), "a wish that makes no sense is none");
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(0, 1, 0)), "and what was bad left nothing behind");
}

#[actix_rt::test]
async fn a_put_cannot_replace_the_tracker() {
    let (swarm, tracker) = opened(13, TestConfig::default()).await;
    tracker.announce(&swarm, &seed(1)).await.expect("it is registered");
    let refused = |reason: &str| Err(Refusal::Refused(reason.into()));
    assert_eq!(swarm.update("torrent", "x"), refused("peers announce with a get"));
    assert_eq!(swarm.put("torrent", Value::Nil, APP.source), refused("peers announce with a get"));
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(1, 0, 0)));
    for seconds in [0, 59, 86_401] {
        let other = Tracker::of_torrent(&TORRENT);
        let put = other.create(&swarm, Some(Duration::from_secs(seconds))).await;
        assert_eq!(put.map(|_| ()), refused("interval must be 60 to 86400 seconds"));
    }
}

#[actix_rt::test]
async fn the_longest_silent_give_way_when_there_are_too_many() {
    let config = TestConfig { nodes: 1, replicas: 1, ..TestConfig::default() };
    let (swarm, tracker) = opened(14, config).await;
    for n in 0..192 {
        tracker.announce(&swarm, &far(n)).await.expect("it is registered");
        if n == 9 {
            swarm.advance(MINUTE);
        }
    }
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(0, 192, 0)));
    let last = Announce { want: Some(50), ..far(5_000) };
    let met = tracker.announce(&swarm, &last).await.expect("it is registered");
    assert_eq!(met.addresses().len(), 50);
    assert_eq!(met.scrape, scraped(0, 193, 0));
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(0, 180, 0)));
    let last = Announce { coordinate: at(0.0, 5.0), ..last };
    let met = tracker.announce(&swarm, &last).await.expect("it is known");
    assert!((0..10).all(|n| !met.addresses().contains(&v6(n))), "they were silent longest");
}

#[actix_rt::test]
async fn as_many_peers_as_are_kept_take_less_than_10_kilobytes_on_every_replica() {
    let (swarm, tracker) = opened(17, TestConfig::default()).await;
    for n in 0..192 {
        tracker.announce(&swarm, &far(n)).await.expect("it is registered");
    }
    for _ in 0..2 {
        let copies = swarm.inspect(tracker.key()).await.expect("there are copies");
        assert!(copies.iter().all(|copy| copy.state_bytes < 10_240), "{copies:?}");
        swarm.advance(10 * MINUTE);
    }
}

#[actix_rt::test]
async fn what_no_replica_would_say_is_ignored() {
    let (swarm, tracker) = opened(16, TestConfig::default()).await;
    let odd =
        [("x".into(), "y".into()), (Value::Int(1), Value::Int(2)), (Value::str(compact(v4(1))), "y".into())];
    let payload = Value::map([("peers".into(), Value::map(odd))]);
    assert_eq!(swarm.get_with("torrent", payload), Ok(Value::Nil));
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(0, 0, 0)));
}

#[actix_rt::test]
async fn a_replica_that_hears_of_very_many_peers_at_once_keeps_within_its_budgets() {
    let config = TestConfig { nodes: 1, replicas: 1, ..TestConfig::default() };
    let (swarm, tracker) = opened(15, config).await;
    let batch = |from: u16| {
        let peers = (from..from + 1_000).map(|n| (Value::str(compact(v6(n))), Value::str([1; 29])));
        Value::map([("peers".into(), Value::map(peers))])
    };
    assert_eq!(swarm.get_with("torrent", batch(0)), Ok(Value::Nil));
    assert_eq!(swarm.get_with("torrent", batch(1_000)), Ok(Value::Nil));
    assert_eq!(tracker.scrape(&swarm).await, Ok(scraped(180, 0, 0)));
}
