// SPDX-License-Identifier: Apache-2.0
//! All state in one file, taken while the controller runs, and put back into an empty directory.
//!
//! A backup is an SQLite database: a consistent copy of the state database, plus the files beside it (the CA's keys and
//! the audit log) cut into pieces, plus a digest over all of it. It holds private keys, so it is as secret as the state
//! directory itself. The database is copied first: files that change meanwhile are then newer than what the database
//! says of them, never missing.

mod content;
mod restore;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use windlass_types::digest::Sha256Digest;
use windlass_types::time::UnixMillis;

pub use self::restore::{RestoreError, RestoreReport, restore};
use crate::store::sqlite::{CopyError, SqliteStore, open};

/// A restored database has this key until an operator confirmed a new epoch. Its value is JSON: `from`, `created` and
/// `at`.
pub const RESTORED: &str = "meta/restored";

/// The form of a backup. Raise it with every change that an older version could not restore.
const FORMAT: i64 = 1;

/// The directories beside the database that are kept.
const KEPT: [&str; 2] = ["pki", "audit"];

/// Files are cut into pieces of this many bytes, because one value of a database has a limit and an audit log has none.
const PIECE: u64 = 1024 * 1024;

const TABLES: &str = "
    CREATE TABLE backup_files (name TEXT, piece INTEGER, mode INTEGER NOT NULL, content BLOB NOT NULL,
                               PRIMARY KEY (name, piece)) WITHOUT ROWID;
    CREATE TABLE backup_meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;";

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is overwritten.
    #[error("{} exists already: choose another name", .0.display())]
    Exists(PathBuf),
    /// The state database cannot be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A file cannot be read or written.
    #[error("back up {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that is neither a file nor a directory, or has a name that is not UTF-8.
    #[error("{} is not an ordinary file, so it cannot be backed up: remove it", .0.display())]
    NotAFile(PathBuf),
    /// The backup's database answered with an error.
    #[error("write the backup {}", .path.display())]
    Database {
        /// The backup.
        path: PathBuf,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
}

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// Size of the backup, bytes.
    pub bytes: u64,
    /// Files beside the database.
    pub files: u64,
    /// Digest over everything in it.
    pub sha256: Sha256Digest,
}

/// Writes a backup to a new file of mode 0600. It takes its name only when it is whole and durable. Takes a while: call
/// it from a thread for blocking work.
///
/// # Errors
/// If the file exists or cannot be written, or the state cannot be read. Then nothing is left behind.
pub fn backup(
    store: &SqliteStore,
    state_directory: &Path,
    out: &Path,
    now: UnixMillis,
) -> Result<BackupReport, BackupError> {
    if out.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(out.to_owned()));
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(out.file_name().unwrap_or_default());
    name.push(".windlass-partial");
    let partial = out.with_file_name(name);
    match fs::remove_file(&partial) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(BackupError::File { path: partial, source });
        }
        // Left behind by a backup that was killed.
        Ok(()) | Err(_) => {}
    }
    store.copy_to(&partial)?;
    let report = fill(&partial, state_directory, now).and_then(|report| {
        let failed = |source| BackupError::File { path: out.to_owned(), source };
        fs::rename(&partial, out).and_then(|()| sync(parent(out))).map_err(failed)?;
        Ok(report)
    });
    if report.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&partial);
    }
    report
}

/// Adds everything but the database, and the digest.
fn fill(partial: &Path, state_directory: &Path, now: UnixMillis) -> Result<BackupReport, BackupError> {
    let failed = |source| BackupError::Database { path: partial.to_owned(), source };
    let mut files = Vec::new();
    for kept in KEPT {
        list(state_directory, Path::new(kept), &mut files)?;
    }
    let connection = open::connect(partial, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.execute_batch("PRAGMA journal_mode = off; PRAGMA synchronous = off; BEGIN").map_err(failed)?;
    connection.execute_batch(TABLES).map_err(failed)?;
    for file in &files {
        add(&connection, partial, state_directory, file)?;
    }
    let sha256 = seal(&connection, now).map_err(failed)?;
    connection.close().map_err(|(_, source)| failed(source))?;
    sync(partial)
        .and_then(|()| fs::metadata(partial))
        .map(|file| BackupReport { bytes: file.len(), files: u64::try_from(files.len()).unwrap_or(u64::MAX), sha256 })
        .map_err(|source| BackupError::File { path: partial.to_owned(), source })
}

fn seal(connection: &Connection, now: UnixMillis) -> rusqlite::Result<Sha256Digest> {
    let sha256 = content::digest(connection)?;
    connection.execute(
        "INSERT INTO backup_meta VALUES ('format', ?1), ('created', ?2), ('version', ?3), ('sha256', ?4)",
        params![FORMAT, now.0, env!("CARGO_PKG_VERSION"), sha256.to_string()],
    )?;
    connection.execute_batch("COMMIT")?;
    Ok(sha256)
}

/// The ordinary files below a directory, which need not exist.
fn list(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), BackupError> {
    let path = root.join(directory);
    let failed = |source| BackupError::File { path: path.clone(), source };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let (kind, name) = (entry.file_type().map_err(failed)?, directory.join(entry.file_name()));
        if kind.is_dir() {
            list(root, &name, files)?;
        } else if kind.is_file() && name.to_str().is_some() {
            files.push(name);
        } else {
            return Err(BackupError::NotAFile(root.join(name)));
        }
    }
    Ok(())
}

/// Adds one file, as long as it is now: the audit log may be growing.
fn add(connection: &Connection, partial: &Path, root: &Path, name: &Path) -> Result<(), BackupError> {
    let path = root.join(name);
    let failed = |source| BackupError::File { path: path.clone(), source };
    // A file that was exchanged for a link since it was listed is not followed.
    let mut file =
        OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits()).open(&path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let pieces = metadata.len().div_ceil(PIECE).max(1);
    let mut left = metadata.len();
    for piece in 0..pieces {
        let mut content = Vec::new();
        left -= file.by_ref().take(left.min(PIECE)).read_to_end(&mut content).map_err(failed)? as u64;
        let piece = i64::try_from(piece).unwrap_or(i64::MAX);
        let row = params![name.to_str(), piece, metadata.mode() & 0o777, content];
        connection
            .execute("INSERT INTO backup_files VALUES (?1, ?2, ?3, ?4)", row)
            .map_err(|source| BackupError::Database { path: partial.to_owned(), source })?;
    }
    Ok(())
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directory a path is in; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
