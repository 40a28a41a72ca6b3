//! The interface over sockets, in front of a fake swarm, in paused time.

use std::time::Duration;

use comet_routing::Key;
use comet_runtime::{Refusal, dht::Dht};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::LocalSet,
    time::Instant,
};

use super::pipeline::RUNNING_MAX;
use super::*;
use crate::http::fake::Fake;

const TOKEN: &str = "correct-horse-battery-staple-0123";

/// Runs a test against an open interface.
fn served(config: &RespConfig, token: Option<&str>, test: impl AsyncFnOnce(SocketAddr, Fake)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime on one thread");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::pause();
        let (limits, replication) = (Limits::default(), ReplicationConfig::default());
        let (any, fake) = ("127.0.0.1:0".parse().unwrap(), Fake::default());
        let server =
            serve(config, any, token, &limits, &replication, &[Stage::Here], &fake).expect("it opens");
        test(server.addr(), fake).await;
        server.close().await;
    });
}

/// What comes back for these bytes until the connection ends; it is half closed after them.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("somebody listens");
    stream.write_all(bytes).await.expect("they are taken");
    stream.shutdown().await.expect("a half can be closed");
    rest(stream).await
}

async fn rest(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("it ends");
    String::from_utf8(received).expect("text")
}

#[test]
fn a_pipeline_is_answered_in_order_and_each_command_sees_what_those_before_it_did() {
    served(&RespConfig::default(), None, async |addr, _| {
        let lines = "SET a 1\r\nGET a\r\nSET a 2\r\nGET a\r\nPING\r\nMSET b x c y\r\nMGET a b nothing\r\n\
                     EXISTS a b nothing\r\nTTL a\r\nTTL nothing\r\nDEL a b nothing\r\nGET a\r\n";
        let answers = exchange(addr, lines.as_bytes()).await;
        let expected = "+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n+PONG\r\n+OK\r\n*3\r\n$1\r\n2\r\n$1\r\nx\r\n$-1\r\n\
                        :2\r\n:3600\r\n:-2\r\n:2\r\n$-1\r\n";
        assert_eq!(answers, expected);
    });
}

#[test]
fn gets_of_a_pipeline_that_are_asked_for_together_are_answered_as_if_each_came_alone() {
    served(&RespConfig::default(), None, async |addr, fake| {
        fake.state().put_time = Duration::from_millis(3);
        assert_eq!(exchange(addr, b"MSET a 1 b 22\r\n").await, "+OK\r\n");
        let rounds = "GET a\r\nGET b\r\nGET nothing\r\n".repeat(50);
        let answers = "$1\r\n1\r\n$2\r\n22\r\n$-1\r\n".repeat(50);
        let (lines, expected) = (format!("{rounds}ECHO x\r\n"), format!("{answers}$1\r\nx\r\n"));
        assert_eq!(exchange(addr, lines.as_bytes()).await, expected);
        assert_eq!(std::mem::take(&mut fake.state().together), [32, 32, 32, 32, 22]);
        // A get behind a put of its key waits for it, and those before it do not.
        let lines = b"GET a\r\nSET a 3\r\nGET b\r\nGET a\r\nGET a\r\nSET b 4\r\nGET a\r\nGET b\r\n";
        let expected = "$1\r\n1\r\n+OK\r\n$2\r\n22\r\n$1\r\n3\r\n$1\r\n3\r\n+OK\r\n$1\r\n3\r\n$1\r\n4\r\n";
        assert_eq!(exchange(addr, lines).await, expected);
        // What ends the connection does so after them.
        let answers = exchange(addr, b"GET a\r\nGET a\r\n*1\r\n*1\r\nGET a\r\n").await;
        assert_eq!(answers, "$1\r\n3\r\n$1\r\n3\r\n-ERR Protocol error: expected '$', got '*'\r\n");
        let info = exchange(addr, b"GET a\r\nGET a\r\nINFO stats\r\n").await;
        let counted = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        assert_eq!(counted.map(str::trim), Some((1 + 151 + 8 + 3 + 3).to_string().as_str()));
    });
}

#[test]
fn a_command_begins_as_soon_as_nothing_is_in_its_way() {
    served(&RespConfig::default(), None, async |addr, fake| {
        fake.state().inspection_time = Duration::from_millis(7);
        let began = Instant::now();
        // The put is over before anything is answered, and leaves nothing under way that would wake the get.
        let answers = exchange(addr, b"EXISTS b\r\nSET a 1\r\nGET a\r\n").await;
        assert_eq!(answers, ":0\r\n+OK\r\n$1\r\n1\r\n");
        assert!(began.elapsed() < Duration::from_millis(20), "{:?}", began.elapsed());
    });
}

#[test]
fn no_more_commands_run_than_may_however_they_are_joined() {
    served(&RespConfig::default(), None, async |addr, fake| {
        fake.state().inspection_time = Duration::from_millis(7);
        let lines = [&"TTL a\r\n".repeat(RUNNING_MAX - 1), "GET a\r\nGET a\r\nGET a\r\n"].concat();
        let expected = [&":-2\r\n".repeat(RUNNING_MAX - 1), "$-1\r\n$-1\r\n$-1\r\n"].concat();
        assert_eq!(exchange(addr, lines.as_bytes()).await, expected);
        assert_eq!(fake.state().together, [0; 0], "there is room for one at a time");
    });
}

#[test]
fn replies_that_do_not_fit_at_once_come_before_what_changes_the_connection() {
    served(&RespConfig::default(), None, async |addr, _| {
        let value = "x".repeat(60_000);
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len());
        assert_eq!(exchange(addr, set.as_bytes()).await, "+OK\r\n");
        let lines = ["GET a\r\n".repeat(20), "GET nothing\r\n".repeat(12), "HELLO 3\r\n".into()].concat();
        let answers = exchange(addr, lines.as_bytes()).await;
        let expected = [format!("${}\r\n{value}\r\n", value.len()).repeat(20), "$-1\r\n".repeat(12)].concat();
        assert!(answers.starts_with(&expected), "{}", answers.len());
        assert!(answers[expected.len()..].starts_with("%7\r\n"), "{}", &answers[expected.len()..]);
    });
}

#[test]
fn hello_changes_the_replies_after_it_and_none_before_it() {
    served(&RespConfig::default(), None, async |addr, _| {
        let answers = exchange(addr, b"GET nothing\r\nHELLO 3\r\nGET nothing\r\n").await;
        assert!(answers.starts_with("$-1\r\n%7\r\n"), "{answers}");
        assert!(answers.ends_with("*0\r\n_\r\n"), "{answers}");
    });
}

#[test]
fn quit_is_answered_and_nothing_after_it() {
    served(&RespConfig::default(), None, async |addr, _| {
        assert_eq!(exchange(addr, b"PING\r\nQUIT\r\nPING\r\n").await, "+PONG\r\n+OK\r\n");
    });
}

#[test]
fn a_refusal_is_an_error_and_the_connection_goes_on() {
    served(&RespConfig::default(), None, async |addr, fake| {
        fake.state().refusal = Some(Refusal::Refused("not today".into()));
        let answers = exchange(addr, b"SET a 1\r\nMGET a b\r\nPING\r\n").await;
        assert_eq!(answers, "-REFUSED not today\r\n-REFUSED not today\r\n+PONG\r\n");
        fake.state().refusal = Some(Refusal::Timeout { deadline_ms: 5 });
        assert_eq!(exchange(addr, b"DEL a\r\n").await, "-TRYAGAIN timeout: no answer within 5 ms\r\n");
    });
}

#[test]
fn without_the_token_nothing_is_done_and_nothing_is_told() {
    let lines = "GET a\r\nGET a\r\nINFO\r\nCOMMAND\r\nSUBSCRIBE a\r\nHELLO 3\r\nPING\r\n";
    served(&RespConfig::default(), Some(TOKEN), async |addr, fake| {
        let answers = exchange(addr, lines.as_bytes()).await;
        assert!(answers.lines().all(|line| line.starts_with("-NOAUTH ")), "{answers}");
        assert_eq!(answers.lines().count(), lines.lines().count());
        exchange(addr, b"SET a 1\r\n").await;
        assert!(fake.state().objects.is_empty());
        let shown = format!("AUTH {TOKEN}\r\nPING\r\nHELLO 2 AUTH default {TOKEN}\r\n");
        assert!(exchange(addr, shown.as_bytes()).await.starts_with("+OK\r\n+PONG\r\n*14\r\n"));
    });
    served(&RespConfig::default(), None, async |addr, _| {
        let answers = exchange(addr, b"PING\r\nAUTH x\r\n").await;
        assert!(
            answers.starts_with("+PONG\r\n-ERR AUTH <password> called without"),
            "the control: {answers}"
        );
    });
}

#[test]
fn wrong_tokens_wait_for_each_other_and_the_right_one_waits_for_none() {
    served(&RespConfig::default(), Some(TOKEN), async |addr, _| {
        let began = Instant::now();
        let guess = |line: String| async move {
            let answer = exchange(addr, line.as_bytes()).await;
            // Timers end on whole milliseconds of the clock, which was stopped between two.
            let waited_ms = began.elapsed().as_millis() / 10 * 10;
            (answer.split(' ').next().unwrap_or_default().trim().to_owned(), waited_ms)
        };
        let (a, b, c, right) = tokio::join!(
            guess("AUTH a\r\n".into()),
            guess(format!("AUTH bob {TOKEN}\r\n")),
            guess("HELLO 3 AUTH default c\r\n".into()),
            guess(format!("AUTH {TOKEN}\r\n")),
        );
        let mut waited = [a, b, c];
        waited.sort();
        let wrong = |ms| ("-WRONGPASS".to_owned(), ms);
        assert_eq!(waited, [wrong(250), wrong(500), wrong(750)]);
        assert_eq!(right, ("+OK".to_owned(), 0));
    });
}

#[test]
fn what_is_no_protocol_ends_the_connection_after_the_replies_before_it() {
    served(&RespConfig::default(), None, async |addr, fake| {
        let answers = exchange(addr, b"PING\r\n*1\r\n*1\r\n$4\r\nPING\r\nPING\r\n").await;
        assert_eq!(answers, "+PONG\r\n-ERR Protocol error: expected '$', got '*'\r\n");
        let page = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET a 1\r\n";
        let foreign = "-ERR Protocol error: this is neither RESP nor a line of words\r\n";
        assert_eq!(exchange(addr, page).await, foreign);
        assert!(fake.state().objects.is_empty(), "what a page had a browser send was not done");
        exchange(addr, b"SET a 1\r\n").await;
        assert!(!fake.state().objects.is_empty(), "the control: the same words without a browser's");
    });
}

#[test]
fn half_a_request_is_given_up_long_before_a_connection_that_is_idle() {
    served(&RespConfig::default(), None, async |addr, _| {
        let ended_after = async |bytes: &'static [u8]| {
            let mut stream = TcpStream::connect(addr).await.expect("somebody listens");
            stream.write_all(bytes).await.expect("they are taken");
            let began = Instant::now();
            rest(stream).await;
            began.elapsed().as_secs()
        };
        assert!((10..=20).contains(&ended_after(b"*2\r\n$3\r\nGET\r\n$100\r\nabc").await));
        assert!((300..=310).contains(&ended_after(b"PING\r\n").await), "the control");
    });
}

#[test]
fn whoever_leaves_replies_unread_is_cut_off_and_whoever_reads_them_is_not() {
    served(&RespConfig::default(), None, async |addr, fake| {
        let value = "x".repeat(60_000);
        exchange(addr, format!("SET a {value}\r\n").as_bytes()).await;
        assert_eq!(fake.state().objects.len(), 1);
        let gets = "GET a\r\n".repeat(1_000);
        let expected = 1_000 * (value.len() + "$60000\r\n\r\n".len());
        assert_eq!(exchange(addr, gets.as_bytes()).await.len(), expected, "the control");

        let mut stream = TcpStream::connect(addr).await.expect("somebody listens");
        stream.write_all(gets.as_bytes()).await.expect("they are taken");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut received = Vec::new();
        // Whether the end looks like one or like a break depends on what the system had buffered.
        drop(stream.read_to_end(&mut received).await);
        assert!(received.len() < expected, "{} bytes", received.len());
    });
}

#[test]
fn there_is_room_for_so_many_connections_and_a_place_is_free_when_one_ends() {
    let config = RespConfig { connections_max: 2, ..RespConfig::default() };
    served(&config, None, async |addr, _| {
        let hold = async || {
            let mut stream = TcpStream::connect(addr).await.expect("somebody listens");
            stream.write_all(b"PING\r\n").await.expect("it is taken");
            let mut pong = [0; 7];
            stream.read_exact(&mut pong).await.expect("it is answered");
            stream
        };
        let (first, _second) = (hold().await, hold().await);
        let third = TcpStream::connect(addr).await.expect("the system takes it");
        assert_eq!(rest(third).await, "-ERR max number of clients reached\r\n");
        drop(first);
        // The node notices the end on its own time.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(exchange(addr, b"PING\r\n").await, "+PONG\r\n");
    });
}

#[test]
fn off_loopback_it_does_not_open_without_a_token() {
    let (limits, replication) = (Limits::default(), ReplicationConfig::default());
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let open = |token| {
        let config = RespConfig::default();
        serve(&config, everywhere, token, &limits, &replication, &[], &Fake::default()).map(drop)
    };
    assert!(matches!(open(None), Err(RespError::NoToken { addr }) if addr == everywhere));
    assert!(open(Some(TOKEN)).is_ok());
}

#[test]
fn what_was_set_is_what_other_interfaces_read() {
    served(&RespConfig::default(), None, async |addr, fake| {
        exchange(addr, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\xff\r\n\0\r\n").await;
        let get = comet_runtime::dht::Get {
            key: Key::of("a"),
            payload: None,
            read: comet_runtime::dht::Read::First,
            deadline: None,
        };
        let report = fake.get(get).await.expect("it is there");
        assert_eq!(report.answers[0].value, comet_runtime::Value::str(b"\xff\r\n\0"));
    });
}
