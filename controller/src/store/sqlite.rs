// SPDX-License-Identifier: Apache-2.0
//! The default store: one SQLite database in the state directory, in write-ahead mode, flushed with every commit.
//!
//! One thread writes (see `writer`); a few connections read beside it and never wait for it. A point read takes some
//! microseconds, so it is made where it is asked for; a wide range goes to a thread for blocking work. The directory
//! belongs to one process at a time, and state that cannot be trusted is refused (see `open`).

pub(crate) mod open;
mod writer;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};
use tokio::sync::{broadcast, mpsc, oneshot};

use self::open::DATABASE;
pub use self::open::OpenError;
use self::writer::{Request, Writer};
use super::{Committed, Entry, Revision, Store, StoreError, Transaction, WATCH_BACKLOG, Watch, WatchEvent};

/// Connections for reading: more than the threads of a runtime on a small bastion, at some 100 KiB each.
const READERS: usize = 4;

/// Ranges up to this many entries are read in place: they take less time than a change of thread.
const NARROW: usize = 64;

/// Keys in a database on disk.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    readers: Arc<Readers>,
    requests: Option<mpsc::UnboundedSender<Request>>,
    changes: broadcast::Sender<Arc<Vec<WatchEvent>>>,
    writer: Option<JoinHandle<()>>,
    _lock: File,
}

impl SqliteStore {
    /// Opens the state of a controller, or begins a new one in a directory that is new or empty. The directory is made
    /// with mode 0700 if it is missing, and is this process's alone until the store is dropped.
    ///
    /// # Errors
    /// If another controller uses the directory, or what is there is damaged, newer, incomplete or not writable.
    pub fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        let lock = open::claim(directory)?;
        let connection = open::database(directory)?;
        Self::start(directory.join(DATABASE), lock, connection)
    }

    fn start(path: PathBuf, lock: File, connection: Connection) -> Result<Arc<Self>, OpenError> {
        let failed = |source| OpenError::from_database(&path, source);
        let revision = open::meta::<i64>(&connection, "revision").map_err(failed)?.unwrap_or(0);
        let readers = Readers::open(&path).map_err(failed)?;
        let changes = broadcast::Sender::new(WATCH_BACKLOG);
        let writer = Writer { connection, revision: revision.unsigned_abs(), changes: changes.clone(), failed: None };
        // No limit is needed: whoever hands in a transaction waits for it. And handing in never waits, which would
        // let transactions overtake each other.
        let (requests, receiver) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|source| OpenError::Directory { directory: path.clone(), source })?;
        let readers = Arc::new(readers);
        Ok(Arc::new(Self { path, readers, requests: Some(requests), changes, writer: Some(thread), _lock: lock }))
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it takes on disk, the write-ahead log included, bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let log = self.path.with_file_name(format!("{DATABASE}-wal"));
        [&self.path, &log].into_iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum()
    }

    /// Writes a consistent copy to a new file of mode 0600 while the store goes on. Takes a while: call it from a thread
    /// for blocking work.
    ///
    /// # Errors
    /// If the file exists, or cannot be written; then it is removed again.
    pub fn copy_to(&self, target: &Path) -> Result<(), CopyError> {
        let failed = |source| CopyError::File { path: target.to_owned(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map_err(failed)?;
        let copied = self.vacuum_into(target).and_then(|()| file.sync_all().map_err(failed));
        if copied.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(target);
        }
        copied
    }

    fn vacuum_into(&self, target: &Path) -> Result<(), CopyError> {
        let failed = |source| CopyError::Database { path: target.to_owned(), source };
        // A connection of its own, so that no reader waits for the copy.
        let connection = open::connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        let name = target.to_str().ok_or_else(|| CopyError::Name(target.to_owned()))?;
        connection.execute("VACUUM INTO ?1", [name]).map(|_| ()).map_err(failed)
    }
}

impl Drop for SqliteStore {
    /// Waits for what was handed in, so that afterwards the directory is free for whoever opens it next.
    fn drop(&mut self) {
        self.readers.close();
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread of the state database panicked");
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.readers.get(key)
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        if limit <= NARROW {
            return self.readers.range(prefix, after, limit);
        }
        let (readers, prefix, after) = (self.readers.clone(), prefix.to_owned(), after.map(str::to_owned));
        tokio::task::spawn_blocking(move || readers.range(&prefix, after.as_deref(), limit))
            .await
            .map_err(|_| StoreError::Closed)?
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        let (answer, committed) = oneshot::channel();
        requests.send(Request { transaction, answer }).map_err(|_| StoreError::Closed)?;
        committed.await.map_err(|_| StoreError::Closed)?
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.changes.subscribe())
    }
}

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The target cannot be written.
    #[error("write the copy {}", .path.display())]
    File {
        /// The target.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database answered with an error.
    #[error("copy the state database to {}", .path.display())]
    Database {
        /// The target.
        path: PathBuf,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
    /// The database takes only names in UTF-8.
    #[error("the name of {} is not UTF-8: choose another", .0.display())]
    Name(PathBuf),
}

/// A few connections, each used by one reader at a time.
#[derive(Debug)]
struct Readers {
    connections: Vec<Mutex<Option<Connection>>>,
    turn: AtomicUsize,
}

impl Readers {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let open = |_| Ok(Mutex::new(Some(open::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?)));
        Ok(Self { connections: (0..READERS).map(open).collect::<rusqlite::Result<_>>()?, turn: AtomicUsize::new(0) })
    }

    fn close(&self) {
        for connection in &self.connections {
            *connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// A connection that is free, else the next in turn.
    fn take(&self) -> MutexGuard<'_, Option<Connection>> {
        if let Some(free) = self.connections.iter().find_map(|connection| connection.try_lock().ok()) {
            return free;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        self.connections[turn].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let connection = self.take();
        let connection = connection.as_ref().ok_or(StoreError::Closed)?;
        let read = || {
            let mut statement = connection.prepare_cached("SELECT key, value, revision FROM keys WHERE key = ?1")?;
            statement.query_row([key], entry).optional()
        };
        read().map_err(|source| StoreError::new("read", source))
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let connection = self.take();
        let connection = connection.as_ref().ok_or(StoreError::Closed)?;
        select(connection, prefix, after, limit).map_err(|source| StoreError::new("read", source))
    }
}

/// Reads until the limit, or the first key that does not begin with the prefix: keys sort by their bytes.
fn select(connection: &Connection, prefix: &str, after: Option<&str>, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    let (query, start) = match after {
        Some(after) if after >= prefix => ("SELECT key, value, revision FROM keys WHERE key > ?1 ORDER BY key", after),
        _ => ("SELECT key, value, revision FROM keys WHERE key >= ?1 ORDER BY key", prefix),
    };
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([start])?;
    let mut entries = Vec::new();
    while entries.len() < limit
        && let Some(row) = rows.next()?
    {
        let entry = entry(row)?;
        if !entry.key.starts_with(prefix) {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let revision: i64 = row.get(2)?;
    Ok(Entry { key: row.get(0)?, value: row.get(1)?, revision: revision.unsigned_abs() })
}

/// A revision as the database stores it. One commit a nanosecond would take three centuries to reach the limit.
fn number(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
