// SPDX-License-Identifier: Apache-2.0
//! How a job ended on one node, and what to do about a failure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;

/// What to do about a failure. Crosses the wire as an enum; the text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorClass {
    /// Trying again may help.
    Transient,
    /// Something else must happen first.
    Blocked,
    /// A person must decide or mend.
    Operator,
    /// Windlass is wrong.
    Bug,
}

/// How a job ended on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Ending {
    /// The program exited with this code; a file action that worked has code 0.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// A signal ended the program.
    Signaled {
        /// The signal's number.
        signal: i32,
    },
    /// Ended because its time was over.
    TimedOut,
    /// Ended because somebody asked.
    Stopped,
    /// Could not be begun, or a file could not be placed or read.
    Failed {
        /// What failed and why.
        message: String,
        /// What to do about it.
        class: ErrorClass,
    },
    /// The agent lost sight of it. It is not run again.
    Unknown {
        /// What is known.
        message: String,
    },
    /// The agent refused the order.
    Refused {
        /// Why.
        message: String,
    },
    /// The node was not connected when its turn came.
    Unreachable,
    /// Its turn never came.
    Skipped,
}

impl Ending {
    /// Whether the node did what was asked.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code: 0 } => f.write_str("ok"),
            Self::Exited { code } => write!(f, "exit code {code}"),
            Self::Signaled { signal } => write!(f, "ended by signal {signal}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed { message, .. } => write!(f, "failed: {}", crate::escape::Escaped(message)),
            Self::Unknown { message } => write!(f, "outcome unknown: {}", crate::escape::Escaped(message)),
            Self::Refused { message } => write!(f, "refused: {}", crate::escape::Escaped(message)),
            Self::Unreachable => f.write_str("not connected"),
            Self::Skipped => f.write_str("skipped"),
        }
    }
}

/// How a job ended on one node, with what it left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The end.
    #[serde(flatten)]
    pub ending: Ending,
    /// Wall time.
    pub duration: Duration,
    /// All that was written to stdout, bytes, kept or not.
    pub stdout_bytes: u64,
    /// All that was written to stderr, bytes, kept or not.
    pub stderr_bytes: u64,
    /// For a file: its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256Digest>,
    /// For a file: whether the node had to change anything.
    #[serde(default)]
    pub changed: bool,
}

impl Outcome {
    /// An end without output.
    #[must_use]
    pub const fn bare(ending: Ending) -> Self {
        Self { ending, duration: Duration::ZERO, stdout_bytes: 0, stderr_bytes: 0, sha256: None, changed: false }
    }
}
