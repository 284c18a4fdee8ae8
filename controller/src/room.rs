// SPDX-License-Identifier: Apache-2.0
//! Room on the disk with the state directory.
//!
//! What may grow without end (files, output, backups) leaves [`Room`] a reserve, so that it cannot take what the state
//! needs. Others may fill the disk all the same; for that there is the [`Ballast`]: a file that is given up for the
//! moment of a change that ends somebody's trust, because that change must not wait until somebody has cleaned up.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::{Statvfs, statvfs};

/// The reserve unless the configuration names one: a share of the disk, so that small disks stay usable, and a most, so
/// that large ones are not kept empty.
const RESERVE_SHARE: u64 = 20;
const MOST_RESERVE_BYTES: u64 = 1 << 30;

/// Revoking takes two records of the audit log and a few pages of the database: some kilobytes. This is enough for
/// hundreds of them, and for the write-ahead log of the database, which is folded at 4 MiB.
const BALLAST_BYTES: u64 = 8 << 20;

/// On a tiny disk the ballast is this share of it.
const BALLAST_SHARE: u64 = 16;

const BALLAST: &str = "ballast";

/// Keeps part of a disk free.
#[derive(Debug, Clone)]
pub struct Room {
    directory: Arc<Path>,
    reserve_bytes: u64,
}

/// There is not enough room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it takes {}, and of the {} that are free on the disk with the state directory {} are kept in reserve",
    Bytes(*.needed), Bytes(*.free), Bytes(*.reserve)
)]
pub struct NoRoom {
    /// Wanted, bytes.
    pub needed: u64,
    /// Free, bytes.
    pub free: u64,
    /// To be left free, bytes.
    pub reserve: u64,
}

/// Bytes as a person reads them.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            bytes if bytes < 1 << 20 => write!(f, "{} KiB", bytes.div_ceil(1 << 10)),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

impl Room {
    /// On the disk with `directory`; `configured` 0 means a twentieth of it, 1 GiB at most.
    ///
    /// # Errors
    /// If the disk does not say how large it is.
    pub fn new(directory: &Path, configured: u64) -> io::Result<Self> {
        let disk = statvfs(directory)?;
        let usual = (disk.blocks() * disk.fragment_size() / RESERVE_SHARE).min(MOST_RESERVE_BYTES);
        Ok(Self { directory: directory.into(), reserve_bytes: if configured == 0 { usual } else { configured } })
    }

    /// Free for this user, bytes.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn free_bytes(&self) -> io::Result<u64> {
        Ok(available(&statvfs(&*self.directory)?))
    }

    /// Kept free, bytes.
    #[must_use]
    pub const fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes
    }

    /// Whether so much more may be written.
    ///
    /// # Errors
    /// If it would use the reserve. A disk that does not say how full it is will say so when it is written to.
    pub fn require(&self, needed: u64) -> Result<(), NoRoom> {
        let Ok(free) = self.free_bytes() else { return Ok(()) };
        if free < self.reserve_bytes.saturating_add(needed) {
            return Err(NoRoom { needed, free, reserve: self.reserve_bytes });
        }
        Ok(())
    }
}

fn available(disk: &Statvfs) -> u64 {
    disk.blocks_available() * disk.fragment_size()
}

/// A file whose room can be had at once.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
    lent: Mutex<usize>,
}

/// While it lives, the room of the ballast may be used.
#[derive(Debug)]
pub struct Lent<'a>(&'a Ballast);

impl Ballast {
    /// The ballast of a state directory. Without room for it there is none until [`Ballast::restore`] finds some.
    ///
    /// # Errors
    /// If the disk does not say how large it is.
    pub fn open(state_dir: &Path) -> io::Result<Arc<Self>> {
        let disk = statvfs(state_dir)?;
        let bytes = (disk.blocks() * disk.fragment_size() / BALLAST_SHARE).min(BALLAST_BYTES);
        let ballast = Self { path: state_dir.join(BALLAST), bytes, lent: Mutex::default() };
        ballast.restore();
        Ok(Arc::new(ballast))
    }

    /// Gives the room up if the disk has hardly any, until what is returned is dropped.
    #[must_use]
    pub fn lend(&self) -> Lent<'_> {
        let mut lent = self.lent();
        *lent += 1;
        let is_short = statvfs(&self.path).is_ok_and(|disk| available(&disk) < self.bytes);
        if is_short && self.path.exists() {
            tracing::error!(
                bytes = self.bytes,
                "the disk with the state directory is full; using the last reserve for a revocation: make room now"
            );
            // Should this fail, the change will say that the disk is full.
            if let Err(error) = std::fs::remove_file(&self.path) {
                tracing::error!(%error, "the last reserve cannot be given up");
            }
        }
        Lent(self)
    }

    /// Takes the room back as soon as there is any.
    pub fn restore(&self) {
        let lent = self.lent();
        if *lent == 0
            && !self.is_whole()
            && let Err(error) = self.take()
        {
            tracing::error!(%error, "no room for the last reserve, with which a node can be revoked on a full disk");
            // A part of it would look like the whole after the next start, and is of no use.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|file| file.len() >= self.bytes)
    }

    fn take(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file: File = options.write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        posix_fallocate(&file, 0, bytes).map_err(io::Error::from)
    }

    fn lent(&self) -> MutexGuard<'_, usize> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        *self.0.lent() -= 1;
        self.0.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_that_would_be_used_is_refused_with_numbers() {
        let directory = tempfile::tempdir().expect("a directory");
        let room = Room::new(directory.path(), u64::MAX).expect("a disk");
        let refused = room.require(3 << 20).expect_err("nothing is ever free enough");
        assert!(refused.to_string().starts_with("it takes 3 MiB, and of the "), "{refused}");
        Room::new(directory.path(), 1).expect("a disk").require(0).expect("room for nothing");
    }

    #[test]
    fn the_usual_reserve_is_a_share_of_the_disk_up_to_a_most() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = statvfs(directory.path()).expect("a disk");
        let reserve = Room::new(directory.path(), 0).expect("a disk").reserve_bytes();
        assert!(reserve <= MOST_RESERVE_BYTES && reserve <= disk.blocks() * disk.fragment_size() / 20);
        assert!(reserve > 0);
    }

    #[test]
    fn ballast_has_its_room_and_keeps_it_while_there_is_enough_elsewhere() {
        let directory = tempfile::tempdir().expect("a directory");
        let ballast = Ballast::open(directory.path()).expect("a disk");
        assert!(ballast.is_whole());
        let lent = ballast.lend();
        assert!(ballast.is_whole(), "the disk is not full");
        drop(lent);
        assert!(ballast.is_whole());
    }

    #[test]
    fn ballast_is_given_up_on_a_full_disk_and_taken_back_by_the_last_who_used_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(BALLAST);
        std::fs::write(&path, "").expect("written");
        // As if the disk had no more room than this.
        let mut full = Ballast { path: path.clone(), bytes: u64::MAX, lent: Mutex::default() };
        let (first, second) = (full.lend(), full.lend());
        assert!(!path.exists());
        drop(first);
        assert!(!path.exists(), "the second still needs it");
        drop(second);
        full.bytes = 4096;
        full.restore();
        assert!(full.is_whole());
    }
}
