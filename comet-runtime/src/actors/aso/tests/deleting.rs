//! Who may delete an object, and what is remembered of it.

use super::*;

fn delete(object: &Addr<Aso>, deletion: Deletion) -> Receiver<Result<Served, Refusal>> {
    visit(object, Visit::Delete { caller: caller(), deletion: Box::new(deletion), trail: Trail::FRESH })
}

/// What is remembered once the object is deleted at the request of a stranger whose sequence number is this.
async fn remembered(world: World, code: &str, record: Record, sequence: u64) -> Deletion {
    let shared = world.shared();
    let record = Record { code: Some(Code::new(code)), ..record };
    let object = Aso::resting(shared.clone(), activate(&shared, &record), record, None).start();
    let gone = delete(&object, Deletion::up_to(sequence, None)).await;
    assert_eq!(gone, Ok(Ok(Served::Deleted { held: true })));
    match world.heard().remove(0) {
        (_, Heard::Deleted(Some(deletion))) => deletion,
        heard => panic!("no deletion but {heard:?}"),
    }
}

#[actix::test]
async fn an_owners_deletion_is_not_for_the_object_to_refuse() {
    let world = World::new();
    let object = world.resting("function aso:onDelete() return false, 'stay' end");
    let ownership = Box::new(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] });
    let (strangers, owners) = (Deletion::up_to(2, None), Deletion::up_to(2, Some(ownership)));
    assert_eq!(delete(&object, strangers).await, Ok(Err(Refusal::Refused("stay".into()))));
    assert_eq!(delete(&object, owners.clone()).await, Ok(Ok(Served::Deleted { held: true })));
    assert_eq!(world.heard()[0], (0, Heard::Deleted(Some(owners))), "the proof is remembered as well");
}

#[actix::test]
async fn a_deletion_that_the_object_agreed_to_stops_puts_up_to_its_own_sequence() {
    let world = World::new();
    for code in ["", "function aso:onDelete() end", "function aso:onDelete() deleteSelf() end"] {
        let remembered = remembered(world.again(), code, record(5, None), 7).await;
        assert_eq!(remembered, Deletion::up_to(7, None), "{code}");
    }
}

#[actix::test]
async fn an_object_that_agreed_to_an_older_deletion_is_deleted_as_it_was() {
    let held = record(5, None);
    let agrees = "function aso:onDelete() end";
    assert_eq!(remembered(World::new(), agrees, held, 4).await, Deletion::up_to(5, None));
}

#[actix::test]
async fn an_object_that_goes_by_itself_is_remembered_by_its_version_whatever_was_asked() {
    let held = record(5, None);
    let goes = "function aso:onDelete() deleteSelf() return false end";
    assert_eq!(remembered(World::new(), goes, held.clone(), 7).await, Deletion::unsigned(held.version));
}

#[actix::test]
async fn an_owned_object_that_agrees_leaves_its_owners_next_sequence_number_free() {
    let held = Record { key: Key::owned(&[1; 32], "test"), ..record(5, None) };
    let agrees = "function aso:onDelete() end";
    assert_eq!(
        remembered(World::new(), agrees, held.clone(), 1 << 60).await,
        Deletion::unsigned(held.version)
    );
}

#[actix::test]
async fn without_a_handler_an_outdated_deletion_is_stale() {
    let world = World::new();
    let (shared, record) = (world.shared(), record(5, Some("aso.n = 0")));
    let object = Aso::resting(shared.clone(), activate(&shared, &record), record, None).start();
    let stale = Refusal::Stale { held_sequence: 5 };
    assert_eq!(delete(&object, Deletion::up_to(4, None)).await, Ok(Err(stale)));
    assert_eq!(delete(&object, Deletion::up_to(5, None)).await, Ok(Ok(Served::Deleted { held: true })));
}
