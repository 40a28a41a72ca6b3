//! The tracker as a BitTorrent client sees it, over the tracker objects of a swarm in memory.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use actix_web::{
    body::to_bytes,
    test::{TestRequest, call_service, init_service},
};
use bt_bencode::Value;
use comet_routing::Key;
use comet_runtime::{
    dht::{
        Delete, DeleteReport, Get, GetReport, Inspection, LogProof, LookupReport, Put, PutReport, ReplicaLog,
    },
    testing::TestSwarm,
};

use super::*;
use crate::http;

/// A swarm in memory, and what happens around a request to it.
#[derive(Clone)]
struct Fake {
    swarm: Rc<TestSwarm>,
    /// True if another node is to create the same object just before, and to announce a peer.
    rival: Rc<Cell<bool>>,
    /// What every request is answered with, if set.
    refusal: Rc<RefCell<Option<Refusal>>>,
    counters: Arc<TrackerCounters>,
    newcomers: Rc<RefCell<Newcomers>>,
}

impl Fake {
    fn seeded(seed: u64) -> Self {
        Self {
            swarm: Rc::new(TestSwarm::seeded(seed)),
            rival: Rc::default(),
            refusal: Rc::default(),
            counters: Arc::default(),
            newcomers: Rc::new(RefCell::new(Newcomers::new())),
        }
    }

    fn ready(&self) -> Result<(), Refusal> {
        self.refusal.borrow().clone().map_or(Ok(()), Err)
    }

    /// The status of the answer and what it says.
    async fn ask(&self, source: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let home = IpAddr::from([192, 168, 1, 10]);
        let served = Served {
            dht: self.clone(),
            home,
            counters: self.counters.clone(),
            newcomers: self.newcomers.clone(),
        };
        let app = init_service(App::new().configure(|service| configure(service, served))).await;
        let source = SocketAddr::new(source.parse().expect("an address"), 50_000);
        let mut request = TestRequest::get().uri(path).peer_addr(source);
        for header in headers {
            request = request.insert_header(*header);
        }
        let response = call_service(&app, request.to_request()).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body()).await.expect("a body in memory can be read");
        (status, bt_bencode::from_slice(&body).expect("the answer is bencoded"))
    }

    async fn announce(&self, source: &str, peer: u8, more: &str) -> Value {
        let path = format!("/announce?info_hash={TORRENT}&peer_id={}&port=6881{more}", id(peer));
        let (status, answer) = self.ask(source, &path, &[]).await;
        assert_eq!(status, 200, "{answer:?}");
        answer
    }

    /// Announces, answered and failed, and scrapes.
    fn counted(&self) -> [f64; 3] {
        self.counters.to_metrics().map(|metric| metric.series[0].value)
    }
}

impl Dht for Fake {
    async fn put(&self, put: Put) -> Result<PutReport, Refusal> {
        self.ready()?;
        if self.rival.take() {
            Dht::put(&*self.swarm, put.clone()).await.expect("the rival is first");
            let peer = Announce::new(AnnounceEvent::Started, [b'r'; 20], ([198, 51, 100, 99], 1).into(), 0);
            Tracker::at(put.key).announce(&*self.swarm, &peer).await.expect("its peer is registered");
        }
        Dht::put(&*self.swarm, put).await
    }

    async fn get(&self, get: Get) -> Result<GetReport, Refusal> {
        self.ready()?;
        Dht::get(&*self.swarm, get).await
    }

    async fn delete(&self, delete: Delete) -> Result<DeleteReport, Refusal> {
        Dht::delete(&*self.swarm, delete).await
    }

    async fn lookup(&self, key: Key) -> Result<LookupReport, Refusal> {
        Dht::lookup(&*self.swarm, key).await
    }

    async fn inspect(&self, key: Key) -> Result<Vec<Inspection>, Refusal> {
        Dht::inspect(&*self.swarm, key).await
    }

    async fn logs(&self, key: Key, proof: Option<LogProof>) -> Result<Vec<ReplicaLog>, Refusal> {
        Dht::logs(&*self.swarm, key, proof).await
    }
}

/// An info hash of 20 bytes 0xfe, as a URL has it.
const TORRENT: &str = "%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe%fe";

fn id(peer: u8) -> String {
    format!("-CM0100-{peer:012}")
}

fn bytes<'a>(answer: &'a Value, name: &str) -> Option<&'a [u8]> {
    answer.get(name).and_then(Value::as_byte_str).map(|bytes| &bytes[..])
}

fn failure(answer: &Value) -> &str {
    answer.get("failure reason").and_then(Value::as_str).unwrap_or_else(|| panic!("no failure: {answer:?}"))
}

fn count(answer: &Value, name: &str) -> u64 {
    answer.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {name}: {answer:?}"))
}

#[actix_web::test]
async fn the_first_announce_creates_the_tracker_and_the_second_peer_meets_the_first() {
    let fake = Fake::seeded(1);
    let first = fake.announce("198.51.100.1", 1, "&left=0&event=started").await;
    assert_eq!((count(&first, "complete"), bytes(&first, "peers")), (1, Some(&b""[..])));
    let second = fake.announce("198.51.100.2", 2, "&left=9&event=started").await;
    assert_eq!((count(&second, "complete"), count(&second, "incomplete")), (1, 1));
    assert_eq!(bytes(&second, "peers"), Some(&[198, 51, 100, 1, 0x1a, 0xe1][..]));
    assert_eq!(fake.counted(), [2.0, 0.0, 0.0]);
}

#[actix_web::test]
async fn a_tracker_that_another_node_created_at_the_same_moment_is_kept_with_its_peers() {
    let fake = Fake::seeded(2);
    fake.rival.set(true);
    let met = fake.announce("198.51.100.1", 1, "&left=9&event=started").await;
    assert_eq!(bytes(&met, "peers"), Some(&[198, 51, 100, 99, 0, 1][..]), "{met:?}");
    assert!(!fake.rival.get(), "the rival was there");
}

#[actix_web::test]
async fn a_peer_of_both_families_is_introduced_with_both_addresses() {
    let fake = Fake::seeded(3);
    fake.announce("127.0.0.1", 1, "&left=0&ip=203.0.113.5&ipv6=2001:db8::5").await;
    let met = fake.announce("198.51.100.2", 2, "&left=9").await;
    assert_eq!(bytes(&met, "peers"), Some(&[203, 0, 113, 5, 0x1a, 0xe1][..]));
    let long = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x1a, 0xe1];
    assert_eq!(bytes(&met, "peers6"), Some(&long[..]));
}

#[actix_web::test]
async fn a_client_that_wants_a_list_gets_one_with_ids_unless_it_does_not_want_them() {
    let fake = Fake::seeded(4);
    fake.announce("198.51.100.1", 1, "&left=0").await;
    let listed = fake.announce("198.51.100.2", 2, "&left=9&compact=0").await;
    let peer = &listed["peers"][0];
    assert_eq!(peer["ip"].as_str(), Some("198.51.100.1"));
    assert_eq!((count(peer, "port"), bytes(peer, "peer id")), (6881, Some(id(1).as_bytes())));
    let without = fake.announce("198.51.100.2", 2, "&left=9&compact=0&no_peer_id=1").await;
    assert_eq!(without["peers"][0].get("peer id"), None);
}

#[actix_web::test]
async fn who_stops_is_introduced_no_more_and_a_stop_creates_nothing() {
    let fake = Fake::seeded(5);
    let nothing = fake.announce("198.51.100.1", 1, "&left=0&event=stopped").await;
    assert_eq!((count(&nothing, "complete"), count(&nothing, "interval")), (0, 60));
    let torrent = Tracker::of_torrent(&[0xfe; 20]).key();
    assert_eq!(fake.inspect(torrent).await, Err(Refusal::NotFound));
    fake.announce("198.51.100.1", 1, "&left=0&event=started").await;
    fake.announce("198.51.100.1", 1, "&left=0&event=stopped").await;
    let met = fake.announce("198.51.100.2", 2, "&left=9").await;
    assert_eq!((count(&met, "complete"), bytes(&met, "peers")), (0, Some(&b""[..])));
}

#[actix_web::test]
async fn a_peer_that_is_silent_for_two_intervals_is_forgotten() {
    let fake = Fake::seeded(6);
    fake.announce("198.51.100.1", 1, "&left=0").await;
    fake.swarm.advance(Duration::from_secs(2 * 1_800));
    assert_eq!(count(&fake.announce("198.51.100.2", 2, "&left=9").await, "complete"), 1, "not yet");
    fake.swarm.advance(Duration::from_secs(120));
    assert_eq!(count(&fake.announce("198.51.100.2", 2, "&left=9").await, "complete"), 0);
}

#[actix_web::test]
async fn a_scrape_counts_the_torrents_that_are_known() {
    let fake = Fake::seeded(7);
    fake.announce("198.51.100.1", 1, "&left=0").await;
    let path = format!("/scrape?info_hash={TORRENT}&info_hash=00000000000000000000");
    let (status, answer) = fake.ask("198.51.100.1", &path, &[]).await;
    let Some(Value::Dict(files)) = answer.get("files") else { panic!("{answer:?}") };
    assert_eq!((status, files.len()), (200, 1));
    let counts = files.get(&[0xfe; 20][..]).expect("it is under its raw hash");
    assert_eq!((count(counts, "complete"), count(counts, "incomplete")), (1, 0));
    let (status, answer) = fake.ask("198.51.100.1", "/scrape", &[]).await;
    assert_eq!((status, failure(&answer)), (200, "info_hash is missing"));
    assert_eq!(fake.counted(), [1.0, 1.0, 1.0]);
}

#[actix_web::test]
async fn failures_are_told_as_clients_expect_them() {
    let fake = Fake::seeded(8);
    let bad = fake.announce("198.51.100.1", 1, "").await;
    assert_eq!(failure(&bad), "left is missing");
    fake.refusal.replace(Some(Refusal::Overloaded("the node".into())));
    let busy = fake.announce("198.51.100.1", 1, "&left=0").await;
    assert_eq!(failure(&busy), "the node has too much to do; try again");
    fake.refusal.replace(None);
    let squatted = format!("torrent {}", "fe".repeat(20));
    fake.swarm.update(&squatted, "mine").expect("a plain value is stored");
    let foreign = fake.announce("198.51.100.1", 1, "&left=0").await;
    assert_eq!(failure(&foreign), "what is stored for this torrent is not a tracker");
    assert_eq!(fake.counted(), [0.0, 0.0, 3.0]);
}

#[actix_web::test]
async fn a_web_page_cannot_announce_for_its_visitor() {
    let fake = Fake::seeded(9);
    let path = format!("/announce?info_hash={TORRENT}&peer_id={}&port=1&left=0&ip=203.0.113.5", id(1));
    for header in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("referer", "x")] {
        let (status, answer) = fake.ask("127.0.0.1", &path, &[header]).await;
        assert_eq!((status, failure(&answer)), (403, "this tracker does not answer browsers"));
    }
    let (status, control) = fake.ask("127.0.0.1", &path, &[("user-agent", "aria2/1.36.0")]).await;
    assert_eq!((status, count(&control, "complete")), (200, 1));
}

#[actix_web::test]
async fn a_stranger_creates_so_many_trackers_and_no_more_while_known_torrents_are_answered() {
    tokio::time::pause();
    let fake = Fake::seeded(10);
    let created = async |source: &str, from: u8, to: u8| {
        let mut last = None;
        let mut answered = 0;
        for n in from..to {
            let hash = format!("%{n:02x}").repeat(20);
            let path = format!("/announce?info_hash={hash}&peer_id={}&port=6881&left=9", id(1));
            let (_, answer) = fake.ask(source, &path, &[]).await;
            match answer.get("failure reason").and_then(Value::as_str) {
                Some(reason) => last = Some(reason.to_owned()),
                None => answered += 1,
            }
        }
        (answered, last)
    };
    let (answered, reason) = created("198.51.100.1", 0, 40).await;
    let told = "too many new torrents from your network; announce this one again in 60 s";
    assert_eq!((answered, reason.as_deref()), (32, Some(told)));
    let unborn = Tracker::of_torrent(&[39; 20]).key();
    assert_eq!(fake.inspect(unborn).await, Err(Refusal::NotFound), "nothing was stored for it");
    assert_eq!(created("198.51.100.2", 0, 32).await, (32, None), "known torrents cost nothing");
    assert_eq!(created("127.0.0.1", 40, 120).await, (80, None), "whom nobody counts creates them all");
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(created("198.51.100.1", 32, 40).await.0, 2);
}

#[actix_web::test]
async fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let taken =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr().map(|at| (socket, at)));
    let (_socket, addr) = taken.expect("loopback has a free port");
    let error =
        serve(&TrackerConfig::default(), addr, addr.ip(), http::fake::Fake::default(), Arc::default()).err();
    let expected = format!("the tracker address {addr} is in use; choose another with --tracker");
    assert_eq!(error.map(|error| error.to_string()), Some(expected));
}
