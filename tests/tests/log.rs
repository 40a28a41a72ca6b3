//! What a real node writes into its log and its metrics while friends and strangers use it.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use comet_routing::Key;
use comet_tests::process::NodeProcess;

const TOKEN: &str = "5d0e7c1b9a3f48266e81f3d20c97b4aa";
const WRONG_TOKEN: &str = "f00dfeed0badcafe1337c0de5eed0000";

/// A key's name as somebody sends it who wants to write lines of his own, and colours, into a log or a terminal.
const HOSTILE_NAME: &str = "a\r\n[2026-01-01T00:00:00Z ERROR comet_node] all is lost\x1b[2J\x07b";

/// What a handler says.
const CODE: &str = "function aso:onGet() log('said \\27[31m by a handler\\n') error('on \\7 purpose') end";

/// How long a client waits for what should come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes back for these bytes, over a connection that is half closed after them.
fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    // The node may have closed before it had all.
    drop(stream.write_all(bytes));
    drop(stream.shutdown(Shutdown::Write));
    let mut answers = Vec::new();
    drop(stream.read_to_end(&mut answers));
    String::from_utf8_lossy(&answers).into_owned()
}

/// A request over HTTP, with a token.
fn http(addr: SocketAddr, token: &str, method: &str, path: &str, body: &str) -> String {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    exchange(addr, request.as_bytes())
}

/// A command over the Redis interface, after `AUTH` with a token.
fn redis(addr: SocketAddr, token: &str, words: &[&str]) -> String {
    let mut bytes = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{token}\r\n*{}\r\n", token.len(), words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    exchange(addr, bytes.as_bytes())
}

/// A node that says everything into a file, and whose interfaces want a token.
fn node(top: &Path, log: &Path) -> NodeProcess {
    let config = top.join("comet.toml");
    fs::write(&config, format!("[http]\ntoken = \"{TOKEN}\"\n")).expect("the directory takes a file");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let program = Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"));
    let config = config.display().to_string();
    let args = ["--config", &config, "--resp", "127.0.0.1:0"];
    NodeProcess::start_logged(program, &top.join("node"), &[], &args, Some(log))
}

/// Friends and strangers use the node; what its metrics say then.
fn use_it(node: &NodeProcess) -> String {
    let address =
        |text: Option<&str>| -> SocketAddr { text.and_then(|text| text.parse().ok()).expect("an address") };
    let api = address(node.url().strip_prefix("http://"));
    let resp = address(node.printed("  resp   redis://"));
    let object = format!("{{\"value\": 1, \"code\": {CODE:?}}}");
    let put = http(api, TOKEN, "PUT", "/v1/objects/secret-name", &object);
    assert!(put.starts_with("HTTP/1.1 20"), "{put}");
    let failed = http(api, TOKEN, "GET", "/v1/objects/secret-name", "");
    assert!(failed.contains("purpose"), "its handler fails: {failed}");
    let refused = http(api, WRONG_TOKEN, "GET", "/v1/objects/secret-name", "");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let odd = http(api, TOKEN, "GET", "/v1/objects/a%0D%0A%1B%5B2Jb", "");
    assert!(odd.starts_with("HTTP/1.1 4"), "{odd}");
    let named = redis(resp, TOKEN, &["SET", HOSTILE_NAME, "1"]);
    assert!(named.starts_with("+OK\r\n-"), "no key may have such a name: {named}");
    assert_eq!(redis(resp, TOKEN, &["SET", "plain", HOSTILE_NAME]), "+OK\r\n+OK\r\n");
    assert!(redis(resp, WRONG_TOKEN, &["GET", HOSTILE_NAME]).starts_with("-WRONGPASS"));
    assert!(redis(resp, TOKEN, &[HOSTILE_NAME]).contains("unknown command"));
    let rubbish = UdpSocket::bind("127.0.0.1:0").expect("the loopback has a free port");
    for n in 0..100_u8 {
        rubbish.send_to(&[0xc0 ^ n, b'\n', 0x1b, n, 0, 0, 0, 1, 8, n], node.listen()).expect("it is sent");
    }
    let metrics = http(api, TOKEN, "GET", "/metrics", "");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    metrics
}

#[test]
fn neither_log_nor_metrics_tell_tokens_or_keys_or_let_strangers_write_lines() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let log = top.path().join("log");
    let mut node = node(top.path(), &log);
    let metrics = use_it(&node);
    let private_key = fs::read(top.path().join("node").join("node.key")).expect("the node has a key");
    assert!(node.stop().success());
    let said = fs::read_to_string(&log).expect("the log is text");

    assert!(said.contains(" TRACE "), "the control: everything is written: {said}");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let pem = String::from_utf8_lossy(&private_key);
    let private = pem.lines().nth(1).expect("its body is between two lines").to_owned();
    let seed = &BASE64_STANDARD.decode(&private).expect("it is base64")[16..];
    let key = Key::of("secret-name").to_string();
    assert!(said.contains("stopping"), "the control: it was read to its end: {said}");
    for (where_, text) in [("the log", &said), ("the metrics", &metrics)] {
        for (what, secret) in [
            ("the token", TOKEN),
            ("a wrong token", WRONG_TOKEN),
            ("the private key", private.as_str()),
            ("the private key in hex", &hex(seed)),
            ("the private key in numbers", &format!("{:?}", &seed[..8]).replace(['[', ']'], "")),
            ("an object's key", key.as_str()),
            ("an object's name", "secret-name"),
            ("a stranger's line", "all is lost"),
        ] {
            assert!(!text.contains(secret), "{where_} tells {what}: {text}");
        }
        let whole = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 64);
        assert_eq!(whole, None, "{where_} has a whole key or id: {text}");
    }
    let control = said.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "a control character is in the log: {said}");
    for line in said.lines() {
        assert!(line.starts_with('['), "every line is the node's own: {line:?}");
    }
}
