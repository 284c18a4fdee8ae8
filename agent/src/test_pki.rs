// SPDX-License-Identifier: Apache-2.0
//! A CA that lives for one test.

use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use windlass_proto::signed::seal;
use windlass_proto::v1;
use windlass_proto::v1::order_payload::Payload;
use windlass_types::pin::SpkiPin;
use x509_parser::time::ASN1Time;

use crate::dial::CONTROLLER_NAME;
use crate::dial::verify::pin_of;
use crate::host::clock::{Clock as _, SystemClock};

const DAY_SECONDS: i64 = 86_400;

/// A CA and the means to sign with it.
pub(crate) struct TestCa {
    /// Signs orders of the controller with this CA.
    pub(crate) orders: TestOrders,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// Signs orders.
pub(crate) struct TestOrders(Ed25519KeyPair);

impl TestOrders {
    /// With a new key.
    pub(crate) fn new() -> Self {
        Self(Ed25519KeyPair::generate().expect("a key"))
    }

    /// Its public key.
    pub(crate) fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// Signs.
    pub(crate) fn sign(&self, payload: Payload) -> v1::SignedOrder {
        seal(payload, |bytes| self.0.sign(bytes).as_ref().to_vec())
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn days_from_now(days: i64) -> i64 {
    SystemClock.now().0 / 1000 + days * DAY_SECONDS
}

fn params(names: Vec<String>, days: i64) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("valid names");
    let date = |days| ASN1Time::from_timestamp(days_from_now(days)).expect("a date").to_datetime();
    params.not_before = date(-1);
    params.not_after = date(days);
    params
}

impl TestCa {
    /// A new CA, valid for a year.
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut params = params(vec![], 365);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, hex(key.public_key_raw()));
        let certificate = params.self_signed(&key).expect("signed").der().clone();
        Self { orders: TestOrders::new(), certificate, issuer: Issuer::new(params, key) }
    }

    /// The CA's certificate.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The CA's pin.
    pub(crate) fn pin(&self) -> SpkiPin {
        pin_of(&self.certificate).expect("readable")
    }

    fn sign(
        &self,
        names: Vec<String>,
        key: &impl rcgen::PublicKeyData,
        usage: ExtendedKeyUsagePurpose,
    ) -> CertificateDer<'static> {
        let mut params = params(names, 7);
        params.extended_key_usages = vec![usage];
        params.signed_by(key, &self.issuer).expect("signed").der().clone()
    }

    /// A server certificate for this name.
    pub(crate) fn issue_server(&self, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        self.sign(vec![name.to_owned()], &key, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The answer to a join with this key.
    pub(crate) fn issue_agent(&self, key: &impl rcgen::PublicKeyData) -> v1::IssuedCertificate {
        let certificate = self.sign(vec![], key, ExtendedKeyUsagePurpose::ClientAuth);
        v1::IssuedCertificate {
            certificate_der: Bytes::copy_from_slice(&certificate),
            ca_der: vec![Bytes::copy_from_slice(&self.certificate)],
            not_after_unix_millis: days_from_now(7) * 1000,
            order_key: self.orders.public().into(),
        }
    }

    /// What a controller of this CA listens with; it does not ask for a client certificate.
    pub(crate) fn server_config(&self, mutual: bool) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let leaf = self.sign(vec![CONTROLLER_NAME.to_owned()], &key, ExtendedKeyUsagePurpose::ServerAuth);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3");
        let builder = if mutual {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.der()).expect("a CA");
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(vec![leaf, self.der()], key).expect("a server");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}
