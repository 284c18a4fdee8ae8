// SPDX-License-Identifier: Apache-2.0
//! Accepting connections: our own loop, because tonic's has no handshake timeout, no limits, and spins when descriptors
//! run out.
//!
//! What a stranger may cost is bounded before they are known: so many handshakes at once, so long for one, so many
//! connections from one address that carry no trusted certificate. TLS is 1.3 only and never resumed, because rustls
//! skips the verifier on resumption and would let a revoked client back in. Every connection knows its [`Peer`], and is
//! closed from here when its certificate is revoked.

mod connection;
pub(crate) mod per_address;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;

pub use connection::{Connection, Io, Origin, Peer};

use crate::config::Limits;
use crate::pki::serial_of;
use crate::trust::Trust;
use connection::Turn;
use per_address::PerAddress;
use tls::ServerConfigs;

/// Established connections wait here for the server to take them; more than one burst's worth only hides a stall.
const READY_CONNECTIONS: usize = 64;

/// How long to wait when no descriptor is left; the loop must not spin until somebody hangs up.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Established connections, for the server.
pub type Incoming = tokio_stream::wrappers::ReceiverStream<std::io::Result<Connection>>;

/// Whether callers must present a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Agents and remote operators.
    Certificate,
    /// Machines that join: they have none yet.
    None,
}

/// Everything a connection is checked with.
#[derive(Debug)]
pub struct Gatekeeper {
    trust: Arc<Trust>,
    configs: ServerConfigs,
    limits: Limits,
    connections: Arc<Semaphore>,
    connection_ended: Arc<Notify>,
    handshakes: Arc<Semaphore>,
    strangers: PerAddress,
}

impl Gatekeeper {
    /// Bounds all TLS listeners of this controller together.
    #[must_use]
    pub fn new(trust: Arc<Trust>, configs: ServerConfigs, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            trust,
            configs,
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            connection_ended: Arc::default(),
            handshakes: Arc::new(Semaphore::new(limits.unfinished_handshakes)),
            strangers: PerAddress::new(limits.per_address_unauthenticated),
            limits,
        })
    }

    /// Told whenever a connection has ended.
    #[must_use]
    pub fn connection_ended(&self) -> Arc<Notify> {
        Arc::clone(&self.connection_ended)
    }

    /// Accepts TLS connections until `stop`.
    pub fn accept_tls(
        self: &Arc<Self>,
        listener: TcpListener,
        authentication: Authentication,
        stop: CancellationToken,
    ) -> Incoming {
        let (ready, incoming) = mpsc::channel(READY_CONNECTIONS);
        let gatekeeper = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                // Who calls after that is left in the kernel's queue, for the next controller.
                biased;
                () = stop.cancelled() => {}
                () = gatekeeper.accept_loop(&listener, authentication, &ready) => {}
            }
        });
        Incoming::new(incoming)
    }

    async fn accept_loop(
        self: &Arc<Self>,
        listener: &TcpListener,
        authentication: Authentication,
        ready: &mpsc::Sender<std::io::Result<Connection>>,
    ) {
        loop {
            // The permit comes first: without room the kernel's queue holds callers, not our memory.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else { return };
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(DESCRIPTOR_PAUSE).await;
                    continue;
                }
            };
            // Interactive traffic of small frames: waiting for more to send only adds delay. Failing costs only that.
            let _slower = stream.set_nodelay(true);
            // A socket of systemd takes both families. People and limits know callers by the address they have.
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let turn = Turn::new(permit, self.connection_ended());
            let gatekeeper = Arc::clone(self);
            let ready = ready.clone();
            tokio::spawn(async move {
                if let Some(mut connection) = gatekeeper.admit(stream, address, authentication).await {
                    connection.hold(turn);
                    // The server takes connections until it ends; then this one ends too.
                    let _closed = ready.send(Ok(connection)).await;
                }
            });
        }
    }

    /// Does the handshake on a stream from `address`, within the limits; `None` if it is not let in. The stream may be
    /// anything, so that a simulated network ends in the same TLS.
    pub async fn admit(
        &self,
        stream: impl Io,
        address: SocketAddr,
        authentication: Authentication,
    ) -> Option<Connection> {
        let Some(place) = self.strangers.enter(address.ip()) else {
            crate::metrics::handshake_failed("too_many_from_address");
            return None;
        };
        let work = async {
            // A turn is only taken by whoever has said hello: the silent wait for their own time-out, not for others'.
            let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            let _turn = self.handshakes.acquire().await;
            hello.into_stream(self.configs.get(authentication)).await
        };
        let tls = match tokio::time::timeout(self.limits.handshake, work).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                crate::metrics::handshake_failed("tls");
                tracing::debug!(%address, %error, "a TLS handshake failed");
                return None;
            }
            Err(_) => {
                crate::metrics::handshake_failed("timeout");
                return None;
            }
        };
        let serial = match authentication {
            Authentication::None => None,
            Authentication::Certificate => {
                let chain = tls.get_ref().1.peer_certificates()?;
                Some(serial_of(chain.first()?)?)
            }
        };
        let origin = match serial {
            Some(serial) => Origin::Certificate { serial, address },
            None => Origin::Stranger { address },
        };
        let trusted = serial.is_some_and(|serial| self.trust.identify(serial).is_ok());
        let mut connection = Connection::new(Box::new(tls), origin, self.trust.connections().register(serial));
        if !trusted {
            connection.occupy(place);
        }
        Some(connection)
    }
}

/// Accepts local connections until `stop`; the kernel says who each caller is.
pub fn accept_local(listener: UnixListener, trust: Arc<Trust>, stop: CancellationToken) -> Incoming {
    let (ready, incoming) = mpsc::channel(READY_CONNECTIONS);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, _)| stream.peer_cred().map(|peer| (stream, peer))) {
                Ok((stream, peer)) => {
                    let origin = Origin::Local { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
                    let connection = Connection::new(Box::new(stream), origin, trust.connections().register(None));
                    if ready.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the socket");
                    tokio::time::sleep(DESCRIPTOR_PAUSE).await;
                }
            }
        }
    });
    Incoming::new(incoming)
}
