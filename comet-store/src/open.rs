//! Opening a store: a directory on a disk, or nothing but memory.

use std::{io, path::Path, path::PathBuf};

use crate::{
    StoreConfig, StoreReader, StoreWriter,
    codec::Header,
    engine::{memory::MemoryEngine, redb::RedbEngine},
};

/// Why a store did not open. What was in the directory is still there.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process; stop that node or give this one another data directory", .dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The data file is not one that Comet wrote.
    #[error(
        "{} was not written by Comet; move it away or give this node another data directory",
        .file.display()
    )]
    Foreign {
        /// The data file.
        file: PathBuf,
    },
    /// The data file was written by a later version of Comet.
    #[error("{} has format {found} and this version reads {known}; use the version of Comet that wrote it", .file.display())]
    Newer {
        /// The data file.
        file: PathBuf,
        /// The format found.
        found: u8,
        /// The format that this version reads and writes.
        known: u8,
    },
    /// The data file belongs to a node of another network.
    #[error(
        "{} holds objects of the network {found:?}, not of {wanted:?}; start the node with that network or \
         give it another data directory",
        .file.display()
    )]
    OtherNetwork {
        /// The data file.
        file: PathBuf,
        /// The network found.
        found: String,
        /// The network asked for.
        wanted: String,
    },
    /// The data file is damaged beyond what a power cut can do.
    #[error(
        "{} is damaged ({reason}); move it away and start again with an empty store; what other replicas hold is not lost",
        .file.display()
    )]
    Damaged {
        /// The data file.
        file: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The system refused.
    #[error("{} cannot be opened: {source}; check that it is a directory this user may write", .path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the store in a directory, which is created if it is not there; only one process can.
///
/// `network` is the name of the network whose objects are stored; a store keeps to the one it was created for.
pub fn open(dir: &Path, network: &str, config: StoreConfig) -> Result<(StoreWriter, StoreReader), OpenError> {
    let header = Header { network: network.into() };
    let engine = RedbEngine::open(dir, &header, config.cache_bytes)?;
    let writer = StoreWriter::new(Box::new(engine), header, config)
        .map_err(|error| OpenError::Damaged { file: RedbEngine::file(dir), reason: error.to_string() })?;
    let reader = writer.reader();
    Ok((writer, reader))
}

/// A store that forgets everything when it is dropped, for tests and simulation.
pub fn in_memory(config: StoreConfig) -> (StoreWriter, StoreReader) {
    let header = Header { network: String::new() };
    let writer = StoreWriter::new(Box::new(MemoryEngine::default()), header, config)
        .expect("an empty store in memory can be counted");
    let reader = writer.reader();
    (writer, reader)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use comet_routing::clock::Clock;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::{
        Deletion, Record, Rule, Version,
        codec::{FORMAT, seal},
        engine::{Batch, Engine, HEADER_KEY, OnDisk, Table},
        sample::{NOW, active, plain},
    };

    fn open_in(dir: &Path) -> Result<(StoreWriter, StoreReader), OpenError> {
        open(dir, "main", StoreConfig::default())
    }

    fn put(writer: &mut StoreWriter, record: &Record) {
        writer.put(record, None, Rule::IfNewer, Some(NOW), NOW).unwrap();
        writer.commit(OnDisk::Now, Clock::System.now()).unwrap();
    }

    fn error_of(dir: &Path) -> String {
        open_in(dir).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_store_comes_back_as_it_was_closed() {
        let dir = tempfile::tempdir().unwrap();
        let record = active("name", 1, b"data", "aso.n = 0");
        let deletion = Deletion::unsigned(Version { sequence: 9, ..record.version });
        let (mut writer, reader) = open_in(&dir.path().join("new/deep")).unwrap();
        put(&mut writer, &record);
        writer.save_meta("identity".into(), b"secret".as_slice().into()).unwrap();
        writer.save_log(&record.key, b"line".as_slice().into()).unwrap();
        writer.delete(&plain("gone", 1, b"").key, Some(deletion.clone()), None, NOW).unwrap();
        writer.commit(OnDisk::Later, Clock::System.now()).unwrap();
        let totals = reader.totals();
        drop((writer, reader));

        let (_, reader) = open_in(&dir.path().join("new/deep")).unwrap();
        assert_eq!(reader.record(&record.key, NOW), Ok(Some(record.clone())));
        assert_eq!(reader.log(&record.key), Ok(Some(b"line".as_slice().into())));
        assert_eq!(reader.meta("identity"), Ok(Some(b"secret".as_slice().into())));
        assert_eq!(reader.meta("nothing"), Ok(None));
        assert_eq!(reader.tombstone(&plain("gone", 1, b"").key), Ok(Some(deletion)));
        assert_eq!(reader.due_timers(NOW, 9), Ok(vec![(NOW, record.key)]));
        assert_eq!(reader.due_timers(NOW - 1, 9), Ok(vec![]));
        assert_eq!(reader.totals(), totals);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_look_into_a_new_store() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("data");
        let _store = open_in(&dir).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for entry in fs::read_dir(&dir).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn a_store_in_use_is_refused_while_anybody_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = open_in(dir.path()).unwrap();
        drop(writer);
        assert!(matches!(open_in(dir.path()), Err(OpenError::Locked { .. })));
        assert!(error_of(dir.path()).ends_with("give this one another data directory"));
        drop(reader);
        assert!(open_in(dir.path()).is_ok());
    }

    #[test]
    fn a_file_of_somebody_else_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let foreign_database = parent.path().join("redb");
        {
            let database = redb::Database::create(&foreign_database).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
            transaction.commit().unwrap();
        }
        let database = fs::read(foreign_database).unwrap();
        for (name, bytes) in
            [("text", b"not a store".to_vec()), ("zeros", vec![0; 9_000]), ("database", database)]
        {
            let dir = parent.path().join(name).join("data");
            fs::create_dir_all(&dir).unwrap();
            fs::write(RedbEngine::file(&dir), &bytes).unwrap();
            assert!(matches!(open_in(&dir), Err(OpenError::Foreign { .. })), "{name}: {}", error_of(&dir));
            let left = fs::read(RedbEngine::file(&dir)).unwrap();
            assert!(left == bytes, "{name} was changed");
        }
    }

    #[test]
    fn a_store_of_a_later_version_or_another_network_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open_in(dir.path()).unwrap());
        let other = open(dir.path(), "test", StoreConfig::default()).map(|_| ()).unwrap_err();
        assert!(
            matches!(&other, OpenError::OtherNetwork { found, wanted, .. } if found == "main" && wanted == "test")
        );

        let header = Header { network: "main".into() };
        let mut later = seal(Table::Header, HEADER_KEY, &header);
        later[0] = FORMAT + 1;
        let mut batch = Batch::default();
        batch.put(Table::Header, HEADER_KEY, later);
        // Not by the journal: what is read first is the data file.
        RedbEngine::open(dir.path(), &header, 1 << 20).unwrap().commit(batch, OnDisk::Later).unwrap();
        assert!(matches!(
            open_in(dir.path()),
            Err(OpenError::Newer { found, known: FORMAT, .. }) if found == FORMAT + 1
        ));
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(open_in(&file), Err(OpenError::Io { path, .. }) if path == file));
    }

    #[test]
    fn an_unfinished_creation_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("comet.redb.new"), b"half of a file").unwrap();
        assert!(open_in(dir.path()).is_ok());
    }

    #[test]
    fn a_store_without_its_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, reader) = open_in(dir.path()).unwrap();
        put(&mut writer, &plain("a", 1, b""));
        drop((writer, reader));
        let journal = dir.path().join("comet.journal");
        let bytes = fs::read(&journal).unwrap();
        fs::remove_file(&journal).unwrap();
        let error = error_of(dir.path());
        assert!(error.contains("its journal is missing") && error.contains("start again"), "{error}");
        assert!(error_of(dir.path()).contains("its journal is missing"), "nothing was made of it");
        fs::write(&journal, bytes).unwrap();
        assert_eq!(open_in(dir.path()).unwrap().1.totals().records, 1);
    }

    #[test]
    fn a_damaged_file_never_yields_a_wrong_byte() {
        let dir = tempfile::tempdir().unwrap();
        let records: Vec<_> = (0..30u8).map(|n| plain(&n.to_string(), 1, &[n; 700])).collect();
        let (mut writer, reader) = open_in(dir.path()).unwrap();
        records.iter().for_each(|record| put(&mut writer, record));
        drop((writer, reader));
        // Opening brings what the journal has to the data file.
        drop(open_in(dir.path()).unwrap());
        let file = RedbEngine::file(dir.path());
        let whole = fs::read(&file).unwrap();
        let rng = &mut ChaCha12Rng::seed_from_u64(8);
        let (mut refused, mut detected) = (0, 0);
        for _ in 0..150 {
            let mut damaged = whole.clone();
            for _ in 0..rng.random_range(1..40) {
                let at = rng.random_range(0..damaged.len());
                damaged[at] ^= 1 << rng.random_range(0..8);
            }
            fs::write(&file, damaged).unwrap();
            let Ok((_writer, reader)) = open_in(dir.path()) else {
                refused += 1;
                continue;
            };
            for record in &records {
                match reader.record(&record.key, NOW) {
                    Ok(Some(found)) => assert_eq!(found, *record),
                    Ok(None) | Err(_) => detected += 1,
                }
            }
        }
        assert!(refused > 0 && detected > 0, "{refused} refused, {detected} detected");
        fs::write(&file, whole).unwrap();
        let (_writer, reader) = open_in(dir.path()).unwrap();
        assert!(records.iter().all(|record| reader.record(&record.key, NOW) == Ok(Some(record.clone()))));
    }
}
