// SPDX-License-Identifier: Apache-2.0
//! What must survive the agent: which orders were accepted, what was started, how it ended, what the controller knows.
//!
//! One append-only file. A record is its length and CRC-32 (both `u32`, little endian, the CRC over length and payload),
//! then JSON. The file is grown in steps of zeros, because a flush that changes only existing blocks needs no commit of
//! the file system's own journal. A length of zero is therefore the end.
//!
//! A crash can leave the last records torn; they were never acted on, and are cut. A record that is damaged although a
//! good one follows it is another matter: the file was changed by something else, and the agent refuses to guess.
//!
//! - *Accepted* is durable before anything is started, so that nothing is started twice.
//! - *Started* need not be flushed: losing it takes a power cut, which ends the process too.
//! - *Ended* is durable soon, unless the controller, which stores it durably, acknowledges it before. Until then a power
//!   cut (not the end of the agent) makes it an unknown end, as it would have a moment earlier.
//! - *Acknowledged* need not be flushed: losing it repeats a report.
//!
//! After a failed write or flush nobody knows what is on disk, and a second flush may succeed though the first one's data
//! is lost. What the records add up to is known, though, so the file is written anew before anything is added to it.

mod done;
mod record;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod watched;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

pub use done::DoneJobs;
pub use record::{Ends, Mark, Order, Record};
pub use state::{JobStage, JournalState, StepProgress};

use crate::durable_file;

/// The file grows by this much at a time: about a thousand jobs per file system commit.
const GROWTH_BYTES: usize = 64 * 1024;

/// So much stays free when an order is accepted, and so much more for each that is under way then: what happens with them
/// can be recorded on a full disk too. Only a step has many records, and there is one at a time.
const RESERVED_BYTES: u64 = 16 * 1024;
const RESERVED_FOR_EACH_BYTES: u64 = 1024;

/// Beyond this size the file is rewritten with only what still matters.
const COMPACT_ABOVE_BYTES: u64 = 256 * 1024;

/// A record longer than this was not written by us: an order is at most one gRPC message.
const LONGEST_RECORD_BYTES: usize = 4 * 1024 * 1024;

const HEADER_BYTES: usize = 8;

/// A failure of the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("{operation} the journal {}", path.display())]
    File {
        /// What was tried, as an infinitive.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record in the middle is damaged.
    #[error(
        "the journal {} is damaged at byte {offset}: move it away to start without it; orders that were under way are \
         then forgotten and are not run again", path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// A record could not be written as JSON.
    #[error("encode a journal record")]
    Encode(#[source] serde_json::Error),
}

/// The open journal and what it says.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Where the next record goes.
    end: u64,
    /// How far the file is filled with zeros.
    allocated: u64,
    state: JournalState,
    /// What is in the file is not known, or not all of it: it has to be written anew.
    is_behind: bool,
}

impl Journal {
    /// Opens the journal, makes it if need be, cuts a torn tail.
    ///
    /// # Errors
    /// If the file cannot be read or written, or is damaged in the middle.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |operation| move |source| JournalError::File { operation, path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(failed("open"))?;
        let content = std::fs::read(path).map_err(failed("read"))?;
        let (state, end) = replay(&content, path)?;
        let allocated = content.len() as u64;
        let journal = Self { file, path: path.to_owned(), end, allocated, state, is_behind: false };
        if content[usize::try_from(end).unwrap_or(content.len())..].iter().any(|byte| *byte != 0) {
            tracing::warn!(at = end, "the journal ends in a torn record, which was never acted on; cutting it");
            journal.cut().map_err(failed("cut"))?;
        }
        if content.is_empty() {
            durable_file::sync_parent(path).map_err(failed("flush the directory of"))?;
        }
        Ok(journal)
    }

    /// What the journal says.
    #[must_use]
    pub const fn state(&self) -> &JournalState {
        &self.state
    }

    /// Whether something that is known here could not be written.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Adds a record and waits until it is on disk.
    ///
    /// # Errors
    /// If it cannot be written; nothing may be done then that relies on it.
    pub fn append_durably(&mut self, record: Record) -> Result<(), JournalError> {
        self.write(&record)?;
        self.sync()?;
        self.state.apply(record);
        Ok(())
    }

    /// Waits until every record is on disk.
    ///
    /// # Errors
    /// If a record cannot be written.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        if self.is_behind { self.write_anew() } else { self.sync() }
    }

    /// Adds a record that survives the agent but perhaps not a power cut.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn append(&mut self, record: Record) -> Result<(), JournalError> {
        self.write(&record)?;
        self.state.apply(record);
        Ok(())
    }

    /// Adds a record of what has happened, whether it can be written or not. It survives the agent once it is.
    ///
    /// # Errors
    /// If it cannot be written yet; that is tried again with the next record, and by [`Journal::flush`].
    pub fn note(&mut self, record: Record) -> Result<(), JournalError> {
        let written = self.write(&record);
        self.is_behind |= written.is_err();
        self.state.apply(record);
        written
    }

    fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        if self.is_behind {
            self.write_anew()?;
        }
        #[cfg(any(test, feature = "testing"))]
        watched::tell(&self.path, &self.state, record, crate::host::fake::Moment::Before);
        let bytes = record.encode().map_err(JournalError::Encode)?;
        self.grow(bytes.len() as u64, self.reserved_for(record))?;
        let at = self.end;
        self.attempt("write", |journal| journal.file.write_all_at(&bytes, at))?;
        self.end += bytes.len() as u64;
        #[cfg(any(test, feature = "testing"))]
        watched::tell(&self.path, &self.state, record, crate::host::fake::Moment::After);
        Ok(())
    }

    /// What stays free behind a record.
    fn reserved_for(&self, record: &Record) -> u64 {
        if !matches!(record, Record::Accepted(_)) {
            return 0;
        }
        RESERVED_BYTES + self.state.under_way() as u64 * RESERVED_FOR_EACH_BYTES
    }

    fn sync(&mut self) -> Result<(), JournalError> {
        self.attempt("flush", |journal| journal.file.sync_data())
    }

    /// Rewrites the file if it is large and mostly history.
    ///
    /// # Errors
    /// If the new file cannot be written, then the old one stays in use; or if its name cannot be made durable.
    pub fn compact_if_large(&mut self) -> Result<(), JournalError> {
        if self.end <= COMPACT_ABOVE_BYTES {
            return Ok(());
        }
        let (state, kept) = self.essence()?;
        if kept.len() as u64 > self.end / 2 {
            return Ok(());
        }
        self.replace(state, kept, durable_file::sync_parent)
    }

    fn write_anew(&mut self) -> Result<(), JournalError> {
        let (state, kept) = self.essence()?;
        self.replace(state, kept, durable_file::sync_parent)
    }

    /// What still matters, and its bytes.
    fn essence(&self) -> Result<(JournalState, Vec<u8>), JournalError> {
        let (mut state, mut bytes) = (JournalState::default(), Vec::new());
        for record in self.state.essence() {
            bytes.extend(record.encode().map_err(JournalError::Encode)?);
            state.apply(record);
        }
        Ok((state, bytes))
    }

    /// Puts a new file in the place of the old one and goes on there. It has room from the beginning: on a full disk the
    /// old one's could not be had again, and no order could be accepted, not even one that makes room.
    fn replace(
        &mut self,
        state: JournalState,
        mut content: Vec<u8>,
        sync_parent: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        let end = content.len();
        content.resize(end.next_multiple_of(GROWTH_BYTES) + GROWTH_BYTES, 0);
        let file = durable_file::place(&self.path, &content).map_err(|source| self.error("replace", source))?;
        // The old file has no name any more: whatever happens now, nothing is written there.
        (self.file, self.end, self.allocated, self.state) = (file, end as u64, content.len() as u64, state);
        self.attempt("flush the directory of", |journal| sync_parent(&journal.path))?;
        self.is_behind = false;
        Ok(())
    }

    fn error(&self, operation: &'static str, source: io::Error) -> JournalError {
        JournalError::File { operation, path: self.path.clone(), source }
    }

    /// After a failed write or flush nobody knows what is on disk.
    fn attempt(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> Result<(), JournalError> {
        work(self).map_err(|source| {
            self.is_behind = true;
            self.error(operation, source)
        })
    }

    /// Makes room for a record, and for what is to stay free behind it. A full disk shows here, before anything of the
    /// record is written.
    fn grow(&mut self, record: u64, free: u64) -> Result<(), JournalError> {
        let needed = self.end + record + free;
        if needed <= self.allocated {
            return Ok(());
        }
        let target = needed.next_multiple_of(GROWTH_BYTES as u64);
        let zeros = vec![0; usize::try_from(target - self.allocated).unwrap_or(0)];
        self.file.write_all_at(&zeros, self.allocated).map_err(|source| self.error("grow", source))?;
        // Unlike the zeros, records that were not flushed yet could be lost here.
        self.attempt("grow", |journal| journal.file.sync_all())?;
        self.allocated = target;
        Ok(())
    }

    /// Puts zeros where the torn tail is. The room stays: a full disk may have no other.
    fn cut(&self) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(self.allocated - self.end).unwrap_or(0)];
        self.file.write_all_at(&zeros, self.end)?;
        self.file.sync_all()
    }
}

/// Reads every good record; tells where they end.
fn replay(content: &[u8], path: &Path) -> Result<(JournalState, u64), JournalError> {
    let mut state = JournalState::default();
    let mut offset = 0;
    loop {
        match Record::decode(&content[offset..]) {
            record::Decoded::Record(record, length) => {
                state.apply(record);
                offset += length;
            }
            record::Decoded::End => return Ok((state, offset as u64)),
            record::Decoded::Damaged(claimed) => {
                let next = offset.saturating_add(claimed).min(content.len());
                if matches!(Record::decode(&content[next..]), record::Decoded::Record(..)) {
                    return Err(JournalError::Damaged { path: path.to_owned(), offset: offset as u64 });
                }
                return Ok((state, offset as u64));
            }
        }
    }
}

#[cfg(test)]
mod tests;
