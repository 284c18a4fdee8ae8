// SPDX-License-Identifier: Apache-2.0
//! Checks the whole chain.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use windlass_types::digest::Sha256Digest;

use super::AuditError;
use super::file::FILE;
use super::record::Link;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// Records that were checked and are whole.
    pub records: u64,
    /// Digest of the last of them: keep it elsewhere to notice a cut tail.
    pub head: Sha256Digest,
    /// What is wrong with the first bad line, and which it is; `None` if the chain is whole.
    pub fault: Option<String>,
}

/// Checks every line of the log in a directory, also while it is being written. A last line without an end is one that
/// is being written or was never finished; it counts neither as a record nor as a fault. A log that was never begun is
/// whole.
///
/// # Errors
/// If the file cannot be read.
pub fn verify(directory: &Path) -> Result<AuditReport, AuditError> {
    let path = directory.join(FILE);
    let failed = |source| AuditError::File { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.is_dir() => {
            return Ok(AuditReport { records: 0, head: Link::START.hash, fault: None });
        }
        Err(source) => return Err(failed(source)),
    };
    let (mut last, mut line) = (Link::START, Vec::new());
    let fault = loop {
        line.clear();
        file.read_until(b'\n', &mut line).map_err(failed)?;
        let Some(whole) = line.strip_suffix(b"\n") else { break None };
        match next(last, whole) {
            Ok(link) => last = link,
            Err(fault) => break Some(format!("line {} {fault}", last.seq + 1)),
        }
    };
    Ok(AuditReport { records: last.seq, head: last.hash, fault })
}

fn next(last: Link, line: &[u8]) -> Result<Link, String> {
    let (link, record) = Link::parse(line)?;
    last.check(&record)?;
    Ok(link)
}
