//! What must hold of a swarm, whatever befell it.

use std::collections::BTreeSet;

use comet_node::wire::FRAME_BYTES_MAX;
use comet_routing::{Key, NodeId};
use comet_store::Version;

use super::{Cluster, Failure, SimNode, oracle::Deletion, transport::ASKS_MAX};

/// Reads with which a story is checked at most.
const CHECK_READS_MAX: usize = 400;

/// What a read may return.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Whatever somebody put there at some time.
    Anything,
    /// What was acknowledged with the highest version, or attempted without an answer.
    Latest,
}

impl Cluster {
    /// What every story ends with, once those who are parted have met again: what was acknowledged is on some
    /// disk, running or not, in that version or a later one, as long as one of those who acknowledged it has its
    /// disk; live nodes can read it as soon as most of the live nodes closest to it hold it; nobody reads what was
    /// never put; and no limit was exceeded.
    ///
    /// Before that nobody need find it: a get takes the word of most of the closest nodes that there is nothing.
    /// Upkeep brings it to them within two periods, and [`Cluster::check_settled`] demands that it has.
    ///
    /// Reads every name through every live node, or where these are too many, through every so manyth.
    pub async fn check(&self) -> Result<(), Failure> {
        self.check_limits()?;
        self.check_survival()?;
        self.check_reads(Expect::Anything).await
    }

    /// As [`Cluster::check`], and what holds once upkeep has had two periods in peace: every object that was
    /// acknowledged is on all the live nodes that are closest to its key, none of which holds a version older
    /// than what was acknowledged or than what any live node holds, that is what is read, and what was deleted is
    /// not there.
    ///
    /// Older copies on other nodes may still be there: see [`Cluster::divided`].
    pub async fn check_settled(&self) -> Result<(), Failure> {
        self.check().await?;
        self.check_places()?;
        self.check_deletions()?;
        self.check_reads(Expect::Latest).await?;
        self.note_holders();
        Ok(())
    }

    /// The names that were acknowledged and are on no disk, running or not.
    pub fn vanished(&self) -> Vec<String> {
        let oracle = self.oracle();
        let gone = oracle.names().filter(|name| {
            let key = Key::of(name);
            !self.nodes().iter().any(|node| node.holds(&key))
        });
        gone.map(str::to_owned).collect()
    }

    /// The names that were acknowledged and are not on all of the live nodes closest to them, in the highest
    /// version that a live node holds, which is at least the one that was acknowledged.
    pub fn misplaced(&self) -> Vec<String> {
        let oracle = self.oracle();
        let misplaced = oracle.kept().filter(|(name, kept)| {
            let key = Key::of(name);
            let closest = self.closest_to(name, self.replicas());
            let least = self.highest_version(&key).max(Some(kept.version));
            !kept.by.is_empty() && closest.iter().any(|node| node.version_of(&key) < least)
        });
        misplaced.map(|(name, _)| name.to_owned()).collect()
    }

    /// The names that were acknowledged and of which two live nodes hold different versions, wherever these are.
    ///
    /// A node that need not hold an object keeps an older copy until the others have held theirs for a grace
    /// period, which is two periods of upkeep.
    pub fn divided(&self) -> Vec<String> {
        let oracle = self.oracle();
        let divided = oracle.names().filter(|name| {
            let key = Key::of(name);
            let versions: BTreeSet<_> = self.live().filter_map(|node| node.version_of(&key)).collect();
            versions.len() > 1
        });
        divided.map(str::to_owned).collect()
    }

    fn highest_version(&self, key: &Key) -> Option<Version> {
        self.live().filter_map(|node| node.version_of(key)).max()
    }

    fn check_survival(&self) -> Result<(), Failure> {
        let oracle = self.oracle();
        let mut lost = oracle.kept().filter(|(name, kept)| {
            let key = Key::of(name);
            !kept.by.is_empty()
                && !self.nodes().iter().any(|node| node.version_of(&key) >= Some(kept.version))
        });
        match lost.next() {
            Some((name, kept)) => Err(Failure::new(format!(
                "{name:?} is on no disk in the version that was acknowledged: {kept:?}; held by {}",
                self.whereabouts(name)
            ))),
            None => Ok(()),
        }
    }

    fn check_deletions(&self) -> Result<(), Failure> {
        let oracle = self.oracle();
        let is_there = |name: &str, deletion: &Deletion| {
            self.live().filter_map(|node| node.version_of(&Key::of(name))).any(|held| deletion.covers(held))
        };
        match oracle.gone().find(|(name, deletion)| is_there(name, deletion)) {
            Some((name, deletion)) => Err(Failure::new(format!(
                "{name:?} was deleted and is held by {}: {deletion:?}",
                self.whereabouts(name)
            ))),
            None => Ok(()),
        }
    }

    fn check_places(&self) -> Result<(), Failure> {
        let misplaced = self.misplaced();
        let Some(first) = misplaced.first() else { return Ok(()) };
        let held = self.whereabouts(first);
        Err(Failure::new(format!(
            "not where they should be: {}; {first:?} is held by {held}",
            misplaced.join(", ")
        )))
    }

    async fn check_reads(&self, expect: Expect) -> Result<(), Failure> {
        let names: Vec<_> = self.oracle().kept().map(|(name, _)| name.to_owned()).collect();
        let stride = (names.len() * self.live().count()).div_ceil(CHECK_READS_MAX).max(1);
        for (n, name) in names.iter().enumerate() {
            let (key, closest) = (Key::of(name), self.closest_to(name, self.replicas()));
            if 2 * closest.iter().filter(|node| node.holds(&key)).count() <= closest.len() {
                continue;
            }
            for node in self.live().skip(n % stride).step_by(stride) {
                self.check_read(name, node, expect).await?;
            }
        }
        Ok(())
    }

    async fn check_read(&self, name: &str, node: &SimNode, expect: Expect) -> Result<(), Failure> {
        let reader = node.name();
        let read = node.get(name).await.map_err(|error| {
            let held = self.whereabouts(name);
            Failure::new(format!("{reader} cannot read {name:?}, held by {held}: {error}"))
        })?;
        let Some(read) = read else {
            let held = self.whereabouts(name);
            return Err(Failure::new(format!("{reader} does not find {name:?}, held by {held}")));
        };
        let permitted = match expect {
            Expect::Anything => self.oracle().knows(name, &read),
            Expect::Latest => self.oracle().permits(name, &read),
        };
        if permitted {
            return Ok(());
        }
        let held = self.whereabouts(name);
        Err(Failure::new(format!(
            "{reader} reads {read:?} at {name:?}, held by {held}; {:?}",
            self.oracle().of(name)
        )))
    }

    /// Who holds an object in which version, and how near to its key they are among the live.
    fn whereabouts(&self, name: &str) -> String {
        let key = Key::of(name);
        let nearest = self.closest_to(name, usize::MAX);
        let holders = nearest.iter().enumerate().filter_map(|(rank, node)| {
            let version = node.version_of(&key)?;
            Some(format!("{} (rank {}, version {})", node.name(), rank + 1, version.sequence))
        });
        format!("{} of {}", holders.collect::<Vec<_>>().join(", "), nearest.len())
    }

    fn check_limits(&self) -> Result<(), Failure> {
        let wire = self.sim.wire();
        let (longest, asks) = (wire.trace().longest_bytes(), wire.asks_most());
        if longest > FRAME_BYTES_MAX || asks >= ASKS_MAX {
            return Err(Failure::new(format!("a frame of {longest} bytes, {asks} requests at once")));
        }
        for node in self.nodes() {
            let (Some(totals), limits) = (node.totals(), node.config().store) else { continue };
            if totals.bytes > limits.bytes_max || totals.records > limits.records_max {
                return Err(Failure::new(format!("{} holds {totals:?}", node.name())));
            }
        }
        Ok(())
    }

    /// From now on whoever holds an object answers for it, rather than those who acknowledged it.
    fn note_holders(&self) {
        let names: Vec<_> = self.oracle().kept().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let holders: Vec<NodeId> = self.holders_of(&name).iter().map(|node| node.contact().id).collect();
            self.oracle.borrow_mut().handed_over(&name, holders);
        }
    }
}
