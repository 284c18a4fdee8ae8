// SPDX-License-Identifier: Apache-2.0
//! Output too long for a report: one file per job, node and stream, written by offset so that a piece sent twice is
//! stored once.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass_proto::v1::OutputStream;
use windlass_types::name::{JobId, NodeName};

use crate::room::Room;

/// The files with output.
#[derive(Debug, Clone)]
pub struct Outputs {
    directory: Arc<Path>,
    room: Room,
}

impl Outputs {
    /// Files below `state_dir`, on the disk that has this room.
    #[must_use]
    pub fn new(state_dir: &Path, room: Room) -> Self {
        Self { directory: state_dir.join("output").into(), room }
    }

    /// Stores a piece and returns how much is stored without a gap. A piece beyond the end is not stored; the agent
    /// learns from the answer where to go on. Nothing is stored beyond `limit`.
    ///
    /// # Errors
    /// If the file cannot be written; then the agent sends the piece again.
    pub fn store(
        &self,
        id: &JobId,
        node: &NodeName,
        stream: OutputStream,
        offset: u64,
        data: &[u8],
        limit: u64,
    ) -> io::Result<u64> {
        self.room.require(data.len() as u64).map_err(|no_room| io::Error::new(io::ErrorKind::StorageFull, no_room))?;
        let path = self.path(id, node, stream);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            std::fs::create_dir_all(path.parent().unwrap_or(&self.directory))?;
            options.open(&path)
        })?;
        let length = file.metadata()?.len();
        let end = offset.saturating_add(data.len() as u64);
        if offset > length || end <= length || end > limit {
            return Ok(length);
        }
        file.write_all_at(data, offset)?;
        file.sync_data()?;
        Ok(end)
    }

    /// How much is stored.
    #[must_use]
    pub fn length(&self, id: &JobId, node: &NodeName, stream: OutputStream) -> u64 {
        std::fs::metadata(self.path(id, node, stream)).map_or(0, |metadata| metadata.len())
    }

    /// Reads at most `most` bytes from `offset`.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(
        &self,
        id: &JobId,
        node: &NodeName,
        stream: OutputStream,
        offset: u64,
        most: usize,
    ) -> io::Result<Vec<u8>> {
        let file = std::fs::File::open(self.path(id, node, stream))?;
        let mut piece = vec![0; most];
        let read = file.read_at(&mut piece, offset)?;
        piece.truncate(read);
        Ok(piece)
    }

    /// Removes everything of a job.
    pub fn remove(&self, id: &JobId) {
        if let Err(error) = std::fs::remove_dir_all(self.directory.join(id.as_str()))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(job = %id, %error, "could not remove the output of an old job");
        }
    }

    fn path(&self, id: &JobId, node: &NodeName, stream: OutputStream) -> PathBuf {
        let name = match stream {
            OutputStream::Stderr => "stderr",
            OutputStream::Stdout | OutputStream::Unspecified => "stdout",
        };
        self.directory.join(id.as_str()).join(format!("{node}.{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_sent_twice_is_stored_once_and_a_gap_is_not_made() {
        let directory = tempfile::tempdir().expect("a directory");
        let outputs = Outputs::new(directory.path(), Room::new(directory.path(), 1).expect("a disk"));
        let (id, node) = (JobId::new("1").expect("an id"), NodeName::new("n").expect("a name"));
        let store =
            |offset, data: &[u8]| outputs.store(&id, &node, OutputStream::Stdout, offset, data, 10).expect("writable");
        assert_eq!(store(0, b"hello"), 5);
        assert_eq!(store(0, b"hello"), 5);
        assert_eq!(store(7, b"gap"), 5);
        assert_eq!(store(3, b"lo wo"), 8, "an overlapping piece adds what is new");
        assert_eq!(store(8, b"too long"), 8);
        let all = outputs.read(&id, &node, OutputStream::Stdout, 0, 100).expect("readable");
        assert_eq!(all, b"hello wo");
        assert_eq!(outputs.length(&id, &node, OutputStream::Stderr), 0);
        outputs.remove(&id);
        assert_eq!(outputs.length(&id, &node, OutputStream::Stdout), 0);
    }

    #[test]
    fn output_does_not_use_the_reserve_of_the_disk() {
        let directory = tempfile::tempdir().expect("a directory");
        let outputs = Outputs::new(directory.path(), Room::new(directory.path(), u64::MAX).expect("a disk"));
        let (id, node) = (JobId::new("1").expect("an id"), NodeName::new("n").expect("a name"));
        let refused = outputs.store(&id, &node, OutputStream::Stdout, 0, b"hello", 10).expect_err("no room");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(outputs.length(&id, &node, OutputStream::Stdout), 0);
    }
}
