// SPDX-License-Identifier: Apache-2.0
//! Boots of nodes: which boot a step ends, and what becomes of a kernel that was tried when the power fails in between.
//!
//! A step ends the boot in which its node was when it was first told, and not the one in which it was planned for: a node
//! that was started in between has not been rebooted after what the run has done on it.
//!
//! A node that comes back in its old kernel has tried the new one in vain, unless its machine lost its power meanwhile:
//! then it is tried once more. One that is started again before the new kernel is its default runs the old one too, and
//! tries again likewise.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use windlass_plan::{PlannedStep, Step};
use windlass_types::event::EventKind;
use windlass_types::facts::{Fact, Subject};
use windlass_types::name::NodeName;
use windlass_types::name::on_node::{BootId, KernelRelease};
use windlass_types::node_step::NodeStep;
use windlass_types::run::StepState;

use super::on_node::Attempt;
use super::run::StepRecord;
use super::steps::StepFailure;
use super::stored::stored;
use super::{ActiveRun, Runs};

/// What it takes an agent to look at its kernel.
const LOOK: Duration = Duration::from_secs(10);

/// The boot that a step ends, if it is a reboot.
pub(super) fn boot_to_end(step: &NodeStep, known: &StepRecord) -> Option<BootId> {
    match step {
        NodeStep::Boot { boot_id, .. } => Some(known.ends_boot.clone().unwrap_or_else(|| boot_id.clone())),
        _ => None,
    }
}

/// The step as its node is told it.
pub(super) fn ordered(step: &NodeStep, known: &StepRecord) -> NodeStep {
    let mut step = step.clone();
    match &mut step {
        NodeStep::ApplySetting { begun, .. } => *begun = known.begun,
        NodeStep::Boot { boot_id, .. } => *boot_id = known.ends_boot.clone().unwrap_or_else(|| boot_id.clone()),
        _ => {}
    }
    step
}

impl Runs {
    /// Notes which boot a reboot ends, before its node is told for the first time.
    pub(super) async fn bind_boot(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<(), StepFailure> {
        let is_bound = run.progress().step(&planned.id).ends_boot.is_some();
        if !matches!(step, NodeStep::Boot { .. }) || is_bound || self.was_ordered(run, planned).await? {
            return Ok(());
        }
        let now = self.with.fleet.standing(node).and_then(|standing| standing.record.boot_id);
        if let Some(now) = now.and_then(|now| BootId::new(now).ok()) {
            let record = run.progress().change(&planned.id, |record| record.ends_boot = Some(now));
            let id = run.id();
            stored(run, || self.with.records.save_step(&id, &planned.id, &record)).await;
        }
        Ok(())
    }

    /// A machine that was at work lost its power: what its reboot came to says nothing about a kernel.
    pub(super) async fn lost_power(&self, run: &ActiveRun, node: &NodeName) {
        let boots: Vec<_> = {
            let progress = run.progress();
            let boots = progress.records().filter(|(planned, record)| {
                let is_boot = |step: &NodeStep| matches!(step, NodeStep::Boot { .. });
                let is_its = matches!(&planned.step, Step::OnNode { node: of, step } if of == node && is_boot(step));
                is_its && record.state == StepState::Running
            });
            boots.map(|(planned, _)| planned.id.clone()).collect()
        };
        let run_id = run.id();
        for id in boots {
            let record = run.progress().change(&id, |record| record.lost_power = true);
            stored(run, || self.with.records.save_step(&run_id, &id, &record)).await;
        }
    }

    /// What an attempt came to, in view of what the power did.
    ///
    /// # Errors
    /// If a kernel that is to be tried again does not come to that.
    pub(super) async fn in_view_of_power(
        &self,
        run: &Arc<ActiveRun>,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
        attempt: Attempt,
    ) -> Result<Attempt, StepFailure> {
        Ok(match (attempt, step) {
            (Attempt::Failed(failure), NodeStep::Boot { .. }) if run.progress().step(&planned.id).lost_power => {
                Attempt::Again(failure)
            }
            (Attempt::Ended(_), NodeStep::Boot { once: Some(release), .. })
                if self.runs_another(node, release).await =>
            {
                let message = format!("{node} was started once more, without kernel {release}");
                Attempt::Again(StepFailure::said(message, "it is tried again"))
            }
            (Attempt::Failed(failure), NodeStep::ConfirmKernel { release })
                if self.runs_another(node, release).await =>
            {
                match trial_of(run, node, release) {
                    Some(trial) => {
                        self.boot_again(run, &trial, node).await?;
                        Attempt::Again(failure)
                    }
                    None => Attempt::Failed(failure),
                }
            }
            (attempt, _) => attempt,
        })
    }

    /// Whether a node says that it runs another kernel than this.
    async fn runs_another(&self, node: &NodeName, release: &KernelRelease) -> bool {
        let _silent = self.with.fleet.refresh(std::slice::from_ref(node), LOOK).await;
        let Some(view) = self.with.fleet.view(node) else { return false };
        let known = view.facts.get(&Subject::Kernel).map(|known| &known.fact);
        matches!(known, Some(Fact::Kernel(kernel)) if kernel.running != release.as_str())
    }

    /// Has a node start a kernel once more that it has tried already.
    fn boot_again<'a>(
        &'a self,
        run: &'a Arc<ActiveRun>,
        trial: &'a PlannedStep,
        node: &'a NodeName,
    ) -> BoxFuture<'a, Result<(), StepFailure>> {
        async move {
            let Step::OnNode { step, .. } = &trial.step else { return Ok(()) };
            let message = format!("{} is done again: {node} was started without that kernel since", trial.id);
            self.tell(run, EventKind::StepRetried, &trial.id, message);
            self.next_attempt(run, trial).await?;
            self.until_done(run, trial, node, step).await.map(drop)
        }
        .boxed()
    }
}

/// The step of a run in which a node tried a kernel.
fn trial_of(run: &ActiveRun, node: &NodeName, release: &KernelRelease) -> Option<PlannedStep> {
    let progress = run.progress();
    let mut trials = progress.records().filter(|(planned, record)| {
        let is_trial = |step: &NodeStep| matches!(step, NodeStep::Boot { once: Some(once), .. } if once == release);
        let is_its = matches!(&planned.step, Step::OnNode { node: of, step } if of == node && is_trial(step));
        is_its && record.state == StepState::Done && record.attempt > 0
    });
    trials.next().map(|(planned, _)| planned.clone())
}
