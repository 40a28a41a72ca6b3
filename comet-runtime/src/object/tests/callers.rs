//! What an object learns of those who call it, and whom it can answer.

use super::*;
use crate::{Nodes, Request, as_sent};

/// The reader's IP address, of which handlers must not learn the last part.
const READER: [u8; 4] = [203, 0, 113, 7];

/// Tells all that it can find out about its caller in every way there is: its log, its state, also as a key, its reply
/// and what it sends. Keeps the caller for a later answer.
const GOSSIP: &str = "aso.known = {}
function aso:onGet(caller, callbackKey)
  local all = { caller, tostring(caller), caller.ip, caller.port, caller.getIP(), caller.getPort(), caller.id }
  for name, field in pairs(caller) do table.insert(all, name .. '=' .. tostring(field)) end
  for _, field in { next(caller) } do table.insert(all, field) end
  table.insert(all, select(2, pcall(error, caller.ip)))
  table.insert(all, rawget(caller, 'ip'))
  self.kept, self.key, self.known[caller] = caller, callbackKey, all
  log(caller, caller.ip, caller.port)
  put(callbackKey, all, { caller }, function(self, accepted)
    self.accepted = accepted
    log(accepted[1].ip, accepted[1].port, accepted[1] == self.kept)
  end)
  return all
end
function aso:onTimer()
  put(self.key, 'news', { self.kept }, function() end)
end";

fn reader() -> Contact {
    Contact::new(NodeId::from_bytes([1; 32]), (READER, 7400).into())
}

fn called(callback: &str) -> Event {
    let callback = Some(Key::of(callback));
    let caller = Caller { node: reader(), callback, owner: None, origin: Origin::Client };
    Event::Get { caller, payload: None }
}

/// All that leaves the object in this turn, or stays in its fields.
fn told(object: &Object, report: &Report) -> Vec<Bytes> {
    let mut told: Vec<_> = report.log.iter().map(|line| Bytes::from(line.clone())).collect();
    if let Ok(Progress::Done(Outcome::Reply(reply))) = &report.end {
        told.push(reply.clone());
    }
    for Request { op, .. } in &report.requests {
        let Op::Put { data, .. } = op else { panic!("it only puts") };
        told.push(data.encode());
    }
    told.push(as_sent(object.state()));
    told
}

/// True if the reader's address stands there, as text or as bytes.
fn names_the_reader(told: &Bytes) -> bool {
    told.windows(11).any(|text| text == b"203.0.113.7") || told.windows(4).any(|bytes| bytes == READER)
}

fn named(request: &Request) -> &[Contact] {
    match &request.op {
        Op::Put { nodes: Nodes::These(nodes), .. } => nodes,
        other => panic!("no put to a node: {other:?}"),
    }
}

/// Lets the reader read once, and answers the put that it sets off. Returns the object and what it told in each turn.
fn read_and_answered(vm: &Rc<Vm>) -> (Object, Vec<Bytes>) {
    let plan = blueprint(GOSSIP, &Value::Nil);
    let mut object = Object::activate(vm, &plan, moment()).expect("it activates");
    let report = object.begin(1, &called("inbox"), Trail::FRESH, moment());
    assert!(report.end.is_ok(), "{report:?}");
    assert_eq!(named(&report.requests[0]), [reader()], "the answer goes to where the reader is");
    let mut said = told(&object, &report);
    let accepted = Ok(OpOutcome::Nodes(vec![reader()]));
    let report = object.resume(report.requests[0].wait, accepted, moment()).expect("it waits");
    assert!(report.log[0].ends_with("true"), "who accepted is who asked: {:?}", report.log);
    said.extend(told(&object, &report));
    (object, said)
}

#[test]
fn what_an_object_can_tell_has_no_more_of_its_readers_address_than_it_is_shown() {
    for addresses in [CallerAddresses::Prefix, CallerAddresses::Hidden] {
        let (_, told) = read_and_answered(&showing(addresses));
        assert_eq!(told.len(), 6, "two lines, a reply, a message, a state twice");
        assert!(!told.iter().any(names_the_reader), "{addresses:?}: {told:?}");
        let network = told[0].windows(13).any(|text| text == b"203.0.113.0 0");
        assert_eq!(network, addresses == CallerAddresses::Prefix, "{told:?}");
    }
    let (_, told) = read_and_answered(&showing(CallerAddresses::Full));
    assert!(told.iter().all(names_the_reader), "the control: where all is shown, all of it tells: {told:?}");
}

#[test]
fn a_kept_caller_is_answered_at_its_address_when_the_object_is_back_in_memory() {
    let code = "function aso:onGet(caller, callbackKey) self.kept, self.key = caller, callbackKey end
        function aso:onTimer() put(self.key, 'news', { self.kept }, function() end) end";
    let answered = |addresses, plan: &Blueprint| {
        let mut object = Object::activate(&showing(addresses), plan, moment()).expect("it activates again");
        let report = object.begin(2, &Event::Timer, Trail::FRESH, moment());
        named(&report.requests[0]) == [reader()]
    };
    for addresses in [CallerAddresses::Hidden, CallerAddresses::Full] {
        let mut plan = Blueprint { reach: Reach::Open, ..blueprint(code, &Value::Nil) };
        let mut object = Object::activate(&showing(addresses), &plan, moment()).expect("it activates");
        object.begin(1, &called("inbox"), Trail::FRESH, moment());
        plan.state = object.state().clone();
        assert!(
            answered(addresses, &plan)
                && answered(addresses, &Blueprint { reach: Reach::Strict, ..plan.clone() })
        );
        // The control: where the right to answer is left behind, as in a copy, so is the address.
        plan.state = as_sent(object.state());
        assert_eq!(answered(addresses, &plan), addresses == CallerAddresses::Full);
    }
}

#[test]
fn an_object_does_not_learn_its_callers_address_from_another_that_looked_for_it() {
    let seeker = "function aso:onGet() return lookup('anything')[1] end";
    let asked = "function aso:onGet(caller) self.kept = caller end
        function aso:onTimer() log(self.kept.ip, self.kept.port) end";
    for (addresses, known) in
        [(CallerAddresses::Prefix, "203.0.113.0 0"), (CallerAddresses::Full, "203.0.113.7 7400")]
    {
        let vm = showing(addresses);
        let mut asked =
            Object::activate(&vm, &blueprint(asked, &Value::Nil), moment()).expect("it activates");
        asked.begin(1, &called("inbox"), Trail::FRESH, moment());
        let open = Blueprint { reach: Reach::Open, ..blueprint(seeker, &Value::Nil) };
        let mut seeker = Object::activate(&vm, &open, moment()).expect("another in the same VM");
        let report =
            seeker.begin(1, &Event::Get { caller: caller(2), payload: None }, Trail::FRESH, moment());
        let found = Ok(OpOutcome::Nodes(vec![reader()]));
        let report = seeker.resume(report.requests[0].wait, found, moment()).expect("it waits");
        let Ok(Progress::Done(Outcome::Reply(reply))) = report.end else { panic!("no reply: {report:?}") };
        assert!(names_the_reader(&reply), "what a lookup finds has an address");
        assert_eq!(asked.begin(2, &Event::Timer, Trail::FRESH, moment()).log, [known], "{addresses:?}");
    }
}

#[test]
fn a_caller_that_brings_no_right_is_answered_at_its_address_while_its_event_runs() {
    let code = "function aso:onGet(caller)
        get('anything', function(self) put('anything', 'later', { self.kept }, function() end) end)
        self.kept = caller
        put('anything', 'now', { caller }, function() end)
      end
      function aso:onTimer() put('anything', 'much later', { self.kept }, function() end) end";
    let plan = Blueprint { reach: Reach::Open, ..blueprint(code, &Value::Nil) };
    let mut object =
        Object::activate(&showing(CallerAddresses::Hidden), &plan, moment()).expect("it activates");
    let caller = Caller { node: reader(), callback: None, owner: None, origin: Origin::Client };
    let report = object.begin(1, &Event::Get { caller, payload: None }, Trail::FRESH, moment());
    assert_eq!(named(&report.requests[1]), [reader()]);
    let found = Ok(OpOutcome::Value(Value::Nil));
    let later = object.resume(report.requests[0].wait, found, moment()).expect("it has a callback");
    assert_eq!(named(&later.requests[0]), [reader()], "also in a callback");
    let much_later = object.begin(2, &Event::Timer, Trail::FRESH, moment());
    assert_ne!(named(&much_later.requests[0]), [reader()], "the control: nothing is kept of it");
}

#[test]
fn a_caller_is_equal_to_itself_as_a_lookup_finds_it() {
    let code = "function aso:onGet(caller) local found = lookup('anything')[1] return { caller == found, caller.ip == found.ip } end";
    for (addresses, same_address) in [(CallerAddresses::Prefix, false), (CallerAddresses::Full, true)] {
        let plan = Blueprint { reach: Reach::Open, ..blueprint(code, &Value::Nil) };
        let mut object = Object::activate(&showing(addresses), &plan, moment()).expect("it activates");
        let report = object.begin(1, &called("inbox"), Trail::FRESH, moment());
        let found = Ok(OpOutcome::Nodes(vec![reader()]));
        let report = object.resume(report.requests[0].wait, found, moment()).expect("it waits");
        let Ok(Progress::Done(Outcome::Reply(reply))) = report.end else { panic!("no reply: {report:?}") };
        let answer = Value::decode(&reply, Limits::default().reply_bounds()).expect("a value");
        assert_eq!(answer, vec![true.into(), same_address.into()].into());
    }
}
