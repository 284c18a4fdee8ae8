// SPDX-License-Identifier: Apache-2.0
//! The authority: which CAs are trusted, which one signs, and how the fleet moves from one to the next.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rcgen::{Issuer, KeyPair};
use serde::{Deserialize, Serialize};
use windlass_types::pin::SpkiPin;
use windlass_types::time::UnixMillis;

use super::certificate::{self, Issued, Purpose};
use super::files;
use super::request::PublicKey;

/// Long enough that nobody is surprised by it; rotation replaces a CA long before.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

const INDEX: &str = "authority.json";

/// The controller's own certificate authority.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
    index: RwLock<Index>,
}

/// Which CAs there are. The file that says so is replaced in one rename, so a rotation is whole or has not happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    /// The uuid in every certificate of this controller.
    cluster: String,
    /// The CA that signs.
    current: Generation,
    /// Since when it does.
    current_since: UnixMillis,
    /// Trusted already, signs after the next stage.
    next: Option<Generation>,
    /// Trusted still, signs no more.
    previous: Option<Generation>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Generation {
    number: u32,
    certificate_pem: String,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStage {
    /// One CA.
    None,
    /// The next CA is trusted by whoever was told, and does not sign yet.
    NextTrusted,
    /// The new CA signs; the previous one is still trusted.
    PreviousTrusted,
}

/// A failure of the authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{operation} {path}")]
    File {
        /// "read" or "write".
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("understand {path}: {reason}; restore the state directory from a backup")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key or certificate could not be made.
    #[error("make a certificate")]
    Sign(#[from] rcgen::Error),
}

impl Authority {
    /// Opens the authority below `state_dir`, and makes it at the very first start.
    ///
    /// # Errors
    /// If its files cannot be read or written, or are damaged.
    pub fn open(state_dir: &Path, now: UnixMillis) -> Result<Self, AuthorityError> {
        let directory = state_dir.join("pki");
        files::make_private_directory(&directory).map_err(|source| file("write", &directory, source))?;
        let path = directory.join(INDEX);
        let index = match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|error| AuthorityError::Damaged { path: path.clone(), reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Index::first(&directory, now)?,
            Err(source) => return Err(file("read", &path, source)),
        };
        let authority = Self { directory, index: RwLock::new(index) };
        authority.issuer_key(authority.read().current.number)?;
        Ok(authority)
    }

    /// The uuid in every certificate of this controller.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.read().cluster.clone()
    }

    /// Signs a certificate.
    ///
    /// # Errors
    /// If the key cannot be read or the certificate not be made.
    pub fn issue(
        &self,
        purpose: &Purpose,
        key: &PublicKey,
        now: UnixMillis,
        life: Duration,
    ) -> Result<Issued, AuthorityError> {
        let index = self.read();
        let key_pair = self.issuer_key(index.current.number)?;
        let issuer = Issuer::from_ca_cert_pem(&index.current.certificate_pem, key_pair)?;
        Ok(certificate::issue(&issuer, &index.cluster, purpose, key, now, life)?)
    }

    /// Whom to trust, DER; the CA that signs comes first.
    #[must_use]
    pub fn trusted(&self) -> Vec<Vec<u8>> {
        let index = self.read();
        let all = [Some(&index.current), index.next.as_ref(), index.previous.as_ref()];
        all.into_iter().flatten().filter_map(|generation| der(&generation.certificate_pem)).collect()
    }

    /// Pins an agent may be given: the CA that signs, then the next one.
    #[must_use]
    pub fn pins(&self) -> Vec<SpkiPin> {
        let index = self.read();
        let all = [Some(&index.current), index.next.as_ref()];
        let pins = all.into_iter().flatten().filter_map(|generation| der(&generation.certificate_pem));
        pins.filter_map(|der| super::pin_of(&der)).collect()
    }

    /// The CA that signs, signed by the previous one, for whoever was away and trusts only that; DER.
    ///
    /// # Errors
    /// If a key cannot be read or the certificate not be made.
    pub fn bridge(&self, now: UnixMillis) -> Result<Option<Vec<u8>>, AuthorityError> {
        let index = self.read();
        let Some(previous) = &index.previous else { return Ok(None) };
        let issuer = Issuer::from_ca_cert_pem(&previous.certificate_pem, self.issuer_key(previous.number)?)?;
        let key = self.issuer_key(index.current.number)?;
        let params = certificate::authority_params(&index.cluster, index.current.number, now, AUTHORITY_LIFE);
        Ok(Some(params.signed_by(&key, &issuer)?.der().to_vec()))
    }

    /// Since when the CA that signs does so; `None` if it is the first one.
    #[must_use]
    pub fn signing_since(&self) -> Option<UnixMillis> {
        let index = self.read();
        index.previous.is_some().then_some(index.current_since)
    }

    /// How far a rotation is.
    #[must_use]
    pub fn stage(&self) -> RotationStage {
        let index = self.read();
        match (&index.next, &index.previous) {
            (Some(_), _) => RotationStage::NextTrusted,
            (None, Some(_)) => RotationStage::PreviousTrusted,
            (None, None) => RotationStage::None,
        }
    }

    /// Takes the next stage of a rotation and returns the stage it is in now.
    ///
    /// # Errors
    /// If files cannot be written; then nothing has changed.
    pub fn rotate(&self, now: UnixMillis) -> Result<RotationStage, AuthorityError> {
        let mut index = self.read();
        let mut retired = None;
        if let Some(next) = index.next.take() {
            index.current_since = now;
            index.previous = Some(std::mem::replace(&mut index.current, next));
        } else if let Some(previous) = index.previous.take() {
            retired = Some(previous.number);
        } else {
            index.next = Some(Generation::make(&self.directory, &index.cluster, index.current.number + 1, now)?);
        }
        index.save(&self.directory)?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
        if let Some(number) = retired {
            let path = key_path(&self.directory, number);
            std::fs::remove_file(&path).map_err(|source| file("write", &path, source))?;
        }
        Ok(self.stage())
    }

    fn read(&self) -> Index {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn issuer_key(&self, number: u32) -> Result<KeyPair, AuthorityError> {
        let path = key_path(&self.directory, number);
        let pem = std::fs::read_to_string(&path).map_err(|source| file("read", &path, source))?;
        KeyPair::from_pem(&pem).map_err(|error| AuthorityError::Damaged { path, reason: error.to_string() })
    }
}

impl Index {
    fn first(directory: &Path, now: UnixMillis) -> Result<Self, AuthorityError> {
        let cluster = uuid::Uuid::new_v4().to_string();
        let current = Generation::make(directory, &cluster, 1, now)?;
        let index = Self { cluster, current, current_since: now, next: None, previous: None };
        index.save(directory)?;
        Ok(index)
    }

    fn save(&self, directory: &Path) -> Result<(), AuthorityError> {
        let path = directory.join(INDEX);
        let text = serde_json::to_vec_pretty(self).expect("an index is always JSON");
        files::write_private(&path, &text).map_err(|source| file("write", &path, source))
    }
}

impl Generation {
    fn make(directory: &Path, cluster: &str, number: u32, now: UnixMillis) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let path = key_path(directory, number);
        files::write_private(&path, key.serialize_pem().as_bytes()).map_err(|source| file("write", &path, source))?;
        let certificate = certificate::authority_params(cluster, number, now, AUTHORITY_LIFE).self_signed(&key)?;
        Ok(Self { number, certificate_pem: certificate.pem() })
    }
}

fn key_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("ca-{number}.key"))
}

fn der(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok().map(|(_, block)| block.contents)
}

pub(super) fn file(operation: &'static str, path: &Path, source: std::io::Error) -> AuthorityError {
    AuthorityError::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{pin_of, serial_of};
    use windlass_types::name::NodeName;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn public_key() -> PublicKey {
        let key = KeyPair::generate().expect("a key");
        let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
        PublicKey::from_request(request.der()).expect("a good request")
    }

    #[test]
    fn reopens_with_the_same_ca() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = Authority::open(directory.path(), NOW).expect("a new authority");
        let again = Authority::open(directory.path(), NOW).expect("the same authority");
        assert_eq!((first.cluster(), first.pins()), (again.cluster(), again.pins()));
    }

    #[test]
    fn a_node_certificate_is_exactly_the_template() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(directory.path(), NOW).expect("an authority");
        let purpose = Purpose::Node(NodeName::new("node1").expect("a name"));
        let issued = authority.issue(&purpose, &public_key(), NOW, Duration::from_secs(60)).expect("a certificate");
        let (_, certificate) = X509Certificate::from_der(&issued.der).expect("X.509");
        let usage = certificate.extended_key_usage().expect("readable").expect("present").value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().expect("readable").expect("present").value;
        let uri = format!("windlass://{}/node/node1", authority.cluster());
        assert_eq!(names.general_names, [x509_parser::prelude::GeneralName::URI(&uri)]);
        assert_eq!(serial_of(&issued.der), Some(issued.serial));
        assert_eq!(certificate.validity().not_before.timestamp(), NOW.0 / 1000 - 300);
        assert_eq!(certificate.validity().not_after.timestamp(), NOW.0 / 1000 + 60);
    }

    #[test]
    fn a_rotation_goes_through_both_trusted_stages() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(directory.path(), NOW).expect("an authority");
        let old = authority.pins();
        assert_eq!(authority.rotate(NOW).expect("stage 1"), RotationStage::NextTrusted);
        assert_eq!((authority.pins()[0], authority.trusted().len()), (old[0], 2));
        assert_eq!(authority.rotate(NOW).expect("stage 2"), RotationStage::PreviousTrusted);
        assert_ne!(authority.pins()[0], old[0]);
        assert_eq!(pin_of(&authority.trusted()[1]), Some(old[0]));
        assert_eq!(authority.rotate(NOW).expect("stage 3"), RotationStage::None);
        assert_eq!(authority.trusted().len(), 1);
        let again = Authority::open(directory.path(), NOW).expect("reopened");
        assert_eq!(again.pins(), authority.pins());
    }

    #[test]
    fn keys_are_readable_by_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        Authority::open(directory.path(), NOW).expect("an authority");
        let mode =
            |path: &str| std::fs::metadata(directory.path().join(path)).expect("present").permissions().mode() & 0o777;
        assert_eq!((mode("pki"), mode("pki/ca-1.key"), mode("pki/authority.json")), (0o700, 0o600, 0o600));
    }

    #[test]
    fn a_damaged_index_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        Authority::open(directory.path(), NOW).expect("an authority");
        let path = directory.path().join("pki/authority.json");
        std::fs::write(&path, "{").expect("damage");
        assert!(matches!(Authority::open(directory.path(), NOW), Err(AuthorityError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "{");
    }
}
