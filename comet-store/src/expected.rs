//! What a writer expects to replace: the condition of a compare-and-set.

use crate::Version;

/// What has to be held of an object for a put of it to be done.
///
/// It is a condition of the request and no part of the record, so an owner's signature does not cover it: a relay
/// that alters it can make the put fail, as it could by dropping it, or have the owner's put take place without the
/// condition, which the owner's next sequence number bounds as it bounds every put sent twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Whatever is held: the higher version wins.
    #[default]
    Any,
    /// Nothing: no object, or one that has expired or was deleted.
    Absent,
    /// An object that stems from this very put.
    Version(Version),
}

impl Expected {
    /// True if this is what is held; `None` for no living object.
    pub fn is_met_by(&self, held: Option<Version>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => held.is_none(),
            Self::Version(expected) => held.as_ref() == Some(expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_is_met_by_the_very_version_or_by_nothing_and_any_by_all() {
        let version = |sequence, hash| Version { sequence, hash: [hash; 32] };
        let held = [None, Some(version(1, 1)), Some(version(1, 2)), Some(version(2, 1))];
        let met = |expected: Expected| held.map(|held| expected.is_met_by(held));
        assert_eq!(met(Expected::Any), [true; 4]);
        assert_eq!(met(Expected::Absent), [true, false, false, false]);
        assert_eq!(met(Expected::Version(version(1, 1))), [false, true, false, false]);
    }
}
