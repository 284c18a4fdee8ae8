// SPDX-License-Identifier: Apache-2.0
//! Whom the agent believes.
//!
//! After joining, the controller's certificate must be signed by a CA of the identity. On first contact the agent knows
//! only the digest of a CA's public key: it looks for a certificate with that key in the chain the controller sends and
//! then verifies as if that CA had always been known. Either way the name must be the controller's, and the handshake
//! fails before a single byte of ours is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
};
use windlass_types::pin::SpkiPin;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::host::clock::Clock;
use crate::identity::Identity;

/// The TLS configuration could not be made from the identity.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// rustls says no.
    #[error("set up TLS")]
    Tls(#[from] TlsError),
    /// The CA certificates cannot be used.
    #[error("use the CA certificates of the identity")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    /// The key cannot be used.
    #[error("use the key of the identity")]
    Key(#[from] crate::identity::IdentityError),
}

/// The clock of the agent as rustls asks for it.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().0.div_euclid(1000)).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>;

fn builder(clock: &Arc<dyn Clock>) -> Result<Builder, TlsError> {
    ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(Arc::clone(clock))))
        .with_protocol_versions(&[&rustls::version::TLS13])
}

/// No resumption: every session proves who both ends are.
fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

fn roots(ca: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    ca.iter().try_for_each(|der| roots.add(der.clone()))?;
    Ok(roots)
}

/// For sessions: the CA of the identity, and its certificate for ourselves.
///
/// # Errors
/// If the identity cannot be used.
pub fn session_config(identity: &Identity, clock: &Arc<dyn Clock>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key()?.serialize_der()));
    let config = builder(clock)?
        .with_root_certificates(roots(&identity.ca)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], key)?;
    Ok(finish(config))
}

/// For a late renewal: the CA of the identity, without showing a certificate that has expired.
///
/// # Errors
/// If the identity cannot be used.
pub fn renewal_config(identity: &Identity, clock: &Arc<dyn Clock>) -> Result<StrangerTls, TlsSetupError> {
    Ok(StrangerTls::new(builder(clock)?.with_root_certificates(roots(&identity.ca)?)))
}

/// For the first contact: a CA with one of these pins.
///
/// # Errors
/// If rustls cannot be set up.
pub fn join_config(pins: &[SpkiPin], clock: &Arc<dyn Clock>) -> Result<StrangerTls, TlsSetupError> {
    let verifier = Arc::new(PinVerifier { pins: pins.to_vec(), provider: provider() });
    Ok(StrangerTls::new(builder(clock)?.dangerous().with_custom_certificate_verifier(verifier)))
}

/// TLS without a certificate of our own.
#[derive(Debug)]
pub struct StrangerTls {
    pub(super) config: Arc<ClientConfig>,
    /// The other side asked for one.
    pub(super) was_asked: Arc<AtomicBool>,
}

impl StrangerTls {
    fn new(builder: rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>) -> Self {
        let was_asked = Arc::new(AtomicBool::new(false));
        let config = builder.with_client_cert_resolver(Arc::new(NoCertificate(Arc::clone(&was_asked))));
        Self { config: finish(config), was_asked }
    }
}

/// Has no certificate, and remembers that one was asked for: the refusal that follows may get lost on the way.
#[derive(Debug)]
struct NoCertificate(Arc<AtomicBool>);

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Release);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// No certificate in the controller's chain has a pinned key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the controller showed {shown} certificates ({pins}), none of which has the pinned key")]
pub struct PinNotFound {
    shown: usize,
    pins: String,
}

/// The pin of a certificate, unless it cannot be read.
#[must_use]
pub fn pin_of(certificate: &CertificateDer<'_>) -> Option<SpkiPin> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let digest = aws_lc_rs_digest(parsed.public_key().raw);
    Some(SpkiPin::new(digest))
}

fn aws_lc_rs_digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

#[derive(Debug)]
struct PinVerifier {
    pins: Vec<SpkiPin>,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    /// Verifies against the pinned CA, which must be in the chain.
    fn pinned(&self, leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<RootCertStore, TlsError> {
        let all = || std::iter::once(leaf).chain(chain);
        let mut roots = RootCertStore::empty();
        for certificate in all().filter(|der| pin_of(der).is_some_and(|pin| self.pins.contains(&pin))) {
            roots.add(certificate.clone().into_owned())?;
        }
        if roots.is_empty() {
            let pins: Vec<_> = all().filter_map(pin_of).map(|pin| pin.to_string()).collect();
            let error = PinNotFound { shown: chain.len() + 1, pins: pins.join(", ") };
            return Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error)))));
        }
        Ok(roots)
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let roots = Arc::new(self.pinned(end_entity, intermediates)?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::{TestCa, days_from_now};

    fn verify(ca: &TestCa, pins: &[SpkiPin], name: &str, now_days: i64) -> Result<ServerCertVerified, TlsError> {
        let leaf = ca.issue_server(name);
        let verifier = PinVerifier { pins: pins.to_vec(), provider: provider() };
        let name = ServerName::try_from(crate::dial::CONTROLLER_NAME).expect("a name");
        let seconds = u64::try_from(days_from_now(now_days)).expect("after 1970");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        verifier.verify_server_cert(&leaf, &[ca.der()], &name, &[], now)
    }

    #[test]
    fn believes_a_controller_whose_ca_is_pinned() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        assert!(verify(&ca, &[ca.pin()], crate::dial::CONTROLLER_NAME, 0).is_ok());
        assert!(verify(&ca, &[other.pin(), ca.pin()], crate::dial::CONTROLLER_NAME, 0).is_ok());
    }

    #[test]
    fn refuses_another_ca_and_says_which_pins_it_saw() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let error = verify(&ca, &[other.pin()], crate::dial::CONTROLLER_NAME, 0).expect_err("another CA");
        assert!(error.to_string().contains(&ca.pin().to_string()), "{error}");
    }

    #[test]
    fn refuses_a_chain_that_only_carries_the_pinned_ca_along() {
        let (ca, other) = (TestCa::new(), TestCa::new());
        let verifier = PinVerifier { pins: vec![ca.pin()], provider: provider() };
        let name = ServerName::try_from(crate::dial::CONTROLLER_NAME).expect("a name");
        let forged = other.issue_server(crate::dial::CONTROLLER_NAME);
        let seconds = u64::try_from(days_from_now(0)).expect("after 1970");
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verified = verifier.verify_server_cert(&forged, &[other.der(), ca.der()], &name, &[], now);
        assert!(matches!(verified, Err(TlsError::InvalidCertificate(_))), "{verified:?}");
    }

    #[test]
    fn refuses_another_name() {
        let ca = TestCa::new();
        let error = verify(&ca, &[ca.pin()], "evil.example", 0).expect_err("another name");
        assert!(matches!(error, TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { .. })));
    }

    #[test]
    fn a_wrong_clock_is_told_as_such() {
        let ca = TestCa::new();
        for (days, word) in [(400, "only until"), (-400, "only after")] {
            let error = verify(&ca, &[ca.pin()], crate::dial::CONTROLLER_NAME, days).expect_err("not valid then");
            let error = crate::dial::ConnectError::from_handshake(std::io::Error::other(error)).to_string();
            assert!(error.contains("clock") && error.contains(word) && error.contains('T'), "{error}");
        }
    }
}
