// SPDX-License-Identifier: Apache-2.0
//! How the agent reaches its controller: a byte stream, TLS 1.3 over it, HTTP/2 over that.
//!
//! - [`Dial`] makes the byte stream; tests and simulations bring their own network.
//! - [`verify`] decides whom to believe: the CA of the identity, or on first contact the pinned one.
//! - [`connect`] does the handshake before any request exists, so that nothing is ever sent to a controller that was
//!   not verified, and so that a refused handshake is told as what it is.

pub mod verify;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tonic::transport::{Channel, Endpoint, Uri};
use windlass_types::error_chain::ErrorChain;
use windlass_types::time::UnixMillis;

/// The DNS name in every controller's certificate. Agents verify this name whatever host they dial.
pub const CONTROLLER_NAME: &str = "controller.windlass.internal";

/// Long enough for a slow bastion in a reconnect storm, short enough that a dead address does not hold up a retry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// With [`KEEPALIVE_TIMEOUT`]: a silent path is noticed within half a minute, and NAT entries stay alive.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// rustls reads 4 KiB at a time; a file that comes in costs a sixteenth of the system calls this way. Untouched pages of
/// the buffer take no memory.
const READ_BYTES: usize = 64 * 1024;

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Makes byte streams to one place.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Makes one.
    ///
    /// # Errors
    /// If the place cannot be reached.
    async fn dial(&self) -> io::Result<Box<dyn Io>>;
}

/// Dials TCP.
#[derive(Debug, Clone)]
pub struct TcpDial {
    endpoint: String,
}

impl TcpDial {
    /// Dials `HOST:PORT`.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into() }
    }
}

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        let stream = tokio::net::TcpStream::connect(&self.endpoint).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(BufReader::with_capacity(READ_BYTES, stream)))
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("the controller cannot be reached")]
    Unreachable(#[source] io::Error),
    /// It takes too long.
    #[error("the controller did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
    /// The two clocks do not agree about a certificate.
    #[error(
        "the clocks do not agree: this node's clock says {here}, the controller's certificate is valid {side} {limit}; \
         set the clock of this node or of the controller"
    )]
    Clock {
        /// This node's time.
        here: Moment,
        /// "only after" or "only until".
        side: &'static str,
        /// The certificate's limit.
        limit: Moment,
    },
    /// The controller is not the pinned one.
    #[error(
        "this is not the controller that was meant: compare the pins with `windlass token create` on the controller, \
         and the address"
    )]
    WrongPin(#[source] verify::PinNotFound),
    /// The controller is not the one it should be.
    #[error("the controller could not be verified")]
    NotVerified(#[source] io::Error),
    /// The controller does not want this node.
    #[error("the controller refused this node's certificate")]
    Refused(#[source] io::Error),
    /// It wants a certificate of somebody who has none.
    #[error(
        "this port asks for a certificate, so it is the one for agents that have joined: joining has a port of its own, \
         7601 unless it was changed; `windlass token create` prints it"
    )]
    AsksForCertificate,
    /// It is something else.
    #[error(
        "something else than the controller's join port answers there, because it does not speak TLS: the join port is \
         7601 unless it was changed; `windlass token create` prints it"
    )]
    NotTls(#[source] io::Error),
    /// The handshake failed in another way.
    #[error("the TLS handshake with the controller failed")]
    Handshake(#[source] io::Error),
    /// HTTP/2 could not be started.
    #[error("start HTTP/2 with the controller")]
    Http(#[source] tonic::transport::Error),
}

/// A moment, shown in UTC as in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub UnixMillis);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match x509_parser::time::ASN1Time::from_timestamp(self.0.0.div_euclid(1000)) {
            Ok(time) => {
                let time = time.to_datetime();
                let (date, clock) = (time.date(), time.time());
                write!(f, "{date}T{:02}:{:02}:{:02}Z", clock.hour(), clock.minute(), clock.second())
            }
            Err(_) => write!(f, "{} ms after the Unix epoch", self.0.0),
        }
    }
}

impl ConnectError {
    fn from_handshake(error: io::Error) -> Self {
        use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
        let moment = |seconds: u64| Moment(UnixMillis(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)));
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Tls>());
        match inner {
            Some(Tls::InvalidCertificate(Bad::NotValidYetContext { time, not_before })) => {
                Self::Clock { here: moment(time.as_secs()), side: "only after", limit: moment(not_before.as_secs()) }
            }
            Some(Tls::InvalidCertificate(Bad::ExpiredContext { time, not_after })) => {
                Self::Clock { here: moment(time.as_secs()), side: "only until", limit: moment(not_after.as_secs()) }
            }
            Some(Tls::InvalidCertificate(Bad::Other(other))) => match other.0.downcast_ref::<verify::PinNotFound>() {
                Some(pins) => Self::WrongPin(pins.clone()),
                None => Self::NotVerified(error),
            },
            Some(Tls::InvalidCertificate(_)) => Self::NotVerified(error),
            Some(Tls::AlertReceived(
                Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::BadCertificate
                | Alert::UnknownCA
                | Alert::AccessDenied,
            )) => Self::Refused(error),
            Some(Tls::InvalidMessage(_)) => Self::NotTls(error),
            Some(_) => Self::Handshake(error),
            None => Self::Unreachable(error),
        }
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        ErrorChain(self).to_string()
    }
}

/// Connects without a certificate, for joining; refuses a port where one is asked for before anything is sent there.
///
/// # Errors
/// As [`connect`].
pub async fn connect_as_stranger(dial: &dyn Dial, tls: verify::StrangerTls) -> Result<Channel, ConnectError> {
    let work = connect_unbounded(dial, tls.config, || tls.was_asked.load(Ordering::Acquire));
    tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(|_| ConnectError::TimedOut)?
}

/// Connects: stream, TLS, HTTP/2. The channel does not reconnect by itself: its user decides when.
///
/// # Errors
/// If any of the three fails; the kind tells which side must do what.
pub async fn connect(dial: &dyn Dial, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    tokio::time::timeout(CONNECT_TIMEOUT, connect_unbounded(dial, tls, || false))
        .await
        .map_err(|_| ConnectError::TimedOut)?
}

async fn connect_unbounded(
    dial: &dyn Dial,
    tls: Arc<ClientConfig>,
    lacks_certificate: impl FnOnce() -> bool,
) -> Result<Channel, ConnectError> {
    let stream = dial.dial().await.map_err(ConnectError::Unreachable)?;
    let name = ServerName::try_from(CONTROLLER_NAME)
        .map_err(|error| ConnectError::Handshake(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream =
        tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.map_err(ConnectError::from_handshake)?;
    if lacks_certificate() {
        return Err(ConnectError::AsksForCertificate);
    }
    let once = Arc::new(Mutex::new(Some(TokioIo::new(stream))));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static("https://controller.windlass.internal")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Http)
}
