// SPDX-License-Identifier: Apache-2.0
//! Sends a job's output while it grows, and until the controller has all of it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;

use super::{Answered, Carriers, PIECE_BYTES, Sent, TransferError};
use crate::backoff::Backoff;
use crate::output::{Spool, Stream};

/// Pieces under way before the controller must have answered: what one connection may hold in buffers.
const WINDOW_BYTES: u64 = 256 * 1024;

const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How far one output is.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    sent: u64,
    stored: u64,
}

impl Progress {
    /// Takes the controller's word for how much it has.
    fn answered(&mut self, stored: u64, kept: u64) {
        let stored = stored.min(kept);
        if stored < self.stored {
            // It lost something: begin again there.
            self.sent = stored;
        }
        self.stored = stored;
        self.sent = self.sent.max(stored);
    }
}

/// Sends the output of `job` until all of it is stored after `finished`. Gives up only if the controller does not want it.
pub async fn push(carriers: Arc<Carriers>, job: JobId, spool: Arc<Spool>, finished: CancellationToken) {
    let mut progress = [Progress::default(); 2];
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, carriers.seed);
    loop {
        if !wait_for_output(&spool, &progress, &finished).await {
            return;
        }
        let before = progress.map(|one| one.stored);
        match push_once(&carriers, &job, &spool, &mut progress, &finished).await {
            Ok(()) => return,
            Err(error) if error.is_final() => {
                tracing::warn!(job = %job, error = %ErrorChain(&error), "the controller does not take this output");
                return;
            }
            Err(error) => tracing::info!(job = %job, error = %ErrorChain(&error), "output not sent yet; trying again"),
        }
        if before != progress.map(|one| one.stored) {
            backoff.reset();
        }
        progress.iter_mut().for_each(|one| one.sent = one.stored);
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// Whether there is something to send; false once everything is stored and nothing more comes.
async fn wait_for_output(spool: &Spool, progress: &[Progress; 2], finished: &CancellationToken) -> bool {
    loop {
        let grown = spool.grown();
        if Stream::BOTH.iter().zip(progress).any(|(stream, one)| spool.kept(*stream) > one.stored) {
            return true;
        }
        if finished.is_cancelled() {
            return false;
        }
        tokio::select! {
            () = grown => {}
            () = finished.cancelled() => {}
        }
    }
}

async fn push_once(
    carriers: &Carriers,
    job: &JobId,
    spool: &Spool,
    progress: &mut [Progress; 2],
    finished: &CancellationToken,
) -> Result<(), TransferError> {
    let mut call = carriers.call().await?;
    loop {
        let grown = spool.grown();
        let is_stored = |(stream, one): (&Stream, &Progress)| one.stored >= spool.kept(*stream);
        if finished.is_cancelled() && Stream::BOTH.iter().zip(progress.iter()).all(is_stored) {
            return Ok(());
        }
        let has_more = has_piece(spool, progress);
        tokio::select! {
            answer = call.answer() => {
                let Some(Answered::Output(answer)) = answer? else { return Err(TransferError::Ended) };
                let stream = if answer.stream() == v1::OutputStream::Stderr { Stream::Stderr } else { Stream::Stdout };
                progress[usize::from(stream == Stream::Stderr)].answered(answer.stored_bytes, spool.kept(stream));
            }
            () = std::future::ready(()), if has_more => {
                if let Some(piece) = next_piece(job, spool, progress)? {
                    call.send(Sent::Output(piece)).await?;
                }
            }
            () = grown, if !has_more => {}
            () = finished.cancelled(), if !finished.is_cancelled() => {}
        }
    }
}

fn has_piece(spool: &Spool, progress: &[Progress; 2]) -> bool {
    Stream::BOTH
        .iter()
        .zip(progress)
        .any(|(stream, one)| one.sent < spool.kept(*stream) && one.sent - one.stored < WINDOW_BYTES)
}

fn next_piece(
    job: &JobId,
    spool: &Spool,
    progress: &mut [Progress; 2],
) -> Result<Option<v1::PushOutputRequest>, TransferError> {
    for (stream, one) in Stream::BOTH.into_iter().zip(progress) {
        if one.sent >= spool.kept(stream) || one.sent - one.stored >= WINDOW_BYTES {
            continue;
        }
        let data = spool.read(stream, one.sent, PIECE_BYTES).map_err(TransferError::Spool)?;
        if data.is_empty() {
            return Err(TransferError::Spool(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let offset = one.sent;
        one.sent += data.len() as u64;
        let stream = v1::OutputStream::from(stream).into();
        return Ok(Some(v1::PushOutputRequest { job: job.as_str().to_owned(), stream, offset, data }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_word_moves_the_offset_both_ways() {
        let mut progress = Progress { sent: 100, stored: 50 };
        progress.answered(80, 500);
        assert_eq!((progress.sent, progress.stored), (100, 80));
        progress.answered(300, 500);
        assert_eq!((progress.sent, progress.stored), (300, 300), "an earlier connection had sent more");
        progress.answered(20, 500);
        assert_eq!((progress.sent, progress.stored), (20, 20), "it lost something");
        progress.answered(u64::MAX, 500);
        assert_eq!(progress.stored, 500, "never beyond what is there");
    }
}
