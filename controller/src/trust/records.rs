// SPDX-License-Identifier: Apache-2.0
//! What the store keeps about certificates and operators.

use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use windlass_types::digest::Sha256Digest;
use windlass_types::name::{NodeName, OperatorName};
use windlass_types::role::OperatorRole;
use windlass_types::time::UnixMillis;

use super::TrustError;
use crate::pki::{Issued, PublicKey, Serial, key_digest};
use crate::store::Store;

pub(super) const CERTIFICATES: &str = "certificates/";
pub(super) const OPERATORS: &str = "operators/";

/// Records are read a page at a time so that one answer of the store stays small.
const PAGE: usize = 1000;

/// Whom a certificate was signed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// A node's agent.
    Node(NodeName),
    /// An operator.
    Operator(OperatorName),
}

/// A certificate this controller signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRecord {
    /// For whom.
    pub holder: Holder,
    /// When it was signed.
    pub issued_at: UnixMillis,
    /// When it ends.
    pub not_after: UnixMillis,
    /// When it was revoked, if it was.
    pub revoked_at: Option<UnixMillis>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: Sha256Digest,
}

impl CertificateRecord {
    pub(super) fn new(holder: Holder, issued: &Issued, key: &PublicKey) -> Self {
        let key = key_digest(key.spki_der());
        Self { holder, issued_at: issued.issued_at, not_after: issued.not_after, revoked_at: None, key }
    }
}

/// An operator with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// What they may do.
    pub role: OperatorRole,
    /// Their certificate.
    pub serial: Serial,
    /// When it ends.
    pub not_after: UnixMillis,
    /// Their access ends then, however often the certificate is renewed; it was made for a limited time.
    #[serde(default)]
    pub until: Option<UnixMillis>,
}

pub(super) fn certificate_key(serial: Serial) -> String {
    format!("{CERTIFICATES}{serial}")
}

pub(super) fn operator_key(name: &OperatorName) -> String {
    format!("{OPERATORS}{name}")
}

pub(super) fn to_json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records have string keys and no failing parts")
}

/// Reads every record below a prefix; what follows the prefix is the record's name.
pub(super) async fn read_all<K: FromStr, V: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
) -> Result<Vec<(K, V)>, TrustError> {
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.range(prefix, after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.key.clone());
        for entry in page {
            let value = serde_json::from_slice(&entry.value)
                .map_err(|source| TrustError::Record { key: entry.key.clone(), source })?;
            if let Ok(key) = entry.key[prefix.len()..].parse() {
                all.push((key, value));
            }
        }
    }
}
