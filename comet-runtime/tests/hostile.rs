//! Scripts that attack the sandbox, one file each in `hostile/`.
//!
//! The first line of a script says what must come of it: `-- expect: ` and the code of the failure, `refused`,
//! `bad_code`, `ok`, or `true` where the handler itself judges the defence and returns true if it holds;
//! `a or b` where garbage may be collected in time or not, or the clock may be faster than the steps. A line `-- turns: N` runs the handler up to N times, until it fails. Each script runs in a child process,
//! beside a neighbour in the same VM, and is killed after ten seconds. Only steps count, so that the verdict is
//! the same on every machine. With `COMET_HOSTILE_CLOCK=1`, which `.ci/run` sets for a release build, time counts
//! too, and every turn has to end within its budget and 5 ms of the processor's time.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    rc::Rc,
    sync::mpsc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    ActivationError, Backstop, Blueprint, Caller, Event, Failure, Limits, Moment, Object, Origin, Outcome,
    Progress, Reach, Report, Trail, Value, VmPool,
};
use comet_store::Code;

/// Names the script that a child process runs.
const CHILD_SCRIPT: &str = "COMET_HOSTILE_SCRIPT";
const CHILD_TIME_MAX: Duration = Duration::from_secs(10);
/// Set where the clock counts.
const CLOCK: &str = "COMET_HOSTILE_CLOCK";
/// What a turn may allocate in a child process, in bytes; without it the default.
const TURN_ALLOC: &str = "COMET_HOSTILE_TURN_ALLOC";
/// How long a turn may go on after its time is up, where the clock counts.
const LATE_MAX: Duration = Duration::from_millis(5);
/// Runs of a script against the clock, of which the fastest counts: the machine may be busy.
const RUNS: usize = 3;
/// What a VM may hold beyond what its objects held before the script and what one turn may allocate.
const MEMORY_MARGIN_BYTES: usize = 2 * 1024 * 1024;

const NEIGHBOUR: &str = "neighbour_secret = 'secret'
    neighbour_table = { 1 }
    aso.hits = 0
    function aso:onGet()
      hits = (hits or 0) + 1
      self.hits = self.hits + 1
      return { self.value, self.hits, hits, string.rep('x', 3), (string.find('abc', 'b')), table.concat({ 1, 2 }) }
    end";

#[test]
fn every_hostile_script_meets_its_fate() {
    let mut wrong = Vec::new();
    for script in scripts() {
        let name = script.file_stem().expect("a script has a name").to_string_lossy().into_owned();
        match run_in_child(&script, None) {
            Ok(report) => println!("{name}: {}", report.trim()),
            Err(problem) => wrong.push(format!("{name}: {problem}")),
        }
    }
    assert!(wrong.is_empty(), "{} scripts:\n{}", wrong.len(), wrong.join("\n"));
}

/// The control: a script that does what it should not is noticed.
#[test]
fn a_script_that_escapes_its_expectation_is_reported() {
    let harmless = "-- expect: handler_steps\nfunction aso:onGet() return 1 end";
    let judge = |script| judge(script, Limits::default(), Backstop::StepsOnly);
    assert_eq!(judge(harmless).unwrap_err(), "expected handler_steps, found ok");
    let talkative = "-- expect: ok\nfunction aso:onGet() return '0x7f0011223344' end";
    assert_eq!(judge(talkative).unwrap_err(), "an address got out: \"0x7f0011223344\"");
}

/// The control of the limits: with one of them out of the way the same script takes what it wants.
#[test]
fn without_its_limit_an_attack_succeeds() {
    let unlimited = Limits {
        steps: u64::MAX,
        memory_bytes: usize::MAX / 4,
        turn_alloc_bytes: usize::MAX / 4,
        messages: u32::MAX,
        waits: usize::MAX,
        value_bytes: usize::MAX / 4,
        ..Limits::default()
    };
    let normal = Limits::default();
    let cases = [
        (
            "for i = 1, 1000000 do end return 1",
            Limits { steps: normal.steps, ..unlimited.clone() },
            "handler_steps",
        ),
        (
            "local s = string.rep('a', 60000) for i = 1, 100 do string.find(s, ('[bcdefghijkl]'):rep(4) .. 'a') end return 1",
            Limits { steps: normal.steps, ..unlimited.clone() },
            "handler_steps",
        ),
        (
            "local t = {} for i = 1, 1000000 do t[i] = i end return #t",
            Limits { turn_alloc_bytes: normal.turn_alloc_bytes, ..unlimited.clone() },
            "handler_memory",
        ),
        (
            "kept = {} for i = 1, 100 do kept[i] = string.rep('x', 10000) .. i end return 1",
            Limits { memory_bytes: normal.memory_bytes, ..unlimited.clone() },
            "handler_memory",
        ),
        (
            "self.kept = string.rep('x', 100000) return 1",
            Limits { value_bytes: normal.value_bytes, ..unlimited.clone() },
            "handler_bad_state",
        ),
    ];
    for (body, limits, verdict) in cases {
        let script = |expected| format!("-- expect: {expected}\nfunction aso:onGet() {body} end");
        judge(&script(verdict), limits, Backstop::StepsOnly).expect("the limit holds");
        let escaped = judge(&script(verdict), unlimited.clone(), Backstop::StepsOnly);
        assert_eq!(escaped.unwrap_err(), format!("expected {verdict}, found ok"), "{body}");
    }
}

/// Time is up at once, so whoever looks at the clock ends the turn. In a straight stretch Luau itself does not.
#[test]
fn the_clock_is_read_within_a_straight_stretch() {
    let hurried = Limits { turn_ms: 0, ..Limits::default() };
    let stretch = |instructions: usize| {
        let code = "x = x + 1 ".repeat(instructions);
        format!("-- expect: handler_time\nlocal x = 0\nfunction aso:onGet() {code} end")
    };
    let end = |script: &str| {
        let pool = VmPool::new(Rc::new(hurried.clone()), Backstop::WallClock);
        let plan = blueprint("straight", script);
        pool.activate(&plan, moment()).map(|mut object| {
            let event = Event::Get { caller: caller(), payload: None };
            object.begin(1, &event, Trail::FRESH, moment()).end.map(drop)
        })
    };
    // The script as a whole is a stretch, too, so it does not even become an object.
    assert!(matches!(end(&stretch(1_000)), Err(ActivationError::BadCode(text)) if text.contains("0 ms")));
    // The control: a stretch that is too short to be watched runs to its end.
    assert_eq!(end(&stretch(5)).ok(), Some(Ok(())));
}

/// Keys that fall into one place of a table make it slow to build, which the host does before the first step.
#[test]
fn a_large_map_is_built_against_the_clock() {
    let hurried = Limits { turn_ms: 0, ..Limits::default() };
    let end = |entries: i64| {
        let pool = VmPool::new(Rc::new(hurried.clone()), Backstop::WallClock);
        let plan = blueprint("map", "function aso:onGet() return 1 end");
        let mut object = pool.activate(&plan, moment()).expect("it activates");
        let map = (0..entries).map(|n| (Value::Int(n * 1_000), Value::Bool(true))).collect();
        let event = Event::Get { caller: caller(), payload: Some(Value::Map(map)) };
        object.begin(1, &event, Trail::FRESH, moment()).end.map(drop)
    };
    assert_eq!(end(1_000), Err(Failure::Time { limit_ms: 0 }));
    // The control: a map that is too small to be slow is not looked at.
    assert_eq!(end(50), Ok(()));
}

/// No recursion reaches the end of the process's stack before that of the turn's memory.
#[test]
fn recursion_ends_at_every_memory_limit() {
    let mut wrong = Vec::new();
    for script in scripts() {
        let name = script.file_stem().expect("a script has a name").to_string_lossy().into_owned();
        if !name.contains("recursion") {
            continue;
        }
        for turn_alloc in [512, 1024, 2048, 4096].map(|kilobytes| kilobytes * 1024) {
            if let Err(problem) = run_in_child(&script, Some(turn_alloc)) {
                wrong.push(format!("{name} with {turn_alloc} bytes: {problem}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs one script; does nothing unless a parent process names it.
#[test]
fn one_hostile_script() {
    let Ok(script) = std::env::var(CHILD_SCRIPT) else { return };
    let script = fs::read_to_string(script).expect("the script can be read");
    let mut limits = Limits::default();
    if let Ok(bytes) = std::env::var(TURN_ALLOC) {
        limits.turn_alloc_bytes = bytes.parse().expect("a number of bytes");
    }
    let verdict = match std::env::var(CLOCK) {
        Err(_) => judge(&script, limits, Backstop::StepsOnly),
        Ok(_) => {
            let mut runs = (0..RUNS).map(|_| judge(&script, limits.clone(), Backstop::WallClock));
            runs.find(Result::is_ok).unwrap_or_else(|| judge(&script, limits.clone(), Backstop::WallClock))
        }
    };
    match verdict {
        Ok(report) => println!("HELD {report}"),
        Err(problem) => println!("BROKEN {problem}"),
    }
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut scripts: Vec<_> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    scripts.sort();
    scripts
}

fn run_in_child(script: &Path, turn_alloc_bytes: Option<usize>) -> Result<String, String> {
    let mut command = Command::new(std::env::current_exe().expect("this test has a binary"));
    if let Some(bytes) = turn_alloc_bytes {
        command.env(TURN_ALLOC, bytes.to_string());
    }
    let mut child = command
        .args(["--exact", "one_hostile_script", "--nocapture"])
        .env(CHILD_SCRIPT, script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child process starts");
    let mut stdout = child.stdout.take().expect("its output is piped");
    let (done, output) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).ok();
        done.send(text).ok();
    });
    let text = output.recv_timeout(CHILD_TIME_MAX);
    if text.is_err() {
        child.kill().expect("it can be killed");
    }
    let output = child.wait_with_output().expect("it ends");
    reader.join().expect("the reader ends with the child");
    let text = text.map_err(|_| "killed after ten seconds".to_owned())?;
    let line =
        |mark: &str| text.lines().find_map(|line| line.split_once(mark).map(|(_, rest)| rest.to_owned()));
    match (line("HELD "), line("BROKEN ")) {
        (Some(report), None) => Ok(report),
        (_, Some(problem)) => Err(problem),
        (None, None) => Err(format!("died: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn header<'a>(script: &'a str, mark: &str) -> Option<&'a str> {
    script.lines().find_map(|line| line.strip_prefix("-- ")?.strip_prefix(mark)).map(str::trim)
}

/// Runs the script, and says what it came to or what did not hold.
fn judge(script: &str, limits: Limits, backstop: Backstop) -> Result<String, String> {
    let clocked = matches!(backstop, Backstop::WallClock);
    let expected = header(script, "expect:").ok_or("the script does not say what to expect")?;
    let turns = header(script, "turns:").map_or(1, |turns| turns.parse().expect("a number of turns"));
    let limits = Rc::new(limits);
    let pool = VmPool::new(limits.clone(), backstop);
    let mut neighbour =
        pool.activate(&blueprint("neighbour", NEIGHBOUR), moment()).expect("the neighbour activates");
    assert_eq!(ask_neighbour(&mut neighbour), neighbours_answer(1), "before");
    let (bytes_before, resident_before) = (pool.bytes(), resident_bytes());

    let mut plan = blueprint("hostile", script);
    let begun = processor_time();
    let activated = pool.activate(&plan, moment());
    let mut longest = processor_time() - begun;
    let mut said = Vec::new();
    let (found, state) = match activated {
        Err(ActivationError::BadCode(text)) => {
            said.push(text);
            ("bad_code".to_owned(), Bytes::new())
        }
        Err(error) => return Err(format!("it does not activate: {error}")),
        Ok(mut object) => {
            let found = run(&mut object, turns, &mut longest, &mut said)?;
            (found, object.state().clone())
        }
    };
    for text in &said {
        tame(text)?;
    }
    let ran_out = clocked && found == "handler_time";
    if !ran_out && !expected.split(" or ").any(|expected| found == expected) {
        return Err(match said.last() {
            Some(text) => format!("expected {expected}, found {found}: {text}"),
            None => format!("expected {expected}, found {found}"),
        });
    }
    let grown = pool.bytes().saturating_sub(bytes_before);
    if grown > limits.turn_alloc_bytes + MEMORY_MARGIN_BYTES {
        return Err(format!("the VM grew by {grown} bytes"));
    }
    let resident = resident_bytes().saturating_sub(resident_before);
    if resident > limits.turn_alloc_bytes + limits.memory_bytes + MEMORY_MARGIN_BYTES {
        return Err(format!("the process grew by {resident} bytes"));
    }
    let late = longest.saturating_sub(Duration::from_millis(limits.turn_ms));
    if clocked && late > LATE_MAX {
        return Err(format!("{found} {:.1} ms late", late.as_secs_f64() * 1e3));
    }
    let answer = ask_neighbour(&mut neighbour);
    if answer != neighbours_answer(2) {
        return Err(format!("the neighbour answers {answer:?}"));
    }
    plan.state = state;
    if found != "bad_code" {
        pool.activate(&plan, moment()).map_err(|error| format!("it does not come back: {error}"))?;
    }
    let milliseconds = longest.as_secs_f64() * 1e3;
    let said = said.last().map_or("", String::as_str);
    let (grown, resident) = (grown / 1024, resident / 1024);
    Ok(format!(
        "{found}, longest turn {milliseconds:.1} ms, VM +{grown} KB, process +{resident} KB, {said:.80}"
    ))
}

/// Runs turns until one does not end well, and names the last one's end.
fn run(
    object: &mut Object,
    turns: usize,
    longest: &mut Duration,
    said: &mut Vec<String>,
) -> Result<String, String> {
    let mut found = String::new();
    for turn in 0..turns {
        let before = object.state().clone();
        let event = match object.has("onPut") {
            true => Event::Put { caller: caller() },
            false => Event::Get { caller: caller(), payload: None },
        };
        let begun = processor_time();
        let report = object.begin(turn as u64, &event, Trail::FRESH, moment());
        *longest = (processor_time() - begun).max(*longest);
        said.extend(report.log.iter().cloned());
        found = name(&report, said);
        if report.end.is_err() {
            if *object.state() != before || !report.requests.is_empty() || report.delete_self {
                return Err(format!("{found}, but the failed turn left something behind: {report:?}"));
            }
            break;
        }
    }
    Ok(found)
}

fn name(report: &Report, said: &mut Vec<String>) -> String {
    match &report.end {
        Err(failure) => {
            if let Failure::Error(text) | Failure::BadReply(text) | Failure::BadState(text) = failure {
                said.push(text.clone());
            }
            failure.code().to_owned()
        }
        Ok(Progress::Done(Outcome::Reply(bytes))) => {
            match Value::decode(bytes, Limits::default().reply_bounds()) {
                Ok(Value::Bool(true)) => "true".into(),
                Ok(value) => {
                    if let Value::Str(_) = value {
                        said.push(value.as_text().unwrap_or("not text").chars().take(256).collect());
                    }
                    "ok".into()
                }
                Err(error) => format!("a reply that cannot be read: {error}"),
            }
        }
        Ok(Progress::Done(Outcome::Refuse(text))) => {
            said.push(text.clone());
            "refused".into()
        }
        Ok(other) => format!("{other:?}"),
    }
}

/// Holds what left the sandbox as text against what may leave it.
fn tame(text: &str) -> Result<(), String> {
    if text.len() > Limits::default().log_line_bytes {
        return Err(format!("a text of {} bytes got out: {:.80}…", text.len(), text));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("a control character got out: {text:?}"));
    }
    let digits =
        text.split("0x").skip(1).map(|rest| rest.chars().take_while(char::is_ascii_hexdigit).count());
    if digits.max().is_some_and(|digits| digits >= 6) {
        return Err(format!("an address got out: {text:?}"));
    }
    if text.contains("comet:") || text.contains(".rs") || text.contains("stack traceback") {
        return Err(format!("the node's own code got out: {text:?}"));
    }
    Ok(())
}

fn ask_neighbour(neighbour: &mut Object) -> Result<Value, Failure> {
    let event = Event::Get { caller: caller(), payload: None };
    match neighbour.begin(1, &event, Trail::FRESH, moment()).end? {
        Progress::Done(Outcome::Reply(bytes)) => {
            Ok(Value::decode(&bytes, Limits::default().reply_bounds()).expect("a value"))
        }
        other => panic!("no reply: {other:?}"),
    }
}

fn neighbours_answer(hits: i64) -> Result<Value, Failure> {
    let items = ["value".into(), hits.into(), hits.into(), "xxx".into(), 2_i64.into(), "12".into()];
    Ok(Value::List(items.into()))
}

fn blueprint(name: &str, code: &str) -> Blueprint {
    Blueprint {
        key: Key::of(name),
        code: Code::new(code),
        data: Value::from("value").encode(),
        state: Bytes::new(),
        reach: Reach::Strict,
    }
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller() -> Caller {
    Caller { node: node(1), callback: Some(Key::of("inbox")), owner: Some([7; 32]), origin: Origin::Client }
}

fn moment() -> Moment {
    Moment { now: 1_767_225_600_000, local: node(9), seed: 7 }
}

/// Time that this thread has had of a processor; whatever else the machine does does not count.
fn processor_time() -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0))
}

/// Memory that this process holds of its own, in bytes.
fn resident_bytes() -> usize {
    let told = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}
