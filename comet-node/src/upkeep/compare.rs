//! What a node answers to a digest.

use std::cmp::Ordering;

use comet_store::{Deletion, Version};

use crate::wire::Verdict;

/// Compares another node's version of an object with what is held and what is remembered as deleted here.
pub fn compare(theirs: Version, held: Option<Version>, deleted: Option<Deletion>) -> Verdict {
    if let Some(held) = held {
        return match held.cmp(&theirs) {
            Ordering::Equal => Verdict::Same,
            Ordering::Greater => Verdict::Newer,
            Ordering::Less => Verdict::Older,
        };
    }
    match deleted {
        Some(deletion) if deletion.version >= theirs && deletion.is_of_the_object() => {
            Verdict::Gone { sequence: deletion.version.sequence, ownership: deletion.ownership }
        }
        Some(deletion) if deletion.version >= theirs => Verdict::Left,
        _ => Verdict::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    #[test]
    fn what_is_held_decides_before_what_was_deleted() {
        let verdict = |held: Option<u64>, deleted: Option<u64>| {
            let deleted = deleted.map(|sequence| Deletion::up_to(sequence, None));
            compare(version(5), held.map(version), deleted)
        };
        let gone = |sequence| Verdict::Gone { sequence, ownership: None };
        assert_eq!(verdict(Some(5), None), Verdict::Same);
        assert_eq!(verdict(Some(6), Some(9)), Verdict::Newer);
        assert_eq!(verdict(Some(4), None), Verdict::Older);
        assert_eq!(verdict(None, None), Verdict::Missing);
        assert_eq!(verdict(None, Some(4)), Verdict::Missing, "a newer object may come after a deletion");
        assert_eq!(verdict(None, Some(5)), gone(5));
        assert_eq!(verdict(None, Some(6)), gone(6));
        let left = Deletion::unsigned(version(5));
        assert_eq!(compare(version(5), None, Some(left.clone())), Verdict::Left);
        assert_eq!(compare(version(6), None, Some(left)), Verdict::Missing);
    }
}
