//! The data file as redb sees it: kept open across redb's failures, and readable while it cannot be written.
//!
//! After one I/O error redb refuses everything, reads too, until the database is opened again, and opening
//! writes to the file. [`Held`] lets a database be closed and opened again without letting go of the file;
//! [`Overlay`] lets one be opened for reading alone, over a disk that takes no writes.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::StorageBackend;

/// Bytes of the blocks in which an overlay keeps what was written to it.
const BLOCK_BYTES: u64 = 4_096;

/// A backend that outlives the database that uses it.
///
/// It keeps redb's own locks out, because they would not let the same process in twice: whoever opened the
/// file holds a lock of its own.
#[derive(Clone, Debug)]
pub(super) struct Held(pub(super) Arc<dyn StorageBackend>);

impl StorageBackend for Held {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Ends a database's access to its backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Shutter(Arc<AtomicBool>);

impl Shutter {
    /// Lets every further call fail. A database that is closed after that writes nothing: what it would write is in the
    /// journal, or not to be kept, and pages that make no sense are not looked at.
    pub(super) fn shut(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            Err(io::Error::other("the data file is being closed"))
        } else {
            Ok(())
        }
    }
}

/// A backend with a shutter before it.
#[derive(Debug)]
pub(super) struct Shuttered<B>(pub(super) B, pub(super) Shutter);

impl<B: StorageBackend> StorageBackend for Shuttered<B> {
    fn len(&self) -> io::Result<u64> {
        self.1.check()?;
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.1.check()?;
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.check()?;
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.1.check()?;
        self.0.write(offset, data)
    }
}

/// A backend whose writes stay in memory.
///
/// Only opening a database writes to it, a few pages of recovery.
#[derive(Debug)]
pub(super) struct Overlay {
    disk: Arc<dyn StorageBackend>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    /// An overlay over a disk as it is now.
    pub(super) fn new(disk: Arc<dyn StorageBackend>) -> io::Result<Self> {
        let len = disk.len()?;
        Ok(Self { disk, written: Mutex::new(Written { len, blocks: BTreeMap::new() }) })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block as the disk has it; zeros behind its end.
    fn block_on_disk(&self, block: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BLOCK_BYTES as usize];
        let start = block * BLOCK_BYTES;
        let there = self.disk.len()?.saturating_sub(start).min(BLOCK_BYTES) as usize;
        if there > 0 {
            self.disk.read(start, &mut bytes[..there])?;
        }
        Ok(bytes)
    }
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (first, last) = (offset / BLOCK_BYTES, (offset + out.len() as u64).div_ceil(BLOCK_BYTES));
        let is_on_disk = offset + out.len() as u64 <= self.disk.len()?;
        if is_on_disk && written.blocks.range(first..last).next().is_none() {
            drop(written);
            return self.disk.read(offset, out);
        }
        for (block, part, from) in parts(offset, out.len()) {
            let read;
            let bytes = match written.blocks.get(&block) {
                Some(bytes) => bytes,
                None => {
                    read = self.block_on_disk(block)?;
                    &read
                }
            };
            let len = part.len();
            out[part].copy_from_slice(&bytes[from..from + len]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.written().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        for (block, part, from) in parts(offset, data.len()) {
            let bytes = match written.blocks.entry(block) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(self.block_on_disk(block)?),
            };
            let len = part.len();
            bytes[from..from + len].copy_from_slice(&data[part]);
        }
        written.len = written.len.max(offset + data.len() as u64);
        Ok(())
    }
}

/// The blocks that a stretch of bytes touches: block number, the part of the stretch, where it starts in the
/// block.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let from = (at % BLOCK_BYTES) as usize;
        let part = done..len.min(done + BLOCK_BYTES as usize - from);
        done = part.end;
        (!part.is_empty()).then_some((at / BLOCK_BYTES, part, from))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn disk(bytes: &[u8]) -> Arc<dyn StorageBackend> {
        let disk = InMemoryBackend::new();
        disk.set_len(bytes.len() as u64).unwrap();
        disk.write(0, bytes).unwrap();
        Arc::new(disk)
    }

    fn all_of(backend: &dyn StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; backend.len().unwrap() as usize];
        backend.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn nothing_behind_the_end_can_be_read() {
        let overlay = Overlay::new(disk(&[1; 100])).unwrap();
        assert_eq!(overlay.read(99, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(overlay.read(u64::MAX, &mut [0; 2]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn an_overlay_reads_like_a_disk_and_leaves_the_disk_alone(
            len in 1..20_000usize,
            writes in prop::collection::vec((0..20_000usize, 1..9_000usize, any::<u8>()), 0..8),
        ) {
            let disk = disk(&vec![7; len]);
            let overlay = Overlay::new(Arc::clone(&disk)).unwrap();
            let mut model = vec![7; len];
            for (offset, bytes, fill) in writes {
                if model.len() < offset + bytes {
                    model.resize(offset + bytes, 0);
                    if fill % 2 == 0 {
                        overlay.set_len((offset + bytes) as u64).unwrap();
                    }
                }
                model[offset..offset + bytes].fill(fill);
                overlay.write(offset as u64, &vec![fill; bytes]).unwrap();
                let mut part = vec![0; bytes.min(offset)];
                overlay.read((offset - part.len()) as u64, &mut part).unwrap();
                prop_assert_eq!(&part[..], &model[offset - part.len()..offset]);
            }
            let seen = all_of(&overlay);
            prop_assert!(seen == model);
            prop_assert!(all_of(&*disk) == vec![7; len]);
        }
    }
}
