//! What the swarm has promised, and so must keep.

use std::collections::BTreeMap;

use comet_routing::NodeId;
use comet_runtime::Value;

/// Remembers what clients stored, and says what a read may return.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    promises: BTreeMap<String, Promise>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Promise {
    /// The last value that was acknowledged, and by whom.
    kept: Option<(Value, Vec<NodeId>)>,
    /// Values of later puts that were not acknowledged: they may be there, or not.
    possible: Vec<Value>,
}

impl Oracle {
    /// A put that has begun.
    pub fn attempted(&mut self, name: &str, value: &Value) {
        self.promises.entry(name.to_owned()).or_default().possible.push(value.clone());
    }

    /// A put that was acknowledged by these nodes.
    pub fn acknowledged(&mut self, name: &str, value: &Value, by: Vec<NodeId>) {
        let promise = Promise { kept: Some((value.clone(), by)), possible: Vec::new() };
        self.promises.insert(name.to_owned(), promise);
    }

    /// A deletion: from now on nothing is promised.
    pub fn released(&mut self, name: &str) {
        self.promises.remove(name);
    }

    /// The names under which something is promised, with who acknowledged it.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&str, &[NodeId])> {
        self.promises
            .iter()
            .filter_map(|(name, promise)| promise.kept.as_ref().map(|(_, by)| (name.as_str(), by.as_slice())))
    }

    /// Whether a read of this name may return this.
    pub(super) fn permits(&self, name: &str, read: &Value) -> bool {
        self.promises.get(name).is_none_or(|promise| {
            promise.possible.contains(read) || promise.kept.as_ref().is_none_or(|(kept, _)| kept == read)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_returns_what_was_acknowledged_last_or_attempted_since() {
        let [old, kept, tried, never] = ["old", "kept", "tried", "never"].map(Value::str);
        let mut oracle = Oracle::default();
        oracle.acknowledged("k", &old, vec![]);
        oracle.attempted("k", &kept);
        oracle.acknowledged("k", &kept, vec![]);
        oracle.attempted("k", &tried);
        let permitted = [&old, &kept, &tried, &never].map(|value| oracle.permits("k", value));
        assert_eq!(permitted, [false, true, true, false]);
        oracle.released("k");
        assert!(oracle.permits("k", &never));
    }
}
