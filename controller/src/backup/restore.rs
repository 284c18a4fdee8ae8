// SPDX-License-Identifier: Apache-2.0
//! Puts a backup back. Everything is built beside the state directory, flushed, and moved into place with one rename,
//! which the kernel refuses if anything is there: so there is all of it or none, whenever the machine stops.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use windlass_types::escape::Escaped;
use windlass_types::outcome::ErrorClass;
use windlass_types::time::UnixMillis;

use super::{FORMAT, KEPT, RESTORED, content, parent, sync};
use crate::store::sqlite::OpenError;
use crate::store::sqlite::open::{self, DATABASE};

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error("read the backup {}", .path.display())]
    Backup {
        /// The backup.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The backup cannot be trusted.
    #[error("the backup {} cannot be restored ({}): use another one", .path.display(), Escaped(.detail))]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A newer version made it.
    #[error("the backup {} was made by windlass {}, whose backups this version cannot read: install that version or a newer one", .path.display(), Escaped(.version))]
    Newer {
        /// The backup.
        path: PathBuf,
        /// The version that made it.
        version: String,
    },
    /// A controller is running there.
    #[error("the state directory {} is in use by a controller{}: stop it first", .directory.display(), .pid.map_or(String::new(), |pid| format!(" (process {pid})")))]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Its process, if it left its id.
        pid: Option<u32>,
    },
    /// Something is there already.
    #[error("the state directory {} is not empty, and nothing in it is overwritten: move it away first", .0.display())]
    NotEmpty(PathBuf),
    /// The state cannot be written.
    #[error("restore to {}: the directory above it must be writable, and it must not itself be a mount point", .directory.display())]
    Directory {
        /// The state directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database answered with an error.
    #[error("restore the state database from {}", .path.display())]
    Database {
        /// The backup.
        path: PathBuf,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
}

impl RestoreError {
    /// What to do about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::InUse { .. } | Self::NotEmpty(_) => ErrorClass::Blocked,
            Self::Backup { .. }
            | Self::Damaged { .. }
            | Self::Newer { .. }
            | Self::Directory { .. }
            | Self::Database { .. } => ErrorClass::Operator,
        }
    }
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The version that made the backup.
    pub version: String,
    /// When.
    pub created: UnixMillis,
    /// Keys in the database.
    pub keys: u64,
    /// Files beside the database.
    pub files: u64,
}

/// Restores a backup to a directory that is empty or not there. The restored database has the key [`RESTORED`], and a
/// controller is read-only while it has. If run as root, everything is given to the owner of an existing directory.
///
/// # Errors
/// If the directory is in use or not empty, or the backup is damaged or newer. Then nothing is left behind.
pub fn restore(backup: &Path, state_directory: &Path, now: UnixMillis) -> Result<RestoreReport, RestoreError> {
    let failed = |source| RestoreError::Directory { directory: state_directory.to_owned(), source };
    let target = if state_directory.exists() {
        require_free(state_directory)?;
        fs::canonicalize(state_directory).map_err(failed)?
    } else {
        fs::create_dir_all(parent(state_directory)).map_err(failed)?;
        state_directory.to_owned()
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".restoring-{}", uuid::Uuid::new_v4()));
    let scaffold = Scaffold(target.with_file_name(name));
    DirBuilder::new().mode(0o700).create(&scaffold.0).map_err(failed)?;
    let report = build(backup, &scaffold.0, now)?;
    hand_over(&target, &scaffold.0).map_err(failed)?;
    match fs::rename(&scaffold.0, &target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Err(RestoreError::NotEmpty(state_directory.to_owned()));
        }
        Err(source) => return Err(failed(source)),
    }
    sync(parent(&target)).map_err(failed)?;
    Ok(report)
}

/// The directory things are built in; what is left of it is removed.
struct Scaffold(PathBuf);

impl Drop for Scaffold {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.0.display(), "cannot remove what was half restored: remove it by hand");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn require_free(directory: &Path) -> Result<(), RestoreError> {
    if let Some(pid) = open::is_in_use(directory) {
        return Err(RestoreError::InUse { directory: directory.to_owned(), pid });
    }
    let failed = |source| RestoreError::Directory { directory: directory.to_owned(), source };
    match fs::read_dir(directory).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(RestoreError::NotEmpty(directory.to_owned())),
    }
}

/// Builds a whole state directory from a backup, and flushes it.
fn build(backup: &Path, scaffold: &Path, now: UnixMillis) -> Result<RestoreReport, RestoreError> {
    let database = scaffold.join(DATABASE);
    copy(backup, &database).map_err(|source| RestoreError::Backup { path: backup.to_owned(), source })?;
    // From here on the copy is looked at, so that nothing can change after it was checked.
    let connection = checked(backup, &database)?;
    let failed = |source| from_database(backup, source);
    let mut report = described(&connection).map_err(failed)?;
    report.files = unpack(backup, scaffold, &connection)?;
    let from = backup.display().to_string();
    let mark = serde_json::json!({ "from": from, "created": report.created.0, "at": now.0 }).to_string();
    settle(&connection, mark.as_bytes()).map_err(failed)?;
    connection.close().map_err(|(_, source)| failed(source))?;
    sync(&database)
        .and_then(|()| sync(scaffold))
        .map_err(|source| RestoreError::Directory { directory: scaffold.to_owned(), source })?;
    Ok(report)
}

fn copy(backup: &Path, database: &Path) -> io::Result<()> {
    let mut from = fs::File::open(backup)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(database)?;
    io::copy(&mut from, &mut to).map(|_| ())
}

fn checked(backup: &Path, database: &Path) -> Result<Connection, RestoreError> {
    let path = || backup.to_owned();
    let damaged = |detail: &str| RestoreError::Damaged { path: path(), detail: detail.to_owned() };
    let failed = |source| from_database(backup, source);
    open::check(database).map_err(|error| match error {
        OpenError::Damaged { detail, .. } => damaged(&detail),
        OpenError::Newer { version, .. } => RestoreError::Newer { path: path(), version },
        OpenError::Database { source, .. } => failed(source),
        other => damaged(&other.to_string()),
    })?;
    let connection = open::connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    connection.execute_batch("PRAGMA journal_mode = delete").map_err(failed)?;
    if !connection.table_exists(None, "backup_meta").map_err(failed)? {
        return Err(damaged("it was not made by `windlass backup`"));
    }
    let format: Option<i64> = meta(&connection, "format").map_err(failed)?;
    match format {
        Some(1..=FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            let version = meta(&connection, "version").map_err(failed)?.unwrap_or_else(|| "(unknown)".to_owned());
            return Err(RestoreError::Newer { path: path(), version });
        }
        Some(_) | None => return Err(damaged("it has no format number")),
    }
    let sealed: Option<String> = meta(&connection, "sha256").map_err(failed)?;
    if sealed != Some(content::digest(&connection).map_err(failed)?.to_string()) {
        return Err(damaged("its content does not fit its digest"));
    }
    Ok(connection)
}

fn from_database(backup: &Path, source: rusqlite::Error) -> RestoreError {
    let path = backup.to_owned();
    match (source.sqlite_error_code(), &source) {
        (Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt), _)
        | (None, rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::QueryReturnedNoRows) => {
            RestoreError::Damaged { path, detail: source.to_string() }
        }
        _ => RestoreError::Database { path, source },
    }
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<Option<T>> {
    connection.query_row("SELECT value FROM backup_meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn described(connection: &Connection) -> rusqlite::Result<RestoreReport> {
    let keys: i64 = connection.query_row("SELECT count(*) FROM keys", [], |row| row.get(0))?;
    Ok(RestoreReport {
        version: meta(connection, "version")?.unwrap_or_default(),
        created: UnixMillis(meta(connection, "created")?.unwrap_or_default()),
        keys: keys.unsigned_abs(),
        files: 0,
    })
}

/// Writes the files; answers how many.
fn unpack(backup: &Path, scaffold: &Path, connection: &Connection) -> Result<u64, RestoreError> {
    let database = |source| from_database(backup, source);
    let query = "SELECT name, piece, mode, content FROM backup_files ORDER BY name, piece";
    let mut statement = connection.prepare(query).map_err(database)?;
    let mut rows = statement.query([]).map_err(database)?;
    let mut modes = Vec::new();
    while let Some(row) = rows.next().map_err(database)? {
        let name: String = row.get(0).map_err(database)?;
        let (piece, mode): (i64, u32) = (row.get(1).map_err(database)?, row.get(2).map_err(database)?);
        let content: Vec<u8> = row.get(3).map_err(database)?;
        if !is_inside(Path::new(&name)) {
            let detail = format!("it holds a file {name:?}, which does not belong there");
            return Err(RestoreError::Damaged { path: backup.to_owned(), detail });
        }
        let path = scaffold.join(&name);
        append(scaffold, &path, &content)
            .map_err(|source| RestoreError::Directory { directory: path.clone(), source })?;
        if piece == 0 {
            modes.push((path, mode));
        }
    }
    // Last, because a file that may not be written takes no second piece.
    for (path, mode) in &modes {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o777))
            .and_then(|()| sync(path))
            .map_err(|source| RestoreError::Directory { directory: path.clone(), source })?;
    }
    Ok(u64::try_from(modes.len()).unwrap_or(u64::MAX))
}

/// Whether a name leads to a file below one of the kept directories, and nowhere else.
fn is_inside(name: &Path) -> bool {
    let mut components = name.components();
    let root = components.next();
    KEPT.into_iter().any(|kept| root == Some(Component::Normal(kept.as_ref())))
        && components.clone().next().is_some()
        && components.all(|component| matches!(component, Component::Normal(_)))
}

fn append(scaffold: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = parent(path);
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    directory.ancestors().take_while(|ancestor| ancestor.starts_with(scaffold)).try_for_each(sync)
}

/// Makes the copy a state database again, marked as restored. Emptied pages held private keys: they are written anew.
fn settle(connection: &Connection, mark: &[u8]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN; DROP TABLE backup_files; DROP TABLE backup_meta")?;
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'revision'", [])?;
    connection.execute(
        "INSERT OR REPLACE INTO keys SELECT ?1, ?2, value FROM meta WHERE name = 'revision'",
        params![RESTORED, mark],
    )?;
    connection.execute_batch("COMMIT; VACUUM")
}

/// Gives everything to the owner of the directory that is replaced, if that is somebody else.
fn hand_over(target: &Path, scaffold: &Path) -> io::Result<()> {
    let Ok(owner) = fs::metadata(target) else { return Ok(()) };
    let own = fs::metadata(scaffold)?;
    if (owner.uid(), owner.gid()) == (own.uid(), own.gid()) {
        return Ok(());
    }
    give(scaffold, owner.uid(), owner.gid())
}

fn give(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    chown(path, Some(uid), Some(gid))
}
