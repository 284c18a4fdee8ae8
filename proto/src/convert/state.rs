// SPDX-License-Identifier: Apache-2.0
//! Small enums to the wire.

use windlass_types::condition::ConditionKind;
use windlass_types::event::Severity;
use windlass_types::job::JobState;
use windlass_types::machine::{MachineStage, PowerState};
use windlass_types::run::{RunState, StepState};

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

impl From<RunState> for v1::RunState {
    fn from(state: RunState) -> Self {
        match state {
            RunState::Running => Self::Running,
            RunState::Succeeded => Self::Succeeded,
            RunState::Failed => Self::Failed,
            RunState::Stopped => Self::Stopped,
            RunState::Paused => Self::Paused,
        }
    }
}

impl From<StepState> for v1::StepState {
    fn from(state: StepState) -> Self {
        match state {
            StepState::Waiting => Self::Waiting,
            StepState::Running => Self::Running,
            StepState::Done => Self::Done,
            StepState::Failed => Self::Failed,
            StepState::Skipped => Self::Skipped,
            StepState::Stopped => Self::Stopped,
        }
    }
}

impl From<MachineStage> for v1::MachineStage {
    fn from(stage: MachineStage) -> Self {
        match stage {
            MachineStage::Created => Self::Created,
            MachineStage::Booting => Self::Booting,
            MachineStage::CloudInit => Self::CloudInit,
            MachineStage::AgentInstalled => Self::AgentInstalled,
            MachineStage::Enrolled => Self::Enrolled,
            MachineStage::Healthy => Self::Healthy,
        }
    }
}

impl From<PowerState> for v1::PowerState {
    fn from(state: PowerState) -> Self {
        match state {
            PowerState::On => Self::On,
            PowerState::Off => Self::Off,
            PowerState::Unknown => Self::Unknown,
        }
    }
}
