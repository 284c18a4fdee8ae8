// SPDX-License-Identifier: Apache-2.0
//! A run: a plan that is being carried out, or was.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Steps are waiting or under way.
    Running,
    /// Every step ended well.
    Succeeded,
    /// At least one step did not.
    Failed,
    /// Somebody stopped it.
    Stopped,
    /// Steps are waiting until somebody lets it go on.
    Paused,
}

impl RunState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        })
    }
}

/// Where a step of a run stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// Its turn has not come.
    #[default]
    Waiting,
    /// It is under way.
    Running,
    /// It ended well.
    Done,
    /// It did not.
    Failed,
    /// One that it waits for did not end well.
    Skipped,
    /// The run was stopped before it was done.
    Stopped,
}

impl StepState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Stopped => "stopped",
        })
    }
}
