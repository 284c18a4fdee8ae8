// SPDX-License-Identifier: Apache-2.0
//! Boots of nodes: which boot a step ends, and what becomes of a kernel that was tried when the power fails in between.
//!
//! A step ends the boot in which its node was when it was first told, and not the one in which it was planned for: a node
//! that was started in between has not been rebooted after what the run has done on it.
//!
//! A node that comes back in its old kernel has tried the new one in vain, unless the run had to switch its machine on
//! meanwhile: then the kernel is tried once more. So it is when the node is started again before the new kernel is its
//! default, or right after, as GRUB may not know it yet. Where nobody here can tell that the power failed, a person decides,
//! and tries again.

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

use super::on_node::{Attempt, request_id};
use super::run::StepRecord;
use super::steps::StepFailure;
use super::stored::stored;
use super::{ActiveRun, Runs};

/// What it takes an agent to look at its kernel.
const LOOK: Duration = Duration::from_secs(10);

/// Events that are read at once.
const EVENTS: usize = 512;

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
        let known = run.progress().step(&planned.id);
        if !matches!(step, NodeStep::Boot { .. }) || known.ends_boot.is_some() {
            return Ok(());
        }
        for attempt in known.untold + 1..=known.attempt {
            let ordered = self.with.jobs.is_known(&request_id(&run.id(), &planned.id, attempt)).await;
            if ordered.map_err(|error| StepFailure::ours("look for the order", &error))? {
                // By a controller that did not note it: the one that was planned.
                return Ok(());
            }
        }
        let now = self.with.fleet.standing(node).and_then(|standing| standing.record.boot_id);
        if let Some(now) = now.and_then(|now| BootId::new(now).ok()) {
            let record = run.progress().change(&planned.id, |record| record.ends_boot = Some(now));
            let id = run.id();
            stored(run, || self.with.records.save_step(&id, &planned.id, &record)).await;
        }
        Ok(())
    }

    /// What an attempt came to, in view of what the power did.
    ///
    /// # Errors
    /// If it cannot be seen which kernel the node runs.
    pub(super) async fn in_view_of_power(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
        attempt: Attempt,
    ) -> Result<Attempt, StepFailure> {
        let failure = match (attempt, step) {
            (Attempt::Failed(failure), NodeStep::Boot { .. }) => failure,
            (Attempt::Failed(failure), NodeStep::ConfirmKernel { release })
                if trial_of(run, node, release).is_some() && self.runs_another(run, node, release).await? =>
            {
                failure
            }
            (Attempt::Ended(end), NodeStep::Boot { once: Some(release), .. }) => {
                if !self.runs_another(run, node, release).await? {
                    return Ok(Attempt::Ended(end));
                }
                let message = format!("{node} came back with kernel {release} and was started again without it");
                StepFailure::said(message, format!("see its console, then `windlass run retry {}`", run.id()))
            }
            (Attempt::Ended(end), NodeStep::ConfirmKernel { release }) => {
                if trial_of(run, node, release).is_none() || !self.runs_another(run, node, release).await? {
                    return Ok(Attempt::Ended(end));
                }
                // GRUB does not read a file system's journal: what was chosen right before the power failed it may not see.
                let message = format!("{node} has kernel {release} as its default and was started again without it");
                StepFailure::said(message, format!("see its console, then `windlass run retry {}`", run.id()))
            }
            (attempt, _) => return Ok(attempt),
        };
        let is_spoiled = self.was_switched_on(run, planned, node).await;
        Ok(if is_spoiled { Attempt::Again(failure) } else { Attempt::Failed(failure) })
    }

    /// Before a kernel is confirmed once more it is tried once more, if the node runs another one by now.
    ///
    /// # Errors
    /// If it does not come to that.
    pub(super) async fn trial_first(
        &self,
        run: &Arc<ActiveRun>,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<(), StepFailure> {
        let NodeStep::ConfirmKernel { release } = step else { return Ok(()) };
        let is_again = run.progress().step(&planned.id).attempt > 1;
        let Some(trial) = trial_of(run, node, release).filter(|_| is_again) else { return Ok(()) };
        if self.runs_another(run, node, release).await? {
            run.progress().change(&planned.id, |record| record.begun = true);
            self.boot_again(run, &trial, node).await?;
        }
        Ok(())
    }

    /// Whether a node says that it runs another kernel than this.
    async fn runs_another(
        &self,
        run: &ActiveRun,
        node: &NodeName,
        release: &KernelRelease,
    ) -> Result<bool, StepFailure> {
        self.until_connected(run, node).await?;
        let _silent = self.with.fleet.refresh(std::slice::from_ref(node), LOOK).await;
        let Some(view) = self.with.fleet.view(node) else { return Ok(false) };
        let known = view.facts.get(&Subject::Kernel).map(|known| &known.fact);
        Ok(matches!(known, Some(Fact::Kernel(kernel)) if kernel.running != release.as_str()))
    }

    /// Whether the run switched the node's machine on since this step, or the run, was last tried again. That is read from
    /// the events: they are there also for the controller after this one.
    async fn was_switched_on(&self, run: &ActiveRun, planned: &PlannedStep, node: &NodeName) -> bool {
        self.with.events.flush().await;
        let (id, about) = (run.id(), format!("{} ", planned.id));
        let (mut after, mut is_so) = (run.record().first_event, false);
        loop {
            let page = self.with.events.read(after, EVENTS).await.unwrap_or_default();
            let Some(last) = page.last() else { return is_so };
            after = last.cursor;
            for event in page.iter().filter(|event| event.run.as_ref() == Some(&id)) {
                match event.kind {
                    EventKind::MachinePower if event.node.as_ref() == Some(node) => is_so = true,
                    EventKind::RunRetried => is_so = false,
                    EventKind::StepRetried if event.message.starts_with(&about) => is_so = false,
                    _ => {}
                }
            }
        }
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
            if run.stop.is_cancelled() {
                return Err(StepFailure::Stopped);
            }
            let message = format!("{} is done again: {node} was started without that kernel since", trial.id);
            self.tell(run, EventKind::StepRetried, &trial.id, message);
            run.progress().change(&trial.id, |record| record.begun = true);
            self.next_attempt(run, trial).await?;
            self.until_done(run, trial, node, step).await?;
            run.progress().change(&trial.id, |record| {
                record.message.clear();
                record.advice.clear();
            });
            Ok(())
        }
        .boxed()
    }
}

/// The step of a run in which a node tried a kernel.
fn trial_of(run: &ActiveRun, node: &NodeName, release: &KernelRelease) -> Option<PlannedStep> {
    let progress = run.progress();
    let mut trials = progress.records_of(node).filter(|(planned, record)| {
        let is_trial = |step: &NodeStep| matches!(step, NodeStep::Boot { once: Some(once), .. } if once == release);
        let is_its = matches!(&planned.step, Step::OnNode { node: of, step } if of == node && is_trial(step));
        is_its && record.state == StepState::Done && record.attempt > 0
    });
    trials.next().map(|(planned, _)| planned.clone())
}
