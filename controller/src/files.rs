// SPDX-License-Identifier: Apache-2.0
//! Files on their way between operators and nodes, kept once by digest.
//!
//! A file that is not whole yet has the name of its digest with `.part`, and grows by offset, so that an upload goes on
//! where it was cut. It gets its name only after its digest was computed and found right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use windlass_types::digest::Sha256Digest;

/// Read at once while a digest is computed.
const READ_BYTES: usize = 256 * 1024;

/// The files.
#[derive(Debug, Clone)]
pub struct Files {
    directory: Arc<Path>,
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
}

impl Files {
    /// Files below `state_dir`.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let directory = state_dir.join("files");
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory: directory.into() })
    }

    /// Begins or goes on bringing in a file; `None` if it is here already.
    ///
    /// # Errors
    /// If the disk cannot be used.
    pub fn upload(&self, sha256: Sha256Digest, size: u64) -> Result<Option<Upload>, FileError> {
        let whole = self.whole(sha256);
        if whole.exists() {
            return Ok(None);
        }
        let part = whole.with_extension("part");
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&part).map_err(write)?;
        let mut stored = file.seek(SeekFrom::End(0)).map_err(write)?;
        if stored > size {
            file.set_len(0).map_err(write)?;
            stored = file.seek(SeekFrom::Start(0)).map_err(write)?;
        }
        Ok(Some(Upload { file, part, whole, sha256, size, stored }))
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

    /// Removes files and parts that were not written since a moment; returns how many.
    ///
    /// # Errors
    /// If the directory cannot be read or a file not be removed.
    pub fn forget_older(&self, moment: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.metadata()?.modified()? < moment {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
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
    /// If there is more than announced, or the disk cannot be used.
    pub fn push(&mut self, data: &[u8]) -> Result<(), FileError> {
        self.stored += data.len() as u64;
        if self.stored > self.size {
            return Err(self.discard());
        }
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

const fn read(source: io::Error) -> FileError {
    FileError::Io { operation: "read", source }
}

const fn write(source: io::Error) -> FileError {
    FileError::Io { operation: "write", source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::digest;

    fn sha256(content: &[u8]) -> Sha256Digest {
        Sha256Digest::from_slice(digest(&SHA256, content).as_ref()).expect("32 bytes")
    }

    #[test]
    fn an_upload_that_was_cut_goes_on_where_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("writable");
        let mut first = files.upload(sha256(b"hello"), 5).expect("writable").expect("not here yet");
        first.push(b"hel").expect("room");
        drop(first);
        let mut second = files.upload(sha256(b"hello"), 5).expect("writable").expect("not whole yet");
        assert_eq!(second.stored(), 3);
        assert!(matches!(files.read(sha256(b"hello"), 0), Err(FileError::NotHere)), "a part is not a file");
        second.push(b"lo").expect("room");
        assert!(second.is_complete());
        second.finish().expect("the right digest");
        assert!(files.upload(sha256(b"hello"), 5).expect("readable").is_none(), "it is here");
        let mut text = String::new();
        files.read(sha256(b"hello"), 1).expect("here").read_to_string(&mut text).expect("readable");
        assert_eq!(text, "ello");
    }

    #[test]
    fn two_uploads_of_one_file_at_once_both_succeed() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("writable");
        let upload = || files.upload(sha256(b"hello"), 5).expect("writable").expect("not here yet");
        let (mut first, mut second) = (upload(), upload());
        first.push(b"hello").expect("room");
        second.push(b"hello").expect("room");
        first.finish().expect("the right digest");
        second.finish().expect("in place already");
        assert_eq!(files.size(sha256(b"hello")), Some(5));
    }

    #[test]
    fn forgets_what_is_old_and_keeps_what_is_new() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("writable");
        let mut upload = files.upload(sha256(b"hello"), 5).expect("writable").expect("new");
        upload.push(b"hello").expect("room");
        upload.finish().expect("the right digest");
        let written = std::fs::metadata(files.whole(sha256(b"hello"))).and_then(|file| file.modified()).expect("there");
        assert_eq!(files.forget_older(written).expect("readable"), 0);
        assert_eq!(files.forget_older(written + std::time::Duration::from_secs(1)).expect("readable"), 1);
        assert_eq!(files.size(sha256(b"hello")), None);
    }

    #[test]
    fn content_that_is_not_what_was_announced_is_discarded() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("writable");
        let mut wrong = files.upload(sha256(b"hello"), 5).expect("writable").expect("new");
        wrong.push(b"world").expect("room");
        assert!(matches!(wrong.finish(), Err(FileError::WrongContent)));
        let mut long = files.upload(sha256(b"hello"), 5).expect("writable").expect("new");
        assert_eq!(long.stored(), 0);
        assert!(matches!(long.push(b"hello world"), Err(FileError::WrongContent)));
    }
}
