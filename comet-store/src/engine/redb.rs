//! The engine on a disk: a redb file and the [journal](super::journal) before it.
//!
//! A commit that must be on the disk is there once the journal has it. Its changes stay in memory, where [readers find
//! them](super::view), until there are enough of them to be worth a transaction. A checkpoint brings everything to the
//! database and that to the disk: when the journal is full, and after every failure.
//!
//! Checkpoints are two-phase with the allocator's state (`set_quick_repair`): a file needs no repair after a power
//! cut, and no bytes that a user chose can pass for a valid page. The first phase puts every page
//! on the disk before the second makes them count, so that trying again after a failed `fsync` never builds
//! on pages that the kernel has dropped: nothing points at them. The journal has no such phases, and so nothing is
//! appended to it after a failure before a checkpoint has made its frames void.
//!
//! redb's reads panic on pages that make no sense; such a panic is caught and is damage.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions, TryLockError},
    io, iter,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, StorageError,
    TableDefinition, TableError, backends::FileBackend,
};

use super::{
    Batch, Engine, EngineError, HEADER_KEY, OnDisk, Range, Reader, Table, Visit,
    disk::{Held, Overlay, Shutter, Shuttered},
    journal::{self, Appended, Journal, Salt},
    view::{View, definition},
};
use crate::{
    OpenError,
    codec::{DecodeError, FORMAT, Header, seal, unseal},
};

const DATA_FILE: &str = "comet.redb";
const NEW_DATA_FILE: &str = "comet.redb.new";
const JOURNAL_FILE: &str = "comet.journal";
const LOCK_FILE: &str = "comet.lock";

/// The journal's size. When it is full, after some ten thousand small writes, a checkpoint takes 20 to 50 ms; opening
/// reads it once.
const JOURNAL_BYTES: u64 = 4 << 20;

/// Bytes of changes that wait in memory for the database. The journal's size bounds those that are on the disk already; this
/// bounds those that follow later.
const RECENT_BYTES_MAX: usize = 4 << 20;

/// Where the journal's salt is kept, which nobody else knows.
const SALT: TableDefinition<'static, (), Salt> = TableDefinition::new("journal");

/// Keeps everything in one data file and its journal; its readers keep both open.
#[derive(Debug)]
pub(crate) struct RedbEngine {
    file: Arc<DataFile>,
    journal: Journal,
    /// True if there are commits that neither the journal nor the disk has.
    is_disk_behind: bool,
    /// True if the last commit failed and the file is to be opened again before the next.
    is_failed: bool,
}

/// What a store is kept on.
#[derive(Clone, Debug)]
pub(crate) struct Disks {
    /// The data file.
    pub(crate) data: Arc<dyn StorageBackend>,
    /// The journal.
    pub(crate) journal: Arc<dyn StorageBackend>,
    /// The size that the journal has or is given.
    pub(crate) journal_bytes: u64,
}

/// The file, and the database over it as far as it works.
#[derive(Debug)]
struct DataFile {
    disks: Disks,
    cache_bytes: usize,
    state: RwLock<State>,
    /// Held while anybody can read or write.
    _lock: Option<File>,
}

/// What a journal had.
#[derive(Debug)]
struct Replayed {
    salt: Salt,
    batches: usize,
}

/// A database, what readers see of it, and what ends it.
#[derive(Debug)]
struct Open {
    view: RwLock<View>,
    database: Database,
    shutter: Shutter,
}

#[derive(Debug)]
enum State {
    Writable(Open),
    /// The disk failed; what it holds is read through an [`Overlay`].
    Readable(Open),
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
        let opened = disks(dir, &file).and_then(|disks| Self::over(disks, header, cache_bytes, Some(lock)));
        opened.map_err(refused)
    }

    /// Opens a database over any backends; empty ones become a new store.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn over_backends(
        disks: Disks,
        header: &Header,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let opened = match disks.data.len() {
            Ok(0) => format(Arc::clone(&disks.data), header, cache_bytes),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        };
        let opened = opened.and_then(|()| Self::over(disks, header, cache_bytes, None));
        opened.map_err(|refusal| refusal.about(Path::new("the backend"), header))
    }

    /// The data file of a directory.
    pub(crate) fn file(dir: &Path) -> PathBuf {
        dir.join(DATA_FILE)
    }

    fn over(disks: Disks, header: &Header, cache_bytes: usize, lock: Option<File>) -> Result<Self, Refusal> {
        // What may be somebody else's is looked at before anything is written to it.
        let state = State::Readable(database(Overlay::new(Arc::clone(&disks.data))?, cache_bytes)?);
        let journal = Journal::new(Arc::clone(&disks.journal), disks.journal_bytes, journal::fresh_salt()?);
        let file = DataFile { disks, cache_bytes, state: RwLock::new(state), _lock: lock };
        let mut engine = Self { file: Arc::new(file), journal, is_disk_behind: false, is_failed: false };
        engine.check_header(header)?;
        match engine.file.reopen()? {
            // Nothing is written to a file that needs it not: if it is damaged, it stays as it is.
            Some(Replayed { salt, batches: 0 }) => engine.journal.restart(salt),
            found => engine.renew(found.as_ref())?,
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

impl RedbEngine {
    /// Brings what was found in the journal to the data file, and begins a new journal.
    fn renew(&mut self, found: Option<&Replayed>) -> Result<(), EngineError> {
        match found {
            Some(found) => self.journal.restart(found.salt),
            // The data file is from before there were journals, or new.
            None => {
                let Disks { journal, journal_bytes, .. } = &self.file.disks;
                journal::format(&**journal, *journal_bytes)?;
            }
        }
        self.checkpoint(&Batch::default())
    }

    /// Brings the data file to the disk, this batch included, and makes the journal's frames void.
    fn checkpoint(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let salt = self.journal.next_salt();
        self.file.write(|open| open.apply(&[batch], Commit::OnDisk(Some(salt))))?;
        self.journal.restart(salt);
        self.is_disk_behind = false;
        Ok(())
    }

    fn try_commit(&mut self, batch: Batch, by: OnDisk) -> Result<(), EngineError> {
        if self.is_failed {
            let found = self.file.reopen()?;
            self.renew(found.as_ref())?;
        }
        // The journal knows nothing of commits that were to follow later.
        let is_journaled =
            by == OnDisk::Now && !self.is_disk_behind && self.journal.append(&batch)? == Appended::Yes;
        if by == OnDisk::Now && !is_journaled {
            return self.checkpoint(&batch);
        }
        self.is_disk_behind |= by == OnDisk::Later;
        self.file.write(|open| open.remember(batch))
    }
}

impl Drop for RedbEngine {
    fn drop(&mut self) {
        if self.is_disk_behind
            && !self.is_failed
            && let Err(error) = self.checkpoint(&Batch::default())
        {
            log::warn!("what was to be brought to the disk later is lost: {error}");
        }
    }
}

impl Engine for RedbEngine {
    fn commit(&mut self, batch: Batch, by: OnDisk) -> Result<(), EngineError> {
        let committed = self.try_commit(batch, by);
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
    fn write(&self, write: impl FnOnce(&Open) -> Result<(), redb::Error>) -> Result<(), EngineError> {
        match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Writable(open) => guarded(|| write(open)),
            // A read met the failure before a write did.
            State::Readable(_) => Err(EngineError::Io { reason: "an earlier read failed".into() }),
            State::Closed(reason) => Err(EngineError::Io { reason: reason.clone() }),
        }
    }

    /// Tries to get the database back that can write, with what the journal has, if there is one.
    fn reopen(&self) -> Result<Option<Replayed>, EngineError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The old database goes before the new one comes: two of them would not know of each other.
        close(&mut state);
        let database = database(Held(Arc::clone(&self.disks.data)), self.cache_bytes);
        match database.and_then(|open| self.replay(open)) {
            Ok((open, found)) => {
                *state = State::Writable(open);
                Ok(found)
            }
            Err(refusal) => {
                *state = self.readable();
                Err(refusal.into())
            }
        }
    }

    /// Commits what the journal has once more, in memory.
    fn replay(&self, open: Open) -> Result<(Open, Option<Replayed>), Refusal> {
        match self.replay_on(&open) {
            Ok(found) => Ok((open, found)),
            Err(error) => {
                close(&mut State::Readable(open));
                Err(error.into())
            }
        }
    }

    fn replay_on(&self, open: &Open) -> Result<Option<Replayed>, EngineError> {
        let Some(salt) = guarded(|| salt(&open.database))? else { return Ok(None) };
        let Disks { journal, journal_bytes, .. } = &self.disks;
        let batches =
            journal::batches(&**journal, *journal_bytes, &salt).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    EngineError::Damaged { reason: "its journal is missing".into() }
                }
                io::ErrorKind::InvalidData => {
                    EngineError::Damaged { reason: "its journal makes no sense".into() }
                }
                _ => error.into(),
            })?;
        if !batches.is_empty() {
            guarded(|| open.apply(&batches.iter().collect::<Vec<_>>(), Commit::InMemory))?;
        }
        Ok(Some(Replayed { salt, batches: batches.len() }))
    }

    /// Goes on reading without writing.
    fn only_read(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        close(&mut state);
        *state = self.readable();
    }

    fn readable(&self) -> State {
        let database = Overlay::new(Arc::clone(&self.disks.data))
            .map_err(Refusal::from)
            .and_then(|overlay| database(overlay, self.cache_bytes))
            .and_then(|open| self.replay(open));
        match database {
            Ok((open, _)) => State::Readable(open),
            Err(refusal) => State::Closed(EngineError::from(refusal).to_string()),
        }
    }

    /// Reads; where the disk failed, starts afresh for the next read.
    fn read<T>(&self, read: impl FnOnce(&Open) -> Result<T, redb::Error>) -> Result<T, EngineError> {
        let outcome = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Writable(open) | State::Readable(open) => guarded(|| read(open)),
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
        self.read(|open| open.view().value(table, key))
    }

    fn visit(&self, table: Table, range: Range<'_>, each: Visit<'_>) -> Result<(), EngineError> {
        self.read(|open| open.view().visit(table, range, each))
    }
}

impl Open {
    /// A database with nothing still to take.
    fn new(database: Database, shutter: Shutter) -> Result<Self, redb::Error> {
        Ok(Self { view: RwLock::new(View::of(&database)?), database, shutter })
    }

    /// Shows readers a batch that the database takes later.
    fn remember(&self, batch: Batch) -> Result<(), redb::Error> {
        let bytes = self.view.write().unwrap_or_else(PoisonError::into_inner).absorb(batch);
        if bytes > RECENT_BYTES_MAX { self.apply(&[], Commit::InMemory) } else { Ok(()) }
    }

    /// Has the database take what it is still to take, and these batches, and shows readers that all at once.
    fn apply(&self, batches: &[&Batch], how: Commit) -> Result<(), redb::Error> {
        let before = self.view();
        apply(&self.database, iter::once(before.recent()).chain(batches.iter().copied()), how)?;
        drop(before);
        let after = View::of(&self.database)?;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(())
    }

    fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a database as it is. What it would still write can panic on pages that make no sense, and once more while that
/// is cleaned up, which ends the process.
fn close(state: &mut State) {
    let state = std::mem::replace(state, State::Closed("the data file is being opened".into()));
    if let State::Writable(open) | State::Readable(open) = &state {
        open.shutter.shut();
    }
    if caught(|| drop(state)).is_err() {
        log::warn!("the data file was closed as it is: its pages make no sense");
    }
}

/// What a commit comes to.
#[derive(Clone, Copy, Debug)]
enum Commit {
    /// Readers see it.
    InMemory,
    /// It is on the disk with everything before it, and with the salt of the journal's next frames.
    OnDisk(Option<Salt>),
}

fn apply<'a>(
    database: &Database,
    batches: impl IntoIterator<Item = &'a Batch>,
    how: Commit,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    match how {
        Commit::InMemory => transaction.set_durability(Durability::None)?,
        Commit::OnDisk(salt) => {
            transaction.set_quick_repair(true);
            if let Some(salt) = salt {
                transaction.open_table(SALT)?.insert((), salt)?;
            }
        }
    }
    for (table, changes) in batches.into_iter().flat_map(|batch| &batch.tables) {
        let mut entries = transaction.open_table(definition(*table))?;
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key.as_slice(), value.as_slice())?,
                None => entries.remove(key.as_slice())?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The journal's salt, if the data file has one.
fn salt(database: &Database) -> Result<Option<Salt>, redb::Error> {
    match database.begin_read()?.open_table(SALT) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(table?.get(())?.map(|salt| salt.value())),
    }
}

/// Opens a database over a backend; an empty one becomes a new database.
fn database(backend: impl StorageBackend, cache_bytes: usize) -> Result<Open, Refusal> {
    let shutter = Shutter::default();
    let backend = Shuttered(backend, shutter.clone());
    let open = || Builder::new().set_cache_size(cache_bytes).create_with_backend(backend);
    match caught(open) {
        Ok(Ok(database)) => Ok(guarded(|| Open::new(database, shutter))?),
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
    format(file_backend(file)?, header, cache_bytes)?;
    fs::rename(&new, RedbEngine::file(dir))?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Makes a new database that holds this header.
fn format(disk: Arc<dyn StorageBackend>, header: &Header, cache_bytes: usize) -> Result<(), Refusal> {
    let Open { database, .. } = database(Held(disk), cache_bytes)?;
    let mut batch = Batch::default();
    batch.put(Table::Header, HEADER_KEY, seal(Table::Header, HEADER_KEY, header));
    Ok(guarded(|| apply(&database, [&batch], Commit::OnDisk(None)))?)
}

/// The files of a directory that has a data file.
fn disks(dir: &Path, file: &Path) -> Result<Disks, Refusal> {
    let data = file_backend(private().open(file)?)?;
    let journal = private().create(true).truncate(false).open(dir.join(JOURNAL_FILE))?;
    // Its name must be on the disk before anything is that counts on it.
    File::open(dir)?.sync_all()?;
    Ok(Disks { data, journal: file_backend(journal)?, journal_bytes: JOURNAL_BYTES })
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

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        Self::Io { reason: error.to_string() }
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
