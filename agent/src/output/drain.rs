// SPDX-License-Identifier: Apache-2.0
//! Moves what programs print from their pipes into the spool.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use tokio::net::unix::pipe::{self, Receiver};

use super::{Spool, Stream};

/// One pipe's worth.
const PIECE_BYTES: usize = 64 * 1024;

/// The reading ends of one job's pipes.
#[derive(Debug)]
pub struct Drains {
    pipes: [Pipe; 2],
}

#[derive(Debug)]
struct Pipe {
    spool: Arc<Spool>,
    stream: Stream,
    end: Receiver,
    file: Option<File>,
    open: bool,
}

/// After this many pieces everything else has its turn.
const PIECES_AT_A_TIME: usize = 4;

/// As many pieces as the largest pipe that a user may have (1 MiB) holds, whichever way it is read.
const PIECES_IN_A_PIPE: usize = 1024 * 1024 / LEAST_PIECE_BYTES;

/// What one read of a pipe takes at least, if so much lies in it.
const LEAST_PIECE_BYTES: usize = 4096;

/// What one attempt at a pipe did.
enum Moved {
    Some,
    Closed,
}

impl Drains {
    /// Makes the pipes; the writing ends, stdout first, are for the program.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn begin(spool: &Arc<Spool>) -> io::Result<(Self, [File; 2])> {
        for stream in Stream::BOTH {
            match nix::unistd::mkfifo(&spool.pipe_path(stream), Mode::S_IRUSR | Mode::S_IWUSR) {
                // Of an earlier job, and let go.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let drains = Self::resume(spool)?;
        let writer = |stream| OpenOptions::new().read(true).write(true).open(spool.pipe_path(stream));
        Ok((drains, [writer(Stream::Stdout)?, writer(Stream::Stderr)?]))
    }

    /// Opens the pipes of a program that runs already.
    ///
    /// # Errors
    /// If they are not there.
    pub fn resume(spool: &Arc<Spool>) -> io::Result<Self> {
        let pipe = |stream| {
            let end = pipe::OpenOptions::new().open_receiver(spool.pipe_path(stream))?;
            let spool = Arc::clone(spool);
            Ok::<_, io::Error>(Pipe { spool, stream, end, file: None, open: true })
        };
        Ok(Self { pipes: [pipe(Stream::Stdout)?, pipe(Stream::Stderr)?] })
    }

    /// Drains until every writer is gone or `ended` is ready; then takes what still lies in the pipes.
    pub async fn until_closed_or<T>(&mut self, ended: impl Future<Output = T>) -> Option<T> {
        let [stdout, stderr] = &mut self.pipes;
        let both = async { tokio::join!(stdout.until_closed(), stderr.until_closed()) };
        let ended = tokio::select! {
            _ = both => None,
            ended = ended => Some(ended),
        };
        self.take_rest();
        ended
    }

    /// Takes what lies in the pipes now. What a process that goes on writing adds meanwhile may stay: nothing else runs here
    /// until this returns.
    pub fn take_rest(&mut self) {
        for pipe in &mut self.pipes {
            pipe.take(PIECES_IN_A_PIPE);
        }
    }
}

/// Whether nobody holds the writing end of a pipe and nothing lies in it; otherwise an error.
pub(super) fn is_let_go(path: &Path) -> io::Result<()> {
    let mut end = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    match end.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::ResourceBusy.into()),
    }
}

fn is_empty(pipe: &Receiver) -> bool {
    let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    // Only what can be read for certain counts; an error shows when the pipe is read.
    !poll(&mut waiting, PollTimeout::ZERO)
        .is_ok_and(|_| waiting[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN)))
}

impl Pipe {
    async fn until_closed(&mut self) {
        while self.open {
            for _ in 0..PIECES_AT_A_TIME {
                match self.move_some() {
                    Ok(Moved::Some) => {}
                    Ok(Moved::Closed) => self.open = false,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::warn!(%error, "a job's output cannot be read any more");
                        self.open = false;
                    }
                }
                if !self.open {
                    return;
                }
            }
            tokio::task::yield_now().await;
            // Dropping this future at an await loses nothing: bytes are moved between awaits only. Reading comes before
            // waiting because nobody is told about a pipe whose writers had gone when it was opened.
            if self.end.readable().await.is_err() {
                return;
            }
        }
    }

    /// Takes what lies in it, but not for as long as somebody writes.
    fn take(&mut self, most_pieces: usize) {
        for _ in 0..most_pieces {
            if !self.open || !matches!(self.move_some(), Ok(Moved::Some)) {
                return;
            }
        }
    }

    fn move_some(&mut self) -> io::Result<Moved> {
        let kept = self.spool.kept(self.stream);
        let room = usize::try_from(self.spool.limit.saturating_sub(kept)).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        if room == 0 {
            return self.drop_some();
        }
        let file = match self.file.take() {
            Some(file) => file,
            None if is_empty(&self.end) => return self.look_whether_closed(room),
            None => match self.spool.writer(self.stream) {
                Ok(file) => file,
                Err(error) => return self.drop_because(&error),
            },
        };
        let mut offset = i64::try_from(kept).unwrap_or(i64::MAX);
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let moved = splice(self.end.as_fd(), None, file.as_fd(), Some(&mut offset), room, flags);
        self.file = Some(file);
        match moved {
            Ok(0) => Ok(Moved::Closed),
            Ok(count) => {
                self.spool.count(self.stream, count as u64, count as u64);
                Ok(Moved::Some)
            }
            // Only a read of the runtime's own tells it that the pipe is empty. EINVAL: a file system without splice.
            Err(Errno::EAGAIN | Errno::EINVAL) => self.copy_some(room),
            Err(error) => self.drop_because(&error.into()),
        }
    }

    /// Asks the kernel and not the runtime, which is not told of writers that had gone when the pipe was opened.
    fn look_whether_closed(&mut self, room: usize) -> io::Result<Moved> {
        let mut first = [0];
        match nix::unistd::read(&self.end, &mut first) {
            Ok(0) => Ok(Moved::Closed),
            // It came just now.
            Ok(_) => self.keep(&first),
            Err(Errno::EAGAIN) => self.copy_some(room),
            Err(error) => Err(error.into()),
        }
    }

    fn copy_some(&mut self, room: usize) -> io::Result<Moved> {
        let mut buffer = [0; LEAST_PIECE_BYTES];
        let buffer = &mut buffer[..room.min(LEAST_PIECE_BYTES)];
        match self.end.try_read(buffer)? {
            0 => Ok(Moved::Closed),
            count => {
                let piece = &buffer[..count];
                self.keep(piece)
            }
        }
    }

    fn keep(&self, piece: &[u8]) -> io::Result<Moved> {
        if let Err(error) = self.spool.append(self.stream, piece) {
            tracing::warn!(%error, "a job's output cannot be kept");
        }
        Ok(Moved::Some)
    }

    /// The disk is full or broken: the program must not suffer, so its output is dropped and counted.
    fn drop_because(&mut self, error: &io::Error) -> io::Result<Moved> {
        tracing::warn!(%error, "a job's output cannot be kept");
        self.drop_some()
    }

    fn drop_some(&mut self) -> io::Result<Moved> {
        let mut buffer = [0; 16 * 1024];
        match self.end.try_read(&mut buffer)? {
            0 => Ok(Moved::Closed),
            count => {
                self.spool.count(self.stream, 0, count as u64);
                Ok(Moved::Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use windlass_types::name::JobId;

    use super::*;

    #[tokio::test]
    async fn of_a_pipe_that_is_filled_without_end_so_many_pieces_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing is kept, so a piece has 16 KiB.
        let spool = Spool::open(dir.path(), &JobId::new("7").unwrap(), 0).unwrap();
        let (mut drains, [mut stdout, _stderr]) = Drains::begin(&spool).unwrap();
        stdout.write_all(&[b'x'; 48 * 1024]).unwrap();
        drains.pipes[0].end.readable().await.unwrap();
        drains.pipes[0].take(2);
        assert_eq!(spool.total(Stream::Stdout), 32 * 1024);
        drains.take_rest();
        assert_eq!(spool.total(Stream::Stdout), 48 * 1024);
    }

    #[tokio::test]
    async fn the_rest_is_all_that_the_largest_pipe_holds() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), &JobId::new("7").unwrap(), 0).unwrap();
        let (mut drains, [mut stdout, _stderr]) = Drains::begin(&spool).unwrap();
        let size = nix::fcntl::fcntl(&stdout, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        stdout.write_all(&vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
        drains.pipes[0].end.readable().await.unwrap();
        drains.take_rest();
        assert_eq!(spool.total(Stream::Stdout), 1 << 20);
    }
}
