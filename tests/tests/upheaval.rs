//! Real processes that are killed and started again in random order while clients write.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use comet_tests::process::NodeProcess;
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

/// Asks a node until it knows all others.
fn await_neighbours(node: &NodeProcess) {
    let (agent, began) = (agent(), Instant::now());
    let knows_all = |answer: Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(&answer).is_ok_and(|node| node["peers"] == NODES - 1)
    };
    while !get(&agent, &node.url(), "/v1/node").is_some_and(|(_, answer)| knows_all(answer)) {
        assert!(began.elapsed() < GIVE_UP, "{} does not find the others", node.url());
    }
}

#[test]
fn what_was_acknowledged_while_nodes_were_killed_and_started_is_there() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let mut swarm: Vec<NodeProcess> = Vec::new();
    for n in 0..NODES {
        let peers: Vec<_> = swarm.iter().take(3).map(NodeProcess::listen).collect();
        swarm.push(NodeProcess::start(program(), &top.path().join(format!("node-{n}")), &peers));
    }
    swarm.iter().for_each(await_neighbours);

    let up = Mutex::new(swarm.iter().map(NodeProcess::url).collect::<Vec<_>>());
    let (stop, (tell, told)) = (AtomicBool::new(false), mpsc::channel());
    let mut acknowledged = Vec::new();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (up, stop, tell) = (&up, &stop, tell.clone());
            scope.spawn(move || write(client, up, stop, &tell));
        }
        let mut dice = ChaCha12Rng::seed_from_u64(8);
        let mut down = Vec::<usize>::new();
        for upheaval in 0..UPHEAVALS {
            for _ in 0..PUTS_BETWEEN {
                let name = told.recv_timeout(GIVE_UP);
                acknowledged.push(name.unwrap_or_else(|_| panic!("no put succeeds, with {down:?} down")));
            }
            let restarts = down.len() >= DOWN_MAX || (upheaval % 2 == 1 && !down.is_empty());
            let n = if restarts {
                down.remove(dice.random_range(0..down.len()))
            } else {
                let running: Vec<_> = (0..NODES).filter(|n| !down.contains(n)).collect();
                *running.choose(&mut dice).expect("most nodes run")
            };
            let mut up = up.lock().expect("not poisoned");
            if restarts {
                swarm[n].restart();
                up.push(swarm[n].url());
            } else {
                up.retain(|url| *url != swarm[n].url());
                drop(up);
                swarm[n].kill();
                down.push(n);
            }
        }
        down.into_iter().for_each(|n| swarm[n].restart());
        stop.store(true, Relaxed);
    });
    acknowledged.extend(told.try_iter());
    swarm.iter().for_each(await_neighbours);

    let agent = agent();
    for (n, name) in acknowledged.iter().enumerate() {
        let node = &swarm[n % NODES];
        let read = get(&agent, &node.url(), &format!("/v1/objects/{name}"));
        assert_eq!(read, Some((200, value_of(name))), "{name} through {}", node.url());
    }
    assert!(acknowledged.len() >= UPHEAVALS * PUTS_BETWEEN);
}
