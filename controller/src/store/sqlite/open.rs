// SPDX-License-Identifier: Apache-2.0
//! Opening the state directory: who may use it, and whether what lies there can be trusted.
//!
//! Everything here errs on the side of refusing. State that is damaged, newer or partly gone is never replaced by an
//! empty database: a controller that has forgotten its nodes and revocations is worse than one that does not start.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use windlass_types::escape::Escaped;
use windlass_types::outcome::ErrorClass;

/// The database's file.
pub(crate) const DATABASE: &str = "state.db";

/// The file whose lock makes a controller the only one in its directory.
const LOCK: &str = "lock";

/// What else a controller keeps from its first start on: without a database, these tell that one is missing.
const OTHER_STATE: [&str; 3] = ["pki", "audit", "state.db-wal"];

/// The form of the tables. Raise it with every change that an older version could not read.
pub(crate) const SCHEMA: i64 = 1;

/// Marks a file as ours ("WNDL"), so that another program's database is not taken for state.
const APPLICATION_ID: i32 = 0x574e_444c;

const TABLES: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    CREATE TABLE keys (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID;";

/// How long a connection waits for another, such as one that is copying the database.
const BUSY: Duration = Duration::from_secs(10);

/// Why the state could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or read.
    #[error("use the state directory {}: make sure that it exists and belongs to the user of the controller", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing can be written there.
    #[error("write to the state directory {}: it must belong to the user of the controller, on a writable filesystem", .directory.display())]
    NotWritable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Other users can write to it, and it holds something that is not ours.
    #[error("the state directory {} can be written by other users (mode {mode:04o}) and holds files that are not Windlass's: choose a directory of its own, or `chmod 700` it", .directory.display())]
    TooOpen {
        /// The directory.
        directory: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Another controller is running there.
    #[error("the state directory {} is in use by another controller{}: stop that one first, or choose another directory with --state-dir", .directory.display(), .pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Its process, if it left its id.
        pid: Option<u32>,
    },
    /// There is state, but no database.
    #[error("{} holds a controller's {found:?} but no {DATABASE}, and it is not made anew because the nodes, tokens and revocations in it would be forgotten: move the directory away and restore a backup with `windlass restore`", .directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The database cannot be trusted.
    #[error("the state database {} is damaged ({detail}): move its directory away and restore a backup with `windlass restore`", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer version wrote it.
    #[error("the state database {} was written by windlass {} in schema {schema}, and this version reads schemas up to {SCHEMA}: install that version or a newer one, or restore a backup that this version made", .path.display(), Escaped(.version))]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        schema: i64,
        /// The version that wrote it.
        version: String,
    },
    /// The database answered with an error.
    #[error("open the state database {}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::InUse { .. } => ErrorClass::Blocked,
            Self::Directory { .. }
            | Self::NotWritable { .. }
            | Self::TooOpen { .. }
            | Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Database { .. } => ErrorClass::Operator,
        }
    }

    /// Tells damage from everything else the database may say.
    pub(crate) fn from_database(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, detail: source.to_string() }
            }
            _ => Self::Database { path, source },
        }
    }
}

/// Takes the directory for this process: makes or checks it, then locks it. The lock lasts as long as the file is open.
pub(super) fn claim(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Directory { directory: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let mode = fs::metadata(directory).map_err(failed)?.permissions().mode() & 0o7777;
    if is_ours(directory).map_err(failed)? {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(failed)?;
    } else if mode & 0o022 != 0 {
        return Err(OpenError::TooOpen { directory: directory.to_owned(), mode });
    }
    lock(directory)
}

/// Whether nothing is there yet, or a controller was: then the directory may be closed to others.
fn is_ours(directory: &Path) -> io::Result<bool> {
    let is_empty = fs::read_dir(directory)?.next().is_none();
    let mut marks = [DATABASE, LOCK].into_iter().chain(OTHER_STATE);
    Ok(is_empty || marks.any(|name| directory.join(name).exists()))
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::NotWritable { directory: directory.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(directory.join(LOCK)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse { directory: directory.to_owned(), pid: holder(&mut file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    // A process id is short; whatever else may be in that file is not worth reading.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether a controller is running in a directory, and if so, its process.
pub(crate) fn is_in_use(directory: &Path) -> Option<Option<u32>> {
    let mut file = File::open(directory.join(LOCK)).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Some(holder(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// Opens the database of a claimed directory for writing; makes it if the directory is new.
pub(super) fn database(directory: &Path) -> Result<Connection, OpenError> {
    let path = directory.join(DATABASE);
    if !path.exists() {
        if let Some(found) = OTHER_STATE.into_iter().find(|name| directory.join(name).exists()) {
            return Err(OpenError::Missing { directory: directory.to_owned(), found });
        }
        create(directory, &path)?;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .map_err(|source| OpenError::NotWritable { directory: directory.to_owned(), source })?;
    check(&path)?;
    let failed = |source| OpenError::from_database(&path, source);
    let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    Ok(connection)
}

/// The database is made beside its place and moved there when it is whole, so that a crash leaves none or all of it.
fn create(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::NotWritable { directory: directory.to_owned(), source };
    let unfinished = directory.join("state.db.new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(failed)?;
    initialise(&unfinished).map_err(|source| OpenError::Database { path: unfinished.clone(), source })?;
    file.sync_all().and_then(|()| fs::rename(&unfinished, path)).map_err(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

fn initialise(path: &Path) -> rusqlite::Result<()> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.execute_batch(TABLES)?;
    connection.execute("INSERT INTO meta VALUES ('schema', ?1), ('revision', 0)", [SCHEMA])?;
    connection.execute("INSERT INTO meta VALUES ('version', ?1)", [env!("CARGO_PKG_VERSION")])?;
    connection.close().map_err(|(_, error)| error)
}

/// Refuses a database that is not ours, newer or damaged, before anything in it is changed.
pub(crate) fn check(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::from_database(path, source);
    let damaged = |detail: &str| OpenError::Damaged { path: path.to_owned(), detail: detail.to_owned() };
    if fs::metadata(path).is_ok_and(|file| file.len() == 0) {
        return Err(damaged("it is empty"));
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if id != APPLICATION_ID {
        return Err(damaged("it is not a database of Windlass"));
    }
    let schema: i64 = meta(&connection, "schema").map_err(failed)?.ok_or_else(|| damaged("it has no schema number"))?;
    if schema > SCHEMA {
        let version = meta(&connection, "version").map_err(failed)?.unwrap_or_else(|| "(unknown)".to_owned());
        return Err(OpenError::Newer { path: path.to_owned(), schema, version });
    }
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        // One fault is enough to know; a damaged file has hundreds.
        let mut faults = verdict.lines().filter(|line| !line.starts_with("***"));
        return Err(damaged(faults.next().unwrap_or("it does not pass its check")));
    }
    match meta::<i64>(&connection, "revision").map_err(failed)? {
        Some(0..) => Ok(()),
        Some(_) | None => Err(damaged("it has no revision number")),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    // A commit that was answered must survive a power cut, so every one is flushed.
    connection.pragma_update(None, "synchronous", "full")?;
    // After a burst the write-ahead log shrinks to this again.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))?;
    connection.execute("UPDATE meta SET value = ?1 WHERE name = 'version'", [env!("CARGO_PKG_VERSION")])?;
    Ok(())
}

/// One connection; never creates the file.
pub(crate) fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// Reads one value about the database itself.
pub(crate) fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}
