// SPDX-License-Identifier: Apache-2.0
//! The two TLS configurations of the listeners: TLS 1.3, our certificate, no resumption of any kind.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rcgen::KeyPair;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig};

use super::Authentication;
use crate::clock::Clock;
use crate::pki::{Authority, AuthorityError, PublicKey, Purpose};

/// How long the controller's own certificate is valid; it is made anew at every start and long before this is over.
const SERVER_CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// The configurations new connections are accepted with; replaced whole when the authority changes.
#[derive(Debug, Clone)]
pub struct ServerConfigs {
    clock: Arc<dyn Clock>,
    pair: Arc<RwLock<Pair>>,
}

#[derive(Debug)]
struct Pair {
    with_certificate: Arc<ServerConfig>,
    without: Arc<ServerConfig>,
}

/// A failure to make the TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authority cannot sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A key cannot be made.
    #[error("make a key for the listeners")]
    Key(#[from] rcgen::Error),
    /// rustls refuses.
    #[error("configure TLS")]
    Rustls(#[from] rustls::Error),
    /// rustls refuses the client verifier.
    #[error("configure the check of client certificates")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl ServerConfigs {
    /// Makes a key, has it signed, and configures both kinds of listener.
    ///
    /// # Errors
    /// If the authority cannot sign or rustls refuses.
    pub fn new(authority: &Authority, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let pair = Arc::new(RwLock::new(Pair::new(authority, &clock)?));
        Ok(Self { clock, pair })
    }

    /// Makes everything anew, after the authority changed or when the certificate grows old.
    ///
    /// # Errors
    /// As [`ServerConfigs::new`]; then the old configuration stays.
    pub fn renew(&self, authority: &Authority) -> Result<(), TlsError> {
        let pair = Pair::new(authority, &self.clock)?;
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    pub(super) fn get(&self, authentication: Authentication) -> Arc<ServerConfig> {
        let pair = self.pair.read().unwrap_or_else(PoisonError::into_inner);
        match authentication {
            Authentication::Certificate => Arc::clone(&pair.with_certificate),
            Authentication::None => Arc::clone(&pair.without),
        }
    }
}

/// The controller's clock as rustls asks for it, so that TLS and the gate agree on which certificates have expired.
#[derive(Debug)]
struct ClockTime(Arc<dyn Clock>);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().0.div_euclid(1000)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl Pair {
    fn new(authority: &Authority, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let public = PublicKey::from_request(request.der()).expect("a request made a moment ago is good");
        let leaf = authority.issue(&Purpose::Controller, &public, clock.now(), SERVER_CERTIFICATE_LIFE)?;
        let trusted: Vec<CertificateDer<'static>> = authority.trusted().into_iter().map(CertificateDer::from).collect();
        let bridge = authority.bridge(clock.now())?.map(CertificateDer::from);
        // The CAs go along so that a joining agent can find the one it was given the pin of, and so that the command
        // lines of operators learn whom to trust from now on.
        let leaf = CertificateDer::from(leaf.der);
        let chain: Vec<_> = std::iter::once(leaf).chain(bridge).chain(trusted.iter().cloned()).collect();
        let mut roots = RootCertStore::empty();
        trusted.into_iter().try_for_each(|certificate| roots.add(certificate))?;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        let builder = |provider: Arc<CryptoProvider>| {
            let time = Arc::new(ClockTime(Arc::clone(clock)));
            ServerConfig::builder_with_details(provider, time).with_protocol_versions(&[&rustls::version::TLS13])
        };
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let with = builder(Arc::clone(&provider))?.with_client_cert_verifier(verifier);
        let without = builder(provider)?.with_no_client_auth();
        Ok(Self {
            with_certificate: Arc::new(hardened(with.with_single_cert(chain.clone(), key())?)),
            without: Arc::new(hardened(without.with_single_cert(chain, key())?)),
        })
    }
}

/// No tickets and no session store: on resumption rustls takes the stored identity without asking the verifier.
fn hardened(mut config: ServerConfig) -> ServerConfig {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
