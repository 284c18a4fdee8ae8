// SPDX-License-Identifier: Apache-2.0
//! The certificate authority: its keys on disk, and the certificates it signs.
//!
//! From a request only the public key is used; names, usages and times are ours (RFC 5280). The authority holds one
//! issuing CA and, while a rotation is under way, the next or the previous one, which are trusted but do not sign.
//! Keys live in `pki/` below the state directory, never in the database, so that no dump of it contains one.

mod authority;
mod certificate;
mod files;
mod order_key;
mod request;

pub use authority::{Authority, AuthorityError, RotationStage};
pub use certificate::{Issued, Purpose, SERVER_NAME, Serial, serial_of};
pub use order_key::OrderKey;
pub(crate) use request::verify_by_certificate;
pub use request::{BadRequest, PublicKey};

use aws_lc_rs::digest::{SHA256, digest};
use windlass_types::digest::Sha256Digest;
use windlass_types::pin::SpkiPin;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The pin of a certificate's public key; `None` if the certificate cannot be read.
#[must_use]
pub fn pin_of(certificate_der: &[u8]) -> Option<SpkiPin> {
    key_of(certificate_der).map(|key| SpkiPin::new(*key.as_bytes()))
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo; `None` if the certificate cannot be read.
#[must_use]
pub fn key_of(certificate_der: &[u8]) -> Option<Sha256Digest> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    Some(key_digest(certificate.public_key().raw))
}

/// SHA-256 of a SubjectPublicKeyInfo.
#[must_use]
pub fn key_digest(spki_der: &[u8]) -> Sha256Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, spki_der).as_ref());
    Sha256Digest::new(bytes)
}
