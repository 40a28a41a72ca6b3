//! What the swarm has promised, and so must keep.

use std::collections::BTreeMap;

use comet_routing::NodeId;
use comet_runtime::Value;
use comet_store::Version;

/// Remembers what clients stored, and says what a read may return.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    promises: BTreeMap<String, Promise>,
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

impl Oracle {
    /// A put that has begun.
    pub fn attempted(&mut self, name: &str, value: &Value) {
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

    /// A deletion: from now on nothing is promised.
    pub fn released(&mut self, name: &str) {
        self.promises.remove(name);
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
