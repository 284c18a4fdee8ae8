// SPDX-License-Identifier: Apache-2.0
//! Places a file on the node, or sends one, digest-checked and resumable.
//!
//! A file comes in pieces into a part file named by its digest, is checked as a whole, copied beside its target, made
//! durable, and only then put in place: whoever reads the target sees the old content or the new. What may take long happens
//! on other threads ([`super::apart`]), because everything else shares this one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::libc::O_NONBLOCK;
use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_proto::v1::store_file_request::Part;
use windlass_types::action::NodePath;
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;

use super::apart::{apart, digest_of};
use super::part::{PartFile, require_room, sweep};
use super::target::{is_in_place, label_of, place};
use super::{Answered, Call, Carriers, PIECE_BYTES, Sent, TransferError};
use crate::backoff::Backoff;
use crate::durable_file;
use crate::host::directory::open_followed;

const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Attempts without a single new byte before a transfer is given up.
const FRUITLESS_ATTEMPTS: u32 = 20;

/// A file that was not placed or sent.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Something on this node.
    #[error("{operation} {}", path.display())]
    Local {
        /// What was tried, as an infinitive.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a regular file.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// Which.
        path: NodePath,
    },
    /// What came is not what was ordered.
    #[error("the content that came has another digest than the one ordered; it was removed")]
    Digest,
    /// It does not fit.
    #[error(
        "there is no room for {size} bytes in {}: {free} bytes are free, of which some stay so for everything else, and \
         while a file is placed it is on the disk twice; make room there", directory.display()
    )]
    NoRoom {
        /// Where.
        directory: PathBuf,
        /// How much there is to place, bytes.
        size: u64,
        /// How much is free, bytes.
        free: u64,
    },
    /// The controller did not give or take it.
    #[error("the controller and this node could not move the file")]
    Transfer(#[source] TransferError),
    /// It changed while it was sent.
    #[error("{path} changed while it was sent")]
    Changed {
        /// Which.
        path: NodePath,
    },
}

impl FileError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoRoom { .. } => ErrorClass::Blocked,
            Self::Transfer(error) if error.is_full() => ErrorClass::Blocked,
            Self::Transfer(error) if !error.is_final() => ErrorClass::Transient,
            Self::Changed { .. } | Self::Digest => ErrorClass::Transient,
            _ => ErrorClass::Operator,
        }
    }
}

pub(super) fn local(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::Local { operation, path: path.to_owned(), source }
}

/// Moves files of one node.
#[derive(Debug)]
pub struct Files {
    carriers: Arc<Carriers>,
    /// One fetch at a time: two of the same digest would share a part file, and the disk is one anyway.
    fetching: tokio::sync::Mutex<()>,
    agent_ended: CancellationToken,
}

/// What a put order says.
#[derive(Debug, Clone, Copy)]
pub struct Put<'a> {
    /// Where.
    pub path: &'a NodePath,
    /// What.
    pub sha256: Sha256Digest,
    /// How much, bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

impl Files {
    /// Carried by these. What is on its way when `agent_ended` is cancelled is kept for the next agent.
    #[must_use]
    pub fn new(carriers: Arc<Carriers>, agent_ended: CancellationToken) -> Self {
        Self { carriers, fetching: tokio::sync::Mutex::default(), agent_ended }
    }

    /// Removes what earlier agents left of files, but for those that are `wanted`.
    pub fn sweep(&self, wanted: impl Iterator<Item = Sha256Digest>) {
        if let Err(error) = sweep(&self.carriers.directory, wanted) {
            let directory = self.carriers.directory.display();
            tracing::warn!(%directory, %error, "what is left of files that nobody waits for could not be removed");
        }
    }

    /// Places a file; tells whether anything had to be changed.
    ///
    /// # Errors
    /// If it is not in place; then the target is what it was.
    pub async fn put(&self, job: &JobId, put: Put<'_>) -> Result<bool, FileError> {
        if is_in_place(put).await? {
            return Ok(false);
        }
        let _one_at_a_time = self.fetching.lock().await;
        let directory = &self.carriers.directory;
        durable_file::private_directory(directory).map_err(local("make", directory))?;
        let part = PartFile::of(put.sha256, directory, self.agent_ended.clone());
        require_room(&part, put).await?;
        self.fetch(job, put, &part).await?;
        let (from, target, mode) = (part.path().to_owned(), PathBuf::from(put.path.as_str()), put.mode);
        let label = label_of(&target).await;
        let placed = apart(move |given_up| place(&from, &target, mode, label.as_ref(), given_up)).await;
        placed.map_err(local("write", Path::new(put.path.as_str())))?;
        Ok(true)
    }

    /// Brings the whole content into the part file.
    async fn fetch(&self, job: &JobId, put: Put<'_>, part: &PartFile) -> Result<(), FileError> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.carriers.seed);
        let mut fruitless = 0;
        loop {
            let file = Arc::new(part.open(put.size)?);
            let read = || local("read", part.path());
            let have = file.metadata().map_err(read())?.len();
            let fetched = if have == put.size { Ok(()) } else { self.fetch_once(job, put, &file, have, part).await? };
            match fetched {
                Ok(()) if hashed(&file).await.map_err(read())? == put.sha256 => return Ok(()),
                Ok(()) => return Err(FileError::Digest),
                Err(error) if error.is_final() => return Err(FileError::Transfer(error)),
                Err(error) => {
                    let now = file.metadata().map_err(read())?.len();
                    fruitless = if now > have { 0 } else { fruitless + 1 };
                    if fruitless >= FRUITLESS_ATTEMPTS {
                        return Err(FileError::Transfer(error));
                    }
                    tracing::info!(job = %job, error = %ErrorChain(&error), "file not fetched yet; trying again");
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn fetch_once(
        &self,
        job: &JobId,
        put: Put<'_>,
        file: &File,
        have: u64,
        part: &PartFile,
    ) -> Result<Result<(), TransferError>, FileError> {
        let request = v1::FetchFileRequest {
            job: job.as_str().to_owned(),
            sha256: Bytes::copy_from_slice(put.sha256.as_bytes()),
            offset: have,
        };
        let opened = async {
            let mut call = self.carriers.call().await?;
            call.send(Sent::Fetch(request)).await?;
            Ok::<_, TransferError>(call)
        };
        let mut call = match opened.await {
            Ok(call) => call,
            Err(error) => return Ok(Err(error)),
        };
        let mut offset = have;
        while offset < put.size {
            match call.answer().await {
                Ok(Some(Answered::Fetch(piece))) => {
                    let room = usize::try_from(put.size - offset).unwrap_or(usize::MAX).min(piece.data.len());
                    file.write_all_at(&piece.data[..room], offset).map_err(local("write", part.path()))?;
                    offset += room as u64;
                }
                Ok(_) => return Ok(Err(TransferError::Ended)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Sends a regular file; its digest and size.
    ///
    /// # Errors
    /// If the controller does not have all of it.
    pub async fn get(&self, job: &JobId, path: &NodePath) -> Result<(Sha256Digest, u64), FileError> {
        let at = PathBuf::from(path.as_str());
        let opened = apart(move |_| {
            // A named pipe must not be waited for until somebody writes into it.
            let file = open_followed(&at, O_NONBLOCK)?;
            let about = file.metadata()?;
            Ok((Arc::new(file), about))
        });
        let read = local("read", Path::new(path.as_str()));
        let (file, about) = opened.await.map_err(&read)?;
        if !about.is_file() {
            return Err(FileError::NotRegular { path: path.clone() });
        }
        let sha256 = hashed(&file).await.map_err(read)?;
        let header = v1::StoreFileHeader {
            job: job.as_str().to_owned(),
            sha256: Bytes::copy_from_slice(sha256.as_bytes()),
            size_bytes: about.len(),
        };
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.carriers.seed);
        for _ in 1..FRUITLESS_ATTEMPTS {
            match self.store_once(&header, &file, path).await? {
                Ok(()) => return Ok((sha256, about.len())),
                Err(error) if error.is_final() || error.is_full() => return Err(FileError::Transfer(error)),
                Err(error) => {
                    tracing::info!(job = %job, error = %ErrorChain(&error), "file not sent yet; trying again")
                }
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
        self.store_once(&header, &file, path).await?.map_err(FileError::Transfer).map(|()| (sha256, about.len()))
    }

    async fn store_once(
        &self,
        header: &v1::StoreFileHeader,
        file: &Arc<File>,
        path: &NodePath,
    ) -> Result<Result<(), TransferError>, FileError> {
        let begun = async {
            let mut call = self.carriers.call().await?;
            call.send(part(Part::Header(header.clone()))).await?;
            let first = stored(&mut call).await?;
            Ok::<_, TransferError>((call, first))
        };
        let (mut call, mut answer) = match begun.await {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        let mut offset = answer.stored_bytes;
        while offset < header.size_bytes && !answer.complete {
            let piece = piece(file, offset).await.map_err(local("read", Path::new(path.as_str())))?;
            if piece.is_empty() {
                return Err(FileError::Changed { path: path.clone() });
            }
            offset += piece.len() as u64;
            // Whoever does not take it any more has said why.
            if call.send(part(Part::Data(piece))).await.is_err() {
                break;
            }
        }
        let _said_why_if_it_failed = call.sender.finish().await;
        while !answer.complete {
            answer = match stored(&mut call).await {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(()))
    }
}

const fn part(part: Part) -> Sent {
    Sent::Store(v1::StoreFileRequest { part: Some(part) })
}

async fn stored(call: &mut Call) -> Result<v1::StoreFileResponse, TransferError> {
    match call.answer().await? {
        Some(Answered::Store(stored)) => Ok(stored),
        _ => Err(TransferError::Ended),
    }
}

/// SHA-256 of a whole file.
async fn hashed(file: &Arc<File>) -> io::Result<Sha256Digest> {
    let file = Arc::clone(file);
    apart(move |given_up| digest_of(&file, given_up)).await
}

/// What of a file is sent next; empty at its end.
async fn piece(file: &Arc<File>, offset: u64) -> io::Result<Bytes> {
    let file = Arc::clone(file);
    let read = apart(move |_| {
        let mut piece = vec![0; PIECE_BYTES];
        let length = file.read_at(&mut piece, offset)?;
        piece.truncate(length);
        Ok(piece.into())
    });
    read.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_fit_is_not_begun_and_one_that_is_stopped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let transfers = dir.path().join("transfers");
        let files = Files::new(Carriers::new(transfers.clone(), 1), CancellationToken::new());
        let (job, path) = (JobId::new("1").unwrap(), NodePath::new(dir.path().join("file").to_str().unwrap()).unwrap());
        let put = |size| Put { path: &path, sha256: Sha256Digest::new([1; 32]), size, mode: 0o600 };
        let within = Duration::from_secs(1);
        let refused = tokio::time::timeout(within, files.put(&job, put(1 << 60))).await.expect("at once").unwrap_err();
        assert!(matches!(refused, FileError::NoRoom { .. }) && refused.class() == ErrorClass::Blocked, "{refused}");
        // Nobody carries anything here, so it waits until it is stopped.
        assert!(tokio::time::timeout(within, files.put(&job, put(1))).await.is_err());
        assert_eq!(std::fs::read_dir(transfers).unwrap().count(), 0);
    }
}
