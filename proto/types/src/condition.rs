// SPDX-License-Identifier: Apache-2.0
//! What the controller concludes about a node. A change of a condition is an event.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// The kinds of condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionKind {
    /// The agent has a session.
    Connected,
    /// Connected, and everything it watches is well.
    Healthy,
    /// A reboot is pending.
    RebootNeeded,
    /// The node's clock is off by more than the limit.
    ClockSkewed,
    /// Its certificates are revoked.
    Revoked,
}

impl ConditionKind {
    /// Every kind, in the order they are shown.
    pub const ALL: [Self; 5] = [Self::Connected, Self::Healthy, Self::RebootNeeded, Self::ClockSkewed, Self::Revoked];
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Connected => "connected",
            Self::Healthy => "healthy",
            Self::RebootNeeded => "reboot-needed",
            Self::ClockSkewed => "clock-skewed",
            Self::Revoked => "revoked",
        })
    }
}

/// One condition of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub holds: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// Since when, by the controller's clock.
    pub since: UnixMillis,
}
