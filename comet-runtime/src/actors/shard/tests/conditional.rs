//! Puts that expect something: decided by what is held, before any handler runs.

use super::*;
use crate::Condition;

/// Says how many puts it has heard of, and leaves each to the node.
const LISTENER: &str = "aso.puts = 0
    function aso:onUpdate() self.puts = self.puts + 1 return true end
    function aso:onGet() return self.puts end";

impl World {
    async fn put_if(&self, sequence: u64, code: Option<&str>, expected: Expected) -> Result<Served, Refusal> {
        let record = Arc::new(record("a", sequence, code, self.clock.wall_ms()));
        let condition = (expected != Expected::Any).then(|| Box::new(Condition { expected, ticket: 1 }));
        let visit = Visit::Put { caller: caller(), record, condition, trail: Trail::FRESH };
        self.replica.serve(Key::of("a"), visit).await
    }
}

fn version(sequence: u64, code: Option<&str>) -> Version {
    record("a", sequence, code, NOW).version
}

fn conflict(held: Option<Version>) -> Result<Served, Refusal> {
    Err(Refusal::Conflict { held })
}

#[actix::test]
async fn of_puts_at_once_that_expect_the_same_only_one_is_stored() {
    let world = World::new(10);
    let expected = Expected::Version(version(1, None));
    assert_eq!(world.put_if(1, None, expected).await, conflict(None));
    assert!(world.put_if(1, None, Expected::Absent).await.is_ok());
    let both = tokio::join!(world.put_if(2, None, expected), world.put_if(3, None, expected));
    assert!(both.0.is_ok());
    assert_eq!(both.1, conflict(Some(version(2, None))));
    let any = tokio::join!(world.put_if(4, None, Expected::Any), world.put_if(5, None, Expected::Any));
    assert!(any.0.is_ok() && any.1.is_ok(), "the control: nothing is expected");
}

#[actix::test]
async fn an_object_hears_of_no_put_that_expects_another() {
    let world = World::new(10);
    let code = Some(LISTENER);
    assert!(world.put_if(1, code, Expected::Absent).await.is_ok());
    assert_eq!(world.put_if(2, code, Expected::Absent).await, conflict(Some(version(1, code))));
    let other = Expected::Version(version(9, code));
    assert_eq!(world.put_if(2, code, other).await, conflict(Some(version(1, code))));
    assert_eq!(world.get("a", "").await, Ok(Value::Int(0)));
    world.put_if(2, code, Expected::Version(version(1, code))).await.expect("this one is held");
}

#[actix::test]
async fn what_was_deleted_is_absent() {
    let world = World::new(10);
    assert!(world.put_if(1, Some(COUNTER), Expected::Absent).await.is_ok());
    assert_eq!(world.delete("a", 1).await, Ok(Served::Deleted { held: true }));
    assert_eq!(world.put_if(1, None, Expected::Absent).await, Err(Refusal::Stale { held_sequence: 1 }));
    assert!(world.put_if(2, None, Expected::Absent).await.is_ok());
}

impl World {
    async fn claim(&self, n: u8, held: Option<Version>) -> Result<Served, Refusal> {
        let expected = held.map_or(Expected::Absent, Expected::Version);
        let (caller, version) = (Caller { node: node(n), ..caller() }, version(9, None));
        let condition = Box::new(Condition { expected, ticket: 1 });
        self.replica.serve(Key::of("a"), Visit::Claim { caller, version, condition }).await
    }

    async fn unclaim(&self, n: u8) {
        let visit = Visit::Unclaim { caller: Caller { node: node(n), ..caller() }, ticket: 1 };
        assert_eq!(self.replica.serve(Key::of("a"), visit).await, Ok(Served::Noted));
    }
}

async fn one_waits_for_another(code: Option<&str>) {
    let world = World::new(10);
    let (first, next) = (version(1, code), Some(version(2, code)));
    world.put("a", 1, code).await.expect("it is stored");
    assert_eq!(world.claim(2, None).await, conflict(Some(first)));
    assert_eq!(world.claim(2, Some(first)).await, Ok(Served::Noted));
    assert_eq!(world.claim(3, Some(first)).await, conflict(Some(first)));
    let mine = || world.put_if(2, code, Expected::Version(first));
    assert_eq!(mine().await, conflict(Some(first)), "it waits for another node");
    world.unclaim(3).await;
    assert_eq!(mine().await, conflict(Some(first)), "it is not that node's to give back");
    world.unclaim(2).await;
    assert!(mine().await.is_ok());
    assert_eq!(world.claim(2, next).await, Ok(Served::Noted));
    assert!(world.put("a", 3, code).await.is_ok(), "the control: who expects nothing does not wait");
}

#[actix::test]
async fn a_value_that_waits_for_one_conditional_put_takes_no_other_until_it_is_given_back() {
    one_waits_for_another(None).await;
}

#[actix::test]
async fn an_object_that_waits_for_one_conditional_put_takes_no_other_until_it_is_given_back() {
    one_waits_for_another(Some(LISTENER)).await;
}

#[actix::test]
async fn a_claim_wakes_no_object_and_ends_with_its_lease() {
    let world = World::new(10);
    world.put("a", 1, Some(COUNTER)).await.expect("it is stored");
    pass(IDLE * 3).await;
    assert!(!world.is_active("a"));
    let held = Some(version(1, Some(COUNTER)));
    assert_eq!(world.claim(2, held).await, Ok(Served::Noted));
    assert_eq!(world.claim(3, held).await, conflict(held));
    assert!(!world.is_active("a"));
    pass(Duration::from_secs(15)).await;
    assert_eq!(world.claim(3, held).await, Ok(Served::Noted));
}

async fn nobody_waits_for_a_put_that_was_made(code: Option<&str>) {
    let world = World::new(10);
    let by = caller().node.id.as_bytes()[0];
    assert_eq!(world.claim(by, None).await, Ok(Served::Noted));
    assert_eq!(world.claim(2, None).await, conflict(None), "the control: it is still to be made");
    assert!(world.put_if(1, code, Expected::Absent).await.is_ok());
    assert_eq!(world.delete("a", 1).await, Ok(Served::Deleted { held: true }));
    assert_eq!(world.claim(2, None).await, Ok(Served::Noted));
}

#[actix::test]
async fn once_the_value_that_was_waited_for_is_deleted_the_key_is_free() {
    nobody_waits_for_a_put_that_was_made(None).await;
}

#[actix::test]
async fn once_the_object_that_was_waited_for_is_deleted_the_key_is_free() {
    nobody_waits_for_a_put_that_was_made(Some(COUNTER)).await;
}

async fn no_rival_passes_a_put_on_its_way(code: Option<&str>) {
    let world = World::new(10);
    let by = caller().node.id.as_bytes()[0];
    assert_eq!(world.claim(by, None).await, Ok(Served::Noted));
    let (put, rival) = tokio::join!(world.put_if(1, code, Expected::Absent), world.claim(2, None));
    assert!(put.is_ok());
    assert!(matches!(rival, Err(Refusal::Conflict { .. })), "{rival:?}");
}

#[actix::test]
async fn no_rival_passes_a_value_while_it_is_being_stored() {
    no_rival_passes_a_put_on_its_way(None).await;
}

#[actix::test]
async fn no_rival_passes_an_object_while_it_is_being_stored() {
    no_rival_passes_a_put_on_its_way(Some(COUNTER)).await;
}
