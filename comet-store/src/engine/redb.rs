//! The engine on a disk: one redb file.
//!
//! Commits are two-phase with the allocator's state (`set_quick_repair`): a file needs no repair after a power
//! cut, and no bytes that a user chose can pass for a valid page. The first phase puts every page
//! on the disk before the second makes them count, so that trying again after a failed `fsync` never builds
//! on pages that the kernel has dropped: nothing points at them.
//!
//! redb's reads panic on pages that make no sense; such a panic is caught and is damage.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition, TableError, backends::FileBackend,
};

use super::{
    Batch, Engine, EngineError, HEADER_KEY, OnDisk, Range, Reader, Table, Visit,
    disk::{Held, Overlay},
};
use crate::{
    OpenError,
    codec::{DecodeError, FORMAT, Header, seal, unseal},
};

const DATA_FILE: &str = "comet.redb";
const NEW_DATA_FILE: &str = "comet.redb.new";
const LOCK_FILE: &str = "comet.lock";

/// Keeps everything in one file; its readers keep the file open.
#[derive(Debug)]
pub(crate) struct RedbEngine {
    file: Arc<DataFile>,
    /// True if the last commit failed and the file is to be opened again before the next.
    is_failed: bool,
}

/// The file, and the database over it as far as it works.
#[derive(Debug)]
struct DataFile {
    disk: Arc<dyn StorageBackend>,
    cache_bytes: usize,
    state: RwLock<State>,
    /// Held while anybody can read or write.
    _lock: Option<File>,
}

#[derive(Debug)]
enum State {
    Writable(Database),
    /// The disk failed; what it holds is read through an [`Overlay`].
    Readable(Database),
    /// The disk cannot even be read.
    Closed(String),
}

/// Why a data file was not opened.
#[derive(Debug)]
enum Refusal {
    Foreign,
    Newer { found: u8 },
    OtherNetwork { found: String },
    Damaged(String),
    Io(io::Error),
}

impl RedbEngine {
    /// Opens the data file in a directory, creating both if they are not there.
    pub(crate) fn open(dir: &Path, header: &Header, cache_bytes: usize) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        create_dir(dir).map_err(io(dir))?;
        let lock_file = dir.join(LOCK_FILE);
        let lock = private().create(true).truncate(false).open(&lock_file).map_err(io(&lock_file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(&lock_file)(source)),
        }
        let file = Self::file(dir);
        let refused = |refusal: Refusal| refusal.about(&file, header);
        if !file.try_exists().map_err(io(&file))? {
            create(dir, header, cache_bytes).map_err(refused)?;
        }
        let opened = private()
            .open(&file)
            .map_err(Refusal::Io)
            .and_then(|opened| Self::over(file_backend(opened)?, header, cache_bytes, Some(lock)));
        opened.map_err(refused)
    }

    /// Opens a database over any backend; an empty one becomes a new store.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn over_backend(
        disk: Arc<dyn StorageBackend>,
        header: &Header,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        Self::over(disk, header, cache_bytes, None)
            .map_err(|refusal| refusal.about(Path::new("the backend"), header))
    }

    /// The data file of a directory.
    pub(crate) fn file(dir: &Path) -> PathBuf {
        dir.join(DATA_FILE)
    }

    fn over(
        disk: Arc<dyn StorageBackend>,
        header: &Header,
        cache_bytes: usize,
        lock: Option<File>,
    ) -> Result<Self, Refusal> {
        let is_new = disk.len()? == 0;
        // What may be somebody else's is looked at before anything is written to it.
        let state = if is_new {
            State::Writable(database(Held(Arc::clone(&disk)), cache_bytes)?)
        } else {
            State::Readable(database(Overlay::new(Arc::clone(&disk))?, cache_bytes)?)
        };
        let file = DataFile { disk, cache_bytes, state: RwLock::new(state), _lock: lock };
        let mut engine = Self { file: Arc::new(file), is_failed: false };
        if is_new {
            let mut batch = Batch::default();
            batch.put(Table::Header, HEADER_KEY, seal(Table::Header, HEADER_KEY, header));
            engine.commit(&batch, OnDisk::Now)?;
        } else {
            engine.check_header(header)?;
            engine.file.reopen()?;
        }
        Ok(engine)
    }

    fn check_header(&self, header: &Header) -> Result<(), Refusal> {
        let Some(sealed) = self.file.value(Table::Header, HEADER_KEY)? else { return Err(Refusal::Foreign) };
        match unseal::<Header>(Table::Header, HEADER_KEY, &sealed) {
            Ok(found) if found == *header => Ok(()),
            Ok(found) => Err(Refusal::OtherNetwork { found: found.network }),
            Err(DecodeError::Format(found)) if found > FORMAT => Err(Refusal::Newer { found }),
            Err(error) => Err(Refusal::Damaged(error.to_string())),
        }
    }
}

impl Engine for RedbEngine {
    fn commit(&mut self, batch: &Batch, by: OnDisk) -> Result<(), EngineError> {
        if self.is_failed {
            self.file.reopen()?;
        }
        let committed = self.file.commit(batch, by);
        self.is_failed = committed.is_err();
        if self.is_failed {
            self.file.only_read();
        }
        committed
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::<DataFile>::clone(&self.file)
    }
}

impl DataFile {
    fn commit(&self, batch: &Batch, by: OnDisk) -> Result<(), EngineError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Writable(database) => guarded(|| apply(database, batch, by)),
            // A read met the failure before a write did.
            State::Readable(_) => Err(EngineError::Io { reason: "an earlier read failed".into() }),
            State::Closed(reason) => Err(EngineError::Io { reason: reason.clone() }),
        }
    }

    /// Tries to get the database back that can write.
    fn reopen(&self) -> Result<(), EngineError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The old database goes before the new one comes: two of them would not know of each other.
        close(&mut state);
        match database(Held(Arc::clone(&self.disk)), self.cache_bytes) {
            Ok(database) => {
                *state = State::Writable(database);
                Ok(())
            }
            Err(refusal) => {
                *state = self.readable();
                Err(refusal.into())
            }
        }
    }

    /// Goes on reading without writing.
    fn only_read(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut state);
        *state = self.readable();
    }

    fn readable(&self) -> State {
        let database = Overlay::new(Arc::clone(&self.disk))
            .map_err(Refusal::from)
            .and_then(|overlay| database(overlay, self.cache_bytes));
        match database {
            Ok(database) => State::Readable(database),
            Err(refusal) => State::Closed(EngineError::from(refusal).to_string()),
        }
    }

    /// Reads; where the disk failed, starts afresh for the next read.
    fn read<T>(&self, read: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, EngineError> {
        let outcome = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Writable(database) | State::Readable(database) => guarded(|| read(database)),
            State::Closed(reason) => Err(EngineError::Io { reason: reason.clone() }),
        };
        if matches!(outcome, Err(EngineError::Io { .. })) {
            self.only_read();
        }
        outcome
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        close(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Reader for DataFile {
    fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.read(|database| {
            let table = match database.begin_read()?.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                table => table?,
            };
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError> {
        self.read(|database| {
            let table = match database.begin_read()?.open_table(definition(table)) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                table => table?,
            };
            for entry in table.range::<&[u8]>(range)? {
                let (key, value) = entry?;
                if each(key.value(), value.value()).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Closes a database: that writes to it, and can panic on pages that make no sense.
fn close(state: &mut State) {
    let open = std::mem::replace(state, State::Closed("the data file is being opened".into()));
    if caught(|| drop(open)).is_err() {
        log::warn!("the data file was closed as it is: its pages make no sense");
    }
}

fn apply(database: &Database, batch: &Batch, by: OnDisk) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    match by {
        OnDisk::Now => transaction.set_quick_repair(true),
        OnDisk::Later => {
            transaction.set_durability(Durability::None)?;
        }
    }
    for table in Table::ALL {
        let mut changes = batch.changes().filter(|change| change.0 == table).peekable();
        if changes.peek().is_none() {
            continue;
        }
        let mut entries = transaction.open_table(definition(table))?;
        for (_, key, value) in changes {
            match value {
                Some(value) => entries.insert(key, value)?,
                None => entries.remove(key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

/// Opens a database over a backend; an empty one becomes a new database.
fn database(backend: impl StorageBackend, cache_bytes: usize) -> Result<Database, Refusal> {
    let open = || Builder::new().set_cache_size(cache_bytes).create_with_backend(backend);
    match caught(open) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::Storage(StorageError::Io(error))))
            if error.kind() == io::ErrorKind::InvalidData =>
        {
            Err(Refusal::Foreign)
        }
        Ok(Err(error)) => Err(engine_error(&error.into()).into()),
        Err(_) => Err(Refusal::Damaged("its pages make no sense".into())),
    }
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// True while a panic on this thread means damaged pages and is caught: for a panic hook that otherwise ends
/// the process.
pub fn catches_panics() -> bool {
    CATCHING.get()
}

fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(outer);
    outcome
}

/// Runs something over pages that may be damaged.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, EngineError> {
    match caught(work) {
        Ok(outcome) => outcome.map_err(|error| engine_error(&error)),
        Err(_) => Err(EngineError::Damaged { reason: "its pages make no sense".into() }),
    }
}

fn engine_error(error: &redb::Error) -> EngineError {
    let reason = error.to_string();
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::Backend(_) => EngineError::Io { reason },
        _ => EngineError::Damaged { reason },
    }
}

/// Makes a new data file beside its place and moves it there, so that a power cut leaves none or a whole one.
fn create(dir: &Path, header: &Header, cache_bytes: usize) -> Result<(), Refusal> {
    let new = dir.join(NEW_DATA_FILE);
    let file = private().create(true).truncate(true).open(&new)?;
    drop(RedbEngine::over(file_backend(file)?, header, cache_bytes, None)?);
    fs::rename(&new, RedbEngine::file(dir))?;
    Ok(File::open(dir)?.sync_all()?)
}

fn file_backend(file: File) -> Result<Arc<dyn StorageBackend>, Refusal> {
    match FileBackend::new(file) {
        Ok(backend) => Ok(Arc::new(backend)),
        Err(error) => Err(engine_error(&error.into()).into()),
    }
}

/// Creates a directory that only this user can enter, if it is not there.
fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Options that open a file for this user alone.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Refusal {
    fn about(self, file: &Path, header: &Header) -> OpenError {
        let file = file.to_owned();
        match self {
            Self::Foreign => OpenError::Foreign { file },
            Self::Newer { found } => OpenError::Newer { file, found, known: FORMAT },
            Self::OtherNetwork { found } => {
                OpenError::OtherNetwork { file, found, wanted: header.network.clone() }
            }
            Self::Damaged(reason) => OpenError::Damaged { file, reason },
            Self::Io(source) => OpenError::Io { path: file, source },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Io { reason } => Self::Io(io::Error::other(reason)),
            EngineError::Damaged { reason } => Self::Damaged(reason),
        }
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Io(error) => Self::Io { reason: error.to_string() },
            Refusal::Damaged(reason) => Self::Damaged { reason },
            Refusal::Foreign | Refusal::Newer { .. } | Refusal::OtherNetwork { .. } => {
                Self::Damaged { reason: "another file has taken its place".into() }
            }
        }
    }
}
