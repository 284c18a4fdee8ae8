// SPDX-License-Identifier: Apache-2.0
//! One connection to a controller: over its local socket, or over mTLS with an operator's profile.

mod calls;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

pub use self::calls::Calls;
use crate::profile::{Profile, ProfileError};

/// The name in every controller's certificate, whatever host is dialled.
const SERVER_NAME: &str = "controller.windlass.internal";

/// A bastion that has not answered by then is down or behind a firewall that drops.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The controller answers these at once while it lives; a silent peer ends a watch within about half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Where the controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// On this machine.
    Socket(PathBuf),
    /// Elsewhere.
    Remote {
        /// Who one is there.
        profile: Box<Profile>,
        /// The file of the profile.
        path: PathBuf,
    },
}

/// A connection.
#[derive(Debug)]
pub struct Connected {
    /// To send requests over.
    pub channel: Calls,
    /// The certificates a remote controller showed, its own first, then every CA it trusts. They are the controller's
    /// word, because the handshake covers them and the first was verified; empty for a local one.
    pub shown: Vec<CertificateDer<'static>>,
}

/// A controller that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket.
    #[error("connect to {}", .path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The network.
    #[error("connect to {controller}")]
    Dial {
        /// `HOST:PORT`.
        controller: String,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake.
    #[error("agree on TLS with {controller}")]
    Handshake {
        /// `HOST:PORT`.
        controller: String,
        /// The library's words.
        #[source]
        source: io::Error,
    },
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// HTTP/2.
    #[error("speak gRPC with the controller")]
    Http(#[source] tonic::transport::Error),
}

/// Connects.
///
/// # Errors
/// If the controller cannot be reached or one side does not trust the other.
pub async fn connect(target: &Target) -> Result<Connected, ConnectError> {
    let (channel, shown) = dial(target).await?;
    Ok(Connected { channel: Calls::new(channel, target.clone()), shown })
}

async fn dial(target: &Target) -> Result<(Channel, Vec<CertificateDer<'static>>), ConnectError> {
    match target {
        Target::Socket(path) => Ok((over(unix(path).await?).await?, Vec::new())),
        Target::Remote { profile, .. } => {
            let stream = mtls(profile).await?;
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            Ok((over(stream).await?, shown))
        }
    }
}

async fn unix(path: &Path) -> Result<UnixStream, ConnectError> {
    UnixStream::connect(path).await.map_err(|source| ConnectError::Socket { path: path.to_owned(), source })
}

async fn mtls(profile: &Profile) -> Result<TlsStream<TcpStream>, ConnectError> {
    let config = tls_config(profile)?;
    let dial = |source| ConnectError::Dial { controller: profile.controller.clone(), source };
    let tcp = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&profile.controller))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 seconds")))
        .map_err(dial)?;
    // Small requests must not wait for the acknowledgement of the one before.
    tcp.set_nodelay(true).map_err(dial)?;
    let handshake = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(server_name(), tcp);
    tokio::time::timeout(DIAL_TIMEOUT, handshake)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 seconds")))
        .map_err(|source| ConnectError::Handshake { controller: profile.controller.clone(), source })
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("a constant DNS name")
}

fn tls_config(profile: &Profile) -> Result<rustls::ClientConfig, ProfileError> {
    let pem = |field, fault: String| ProfileError::Pem { field, fault };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates("ca_pem", &profile.ca_pem)? {
        roots.add(certificate).map_err(|fault| pem("ca_pem", fault.to_string()))?;
    }
    let chain = certificates("certificate_pem", &profile.certificate_pem)?;
    let key =
        PrivateKeyDer::from_pem_slice(profile.key_pem.as_bytes()).map_err(|fault| pem("key_pem", fault.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|fault| pem("controller", fault.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|fault| pem("certificate_pem or key_pem", fault.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn certificates(field: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|fault| ProfileError::Pem { field, fault: fault.to_string() })?;
    if found.is_empty() {
        return Err(ProfileError::Pem { field, fault: "there is no certificate in it".to_owned() });
    }
    Ok(found)
}

/// HTTP/2 over a stream that is open already. It is used once: whoever wants to go on after a loss connects again.
async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Channel, ConnectError> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let taken = stream.take().ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionReset, "the connection ended"));
        std::future::ready(taken)
    });
    Endpoint::from_static("http://controller.windlass.internal")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE / 2)
        .connect_with_connector(connector)
        .await
        .map_err(ConnectError::Http)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(ca_pem: &str) -> Profile {
        Profile {
            controller: "localhost:1".into(),
            ca_pem: ca_pem.into(),
            certificate_pem: String::new(),
            key_pem: String::new(),
        }
    }

    #[tokio::test]
    async fn names_the_socket_that_is_not_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("windlass.sock");
        let error = connect(&Target::Socket(path.clone())).await.expect_err("no socket");
        assert!(matches!(&error, ConnectError::Socket { path: named, source }
            if *named == path && source.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn names_the_field_of_a_profile_that_has_no_certificate() {
        for text in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = tls_config(&profile(text)).expect_err("no certificate").to_string();
            assert!(error.starts_with("ca_pem in the profile is not usable"), "{error}");
        }
    }
}
