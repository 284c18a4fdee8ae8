// SPDX-License-Identifier: Apache-2.0
//! Brings a local file into the controller's cache, from where the controller's copy ends.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use windlass_proto::v1;
use windlass_proto::v1::upload_file_request::Part;
use windlass_types::digest::Sha256Digest;

use crate::cli::context::{Context, job_client};
use crate::cli::failure::{Cause, Failure};
use crate::cli::follow::may_pass;
use crate::cli::progress::Progress;

/// The largest piece the contract allows.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// Pieces on their way at once: enough to fill a fast link, few enough to notice a refusal early.
const PIECES_AHEAD: usize = 16;

/// How often a broken copy goes on before it is given up; each time from where the controller's copy ends.
pub(super) const MOST_ATTEMPTS: u32 = 8;

/// Between two attempts, times the number of the attempt: a minute and more in all, while the controller restarts.
pub(super) const PAUSE: Duration = Duration::from_secs(2);

/// A local file that is read by place, so that an attempt can begin anywhere.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    file: File,
    pub(super) sha256: Sha256Digest,
    pub(super) size_bytes: u64,
    pub(super) mode: u32,
}

impl Source {
    /// Opens and reads it once, for its digest.
    ///
    /// # Errors
    /// If it cannot be read or is no file.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut file = File::open(path).map_err(|error| failed(path).because_of(&error))?;
        let metadata = file.metadata().map_err(|error| failed(path).because_of(&error))?;
        if !metadata.is_file() {
            return Err(failed(path).because("it is not a file").advise("pack a directory first: tar -c DIR > FILE"));
        }
        let (sha256, size_bytes) = digest_of(&mut file).map_err(|error| failed(path).because_of(&error))?;
        Ok(Self { path: path.to_owned(), file, sha256, size_bytes, mode: super::mode_of(&metadata) })
    }

    fn piece(&self, offset: u64) -> Result<Bytes, Failure> {
        let mut piece = vec![0; PIECE_BYTES];
        let length = self.file.read_at(&mut piece, offset).map_err(|error| failed(&self.path).because_of(&error))?;
        if length == 0 {
            return Err(failed(&self.path).because("it became shorter while it was copied").advise("copy it again"));
        }
        piece.truncate(length);
        Ok(piece.into())
    }
}

fn failed(path: &Path) -> Failure {
    Failure::new(Cause::Local, format!("read {}", path.display()))
}

/// Digest and size of what is left of a file.
pub(super) fn digest_of(file: &mut File) -> std::io::Result<(Sha256Digest, u64)> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        context.update(&buffer[..length]);
        size += length as u64;
    }
    Ok((finished(context)?, size))
}

/// The digest as our type.
pub(super) fn finished(context: digest::Context) -> std::io::Result<Sha256Digest> {
    Sha256Digest::from_slice(context.finish().as_ref()).map_err(std::io::Error::other)
}

/// Uploads; goes on after a lost connection.
///
/// # Errors
/// If the file cannot be read or the controller cannot be reached or refuses.
pub(super) async fn run(context: &Context, source: &Source) -> Result<(), Failure> {
    let progress = Progress::bytes(&context.terminal, source.size_bytes);
    let mut client = context.jobs().await?;
    let mut attempt = 1;
    loop {
        match once(&mut client, source, &progress).await {
            Ok(()) => return Ok(()),
            Err(failure) if attempt == MOST_ATTEMPTS || !may_pass(failure.cause) => return Err(failure),
            Err(_) => tokio::time::sleep(PAUSE * attempt).await,
        }
        attempt += 1;
        if let Ok(channel) = context.connect().await {
            client = job_client(channel);
        }
    }
}

type Client = v1::job_service_client::JobServiceClient<crate::client::Calls>;

async fn once(client: &mut Client, source: &Source, progress: &Progress) -> Result<(), Failure> {
    let refused = |status| Failure::call(format!("send {}", source.path.display()), &status);
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let header =
        v1::UploadFileHeader { sha256: source.sha256.as_bytes().to_vec().into(), size_bytes: source.size_bytes };
    // There is room for the first message, and the receiver is ours.
    let _ = sender.try_send(v1::UploadFileRequest { part: Some(Part::Header(header)) });
    let mut answers = client.upload_file(ReceiverStream::new(receiver)).await.map_err(refused)?.into_inner();
    let first = answers.message().await.map_err(refused)?.ok_or_else(|| ended(source))?;
    if first.complete {
        progress.finish(source.size_bytes);
        return Ok(());
    }
    let send = send_pieces(source, first.stored_bytes, &sender, progress);
    let complete = async {
        while let Some(answer) = answers.message().await.map_err(refused)? {
            if answer.complete {
                return Ok(());
            }
        }
        Err(ended(source))
    };
    tokio::pin!(complete);
    tokio::select! {
        result = &mut complete => return result,
        sent = send => sent?,
    }
    drop(sender);
    complete.await
}

fn ended(source: &Source) -> Failure {
    Failure::new(Cause::Unreachable, format!("send {}", source.path.display()))
        .because("the controller ended the connection before it had everything")
        .advise("run the same command again: it goes on where it ended")
}

async fn send_pieces(
    source: &Source,
    mut offset: u64,
    sender: &mpsc::Sender<v1::UploadFileRequest>,
    progress: &Progress,
) -> Result<(), Failure> {
    while offset < source.size_bytes {
        let piece = source.piece(offset)?;
        offset += piece.len() as u64;
        if sender.send(v1::UploadFileRequest { part: Some(Part::Data(piece)) }).await.is_err() {
            // The call has ended; its answer says why.
            return std::future::pending().await;
        }
        progress.at(offset);
    }
    progress.finish(offset);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_knows_its_digest_size_and_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("abc");
        std::fs::write(&path, "abc").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).expect("mode");
        let source = Source::open(&path).expect("a file");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((source.sha256.to_string().as_str(), source.size_bytes, source.mode), (abc, 3, 0o750));
        assert_eq!(source.piece(1).expect("a piece"), "bc");
        assert!(source.piece(3).is_err(), "a file that became shorter is noticed");
    }

    #[test]
    fn a_directory_is_refused_with_a_way_out() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(Source::open(directory.path()).expect_err("no file").advice.contains("tar"));
    }
}
