//! The tracker with a BitTorrent client from the outside world: aria2.
//!
//! Its other ways of finding peers are off, so what it finds, the swarm has told it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use bt_bencode::{ByteString, Value};
use comet_tests::process::{NodeProcess, await_each_other};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

const PIECE_BYTES: usize = 32 * 1024;

/// When a client that has not met the other gives up, in seconds.
const DEADLINE_SECONDS: &str = "120";

#[test]
fn a_seeder_and_a_leecher_find_each_other_through_two_nodes_and_the_file_arrives_intact() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let nodes = swarm(top.path(), 2);
    // Not a whole number of pieces, and no two of them equal.
    let content: Vec<u8> =
        (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).skip(5).collect();
    let (seeder, leecher) = (top.path().join("seeder"), top.path().join("leecher"));
    for home in [&seeder, &leecher] {
        fs::create_dir(home).expect("the temporary directory takes another");
    }
    fs::write(seeder.join("file"), &content).expect("the file can be written");
    fs::write(seeder.join("torrent"), torrent(&content, &announce_url(&nodes[0])))
        .expect("so can its torrent");
    fs::write(leecher.join("torrent"), torrent(&content, &announce_url(&nodes[1])))
        .expect("so can its torrent");

    let seeding = Client::start(&seeder, &["--check-integrity=true", "--seed-ratio=0"]);
    let leeching = Client::start(&leecher, &["--seed-time=0"]);
    leeching.finish();

    let arrived = fs::read(leecher.join("file")).unwrap_or_default();
    let printed = fs::read_to_string(leecher.join("printed")).unwrap_or_default();
    assert!(arrived == content, "{} of {} bytes arrived: {printed}", arrived.len(), content.len());
    drop(seeding);
    for node in &nodes {
        let mut answer = ureq::get(format!("{}/metrics", node.url())).call().expect("the node answers");
        let metrics = answer.body_mut().read_to_string().expect("metrics are text");
        let announces = metrics.lines().find_map(|line| line.strip_prefix("comet_tracker_announces_total "));
        assert!(announces.is_some_and(|count| count != "0"), "each node answered announces: {announces:?}");
        assert!(metrics.contains("comet_tracker_failures_total 0\n"), "and failed at none");
    }
}

/// Nodes that know each other and are trackers.
fn swarm(top: &Path, nodes: usize) -> Vec<NodeProcess> {
    let program = Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"));
    let mut swarm: Vec<NodeProcess> = Vec::new();
    for n in 0..nodes {
        let peers: Vec<SocketAddr> = swarm.iter().map(NodeProcess::listen).collect();
        let data = top.join(format!("node-{n}"));
        swarm.push(NodeProcess::start_with(program, &data, &peers, &["--tracker", "127.0.0.1:0"]));
    }
    await_each_other(&swarm);
    swarm
}

fn announce_url(node: &NodeProcess) -> String {
    node.printed("  tracker ").expect("the node says where its tracker is").to_owned()
}

/// The `.torrent` of a file named `file` (BEP 3).
fn torrent(content: &[u8], announce: &str) -> Vec<u8> {
    let pieces = content.chunks(PIECE_BYTES).map(|piece| digest(&SHA1_FOR_LEGACY_USE_ONLY, piece));
    let pieces: Vec<u8> = pieces.flat_map(|hash| hash.as_ref().to_vec()).collect();
    let info = dictionary([
        ("length", content.len().into()),
        ("name", "file".into()),
        ("piece length", PIECE_BYTES.into()),
        ("pieces", Value::ByteStr(pieces.into())),
    ]);
    bt_bencode::to_vec(&dictionary([("announce", announce.into()), ("info", info)]))
        .expect("it can be bencoded")
}

fn dictionary<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Dict(
        fields.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<ByteString, _>>(),
    )
}

/// An aria2 process. It is killed when dropped.
struct Client(Child);

impl Client {
    /// Starts it on the torrent in its directory.
    fn start(home: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("aria2c");
        command
            .args(["--no-conf", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"])
            .args(["--enable-peer-exchange=false", "--bt-tracker-interval=1", "--listen-port=20000-60000"])
            .args(["--file-allocation=none", "--summary-interval=0", "--no-proxy=127.0.0.1"])
            .arg(format!("--stop={DEADLINE_SECONDS}"))
            .arg(format!("--stop-with-process={}", std::process::id()))
            .args(args)
            .arg("torrent")
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(File::create(home.join("printed")).expect("its directory takes a file"));
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("this test needs aria2c; `apt-get install aria2` installs it: {error}"),
        }
    }

    /// Waits until it ends by itself.
    fn finish(mut self) {
        self.0.wait().expect("it can be waited for");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
