//! Two processes that know nobody find each other by multicast DNS, on the loopback interface.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// Long enough for a busy machine: services are announced within a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that is killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a node that is told of nobody, and passes on what it logs.
fn start(data: &Path, network: &str, log: mpsc::Sender<String>) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_comet-node-under-test"));
    command.args(["run", "--mdns", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]).arg(data);
    command.env("COMET_NODE_NETWORK", network).env("RUST_LOG", "comet_node=info");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let lines = BufReader::new(child.stderr.take().expect("what it logs is piped")).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| log.send(line)));
    Process(child)
}

#[test]
fn nodes_of_one_network_on_one_machine_find_each_other() {
    let top = tempfile::tempdir().expect("a temporary directory");
    // Other tests, and other nodes of this machine, are none of their business.
    let network = format!("discovery-{}", std::process::id());
    let (log, logged) = mpsc::channel();
    let _nodes = ["a", "b"].map(|name| start(&top.path().join(name), &network, log.clone()));
    drop(log);
    let mut met = 0;
    while met < 2 {
        let line = logged.recv_timeout(PATIENCE).expect("each node meets the other, or says why not");
        if line.contains("multicast DNS") {
            println!("SKIPPED: this machine has no multicast on loopback: {line}");
            return;
        }
        met += usize::from(line.contains("met a node on the local network"));
    }
}
