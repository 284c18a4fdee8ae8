// SPDX-License-Identifier: Apache-2.0
//! Who this node is: its name, key and certificate, whom it trusts, and where its controller is.
//!
//! All of it is one file, replaced as a whole, so that a key is never beside the certificate of another key. The key of
//! a certificate that was asked for but has not arrived is kept in a file of its own: a lost reply is then asked for
//! again with the same key, and the controller answers with the same certificate.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use windlass_proto::v1;
use windlass_types::name::{BadName, NodeName};
use windlass_types::time::UnixMillis;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::durable_file;

const IDENTITY_FILE: &str = "identity.json";
const PENDING_KEY_FILE: &str = "pending-key";

/// A failure with the identity on disk or in an answer.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there but not what this program wrote.
    #[error("{} is damaged ({what}): remove it and join again with a new token", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The controller's answer lacks something.
    #[error("the controller's answer cannot be used: {0}")]
    Answer(&'static str),
    /// The controller's answer has a bad name.
    #[error("the controller's answer names this node wrongly")]
    Name(#[source] BadName),
    /// No key could be made.
    #[error("make a key")]
    Key(#[source] rcgen::Error),
}

/// The validity of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub not_before: UnixMillis,
    /// Not valid after.
    pub not_after: UnixMillis,
}

/// Who this node is. The key is never shown.
#[derive(Clone)]
pub struct Identity {
    /// Its name.
    pub node: NodeName,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// The validity of that certificate.
    pub validity: Validity,
    /// Whom it trusts.
    pub ca: Vec<CertificateDer<'static>>,
    /// Where its sessions go, `HOST:PORT`.
    pub agent_endpoint: String,
    /// Where it joined, `HOST:PORT`; late renewals go there.
    pub join_endpoint: String,
    key_pem: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("validity", &self.validity)
            .field("agent_endpoint", &self.agent_endpoint)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts together what an answer of the controller and this node's key make.
    ///
    /// # Errors
    /// If the answer has no certificate or nobody to trust, or the certificate is not for this key.
    pub fn new(
        node: NodeName,
        key: &KeyPair,
        issued: &v1::IssuedCertificate,
        endpoints: (String, String),
    ) -> Result<Self, IdentityError> {
        let ca = trusted(&issued.ca_der)?;
        let certificate = CertificateDer::from(issued.certificate_der.to_vec());
        let parsed = parse(&certificate).ok_or(IdentityError::Answer("its certificate cannot be read"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(IdentityError::Answer("its certificate is for another key"));
        }
        let validity = validity(&parsed);
        let (agent_endpoint, join_endpoint) = endpoints;
        let key_pem = key.serialize_pem();
        Ok(Self { node, validity, ca, agent_endpoint, join_endpoint, key_pem, certificate })
    }

    /// The same node with a renewed certificate.
    ///
    /// # Errors
    /// As [`Identity::new`].
    pub fn renewed(&self, key: &KeyPair, issued: &v1::IssuedCertificate) -> Result<Self, IdentityError> {
        let endpoints = (self.agent_endpoint.clone(), self.join_endpoint.clone());
        Self::new(self.node.clone(), key, issued, endpoints)
    }

    /// Whether this certificate was signed by the CA that is named first, which is the one that signs now.
    #[must_use]
    pub fn is_signed_by_first_ca(&self) -> bool {
        let names = self.ca.first().and_then(parse).zip(parse(&self.certificate));
        names.is_none_or(|(ca, own)| ca.subject().as_raw() == own.issuer().as_raw())
    }

    /// The same node trusting others.
    ///
    /// # Errors
    /// If there is nobody to trust or a certificate cannot be read.
    pub fn trusting(&self, ca_der: &[bytes::Bytes]) -> Result<Self, IdentityError> {
        Ok(Self { ca: trusted(ca_der)?, ..self.clone() })
    }

    /// Its key.
    ///
    /// # Errors
    /// If the stored key cannot be read.
    pub fn key(&self) -> Result<KeyPair, IdentityError> {
        KeyPair::from_pem_and_sign_algo(&self.key_pem, &PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)
    }
}

fn trusted(ca_der: &[bytes::Bytes]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let ca: Vec<_> = ca_der.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    if ca.is_empty() {
        return Err(IdentityError::Answer("it names no CA to trust"));
    }
    if ca.iter().any(|der| parse(der).is_none()) {
        return Err(IdentityError::Answer("a CA certificate in it cannot be read"));
    }
    Ok(ca)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1000));
    let validity = certificate.validity();
    Validity { not_before: millis(validity.not_before.timestamp()), not_after: millis(validity.not_after.timestamp()) }
}

/// A certificate request for `key`. Its subject says nothing: the controller uses only the public key.
///
/// # Errors
/// If the request cannot be signed.
pub fn certificate_request(key: &KeyPair) -> Result<bytes::Bytes, IdentityError> {
    let request = CertificateParams::default().serialize_request(key).map_err(IdentityError::Key)?;
    Ok(bytes::Bytes::copy_from_slice(request.der()))
}

/// The file as written; certificates are DER in hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    node: NodeName,
    key_pem: String,
    certificate_der: String,
    ca_der: Vec<String>,
    agent_endpoint: String,
    join_endpoint: String,
}

/// Where the identity is kept.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    directory: PathBuf,
}

impl IdentityStore {
    /// Keeps the identity in this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Makes the directory if need be and checks that it can be written.
    ///
    /// # Errors
    /// If it cannot.
    pub fn prepare(&self) -> Result<(), IdentityError> {
        let probe = self.directory.join(".writable");
        durable_file::private_directory(&self.directory)
            .and_then(|()| durable_file::replace(&probe, b""))
            .and_then(|()| durable_file::remove(&probe))
            .map_err(|source| IdentityError::Write { path: self.directory.clone(), source })
    }

    /// The identity, if this node has joined.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn load(&self) -> Result<Option<Identity>, IdentityError> {
        let path = self.directory.join(IDENTITY_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Read { path, source }),
        };
        decode(&text).map(Some).map_err(|what| IdentityError::Damaged { path, what })
    }

    /// Replaces the identity as a whole, durably; the pending key has then done its work.
    ///
    /// # Errors
    /// If the file cannot be written; then the old identity is still there.
    pub fn save(&self, identity: &Identity) -> Result<(), IdentityError> {
        let path = self.directory.join(IDENTITY_FILE);
        let written = encode(identity).and_then(|text| durable_file::replace(&path, text.as_bytes()));
        written.map_err(|source| IdentityError::Write { path, source })
    }

    /// The key of the certificate asked for next: the one of an earlier attempt, or a new one, durable before it is
    /// returned.
    ///
    /// # Errors
    /// If it cannot be made, read or written.
    pub fn pending_key(&self) -> Result<KeyPair, IdentityError> {
        let path = self.directory.join(PENDING_KEY_FILE);
        match std::fs::read_to_string(&path) {
            Ok(pem) => {
                if let Ok(key) = KeyPair::from_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256) {
                    return Ok(key);
                }
                tracing::warn!(path = %path.display(), "the pending key cannot be read; making a new one");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(IdentityError::Read { path, source }),
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        durable_file::replace(&path, key.serialize_pem().as_bytes())
            .map_err(|source| IdentityError::Write { path, source })?;
        Ok(key)
    }

    /// Forgets the pending key once its certificate is saved.
    ///
    /// # Errors
    /// If the file cannot be removed.
    pub fn forget_pending_key(&self) -> Result<(), IdentityError> {
        let path = self.directory.join(PENDING_KEY_FILE);
        durable_file::remove(&path).map_err(|source| IdentityError::Write { path, source })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect()
}

fn encode(identity: &Identity) -> io::Result<String> {
    let file = IdentityFile {
        node: identity.node.clone(),
        key_pem: identity.key_pem.clone(),
        certificate_der: hex(&identity.certificate),
        ca_der: identity.ca.iter().map(|der| hex(der)).collect(),
        agent_endpoint: identity.agent_endpoint.clone(),
        join_endpoint: identity.join_endpoint.clone(),
    };
    Ok(serde_json::to_string_pretty(&file)?)
}

fn decode(text: &str) -> Result<Identity, String> {
    // The parser's own words may quote the file, which holds the key: only the place is told.
    let file: IdentityFile = serde_json::from_str(text)
        .map_err(|error| format!("not an identity: line {}, column {}", error.line(), error.column()))?;
    let from_hex = |text: &str| unhex(text).map(CertificateDer::from).ok_or("a certificate is not hexadecimal");
    let certificate = from_hex(&file.certificate_der)?;
    let ca = file.ca_der.iter().map(|text| from_hex(text)).collect::<Result<Vec<_>, _>>()?;
    let key = KeyPair::from_pem_and_sign_algo(&file.key_pem, &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| "the key cannot be read".to_owned())?;
    let parsed = parse(&certificate).ok_or_else(|| "the certificate cannot be read".to_owned())?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("the certificate is for another key".to_owned());
    }
    if ca.is_empty() || ca.iter().any(|der| parse(der).is_none()) {
        return Err("a CA certificate cannot be read".to_owned());
    }
    let validity = validity(&parsed);
    Ok(Identity {
        node: file.node,
        key_pem: file.key_pem,
        validity,
        ca,
        agent_endpoint: file.agent_endpoint,
        join_endpoint: file.join_endpoint,
        certificate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::TestCa;

    fn issued(ca: &TestCa, key: &KeyPair) -> Identity {
        let issued = ca.issue_agent(key);
        let endpoints = ("bastion:7600".to_owned(), "bastion:7601".to_owned());
        Identity::new(NodeName::new("node1").expect("valid"), key, &issued, endpoints).expect("usable")
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = IdentityStore::new(&dir.path().join("state"));
        store.prepare().expect("writable");
        assert!(store.load().expect("readable").is_none());
        let identity = issued(&TestCa::new(), &store.pending_key().expect("a key"));
        store.save(&identity).expect("saved");
        let loaded = store.load().expect("readable").expect("joined");
        assert_eq!(loaded.certificate, identity.certificate);
        assert_eq!((loaded.node, loaded.validity), (identity.node, identity.validity));
    }

    #[test]
    fn an_interrupted_attempt_is_repeated_with_the_same_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = IdentityStore::new(dir.path());
        let first = store.pending_key().expect("a key");
        assert_eq!(store.pending_key().expect("the same").public_key_raw(), first.public_key_raw());
        store.forget_pending_key().expect("removed");
        assert_ne!(store.pending_key().expect("another").public_key_raw(), first.public_key_raw());
    }

    #[test]
    fn a_crash_while_saving_leaves_the_old_identity() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = IdentityStore::new(dir.path());
        let ca = TestCa::new();
        let old = issued(&ca, &store.pending_key().expect("a key"));
        store.save(&old).expect("saved");
        std::fs::write(dir.path().join("identity.json.new"), "{\"node\": \"no").expect("half a file");
        assert_eq!(store.load().expect("readable").expect("joined").certificate, old.certificate);
    }

    #[test]
    fn refuses_a_certificate_for_another_key() {
        let (ca, key) = (TestCa::new(), KeyPair::generate().expect("a key"));
        let issued = ca.issue_agent(&KeyPair::generate().expect("another key"));
        let node = NodeName::new("node1").expect("valid");
        let made = Identity::new(node, &key, &issued, (String::new(), String::new()));
        assert!(matches!(made, Err(IdentityError::Answer(_))));
    }

    #[test]
    fn never_shows_the_key() {
        let key = KeyPair::generate().expect("a key");
        let identity = issued(&TestCa::new(), &key);
        assert!(!format!("{identity:?}").contains("PRIVATE"));
        let damaged = decode(&encode(&identity).expect("text").replace("\"node\"", "\"nodes\"")).expect_err("damaged");
        assert!(!damaged.contains("PRIVATE"), "{damaged}");
    }
}
