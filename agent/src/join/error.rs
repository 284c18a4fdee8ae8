// SPDX-License-Identifier: Apache-2.0
//! Why a machine is not a node yet, what to do about it, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use tonic::Code;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::name::NodeName;

use crate::dial::ConnectError;
use crate::dial::verify::TlsSetupError;
use crate::executor::mandate::MandateError;
use crate::identity::IdentityError;

/// Why a machine is not a node yet.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token file cannot be read.
    #[error("read the token file {}", path.display())]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no token.
    #[error("{} holds no token: it should be one line, as printed by `windlass token create`", path.display())]
    NotAToken {
        /// Which.
        path: PathBuf,
    },
    /// This machine belongs to another controller.
    #[error(
        "this machine is already node {node} of the controller that it joined at {endpoint}: to move it, stop \
         windlass-agent, remove {}, and join again with a new token", state_dir.display()
    )]
    OtherController {
        /// Its name there.
        node: NodeName,
        /// Where it joined.
        endpoint: String,
        /// What to remove.
        state_dir: PathBuf,
    },
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer came.
    #[error("the controller took the request but did not answer in time")]
    NoAnswer,
    /// The controller says no.
    #[error("{}{}", Escaped(&refusal.message), advice(refusal))]
    Refused {
        /// In its words.
        refusal: Refusal,
    },
    /// The controller cannot answer now.
    #[error("the controller cannot answer now: {}{}", Escaped(&refusal.message), advice(refusal))]
    NotNow {
        /// In its words.
        refusal: Refusal,
    },
    /// The identity cannot be kept or is damaged.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It cannot be kept whose orders are obeyed.
    #[error(transparent)]
    Mandate(#[from] MandateError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

fn advice(refusal: &Refusal) -> String {
    match (refusal.reason, refusal.advice.as_str()) {
        (Reason::JoinRefused, "") => "; tokens work once, for a short time, and for one node: make a new one on the \
                                      controller with `windlass token create NODE`; its audit log has the cause"
            .to_owned(),
        (_, "") => String::new(),
        (_, advice) => format!("; {}", Escaped(advice)),
    }
}

impl JoinError {
    /// Sorts an answer into "no" and "not now".
    #[must_use]
    pub fn refused(status: &tonic::Status) -> Self {
        let refusal = Refusal::from_status(status);
        let not_now = refusal.reason == Reason::RateLimited
            || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown);
        if not_now { Self::NotNow { refusal } } else { Self::Refused { refusal } }
    }

    /// Whether trying again soon may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NoAnswer
                | Self::NotNow { .. }
                | Self::Connect(ConnectError::Unreachable(_) | ConnectError::TimedOut | ConnectError::Http(_))
        )
    }

    /// The exit code, after sysexits.h: 69 nobody answers, 77 refused, 78 something here must be changed, 1 otherwise.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NoAnswer | Self::NotNow { .. } => 69,
            Self::Connect(error) => match error {
                ConnectError::Unreachable(_) | ConnectError::TimedOut | ConnectError::Http(_) => 69,
                ConnectError::WrongPin(_)
                | ConnectError::NotVerified(_)
                | ConnectError::Refused(_)
                | ConnectError::Handshake(_) => 77,
                ConnectError::Clock { .. } | ConnectError::AsksForCertificate | ConnectError::NotTls(_) => 78,
            },
            Self::Refused { .. } => 77,
            Self::TokenFile { .. } | Self::NotAToken { .. } | Self::OtherController { .. } | Self::Mandate(_) => 78,
            Self::Identity(
                IdentityError::Write { .. } | IdentityError::Read { .. } | IdentityError::Damaged { .. },
            ) => 78,
            Self::Identity(_) | Self::Tls(_) => 1,
        }
    }

    /// The error and its causes on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        ErrorChain(self).to_string()
    }
}
