//! A part of a disk, as a disk of its own: two files of one machine lose their power together.

use std::{io, sync::Arc};

use redb::StorageBackend;

use super::faulty_disk::FaultyDisk;
use crate::engine::redb::Disks;

/// The bytes of a disk from one place to another, or to its end.
#[derive(Debug)]
struct Partition {
    disk: FaultyDisk,
    start: u64,
    bytes_max: u64,
}

/// A journal of so many bytes, and behind it the data file.
pub(super) fn disks(disk: &FaultyDisk, journal_bytes: u64) -> Disks {
    let part = |start, bytes_max| Arc::new(Partition { disk: disk.clone(), start, bytes_max });
    Disks { data: part(journal_bytes, u64::MAX), journal: part(0, journal_bytes), journal_bytes }
}

impl StorageBackend for Partition {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.len()?.saturating_sub(self.start).min(self.bytes_max))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(self.start + offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // What is behind this part keeps its place.
        self.disk.set_len((self.start + len).max(if self.start == 0 { self.disk.len()? } else { 0 }))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(self.start + offset, data)
    }
}
