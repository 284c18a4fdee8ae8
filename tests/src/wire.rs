// SPDX-License-Identifier: Apache-2.0
//! Clients that choose everything themselves: certificate, trust, address, and what is kept of TLS sessions.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use windlass_proto::v1;
use windlass_proto::v1::admin_service_client::AdminServiceClient;
use windlass_proto::v1::join_service_client::JoinServiceClient;

use crate::controller::Controller;

/// The name in every controller's certificate.
pub const SERVER_NAME: &str = "controller.windlass.internal";

/// A certificate and its key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, and above it whoever signed it if that is sent along.
    pub chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone() }
    }
}

impl Identity {
    /// From a certificate that was signed for a key.
    #[must_use]
    pub fn new(certificate: impl Into<Vec<u8>>, key: &KeyPair) -> Self {
        Self { chain: vec![CertificateDer::from(certificate.into())], key: key.serialize_der() }
    }

    /// From a profile file, as `windlass operator create` writes it.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn from_profile(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a profile");
        let profile: toml::Table = text.parse().expect("TOML");
        let pem = |name: &str| profile[name].as_str().expect("PEM").as_bytes();
        let chain = CertificateDer::pem_slice_iter(pem("certificate_pem"));
        let key = PrivateKeyDer::from_pem_slice(pem("key_pem")).expect("a key");
        Self { chain: chain.collect::<Result<_, _>>().expect("certificates"), key: key.secret_der().to_vec() }
    }

    /// Signed by a CA that is not the controller's, with the names of the given certificate's holder or others.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn foreign(uri: &str) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = KeyPair::generate().expect("a key");
        let mut leaf = CertificateParams::default();
        leaf.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().expect("a URI"))];
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = leaf.signed_by(&key, &issuer).expect("signed");
        Self::new(certificate.der().to_vec(), &key)
    }
}

/// A request for a certificate that asks for nothing in particular, and its key.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn request() -> (Vec<u8>, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let request = CertificateParams::default().serialize_request(&key).expect("a request");
    (request.der().to_vec(), key)
}

/// The certificates of the controller's CAs.
///
/// # Panics
/// If the controller has none yet.
#[must_use]
pub fn authorities(controller: &Controller) -> Vec<CertificateDer<'static>> {
    let text = std::fs::read(controller.state_inside().join("pki/authority.json")).expect("an authority");
    let index: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let pem = ["current", "next", "previous"].iter().filter_map(|name| index[name]["certificate_pem"].as_str());
    pem.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")).collect()
}

/// TLS as our own clients configure it, with or without a certificate.
///
/// # Panics
/// If rustls refuses.
#[must_use]
pub fn tls_config(controller: &Controller, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    authorities(controller).into_iter().for_each(|root| roots.add(root).expect("a root"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(Identity { chain, key }) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
            builder.with_client_auth_cert(chain.clone(), key).expect("a certificate with its key")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// TLS for whoever plays a controller.
///
/// # Panics
/// If the key does not belong to the first certificate.
#[must_use]
pub fn server_config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .expect("a certificate with its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A TCP connection from a chosen address.
///
/// # Errors
/// If nobody answers.
pub async fn tcp(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// A TLS connection. With TLS 1.3 the controller's opinion of our certificate arrives later, as an error of the first read.
///
/// # Errors
/// If the handshake fails.
pub async fn tls(to: SocketAddr, from: Option<IpAddr>, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(SERVER_NAME).expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp(to, from).await?).await
}

/// gRPC over an open stream.
///
/// # Errors
/// If the other side does not speak HTTP/2.
pub async fn grpc(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset)))
    });
    Endpoint::from_static("http://controller.windlass.internal").connect_with_connector(connector).await
}

/// gRPC with the agents' and operators' listener.
///
/// # Errors
/// If the connection does not come about.
pub async fn remote(controller: &Controller, identity: &Identity, from: Option<IpAddr>) -> io::Result<Channel> {
    let stream = tls(controller.listeners().agents, from, tls_config(controller, Some(identity))).await?;
    grpc(stream).await.map_err(io::Error::other)
}

/// gRPC with the join listener.
///
/// # Errors
/// If the connection does not come about.
pub async fn stranger(controller: &Controller, from: Option<IpAddr>) -> io::Result<Channel> {
    let stream = tls(controller.listeners().join, from, tls_config(controller, None)).await?;
    grpc(stream).await.map_err(io::Error::other)
}

/// gRPC over the socket, as whoever runs the tests.
///
/// # Errors
/// If the connection does not come about.
pub async fn local(controller: &Controller) -> io::Result<Channel> {
    grpc(UnixStream::connect(controller.socket()).await?).await.map_err(io::Error::other)
}

/// Joins by hand.
///
/// # Errors
/// What the controller answers.
pub async fn join(
    controller: &Controller,
    from: Option<IpAddr>,
    token: &str,
    csr_der: &[u8],
) -> Result<v1::JoinResponse, Status> {
    let channel = stranger(controller, from).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = v1::JoinRequest {
        token: token.to_owned(),
        csr_der: csr_der.to_vec().into(),
        agent_version: "test".to_owned(),
        ..v1::JoinRequest::default()
    };
    Ok(JoinServiceClient::new(channel).join(request).await?.into_inner())
}

/// Joins by hand and returns what the node is from then on.
///
/// # Panics
/// If the controller refuses.
pub async fn joined(controller: &Controller, node: &str) -> Identity {
    let token = crate::agent::Token::create(controller, node, "30m").await;
    let (csr, key) = request();
    let answer = join(controller, None, &token.token, &csr).await.expect("joined");
    Identity::new(answer.issued.expect("a certificate").certificate_der.to_vec(), &key)
}

/// Has an operator made.
///
/// # Panics
/// If the controller refuses.
pub async fn operator(controller: &Controller, name: &str, role: &str, ttl_seconds: u64) -> Identity {
    let (csr, key) = request();
    let request =
        v1::CreateOperatorRequest { name: name.to_owned(), role: role.to_owned(), csr_der: csr.into(), ttl_seconds };
    let channel = local(controller).await.expect("the socket answers");
    let answer = AdminServiceClient::new(channel).create_operator(request).await.expect("made").into_inner();
    Identity::new(answer.certificate_der.to_vec(), &key)
}

/// Sends one message to a method, whatever its kind, and returns the first answer.
///
/// # Errors
/// The status the call ended with.
pub async fn call(channel: Channel, path: &str, message: Bytes) -> Result<Option<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = path.parse().map_err(|_| Status::internal("not a path"))?;
    let messages = tokio_stream::once(message);
    let mut answers = client.streaming(Request::new(messages), path, Raw).await?.into_inner();
    answers.message().await
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
