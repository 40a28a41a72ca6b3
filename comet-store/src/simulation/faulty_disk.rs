//! A disk that knows what is safe on it, loses the rest in a power cut, and fails when it is told to.
//!
//! Between two syncs a disk may write in any order, and sectors one by one. So of what was written since the
//! last completed sync each 512-byte sector survives a power cut or not by itself, whatever was written before
//! or after it: that covers writes that are dropped, torn between sectors, and reordered. Of a sector that
//! does not survive, the first bytes may: drives promise to write sectors whole, and not all keep it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use redb::StorageBackend;

/// Bytes that a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// How probable it is that a sector survives a power cut; one of these for each cut.
const SURVIVALS: [f64; 6] = [0.0, 0.1, 0.5, 0.9, 0.99, 1.0];

/// How probable it is that a part of a sector is written where the sector is not; one of these for each cut.
const TEARS: [f64; 2] = [0.0, 0.3];

/// What a disk does when it is told to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncing {
    /// It says yes once everything is safe.
    Honest,
    /// It says yes and does nothing.
    Lying,
}

/// When calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not at all.
    Never,
    /// The power is cut during this call; from then on nothing works.
    PowerCut {
        /// Calls that write, resize or sync are counted, from 1.
        at: u64,
    },
    /// Calls that write fail from one call until another; reads work.
    #[cfg(test)]
    Unwritable {
        /// The first call that fails.
        from: u64,
        /// The first call that works again.
        until: u64,
        /// As what: [`io::ErrorKind::StorageFull`] or another.
        error: io::ErrorKind,
    },
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct FaultyDisk(Arc<Mutex<Platter>>);

#[derive(Debug)]
struct Platter {
    /// What reads see.
    cached: Vec<u8>,
    /// What is safe.
    durable: Vec<u8>,
    /// What makes the one of the other.
    unsynced: Vec<Unsynced>,
    calls: u64,
    fault: Fault,
    syncing: Syncing,
}

#[derive(Debug)]
enum Unsynced {
    Len(usize),
    Write { offset: usize, data: Vec<u8> },
}

impl FaultyDisk {
    /// A disk on which these bytes are safe.
    pub(super) fn holding(bytes: Vec<u8>, syncing: Syncing) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            cached: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
            calls: 0,
            fault: Fault::Never,
            syncing,
        })))
    }

    /// Calls so far that write, resize or sync.
    #[cfg(test)]
    pub(super) fn calls(&self) -> u64 {
        self.platter().calls
    }

    /// Lets calls fail.
    pub(super) fn fail(&self, fault: Fault) {
        self.platter().fault = fault;
    }

    /// What the disk holds once the power is back.
    pub(super) fn after_power_cut(&self, rng: &mut ChaCha12Rng) -> Vec<u8> {
        let platter = self.platter();
        let mut bytes = platter.durable.clone();
        let survival = SURVIVALS[rng.random_range(0..SURVIVALS.len())];
        let tear = TEARS[rng.random_range(0..TEARS.len())];
        for change in &platter.unsynced {
            match change {
                Unsynced::Len(len) if rng.random_bool(survival) => bytes.resize(*len, 0),
                Unsynced::Len(_) => {}
                Unsynced::Write { offset, data } => {
                    for (start, sector) in sectors(*offset, data) {
                        let written = if rng.random_bool(survival) {
                            sector.len()
                        } else if rng.random_bool(tear) {
                            rng.random_range(0..sector.len())
                        } else {
                            0
                        };
                        if let Some(place) = bytes.get_mut(start..start + written) {
                            place.copy_from_slice(&sector[..written]);
                        }
                    }
                }
            }
        }
        bytes
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Fault::PowerCut { at } if self.calls >= at => Err(io::Error::other("power lost")),
            #[cfg(test)]
            Fault::Unwritable { from, until, error } if (from..until).contains(&self.calls) => {
                Err(error.into())
            }
            _ => Ok(()),
        }
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.platter().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.platter();
        let start = offset as usize;
        let bytes = platter.cached.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.platter();
        platter.call()?;
        platter.cached.resize(len as usize, 0);
        platter.unsynced.push(Unsynced::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.call()?;
        if platter.syncing == Syncing::Honest {
            let platter = &mut *platter;
            for change in platter.unsynced.drain(..) {
                match change {
                    Unsynced::Len(len) => platter.durable.resize(len, 0),
                    Unsynced::Write { offset, data } => put(&mut platter.durable, offset, &data),
                }
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        let outcome = platter.call();
        let may_be_written = match platter.fault {
            // The write that the power cut hits may get there in part, the ones after it not at all.
            Fault::PowerCut { at } => platter.calls <= at,
            _ => outcome.is_ok(),
        };
        if may_be_written {
            put(&mut platter.cached, offset as usize, data);
            platter.unsynced.push(Unsynced::Write { offset: offset as usize, data: data.to_vec() });
        }
        outcome
    }
}

fn put(bytes: &mut Vec<u8>, start: usize, data: &[u8]) {
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

/// Bytes by the sectors of the disk that they are in.
fn sectors(offset: usize, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let start = offset + done;
        let end = data.len().min(done + SECTOR_BYTES - start % SECTOR_BYTES);
        let sector = &data[done..end];
        done = end;
        (!sector.is_empty()).then_some((start, sector))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    const OLD: u8 = 0;
    const NEW: u8 = 1;

    /// What 500 power cuts leave of two sectors that were written after the last sync.
    fn left(syncing: Syncing) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
        let disk = FaultyDisk::holding(vec![OLD; 2 * SECTOR_BYTES], syncing);
        disk.write(0, &[NEW; SECTOR_BYTES]).unwrap();
        disk.write(SECTOR_BYTES as u64, &[NEW; SECTOR_BYTES]).unwrap();
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let halves = |bytes: Vec<u8>| {
            let (first, second) = bytes.split_at(SECTOR_BYTES);
            (first.to_vec(), second.to_vec())
        };
        (0..500).map(|_| halves(disk.after_power_cut(rng))).collect()
    }

    #[test]
    fn unsynced_sectors_are_kept_dropped_torn_and_reordered() {
        let left = left(Syncing::Honest);
        let [old, new] = [OLD, NEW].map(|byte| vec![byte; SECTOR_BYTES]);
        for pair in [(&old, &old), (&new, &old), (&old, &new), (&new, &new)] {
            assert!(left.contains(&(pair.0.clone(), pair.1.clone())));
        }
        assert!(left.iter().any(|(first, _)| first.starts_with(&[NEW]) && first.ends_with(&[OLD])), "torn");
        assert!(!left.iter().any(|(first, _)| first.starts_with(&[OLD]) && first.contains(&NEW)));
    }

    #[test]
    fn what_is_synced_survives_unless_the_disk_lies() {
        for (syncing, expected) in [(Syncing::Honest, true), (Syncing::Lying, false)] {
            let disk = FaultyDisk::holding(vec![OLD; SECTOR_BYTES], syncing);
            disk.write(0, &[NEW; SECTOR_BYTES]).unwrap();
            disk.sync_data().unwrap();
            let rng = &mut ChaCha12Rng::seed_from_u64(1);
            let survives = (0..50).all(|_| disk.after_power_cut(rng) == [NEW; SECTOR_BYTES]);
            assert_eq!(survives, expected, "{syncing:?}");
        }
    }

    #[test]
    fn bytes_are_torn_where_the_disk_has_its_sectors() {
        let parts: Vec<_> = sectors(500, &[0; 600]).map(|(start, sector)| (start, sector.len())).collect();
        assert_eq!(parts, [(500, 12), (512, 512), (1_024, 76)]);
    }

    #[test]
    fn nothing_is_written_after_the_power_was_cut() {
        let disk = FaultyDisk::holding(vec![OLD; 2 * SECTOR_BYTES], Syncing::Honest);
        disk.fail(Fault::PowerCut { at: 2 });
        disk.write(0, &[NEW]).unwrap();
        assert!(disk.write(1, &[NEW]).is_err());
        assert!(disk.write(2, &[NEW]).is_err());
        assert!(disk.sync_data().is_err());
        let rng = &mut ChaCha12Rng::seed_from_u64(1);
        let left: BTreeSet<_> = (0..500).map(|_| disk.after_power_cut(rng)[..3].to_vec()).collect();
        let expected = [[OLD, OLD, OLD], [OLD, NEW, OLD], [NEW, OLD, OLD], [NEW, NEW, OLD]];
        assert_eq!(left, expected.map(|bytes| bytes.to_vec()).into());
    }
}
