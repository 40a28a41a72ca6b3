//! Objects in a VM, without an actor around them.

use super::*;
use crate::{Backstop, Origin, codec::tests::any_value};
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
    Vm::new(Rc::new(Limits::default()), Backstop::WallClock).expect("a VM")
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
