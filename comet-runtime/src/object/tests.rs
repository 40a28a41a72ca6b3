//! Objects in a VM, without an actor around them.

mod callers;
mod series;

use super::*;
use crate::{Backstop, CallerAddresses, Op, OpOutcome, Origin, codec::tests::any_value};
use comet_routing::NodeId;
use proptest::prelude::*;

fn node(n: u8) -> Contact {
    Contact::new(NodeId::from_bytes([n; 32]), ([192, 0, 2, n], 7400).into())
}

fn caller(n: u8) -> Caller {
    Caller { node: node(n), callback: None, owner: None, origin: Origin::Client }
}

fn moment() -> Moment {
    Moment { now: 1_000_000, local: node(9), seed: 7 }
}

fn vm() -> Rc<Vm> {
    showing(CallerAddresses::default())
}

fn showing(addresses: CallerAddresses) -> Rc<Vm> {
    Vm::new(Rc::new(Limits::default()), Backstop::WallClock, addresses).expect("a VM")
}

fn blueprint(code: &str, value: &Value) -> Blueprint {
    Blueprint {
        key: Key::of("test"),
        code: Code::new(code),
        data: value.encode(),
        state: Bytes::new(),
        reach: Reach::Strict,
    }
}

fn get(object: &mut Object) -> Result<Value, Failure> {
    let event = Event::Get { caller: caller(1), payload: None };
    match object.begin(1, &event, Trail::FRESH, moment()).end? {
        Progress::Done(Outcome::Reply(bytes)) => {
            Ok(Value::decode(&bytes, Limits::default().reply_bounds()).expect("a value"))
        }
        other => panic!("not a reply: {other:?}"),
    }
}

const COUNTER: &str = "aso.gets = 0\nfunction aso:onGet(caller)\n  self.gets = self.gets + 1\n  return { self.value, self.gets }\nend";

#[test]
fn a_counting_object_counts_and_comes_back_as_it_was() {
    let vm = vm();
    let mut plan = blueprint(COUNTER, &"hello".into());
    let mut object = Object::activate(&vm, &plan, moment()).expect("it activates");
    assert_eq!(get(&mut object), Ok(vec!["hello".into(), Value::Int(1)].into()));
    assert_eq!(get(&mut object), Ok(vec!["hello".into(), Value::Int(2)].into()));
    plan.state = object.state().clone();
    drop(object);
    let mut object = Object::activate(&vm, &plan, moment()).expect("it activates again");
    assert_eq!(get(&mut object), Ok(vec!["hello".into(), Value::Int(3)].into()));
}

#[test]
fn two_objects_of_one_vm_do_not_see_each_other() {
    let vm = vm();
    let writer = "for i = 1, 1000 do _ENV_probe = i end leak = 'secret' function aso:onGet() leak = 'x' return leak end";
    let reader = "function aso:onGet() return { leak == nil, _ENV_probe == nil } end";
    let mut a = Object::activate(&vm, &blueprint(writer, &Value::Nil), moment()).expect("a");
    let mut b = Object::activate(&vm, &blueprint(reader, &Value::Nil), moment()).expect("b");
    assert_eq!(get(&mut a), Ok("x".into()));
    assert_eq!(get(&mut b), Ok(vec![true.into(), true.into()].into()));
}

/// Bytes of values that an object sends which anybody asks so often within an hour, a get of a few bytes each, and which
/// would answer each with a put of 16 KB at a stranger.
fn sent_bytes(limits: Limits, gets: u64) -> usize {
    let code =
        "function aso:onGet() put(string.rep('ab', 32), string.rep('x', 16000), 1, function() end) end";
    let vm = Vm::new(Rc::new(limits), Backstop::StepsOnly, CallerAddresses::default()).expect("a VM");
    let plan = Blueprint { reach: Reach::Open, ..blueprint(code, &Value::Nil) };
    let mut object = Object::activate(&vm, &plan, moment()).expect("it activates");
    let mut sent = 0;
    for n in 0..gets {
        let moment = Moment { now: 1_000_000 + n * 3_600_000 / gets, ..moment() };
        let event = Event::Get { caller: caller(n as u8), payload: None };
        let report = object.begin(n, &event, Trail::FRESH, moment);
        for request in report.requests {
            assert!(object.resume(request.wait, Ok(OpOutcome::Nodes(vec![])), moment).is_some());
            let Op::Put { data, .. } = request.op else { panic!("it only puts") };
            sent += data.encode().len();
        }
    }
    sent
}

#[test]
fn what_an_object_sends_is_bounded_by_time_and_not_by_who_asks_it_how_often() {
    let limits = Limits::default();
    let intervals = 3_600 / limits.timer_seconds as usize;
    let most = limits.message_bytes as usize * (1 + intervals);
    let (some, many) = (sent_bytes(limits.clone(), 200), sent_bytes(limits.clone(), 5_000));
    assert!(some >= most / 2 && some <= most, "{some} of {most}");
    assert!(many <= most, "{many} of {most}");
    let free = Limits { messages: u32::MAX, message_bytes: u32::MAX, ..limits };
    assert!(sent_bytes(free, 200) >= 200 * 16_000, "the control: without its allowance it answers every get");
}

proptest! {
    #[test]
    fn every_value_survives_lua_and_a_restore(value in any_value()) {
        let code = "function aso:onGet() if not self.kept then self.kept = { self.value } end return self.kept[1] end";
        let vm = vm();
        let mut plan = blueprint(code, &value);
        let mut object = Object::activate(&vm, &plan, moment()).expect("it activates");
        let seen = get(&mut object);
        plan.state = object.state().clone();
        let mut again = Object::activate(&vm, &plan, moment()).expect("it activates again");
        prop_assert_eq!(&get(&mut again), &seen);
    }
}
