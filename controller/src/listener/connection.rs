// SPDX-License-Identifier: Apache-2.0
//! One connection: its stream, who is on the other side, and the wish to close it.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::per_address::Place;
use crate::pki::Serial;
use crate::trust::ConnectionGuard;

/// What carries a connection: TLS over TCP, a unix socket, or a simulated network.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Where a connection comes from, as the kernel or TLS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No certificate was asked for.
    Stranger {
        /// From here.
        address: SocketAddr,
    },
    /// With a certificate of our CA, which may be revoked.
    Certificate {
        /// Its serial number.
        serial: Serial,
        /// From here.
        address: SocketAddr,
    },
    /// On the socket.
    Local {
        /// Numeric user.
        uid: u32,
        /// Numeric group.
        gid: u32,
        /// Process, if the kernel tells.
        pid: Option<i32>,
    },
}

/// The other side of a connection; part of every request that arrives on it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where it comes from.
    pub origin: Origin,
}

/// An established connection.
pub struct Connection {
    io: Box<dyn Io>,
    origin: Origin,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _guard: ConnectionGuard,
    place: Option<Place>,
    turn: Option<Turn>,
}

/// One of the connections that may be open at once.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    ended: Arc<Notify>,
}

impl Turn {
    /// Gives the permit back when it is dropped, and tells `ended`.
    pub(super) const fn new(permit: OwnedSemaphorePermit, ended: Arc<Notify>) -> Self {
        Self { _permit: permit, ended }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

impl Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl Connection {
    /// Wraps an established stream.
    #[must_use]
    pub fn new(io: Box<dyn Io>, origin: Origin, guard: ConnectionGuard) -> Self {
        let closed = Box::pin(guard.closed().clone().cancelled_owned());
        Self { io, origin, closed, _guard: guard, place: None, turn: None }
    }

    /// Counts against its address until it ends.
    pub(super) fn occupy(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Counts against all connections until it ends.
    pub(super) fn hold(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Both directions end at once when the connection shall close, whatever HTTP/2 still wants to say.
    fn check_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.closed.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the controller")),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_open(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_open(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_open(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { origin: self.origin.clone() }
    }
}
