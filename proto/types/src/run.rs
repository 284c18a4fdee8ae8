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

    /// Goes into another state; see `docs/states.md`.
    ///
    /// # Errors
    /// If no run comes from this one into that.
    pub const fn becomes(self, next: Self) -> Result<Self, InvalidTransition<Self>> {
        let is_possible = match self {
            Self::Running | Self::Paused => true,
            Self::Succeeded => matches!(next, Self::Succeeded),
            Self::Failed => matches!(next, Self::Failed | Self::Running),
            Self::Stopped => matches!(next, Self::Stopped | Self::Running),
        };
        if is_possible { Ok(next) } else { Err(InvalidTransition { from: self, to: next }) }
    }
}

/// A change that does not exist. Whoever asked for it is wrong about where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is {from} does not become {to}")]
pub struct InvalidTransition<T: fmt::Display> {
    /// Where it stands.
    pub from: T,
    /// Where it was to go.
    pub to: T,
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

    /// Goes into another state; see `docs/states.md`.
    ///
    /// # Errors
    /// If no step comes from this one into that.
    pub const fn becomes(self, next: Self) -> Result<Self, InvalidTransition<Self>> {
        let is_possible = match self {
            // A node that is not there at its turn fails, or is left out, without having been told anything.
            Self::Waiting => !matches!(next, Self::Done),
            // Another controller takes up what was under way.
            Self::Running => true,
            Self::Done => matches!(next, Self::Done),
            Self::Failed => matches!(next, Self::Failed | Self::Waiting),
            Self::Skipped => matches!(next, Self::Skipped | Self::Waiting),
            Self::Stopped => matches!(next, Self::Stopped | Self::Waiting),
        };
        if is_possible { Ok(next) } else { Err(InvalidTransition { from: self, to: next }) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_states_of_a_step_is_one_of_the_drawing_or_refused() {
        use StepState::{Done, Failed, Running, Skipped, Stopped, Waiting};
        let all = [Waiting, Running, Done, Failed, Skipped, Stopped];
        let drawn = |from, to| match (from, to) {
            (Waiting, Running | Failed | Skipped | Stopped)
            | (Running, Waiting | Done | Failed | Skipped | Stopped)
            | (Failed | Skipped | Stopped, Waiting) => true,
            (from, to) => from == to,
        };
        for (from, to) in all.into_iter().flat_map(|from| all.map(|to| (from, to))) {
            let expected = if drawn(from, to) { Ok(to) } else { Err(InvalidTransition { from, to }) };
            assert_eq!(from.becomes(to), expected);
        }
        assert_eq!(Done.becomes(Running).unwrap_err().to_string(), "what is done does not become running");
    }

    #[test]
    fn every_pair_of_states_of_a_run_is_one_of_the_drawing_or_refused() {
        use RunState::{Failed, Paused, Running, Stopped, Succeeded};
        let all = [Running, Succeeded, Failed, Stopped, Paused];
        let drawn = |from, to| match (from, to) {
            (Running | Paused, _) | (Failed | Stopped, Running) => true,
            (from, to) => from == to,
        };
        for (from, to) in all.into_iter().flat_map(|from| all.map(|to| (from, to))) {
            let expected = if drawn(from, to) { Ok(to) } else { Err(InvalidTransition { from, to }) };
            assert_eq!(from.becomes(to), expected);
        }
    }
}
