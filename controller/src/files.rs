// SPDX-License-Identifier: Apache-2.0
//! Files on their way between operators and nodes, kept once by digest.
//!
//! A file that is not whole yet has the name of its digest with `.part`, and grows by offset, so that an upload goes on
//! where it was cut. It gets its name only after its digest was computed and found right.
//!
//! They leave the reserve of the disk alone. Where that leaves too little for a new file, old ones make room: parts that
//! nobody goes on with, then files that no job needs, the oldest first.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256};
use windlass_types::digest::Sha256Digest;

use crate::clock::Clock;
use crate::room::{NoRoom, Room};

/// Read at once while a digest is computed.
const READ_BYTES: usize = 256 * 1024;

/// Whole files are kept this long after they were last asked for: a copy is taken up again the same week or never.
const KEEP_WHOLE: Duration = Duration::from_secs(7 * 86_400);

/// Parts are kept this long: whoever was cut off tries again the same day or never.
const KEEP_PARTS: Duration = Duration::from_secs(86_400);

/// Where room is needed, a part that did not grow for so long goes: whoever lost a connection is back by then.
const KEEP_PARTS_IN_NEED: Duration = Duration::from_secs(600);

/// Where room is needed, whole files that no job needs go after this: an operator makes the job, or fetches what a node
/// sent, right after the file has arrived.
const KEEP_WHOLE_IN_NEED: Duration = Duration::from_secs(3600);

const PART: &str = "part";

/// The files.
#[derive(Debug, Clone)]
pub struct Files {
    directory: Arc<Path>,
    room: Room,
    clock: Arc<dyn Clock>,
}

/// A failure with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk.
    #[error("{operation} the file cache")]
    Io {
        /// "read" or "write".
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It would use the reserve of the disk.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// More or other bytes than announced.
    #[error("the content does not have the announced digest; it was discarded")]
    WrongContent,
    /// Not in the cache.
    #[error("the controller does not hold this file")]
    NotHere,
}

/// A file that is being brought in.
#[derive(Debug)]
pub struct Upload {
    file: File,
    part: PathBuf,
    whole: PathBuf,
    sha256: Sha256Digest,
    size: u64,
    stored: u64,
    room: Room,
}

/// A file or a part as it lies there.
struct Kept {
    path: PathBuf,
    modified: SystemTime,
    /// `None` for a part.
    sha256: Option<Sha256Digest>,
}

impl Files {
    /// Files below `state_dir`, on the disk that has this room.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(state_dir: &Path, room: Room, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let directory = state_dir.join("files");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory: directory.into(), room, clock })
    }

    /// Begins or goes on bringing in a file; `None` if it is here already. What is not `needed` may be removed for it.
    ///
    /// # Errors
    /// If there is no room, or the disk cannot be used.
    pub fn upload(
        &self,
        sha256: Sha256Digest,
        size: u64,
        needed: impl Fn(Sha256Digest) -> bool,
    ) -> Result<Option<Upload>, FileError> {
        let whole = self.whole(sha256);
        if let Ok(file) = File::open(&whole) {
            // It is wanted again, so it is not an old one.
            file.set_modified(self.now()).map_err(write)?;
            return Ok(None);
        }
        let part = whole.with_extension(PART);
        let here = std::fs::metadata(&part).map_or(0, |part| part.len());
        self.make_room(size.saturating_sub(here), needed)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&part).map_err(write)?;
        let mut stored = file.seek(SeekFrom::End(0)).map_err(write)?;
        if stored > size {
            file.set_len(0).map_err(write)?;
            stored = file.seek(SeekFrom::Start(0)).map_err(write)?;
        }
        Ok(Some(Upload { file, part, whole, sha256, size, stored, room: self.room.clone() }))
    }

    /// Opens a file at an offset.
    ///
    /// # Errors
    /// If it is not here or cannot be read.
    pub fn read(&self, sha256: Sha256Digest, offset: u64) -> Result<File, FileError> {
        let mut file = File::open(self.whole(sha256)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FileError::NotHere,
            _ => read(error),
        })?;
        file.seek(SeekFrom::Start(offset)).map_err(read)?;
        Ok(file)
    }

    /// Removes files that nobody asked for lately and parts that nobody goes on with; returns how many.
    ///
    /// # Errors
    /// If the directory cannot be read or a file not be removed.
    pub fn forget_old(&self) -> io::Result<usize> {
        let now = self.now();
        let mut removed = 0;
        for kept in self.kept()? {
            let keep = if kept.sha256.is_some() { KEEP_WHOLE } else { KEEP_PARTS };
            if kept.modified + keep < now {
                remove(&kept.path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Sees to it that so many bytes can be written.
    fn make_room(&self, bytes: u64, needed: impl Fn(Sha256Digest) -> bool) -> Result<(), FileError> {
        if self.room.require(bytes).is_ok() {
            return Ok(());
        }
        let now = self.now();
        let is_old = |kept: &Kept| match kept.sha256 {
            None => kept.modified + KEEP_PARTS_IN_NEED < now,
            Some(sha256) => kept.modified + KEEP_WHOLE_IN_NEED < now && !needed(sha256),
        };
        let mut old: Vec<_> = self.kept().map_err(read)?.into_iter().filter(is_old).collect();
        old.sort_by_key(|kept| (kept.sha256.is_some(), kept.modified));
        for kept in old {
            remove(&kept.path).map_err(write)?;
            tracing::info!(file = %kept.path.display(), "removed an old file to make room");
            if self.room.require(bytes).is_ok() {
                return Ok(());
            }
        }
        Ok(self.room.require(bytes)?)
    }

    fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            // An upload may be giving a part its name just now.
            let Ok(metadata) = entry.metadata() else { continue };
            let sha256 = entry.file_name().to_str().and_then(|name| name.parse().ok());
            all.push(Kept { path: entry.path(), modified: metadata.modified()?, sha256 });
        }
        Ok(all)
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.now().0).unwrap_or_default())
    }

    /// The size of a file that is here.
    #[must_use]
    pub fn size(&self, sha256: Sha256Digest) -> Option<u64> {
        std::fs::metadata(self.whole(sha256)).ok().map(|metadata| metadata.len())
    }

    fn whole(&self, sha256: Sha256Digest) -> PathBuf {
        self.directory.join(sha256.to_string())
    }
}

impl Upload {
    /// Bytes here already.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// If there is more than announced or no room, or the disk cannot be used.
    pub fn push(&mut self, data: &[u8]) -> Result<(), FileError> {
        self.stored += data.len() as u64;
        if self.stored > self.size {
            return Err(self.discard());
        }
        // Others write to this disk, too, so what was true at the beginning may have changed.
        self.room.require(data.len() as u64)?;
        self.file.write_all(data).map_err(write)
    }

    /// Whether all announced bytes are here.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.stored == self.size
    }

    /// Computes the digest and gives the file its name.
    ///
    /// # Errors
    /// If the digest is wrong, or the disk cannot be used.
    pub fn finish(mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(write)?;
        self.file.seek(SeekFrom::Start(0)).map_err(read)?;
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.file.read(&mut buffer).map_err(read)? {
                0 => break,
                count => context.update(&buffer[..count]),
            }
        }
        if context.finish().as_ref() != self.sha256.as_bytes() {
            return Err(self.discard());
        }
        match std::fs::rename(&self.part, &self.whole) {
            // Two may bring in the same file at once, into the same part; whoever is second finds it in place.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.whole.exists() => Ok(()),
            renamed => renamed.map_err(write),
        }
    }

    fn discard(&self) -> FileError {
        match std::fs::remove_file(&self.part) {
            Ok(()) => FileError::WrongContent,
            Err(error) => write(error),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

const fn read(source: io::Error) -> FileError {
    FileError::Io { operation: "read", source }
}

const fn write(source: io::Error) -> FileError {
    FileError::Io { operation: "write", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use aws_lc_rs::digest::digest;

    fn sha256(content: &[u8]) -> Sha256Digest {
        Sha256Digest::from_slice(digest(&SHA256, content).as_ref()).expect("32 bytes")
    }

    fn open(directory: &Path) -> Files {
        let room = Room::new(directory, 1).expect("a disk");
        Files::open(directory, room, Arc::new(SystemClock)).expect("writable")
    }

    fn nobody(_: Sha256Digest) -> bool {
        false
    }

    #[test]
    fn an_upload_that_was_cut_goes_on_where_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let mut first = files.upload(sha256(b"hello"), 5, nobody).expect("writable").expect("not here yet");
        first.push(b"hel").expect("room");
        drop(first);
        let mut second = files.upload(sha256(b"hello"), 5, nobody).expect("writable").expect("not whole yet");
        assert_eq!(second.stored(), 3);
        assert!(matches!(files.read(sha256(b"hello"), 0), Err(FileError::NotHere)), "a part is not a file");
        second.push(b"lo").expect("room");
        assert!(second.is_complete());
        second.finish().expect("the right digest");
        assert!(files.upload(sha256(b"hello"), 5, nobody).expect("readable").is_none(), "it is here");
        let mut text = String::new();
        files.read(sha256(b"hello"), 1).expect("here").read_to_string(&mut text).expect("readable");
        assert_eq!(text, "ello");
    }

    #[test]
    fn two_uploads_of_one_file_at_once_both_succeed() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let upload = || files.upload(sha256(b"hello"), 5, nobody).expect("writable").expect("not here yet");
        let (mut first, mut second) = (upload(), upload());
        first.push(b"hello").expect("room");
        second.push(b"hello").expect("room");
        first.finish().expect("the right digest");
        second.finish().expect("in place already");
        assert_eq!(files.size(sha256(b"hello")), Some(5));
    }

    /// A file whose content is its name, last written so long before now.
    fn lying(files: &Files, name: &[u8], is_whole: bool, age: Duration) -> PathBuf {
        let whole = files.whole(sha256(name));
        let path = if is_whole { whole } else { whole.with_extension(PART) };
        std::fs::write(&path, name).expect("written");
        let file = OpenOptions::new().write(true).open(&path).expect("there");
        file.set_modified(files.now() - age).expect("changed");
        path
    }

    #[test]
    fn forgets_parts_after_a_day_and_files_after_a_week() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
        let old = [lying(&files, b"a", false, day + hour), lying(&files, b"b", true, 7 * day + hour)];
        let new = [lying(&files, b"c", false, day - hour), lying(&files, b"d", true, 7 * day - hour)];
        assert_eq!(files.forget_old().expect("readable"), 2);
        assert!(old.iter().all(|path| !path.exists()) && new.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_file_that_is_wanted_again_is_not_old() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let path = lying(&files, b"a", true, KEEP_WHOLE * 2);
        assert!(files.upload(sha256(b"a"), 1, nobody).expect("readable").is_none());
        assert_eq!(files.forget_old().expect("readable"), 0);
        assert!(path.exists());
    }

    #[test]
    fn a_file_for_which_there_is_no_room_is_refused_before_a_byte_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let refused = files.upload(sha256(b"large"), u64::MAX, nobody).expect_err("no disk is that large");
        assert!(matches!(refused, FileError::NoRoom(_)), "{refused:?}");
        assert!(files.kept().expect("readable").is_empty(), "something was left behind");
    }

    #[test]
    fn an_upload_ends_when_the_disk_fills_meanwhile_and_can_go_on_later() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let mut upload = files.upload(sha256(b"hello"), 5, nobody).expect("room").expect("new");
        upload.push(b"hel").expect("room");
        upload.room = Room::new(directory.path(), u64::MAX).expect("a disk");
        assert!(matches!(upload.push(b"lo"), Err(FileError::NoRoom(_))));
        drop(upload);
        assert_eq!(files.upload(sha256(b"hello"), 5, nobody).expect("room").expect("not whole").stored(), 3);
    }

    #[test]
    fn in_need_of_room_abandoned_parts_and_files_that_no_job_needs_are_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let hour = Duration::from_secs(3600);
        let gone = [lying(&files, b"a", false, hour), lying(&files, b"b", true, 2 * hour)];
        let kept = [
            lying(&files, b"c", false, Duration::from_secs(60)),
            lying(&files, b"d", true, Duration::from_secs(60)),
            lying(&files, b"e", true, 2 * hour),
        ];
        let needed = |digest| digest == sha256(b"e");
        files.upload(sha256(b"large"), u64::MAX, needed).expect_err("no disk is that large");
        assert!(gone.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn content_that_is_not_what_was_announced_is_discarded() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = open(directory.path());
        let mut wrong = files.upload(sha256(b"hello"), 5, nobody).expect("writable").expect("new");
        wrong.push(b"world").expect("room");
        assert!(matches!(wrong.finish(), Err(FileError::WrongContent)));
        let mut long = files.upload(sha256(b"hello"), 5, nobody).expect("writable").expect("new");
        assert_eq!(long.stored(), 0);
        assert!(matches!(long.push(b"hello world"), Err(FileError::WrongContent)));
    }
}
