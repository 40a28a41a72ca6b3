//! Real nodes as real processes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use comet_node::http::api::NodeReport;
use comet_routing::table::TableConfig;

/// When a swarm whose nodes do not find each other is given up: whoever was taken for dead is found again when its
/// part of the table is refreshed, minutes later.
const GIVE_UP: Duration = Duration::from_secs(600);

/// A `comet-node run` process. It is killed when dropped.
pub struct NodeProcess {
    program: PathBuf,
    data: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
    peers: Vec<SocketAddr>,
    args: Vec<String>,
    log: Option<PathBuf>,
    greeting: Vec<String>,
    child: Child,
}

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl NodeProcess {
    /// Starts a node on loopback ports that the system chooses, and waits until it says that it is ready.
    pub fn start(program: &Path, data: &Path, peers: &[SocketAddr]) -> Self {
        Self::start_with(program, data, peers, &[])
    }

    /// As [`NodeProcess::start`], with more arguments of `comet-node run`.
    pub fn start_with(program: &Path, data: &Path, peers: &[SocketAddr], args: &[&str]) -> Self {
        Self::start_logged(program, data, peers, args, None)
    }

    /// As [`NodeProcess::start_with`], with all that its parts have to say in a file, or without one its warnings among those of
    /// the test.
    pub fn start_logged(
        program: &Path,
        data: &Path,
        peers: &[SocketAddr],
        args: &[&str],
        log: Option<&Path>,
    ) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let (child, greeting) = spawn(program, data, any, any, peers, &args, log);
        let (listen, http) = addresses(&greeting);
        let (program, data, peers, log) = (program.into(), data.into(), peers.into(), log.map(Into::into));
        Self { program, data, listen, http, peers, args, log, greeting, child }
    }

    /// Starts it again, with the same data and addresses, after it was stopped or killed.
    pub fn restart(&mut self) {
        let Self { program, data, listen, http, peers, args, log, .. } = self;
        (self.child, self.greeting) = spawn(program, data, *listen, *http, peers, args, log.as_deref());
        (self.listen, self.http) = addresses(&self.greeting);
    }

    /// Ends it without warning, as a power cut of the process would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.child.wait().expect("the process ends");
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("the process ends")
    }

    /// Stops it where it is: its ports stay open, nothing comes out of it, and nobody is told.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|sent| sent.success()), "the process can be signalled");
    }

    /// Where other nodes reach it.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What it printed after these words, on the first line that begins with them, before it was ready.
    pub fn printed(&self, words: &str) -> Option<&str> {
        self.greeting.iter().find_map(|line| line.strip_prefix(words))
    }

    /// What it says about itself, if it answers.
    pub fn report(&self) -> Option<NodeReport> {
        let mut answer = ureq::get(format!("{}/v1/node", self.url())).call().ok()?;
        serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
    }

    /// The most memory that it has had at one time, in bytes, as the kernel counted.
    pub fn resident_bytes_max(&self) -> u64 {
        self.counted_bytes("VmHWM:")
    }

    /// The memory that it has now, in bytes, as the kernel counts.
    pub fn resident_bytes(&self) -> u64 {
        self.counted_bytes("VmRSS:")
    }

    fn counted_bytes(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the process runs");
        let count =
            status.lines().find_map(|line| line.strip_prefix(what)?.strip_suffix("kB")?.trim().parse().ok());
        count.map(|kb: u64| kb * 1024).expect("the kernel counts it")
    }

    /// Runs a client command against it.
    pub fn command(&self, args: &[&str]) -> Finished {
        run(&self.program, &self.url(), args)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Asks all nodes of a swarm until each knows all others for which its table has room.
pub fn await_each_other(swarm: &[NodeProcess]) {
    let (began, k) = (Instant::now(), TableConfig::default().k);
    let report = |node: &NodeProcess| loop {
        assert!(began.elapsed() < GIVE_UP, "{} has not found the others: {:?}", node.url(), node.report());
        if let Some(report) = node.report() {
            return report;
        }
    };
    let ids: Vec<_> = swarm.iter().map(|node| report(node).id).collect();
    for (node, own) in swarm.iter().zip(&ids) {
        let mut buckets = BTreeMap::<usize, usize>::new();
        for other in ids.iter().filter(|other| *other != own) {
            *buckets.entry(own.as_key().distance_to(other).leading_zeros()).or_default() += 1;
        }
        let room: usize = buckets.values().map(|others| *others.min(&k)).sum();
        while report(node).peers < room as u64 {}
    }
}

/// Runs a command of the program to its end.
pub fn run(program: &Path, node: &str, args: &[&str]) -> Finished {
    let output = Command::new(program)
        .args(args)
        .env("COMET_NODE", node)
        .env_remove("COMET_TOKEN")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Finished { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Starts a node and reads what it prints until it is ready.
fn spawn(
    program: &Path,
    data: &Path,
    listen: SocketAddr,
    http: SocketAddr,
    peers: &[SocketAddr],
    args: &[String],
    log: Option<&Path>,
) -> (Child, Vec<String>) {
    let mut command = Command::new(program);
    command.arg("run").arg("--data").arg(data);
    command.args(["--listen", &listen.to_string(), "--http", &http.to_string()]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command.args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    match log {
        None => command.env("RUST_LOG", "warn").stderr(Stdio::inherit()),
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            command.env("RUST_LOG", "trace").stderr(file.expect("a file for its log can be made"))
        }
    };
    let mut child = command.spawn().expect("the program starts");
    let out = child.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(out).lines();
    let mut greeting = Vec::new();
    let ready = lines.by_ref().map_while(Result::ok).any(|line| {
        let last = line.contains("Press Ctrl-C");
        greeting.push(line);
        last
    });
    assert!(ready, "the node at {listen} ended before it was ready: {:?}", child.wait());
    // What it prints later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, greeting)
}

/// Where peers and clients reach a node that printed this.
fn addresses(greeting: &[String]) -> (SocketAddr, SocketAddr) {
    let after = |words| greeting.iter().find_map(|line| address(line, words));
    let (listen, http) = (after("  peers  udp "), after("  http   http://"));
    (listen.expect("it says where peers reach it"), http.expect("it says where clients reach it"))
}

/// The address that follows these words at the beginning of a line.
fn address(line: &str, words: &str) -> Option<SocketAddr> {
    line.strip_prefix(words)?.split(',').next()?.parse().ok()
}
