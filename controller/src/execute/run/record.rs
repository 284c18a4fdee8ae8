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
    /// How many orders, of the first ones, are known never to have reached its node. Of any other that is not known: its node
    /// may have been told.
    pub untold: u32,
    /// An order is known to have reached its node.
    pub told: bool,
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
        let attempt = if self.was_never_told() { self.attempt } else { self.attempt + 1 };
        let Self { untold, told, begun, expected_millis, .. } = *self;
        Self { attempt, untold, told, begun, expected_millis, ends_boot: self.ends_boot.clone(), ..Self::default() }
    }

    /// Whether its node is known never to have been told.
    #[must_use]
    pub const fn was_never_told(&self) -> bool {
        self.attempt == self.untold && !self.told
    }

    /// Whether its node was told, or may have been in an attempt before this one.
    #[must_use]
    pub const fn was_told_before(&self) -> bool {
        self.told || self.attempt > self.untold + 1
    }

    /// The order of this attempt has not reached its node, and never will.
    pub const fn note_untold(&mut self) {
        if !self.was_told_before() {
            self.untold = self.attempt;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(attempt: u32, untold: u32) -> StepRecord {
        StepRecord { attempt, untold, ..StepRecord::default() }
    }

    #[test]
    fn a_node_was_told_unless_every_order_is_known_not_to_have_reached_it() {
        let mut record = known(1, 0);
        assert!(!record.was_never_told() && !record.was_told_before(), "a controller killed now does not know");
        record.note_untold();
        assert!(record.was_never_told());
        record.attempt += 1;
        assert!(!record.was_never_told() && !record.was_told_before());
        record.attempt += 1;
        assert!(record.was_told_before(), "the second may have");
        record.note_untold();
        assert!(!record.was_never_told(), "whatever became of the third");
    }

    #[test]
    fn a_node_that_reported_was_told_whatever_is_kept_of_its_job() {
        let mut record = known(1, 0);
        record.told = true;
        record.note_untold();
        assert!(record.was_told_before() && !record.was_never_told());
        assert!(record.again().was_told_before(), "also when it is tried again");
    }

    #[test]
    fn what_was_never_told_is_no_further_attempt_when_it_is_tried_again() {
        assert_eq!([known(0, 0), known(1, 1), known(1, 0)].map(|record| record.again().attempt), [0, 1, 2]);
        assert!(known(1, 1).again().was_never_told());
    }

    #[test]
    fn of_what_was_stored_before_this_was_known_nothing_is_said() {
        let stored: StepRecord = serde_json::from_str(r#"{"state":"failed","attempt":2}"#).expect("a record");
        assert!(stored.was_told_before() && !stored.was_never_told());
    }
}
