// SPDX-License-Identifier: Apache-2.0
//! How connections to a cloud are secured: with the authorities that the host trusts, or with one file instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with authorities cannot be used.
    #[error("use the certificate authorities in {path}: {reason}")]
    Authorities {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library does not want to.
    #[error("prepare TLS")]
    Library(#[source] rustls::Error),
    /// The client for HTTP cannot be made.
    #[error("prepare HTTP")]
    Client(#[source] reqwest::Error),
}

impl TlsError {
    /// What a person does about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Authorities { .. } => "let `cacert` in clouds.yaml name a file of certificates in PEM",
            Self::Library(_) | Self::Client(_) => "report it",
        }
    }
}

/// The configuration for a cloud. TLS 1.2 is taken too: the proxies before many clouds know nothing newer.
pub(super) fn config(cacert: Option<&Path>, verify: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Library)?;
    if !verify {
        let anyone = Arc::new(Anyone(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth());
    }
    let roots = match cacert {
        Some(path) => from_file(path)?,
        None => of_host(),
    };
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn from_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |reason: String| TlsError::Authorities { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

/// A host's bundle may hold certificates that are not understood; those are passed over, as everybody does. A host that
/// trusts nobody can still use a cloud without TLS.
fn of_host() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, passed_over) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(trusted, passed_over, "the host's certificate authorities");
    roots
}

/// Takes any certificate, for those who said that they want it so.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
