//! Gets that arrive as one message.

use super::{super::series::DeliverSeries, *};
use crate::actors::Begun;

fn series_sent_at(object: &Addr<Aso>, times: usize, sent: Instant) -> Receiver<Vec<Begun>> {
    let (reply, begun) = oneshot::channel();
    let visit = Visit::Get { caller: caller(), payload: None, trail: Trail::FRESH };
    object.do_send(DeliverSeries { key: Key::of("test"), visit, times, sent, reply });
    begun
}

fn series(object: &Addr<Aso>, times: usize) -> Receiver<Vec<Begun>> {
    series_sent_at(object, times, Clock::System.now())
}

/// What those came to that were begun.
async fn values(begun: Receiver<Vec<Begun>>) -> Vec<Result<Value, Refusal>> {
    let mut values = Vec::new();
    for begun in begun.await.unwrap_or_default() {
        let outcome = match begun {
            Begun::Sent(outcome) => outcome,
            Begun::Served(served) => {
                let (reply, outcome) = oneshot::channel();
                reply.send(served).expect("it is heard");
                outcome
            }
        };
        values.push(value(outcome).await);
    }
    values
}

fn counted(range: std::ops::RangeInclusive<i64>) -> Vec<Result<Value, Refusal>> {
    range.map(|n| Ok(Value::Int(n))).collect()
}

#[actix::test]
async fn each_get_of_a_series_is_a_turn_and_their_state_is_saved_once() {
    let world = World::new();
    let object = world.resting(COUNTER);
    assert_eq!(values(series(&object, 5)).await, counted(1..=5));
    assert_eq!(value(get(&object, "")).await, Ok(Value::Int(6)));
    world.pass(300).await;
    assert_eq!(world.heard(), [(200, Heard::Saved(record(1, Some(COUNTER)).version, 6))]);
}

#[actix::test]
async fn a_get_that_fails_takes_those_along_whose_state_was_not_kept_and_no_others() {
    let world = World::new();
    let code = "aso.n = 0
        function aso:onGet()
          self.n = self.n + 1
          if self.n == 2 then log('kept') end
          if self.n == 4 then error('told to') end
          return self.n
        end";
    let object = world.resting(code);
    assert_eq!(values(series(&object, 5)).await, counted(1..=2), "the others are not begun");
    world.pass(10).await;
    assert!(!object.connected());
    let saved: Vec<_> = world.heard().into_iter().map(|(_, heard)| heard).collect();
    assert!(saved.contains(&Heard::Saved(record(1, Some(code)).version, 2)), "{saved:?}");
}

#[actix::test]
async fn gets_of_a_series_that_wait_do_so_side_by_side() {
    let world = World { network_ms: Some(30), ..World::new() };
    let code = "aso.n = 0 function aso:onGet() self.n = self.n + 1 local n = self.n
        if n > 2 then lookup(getASOKey()) end return n end";
    let object = world.resting(code);
    assert_eq!(values(series(&object, 5)).await, counted(1..=5));
    assert_eq!(world.ms(), 30);
}

#[actix::test]
async fn a_durable_objects_series_waits_for_the_store() {
    let world = World { store_ms: 50, ..World::new() };
    let object = world
        .resting("aso.durable = true aso.n = 0 function aso:onGet() self.n = self.n + 1 return self.n end");
    let begun = series(&object, 3).await.expect("they are begun");
    assert!(begun.iter().all(|begun| matches!(begun, Begun::Sent(_))), "nothing is known yet: {begun:?}");
    for (begun, n) in begun.into_iter().zip(1..) {
        let Begun::Sent(outcome) = begun else { continue };
        assert_eq!(value(outcome).await, Ok(Value::Int(n)));
        assert_eq!(world.ms(), 50);
    }
}

#[actix::test]
async fn a_series_is_not_begun_for_whom_a_get_would_not_be() {
    let world = World::new();
    let object = world.resting(COUNTER);
    // A queue that stands: nobody who has waited for that long is served any more.
    let long_ago = Clock::System.now();
    let now = || Clock::System.now();
    assert_eq!(values(series_sent_at(&object, 1, long_ago)).await, counted(1..=1));
    world.pass(10_000).await;
    let mut refused = 0;
    for _ in 0..10 {
        let outcomes = values(series_sent_at(&object, 3, long_ago)).await;
        refused += outcomes.iter().filter(|outcome| matches!(outcome, Err(Refusal::Overloaded(_)))).count();
        world.pass(500).await;
    }
    assert!(refused > 0 && refused % 3 == 0, "{refused}: a series is refused as a whole");
    world.pass(60_000).await;
    let outcomes = values(series_sent_at(&object, 2, now())).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let begun = series(&object, 2);
    object.do_send(Leave);
    let late = series(&object, 2);
    assert_eq!(values(begun).await.len(), 2);
    assert_eq!(values(late).await, [], "it has left");
}
