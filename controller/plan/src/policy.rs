// SPDX-License-Identifier: Apache-2.0
//! The rules a plan and its run keep.

use serde::{Deserialize, Serialize};

use crate::window::Window;

/// More machines that boot at once wait for the host's disk rather than for each other.
const DEFAULT_PARALLEL: u32 = 10;

/// One: whatever else is known of a site, it can do without one node or it could not be worked on at all.
const DEFAULT_MAX_UNAVAILABLE: u32 = 1;

/// The rules a plan and its run keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Steps under way at once.
    pub parallel: u32,
    /// Nodes that may be down, or about to be, at once: those that are down anyway count too.
    pub max_unavailable: u32,
    /// When nodes may go down; `None` for any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// What becomes of the others when a node fails.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What becomes of nodes that cannot be asked.
    #[serde(default)]
    pub unreachable: Unreachable,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel: DEFAULT_PARALLEL,
            max_unavailable: DEFAULT_MAX_UNAVAILABLE,
            window: None,
            on_failure: OnFailure::default(),
            unreachable: Unreachable::default(),
        }
    }
}

/// What becomes of the others when a node fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OnFailure {
    /// Nothing new is begun, and the run ends.
    #[default]
    Stop,
    /// Nothing new is begun until somebody resumes the run.
    Pause,
    /// They go on.
    Continue {
        /// Nodes that may fail before it stops all the same.
        most: u32,
    },
}

/// What becomes of nodes that cannot be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unreachable {
    /// Their turn comes when they are back.
    #[default]
    Wait,
    /// They are left out, and named.
    Skip,
    /// Nothing is done on any node.
    Fail,
}
