//! What the swarm has promised, and so must keep.

use std::collections::BTreeMap;

use comet_routing::NodeId;
use comet_runtime::Value;
use comet_store::Version;

/// Remembers what clients stored, and says what a read may return.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    promises: BTreeMap<String, Promise>,
    deletions: BTreeMap<String, Deletion>,
}

/// A deletion after which nothing was put under that name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Deletion {
    is_acknowledged: bool,
    /// The highest version that was acknowledged before.
    pub(super) of: Option<Version>,
    /// Whether a put was never answered before it: that one may be there, and newer than the deletion.
    pub(super) is_doubtful: bool,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Promise {
    /// What was acknowledged with the highest version.
    kept: Option<Kept>,
    /// Values whose puts were never acknowledged: they may be there, or not, and be newer than what was.
    possible: Vec<Value>,
    /// Values that were acknowledged and have been replaced since.
    past: Vec<Value>,
}

/// A value that was acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) version: Version,
    /// Who answers for it; nobody once all of them have lost their disks.
    pub(super) by: Vec<NodeId>,
    value: Value,
}

impl Deletion {
    /// Whether an object in this version must not be there.
    pub(super) fn covers(&self, version: Version) -> bool {
        !self.is_doubtful || Some(version) <= self.of
    }
}

impl Oracle {
    /// A put that has begun.
    pub fn attempted(&mut self, name: &str, value: &Value) {
        self.touched(name);
        self.promises.entry(name.to_owned()).or_default().possible.push(value.clone());
    }

    /// A put that was acknowledged in this version by these nodes. Not the last word but the highest version
    /// counts, since nodes choose versions from their clocks.
    pub fn acknowledged(&mut self, name: &str, value: &Value, version: Version, by: Vec<NodeId>) {
        let Promise { kept, possible, past } = self.promises.entry(name.to_owned()).or_default();
        if let Some(at) = possible.iter().position(|attempted| attempted == value) {
            possible.remove(at);
        }
        let new = Kept { value: value.clone(), version, by };
        let replaced = match kept.take() {
            Some(old) if old.version > new.version => {
                *kept = Some(old);
                Some(new)
            }
            old => {
                *kept = Some(new);
                old
            }
        };
        past.extend(replaced.map(|replaced| replaced.value));
    }

    /// Somebody may have put something under this name, whatever it is: that it was deleted says nothing now.
    pub fn touched(&mut self, name: &str) {
        self.deletions.remove(name);
    }

    /// A deletion that has begun: from now on nothing is promised.
    pub fn released(&mut self, name: &str) {
        let Promise { kept, possible, .. } = self.promises.remove(name).unwrap_or_default();
        let before = self.deletions.remove(name).unwrap_or_default();
        let deletion = Deletion {
            is_acknowledged: false,
            of: kept.map(|kept| kept.version).max(before.of),
            is_doubtful: !possible.is_empty() || before.is_doubtful,
        };
        self.deletions.insert(name.to_owned(), deletion);
    }

    /// The deletion was acknowledged; it counts unless something was put since it began.
    pub fn deleted(&mut self, name: &str) {
        if let Some(deletion) = self.deletions.get_mut(name) {
            deletion.is_acknowledged = true;
        }
    }

    /// A node that lost its disk answers for nothing any more.
    pub fn wiped(&mut self, node: NodeId) {
        for kept in self.promises.values_mut().filter_map(|promise| promise.kept.as_mut()) {
            kept.by.retain(|by| *by != node);
        }
    }

    /// From now on these nodes answer for what is promised under this name.
    pub(super) fn handed_over(&mut self, name: &str, by: Vec<NodeId>) {
        if let Some(kept) = self.promises.get_mut(name).and_then(|promise| promise.kept.as_mut()) {
            kept.by = by;
        }
    }

    /// The names under which something is promised, with what that is.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.promises.iter().filter_map(|(name, promise)| Some((name.as_str(), promise.kept.as_ref()?)))
    }

    /// The names under which nothing should be, with what was deleted there.
    pub(super) fn gone(&self) -> impl Iterator<Item = (&str, &Deletion)> {
        let gone = self.deletions.iter().filter(|(_, deletion)| deletion.is_acknowledged);
        gone.map(|(name, deletion)| (name.as_str(), deletion))
    }

    /// The names under which something is promised.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kept().map(|(name, _)| name)
    }

    /// What is known of a name.
    pub fn of(&self, name: &str) -> Option<&Promise> {
        self.promises.get(name)
    }

    /// Whether this was put under this name at some time, or nothing is known of the name.
    pub fn knows(&self, name: &str, read: &Value) -> bool {
        self.permits(name, read) || self.promises.get(name).is_some_and(|promise| promise.past.contains(read))
    }

    /// Whether a read of this name may return this once everybody has heard of everything.
    pub fn permits(&self, name: &str, read: &Value) -> bool {
        self.promises.get(name).is_none_or(|promise| {
            promise.possible.contains(read) || promise.kept.as_ref().is_some_and(|kept| kept.value == *read)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(sequence: u64) -> Version {
        Version { sequence, hash: [0; 32] }
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn a_read_returns_what_was_acknowledged_in_the_highest_version_or_never_answered() {
        let values = ["old", "kept", "tried", "slow clock", "never"].map(Value::str);
        let [old, kept, tried, slow, never] = &values;
        let mut oracle = Oracle::default();
        oracle.acknowledged("k", old, version(1), vec![]);
        oracle.attempted("k", kept);
        oracle.acknowledged("k", kept, version(5), vec![]);
        oracle.attempted("k", tried);
        oracle.attempted("k", slow);
        oracle.acknowledged("k", slow, version(4), vec![]);
        assert_eq!(
            values.each_ref().map(|value| oracle.permits("k", value)),
            [false, true, true, false, false]
        );
        assert_eq!(values.each_ref().map(|value| oracle.knows("k", value)), [true, true, true, true, false]);
        oracle.released("k");
        assert!(oracle.permits("k", never));
    }

    #[test]
    fn what_was_deleted_is_gone_unless_something_was_put_since_the_deletion_began() {
        let mut oracle = Oracle::default();
        let gone = |oracle: &Oracle| oracle.gone().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        for name in ["deleted", "refused", "put meanwhile", "put again"] {
            oracle.attempted(name, &Value::Int(1));
            oracle.acknowledged(name, &Value::Int(1), version(1), vec![node(1)]);
            oracle.released(name);
        }
        oracle.attempted("put meanwhile", &Value::Int(2));
        for name in ["deleted", "put meanwhile", "put again"] {
            oracle.deleted(name);
        }
        oracle.touched("put again");
        assert_eq!(gone(&oracle), ["deleted"]);
        assert_eq!(oracle.names().count(), 0);
    }

    #[test]
    fn a_put_without_an_answer_may_outlive_a_deletion_and_nothing_older_may() {
        let mut oracle = Oracle::default();
        oracle.acknowledged("k", &Value::Int(1), version(5), vec![]);
        oracle.attempted("k", &Value::Int(2));
        oracle.released("k");
        oracle.released("k");
        oracle.deleted("k");
        let covered = oracle.gone().map(|(_, gone)| [5, 6].map(|sequence| gone.covers(version(sequence))));
        assert_eq!(covered.collect::<Vec<_>>(), [[true, false]]);
    }

    #[test]
    fn whoever_lost_its_disk_answers_for_nothing_until_it_is_handed_a_copy() {
        let mut oracle = Oracle::default();
        oracle.acknowledged("k", &Value::Int(1), version(1), vec![node(1), node(2)]);
        oracle.wiped(node(1));
        let by = |oracle: &Oracle| oracle.kept().next().map(|(_, kept)| kept.by.clone());
        assert_eq!(by(&oracle), Some(vec![node(2)]));
        oracle.handed_over("k", vec![node(1), node(3)]);
        assert_eq!(by(&oracle), Some(vec![node(1), node(3)]));
    }
}
