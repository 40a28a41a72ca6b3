//! A Redis server, and a node that answers Redis clients, each a process of its own on loopback.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use super::{CONFIG, Plan};
use crate::process::NodeProcess;

/// How long one reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// When Redis calls a write done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// When it is in memory, where it stays.
    Memory,
    /// When it is on the disk.
    Disk,
}

/// A `redis-server` process. It is killed when dropped.
pub(super) struct Redis {
    pub(super) addr: SocketAddr,
    child: Child,
}

impl Redis {
    /// Starts one and waits until it accepts connections.
    pub(super) fn start(data: &Path, durability: Durability) -> anyhow::Result<Self> {
        fs::create_dir_all(data)?;
        // Free until this is dropped, and then for as long as nobody else asks for just that one.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let append = if durability == Durability::Disk { "yes" } else { "no" };
        let mut child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &addr.port().to_string(),
                "--save",
                "",
                "--daemonize",
                "no",
            ])
            .args(["--appendonly", append, "--appendfsync", "always", "--dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start redis-server")?;
        let out = child.stdout.take().context("its output is piped")?;
        let redis = Self { addr, child };
        let mut lines = BufReader::new(out).lines();
        let ready =
            lines.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
        ensure!(ready, "redis-server ended before it was ready");
        // What it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a node that answers Redis clients, and says where.
pub(super) fn node(plan: &Plan, data: &Path) -> anyhow::Result<(NodeProcess, SocketAddr)> {
    let config = data.with_extension("toml");
    fs::write(&config, CONFIG)?;
    let config = config.display().to_string();
    let args = ["--config", config.as_str(), "--resp", "127.0.0.1:0"];
    let node = NodeProcess::start_with(&plan.program, data, &[], &args);
    let addr =
        node.printed("  resp   redis://").context("the node does not say where Redis clients reach it")?;
    let addr = addr.parse().context("the node says it in another way")?;
    Ok((node, addr))
}

/// A connection that speaks Redis' protocol, as far as measuring needs it.
pub(super) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(super) fn open(addr: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends a command and returns the first line of its reply.
    ///
    /// Fails if the reply is an error. What follows the first line is left unread: one connection for each such command.
    pub(super) fn tell(&mut self, words: &[&str]) -> anyhow::Result<String> {
        self.stream.get_mut().write_all(&request(words))?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        ensure!(!line.is_empty() && !line.starts_with('-'), "{:?} was answered {line:?}", words[0]);
        Ok(line.trim_end().to_owned())
    }

    /// Gets all of these keys, the requests sent together; each must be answered with this text.
    pub(super) fn get_all(&mut self, keys: impl Iterator<Item = String>, text: &str) -> anyhow::Result<()> {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for key in keys {
            requests.extend(request(&["GET", &key]));
            write!(expected, "${}\r\n{text}\r\n", text.len())?;
        }
        self.stream.get_mut().write_all(&requests)?;
        let mut replies = vec![0; expected.len()];
        self.stream.read_exact(&mut replies)?;
        let odd = || String::from_utf8_lossy(&replies).chars().take(200).collect::<String>();
        ensure!(replies == expected, "gets were answered {:?}", odd());
        Ok(())
    }
}

/// A request as clients send it.
fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_its_words_and_their_bytes() {
        assert_eq!(request(&["SET", "ä", ""]), "*3\r\n$3\r\nSET\r\n$2\r\nä\r\n$0\r\n\r\n".as_bytes());
    }
}
