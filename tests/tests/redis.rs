//! The Redis interface of real nodes with programs from the outside world: redis-cli and the client library `redis`.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use comet_tests::process::{NodeProcess, await_each_other};
use redis::{Connection, RedisResult, Value};

const TOKEN: &str = "9b2f6c01d4e87a35f0c6b18e2d7943aa";

/// A counter that also says what it was asked.
const CODE: &str = "function aso:onGet(_, _, asked) self.n = (self.n or 0) + 1 return { n = self.n, half = 0.5, asked = asked, yes = true } end \
     function aso:onUpdate() return false, 'sold\\nout' end";

/// How long a client waits for what should come.
const PATIENCE: Duration = Duration::from_secs(60);

fn node(data: &Path, peers: &[SocketAddr], args: &[&str]) -> NodeProcess {
    let program = Path::new(env!("CARGO_BIN_EXE_comet-node-under-test"));
    let args = [&["--resp", "127.0.0.1:0"], args].concat();
    NodeProcess::start_with(program, data, peers, &args)
}

fn address(node: &NodeProcess) -> SocketAddr {
    let printed = node.printed("  resp   redis://").expect("the node says where Redis clients reach it");
    printed.parse().expect("an address")
}

/// What redis-cli prints for these lines, one after the other over one connection.
fn redis_cli(node: &NodeProcess, args: &[&str], lines: &str) -> String {
    let addr = address(node);
    let mut command = Command::new("redis-cli");
    command.args(["-h", &addr.ip().to_string(), "-p", &addr.port().to_string(), "--no-raw"]).args(args);
    command.env_remove("REDISCLI_AUTH").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("this test needs redis-cli; `apt-get install redis-tools` installs it: {error}"),
    };
    let mut input = child.stdin.take().expect("its input is piped");
    input.write_all(lines.as_bytes()).expect("it reads lines");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("it prints text")
}

fn connect(node: &NodeProcess, options: &str) -> Connection {
    let client = redis::Client::open(format!("redis://{}/{options}", address(node))).expect("a URL");
    let connection = client.get_connection().expect("the node answers");
    connection.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    connection
}

fn ask(connection: &mut Connection, words: &[&str]) -> RedisResult<Value> {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(connection)
}

fn bytes(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

#[test]
fn redis_cli_sets_gets_and_deletes_and_is_told_what_it_got_wrong() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let lines = "PING\nSET greeting \"hello world\" EX 100\nGET greeting\nTTL nothing\nGET nothing\nMSET a 1 b 2\nMGET a b c\n\
                 EXISTS a b c\nDEL a b c\nGET\nFLUSHALL now\nSELECT 1\nCOMMAND COUNT\n";
    let printed = redis_cli(&node, &[], lines);
    let expected = "PONG\nOK\n\"hello world\"\n(integer) -2\n(nil)\nOK\n1) \"1\"\n2) \"2\"\n3) (nil)\n(integer) 2\n(integer) 2\n\
                    (error) ERR wrong number of arguments for 'get' command\n\
                    (error) ERR unknown command 'FLUSHALL', with args beginning with: 'now' \n\
                    (error) ERR DB index is out of range\n";
    let count = printed.strip_prefix(expected).unwrap_or_else(|| panic!("{printed}"));
    assert!(count.starts_with("(integer) 2"), "{count}");
    let info = redis_cli(&node, &[], "INFO\n");
    for line in ["# Server", "redis_version:", "connected_clients:1", "db0:keys=1,expires=1"] {
        assert!(info.contains(line), "{line} is not in {info}");
    }
    let clients = redis_cli(&node, &[], "INFO clients\n");
    assert!(clients.starts_with("# Clients") && !clients.contains("# Server"), "{clients}");
    let seen = node.command(&["get", "greeting", "--raw"]);
    assert_eq!(seen.out, "hello world", "what redis-cli set the command line reads");
}

#[test]
fn a_client_library_reads_and_writes_any_bytes_over_both_versions_of_the_protocol() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let all: Vec<u8> = (0..=255).collect();
    for options in ["", "?protocol=resp3"] {
        let mut connection = connect(&node, options);
        let set = redis::cmd("SET").arg("bytes").arg(&all).arg("EX").arg(1_000).query(&mut connection);
        assert_eq!(set, Ok(Value::Okay));
        assert_eq!(redis::cmd("GET").arg("bytes").query(&mut connection), Ok(all.clone()));
        let ttl: i64 = redis::cmd("TTL").arg("bytes").query(&mut connection).expect("a number");
        assert!((900..=1_000).contains(&ttl), "{ttl}");
        let deleted = redis::cmd("DEL").arg("bytes").query(&mut connection);
        assert_eq!(deleted, Ok(1));
        assert_eq!(redis::cmd("GET").arg("bytes").query(&mut connection), Ok(None::<Vec<u8>>));
    }
}

#[test]
fn of_many_clients_that_set_a_key_only_where_nothing_is_one_does() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let mut clients: Vec<Connection> = (0..8).map(|_| connect(&node, "")).collect();
    let set = |client: &mut Connection| ask(client, &["SET", "lock", "mine", "NX", "EX", "60"]);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let racing: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| set(client))).collect();
        racing.into_iter().map(|client| client.join().expect("it asks")).collect()
    });
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Value::Okay)).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Value::Nil)).count(), 7, "{answers:?}");
    let client = &mut clients[0];
    assert_eq!(ask(client, &["SET", "lock", "yours"]), Ok(Value::Okay), "the control: without a condition");
    for _ in 0..3 {
        assert_eq!(ask(client, &["DEL", "lock"]), Ok(Value::Int(1)));
        assert_eq!(set(client), Ok(Value::Okay), "a lock that was given back is free");
    }
}

#[test]
fn a_pipeline_of_five_hundred_commands_is_answered_in_order() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    for options in ["", "?protocol=resp3"] {
        let mut connection = connect(&node, options);
        let mut pipeline = redis::pipe();
        for n in 0..100 {
            // Keys come again, so that later commands depend on earlier ones.
            let key = format!("key-{}", n % 7);
            pipeline.cmd("SET").arg(&key).arg(n).ignore();
            pipeline.cmd("GET").arg(&key);
            pipeline.cmd("ECHO").arg(n);
            pipeline.cmd("EXISTS").arg(&key).ignore();
            pipeline.cmd("GET").arg("nothing").ignore();
        }
        let answers: Vec<i64> = pipeline.query(&mut connection).expect("numbers");
        assert_eq!(answers, (0..100).flat_map(|n| [n, n]).collect::<Vec<_>>());
        // More than are asked for at once, some of which are not there.
        let keys: Vec<_> = (0..200).map(|n| format!("key-{}", n % 9)).collect();
        let many: Vec<Option<i64>> = redis::cmd("MGET").arg(&keys).query(&mut connection).expect("numbers");
        let last = [98, 99, 93, 94, 95, 96, 97].map(Some).into_iter().chain([None, None]);
        assert_eq!(many, last.cycle().take(200).collect::<Vec<_>>());
    }
}

#[test]
fn gets_of_one_object_in_a_pipeline_count_one_by_one_and_those_that_fail_do_not_count() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let mut connection = connect(&node, "");
    // What a script counts besides its state begins anew after each failure.
    let code = "aso.n = 0 local calls = 0
        function aso:onGet()
          self.n += 1 calls += 1
          if calls == tonumber(self.value) then error('told to') end
          return self.n
        end";
    for (key, fails) in [("never", "0"), ("at times", "10")] {
        assert_eq!(ask(&mut connection, &["COMET.PUT", key, fails, "CODE", code]), Ok(Value::Okay));
    }
    let (mut counted, mut refused) = ([vec![], vec![]], 0);
    for times in [1, 2, 16, 100, 31, 40] {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for _ in 0..times {
            pipeline.cmd("GET").arg("never").cmd("GET").arg("at times");
        }
        let answers: Vec<Result<i64, redis::RedisError>> = pipeline.query(&mut connection).expect("answers");
        assert_eq!(answers.len(), 2 * times);
        for (answer, of) in answers.into_iter().zip([0, 1].into_iter().cycle()) {
            match answer {
                Ok(n) => counted[of].push(n),
                Err(error) => {
                    assert!(of == 1 && error.to_string().contains("told to"), "{error}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(counted[0], (1..=190).collect::<Vec<_>>());
    assert!((10..30).contains(&refused), "{refused} failed");
    // Those behind one that failed were begun anew, perhaps after others.
    counted[1].sort_unstable();
    assert_eq!(counted[1], (1..=190 - refused).collect::<Vec<_>>());
}

#[test]
fn objects_with_handlers_answer_in_the_kinds_of_the_protocol_and_refuse_with_a_code() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let mut two = connect(&node, "");
    let put = ask(&mut two, &["COMET.PUT", "ticket", "0", "CODE", CODE, "TTL", "600", "REPLICAS", "1"]);
    assert_eq!(put, Ok(Value::Okay));
    let payload = ["COMET.GET", "ticket", "PAYLOAD", r#"{"a":[1,"x"]}"#];
    let asked = || Value::Array(vec![Value::Int(1), bytes("x")]);
    let flat = vec![
        bytes("asked"),
        Value::Array(vec![bytes("a"), asked()]),
        bytes("half"),
        bytes("0.5"),
        bytes("n"),
        Value::Int(1),
        bytes("yes"),
        Value::Int(1),
    ];
    assert_eq!(ask(&mut two, &payload), Ok(Value::Array(flat)));
    let mut three = connect(&node, "?protocol=resp3");
    let map = vec![
        (bytes("asked"), Value::Map(vec![(bytes("a"), asked())])),
        (bytes("half"), Value::Double(0.5)),
        (bytes("n"), Value::Int(2)),
        (bytes("yes"), Value::Boolean(true)),
    ];
    assert_eq!(ask(&mut three, &payload), Ok(Value::Map(map)));
    assert_eq!(ask(&mut three, &["GET", "ticket"]), Ok(bytes(r#"{"half":0.5,"n":3,"yes":true}"#)));
    let refused = ask(&mut three, &["SET", "ticket", "mine"]).expect_err("onUpdate says no");
    assert_eq!((refused.code(), refused.detail()), (Some("REFUSED"), Some(r"sold\nout")));
    let Ok(Value::Array(replicas)) = ask(&mut three, &["COMET.INSPECT", "ticket"]) else { panic!("a list") };
    let Some(Value::Map(fields)) = replicas.first() else { panic!("a map: {replicas:?}") };
    let handlers = Value::Array(vec![bytes("onGet"), bytes("onUpdate")]);
    assert!(fields.contains(&(bytes("handlers"), handlers)), "{fields:?}");
    let bad = ask(&mut three, &["COMET.PUT", "bad", "0", "CODE", "function"]).expect_err("no Lua");
    assert_eq!(bad.code(), Some("BAD_CODE"));
    let large = ask(&mut three, &["SET", "large", &"x".repeat(100_000)]).expect_err("over 64 KiB");
    assert_eq!(large.code(), Some("TOO_LARGE"));
    assert_eq!(
        ask(&mut three, &["PING"]),
        Ok(Value::SimpleString("PONG".into())),
        "and the connection goes on"
    );
}

#[test]
fn subscribers_hear_what_is_published_through_their_node_and_through_another() {
    let top = tempfile::tempdir().expect("a temporary directory");
    let first = node(&top.path().join("first"), &[], &[]);
    let second = node(&top.path().join("second"), &[first.listen()], &[]);
    let nodes = [first, second];
    await_each_other(&nodes);
    let mut listening = connect(&nodes[0], "");
    let mut listener = listening.as_pubsub();
    listener.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    listener.subscribe(&["news", "weather"]).expect("there is room");
    for (from, listeners) in [(0, 1), (1, 0)] {
        let mut publisher = connect(&nodes[from], "?protocol=resp3");
        for n in 0..3 {
            let message = format!("{n} from {from}");
            assert_eq!(ask(&mut publisher, &["PUBLISH", "news", &message]), Ok(Value::Int(listeners)));
        }
        let heard: Vec<(String, String)> = (0..3)
            .map(|_| listener.get_message().expect("it arrives"))
            .map(|message| (message.get_channel_name().to_owned(), message.get_payload().expect("text")))
            .collect();
        let expected = (0..3).map(|n| ("news".to_owned(), format!("{n} from {from}")));
        assert_eq!(heard, expected.collect::<Vec<_>>());
    }
    listener.unsubscribe(&["news", "weather"]).expect("it can stop");
    drop(listener);
    let refused = redis_cli(&nodes[0], &[], "SET plain x\nPUBLISH plain x\n");
    assert!(refused.starts_with("OK\n(error) WRONGTYPE"), "{refused}");
}

#[test]
fn a_connection_that_listens_in_resp2_does_nothing_else_and_in_resp3_anything() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let exchange = |lines: &str| exchange(address(&node), lines.as_bytes());
    let subscribed = "$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
    let apart = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                 this context\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n";
    let ended = "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n$-1\r\n";
    let lines = "SUBSCRIBE a\r\nGET b\r\nPING\r\nUNSUBSCRIBE\r\nGET b\r\n";
    assert_eq!(exchange(lines), format!("*3\r\n{subscribed}{apart}{ended}"));
    let answers = exchange("HELLO 3\r\nSUBSCRIBE a\r\nGET b\r\nPING\r\n");
    assert!(answers.ends_with(&format!(">3\r\n{subscribed}_\r\n+PONG\r\n")), "{answers}");
}

#[test]
fn a_handler_sees_the_network_of_the_node_that_a_request_came_through_and_not_the_client_behind_it() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let config = data.path().join("comet.toml");
    fs::write(&config, "[runtime]\ncaller_addresses = \"full\"\n").expect("the directory takes a file");
    let config = config.display().to_string();
    let prefix = node(&data.path().join("prefix"), &[], &[]);
    assert_eq!(caller(&prefix), "127.0.0.0 0");
    let full = node(&data.path().join("full"), &[], &["--config", &config]);
    let own = format!("{} {}", full.listen().ip(), full.listen().port());
    assert_eq!(caller(&full), own, "the control");
}

/// What a handler on this node sees of who calls it, over the Redis interface and over HTTP.
fn caller(node: &NodeProcess) -> String {
    let code = "function aso:onGet(caller) return caller.ip .. ' ' .. caller.port end";
    let mut client = connect(node, "");
    let put = ask(&mut client, &["COMET.PUT", "who", "1", "CODE", code]);
    assert_eq!(put, Ok(Value::Okay));
    let Ok(Value::BulkString(seen)) = ask(&mut client, &["GET", "who"]) else { panic!("it answers a text") };
    let seen = String::from_utf8(seen).expect("a text");
    let got = node.command(&["get", "who"]);
    assert!(got.code == Some(0) && got.out.contains(&seen), "{got:?}");
    seen
}

#[test]
fn whoever_has_not_the_token_gets_nothing_done() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let config = data.path().join("comet.toml");
    fs::write(&config, format!("[http]\ntoken = \"{TOKEN}\"\n")).expect("the directory takes a file");
    // As the node demands of a file with a token in it.
    let private = Command::new("chmod").arg("600").arg(&config).status();
    assert!(private.is_ok_and(|status| status.success()));
    let node = node(&data.path().join("node"), &[], &["--config", &config.display().to_string()]);
    assert_eq!(redis_cli(&node, &[], "SET a 1\n"), "(error) NOAUTH Authentication required.\n");
    let right = ["--no-auth-warning", "-a", TOKEN];
    assert_eq!(redis_cli(&node, &right, "GET a\nSET a 1\nGET a\n"), "(nil)\nOK\n\"1\"\n", "the control");
    let wrong = redis::Client::open(format!("redis://:wrong@{}/", address(&node))).expect("a URL");
    let error = wrong.get_connection().err().expect("the token is wrong");
    assert!(error.to_string().contains("authentication failed"), "{error}");
}

/// What comes back for these bytes until the connection ends; it is half closed after them.
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

#[test]
fn hostile_bytes_cost_a_node_neither_its_memory_nor_its_other_clients() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let node = node(data.path(), &[], &[]);
    let addr = address(&node);
    let mut client = connect(&node, "");
    assert_eq!(ask(&mut client, &["SET", "a", "1"]), Ok(Value::Okay));
    let before = node.resident_bytes_max();
    let nested = "*1\r\n".repeat(10_000);
    let words = format!("*{}\r\n", i64::MAX);
    let length = format!("*2\r\n$3\r\nGET\r\n${}\r\n", i64::MAX);
    for (bytes, answer) in [
        (nested.as_str(), "-ERR Protocol error: expected '$', got '*'\r\n"),
        (&words, "-ERR Protocol error: invalid multibulk length\r\n"),
        (&length, "-ERR Protocol error: invalid bulk length\r\n"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "-ERR Protocol error: this is neither RESP nor a line of words\r\n",
        ),
        (
            "\u{16}\u{3}\u{1}\nSET a 2\r\n",
            "-ERR Protocol error: this is neither RESP nor a line of words\r\n",
        ),
        // As large as a request may be said to be, and then nothing.
        ("*4096\r\n$1000000\r\n", ""),
    ] {
        // The control is what stands before them: a command that is answered.
        let answers = exchange(addr, format!("PING\r\n{bytes}").as_bytes());
        assert_eq!(answers, format!("+PONG\r\n{answer}"));
    }
    // Requests that are never finished, all at once.
    let unfinished: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(addr).expect("the node listens");
            stream.write_all(b"*4096\r\n$1000000\r\nabc").expect("it is taken");
            stream
        })
        .collect();
    assert_eq!(ask(&mut client, &["GET", "a"]), Ok(bytes("1")));
    let grown = node.resident_bytes_max().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{grown} bytes more for requests that declared 500 MB");
    drop(unfinished);
}
