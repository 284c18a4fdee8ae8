// SPDX-License-Identifier: Apache-2.0
//! Certificate requests (PKCS #10, RFC 2986): check the self-signature and take the public key, ignore all else.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};
use x509_parser::x509::SubjectPublicKeyInfo;

/// A request with a P-256 key is about 250 bytes; far more than this is not an honest one.
const LARGEST_REQUEST_BYTES: usize = 4096;

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Too large.
    #[error("the certificate request has {0} bytes, at most {LARGEST_REQUEST_BYTES} are accepted")]
    TooLarge(usize),
    /// Not PKCS #10, or with something behind it.
    #[error("the certificate request is not valid PKCS #10")]
    Malformed,
    /// Neither P-256 nor Ed25519.
    #[error("the key in the certificate request is neither P-256 nor Ed25519")]
    KeyType,
    /// The requester does not hold the key, or the request was altered.
    #[error("the signature of the certificate request is wrong")]
    Signature,
}

/// A public key whose owner has proved to hold the private one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki_der: Vec<u8>,
}

impl PublicKey {
    /// Takes the key out of a request.
    ///
    /// # Errors
    /// If the request is malformed, has an unsuitable key or a wrong signature.
    pub fn from_request(der: &[u8]) -> Result<Self, BadRequest> {
        if der.len() > LARGEST_REQUEST_BYTES {
            return Err(BadRequest::TooLarge(der.len()));
        }
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| BadRequest::Malformed)?;
        if !rest.is_empty() {
            return Err(BadRequest::Malformed);
        }
        let info = &request.certification_request_info;
        verify(&info.subject_pki, info.raw, &request.signature_value.data)?;
        Ok(Self { spki_der: info.subject_pki.raw.to_vec() })
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }
}

/// Checks a signature made with the key of a certificate.
///
/// # Errors
/// If the certificate cannot be read or the signature is wrong.
pub(crate) fn verify_by_certificate(
    certificate_der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadRequest> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).map_err(|_| BadRequest::Malformed)?;
    verify(certificate.public_key(), message, signature)
}

fn verify(key: &SubjectPublicKeyInfo<'_>, message: &[u8], signature: &[u8]) -> Result<(), BadRequest> {
    let algorithm: &'static dyn VerificationAlgorithm = match key.algorithm.algorithm.to_id_string().as_str() {
        // id-ecPublicKey (RFC 5480); the algorithm below refuses every curve but P-256 by the key's length.
        "1.2.840.10045.2.1" => &ECDSA_P256_SHA256_ASN1,
        // id-Ed25519 (RFC 8410).
        "1.3.101.112" => &ED25519,
        _ => return Err(BadRequest::KeyType),
    };
    UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(message, signature)
        .map_err(|_| BadRequest::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyPair, SanType};

    fn request(change: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        change(&mut params);
        (params.serialize_request(&key).expect("a request").der().to_vec(), key)
    }

    #[test]
    fn takes_the_key_and_nothing_else() {
        let (der, key) = request(|params| {
            params.distinguished_name.push(DnType::CommonName, "admin");
            params.subject_alt_names = vec![SanType::DnsName("*.example".try_into().expect("a name"))];
        });
        let taken = PublicKey::from_request(&der).expect("a good request");
        assert_eq!(taken.spki_der(), rcgen::PublicKeyData::subject_public_key_info(&key));
    }

    #[test]
    fn ignores_a_wish_to_be_a_ca() {
        let (der, _) = request(|params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        assert!(PublicKey::from_request(&der).is_ok());
    }

    #[test]
    fn refuses_a_request_that_was_altered() {
        let (mut der, _) = request(|_| {});
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(PublicKey::from_request(&der), Err(BadRequest::Signature));
    }

    #[test]
    fn refuses_a_huge_request() {
        let (der, _) = request(|params| {
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![0; 16_384])];
        });
        assert!(matches!(PublicKey::from_request(&der), Err(BadRequest::TooLarge(_))));
    }

    #[test]
    fn refuses_what_is_no_request() {
        for der in [&b""[..], b"\x30\x00", b"-----BEGIN", &[0xff; 100]] {
            assert_eq!(PublicKey::from_request(der), Err(BadRequest::Malformed));
        }
    }
}
