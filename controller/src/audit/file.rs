// SPDX-License-Identifier: Apache-2.0
//! The log's file: opened, its end checked and mended, then only appended to.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use windlass_types::time::UnixMillis;

use super::AuditError;
use super::chain::{Chain, Sink};
use super::record::{Body, Link};

/// The log's file in its directory.
pub const FILE: &str = "audit.jsonl";

/// How much of the end is checked at every start, bytes: some thousand records, in a few milliseconds. All of it is
/// checked by `windlass audit verify`.
const CHECKED_AT_START: u64 = 1024 * 1024;

/// Opens or begins the log.
pub(super) fn open(directory: &Path, now: UnixMillis) -> Result<Chain, AuditError> {
    let path = directory.join(FILE);
    let failed = |source| AuditError::File { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    let mut options = OpenOptions::new();
    let mut file = options.read(true).append(true).create(true).mode(0o600).open(&path).map_err(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let (last, removed) = mend(&mut file, &path)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut chain = Chain::after(last, Box::new(FileSink { file, length, failed: false }));
    if removed > 0 {
        tracing::warn!(removed, path = %path.display(), "removed an unfinished last line of the audit log");
        chain.append(&[Body::repaired(now, removed)]).map_err(|refused| AuditError::Write(refused.0))?;
    }
    Ok(chain)
}

/// Cuts off what was never finished, and so never answered; checks what stands before it.
fn mend(file: &mut File, path: &Path) -> Result<(Link, u64), AuditError> {
    let failed = |source| AuditError::File { path: path.to_owned(), source };
    let (mut tail, begins_at) = read_tail(file, CHECKED_AT_START).map_err(failed)?;
    let finished = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let removed = tail.len() - finished;
    if removed > 0 {
        if finished == 0 && begins_at > 0 {
            return Err(broken(path, "its last line has no end"));
        }
        tail.truncate(finished);
        let length = begins_at + u64::try_from(finished).unwrap_or(u64::MAX);
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    let last = check_tail(&tail, begins_at > 0).map_err(|fault| broken(path, &fault))?;
    Ok((last, u64::try_from(removed).unwrap_or(u64::MAX)))
}

fn broken(path: &Path, fault: &str) -> AuditError {
    AuditError::Broken { path: path.to_owned(), fault: fault.to_owned() }
}

fn read_tail(file: &mut File, longest: u64) -> io::Result<(Vec<u8>, u64)> {
    let begins_at = file.metadata()?.len().saturating_sub(longest);
    file.seek(SeekFrom::Start(begins_at))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok((tail, begins_at))
}

/// Checks whole lines. If they are not all of the file, the first may be a part of one and only the others count.
fn check_tail(tail: &[u8], is_part: bool) -> Result<Link, String> {
    let mut lines = tail.strip_suffix(b"\n").map(|lines| lines.split(|byte| *byte == b'\n')).into_iter().flatten();
    let mut last = if is_part { None } else { Some(Link::START) };
    if is_part {
        lines.next();
    }
    for line in lines {
        let (link, record) = Link::parse(line).map_err(|fault| format!("a line near its end {fault}"))?;
        if let Some(last) = last {
            last.check(&record).map_err(|fault| format!("the line of record {} {fault}", record.seq))?;
        }
        last = Some(link);
    }
    last.ok_or_else(|| "its last line is too long".to_owned())
}

/// Appends to the file.
#[derive(Debug)]
pub(super) struct FileSink {
    file: File,
    /// What is durable.
    length: u64,
    failed: bool,
}

impl Sink for FileSink {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed; start the controller again"));
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line must not stay. If it cannot be removed, nothing may follow it.
            self.failed = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            // What the disk holds now is unknown, and a second flush would not tell.
            self.failed = true;
            return Err(error);
        }
        self.length += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_that_cannot_be_removed_is_followed_by_nothing() {
        // Every write to this device fails as on a full disk, and it cannot be cut.
        let file = OpenOptions::new().append(true).open("/dev/full").expect("opens");
        let mut sink = FileSink { file, length: 0, failed: false };
        assert_eq!(sink.append(b"line\n").expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert_eq!(sink.append(b"line\n").expect_err("refused").kind(), io::ErrorKind::Other);
    }
}
