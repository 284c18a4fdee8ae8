// SPDX-License-Identifier: Apache-2.0
//! A step that a node does itself: ordered as a job, whose end is the step's end.
//!
//! The order has an id made of run, step and attempt, and the attempt is stored before the order leaves: a controller that
//! was killed in between finds the same job again, and the node is told once. What may pass by itself is tried again, a few
//! times; each time is a new order, and the node looks first.

use std::sync::Arc;
use std::time::Duration;

use windlass_plan::{PlannedStep, StepId};
use windlass_types::action::Action;
use windlass_types::event::EventKind;
use windlass_types::name::{JobId, NodeName};
use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::outcome::{Ending, ErrorClass, Outcome};
use windlass_types::setting::Setting;

use super::as_planned::Comparison;
use super::boots::{boot_to_end, ordered};
use super::steps::{StepEnd, StepFailure};
use super::stored::stored;
use super::{ActiveRun, Runs};
use crate::jobs::NewJob;
use crate::survey;

/// How often what may pass by itself is tried in all.
const MOST_TRIES: u32 = 3;

/// Before it is tried again: locks of package managers are held for seconds, mirrors are away for a minute.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

/// A hook is given its time and this to begin.
const HOOK_MARGIN: Duration = Duration::from_secs(10);

/// What an attempt came to.
pub(super) enum Attempt {
    Ended(StepEnd),
    Failed(StepFailure),
    /// It may work another time.
    Again(StepFailure),
    /// The node was not there: it is told again when it is.
    Away,
}

impl Runs {
    /// Has a node do a step.
    ///
    /// # Errors
    /// Why it did not end well.
    pub(super) async fn on_node(
        &self,
        run: &Arc<ActiveRun>,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<StepEnd, StepFailure> {
        let ended = self.until_done(run, planned, node, step).await;
        if ended.is_err() && !self.was_ordered(run, planned).await? {
            // The node was told nothing: it is as it was, and need not be held.
            run.progress().change(&planned.id, |record| (record.attempt, record.ends_boot) = (record.untold, None));
        }
        ended
    }

    pub(super) async fn until_done(
        &self,
        run: &Arc<ActiveRun>,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<StepEnd, StepFailure> {
        if self.compare(run, planned, node).await? == Comparison::WasDone {
            return Ok(StepEnd::WasDone);
        }
        let mut tries = 0;
        // A node that was told already, by a former process, is given as long to report as it was given then.
        let mut is_told = self.is_ordered(run, planned).await?;
        loop {
            if !std::mem::take(&mut is_told) {
                self.until_connected(run, node).await?;
                self.require_ability(run, node)?;
                if matches!(step, NodeStep::ConfirmKernel { .. }) {
                    // Also where the kernel was booted before this run: on a node that is ill with it, it stays on trial.
                    self.until_well(run, node, None).await?;
                }
                self.bind_boot(run, planned, node, step).await?;
                self.trial_first(run, planned, node, step).await?;
            }
            let outcome = self.order(run, planned, node, step).await?;
            let attempt = self.attempt(run, node, &outcome);
            if matches!(attempt, Attempt::Ended(_)) {
                self.prove(run, planned, node, step).await?;
            }
            match self.in_view_of_power(run, planned, node, step, attempt).await? {
                Attempt::Ended(end) => return Ok(end),
                Attempt::Failed(failure) => return Err(self.with_console(run, planned, node, step, failure).await),
                Attempt::Away => {}
                Attempt::Again(failure) => {
                    let Some(pause) = PAUSES.get(tries as usize).filter(|_| tries + 1 < MOST_TRIES) else {
                        return Err(failure);
                    };
                    tries += 1;
                    self.rest(run, planned, failure, *pause).await?;
                }
            }
            self.next_attempt(run, planned).await?;
        }
    }

    fn require_ability(&self, run: &ActiveRun, node: &NodeName) -> Result<(), StepFailure> {
        // One that is gone again by now is waited for by whoever orders.
        let view = self.with.fleet.view(node).filter(|view| view.session.is_some());
        match view.as_ref().and_then(survey::incapable) {
            Some(why) => {
                Err(StepFailure::said(format!("{node}: {why}"), format!("then `windlass run retry {}`", run.id())))
            }
            None => Ok(()),
        }
    }

    async fn order(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<Outcome, StepFailure> {
        let failed = |refusal: windlass_proto::refusal::Refusal| StepFailure::said(refusal.message, refusal.advice);
        let id = run.id();
        let lease = self.require_lease(run, planned, node)?;
        let known = run.progress().step(&planned.id);
        let (attempt, step_ordered) = (known.attempt, ordered(step, &known));
        let order = StepOrder { run: Some(id.clone()), id: planned.id.to_string(), step: step_ordered, lease };
        let job = NewJob {
            request_id: request_id(&id, &planned.id, attempt),
            action: Action::Step(Box::new(order)),
            nodes: vec![node.clone()],
            batch: 0,
            max_failures: None,
            timeout: longest(step),
            created_by: format!("run {id}"),
        };
        let job = self.with.jobs.create(job).await.map_err(failed)?;
        run.progress().change(&planned.id, |record| record.job = Some(job.id.clone()));
        run.signal();
        let boots = matches!(step, NodeStep::Boot { .. });
        let answers = tokio::select! {
            answers = self.with.jobs.answers(&job.id, None) => answers.map_err(failed)?,
            gone = self.stays_away(run, node), if boots => return Err(self.given_up(run, &planned.id, &job.id, gone).await),
            gone = self.attended(run, &planned.id, node), if !boots => return Err(self.given_up(run, &planned.id, &job.id, gone).await),
        };
        match answers.into_iter().find(|(name, _)| name == node) {
            Some((_, answer)) => {
                let begun = may_have_begun(&answer.outcome.ending);
                let blocked = matches!(answer.outcome.ending, Ending::Failed { class: ErrorClass::Blocked, .. });
                run.progress().change(&planned.id, |record| {
                    record.begun |= begun;
                    record.blocked = blocked;
                    if never_began(&answer.outcome.ending) {
                        record.note_untold();
                    } else {
                        record.told = true;
                    }
                });
                Ok(answer.outcome)
            }
            None => {
                let message = format!("job {} ended without {node}", job.id);
                Err(StepFailure::said(message, format!("`windlass run retry {id}`")))
            }
        }
    }

    /// An order that nobody waits for any more. A node that has it reports when it comes back, and the next order finds that
    /// done; one that has not is never told: by then another node may be down.
    async fn given_up(&self, run: &ActiveRun, step: &StepId, job: &JobId, gone: StepFailure) -> StepFailure {
        stored(run, || self.with.jobs.withdraw(|record| record.id == *job)).await;
        run.progress().change(step, |record| record.begun = true);
        gone
    }

    fn attempt(&self, run: &ActiveRun, node: &NodeName, outcome: &Outcome) -> Attempt {
        let id = run.id();
        let again = format!("mend that on {node}, then `windlass run retry {id}`");
        let said = |message: String| StepFailure::said(message, again.clone());
        match &outcome.ending {
            Ending::Exited { code: 0 } if outcome.changed => Attempt::Ended(StepEnd::Done),
            Ending::Exited { code: 0 } => Attempt::Ended(StepEnd::WasDone),
            Ending::Failed { message, class: ErrorClass::Transient } => Attempt::Again(said(message.clone())),
            Ending::Failed { message, class: ErrorClass::Blocked } => {
                let advice = format!(
                    "make a new plan for {node}: this run cannot go on there; if it still holds {node}, first windlass node \
                     release {node} --reason TEXT"
                );
                Attempt::Failed(StepFailure::said(message.clone(), advice))
            }
            Ending::Failed { message, class: ErrorClass::Bug } => {
                let advice = "this is a mistake in Windlass: please report it with `windlass support`";
                Attempt::Failed(StepFailure::said(message.clone(), advice))
            }
            Ending::Failed { message, class: ErrorClass::Operator } => Attempt::Failed(said(message.clone())),
            Ending::Unknown { message } => Attempt::Again(said(format!("its outcome is not known: {message}"))),
            Ending::Unreachable => Attempt::Away,
            ending @ (Ending::Exited { .. }
            | Ending::Signaled { .. }
            | Ending::TimedOut
            | Ending::Stopped
            | Ending::Refused { .. }
            | Ending::Skipped) => Attempt::Failed(said(ending.to_string())),
        }
    }

    /// A kernel that did not stay has said why on the console, in the boot before this one.
    async fn with_console(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
        failure: StepFailure,
    ) -> StepFailure {
        let ended = boot_to_end(step, &run.progress().step(&planned.id));
        let now = self.with.fleet.standing(node).and_then(|standing| standing.record.boot_id);
        let is_over = ended.is_some_and(|ended| now.is_some_and(|now| now != ended.as_str()));
        match (step, failure) {
            (NodeStep::Boot { once: Some(_), .. }, StepFailure::Said { message, .. }) if is_over => StepFailure::Said {
                message,
                advice: format!(
                    "see its console; to try it once more: `windlass run retry {}`; to give it up: `windlass node release \
                     {node} --reason TEXT`, then plan with another kernel",
                    run.id()
                ),
                console_tail: self.console_of_boot_before(node).await,
            },
            (_, failure) => failure,
        }
    }

    /// Whether the node is as it should be after it. After a boot that is another boot, and a node that is well; after the
    /// last step for which it could be taken down, a node that is well.
    async fn prove(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
        step: &NodeStep,
    ) -> Result<(), StepFailure> {
        let known = run.progress().step(&planned.id);
        if let Some(ended) = boot_to_end(step, &known) {
            return self.until_well(run, node, Some(&ended)).await;
        }
        let is_last = {
            let progress = run.progress();
            let mut leased = progress.records_of(node).filter(|(other, _)| other.lease);
            leased.next_back().is_some_and(|(last, _)| last.id == planned.id)
        };
        if is_last { self.until_well(run, node, None).await } else { Ok(()) }
    }

    async fn rest(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        failure: StepFailure,
        pause: Duration,
    ) -> Result<(), StepFailure> {
        let record = run.progress().change(&planned.id, |record| failure.write(record));
        let message = format!("{} is tried again in {} s: {}", planned.id, pause.as_secs(), record.message);
        self.tell(run, EventKind::StepRetried, &planned.id, message);
        run.signal();
        tokio::select! {
            () = run.stop.cancelled() => Err(StepFailure::Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Stored before the node is told again.
    pub(super) async fn next_attempt(&self, run: &ActiveRun, planned: &PlannedStep) -> Result<(), StepFailure> {
        let record = run.progress().change(&planned.id, |record| record.attempt += 1);
        let saved = self.with.records.save_step(&run.id(), &planned.id, &record).await;
        saved.map_err(|error| StepFailure::ours("record the next attempt", &error))
    }
}

/// The id of an order: the same as long as it is the same attempt.
pub(super) fn request_id(run: &windlass_types::name::RunId, step: &windlass_plan::StepId, attempt: u32) -> String {
    format!("{run}/{step}/{attempt}")
}

/// Whether the node did not even begin: it never had the order, or refused it.
const fn never_began(ending: &Ending) -> bool {
    matches!(ending, Ending::Unreachable | Ending::Skipped | Ending::Refused { .. })
}

/// Whether an attempt that ended so may have changed something and not all.
const fn may_have_begun(ending: &Ending) -> bool {
    match ending {
        // A node that is not as planned is seen before anything is changed.
        Ending::Failed { class: ErrorClass::Blocked, .. }
        | Ending::Exited { code: 0 }
        | Ending::Refused { .. }
        | Ending::Unreachable
        | Ending::Skipped => false,
        Ending::Failed { .. }
        | Ending::Exited { .. }
        | Ending::Signaled { .. }
        | Ending::TimedOut
        | Ending::Stopped
        | Ending::Unknown { .. } => true,
    }
}

/// What a node may take for a step. Long enough for slow disks and mirrors: a step that is cut off has to be mended.
fn longest(step: &NodeStep) -> Duration {
    match step {
        NodeStep::Survey(_) => Duration::from_secs(300),
        // What is in swap has to be read back.
        NodeStep::ApplySetting { setting, .. } if **setting == Setting::SwapOff => Duration::from_secs(1200),
        NodeStep::ApplySetting { .. } => Duration::from_secs(300),
        NodeStep::RepairPackages | NodeStep::ChangePackages(_) => Duration::from_secs(2 * 3600),
        NodeStep::InstallKernel { .. } | NodeStep::PruneKernels { .. } => Duration::from_secs(3600),
        NodeStep::Boot { .. } => Duration::from_secs(1800),
        NodeStep::ConfirmKernel { .. } => Duration::from_secs(300),
        NodeStep::RestartServices { .. } => Duration::from_secs(900),
        NodeStep::Hook { timeout_millis, .. } => {
            Duration::from_millis(timeout_millis.saturating_add(HOOK_MARGIN.as_millis() as u64))
        }
    }
}
