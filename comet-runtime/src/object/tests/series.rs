//! Gets that are run together are gets one after the other.

use super::*;

/// Does in its nth turn what the nth letter of its value says.
const PLANNED: &str = "aso.n = 0
    local function onGet(self)
      self.n = self.n + 1
      local what = string.sub(self.value, self.n, self.n)
      if what == 'l' then log('turn ' .. self.n)
      elseif what == 'c' then lookup(getASOKey(), function() end)
      elseif what == 'w' then lookup(getASOKey())
      elseif what == 'd' then deleteSelf()
      elseif what == 'o' then self.onGet = function(self) self.n = self.n + 1 return { self.n } end
      elseif what == 'h' then self.onGet = nil
      elseif what == 'b' then self.bad = { coroutine = function() end, [{}] = 1 }
      elseif what == 'r' then return function() end
      elseif what == 'f' then self.half = 'done' error('told to') end
      return self.n
    end
    aso.onGet = onGet";

type End = Result<Progress, Failure>;

fn steps_only() -> Rc<Vm> {
    Vm::new(Rc::default(), Backstop::StepsOnly, CallerAddresses::default()).expect("a VM")
}

/// What the turns of so many gets came to and the state that was kept, up to the first that failed.
fn run(plan: &str, times: usize, at_once: usize) -> (Vec<End>, Bytes) {
    let vm = steps_only();
    let mut blueprint = blueprint(PLANNED, &plan.into());
    let mut object = Object::activate(&vm, &blueprint, moment()).expect("it activates");
    let event = Event::Get { caller: caller(1), payload: None };
    let (mut ends, mut together) = (Vec::new(), at_once);
    while ends.len() < times {
        let (id, left) = (ends.len() as u64, times - ends.len());
        let series = object.begin_series(id, &event, Trail::FRESH, most(left.min(together)), moment(), || 7);
        let has_failed = series.last.end.is_err();
        if has_failed && !series.replies.is_empty() {
            // They have not taken place.
            blueprint.state = object.state().clone();
            drop(object);
            object = Object::activate(&vm, &blueprint, moment()).expect("it activates again");
            together = 1;
            continue;
        }
        let replied = |(reply, usage): (Bytes, Usage)| {
            assert!(usage.steps > 0 && usage.memory_bytes > 0, "{usage:?}");
            Ok(Progress::Done(Outcome::Reply(reply)))
        };
        ends.extend(series.replies.into_iter().map(replied));
        ends.push(series.last.end);
        if has_failed {
            break;
        }
    }
    (ends, object.state().clone())
}

fn most(times: usize) -> Most {
    Most { times, cost: Duration::from_secs(3_600) }
}

proptest! {
    #[test]
    fn a_series_is_the_same_as_gets_one_after_the_other(
        plan in "[-----lcwdohbrf]{0,24}", times in 1..24_usize, at_once in 2..24_usize,
    ) {
        prop_assert_eq!(run(&plan, times, at_once), run(&plan, times, 1));
    }
}

#[test]
fn a_series_keeps_its_state_once_and_costs_what_its_turns_cost() {
    let vm = steps_only();
    let activate =
        || Object::activate(&vm, &blueprint(COUNTER, &Value::Nil), moment()).expect("it activates");
    let event = Event::Get { caller: caller(1), payload: None };
    let (mut object, mut other) = (activate(), activate());
    let before = object.state().clone();
    let mut seen = Vec::new();
    let series = object.begin_series(1, &event, Trail::FRESH, most(5), moment(), || {
        seen.push(());
        7
    });
    assert_eq!((series.replies.len(), seen.len()), (4, 4));
    assert!(series.last.state.is_some_and(|state| state != before));
    let alone: Duration = (0..5).map(|n| other.begin(n, &event, Trail::FRESH, moment()).cost).sum();
    assert_eq!(object.state(), other.state());
    let rounding = Duration::from_nanos(5);
    assert!(series.last.cost.abs_diff(alone) <= rounding, "{:?} {alone:?}", series.last.cost);
}

#[test]
fn a_series_ends_when_it_has_cost_its_slice() {
    let vm = steps_only();
    let code = "aso.n = 0 function aso:onGet() for i = 1, 1000 do end self.n = self.n + 1 return self.n end";
    let mut object = Object::activate(&vm, &blueprint(code, &Value::Nil), moment()).expect("it activates");
    let event = Event::Get { caller: caller(1), payload: None };
    let one = object.begin(1, &event, Trail::FRESH, moment()).cost;
    let series =
        object.begin_series(2, &event, Trail::FRESH, Most { times: 100, cost: one * 5 / 2 }, moment(), || 7);
    assert_eq!(series.replies.len(), 3, "the fourth turn begins after the slice and is the last");
}
