// SPDX-License-Identifier: Apache-2.0
//! What people tell a run: stop, pause, resume, retry.

use std::collections::BTreeSet;
use std::sync::Arc;

use windlass_plan::plan::SCHEMA;
use windlass_plan::{Plan, Policy};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::action::Action;
use windlass_types::event::EventKind;
use windlass_types::name::{NodeName, RunId};
use windlass_types::run::{RunState, StepState};

use super::record::RunRecord;
use super::run::{Progress, Told};
use super::{ActiveRun, RunView, Runs, refusal};
use crate::arbiter::Held;
use crate::store::StoreError;

impl Runs {
    /// Asks a run to stop: no further step begins, and waiting ends. What nodes are doing they bring to its end.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written.
    pub async fn stop(&self, id: &RunId, by: &str) -> Result<RunView, Refusal> {
        let Some(run) = self.find(id) else {
            if self.left().contains(id) {
                self.give_up(id, by).await?;
            }
            return self.view(id).await;
        };
        let recording = run.recording.lock().await;
        let stopping = RunRecord { stop_requested: true, paused: None, ..run.record().clone() };
        if stopping.state.is_final() {
            // That it has ended is being stored, and must not be written over.
            return Ok(self.seen(&run));
        }
        let stopping = RunRecord { state: RunState::Running, ..stopping };
        self.with.records.save(&stopping).await.map_err(|error| crate::join::store(&error))?;
        run.take_over(stopping);
        drop(recording);
        run.progress().tell(Told { stop: true, pause: None });
        self.with.events.emit_in_run(EventKind::RunStopRequested, None, id, format!("{by} asked run {id} to stop"));
        run.stop.cancel();
        run.nudge.notify_one();
        run.signal();
        Ok(self.seen(&run))
    }

    /// Gives up a run that cannot be understood. Nodes that it holds stay so: nobody knows how they are.
    async fn give_up(&self, id: &RunId, by: &str) -> Result<(), Refusal> {
        let (now, by_whom) = (self.with.clock.now(), "nobody knows whom".to_owned());
        let empty = Plan::empty(None, Policy::default());
        let record = RunRecord {
            id: id.clone(),
            stop_requested: true,
            state: RunState::Stopped,
            ended_at: Some(now),
            ..RunRecord::new(empty, by_whom, now, self.with.events.durable())
        };
        self.with.records.give_up(&record).await.map_err(|error| crate::join::store(&error))?;
        self.left().remove(id);
        let message = format!("{by} gave up run {id}, which this version of Windlass does not understand");
        self.with.events.emit_in_run(EventKind::RunStopRequested, None, id, message);
        Ok(())
    }

    /// Lets a run begin no further node; those in its hands are brought to their end.
    ///
    /// # Errors
    /// If there is no such run, it is ending, or the store cannot be written.
    pub async fn pause(&self, id: &RunId, by: &str) -> Result<RunView, Refusal> {
        let run = self.going(id, "paused").await?;
        if run.record().paused.is_none() {
            let paused = self.set_paused(&run, Some(format!("{by} paused it"))).await;
            paused.map_err(|error| crate::join::store(&error))?;
        }
        Ok(self.seen(&run))
    }

    /// Lets a paused run go on.
    ///
    /// # Errors
    /// If there is no such run, it is ending, or the store cannot be written.
    pub async fn resume(&self, id: &RunId, by: &str) -> Result<RunView, Refusal> {
        let run = self.going(id, "resumed").await?;
        if run.record().paused.is_some() {
            self.set_paused(&run, None).await.map_err(|error| crate::join::store(&error))?;
            self.with.events.emit_in_run(EventKind::RunContinued, None, id, format!("{by} let run {id} go on"));
        }
        Ok(self.seen(&run))
    }

    /// Tries again what did not end well, also after the run has ended. What it holds it holds still.
    ///
    /// # Errors
    /// If there is no such run, nothing failed, its nodes are another run's by now, or the store cannot be written.
    pub async fn retry(self: &Arc<Self>, id: &RunId, by: &str) -> Result<RunView, Refusal> {
        let _one_at_a_time = self.reopening.lock().await;
        let under_way = self.find(id);
        let run = match &under_way {
            Some(run) => Arc::clone(run),
            None => self.reopened(id).await?,
        };
        let recording = run.recording.lock().await;
        let (before, again) = {
            let mut progress = run.progress();
            if under_way.is_some() && run.record().state.is_final() {
                return Err(Refusal::new(Reason::RunInProgress, format!("run {id} is ending")).advise("try again"));
            }
            if run.record().stop_requested {
                return Err(Refusal::new(Reason::RunInProgress, format!("run {id} is stopping"))
                    .advise("try again when it has ended"));
            }
            let ended = progress.records().filter(|(_, known)| known.state.is_final());
            let before: Vec<_> = ended.map(|(planned, known)| (planned.id.clone(), known.clone())).collect();
            let again = progress.retry();
            if again.is_empty() && (under_way.is_some() || run.record().plan.queued.is_empty()) {
                // Nothing is tried again: who counted as failed still does.
                recount(&run.record(), &mut progress);
            }
            (before, again)
        };
        let left_out: Vec<_> = run.record().failed.iter().map(ToString::to_string).collect();
        if again.is_empty() && !left_out.is_empty() && run.record().plan.queued.is_empty() {
            let message = format!("run {id} failed because {} was not there, and has left it out", left_out.join(", "));
            return Err(Refusal::new(Reason::BadRequest, message).advise("once it is back, make a new plan for it"));
        }
        if again.is_empty() && (under_way.is_some() || run.record().plan.queued.is_empty()) {
            let advice = match under_way {
                Some(_) => {
                    format!("it is under way: windlass run attach {id}; if it is paused: windlass run resume {id}")
                }
                None => "a new plan says what is left to do".to_owned(),
            };
            return Err(Refusal::new(Reason::BadRequest, format!("nothing of run {id} failed")).advise(advice));
        }
        let known = run.record().clone();
        let state = known.state.becomes(RunState::Running).map_err(|invalid| {
            Refusal::new(Reason::BadRequest, format!("run {id}: {invalid}"))
                .advise("a new plan says what is left to do")
        })?;
        let (ended_at, stop_requested, paused) = (None, false, None);
        let record = RunRecord { state, ended_at, stop_requested, paused, failed: BTreeSet::new(), ..known };
        if let Err(error) = self.with.records.reopen(&record, &again).await {
            let mut progress = run.progress();
            for (id, step) in before {
                // What has begun meanwhile goes on.
                if progress.state(&id) == StepState::Waiting {
                    progress.change(&id, |known| *known = step);
                }
            }
            recount(&run.record(), &mut progress);
            return Err(refusal(&error));
        }
        *run.record() = record;
        run.progress().tell(Told::default());
        drop(recording);
        let steps = again.len();
        self.with.events.emit_in_run(EventKind::RunRetried, None, id, format!("{by} retries run {id}: {steps} steps"));
        if under_way.is_none() {
            self.active().insert(id.clone(), Arc::clone(&run));
            self.spawn(&run);
        }
        run.nudge.notify_one();
        run.signal();
        self.look_at_machines();
        Ok(self.seen(&run))
    }

    /// Takes a quarantine off a node and breaks the lease on it, if there is one. What a run would have told the node under
    /// that lease, and could not yet, it is never told. Gives what there was.
    ///
    /// # Errors
    /// As [`crate::arbiter::Arbiter::release`].
    pub async fn release(&self, node: &NodeName, reason: &str, by: &str) -> Result<(bool, Option<Held>), Refusal> {
        let released = self.with.arbiter.release(node, reason, by).await;
        // Also where there was no lease any more: the time before, this may have failed.
        if released.as_ref().err().is_none_or(|refusal| refusal.reason == Reason::NotFound) {
            let under_lease = |action: &Action| matches!(action, Action::Step(order) if order.lease.is_some());
            let withdrawn = self.with.jobs.withdraw(|job| job.nodes.contains(node) && under_lease(&job.action)).await;
            withdrawn.map_err(|error| crate::join::store(&error))?;
            self.look_at_machines();
        }
        released
    }

    async fn reopened(&self, id: &RunId) -> Result<Arc<ActiveRun>, Refusal> {
        let view = self.view(id).await?;
        if view.record.plan.schema != SCHEMA {
            let message = format!("run {id} was planned by another version of Windlass");
            return Err(Refusal::new(Reason::BadRequest, message).advise(
                "release what it holds (`windlass status`; windlass node release NODE --reason TEXT), then make a new plan",
            ));
        }
        let record = RunRecord { stop_requested: false, ..view.record };
        Ok(ActiveRun::new(record, view.steps))
    }

    async fn going(&self, id: &RunId, what: &str) -> Result<Arc<ActiveRun>, Refusal> {
        match self.find(id).filter(|run| !run.record().state.is_final()) {
            Some(run) if !run.record().stop_requested => Ok(run),
            Some(_) => Err(Refusal::new(Reason::BadRequest, format!("run {id} is stopping and cannot be {what}"))),
            None => {
                self.view(id).await?;
                Err(Refusal::new(Reason::BadRequest, format!("run {id} has ended and cannot be {what}"))
                    .advise(format!("to try again what did not end well: windlass run retry {id}")))
            }
        }
    }

    pub(super) async fn set_paused(&self, run: &ActiveRun, why: Option<String>) -> Result<(), StoreError> {
        let recording = run.recording.lock().await;
        let record = RunRecord { paused: why.clone(), ..run.record().clone() };
        if record.state.is_final() || record.stop_requested {
            return Ok(());
        }
        let state = if why.is_some() { RunState::Paused } else { RunState::Running };
        let record = RunRecord { state, ..record };
        self.with.records.save(&record).await?;
        let id = &record.id.clone();
        run.take_over(record);
        drop(recording);
        if let Some(why) = &why {
            self.with.events.emit_in_run(EventKind::RunPaused, None, id, format!("run {id} is paused: {why}"));
        }
        {
            let mut progress = run.progress();
            let told = Told { pause: why, ..progress.told().clone() };
            progress.tell(told);
        }
        run.nudge.notify_one();
        run.signal();
        Ok(())
    }
}

/// Has nodes count as failed that were not there to be planned for: no step of theirs says so.
fn recount(record: &RunRecord, progress: &mut Progress) {
    record.failed.iter().for_each(|node| progress.count_as_failed(node));
}

#[cfg(test)]
mod tests;
