// SPDX-License-Identifier: Apache-2.0
//! What programs print, kept within bounds: one directory per job with `stdout` and `stderr`.
//!
//! A program writes into named pipes, which the agent drains into the two files up to the order's limit; what comes after
//! is counted and dropped, so no program can fill the disk. Each pipe is opened for reading *and* writing on the
//! program's side. It therefore survives the agent: while the agent is away the program waits once a pipe is full (64 KiB),
//! and goes on when the agent is back; it never gets SIGPIPE. Plain files were rejected because nobody could bound them
//! while the agent is away, and because `> /dev/stderr` in a script truncates a file but not a pipe.
//!
//! What this gives up: of a process group, what lies unread in a pipe when its last writer ends while the agent is away is
//! lost (at most 64 KiB per stream); for a transient unit systemd keeps the pipe open. And a process that a job leaves
//! behind waits for ever once it has filled its pipe: daemons must redirect their output.
//!
//! Bytes go from pipe to file by splice(2), which a SIGKILL cannot divide: they are in one or in the other. A file is made
//! with the first byte.
//!
//! Making and removing directories and pipes costs a node more than starting a short program, so one directory with two
//! pipes that nothing holds any more is kept and becomes the next job's.

mod drain;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;
use windlass_proto::v1;
use windlass_types::name::JobId;

use crate::durable_file;

pub use drain::Drains;

/// The directory that waits for the next job. No job has this name: job ids are numbers.
const SPARE: &str = "spare";

/// One of a program's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];

    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    const fn pipe_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout.pipe",
            Self::Stderr => "stderr.pipe",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

impl From<Stream> for v1::OutputStream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    kept: AtomicU64,
    total: AtomicU64,
}

/// The output of one job.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    limit: u64,
    counts: [Counts; 2],
    grown: Notify,
}

impl Spool {
    /// The output of a job that begins.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn begin(root: &Path, job: &JobId, limit: u64) -> io::Result<Arc<Self>> {
        // Without a spare one, or with a directory of this job there already, one is made or taken as it is.
        match std::fs::rename(root.join(SPARE), root.join(job.as_str())) {
            Ok(()) => Ok(Arc::new(Self::new(root, job, limit))),
            Err(_) => Self::open(root, job, limit),
        }
    }

    fn new(root: &Path, job: &JobId, limit: u64) -> Self {
        Self { directory: root.join(job.as_str()), limit, counts: Default::default(), grown: Notify::new() }
    }

    /// The output of a job that is found again.
    ///
    /// # Errors
    /// If the directory cannot be made or read.
    pub fn open(root: &Path, job: &JobId, limit: u64) -> io::Result<Arc<Self>> {
        let spool = Self::new(root, job, limit);
        durable_file::private_directory(&spool.directory)?;
        for stream in Stream::BOTH {
            let kept = match std::fs::metadata(spool.path(stream)) {
                Ok(file) => file.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            };
            spool.counts[stream.index()].kept.store(kept, Ordering::Release);
            spool.counts[stream.index()].total.store(kept, Ordering::Release);
        }
        Ok(Arc::new(spool))
    }

    fn path(&self, stream: Stream) -> PathBuf {
        self.directory.join(stream.name())
    }

    fn pipe_path(&self, stream: Stream) -> PathBuf {
        self.directory.join(stream.pipe_name())
    }

    /// How much is kept, bytes.
    #[must_use]
    pub fn kept(&self, stream: Stream) -> u64 {
        self.counts[stream.index()].kept.load(Ordering::Acquire)
    }

    /// How much was written, kept or not, bytes.
    #[must_use]
    pub fn total(&self, stream: Stream) -> u64 {
        self.counts[stream.index()].total.load(Ordering::Acquire)
    }

    /// A piece of what is kept; empty at its end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, stream: Stream, offset: u64, most: usize) -> io::Result<Bytes> {
        let length = usize::try_from(self.kept(stream).saturating_sub(offset)).unwrap_or(most).min(most);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut piece = vec![0; length];
        let read = File::open(self.path(stream))?.read_at(&mut piece, offset)?;
        piece.truncate(read);
        Ok(piece.into())
    }

    /// Adds what was written, up to the limit.
    ///
    /// # Errors
    /// If the file cannot be written; the bytes count as dropped then.
    pub fn append(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let kept = self.kept(stream);
        let room = usize::try_from(self.limit.saturating_sub(kept)).unwrap_or(usize::MAX).min(bytes.len());
        let written = if room == 0 { Ok(()) } else { self.writer(stream)?.write_all_at(&bytes[..room], kept) };
        self.count(stream, if written.is_ok() { room as u64 } else { 0 }, bytes.len() as u64);
        written
    }

    /// Takes note of bytes that were written.
    fn count(&self, stream: Stream, kept: u64, written: u64) {
        let counts = &self.counts[stream.index()];
        counts.kept.fetch_add(kept, Ordering::AcqRel);
        counts.total.fetch_add(written, Ordering::AcqRel);
        if kept > 0 {
            self.grown.notify_waiters();
        }
    }

    fn writer(&self, stream: Stream) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.path(stream))
    }

    /// Waits until more is kept. Ask for it before looking at what is kept.
    pub fn grown(&self) -> tokio::sync::futures::Notified<'_> {
        self.grown.notified()
    }

    /// Removes what a job left, if it left anything.
    ///
    /// # Errors
    /// If something stays.
    pub fn remove_of(root: &Path, job: &JobId) -> io::Result<()> {
        let directory = root.join(job.as_str());
        match keep_as_spare(&directory, &root.join(SPARE)) {
            Ok(()) => Ok(()),
            Err(_) => match std::fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }
}

/// Fails if something still holds a pipe, or if there is a spare one already.
fn keep_as_spare(directory: &Path, spare: &Path) -> io::Result<()> {
    for stream in Stream::BOTH {
        drain::is_let_go(&directory.join(stream.pipe_name()))?;
    }
    for stream in Stream::BOTH {
        durable_file::remove(&directory.join(stream.name()))?;
    }
    std::fs::rename(directory, spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(limit: u64) -> (tempfile::TempDir, Arc<Spool>) {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(dir.path(), &JobId::new("7").expect("digits"), limit).expect("opened");
        (dir, spool)
    }

    #[test]
    fn keeps_what_fits_and_counts_the_rest() {
        let (dir, spool) = spool(10);
        spool.append(Stream::Stdout, b"12345678").expect("kept");
        spool.append(Stream::Stdout, b"90abcdef").expect("kept in part");
        spool.append(Stream::Stdout, b"dropped").expect("dropped");
        assert_eq!((spool.kept(Stream::Stdout), spool.total(Stream::Stdout)), (10, 23));
        assert_eq!(spool.read(Stream::Stdout, 0, 100).expect("read"), "1234567890");
        assert_eq!(spool.read(Stream::Stdout, 8, 1).expect("read"), "9");
        let again = Spool::open(dir.path(), &JobId::new("7").expect("digits"), 10).expect("opened");
        assert_eq!(again.kept(Stream::Stdout), 10);
        Spool::remove_of(dir.path(), &JobId::new("7").expect("digits")).expect("removed");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "no pipes, so nothing to keep");
    }

    #[tokio::test]
    async fn a_directory_is_used_again_only_once_nothing_holds_its_pipes() {
        use std::io::Write as _;
        let (dir, spool) = spool(1000);
        let [seven, eight, nine] = ["7", "8", "9"].map(|id| JobId::new(id).expect("digits"));
        let (mut drains, [mut left_behind, stderr]) = Drains::begin(&spool).expect("begun");
        left_behind.write_all(b"of seven").expect("written");
        drains.take_rest();
        drop((drains, stderr));
        Spool::remove_of(dir.path(), &seven).expect("removed");
        assert!(!dir.path().join(SPARE).exists(), "a process of job 7 still holds a pipe");

        let spool = Spool::begin(dir.path(), &eight, 1000).expect("opened");
        let (mut drains, ends) = Drains::begin(&spool).expect("begun");
        left_behind.write_all(b"for nobody").expect("written");
        drop(ends);
        drains.until_closed_or(std::future::pending::<()>()).await;
        assert_eq!(spool.total(Stream::Stdout), 0);
        drop((drains, spool));
        Spool::remove_of(dir.path(), &eight).expect("removed");
        assert!(dir.path().join(SPARE).exists());

        let spool = Spool::begin(dir.path(), &nine, 1000).expect("opened");
        assert!(!dir.path().join(SPARE).exists());
        let (mut drains, [mut stdout, stderr]) = Drains::begin(&spool).expect("begun");
        stdout.write_all(b"of nine").expect("written");
        drop((stdout, stderr));
        drains.until_closed_or(std::future::pending::<()>()).await;
        assert_eq!(spool.read(Stream::Stdout, 0, 100).expect("read"), "of nine");
    }

    #[test]
    fn what_a_program_prints_is_drained_and_the_flood_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (_dir, spool) = spool(100_000);
            let (mut drains, [stdout, _]) = Drains::begin(&spool).expect("begun");
            let writer = std::thread::spawn(move || {
                use std::io::Write as _;
                let mut stdout = stdout;
                for _ in 0..300 {
                    stdout.write_all(&[b'x'; 1000]).expect("written");
                }
            });
            drains.until_closed_or(std::future::pending::<()>()).await;
            writer.join().expect("ended");
            assert_eq!((spool.kept(Stream::Stdout), spool.total(Stream::Stdout)), (100_000, 300_000));
        });
    }

    #[test]
    fn a_new_agent_goes_on_draining_where_the_old_one_ended() {
        use std::io::Write as _;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (dir, spool) = spool(1000);
            let (old, [mut stdout, stderr]) = Drains::begin(&spool).expect("begun");
            drop(stderr);
            drop((old, spool));
            stdout.write_all(b"written while nobody read").expect("no SIGPIPE");
            let spool = Spool::open(dir.path(), &JobId::new("7").expect("digits"), 1000).expect("opened");
            let mut new = Drains::resume(&spool).expect("resumed");
            stdout.write_all(b", and then").expect("written");
            drop(stdout);
            new.until_closed_or(std::future::pending::<()>()).await;
            assert_eq!(spool.read(Stream::Stdout, 0, 100).expect("read"), "written while nobody read, and then");
        });
    }
}
