// SPDX-License-Identifier: Apache-2.0
//! Why a step was not done, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use windlass_types::error_chain::ErrorChain;
use windlass_types::outcome::{Ending, ErrorClass};

use crate::host::tools::ToolError;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The node is not as it was when this was planned, or lacks something.
    #[error("{reason}: {advice}")]
    Blocked {
        /// What is in the way.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// It was tried, and may work another time.
    #[error("{reason}: {advice}")]
    Passing {
        /// What is wrong.
        reason: String,
        /// What to do if it does not pass.
        advice: String,
    },
    /// It was tried, and a person must look.
    #[error("{reason}: {advice}")]
    Operator {
        /// What is wrong.
        reason: String,
        /// What to do.
        advice: String,
    },
    /// The node does not obey this order.
    #[error("{0}")]
    Refused(String),
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file operation failed.
    #[error("{operation} {path:?}")]
    File {
        /// What was tried, as an infinitive.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A tool printed what we cannot read.
    #[error("read what `{program}` printed: {reason}")]
    Unreadable {
        /// Which.
        program: &'static str,
        /// Why.
        reason: String,
    },
}

impl StepError {
    /// The node is not as it was when this was planned, or lacks something.
    pub(crate) fn blocked(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Blocked { reason: reason.into(), advice: advice.into() }
    }

    /// It was tried, and a person must look.
    pub(crate) fn operator(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Operator { reason: reason.into(), advice: advice.into() }
    }

    /// The same, where something of the step was done before it was seen: then a new plan is not all that is needed.
    pub(super) fn once_begun(self) -> Self {
        let Self::Blocked { reason, .. } = self else { return self };
        Self::operator(reason, "a part of this was done before that was seen: look at the node")
    }

    /// It may pass by itself.
    pub(crate) fn passing(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), advice: advice.into() }
    }

    /// A file operation failed.
    pub(crate) fn file(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// What to do about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Blocked { .. } => ErrorClass::Blocked,
            Self::Operator { .. }
            | Self::Refused(_)
            | Self::File { .. }
            | Self::Unreadable { .. }
            | Self::Tool(ToolError::NotStarted { .. } | ToolError::NotKept { .. } | ToolError::Failed { .. }) => {
                ErrorClass::Operator
            }
            Self::Passing { .. }
            | Self::Tool(ToolError::Lost { .. } | ToolError::TimedOut { .. } | ToolError::Stopped) => {
                ErrorClass::Transient
            }
        }
    }

    /// As the controller is told.
    #[must_use]
    pub fn ending(&self) -> Ending {
        match self {
            Self::Tool(ToolError::Stopped) => Ending::Stopped,
            Self::Refused(message) => Ending::Refused { message: message.clone() },
            Self::Tool(_)
            | Self::Blocked { .. }
            | Self::Passing { .. }
            | Self::Operator { .. }
            | Self::File { .. }
            | Self::Unreadable { .. } => Ending::Failed { message: ErrorChain(self).to_string(), class: self.class() },
        }
    }
}
