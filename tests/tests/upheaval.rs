//! Real processes that are killed and started again in random order while clients write.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use comet_tests::process::{NodeProcess, await_each_other};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha12Rng;

const NODES: usize = 8;
/// Nodes that may be down at the same time: a majority of eight replicas still lives.
const DOWN_MAX: usize = 3;
/// Kills and restarts.
const UPHEAVALS: usize = 30;
/// Puts that are acknowledged between two of them.
const PUTS_BETWEEN: usize = 10;
const CLIENTS: u64 = 3;
/// When the swarm is taken for dead.
const GIVE_UP: Duration = Duration::from_secs(60);

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"))
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(10))).build().into()
}

/// True if the node acknowledged it.
fn put(agent: &ureq::Agent, node: &str, name: &str) -> bool {
    let request = agent.put(format!("{node}/v1/objects/{name}")).content_type("application/octet-stream");
    request.send(value_of(name)).is_ok_and(|answer| answer.status().as_u16() == 200)
}

/// What a node answers to a get: its status, and the bytes.
fn get(agent: &ureq::Agent, node: &str, path: &str) -> Option<(u16, Vec<u8>)> {
    let request = agent.get(format!("{node}{path}")).header("Accept", "application/octet-stream");
    let mut answer = request.call().ok()?;
    Some((answer.status().as_u16(), answer.body_mut().read_to_vec().ok()?))
}

fn value_of(name: &str) -> Vec<u8> {
    name.repeat(3).into_bytes()
}

/// Puts through whoever is up until told to stop, and tells what was acknowledged.
fn write(client: u64, up: &Mutex<Vec<String>>, stop: &AtomicBool, acknowledged: &mpsc::Sender<String>) {
    let (agent, mut dice) = (agent(), ChaCha12Rng::seed_from_u64(client));
    for number in 0.. {
        if stop.load(Relaxed) {
            return;
        }
        let node = up.lock().expect("not poisoned").choose(&mut dice).cloned();
        let name = format!("{client}-{number}");
        if node.is_some_and(|node| put(&agent, &node, &name)) && acknowledged.send(name).is_err() {
            return;
        }
    }
}

/// Kills or starts nodes in random order, each time after some puts, and gives what was acknowledged.
fn upset(swarm: &mut [NodeProcess], up: &Mutex<Vec<String>>, told: &mpsc::Receiver<String>) -> Vec<String> {
    let mut dice = ChaCha12Rng::seed_from_u64(8);
    let (mut acknowledged, mut down) = (Vec::new(), Vec::<usize>::new());
    for upheaval in 0..UPHEAVALS {
        for _ in 0..PUTS_BETWEEN {
            let name = told.recv_timeout(GIVE_UP);
            acknowledged.push(name.unwrap_or_else(|_| panic!("no put succeeds, with {down:?} down")));
        }
        if down.len() >= DOWN_MAX || (upheaval % 2 == 1 && !down.is_empty()) {
            start(&mut swarm[down.remove(dice.random_range(0..down.len()))], up);
        } else {
            let running: Vec<_> = (0..NODES).filter(|n| !down.contains(n)).collect();
            let n = *running.choose(&mut dice).expect("most nodes run");
            up.lock().expect("not poisoned").retain(|url| *url != swarm[n].url());
            swarm[n].kill();
            down.push(n);
        }
    }
    down.into_iter().for_each(|n| start(&mut swarm[n], up));
    acknowledged
}

/// Starts a node again; clients go on meanwhile.
fn start(node: &mut NodeProcess, up: &Mutex<Vec<String>>) {
    node.restart();
    up.lock().expect("not poisoned").push(node.url());
}

#[test]
fn what_was_acknowledged_while_nodes_were_killed_and_started_is_there() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let mut swarm: Vec<NodeProcess> = Vec::new();
    for n in 0..NODES {
        let peers: Vec<_> = swarm.iter().take(3).map(NodeProcess::listen).collect();
        swarm.push(NodeProcess::start(program(), &top.path().join(format!("node-{n}")), &peers));
    }
    await_each_other(&swarm);

    let up = Mutex::new(swarm.iter().map(NodeProcess::url).collect::<Vec<_>>());
    let (stop, (tell, told)) = (AtomicBool::new(false), mpsc::channel());
    let mut acknowledged = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (up, stop, tell) = (&up, &stop, tell.clone());
            scope.spawn(move || write(client, up, stop, &tell));
        }
        let acknowledged = upset(&mut swarm, &up, &told);
        stop.store(true, Relaxed);
        acknowledged
    });
    acknowledged.extend(told.try_iter());
    await_each_other(&swarm);

    let agent = agent();
    for (n, name) in acknowledged.iter().enumerate() {
        let node = &swarm[n % NODES];
        let read = get(&agent, &node.url(), &format!("/v1/objects/{name}"));
        assert_eq!(read, Some((200, value_of(name))), "{name} through {}", node.url());
    }
    assert!(acknowledged.len() >= UPHEAVALS * PUTS_BETWEEN);
}
