// SPDX-License-Identifier: Apache-2.0
//! A gRPC server in the test's own process, behind real TLS, without a network.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use crate::dial::{Dial, Io};

/// A TLS stream as tonic's server takes it.
pub(crate) struct Peer(TlsStream<DuplexStream>);

impl tonic::transport::server::Connected for Peer {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Dials a server in this process.
#[derive(Clone)]
pub(crate) struct InProcess {
    streams: mpsc::Sender<io::Result<Peer>>,
    tls: Arc<rustls::ServerConfig>,
    handshakes: Arc<AtomicUsize>,
}

impl InProcess {
    /// Serves until every clone is dropped.
    pub(crate) fn serve(routes: Routes, tls: Arc<rustls::ServerConfig>) -> Self {
        let (streams, incoming) = mpsc::channel(64);
        let server = tonic::transport::Server::builder().add_routes(routes);
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
        Self { streams, tls, handshakes: Arc::default() }
    }

    /// How many handshakes were completed.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Dial for InProcess {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let server = self.clone();
        tokio::spawn(async move {
            let accepted = tokio_rustls::TlsAcceptor::from(Arc::clone(&server.tls)).accept(theirs).await;
            if let Ok(stream) = accepted {
                server.handshakes.fetch_add(1, Ordering::SeqCst);
                // Fails only when the test has ended.
                let _ = server.streams.send(Ok(Peer(stream))).await;
            }
        });
        Ok(Box::new(ours))
    }
}
