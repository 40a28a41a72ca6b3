//! Real nodes as real processes.

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// A `comet-node run` process. It is killed when dropped.
pub struct NodeProcess {
    program: PathBuf,
    data: PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
    peers: Vec<SocketAddr>,
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
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (child, listen, http) = spawn(program, data, any, any, peers);
        Self { program: program.into(), data: data.into(), listen, http, peers: peers.into(), child }
    }

    /// Starts it again, with the same data and addresses, after it was stopped or killed.
    pub fn restart(&mut self) {
        let Self { program, data, listen, http, peers, .. } = self;
        (self.child, self.listen, self.http) = spawn(program, data, *listen, *http, peers);
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

/// Starts a node and reads from what it prints where it can be reached.
fn spawn(
    program: &Path,
    data: &Path,
    listen: SocketAddr,
    http: SocketAddr,
    peers: &[SocketAddr],
) -> (Child, SocketAddr, SocketAddr) {
    let mut command = Command::new(program);
    command.arg("run").arg("--data").arg(data);
    command.args(["--listen", &listen.to_string(), "--http", &http.to_string()]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().expect("the program starts");
    let out = child.stdout.take().expect("its output is piped");
    let mut lines = BufReader::new(out).lines();
    let (mut listens, mut serves) = (None, None);
    let ready = lines.by_ref().map_while(Result::ok).any(|line| {
        listens = listens.or_else(|| address(&line, "  peers  udp "));
        serves = serves.or_else(|| address(&line, "  http   http://"));
        line.contains("Press Ctrl-C")
    });
    assert!(ready, "the node at {listen} ended before it was ready: {:?}", child.wait());
    // What it prints later must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, listens.expect("it says where peers reach it"), serves.expect("it says where clients reach it"))
}

/// The address that follows these words at the beginning of a line.
fn address(line: &str, words: &str) -> Option<SocketAddr> {
    line.strip_prefix(words)?.split(',').next()?.parse().ok()
}
