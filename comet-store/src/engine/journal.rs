//! What was committed since the data file was brought to the disk last.
//!
//! Bringing a few changes to the data file writes many pages, and each twice over. So a commit is written here first,
//! as one frame, and that is all it waits for. The data file follows when the journal is full; opening a store puts
//! what is in the journal into it once more.
//!
//! A frame is the length of its batch (u32), a tag (16 bytes) and the batch; integers are little-endian. The tag is a
//! hash over a salt, the frame's place and the batch. The data file keeps the salt and takes the next one in the
//! transaction that brings everything to it: from then on every frame is void, and the journal begins at its start.
//! Nobody who does not know the salt can make bytes that pass for a frame.
//!
//! The file has its full size from the start, so that a commit changes nothing about it that needs a second write.

use std::{io, sync::Arc};

use redb::StorageBackend;
use ring::{
    digest::{self, SHA256},
    rand::{SecureRandom, SystemRandom},
};

use super::{Batch, Table};

/// Makes the frames of one stretch, from one checkpoint to the next, differ from all others.
pub(super) type Salt = [u8; 32];

/// What is written at a time while a journal gets its size: a page.
const FORMAT_BYTES: usize = 4096;

const LEN_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = LEN_BYTES + TAG_BYTES;

/// The end of the journal, where commits are written.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn StorageBackend>,
    bytes: u64,
    salt: Salt,
    end: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is on the disk.
    Yes,
    /// The journal has no room for it.
    Full,
}

impl Journal {
    /// An empty journal of so many bytes; its frames will have this salt.
    pub(super) fn new(disk: Arc<dyn StorageBackend>, bytes: u64, salt: Salt) -> Self {
        Self { disk, bytes, salt, end: 0 }
    }

    /// Writes a batch behind those before, and returns when it is on the disk.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<Appended> {
        let mut frame = vec![0; HEAD_BYTES];
        encode(batch, &mut frame)?;
        let end = self.end.saturating_add(frame.len() as u64);
        if end > self.bytes {
            return Ok(Appended::Full);
        }
        let (head, payload) = frame.split_at_mut(HEAD_BYTES);
        let len = length(payload.len())?;
        head[LEN_BYTES..].copy_from_slice(&tag(&self.salt, self.end, payload));
        head[..LEN_BYTES].copy_from_slice(&len);
        self.disk.write(self.end, &frame)?;
        self.disk.sync_data()?;
        self.end = end;
        Ok(Appended::Yes)
    }

    /// The salt to be kept with the next checkpoint.
    pub(super) fn next_salt(&self) -> Salt {
        next_salt(&self.salt)
    }

    /// Begins anew: the data file has everything, and this salt.
    pub(super) fn restart(&mut self, salt: Salt) {
        (self.salt, self.end) = (salt, 0);
    }
}

/// A salt that nobody can guess.
pub(super) fn fresh_salt() -> io::Result<Salt> {
    let mut salt = Salt::default();
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(salt)
}

/// The salt that follows this one.
pub(super) fn next_salt(salt: &Salt) -> Salt {
    let mut next = Salt::default();
    next.copy_from_slice(digest::digest(&SHA256, salt).as_ref());
    next
}

/// Gives a journal its size. It is written in pieces, since Linux keeps a file in memory in pieces as large as it was written, and
/// goes through all of one for each small write to it.
pub(super) fn format(disk: &dyn StorageBackend, bytes: u64) -> io::Result<()> {
    disk.set_len(bytes)?;
    let zeros = [0; FORMAT_BYTES];
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).map_or(FORMAT_BYTES, |left| left.min(FORMAT_BYTES));
        disk.write(at, &zeros[..len])?;
        at = at.saturating_add(len as u64);
    }
    disk.sync_data()
}

/// The batches with this salt, in the order in which they were committed.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the journal is not as large as it was made.
pub(super) fn batches(disk: &dyn StorageBackend, bytes: u64, salt: &Salt) -> io::Result<Vec<Batch>> {
    let mut written = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    if disk.len()? < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    disk.read(0, &mut written)?;
    let mut batches = Vec::new();
    let mut rest = written.as_slice();
    while let Some((payload, behind)) = frame(rest, salt, bytes - rest.len() as u64) {
        batches.push(decode(payload).ok_or(io::ErrorKind::InvalidData)?);
        rest = behind;
    }
    Ok(batches)
}

/// The payload of the frame with which these bytes begin, if they begin with one, and what is behind it.
fn frame<'a>(bytes: &'a [u8], salt: &Salt, at: u64) -> Option<(&'a [u8], &'a [u8])> {
    let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
    let (found, rest) = rest.split_first_chunk::<TAG_BYTES>()?;
    let (payload, behind) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    (*found == tag(salt, at, payload)).then_some((payload, behind))
}

fn tag(salt: &Salt, at: u64, payload: &[u8]) -> [u8; TAG_BYTES] {
    let mut hash = digest::Context::new(&SHA256);
    hash.update(salt);
    hash.update(&at.to_le_bytes());
    hash.update(payload);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&hash.finish().as_ref()[..TAG_BYTES]);
    tag
}

/// Each change: the table's number, the key, and whether there is a value, and that.
fn encode(batch: &Batch, out: &mut Vec<u8>) -> io::Result<()> {
    for (table, key, value) in batch.changes() {
        out.push(number_of(table));
        encode_bytes(key, out)?;
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            encode_bytes(value, out)?;
        }
    }
    Ok(())
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend(length(bytes.len())?);
    out.extend(bytes);
    Ok(())
}

fn length(bytes: usize) -> io::Result<[u8; LEN_BYTES]> {
    Ok(u32::try_from(bytes).map_err(io::Error::other)?.to_le_bytes())
}

fn decode(mut bytes: &[u8]) -> Option<Batch> {
    let mut batch = Batch::default();
    while let Some((number, rest)) = bytes.split_first() {
        let table = *Table::ALL.get(usize::from(*number))?;
        let (key, rest) = split_bytes(rest)?;
        let (has_value, rest) = rest.split_first()?;
        bytes = rest;
        if *has_value == 0 {
            batch.delete(table, key);
        } else {
            let (value, rest) = split_bytes(rest)?;
            bytes = rest;
            batch.put(table, key, value);
        }
    }
    Some(batch)
}

fn split_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
    rest.split_at_checked(u32::from_le_bytes(*len) as usize)
}

/// The number of a table, which is its place among all.
fn number_of(table: Table) -> u8 {
    table as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    const BYTES: u64 = 4_096;
    const SALT: Salt = [7; 32];

    fn disk() -> Arc<dyn StorageBackend> {
        let disk = InMemoryBackend::new();
        format(&disk, BYTES).unwrap();
        Arc::new(disk)
    }

    fn batch(n: u8, bytes: usize) -> Batch {
        let mut batch = Batch::default();
        batch.put(Table::Records, [n], vec![n; bytes]);
        batch.delete(Table::Timers, [n, n]);
        batch
    }

    fn found(disk: &Arc<dyn StorageBackend>, salt: &Salt) -> Vec<Batch> {
        batches(&**disk, BYTES, salt).unwrap()
    }

    #[test]
    fn tables_have_the_numbers_of_their_places() {
        for (table, place) in Table::ALL.into_iter().zip(0..) {
            assert_eq!(number_of(table), place);
        }
    }

    #[test]
    fn what_was_appended_is_found_again_until_the_salt_changes() {
        let disk = disk();
        let mut journal = Journal::new(Arc::clone(&disk), BYTES, SALT);
        let all = [batch(1, 0), Batch::default(), batch(2, 700)];
        for batch in &all {
            assert_eq!(journal.append(batch).unwrap(), Appended::Yes);
        }
        assert_eq!(found(&disk, &SALT), all);
        let next = journal.next_salt();
        assert_eq!(found(&disk, &next), []);
        journal.restart(next);
        journal.append(&all[2]).unwrap();
        assert_eq!(found(&disk, &next), [all[2].clone()], "frames from before are void, wherever they are");
        assert_eq!(found(&disk, &SALT), []);
    }

    #[test]
    fn a_batch_for_which_there_is_no_room_is_not_written() {
        let disk = disk();
        let mut journal = Journal::new(Arc::clone(&disk), BYTES, SALT);
        assert_eq!(journal.append(&batch(1, BYTES as usize)).unwrap(), Appended::Full);
        let count = (0..).take_while(|n| journal.append(&batch(*n, 1_000)).unwrap() == Appended::Yes).count();
        assert_eq!(count, 3);
        assert_eq!(found(&disk, &SALT).len(), 3);
        assert_eq!(journal.append(&batch(9, 900)).unwrap(), Appended::Yes, "a smaller one has room");
    }

    #[test]
    fn a_journal_that_was_cut_off_is_not_taken_for_an_empty_one() {
        let disk = disk();
        disk.set_len(BYTES - 1).unwrap();
        let error = batches(&*disk, BYTES, &SALT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_frame_that_a_user_made_up_is_none() {
        let disk = disk();
        let mut journal = Journal::new(Arc::clone(&disk), BYTES, SALT);
        let (mut forged, mut payload) = (vec![0; HEAD_BYTES], Vec::new());
        encode(&batch(9, 40), &mut payload).unwrap();
        forged[..LEN_BYTES].copy_from_slice(&length(payload.len()).unwrap());
        forged[LEN_BYTES..].copy_from_slice(&tag(&[0; 32], 500, &payload));
        forged.extend(payload);
        disk.write(500, &forged).unwrap();
        let mut filler = Batch::default();
        // The head of the frame, the table, the lengths of key and value, and whether there is one: all but the value.
        let around = HEAD_BYTES + 1 + 2 * LEN_BYTES + 1;
        filler.put(Table::Meta, b"".as_slice(), vec![0; 500 - around]);
        journal.append(&filler).unwrap();
        assert_eq!(journal.end, 500);
        assert_eq!(found(&disk, &SALT), [filler]);
    }

    proptest! {
        #[test]
        fn whatever_is_torn_off_the_last_frame_those_before_it_are_found(
            sizes in prop::collection::vec(0..300_usize, 1..8),
            kept in 0.0..1.0,
        ) {
            let disk = disk();
            let mut journal = Journal::new(Arc::clone(&disk), BYTES, SALT);
            let all: Vec<_> = sizes.iter().zip(0..).map(|(bytes, n)| batch(n, *bytes)).collect();
            let mut ends = vec![0];
            for batch in &all {
                journal.append(batch).unwrap();
                ends.push(journal.end);
            }
            let last = ends[ends.len() - 1] - ends[ends.len() - 2];
            let torn = ends[ends.len() - 2] + (last as f64 * kept) as u64;
            disk.write(torn, &vec![0xff; (BYTES - torn) as usize]).unwrap();
            prop_assert_eq!(found(&disk, &SALT), &all[..all.len() - 1]);
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(batch) = decode(&bytes) {
                let mut again = Vec::new();
                encode(&batch, &mut again).unwrap();
                prop_assert_eq!(decode(&again), Some(batch));
            }
        }
    }
}
