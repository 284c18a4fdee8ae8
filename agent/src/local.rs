// SPDX-License-Identifier: Apache-2.0
//! The socket between the two halves of the agent: messages of `executor.proto`, each after its length.
//!
//! Between two processes it is a unix socket whose file says who may connect. Where both halves are in one process, as in
//! tests, simulations and on machines without systemd, it is a pipe in memory. Nothing else tells the two apart.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt as _;
use prost::Message;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::dial::{Dial, Io};

/// The longest message: an order is at most one gRPC message of 4 MiB, and so is what is seen of a node.
const LONGEST_BYTES: usize = 5 * 1024 * 1024;

/// What a pipe in memory holds before its writer waits: as much as a socket.
const PIPE_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted in memory.
const WAITING: usize = 16;

/// Sends messages.
pub struct Sender(FramedWrite<WriteHalf<Box<dyn Io>>, LengthDelimitedCodec>);

impl Sender {
    /// Sends one. Not to be dropped half way unless the connection is.
    ///
    /// # Errors
    /// If the other half is gone, or the message is too long.
    pub async fn send(&mut self, message: &impl Message) -> io::Result<()> {
        self.0.send(Bytes::from(message.encode_to_vec())).await
    }

    /// Tells the other half that nothing more comes.
    ///
    /// # Errors
    /// If the other half is gone.
    pub async fn finish(&mut self) -> io::Result<()> {
        futures_util::SinkExt::<Bytes>::close(&mut self.0).await
    }
}

/// Receives messages.
pub struct Receiver(FramedRead<ReadHalf<Box<dyn Io>>, LengthDelimitedCodec>);

impl Receiver {
    /// The next message, or nothing at the end. May be dropped while it waits.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no such message.
    pub async fn next<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        match self.0.next().await {
            None => Ok(None),
            Some(frame) => M::decode(frame?.freeze()).map(Some).map_err(io::Error::other),
        }
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sender").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Receiver").finish_non_exhaustive()
    }
}

/// Both directions of a connection.
#[must_use]
pub fn messages(stream: Box<dyn Io>) -> (Sender, Receiver) {
    let codec = || LengthDelimitedCodec::builder().max_frame_length(LONGEST_BYTES).new_codec();
    let (reader, writer) = tokio::io::split(stream);
    (Sender(FramedWrite::new(writer, codec())), Receiver(FramedRead::new(reader, codec())))
}

/// Takes connections of the front.
#[async_trait]
pub trait Listen: Send {
    /// Waits for the next one. May be dropped while it waits.
    ///
    /// # Errors
    /// If none can be taken any more.
    async fn accept(&mut self) -> io::Result<Box<dyn Io>>;
}

#[async_trait]
impl Listen for UnixListener {
    async fn accept(&mut self) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(Self::accept(self).await?.0))
    }
}

/// Dials a unix socket.
#[derive(Debug, Clone)]
pub struct UnixDial(pub PathBuf);

#[async_trait]
impl Dial for UnixDial {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(UnixStream::connect(&self.0).await?))
    }
}

/// Dials the executor in the same process.
#[derive(Clone)]
pub struct PipeDial(mpsc::Sender<Box<dyn Io>>);

/// Takes connections of the front in the same process.
pub struct PipeListener(mpsc::Receiver<Box<dyn Io>>);

impl std::fmt::Debug for PipeDial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PipeDial").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PipeListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PipeListener").finish_non_exhaustive()
    }
}

/// Both ends, in memory.
#[must_use]
pub fn pipe() -> (PipeDial, PipeListener) {
    let (dial, listener) = mpsc::channel(WAITING);
    (PipeDial(dial), PipeListener(listener))
}

#[async_trait]
impl Dial for PipeDial {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        self.0.send(Box::new(theirs)).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(ours))
    }
}

#[async_trait]
impl Listen for PipeListener {
    async fn accept(&mut self) -> io::Result<Box<dyn Io>> {
        self.0.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::v1;

    use super::*;

    #[tokio::test]
    async fn what_is_sent_arrives_and_the_end_is_told() {
        let (dial, mut listener) = pipe();
        let (ours, theirs) = tokio::join!(dial.dial(), listener.accept());
        let ((mut sender, _), (_, mut receiver)) = (messages(ours.unwrap()), messages(theirs.unwrap()));
        let ack = v1::ReportAck { job: "1".repeat(300_000) };
        let (sent, heard) = tokio::join!(sender.send(&ack), receiver.next());
        sent.unwrap();
        assert_eq!(heard.unwrap(), Some(ack));
        sender.finish().await.unwrap();
        assert_eq!(receiver.next::<v1::ReportAck>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_message_is_refused_and_nothing_is_held_for_it() {
        use tokio::io::AsyncWriteExt as _;
        for bytes in [&[0xff; 8][..], &[0, 0, 0, 2, 0xff, 0xff]] {
            let (mut raw, theirs) = tokio::io::duplex(1024);
            let (_, mut receiver) = messages(Box::new(theirs));
            raw.write_all(bytes).await.unwrap();
            assert!(receiver.next::<v1::FrontMessage>().await.is_err(), "{bytes:?}");
        }
    }
}
