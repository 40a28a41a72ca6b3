//! What a node bears: several times its capacity, and a flood of hostile packets.
//!
//! The node is a process of its own, and everything else comes from this one: honest peers of nine networks, an attacker's peer,
//! and threads that send bare packets. They share the machine's cores with the node, so all aims but memory and recovery are ratios of
//! figures of one run. The node counts loopback like any other network, so that each 127.x.0.0/24 here is one.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    slice,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use comet_node::{
    transport::Greet,
    wire::{Object, Request, decode_answer},
};
use comet_routing::{Contact, Key};
use comet_runtime::{Trail, Value};
use comet_store::Ownership;
use futures_util::{StreamExt as _, future::join_all, stream};
use rand::{Rng, RngExt as _, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokio::time::sleep;

use crate::{peer::Peer, process::NodeProcess, resilience::Figure};

/// The node's configuration: every network is counted, also on this machine, and objects may compute all day.
const CONFIG: &str = r#"
[routing]
private_ranges = "counted"
[transport]
uncounted = "nobody"
[runtime]
cpu_seconds_per_day = 86400
"#;

/// What objects compute: for about a millisecond, and for about five.
const QUICK_LOOPS: u32 = 16_000;
const SLOW_LOOPS: u32 = 80_000;

/// Objects that compute.
const OBJECTS: u8 = 16;

/// Networks from which honest peers ask.
const HONEST_NETWORKS: u8 = 8;

/// Requests under way at once while the capacity is measured.
const UNDER_WAY: usize = 64;

/// How long each phase takes, and the one in which too much is offered: longer than a thread may fail to answer.
const PHASE: Duration = Duration::from_secs(10);
const OVERLOADED: Duration = Duration::from_secs(30);

/// What is offered, in capacities.
const OVERLOAD: f64 = 5.0;

/// How long an honest asker waits, as a client command does unless it is told otherwise, and one in a hurry.
const PATIENCE: Duration = Duration::from_secs(5);
const HURRY: Duration = Duration::from_secs(1);

/// Between two gets whose time is measured: fewer than a network may send.
const PACE: Duration = Duration::from_millis(2);

/// How much longer than unloaded the slowest hundredth of gets may take.
const SLOWDOWN_MAX: f64 = 3.0;

/// How soon that holds again after a load or an attack, and for how long it is looked at.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(250);

/// Handshakes whose first packet is recorded.
const HANDSHAKES: usize = 64;

/// Hostile packets per second: rubbish, first packets of handshakes, and puts with bad signatures.
const RUBBISH_PER_SECOND: u32 = 12_000;
const HANDSHAKES_PER_SECOND: u32 = 4_000;
const BAD_PUTS_PER_SECOND: u32 = 4_000;
const HOSTILE_PER_SECOND: u32 = RUBBISH_PER_SECOND + HANDSHAKES_PER_SECOND + BAD_PUTS_PER_SECOND;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Several times what the node can do.
    Overload,
    /// A flood of hostile packets.
    Hostile,
}

impl Section {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 2] = [Self::Overload, Self::Hostile];

    /// As it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Hostile => "hostile",
        }
    }
}

/// A node under load, and who asks it.
struct Stage {
    node: NodeProcess,
    at: Contact,
    crowd: Vec<Peer>,
    /// Whose gets are timed.
    witness: Peer,
    value: Bytes,
    /// The p99 of gets while nothing else happens.
    calm: Duration,
}

/// Measures these sections with a node of `program`.
pub async fn measure(program: &Path, sections: &[Section]) -> Vec<Figure> {
    let top = tempfile::tempdir().expect("a temporary directory");
    let stage = Stage::set(program, top.path()).await;
    let mut figures =
        vec![figure("p99 of a get, unloaded", "-", format!("{:.2?}", stage.calm), stage.calm < PATIENCE)];
    for section in sections {
        figures.extend(match section {
            Section::Overload => stage.overload().await,
            Section::Hostile => stage.hostile().await,
        });
    }
    figures.extend(stage.end());
    figures
}

impl Stage {
    async fn set(program: &Path, top: &Path) -> Self {
        let node = start(program, top);
        let report = node.report().expect("the node answers");
        let at = Contact::new(report.id, node.listen());
        let crowd = (1..=HONEST_NETWORKS).map(|n| Peer::start(Ipv4Addr::new(127, n, 0, 1))).collect();
        let witness = Peer::start(Ipv4Addr::new(127, 100, 0, 1));
        let value = get("value");
        gets(&witness, at, &value, Duration::from_secs(1)).await;
        let calm = p99(gets(&witness, at, &value, PHASE).await);
        Self { node, at, crowd, witness, value, calm }
    }

    async fn overload(&self) -> Vec<Figure> {
        let (crowd, at) = (&self.crowd, self.at);
        let [quick, slow] = ["quick", "slow"]
            .map(|name| (0..OBJECTS).map(|n| get(&format!("{name}-{n}"))).collect::<Vec<_>>());
        let plain = capacity(crowd, at, slice::from_ref(&self.value)).await;
        let peak = capacity(crowd, at, &quick).await;
        let (offered, goodput) = overload(crowd, at, &quick, peak * OVERLOAD, PATIENCE).await;
        let back_after = self.recovery().await;
        let slow_peak = capacity(crowd, at, &slow).await;
        let (_, in_time) = overload(crowd, at, &slow, slow_peak * OVERLOAD, HURRY).await;
        let (offered, kept, hurried) = (offered / peak, goodput / peak, in_time / slow_peak);
        vec![
            figure("gets of a value, 8 networks", "-", format!("{plain:.0}/s"), true),
            figure("gets of objects that compute: capacity", "-", format!("{peak:.0}/s"), true),
            figure(
                "offered load",
                "5 capacities",
                format!("{offered:.1} capacities"),
                offered >= OVERLOAD * 0.95,
            ),
            figure("goodput under it", ">= 80 % of capacity", format!("{:.0} %", kept * 100.0), kept >= 0.8),
            recovered("p99 of a get as it should be, after the load ends", back_after),
            figure("gets of slower objects: capacity", "-", format!("{slow_peak:.0}/s"), true),
            figure(
                "goodput at 5 times that, asked in a hurry",
                ">= 80 % of capacity",
                format!("{:.0} %", hurried * 100.0),
                hurried >= 0.8,
            ),
        ]
    }

    async fn hostile(&self) -> Vec<Figure> {
        let (sent, attacked) = under_attack(&self.witness, self.at, &self.value).await;
        let back_after = self.recovery().await;
        let slowdown = attacked.as_secs_f64() / self.calm.as_secs_f64();
        vec![
            figure(
                "hostile packets",
                "20000/s",
                format!("{sent:.0}/s"),
                sent >= f64::from(HOSTILE_PER_SECOND) * 0.95,
            ),
            figure(
                "p99 of a get under them",
                "<= 3 times unloaded",
                format!("{attacked:.2?}, {slowdown:.1} times"),
                slowdown <= SLOWDOWN_MAX,
            ),
            recovered("p99 of a get as it should be, after they end", back_after),
        ]
    }

    /// How long it takes until gets are as quick as they should be under attack.
    async fn recovery(&self) -> Duration {
        let began = Instant::now();
        while began.elapsed() < RECOVERY_MAX * 6 {
            let look = Instant::now();
            let times = gets(&self.witness, self.at, &self.value, LOOK).await;
            if p99(times) <= self.calm.mul_f64(SLOWDOWN_MAX) {
                return look - began;
            }
        }
        began.elapsed()
    }

    fn end(self) -> [Figure; 2] {
        let resident_mb = self.node.resident_bytes_max() / (1 << 20);
        let survived = self.node.report().is_some_and(|later| later.id == self.at.id);
        [
            figure("resident memory, at most", "<= 512 MB", format!("{resident_mb} MB"), resident_mb <= 512),
            figure("the node lives", "yes", if survived { "yes" } else { "no" }.into(), survived),
        ]
    }
}

fn figure(what: &str, aim: &str, measured: String, reached: bool) -> Figure {
    Figure { what: what.into(), aim: aim.into(), measured, reached }
}

fn recovered(what: &str, time: Duration) -> Figure {
    figure(what, "<= 10 s", format!("{:.1} s", time.as_secs_f64()), time <= RECOVERY_MAX)
}

/// A node that counts loopback like any other network, with a value and with objects that compute.
fn start(program: &Path, top: &Path) -> NodeProcess {
    let config = written(top, "comet.toml", CONFIG);
    let node = NodeProcess::start_with(program, &top.join("node"), &[], &["--config", &config]);
    let put = |args: &[&str]| {
        let put = node.command(&[&["put", "--replicas", "1"], args].concat());
        assert_eq!(put.code, Some(0), "{put:?}");
    };
    put(&["value", "hello"]);
    for (name, loops) in [("quick", QUICK_LOOPS), ("slow", SLOW_LOOPS)] {
        let code = written(top, &format!("{name}.lua"), &handlers(loops));
        (0..OBJECTS).for_each(|n| put(&[&format!("{name}-{n}"), "0", "--code", &code]));
    }
    node
}

/// The handlers of an object that computes.
fn handlers(loops: u32) -> String {
    format!(
        "function aso:onGet()
           local sum = 0
           for i = 1, {loops} do sum = (sum * 31 + i) % 65521 end
           return sum
         end"
    )
}

/// The path of a new file.
fn written(top: &Path, name: &str, text: &str) -> String {
    let path = top.join(name);
    fs::write(&path, text).expect("the directory takes files");
    path.display().to_string()
}

fn get(name: &str) -> Bytes {
    Request::Get { key: Key::of(name), payload: None, callback: None, trail: Trail::FRESH.into() }.encode()
}

/// True if the node did what was asked.
async fn is_served(peer: &Peer, node: Contact, request: Bytes, patience: Duration) -> bool {
    let frame = peer.ask(node, request, patience).await;
    frame.is_some_and(|frame| matches!(decode_answer(&frame), Ok(Ok(_))))
}

/// How long each of the gets takes that are sent one after the other for this long; one that fails takes all of its
/// patience.
async fn gets(peer: &Peer, node: Contact, request: &Bytes, period: Duration) -> Vec<Duration> {
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < period {
        let began = Instant::now();
        let served = is_served(peer, node, request.clone(), PATIENCE).await;
        times.push(if served { began.elapsed() } else { PATIENCE });
        sleep(PACE).await;
    }
    times
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() * 99 / 100).copied().unwrap_or(PATIENCE)
}

/// Requests per second that are served when each asker asks again as soon as it was answered.
async fn capacity(crowd: &[Peer], node: Contact, requests: &[Bytes]) -> f64 {
    let (began, served) = (Instant::now(), AtomicU64::new(0));
    let askers = crowd.iter().cycle().zip(requests.iter().cycle()).take(UNDER_WAY).map(|(peer, request)| {
        let served = &served;
        async move {
            while began.elapsed() < PHASE {
                let good = is_served(peer, node, request.clone(), PATIENCE).await;
                served.fetch_add(u64::from(good), Ordering::Relaxed);
            }
        }
    });
    join_all(askers).await;
    served.into_inner() as f64 / began.elapsed().as_secs_f64()
}

/// What was sent and served per second, when `rate` per second are due whether others are answered or not, and nobody
/// waits for longer than `patience`.
///
/// Seconds are counted up to the last answer, which comes after the last request.
async fn overload(
    crowd: &[Peer],
    node: Contact,
    requests: &[Bytes],
    rate: f64,
    patience: Duration,
) -> (f64, f64) {
    let (began, served) = (Instant::now(), AtomicU64::new(0));
    let due =
        stream::unfold(crowd.iter().cycle().zip(requests.iter().cycle()).enumerate(), |mut rest| async {
            let (n, next) = rest.next()?;
            while n as f64 >= began.elapsed().as_secs_f64() * rate {
                sleep(Duration::from_millis(1)).await;
            }
            (began.elapsed() < OVERLOADED).then_some((next, rest))
        });
    let mut offered = 0_u64;
    let ask = async |(peer, request): (&Peer, &Bytes)| {
        let good = is_served(peer, node, request.clone(), patience).await;
        served.fetch_add(u64::from(good), Ordering::Relaxed);
    };
    due.inspect(|_| offered += 1).for_each_concurrent(None, ask).await;
    let seconds = began.elapsed().as_secs_f64();
    (offered as f64 / seconds, served.into_inner() as f64 / seconds)
}

/// Hostile packets per second, and how long gets take meanwhile.
///
/// Every attacker has a thread of its own, so that the asker's is not held up by what it costs to attack.
async fn under_attack(witness: &Peer, node: Contact, request: &Bytes) -> (f64, Duration) {
    let villain = Peer::start(Ipv4Addr::new(127, 66, 0, 1));
    let handshakes = join_all((0..HANDSHAKES).map(|_| first_packet(&villain))).await;
    drop(villain);
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let rubbish: Vec<Vec<u8>> = (0..256).map(|_| rubbish(&mut rng)).collect();
    let going = Arc::new(AtomicBool::new(true));
    let began = Instant::now();
    let packets = [(rubbish, RUBBISH_PER_SECOND), (handshakes, HANDSHAKES_PER_SECOND)]
        .map(|(packets, rate)| send(packets, rate, node.addr, going.clone()));
    let puts = {
        let going = going.clone();
        thread::spawn(move || actix_rt::System::new().block_on(flood(node, going)))
    };
    let times = gets(witness, node, request, PHASE).await;
    going.store(false, Ordering::Relaxed);
    let join = |thread: JoinHandle<u64>| thread.join().expect("a sender only sends");
    let sent: u64 = packets.into_iter().chain([puts]).map(join).sum();
    (sent as f64 / began.elapsed().as_secs_f64(), p99(times))
}

/// Sends puts with a forged signature over a connection that was made properly, until it is told to stop; how many.
async fn flood(node: Contact, going: Arc<AtomicBool>) -> u64 {
    let villain = Peer::start(Ipv4Addr::new(127, 66, 0, 1));
    let (began, bad, mut sent) = (Instant::now(), forged(), 0_u64);
    while going.load(Ordering::Relaxed) {
        while (sent as f64) < began.elapsed().as_secs_f64() * f64::from(BAD_PUTS_PER_SECOND) {
            villain.tell(node, bad.clone(), PATIENCE).await;
            sent += 1;
        }
        sleep(Duration::from_millis(1)).await;
    }
    sent
}

/// Sends these packets again and again, from ports of 64 networks, until it is told to stop; how many.
fn send(packets: Vec<Vec<u8>>, per_second: u32, to: SocketAddr, going: Arc<AtomicBool>) -> JoinHandle<u64> {
    let bind = |n| UdpSocket::bind((Ipv4Addr::new(127, 70, n, 1), 0)).expect("the loopback has a free port");
    let sockets: Vec<UdpSocket> = (1..=64).map(bind).collect();
    thread::spawn(move || {
        let (began, mut sent) = (Instant::now(), 0_u64);
        for (packet, socket) in packets.iter().cycle().zip(sockets.iter().cycle()) {
            while sent as f64 >= began.elapsed().as_secs_f64() * f64::from(per_second) {
                thread::park_timeout(Duration::from_millis(1));
            }
            if !going.load(Ordering::Relaxed) {
                break;
            }
            // A packet that the system does not take is one less for the node; the rate shows it.
            sent += u64::from(socket.send_to(packet, to).is_ok());
        }
        sent
    })
}

fn rubbish(rng: &mut impl Rng) -> Vec<u8> {
    let length = rng.random_range(1..1_400);
    (0..length).map(|_| rng.random()).collect()
}

/// The first packet of a handshake that nobody will go on with, as a peer sent it to somebody who does not answer.
async fn first_packet(peer: &Peer) -> Vec<u8> {
    let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    let addr = deaf.local_addr().expect("it is bound");
    let greeting = peer.transport().send(Greet { addr, deadline: Duration::from_millis(200) }).await;
    assert!(matches!(greeting, Ok(Err(_))), "nobody answered: {greeting:?}");
    let mut packet = [0; 2_048];
    let length = deaf.recv(&mut packet).expect("the peer sent something");
    packet.get(..length).expect("it was received whole").to_vec()
}

/// A put in the name of an owner who did not sign it.
fn forged() -> Bytes {
    // The public key of RFC 8032, section 7.1, test 1.
    let public_key: [u8; 32] = *b"\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a";
    let object = Object {
        key: Key::owned(&public_key, "load"),
        sequence: 1,
        ownership: Some(Ownership { public_key, salt: Key::salt("load"), signature: [0; 64] }.into()),
        ttl_seconds: 60,
        replicas: 8,
        code: None,
        publication: None,
        data: Value::Int(1).encode(),
    };
    Request::Put { object, trail: Trail::FRESH.into() }.encode()
}
