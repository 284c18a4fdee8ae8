// SPDX-License-Identifier: Apache-2.0
//! The key that signs orders. Nodes know it from joining, so that whoever gets hold of a node's connection can neither
//! forge an order nor change one.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use windlass_proto::signed;
use windlass_proto::v1;
use windlass_proto::v1::order_payload::Payload;

use super::authority::{AuthorityError, file};
use super::files;

const KEY_FILE: &str = "order.key";

/// Ed25519 (RFC 8032).
#[derive(Debug)]
pub struct OrderKey(Ed25519KeyPair);

impl OrderKey {
    /// Reads the key below `state_dir`, and makes it at the very first start.
    ///
    /// # Errors
    /// If its file cannot be read or written, or is damaged.
    pub fn open(state_dir: &Path) -> Result<Arc<Self>, AuthorityError> {
        let path = state_dir.join("pki").join(KEY_FILE);
        let damaged = |reason: &str| AuthorityError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let pkcs8 = match std::fs::read(&path) {
            Ok(pkcs8) => pkcs8,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8());
                let made = made.map_err(|_| damaged("no key could be made"))?;
                files::write_private(&path, made.as_ref()).map_err(|source| file("write", &path, source))?;
                made.as_ref().to_vec()
            }
            Err(source) => return Err(file("read", &path, source)),
        };
        Ed25519KeyPair::from_pkcs8(&pkcs8).map(|key| Arc::new(Self(key))).map_err(|_| damaged("it is not a key"))
    }

    /// The public key, 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, payload: Payload) -> v1::SignedOrder {
        signed::seal(payload, |bytes| self.0.sign(bytes).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use std::os::unix::fs::PermissionsExt as _;

    fn state() -> tempfile::TempDir {
        let state = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(state.path().join("pki")).expect("made");
        state
    }

    #[test]
    fn the_key_stays_and_only_its_owner_reads_it() {
        let state = state();
        let first = OrderKey::open(state.path()).expect("made");
        let second = OrderKey::open(state.path()).expect("read");
        assert_eq!(first.public(), second.public());
        let mode = std::fs::metadata(state.path().join("pki/order.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let signed = first.sign(Payload::Stop(v1::StopOrder { job: "1".into(), ..v1::StopOrder::default() }));
        let covered = signed::signed_bytes(&signed.payload);
        UnparsedPublicKey::new(&ED25519, second.public()).verify(&covered, &signed.signature).expect("genuine");
    }

    #[test]
    fn a_damaged_key_is_refused_and_left_alone() {
        let state = state();
        let path = state.path().join("pki/order.key");
        std::fs::write(&path, "not a key").expect("written");
        let refused = OrderKey::open(state.path()).expect_err("damaged").to_string();
        assert!(refused.contains("order.key") && refused.contains("backup"), "{refused}");
        assert_eq!(std::fs::read(&path).expect("there"), b"not a key");
    }
}
