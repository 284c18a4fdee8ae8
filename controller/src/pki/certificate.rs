// SPDX-License-Identifier: Apache-2.0
//! The certificates we sign: one template per purpose.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use windlass_types::name::{NodeName, OperatorName};
use windlass_types::time::UnixMillis;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::request::PublicKey;

/// The name in every controller certificate. Clients verify it whatever host they dialled, so that a controller may
/// move or stand behind an address of any kind; only this CA can sign for it.
pub const SERVER_NAME: &str = "controller.windlass.internal";

/// Certificates begin this much in the past, so that a node whose clock is a little behind can use them.
const CLOCK_LEEWAY: Duration = Duration::from_secs(300);

/// A certificate's serial number: 16 random bytes with the top bit clear (RFC 5280 section 4.1.2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

/// Text or bytes that are not a serial number of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate serial number")]
pub struct NotASerial;

impl Serial {
    fn random() -> Self {
        let mut bytes = *uuid::Uuid::new_v4().as_bytes();
        bytes[0] = (bytes[0] & 0x7f) | 0x40; // positive and of constant length
        Self(bytes)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = NotASerial;

    fn from_str(text: &str) -> Result<Self, NotASerial> {
        if text.len() != 32 || !text.is_ascii() {
            return Err(NotASerial);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| NotASerial)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl TryFrom<String> for Serial {
    type Error = NotASerial;

    fn try_from(text: String) -> Result<Self, NotASerial> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// The serial number of a certificate; `None` if it cannot be one of ours.
#[must_use]
pub fn serial_of(certificate_der: &[u8]) -> Option<Serial> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    certificate.raw_serial().try_into().ok().map(Serial)
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// The controller's listeners.
    Controller,
    /// A node's agent.
    Node(NodeName),
    /// An operator elsewhere.
    Operator(OperatorName),
}

impl Purpose {
    fn path(&self) -> String {
        match self {
            Self::Controller => "controller".to_owned(),
            Self::Node(name) => format!("node/{name}"),
            Self::Operator(name) => format!("operator/{name}"),
        }
    }

    const fn usage(&self) -> ExtendedKeyUsagePurpose {
        match self {
            Self::Controller => ExtendedKeyUsagePurpose::ServerAuth,
            Self::Node(_) | Self::Operator(_) => ExtendedKeyUsagePurpose::ClientAuth,
        }
    }
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// When it was signed.
    pub issued_at: UnixMillis,
    /// When it ends.
    pub not_after: UnixMillis,
}

/// Signs a certificate from the template of its purpose.
pub(super) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    cluster: &str,
    purpose: &Purpose,
    key: &PublicKey,
    now: UnixMillis,
    life: Duration,
) -> Result<Issued, rcgen::Error> {
    let serial = Serial::random();
    let not_after = now.plus(life);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial.0));
    params.not_before = date(now.minus(CLOCK_LEEWAY));
    params.not_after = date(not_after);
    params.distinguished_name = name(&purpose.path());
    params.subject_alt_names = vec![SanType::URI(format!("windlass://{cluster}/{}", purpose.path()).try_into()?)];
    if *purpose == Purpose::Controller {
        params.subject_alt_names.push(SanType::DnsName(SERVER_NAME.try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose.usage()];
    params.use_authority_key_identifier_extension = true;
    let der = params.signed_by(&SubjectPublicKeyInfo::from_der(key.spki_der())?, issuer)?.der().to_vec();
    Ok(Issued { der, serial, issued_at: now, not_after })
}

/// The template of a CA certificate.
pub(super) fn authority_params(cluster: &str, generation: u32, now: UnixMillis, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date(now.minus(CLOCK_LEEWAY));
    params.not_after = date(now.plus(life));
    params.distinguished_name = name(&format!("Windlass CA {generation} of {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Windlass");
    name.push(DnType::CommonName, common_name);
    name
}

/// Out of range means a clock of another era; the certificate is then simply not valid for anyone.
fn date(at: UnixMillis) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
