// SPDX-License-Identifier: Apache-2.0
//! What is known of a step.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_types::machine::MachineStage;
use windlass_types::name::JobId;
use windlass_types::name::on_node::BootId;
use windlass_types::run::StepState;
use windlass_types::time::UnixMillis;

/// What is known of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Where it stands.
    pub state: StepState,
    /// When its machine reached each stage, as far as that was seen.
    pub reached: BTreeMap<MachineStage, UnixMillis>,
    /// When it began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// How long it takes, milliseconds, as learned.
    pub expected_millis: u64,
    /// Until the next stage is reached from the beginning, milliseconds, as learned.
    pub expected_stage_millis: u64,
    /// How often its node was told to do it. Stored before the node is told, so that no order is given twice.
    pub attempt: u32,
    /// The job of the last time.
    pub job: Option<JobId>,
    /// An attempt that failed may have changed a part of it.
    pub begun: bool,
    /// Its node saw, the last time, that it cannot be done, before it changed anything.
    pub blocked: bool,
    /// The boot of its node that it ends: the one in which the node was when it was first told. Stored before that.
    pub ends_boot: Option<BootId>,
    /// It was so already: nothing had to be changed.
    pub was_done: bool,
    /// Why it failed, what troubles it, or what it waits for.
    pub message: String,
    /// What to do about that.
    pub advice: String,
    /// The end of the machine's console, if it failed.
    pub console_tail: String,
}

impl StepRecord {
    /// How far its machine has come.
    #[must_use]
    pub fn stage(&self) -> Option<MachineStage> {
        self.reached.last_key_value().map(|(stage, _)| *stage)
    }

    /// What remains when it is tried again: how often it was, for the next order is a new one, whether something of it may
    /// be done, and which boot it ends.
    #[must_use]
    pub fn again(&self) -> Self {
        let attempt = if self.attempt == 0 { 0 } else { self.attempt + 1 };
        let (begun, expected_millis, ends_boot) = (self.begun, self.expected_millis, self.ends_boot.clone());
        Self { attempt, begun, expected_millis, ends_boot, ..Self::default() }
    }
}
