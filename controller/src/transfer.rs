// SPDX-License-Identifier: Apache-2.0
//! Bulk data: output and files of agents, files of operators. Pieces of 64 KiB at most, so that no stream of the
//! controller ever holds a large buffer.
//!
//! An agent reaches only what an order for its own node names.

use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::transfer_service_server::TransferService;
use windlass_types::action::Action;
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::{JobId, NodeName};

use crate::caller::Caller;
use crate::files::{FileError, Files, Upload};
use crate::jobs::Jobs;

/// The size of a piece.
pub const PIECE_BYTES: usize = 64 * 1024;

/// Pieces that may wait for a slow reader.
const WAITING_PIECES: usize = 4;

/// The bulk calls of agents.
#[derive(Debug)]
pub struct TransferApi {
    jobs: Arc<Jobs>,
    files: Files,
    stop: CancellationToken,
}

impl TransferApi {
    /// The calls.
    #[must_use]
    pub const fn new(jobs: Arc<Jobs>, files: Files, stop: CancellationToken) -> Self {
        Self { jobs, files, stop }
    }

    fn require_order(&self, job: &str, node: &NodeName, wanted: impl Fn(&Action) -> bool) -> Result<JobId, Refusal> {
        let id = JobId::new(job).map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
        if self.jobs.has_order(&id, node, wanted) {
            return Ok(id);
        }
        Err(Refusal::new(Reason::NotPermitted, format!("job {id} has no such order for {node} now")))
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl TransferService for TransferApi {
    type PushOutputStream = Answers<v1::PushOutputResponse>;
    type FetchFileStream = Answers<v1::FetchFileResponse>;
    type StoreFileStream = Answers<v1::StoreFileResponse>;

    async fn push_output(
        &self,
        request: Request<Streaming<v1::PushOutputRequest>>,
    ) -> Result<Response<Self::PushOutputStream>, Status> {
        let node = node_of(&request)?;
        let mut pieces = request.into_inner();
        let (answer, answers) = mpsc::channel(WAITING_PIECES);
        let jobs = Arc::clone(&self.jobs);
        tokio::spawn(async move {
            while let Some(piece) = pieces.next().await {
                let stored = match piece {
                    Ok(piece) => store_output(&jobs, &node, piece).await,
                    // The agent hung up; it comes back with what was not answered.
                    Err(_) => return,
                };
                if answer.send(stored).await.is_err() {
                    return;
                }
            }
        });
        let until = self.stop.clone().cancelled_owned();
        Ok(Response::new(ReceiverStream::new(answers).take_until(until).boxed()))
    }

    async fn fetch_file(
        &self,
        request: Request<v1::FetchFileRequest>,
    ) -> Result<Response<Self::FetchFileStream>, Status> {
        let node = node_of(&request)?;
        let message = request.into_inner();
        let wanted = digest(&message.sha256)?;
        self.require_order(
            &message.job,
            &node,
            |action| matches!(action, Action::PutFile { sha256, .. } if *sha256 == wanted),
        )?;
        let pieces = pieces(&self.files, wanted, message.offset)?;
        Ok(Response::new(pieces.map(|piece| piece.map(|data| v1::FetchFileResponse { data })).boxed()))
    }

    async fn store_file(
        &self,
        request: Request<Streaming<v1::StoreFileRequest>>,
    ) -> Result<Response<Self::StoreFileStream>, Status> {
        let node = node_of(&request)?;
        let mut parts = request.into_inner();
        let Some(v1::StoreFileRequest { part: Some(v1::store_file_request::Part::Header(header)) }) =
            parts.message().await?
        else {
            return Err(headless().into());
        };
        self.require_order(&header.job, &node, |action| matches!(action, Action::GetFile { .. }))?;
        let parts = parts.map(|part| {
            part.map(|request| match request.part {
                Some(v1::store_file_request::Part::Data(data)) => data,
                Some(v1::store_file_request::Part::Header(_)) | None => Bytes::new(),
            })
        });
        let answers = receive(&self.files, &self.jobs, digest(&header.sha256)?, header.size_bytes, parts.boxed())?;
        let answers = answers.map(|answer| {
            answer.map(|Received { stored_bytes, complete }| v1::StoreFileResponse { stored_bytes, complete })
        });
        Ok(Response::new(answers.boxed()))
    }
}

fn node_of<T>(request: &Request<T>) -> Result<NodeName, Refusal> {
    match Caller::of(request) {
        Caller::Node { name, .. } => Ok(name),
        Caller::Stranger { .. } | Caller::Operator { .. } | Caller::Local { .. } => {
            Err(Refusal::new(Reason::NotPermitted, "only an agent moves its own data"))
        }
    }
}

async fn store_output(
    jobs: &Arc<Jobs>,
    node: &NodeName,
    piece: v1::PushOutputRequest,
) -> Result<v1::PushOutputResponse, Status> {
    let id = JobId::new(piece.job.clone()).map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
    let stream = piece.stream();
    let limit = jobs.output_limit_bytes();
    if piece.data.len() > PIECE_BYTES || stream == v1::OutputStream::Unspecified {
        return Err(Refusal::new(Reason::BadRequest, "a piece of output is malformed").into());
    }
    if !jobs.has_order(&id, node, |action| matches!(action, Action::Exec(_) | Action::Step(_))) {
        // Over or never ours: take it as stored, so that the agent forgets it.
        let stored_bytes = piece.offset + piece.data.len() as u64;
        return Ok(v1::PushOutputResponse { job: piece.job, stream: piece.stream, stored_bytes });
    }
    let (outputs, job, name) = (jobs.outputs().clone(), id.clone(), node.clone());
    let before = outputs.length(&id, node, stream);
    let stored = blocking(move || outputs.store(&job, &name, stream, piece.offset, &piece.data, limit)).await?;
    let stored = stored.map_err(|source| file_refusal(&FileError::Io { operation: "write", source }))?;
    jobs.spooled(&id, node, stream, before, stored);
    Ok(v1::PushOutputResponse { job: piece.job, stream: piece.stream, stored_bytes: stored })
}

/// How far a file has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Received {
    /// Bytes stored.
    pub stored_bytes: u64,
    /// All are there and the digest is right.
    pub complete: bool,
}

/// Takes a file: answers where to begin, then that it is complete.
///
/// # Errors
/// If there is no room, or the cache cannot be used.
pub fn receive(
    files: &Files,
    jobs: &Jobs,
    sha256: Sha256Digest,
    size: u64,
    mut pieces: BoxStream<'static, Result<Bytes, Status>>,
) -> Result<Answers<Received>, Refusal> {
    let upload = files.upload(sha256, size, |sha256| jobs.needs(sha256)).map_err(|error| file_refusal(&error))?;
    let (answer, answers) = mpsc::channel(WAITING_PIECES);
    tokio::spawn(async move {
        let complete = Received { stored_bytes: size, complete: true };
        let result = match upload {
            None => Ok(complete),
            Some(upload) => {
                let begin = Received { stored_bytes: upload.stored(), complete: false };
                if answer.send(Ok(begin)).await.is_err() {
                    return;
                }
                take(upload, &mut pieces).await.map(|()| complete)
            }
        };
        // The sender may have hung up; what was stored stays for its next attempt.
        let _gone = answer.send(result).await;
    });
    Ok(ReceiverStream::new(answers).boxed())
}

async fn take(mut upload: Upload, pieces: &mut BoxStream<'static, Result<Bytes, Status>>) -> Result<(), Status> {
    while !upload.is_complete() {
        let Some(piece) = pieces.next().await else {
            return Err(Refusal::new(Reason::BadRequest, "the file ended early")
                .advise("send it again; it goes on")
                .into());
        };
        let piece = piece?;
        let pushed;
        (upload, pushed) = blocking(move || {
            let pushed = upload.push(&piece);
            (upload, pushed)
        })
        .await?;
        pushed.map_err(|error| file_refusal(&error))?;
    }
    blocking(move || upload.finish()).await?.map_err(|error| file_refusal(&error).into())
}

/// The pieces of a file that is in the cache.
///
/// # Errors
/// If it is not.
pub fn pieces(files: &Files, sha256: Sha256Digest, offset: u64) -> Result<Answers<Bytes>, Refusal> {
    Ok(pieces_of(files.read(sha256, offset).map_err(|error| file_refusal(&error))?))
}

/// The pieces of an open file from where it stands. Each is read when the last one was taken, so that a thousand slow
/// readers hold a thousand pieces and no thread.
#[must_use]
pub fn pieces_of(file: File) -> Answers<Bytes> {
    unfold(Some(file), async |file| match next_piece(file?).await {
        Ok((piece, _)) if piece.is_empty() => None,
        Ok((piece, file)) => Some((Ok(piece), Some(file))),
        Err(refusal) => Some((Err(refusal.into()), None)),
    })
    .boxed()
}

async fn next_piece(mut file: File) -> Result<(Bytes, File), Refusal> {
    blocking(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        let read = file.read(&mut buffer);
        let count = read.map_err(|source| file_refusal(&FileError::Io { operation: "read", source }))?;
        buffer.truncate(count);
        Ok((Bytes::from(buffer), file))
    })
    .await?
}

/// A digest from the wire.
///
/// # Errors
/// If it has not 32 bytes.
pub fn digest(bytes: &[u8]) -> Result<Sha256Digest, Refusal> {
    Sha256Digest::from_slice(bytes).map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))
}

/// A stream that should have begun with a header.
#[must_use]
pub fn headless() -> Refusal {
    Refusal::new(Reason::BadRequest, "a file begins with its header")
}

/// Does what waits for the disk beside everything else. With one thread only, as in a simulation, it is done in place: what
/// comes next must not depend on when another thread is done.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Refusal::new(Reason::ShuttingDown, "the controller is ending"))
}

fn file_refusal(error: &FileError) -> Refusal {
    let text = ErrorChain(error).to_string();
    match error {
        FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Refusal::new(Reason::DiskFull, text).advise("make room on the disk with the state directory")
        }
        FileError::NoRoom(_) => Refusal::new(Reason::DiskFull, text).advise(
            "make room on the disk with the state directory, then try again; or lower limits.disk_reserve_bytes \
             in the configuration",
        ),
        FileError::Io { .. } => Refusal::new(Reason::StateUnavailable, text).advise("see the controller's log"),
        FileError::WrongContent => Refusal::new(Reason::BadRequest, text).advise("send the file again"),
        FileError::NotHere => Refusal::new(Reason::NotFound, text).advise("upload it first, as `windlass cp` does"),
    }
}
