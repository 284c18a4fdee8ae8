// SPDX-License-Identifier: Apache-2.0
//! How a call is refused: a gRPC code, a stable reason a program can match, the cause in words, and what to do about it.
//!
//! Travels as a [`tonic::Status`] whose details carry `google.rpc.ErrorInfo` with domain [`DOMAIN`]. Reasons are a closed
//! set because they are also metric labels; a reason this version does not know is read as [`Reason::Other`].

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of our reasons in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "windlass";

const ADVICE: &str = "advice";

/// Longest message or advice on the wire, characters. They travel in headers, whose size the other side limits, and a
/// message may quote what the caller sent.
const LONGEST_TEXT: usize = 1000;

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $code:ident;)*) => {
        /// Why a call is refused. The text is stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The gRPC code it travels under.
            #[must_use]
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// A field is missing or wrong.
    BadRequest = "BAD_REQUEST", InvalidArgument;
    /// The named thing does not exist.
    NotFound = "NOT_FOUND", NotFound;
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists;
    /// The caller has no identity, or one that is not trusted (any more).
    NotTrusted = "NOT_TRUSTED", Unauthenticated;
    /// The caller's role does not allow the call.
    NotPermitted = "NOT_PERMITTED", PermissionDenied;
    /// The join was refused. Deliberately one reason for every cause: the audit log has the particular one.
    JoinRefused = "JOIN_REFUSED", PermissionDenied;
    /// Too many attempts; try later.
    RateLimited = "RATE_LIMITED", ResourceExhausted;
    /// A limit of size or number was reached.
    LimitReached = "LIMIT_REACHED", ResourceExhausted;
    /// The controller was restored and waits for its new epoch to be confirmed.
    ReadOnly = "READ_ONLY", FailedPrecondition;
    /// Switched off in the configuration.
    SwitchedOff = "SWITCHED_OFF", FailedPrecondition;
    /// A safety check says no.
    Unsafe = "UNSAFE", FailedPrecondition;
    /// Somebody's run is under way on the same cluster.
    RunInProgress = "RUN_IN_PROGRESS", FailedPrecondition;
    /// The world is not as it was when the plan was made.
    WorldChanged = "WORLD_CHANGED", FailedPrecondition;
    /// The audit log cannot be written, so nothing may change.
    AuditUnavailable = "AUDIT_UNAVAILABLE", Unavailable;
    /// The state database cannot be used.
    StateUnavailable = "STATE_UNAVAILABLE", Unavailable;
    /// The disk is full.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// The controller is ending.
    ShuttingDown = "SHUTTING_DOWN", Unavailable;
    /// Anything else.
    Other = "OTHER", Internal;
}

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for programs.
    pub reason: Reason,
    /// What failed and why, for people.
    pub message: String,
    /// What to do about it; may be empty.
    pub advice: String,
}

impl Refusal {
    /// A refusal without advice.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), advice: String::new() }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Reads a status; one that is not ours becomes [`Reason::Other`] with the status's own words.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let reason = info.and_then(|info| Reason::ALL.iter().find(|reason| reason.as_str() == info.reason));
        let advice = info.and_then(|info| info.metadata.get(ADVICE)).cloned().unwrap_or_default();
        Self { reason: reason.copied().unwrap_or(Reason::Other), message: status.message().to_owned(), advice }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = HashMap::new();
        if !refusal.advice.is_empty() {
            metadata.insert(ADVICE.to_owned(), shortened(refusal.advice));
        }
        let details = ErrorDetails::with_error_info(refusal.reason.as_str(), DOMAIN, metadata);
        Self::with_error_details(refusal.reason.code(), shortened(refusal.message), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_wire() {
        let refusal =
            Refusal::new(Reason::ReadOnly, "the controller is read-only").advise("run `windlass restore --confirm`");
        assert_eq!(Refusal::from_status(&Status::from(refusal.clone())), refusal);
    }

    #[test]
    fn a_message_that_quotes_a_long_text_still_fits_into_a_header() {
        let status = Status::from(Refusal::new(Reason::BadRequest, "ü".repeat(100_000)));
        assert!(status.message().len() <= 4 * LONGEST_TEXT && status.message().ends_with('…'));
        assert_eq!(Refusal::from_status(&status).reason, Reason::BadRequest);
    }

    #[test]
    fn a_foreign_status_keeps_its_words() {
        let refusal = Refusal::from_status(&Status::unavailable("tcp connect error"));
        assert_eq!((refusal.reason, refusal.message.as_str()), (Reason::Other, "tcp connect error"));
    }
}
