// SPDX-License-Identifier: Apache-2.0
//! How far a new machine has come.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a new machine has come. Stages are reached in this order; one may be passed over when news of it is lost, but
/// none is returned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineStage {
    /// The provider has made it and switched it on.
    Created,
    /// Its console shows signs of life.
    Booting,
    /// cloud-init has begun.
    CloudInit,
    /// The agent's package is installed.
    AgentInstalled,
    /// Its agent has joined and has a certificate.
    Enrolled,
    /// Its agent is connected and everything it watches is well.
    Healthy,
}

impl MachineStage {
    /// Every stage, in order.
    pub const ALL: [Self; 6] =
        [Self::Created, Self::Booting, Self::CloudInit, Self::AgentInstalled, Self::Enrolled, Self::Healthy];

    /// Its text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Booting => "booting",
            Self::CloudInit => "cloud-init",
            Self::AgentInstalled => "agent-installed",
            Self::Enrolled => "enrolled",
            Self::Healthy => "healthy",
        }
    }

    /// The one that follows; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage > self)
    }
}

impl fmt::Display for MachineStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_to_the_last() {
        let walked: Vec<_> = std::iter::successors(Some(MachineStage::Created), |stage| stage.next()).collect();
        assert_eq!(walked, MachineStage::ALL);
    }

    #[test]
    fn a_stage_is_written_as_it_is_shown() {
        for stage in MachineStage::ALL {
            assert_eq!(serde_json::to_value(stage).expect("JSON"), stage.to_string());
        }
    }
}
