// SPDX-License-Identifier: Apache-2.0
//! How a job ended, to the wire and back. Inline output is not part of the outcome: the caller adds and takes it.

use std::time::Duration;

use bytes::Bytes;
use windlass_types::digest::{NotADigest, Sha256Digest};
use windlass_types::outcome::{Ending, ErrorClass, Outcome};

use crate::v1;

/// An outcome that says nothing usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadOutcome {
    /// The result is unspecified or unknown to this version.
    #[error("unknown job result {0}")]
    Result(i32),
    /// The digest is not one.
    #[error("the outcome's digest cannot be read")]
    Digest(#[source] NotADigest),
}

impl From<ErrorClass> for v1::ErrorClass {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Transient => Self::Transient,
            ErrorClass::Blocked => Self::Blocked,
            ErrorClass::Operator => Self::Operator,
            ErrorClass::Bug => Self::Bug,
        }
    }
}

/// A class that this version does not know is read as one for a person: nothing is tried again blindly.
fn class_from_wire(class: v1::ErrorClass) -> ErrorClass {
    match class {
        v1::ErrorClass::Transient => ErrorClass::Transient,
        v1::ErrorClass::Blocked => ErrorClass::Blocked,
        v1::ErrorClass::Operator | v1::ErrorClass::Unspecified => ErrorClass::Operator,
        v1::ErrorClass::Bug => ErrorClass::Bug,
    }
}

impl From<&Outcome> for v1::JobOutcome {
    fn from(outcome: &Outcome) -> Self {
        let mut wire = Self {
            duration_millis: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            stdout_bytes: outcome.stdout_bytes,
            stderr_bytes: outcome.stderr_bytes,
            sha256: outcome.sha256.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(digest.as_bytes())),
            changed: outcome.changed,
            ..Self::default()
        };
        match &outcome.ending {
            Ending::Exited { code } => {
                wire.set_result(v1::JobResult::Exited);
                wire.exit_code = *code;
            }
            Ending::Signaled { signal } => {
                wire.set_result(v1::JobResult::Signaled);
                wire.signal = *signal;
            }
            Ending::TimedOut => wire.set_result(v1::JobResult::TimedOut),
            Ending::Stopped => wire.set_result(v1::JobResult::Stopped),
            Ending::Failed { message, class } => {
                wire.set_result(v1::JobResult::Failed);
                wire.set_class((*class).into());
                wire.message.clone_from(message);
            }
            Ending::Unknown { message } => {
                wire.set_result(v1::JobResult::Unknown);
                wire.message.clone_from(message);
            }
            Ending::Refused { message } => {
                wire.set_result(v1::JobResult::Refused);
                wire.message.clone_from(message);
            }
            Ending::Unreachable => wire.set_result(v1::JobResult::Unreachable),
            Ending::Skipped => wire.set_result(v1::JobResult::Skipped),
        }
        wire
    }
}

impl TryFrom<&v1::JobOutcome> for Outcome {
    type Error = BadOutcome;

    fn try_from(wire: &v1::JobOutcome) -> Result<Self, BadOutcome> {
        let message = || wire.message.clone();
        let ending = match wire.result() {
            v1::JobResult::Unspecified => return Err(BadOutcome::Result(wire.result)),
            v1::JobResult::Exited => Ending::Exited { code: wire.exit_code },
            v1::JobResult::Signaled => Ending::Signaled { signal: wire.signal },
            v1::JobResult::TimedOut => Ending::TimedOut,
            v1::JobResult::Stopped => Ending::Stopped,
            v1::JobResult::Failed => Ending::Failed { message: message(), class: class_from_wire(wire.class()) },
            v1::JobResult::Unknown => Ending::Unknown { message: message() },
            v1::JobResult::Refused => Ending::Refused { message: message() },
            v1::JobResult::Unreachable => Ending::Unreachable,
            v1::JobResult::Skipped => Ending::Skipped,
        };
        let sha256 = match wire.sha256.as_ref() {
            [] => None,
            bytes => Some(Sha256Digest::from_slice(bytes).map_err(BadOutcome::Digest)?),
        };
        Ok(Self {
            ending,
            duration: Duration::from_millis(wire.duration_millis),
            stdout_bytes: wire.stdout_bytes,
            stderr_bytes: wire.stderr_bytes,
            sha256,
            changed: wire.changed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endings() -> Vec<Ending> {
        let message = || "because".to_owned();
        let mut endings = vec![
            Ending::Exited { code: 3 },
            Ending::Signaled { signal: 9 },
            Ending::TimedOut,
            Ending::Stopped,
            Ending::Unknown { message: message() },
            Ending::Refused { message: message() },
            Ending::Unreachable,
            Ending::Skipped,
        ];
        for class in [ErrorClass::Transient, ErrorClass::Blocked, ErrorClass::Operator, ErrorClass::Bug] {
            endings.push(Ending::Failed { message: message(), class });
        }
        endings
    }

    #[test]
    fn every_ending_survives_the_wire() {
        for ending in endings() {
            let outcome = Outcome {
                ending,
                duration: Duration::from_millis(1500),
                stdout_bytes: 1,
                stderr_bytes: 2,
                sha256: Some(Sha256Digest::new([9; 32])),
                changed: true,
            };
            assert_eq!(Outcome::try_from(&v1::JobOutcome::from(&outcome)), Ok(outcome));
        }
    }

    #[test]
    fn refuses_an_unspecified_result_and_half_a_digest() {
        assert_eq!(Outcome::try_from(&v1::JobOutcome::default()), Err(BadOutcome::Result(0)));
        let mut wire = v1::JobOutcome { sha256: Bytes::from_static(&[1; 31]), ..v1::JobOutcome::default() };
        wire.set_result(v1::JobResult::Exited);
        assert_eq!(Outcome::try_from(&wire), Err(BadOutcome::Digest(NotADigest)));
    }
}
