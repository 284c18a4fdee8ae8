// SPDX-License-Identifier: Apache-2.0
//! Small enums to the wire.

use windlass_types::condition::ConditionKind;
use windlass_types::event::Severity;
use windlass_types::job::JobState;

use crate::v1;

impl From<JobState> for v1::JobState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Running => Self::Running,
            JobState::Succeeded => Self::Succeeded,
            JobState::Failed => Self::Failed,
            JobState::Stopped => Self::Stopped,
        }
    }
}

impl From<Severity> for v1::Severity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Info,
            Severity::Warning => Self::Warning,
            Severity::Alarm => Self::Alarm,
        }
    }
}

impl From<ConditionKind> for v1::ConditionKind {
    fn from(kind: ConditionKind) -> Self {
        match kind {
            ConditionKind::Connected => Self::Connected,
            ConditionKind::Healthy => Self::Healthy,
            ConditionKind::RebootNeeded => Self::RebootNeeded,
            ConditionKind::ClockSkewed => Self::ClockSkewed,
            ConditionKind::Revoked => Self::Revoked,
        }
    }
}
