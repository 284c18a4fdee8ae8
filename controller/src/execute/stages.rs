// SPDX-License-Identifier: Apache-2.0
//! The stages that a machine reaches: kept with its step, told, and shown with what is expected next.

use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::machine::MachineStage;
use windlass_types::run::StepState;

use super::Runs;
use super::steps::Hand;
use super::times::Times;

impl Runs {
    /// A stage was reached, and the next is waited for.
    pub(super) async fn advance(&self, hand: &Hand<'_>, expected: &Times, stage: MachineStage) {
        let next = stage.next().map_or(0, |next| expected.until(next));
        hand.run.progress().change(hand.id, |record| {
            if record.stage().is_none_or(|reached| reached < stage) {
                record.expected_stage_millis = next;
            }
        });
        self.reached(hand, stage).await;
    }

    /// Keeps and tells that a stage was reached, unless it or a later one was before.
    pub(super) async fn reached(&self, hand: &Hand<'_>, stage: MachineStage) {
        let now = self.with.clock.now();
        let mut is_new = false;
        let record = hand.run.progress().change(hand.id, |record| {
            is_new = record.stage().is_none_or(|reached| reached < stage) && record.state == StepState::Running;
            if is_new {
                record.reached.insert(stage, now);
                record.message.clear();
                record.advice.clear();
            }
        });
        if !is_new {
            return;
        }
        // News, on which no step depends: a store that cannot be written stops the run when this step ends.
        if let Err(error) = self.with.records.save_step(&hand.run.id(), hand.id, &record).await {
            tracing::warn!(NODE = %hand.key.name, %stage, error = %ErrorChain(&error), "a stage cannot be kept");
        }
        let after = record.started_at.map_or(0, |began| now.since(began).as_secs());
        let message = format!("{}: {stage} after {after} s", hand.key.name);
        self.tell(hand.run, EventKind::MachineStage, hand.id, message);
        hand.run.signal();
    }
}
