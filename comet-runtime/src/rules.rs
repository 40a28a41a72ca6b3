//! What happens when a put or a deletion meets an object that is here already: the defaults that hold where
//! the object has no handler, and what no handler can change.

use comet_routing::Key;
use comet_store::{Deletion, Expected, Record, Rule, Version};

use crate::{Condition, Object, Origin, Refusal};

/// What becomes of a put that meets an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnPut {
    /// It is the version that is held: its lifetime is renewed and nothing runs.
    Renew,
    /// It is refused without asking the object.
    Refuse(Refusal),
    /// The object's `onUpdate` decides; without that handler the put is accepted whole.
    Ask,
}

/// Judges a put of `incoming` by whoever stands behind `origin` against what is held.
pub(crate) fn on_put(held: &Record, incoming: &Record, origin: Origin, has_handler: bool) -> OnPut {
    let signed = incoming.ownership.is_some();
    if incoming.version == held.version && (signed || origin == Origin::Replica) {
        return OnPut::Renew;
    }
    let outdated = incoming.version <= held.version;
    // A copy is no client's put: an older one is only behind, and has nothing to say to the handler.
    if outdated && (signed || !has_handler || origin == Origin::Replica) {
        return OnPut::Refuse(stale(held));
    }
    if held.key.is_owned() && !signed && !has_handler {
        return OnPut::Refuse(not_owner());
    }
    OnPut::Ask
}

/// Refuses a put that expects to replace something else than this. No handler hears of it.
pub(crate) fn check_expected(held: Option<Version>, expected: Expected) -> Result<(), Refusal> {
    if expected.is_met_by(held) { Ok(()) } else { Err(Refusal::Conflict { held }) }
}

/// When a put from outside may take the place of what is stored.
pub(crate) fn rule_of(condition: Option<Condition>) -> Rule {
    condition.map_or(Rule::IfNewer, |condition| Rule::IfExpected(condition.expected))
}

/// Says whether the object's `onUpdate` need not hear of a put, since it has decided it: the same put comes a
/// second time, or a replica that took it for a plain value hands it on.
pub(crate) fn is_decided(object: &Object, put: &Version, origin: Origin) -> bool {
    match origin {
        Origin::Replica => object.has_decided(put),
        Origin::Client => object.decided() == Some(put),
    }
}

/// What becomes of a deletion that meets an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnDelete {
    /// It is done without asking the object, and this is remembered.
    Remove(Deletion),
    /// It is refused without asking the object.
    Refuse(Refusal),
    /// The object's `onDelete` decides, and what it agrees to is [`agreed`].
    Ask,
}

/// Judges a deletion. An owner's is above the handlers. Of anybody's the handler hears, an outdated one
/// included, as it hears of every put; without a handler, and without an owner, the last writer wins.
pub(crate) fn on_delete(held: &Record, deletion: &Deletion, has_handler: bool) -> OnDelete {
    if deletion.ownership.is_some() {
        let is_next = deletion.version.sequence > held.version.sequence;
        return if is_next { OnDelete::Remove(deletion.clone()) } else { OnDelete::Refuse(stale(held)) };
    }
    if has_handler {
        OnDelete::Ask
    } else if held.key.is_owned() {
        OnDelete::Refuse(not_owner())
    } else if deletion.version < held.version {
        OnDelete::Refuse(stale(held))
    } else {
        OnDelete::Remove(deletion.clone())
    }
}

/// What is remembered of an unsigned deletion that the object agreed to: itself, so that a put that is still
/// under way does not outlive it, and the version that was held in any case. On an owned key it is that
/// version alone: whoever sent the deletion has no say in the sequence numbers of the owner.
pub(crate) fn agreed(held: &Record, deletion: Deletion) -> Deletion {
    if held.key.is_owned() {
        return Deletion::unsigned(held.version);
    }
    Deletion::up_to(held.version.sequence, None).or_higher(deletion)
}

/// Says whether a deletion of what is not here is remembered here: a put may still be on its way, and must not
/// outlive it. On an owned key only the owner's is.
pub(crate) fn is_remembered(key: &Key, deletion: &Deletion) -> bool {
    deletion.ownership.is_some() || !key.is_owned()
}

/// Says whether an update that the object accepted may take its place: nobody but the owner can replace an
/// owned object, whatever its handlers say.
pub(crate) fn may_replace(held: &Record, incoming: &Record) -> Result<(), Refusal> {
    if held.key.is_owned() && incoming.ownership.is_none() { Err(not_owner()) } else { Ok(()) }
}

/// A put to a key where nothing is.
pub(crate) fn may_create(incoming: &Record) -> Result<(), Refusal> {
    may_replace(incoming, incoming)
}

/// A put may be taken back, without a deletion, only where anybody might delete what it left.
pub(crate) fn may_withdraw(held: &Record) -> Result<(), Refusal> {
    if held.code.is_some() || held.key.is_owned() {
        return Err(Refusal::Denied("only a plain value that nobody owns can be taken back".into()));
    }
    Ok(())
}

pub(crate) fn stale(held: &Record) -> Refusal {
    Refusal::Stale { held_sequence: held.version.sequence }
}

fn not_owner() -> Refusal {
    Refusal::NotOwner("the key belongs to an owner and the request is not signed by it".into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use comet_store::{Ownership, Version, content_hash};

    use super::*;

    fn record(key: Key, sequence: u64, signed: bool) -> Record {
        let ownership =
            signed.then_some(Ownership { public_key: [1; 32], salt: [2; 32], signature: [3; 64] }.into());
        let data = Bytes::from_static(b"\xc0");
        let version = Version { sequence, hash: content_hash(None, &data) };
        Record {
            key,
            ownership,
            version,
            created_ms: 0,
            expires_ms: 1,
            ttl_seconds: 1,
            replicas: 8,
            code: None,
            publication: None,
            data,
            state: Bytes::new(),
        }
    }

    #[test]
    fn without_a_handler_the_last_writer_wins() {
        let held = record(Key::of("k"), 5, false);
        let put = |sequence| on_put(&held, &record(Key::of("k"), sequence, false), Origin::Client, false);
        assert_eq!(put(4), OnPut::Refuse(Refusal::Stale { held_sequence: 5 }));
        assert_eq!(put(5), OnPut::Refuse(Refusal::Stale { held_sequence: 5 }));
        assert_eq!(put(6), OnPut::Ask);
    }

    #[test]
    fn a_handler_hears_every_unsigned_put_but_copies_of_what_it_is_or_was() {
        let held = record(Key::of("k"), 5, false);
        let older = record(Key::of("k"), 4, false);
        assert_eq!(on_put(&held, &older, Origin::Client, true), OnPut::Ask);
        assert_eq!(on_put(&held, &held, Origin::Client, true), OnPut::Ask);
        assert_eq!(on_put(&held, &held, Origin::Replica, true), OnPut::Renew);
        let newer = record(Key::of("k"), 6, false);
        assert_eq!(on_put(&held, &newer, Origin::Replica, true), OnPut::Ask);
        let stale = OnPut::Refuse(Refusal::Stale { held_sequence: 5 });
        assert_eq!(on_put(&held, &older, Origin::Replica, true), stale, "a replica that is behind");
    }

    #[test]
    fn only_the_owners_next_sequence_number_replaces_an_owned_object() {
        let key = Key::owned(&[1; 32], "k");
        let held = record(key, 5, true);
        let put = |sequence, signed, handler| {
            on_put(&held, &record(key, sequence, signed), Origin::Client, handler)
        };
        assert_eq!(put(5, true, true), OnPut::Renew);
        assert_eq!(put(4, true, true), OnPut::Refuse(Refusal::Stale { held_sequence: 5 }));
        assert_eq!(put(6, true, false), OnPut::Ask);
        assert!(matches!(put(6, false, false), OnPut::Refuse(Refusal::NotOwner(_))));
        assert_eq!(put(6, false, true), OnPut::Ask, "a stranger may talk to the object");
        assert!(may_replace(&held, &record(key, 6, false)).is_err(), "but not take its place");
        assert!(may_create(&record(key, 1, false)).is_err());
    }

    #[test]
    fn only_a_plain_value_that_nobody_owns_can_be_taken_back() {
        let (plain, owned) = (record(Key::of("k"), 5, false), record(Key::owned(&[1; 32], "k"), 5, true));
        let active = Record { code: Some(comet_store::Code::new("")), ..plain.clone() };
        let allowed = [&plain, &owned, &active].map(|held| may_withdraw(held).is_ok());
        assert_eq!(allowed, [true, false, false]);
    }

    #[test]
    fn an_owners_deletion_asks_nobody() {
        let held = record(Key::owned(&[1; 32], "k"), 5, true);
        let signed = |sequence| Deletion::up_to(sequence, held.ownership.clone());
        assert_eq!(on_delete(&held, &signed(6), true), OnDelete::Remove(signed(6)));
        let stale = OnDelete::Refuse(Refusal::Stale { held_sequence: 5 });
        assert_eq!(on_delete(&held, &signed(5), true), stale);
        let strangers = Deletion::up_to(6, None);
        assert!(matches!(on_delete(&held, &strangers, false), OnDelete::Refuse(Refusal::NotOwner(_))));
        assert_eq!(on_delete(&held, &strangers, true), OnDelete::Ask);
    }

    #[test]
    fn a_deletion_of_what_nobody_owns_is_its_handlers_to_judge_or_goes_by_the_last_writer() {
        let held = record(Key::of("k"), 5, false);
        let deletion = |sequence| Deletion::up_to(sequence, None);
        for sequence in [5, 6] {
            assert_eq!(on_delete(&held, &deletion(sequence), false), OnDelete::Remove(deletion(sequence)));
        }
        let stale = OnDelete::Refuse(Refusal::Stale { held_sequence: 5 });
        assert_eq!(on_delete(&held, &deletion(4), false), stale);
        assert_eq!(on_delete(&held, &deletion(4), true), OnDelete::Ask);
    }

    #[test]
    fn what_an_object_agreed_to_is_remembered_and_at_least_what_was_held() {
        let held = record(Key::of("k"), 5, false);
        let deletion = |sequence| Deletion::up_to(sequence, None);
        assert_eq!(agreed(&held, deletion(6)), deletion(6));
        assert_eq!(agreed(&held, deletion(4)), deletion(5));
        let owned = record(Key::owned(&[1; 32], "k"), 5, true);
        assert_eq!(agreed(&owned, deletion(1 << 60)), Deletion::unsigned(owned.version), "the owner goes on");
    }

    #[test]
    fn a_stranger_cannot_have_a_deletion_remembered_where_an_owner_writes() {
        let (owned, unowned) = (Key::owned(&[1; 32], "k"), Key::of("k"));
        let strangers = Deletion::up_to(6, None);
        let owners = Deletion { ownership: record(owned, 6, true).ownership, ..strangers.clone() };
        assert!(is_remembered(&unowned, &strangers));
        assert!(is_remembered(&owned, &owners));
        assert!(!is_remembered(&owned, &strangers));
    }
}
