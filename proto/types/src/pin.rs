// SPDX-License-Identifier: Apache-2.0
//! The digest of a CA's public key, by which an agent knows its controller before it trusts anything.

use std::fmt;
use std::str::FromStr;

/// SHA-256 of a certificate's SubjectPublicKeyInfo in DER, as in RFC 7469 section 2.4; written `sha256:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpkiPin([u8; 32]);

/// Text that is not a pin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a CA pin: expected sha256: and 64 hexadecimal digits, as printed by `windlass token create`")]
pub struct NotAPin;

impl SpkiPin {
    /// From the digest.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for SpkiPin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        text.strip_prefix("sha256:").and_then(crate::hex::decode_32).map(Self).ok_or(NotAPin)
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        crate::hex::encode(&self.0, f)
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read() {
        let pin = SpkiPin::new([0xa5; 32]);
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }

    #[test]
    fn refuses_what_is_not_a_pin() {
        for text in ["", "sha256:", "sha1:00", &format!("sha256:{}", "g".repeat(64)), &"0".repeat(64)] {
            assert_eq!(text.parse::<SpkiPin>(), Err(NotAPin), "{text}");
        }
    }
}
