// SPDX-License-Identifier: Apache-2.0
//! Names that operators give. Each is checked once, where it comes in, and is then safe to print and to put into a path.
//!
//! [`on_node`] has those of things on a node: packages, kernels, users.

pub mod on_node;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest node or operator name: a DNS label (RFC 1123), because a node's name often is its host name.
const LONGEST_NAME: usize = 63;

/// Longest label key or value, as in Kubernetes.
const LONGEST_LABEL: usize = 63;

/// Longest volume name: fits into a file name beside a node's name.
const LONGEST_VOLUME: usize = 32;

/// Longest serial a virtio disk can show.
const LONGEST_SERIAL: usize = 20;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing there.
    #[error("{} {what} cannot be empty", article(.what))]
    Empty {
        /// What kind of name.
        what: &'static str,
    },
    /// Too long.
    #[error("{} {what} has at most {longest} characters, this one has {length}", article(.what))]
    TooLong {
        /// What kind of name.
        what: &'static str,
        /// The limit.
        longest: usize,
        /// What it has.
        length: usize,
    },
    /// A character that may not be there.
    #[error("{} {what} has only {allowed}; found {found:?} at position {position}", article(.what))]
    Character {
        /// What kind of name.
        what: &'static str,
        /// What may be there.
        allowed: &'static str,
        /// What is there.
        found: char,
        /// Where, counted from 1.
        position: usize,
    },
}

fn article(what: &str) -> &'static str {
    if what.starts_with('o') { "an" } else { "a" }
}

fn checked(
    what: &'static str,
    allowed: &'static str,
    longest: usize,
    text: &str,
    fits: impl Fn(usize, char) -> bool,
) -> Result<(), BadName> {
    if text.is_empty() {
        return Err(BadName::Empty { what });
    }
    if let Some((index, found)) = text.chars().enumerate().find(|(index, c)| !fits(*index, *c)) {
        return Err(BadName::Character { what, allowed, found, position: index + 1 });
    }
    if text.len() > longest {
        return Err(BadName::TooLong { what, longest, length: text.len() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $allowed:literal, $longest:expr, $fits:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and wraps.
            ///
            /// # Errors
            /// If the text breaks a rule; the error names the rule and the place.
            pub fn new(text: impl Into<String>) -> Result<Self, BadName> {
                let text = text.into();
                checked($what, $allowed, $longest, &text, $fits)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

pub(crate) use name;

name!(
    /// The name of a node, unique in one controller.
    NodeName,
    "node name",
    "a-z, 0-9, '-' and '.', and begins with a letter or digit",
    LONGEST_NAME,
    |index, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (index > 0 && (c == '-' || c == '.'))
);

name!(
    /// The name of an operator's certificate.
    OperatorName,
    "operator name",
    "a-z, 0-9, '-', '_', '.' and '@', and begins with a letter or digit",
    LONGEST_NAME,
    |index, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (index > 0 && "-_.@".contains(c))
);

name!(
    /// The key of a label.
    LabelKey,
    "label key",
    "letters, digits, '-', '_', '.' and '/', and begins with a letter or digit",
    LONGEST_LABEL,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "-_./".contains(c))
);

name!(
    /// The value of a label.
    LabelValue,
    "label value",
    "letters, digits, '-', '_' and '.', and begins with a letter or digit",
    LONGEST_LABEL,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "-_.".contains(c))
);

name!(
    /// The name of a cluster, unique in one controller.
    ClusterName,
    "cluster name",
    "a-z, 0-9 and '-', and begins with a letter or digit",
    LONGEST_NAME,
    |index, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (index > 0 && c == '-')
);

name!(
    /// What a cloud is called in the controller's clouds.yaml.
    CloudName,
    "cloud name",
    "letters, digits, '-', '_' and '.', and begins with a letter or digit",
    LONGEST_NAME,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "-_.".contains(c))
);

name!(
    /// The name of a volume, unique on one node.
    VolumeName,
    "volume name",
    "a-z, 0-9 and '-', and begins with a letter or digit",
    LONGEST_VOLUME,
    |index, c| c.is_ascii_lowercase() || c.is_ascii_digit() || (index > 0 && c == '-')
);

name!(
    /// The serial number a data disk shows inside its machine, by which it is found there.
    DiskSerial,
    "disk serial",
    "letters, digits, '-' and '_'",
    LONGEST_SERIAL,
    |_, c| c.is_ascii_alphanumeric() || c == '-' || c == '_'
);

name!(
    /// A provider's own id of a machine.
    MachineId,
    "machine id",
    "letters, digits, '-', '_' and '.', and begins with a letter or digit",
    128,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "-_.".contains(c))
);

name!(
    /// The id of a job: a decimal number given by the controller.
    JobId,
    "job id",
    "digits",
    20,
    |_, c| c.is_ascii_digit()
);

name!(
    /// The id of a run: an `r` and a decimal number given by the controller, so that it is never taken for a job's.
    RunId,
    "run id",
    "an r and digits",
    21,
    |index, c| if index == 0 { c == 'r' } else { c.is_ascii_digit() }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_ordinary_names() {
        for name in ["node1", "k8s1.syzygy.ca", "a", "10-0-0-172"] {
            assert!(NodeName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn refuses_names_that_could_do_harm() {
        for name in ["", "-node", ".", "../etc", "Node1", "a b", "a\u{1b}[31m", "a\nb", "a;reboot", "ä", "\u{202e}a"] {
            assert!(NodeName::new(name).is_err(), "{name:?}");
        }
        assert!(NodeName::new("a".repeat(64)).is_err());
    }

    #[test]
    fn the_refusal_says_where_and_is_itself_harmless() {
        let error = NodeName::new("ab\u{1b}[31m").expect_err("an escape sequence").to_string();
        assert!(error.contains("position 3") && !error.contains('\u{1b}'), "{error}");
    }
}
