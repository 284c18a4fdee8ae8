// SPDX-License-Identifier: Apache-2.0
//! Files on their way to this node, in a directory of the executor's own: whether there is room for them, and their end.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{Statvfs, fstatvfs};
use tokio_util::sync::CancellationToken;
use windlass_types::digest::Sha256Digest;

use super::apart::apart;
use super::file::{FileError, Put, local};
use crate::durable_file;
use crate::host::directory::Place;

/// What stays free for everything else on the node, bytes; of a small file system a twentieth.
const RESERVE_BYTES: u64 = 64 << 20;

/// What has come of a file. Removed once its order is done with, however that went; an agent that ends leaves it for the
/// next one, which goes on with it.
#[derive(Debug)]
pub(super) struct PartFile {
    path: PathBuf,
    agent_ended: CancellationToken,
}

impl PartFile {
    /// Of this content, in that directory.
    pub(super) fn of(sha256: Sha256Digest, directory: &Path, agent_ended: CancellationToken) -> Self {
        Self { path: directory.join(name_of(sha256)), agent_ended }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it; one that is longer than the content cannot be a part of it.
    pub(super) fn open(&self, size: u64) -> Result<File, FileError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path).map_err(local("open", &self.path))?;
        if file.metadata().map_err(local("read", &self.path))?.len() > size {
            file.set_len(0).map_err(local("empty", &self.path))?;
        }
        Ok(file)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if self.agent_ended.is_cancelled() {
            return;
        }
        if let Err(error) = durable_file::remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a file on its way stays behind; the next start removes it");
        }
    }
}

fn name_of(sha256: Sha256Digest) -> String {
    format!("{sha256}.part")
}

/// Removes every part but those that are `wanted` still: what an agent left that was killed before it could.
///
/// # Errors
/// If one stays.
pub(super) fn sweep(directory: &Path, wanted: impl Iterator<Item = Sha256Digest>) -> io::Result<()> {
    let wanted: BTreeSet<_> = wanted.map(|sha256| std::ffi::OsString::from(name_of(sha256))).collect();
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !wanted.contains(&entry.file_name()) {
            durable_file::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Fails if a file would not leave enough room, where it comes in or where it goes. It is in both places for a moment.
pub(super) async fn require_room(part: &PartFile, put: Put<'_>) -> Result<(), FileError> {
    let (path, target, size) = (part.path.clone(), PathBuf::from(put.path.as_str()), put.size);
    let found = apart(move |_| shortage(&path, &target, size)).await;
    match found.map_err(local("write", Path::new(put.path.as_str())))? {
        Some((directory, free)) => Err(FileError::NoRoom { directory, size: put.size, free }),
        None => Ok(()),
    }
}

/// Where there is too little room, and how much is free there.
fn shortage(part: &Path, target: &Path, size: u64) -> io::Result<Option<(PathBuf, u64)>> {
    let place = Place::of(target)?;
    let come = part.metadata().map_or(0, |about| about.len());
    let own = part.parent().unwrap_or(part);
    let (coming, own_directory) = (size.saturating_sub(come), File::open(own)?);
    let (near, far) = (own_directory.metadata()?.dev(), place.directory.metadata()?.dev());
    let at_target = if near == far { size.saturating_add(coming) } else { size };
    let target = target.parent().unwrap_or(target);
    for (needed, directory, shown) in [(coming, &own_directory, own), (at_target, &place.directory, target)] {
        if let Some(free) = too_little(&fstatvfs(directory)?, needed) {
            return Ok(Some((shown.to_owned(), free)));
        }
    }
    Ok(None)
}

/// How much is free, if that is not enough. What a file system cannot tell is not held against the file.
fn too_little(room: &Statvfs, needed: u64) -> Option<u64> {
    let all = room.blocks().saturating_mul(room.fragment_size());
    let free = room.blocks_available().saturating_mul(room.fragment_size());
    let reserve = RESERVE_BYTES.min(all / 20);
    (all > 0 && needed > 0 && free.saturating_sub(reserve) < needed).then_some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Sha256Digest {
        Sha256Digest::new([byte; 32])
    }

    #[test]
    fn a_part_goes_with_its_order_and_stays_for_the_next_agent() {
        let dir = tempfile::tempdir().unwrap();
        for agent_ends in [false, true] {
            let agent_ended = CancellationToken::new();
            let part = PartFile::of(digest(1), dir.path(), agent_ended.clone());
            drop(part.open(10).unwrap());
            if agent_ends {
                agent_ended.cancel();
            }
            let path = part.path().to_owned();
            drop(part);
            assert_eq!(path.exists(), agent_ends);
        }
    }

    #[test]
    fn what_no_order_wants_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        for byte in [1, 2, 3] {
            std::fs::write(dir.path().join(name_of(digest(byte))), "some").unwrap();
        }
        sweep(dir.path(), [digest(2)].into_iter()).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [name_of(digest(2)).as_str()]);
        sweep(&dir.path().join("absent"), [].into_iter()).unwrap();
    }

    #[test]
    fn a_file_has_room_or_not_where_it_comes_in_and_where_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (part, target) = (dir.path().join("part"), dir.path().join("file"));
        let room = fstatvfs(File::open(dir.path()).unwrap()).unwrap();
        let free = room.blocks_available() * room.fragment_size();
        assert_eq!(shortage(&part, &target, 1).unwrap(), None);
        // It would fit once, but is there twice for a moment.
        assert!(shortage(&part, &target, free / 4 * 3).unwrap().is_some());
        assert!(shortage(&part, &target, u64::MAX).unwrap().is_some());
    }
}
