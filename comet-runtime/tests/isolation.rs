//! Objects that share a VM neither see nor pay for each other, and absurd calls of the host's functions end in
//! errors.

use std::rc::Rc;

use bytes::Bytes;
use comet_routing::{Contact, Key, NodeId};
use comet_runtime::{
    ActivationError, Backstop, Blueprint, Caller, Event, Failure, Limits, Moment, Object, OpOutcome, Origin,
    Outcome, Progress, Reach, Report, Trail, Value, VmPool,
};
use comet_store::Code;
use proptest::{prelude::*, sample::select};

fn pool() -> VmPool {
    VmPool::new(Rc::default(), Backstop::StepsOnly)
}

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller(callback: Option<Key>) -> Caller {
    Caller { node: node(1), callback, owner: callback.map(|_| [7; 32]), origin: Origin::Client }
}

fn moment() -> Moment {
    Moment { now: 1_767_225_600_000, local: node(9), seed: 7 }
}

fn blueprint(code: &str) -> Blueprint {
    let (code, data) = (Code::new(code), Value::Nil.encode());
    Blueprint { key: Key::of("test"), code, data, state: Bytes::new(), reach: Reach::Strict }
}

fn activate(pool: &VmPool, code: &str) -> Object {
    pool.activate(&blueprint(code), moment()).expect("it activates")
}

fn begin(object: &mut Object, payload: Option<Value>) -> Report {
    object.begin(1, &Event::Get { caller: caller(None), payload }, Trail::FRESH, moment())
}

fn reply(report: Report) -> Result<Value, Failure> {
    match report.end? {
        Progress::Done(Outcome::Reply(bytes)) => {
            Ok(Value::decode(&bytes, Limits::default().reply_bounds()).expect("a value"))
        }
        other => panic!("no reply: {other:?}"),
    }
}

#[test]
fn a_kept_node_does_not_tell_what_it_brought_to_another_object() {
    let pool = pool();
    let mut spy = activate(
        &pool,
        "function aso:onGet(caller) self.known = caller return self.known.key == nil end
        function aso:onTimer() self.stolen = { self.known.key or '', self.known.owner or '' } end",
    );
    let mut trusted = activate(&pool, "function aso:onGet(caller) return { caller.key, caller.owner } end");
    assert_eq!(reply(begin(&mut spy, None)), Ok(true.into()));
    let contact = Event::Get { caller: caller(Some(Key::of("inbox"))), payload: None };
    let told = reply(trusted.begin(1, &contact, Trail::FRESH, moment()));
    let key = Key::of("inbox").to_string();
    assert_eq!(told, Ok(Value::List(vec![key.as_str().into(), "07".repeat(32).as_str().into()])));
    spy.begin(2, &Event::Timer, Trail::FRESH, moment());
    let shown = activate(&pool, "function aso:onGet() return 1 end");
    drop(shown);
    let state = String::from_utf8_lossy(spy.state()).into_owned();
    assert!(state.contains("stolen") && !state.contains(&key[..8]), "{state}");
}

#[test]
fn a_deep_stack_is_not_charged_to_a_neighbour() {
    let pool = pool();
    let mut first = activate(&pool, "function aso:onGet() return 1 end");
    let deep = "local function down(n) if n == 0 then return 0 end return 1 + down(n - 1) end
        function aso:onGet() return down(5000) end";
    let mut deep = activate(&pool, deep);
    for _ in 0..20 {
        assert_eq!(reply(begin(&mut first, None)), Ok(Value::Int(1)));
        assert!(first.live_bytes() < 16 * 1024, "{}", first.live_bytes());
        assert_eq!(reply(begin(&mut deep, None)), Ok(Value::Int(5000)));
    }
}

#[test]
fn a_stack_that_waits_counts() {
    let pool = pool();
    let code = "local function down(n)
          if n == 0 then return get(getASOKey()) end
          return down(n - 1)[1]
        end
        function aso:onGet(caller, callback, depth) return down(depth) end";
    let mut object = activate(&pool, code);
    assert!(matches!(begin(&mut object, Some(Value::Int(10))).end, Ok(Progress::Waiting)));
    assert!(object.live_bytes() < 32 * 1024);
    let ends: Vec<_> = (0..12).map(|_| begin(&mut object, Some(Value::Int(1000))).end).collect();
    assert!(matches!(ends.last(), Some(Err(Failure::Memory { .. }))), "{ends:?}");
}

#[test]
fn what_departed_objects_leave_behind_makes_room_for_others() {
    let pool = pool();
    // Equal strings are one string to Luau, so each object hoards its own.
    let code = "local hoard = {}
        for i = 1, 10 do hoard[i] = string.rep('x', 5000) .. aso.value .. i end
        function aso:onGet() return #hoard end";
    let activate = |n: i64| {
        let plan = Blueprint { data: Value::Int(n).encode(), ..blueprint(code) };
        pool.activate(&plan, moment()).expect("it activates")
    };
    let mut residents = Vec::new();
    for round in 0..20 {
        let mut objects: Vec<_> = (0..150).map(|n| activate(round * 150 + n)).collect();
        residents.extend(objects.pop());
    }
    // At most 170 objects of 50 KB live at a time; three thousand have lived.
    assert!(pool.bytes() < 24 * 1024 * 1024, "{}", pool.bytes());
}

#[test]
fn a_callback_that_raises_ends_the_turn_and_its_changes() {
    let pool = pool();
    let code = "aso.n = 0
        function aso:onGet()
          get(getASOKey(), nil, nil, function(self, value) self.n = 99 error('in the callback') end)
          self.n = self.n + 1
          return self.n
        end";
    let mut object = activate(&pool, code);
    let report = begin(&mut object, None);
    let wait = report.requests[0].wait;
    assert_eq!(reply(report), Ok(Value::Int(1)));
    let before = object.state().clone();
    let report = object.resume(wait, Ok(OpOutcome::Value(Value::Nil)), moment()).expect("it waits");
    assert_eq!(report.end, Err(Failure::Error("script:3: in the callback".into())));
    assert_eq!((report.state, object.state()), (None, &before));
}

/// Values that no function expects, as Lua writes them.
const ABSURD: [&str; 24] = [
    "nil",
    "true",
    "0/0",
    "2^53",
    "2^63",
    "-0",
    "-1",
    "1e308",
    "0.5",
    "1",
    "''",
    "'x'",
    "huge",
    "'\\255\\0'",
    "{}",
    "cyclic",
    "deep",
    "nested",
    "aso",
    "caller",
    "f",
    "getASOKey()",
    "{ caller, 5 }",
    "setmetatable({}, { __index = f })",
];

fn call() -> impl Strategy<Value = String> {
    let function = select(vec![
        "get",
        "put",
        "lookup",
        "key",
        "sha256",
        "verify",
        "log",
        "deleteSelf",
        "getSystemTime",
        "dht.get",
    ]);
    let many = select(vec!["", "", "", "unpack(many)", "unpack(tables)"]);
    (function, prop::collection::vec(select(ABSURD.to_vec()), 0..6), many).prop_map(
        |(function, args, many)| {
            let args: Vec<_> = args.into_iter().chain((!many.is_empty()).then_some(many)).collect();
            [&[function], args.as_slice()].concat().join(", ")
        },
    )
}

/// The control is the neighbour itself, which reads all that it wrote.
#[test]
fn none_of_a_thousand_globals_is_seen_by_another_object() {
    let pool = pool();
    let writes: Vec<_> = (0..1_000).map(|n| format!("g{n}=1")).collect();
    let reads = "function aso:onGet()
        local seen = 0
        for n = 0, 999 do if read(n) then seen += 1 end end
        return seen
      end";
    let names: Vec<_> = (0..1_000).map(|n| format!("g{n}")).collect();
    // The names are read as globals: by number in a list that is made when it is asked for.
    let read = |from: usize| format!("function() return {{ {} }} end", names[from..from + 250].join(","));
    let lists: Vec<_> = (0..4).map(|part| read(part * 250)).collect();
    let read = format!(
        "local lists = {{ {} }} local function read(n) return lists[n // 250 + 1]()[n % 250 + 1] end",
        lists.join(",")
    );
    let writer = format!("{} {read} {reads}", writes.join(" "));
    let mut writer = activate(&pool, &writer);
    let mut reader = activate(&pool, &format!("{read} {reads}"));
    assert_eq!(reply(begin(&mut reader, None)), Ok(Value::Int(0)));
    assert_eq!(reply(begin(&mut writer, None)), Ok(Value::Int(1_000)));
}

/// A finer clock would tell an object how long another one's turns take.
#[test]
fn time_is_told_in_whole_seconds() {
    let pool = pool();
    let mut object = activate(&pool, "function aso:onGet() return getSystemTime() end");
    let mut told = |now| {
        let event = Event::Get { caller: caller(None), payload: None };
        reply(object.begin(1, &event, Trail::FRESH, Moment { now, ..moment() }))
    };
    assert_eq!(told(1_767_225_600_000), Ok(Value::Int(1_767_225_600)));
    assert_eq!(told(1_767_225_600_999), Ok(Value::Int(1_767_225_600)));
    assert_eq!(told(1_767_225_601_000), Ok(Value::Int(1_767_225_601)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn absurd_arguments_end_in_errors_that_a_script_can_read(calls in prop::collection::vec(call(), 1..8)) {
        let calls: Vec<_> = calls.iter().map(|call| format!("check(pcall({call}))")).collect();
        let code = format!("
            local function f() end
            local huge, cyclic, deep, nested = string.rep('x', 100000), {{}}, {{}}, {{}}
            cyclic[1] = cyclic
            local t = deep for i = 1, 50 do t[1] = {{}} t = t[1] end
            for i = 1, 10 do nested = {{ nested, nested }} end
            local function check(ok, problem)
              local kind = type(problem)
              if not ok and kind ~= 'string' then error('a caught ' .. kind) end
            end
            function aso:onGet(caller)
              local many, tables = table.create(3000, 'x'), table.create(3000, {{}})
              {}
              return true
            end", calls.join("\n"));
        let pool = pool();
        let mut object = activate(&pool, &code);
        let report = begin(&mut object, None);
        prop_assert!(report.requests.len() <= 16);
        match report.end {
            Ok(Progress::Waiting) => {
                let wait = report.requests.last().expect("it waits for something").wait;
                let end = object.resume(wait, Ok(OpOutcome::Nodes(vec![node(3)])), moment()).expect("it waits").end;
                prop_assert!(matches!(end, Ok(_) | Err(Failure::Steps { .. } | Failure::Memory { .. })), "{:?}", end);
            }
            Ok(Progress::Done(_)) | Err(Failure::Steps { .. } | Failure::Memory { .. }) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn bytecode_and_rubbish_are_no_source(version in 0u8..16, rest in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
        let code = format!("{}{rest}", char::from(version.min(8)));
        let activated = pool().activate(&blueprint(&code), moment());
        prop_assert!(matches!(activated, Err(ActivationError::BadCode(_))));
    }
}
