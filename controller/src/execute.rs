// SPDX-License-Identifier: Apache-2.0
//! Carries plans out. It may stop; it may not improvise: every choice is in the plan.
//!
//! Where a step stands is stored before it begins and when it has ended, so a controller that is killed goes on where it
//! was. A step that was under way then is begun anew: it looks first, and does what is not done. Steps of different nodes
//! go on side by side, within the plan's limit, and one that fails holds up only those that wait for it.
//!
//! - [`run`]: which step may begin; pure.
//! - [`record`]: what is stored.
//! - [`steps`]: what each step does.
//! - [`machine`]: following a machine until its node is healthy.
//! - [`console`]: what a machine says on its console. [`stages`]: how far it is.
//! - [`times`]: how long that takes.
//! - `trouble`: what is said of a machine that does not become a node.
//! - [`apply`]: from a plan that was shown to a run.

pub mod apply;
pub mod console;
pub mod machine;
pub mod record;
pub mod run;
pub mod stages;
pub mod steps;
pub mod times;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch as signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use windlass_plan::{PlannedStep, StepId};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::RunId;
use windlass_types::run::{RunState, StepState};

use self::record::{RecordError, Records, RunRecord};
use self::run::{Progress, StepRecord};
use self::steps::StepFailure;
use self::times::TimesStore;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::fleet::Fleet;
use crate::jobs::Jobs;
use crate::observe::Observer;
use crate::store::StoreError;
use crate::tokens::Tokens;
use crate::trust::Trust;

/// What runs stand on.
#[derive(Debug)]
pub struct Foundations {
    /// Looks at everything.
    pub observer: Observer,
    /// The stored runs.
    pub records: Records,
    /// How long things take.
    pub times: TimesStore,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// Who is trusted.
    pub trust: Arc<Trust>,
    /// The jobs, which end when their node is removed.
    pub jobs: Arc<Jobs>,
    /// The events.
    pub events: Arc<EventLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where machines join, `HOST:PORT`.
    pub join_endpoint: String,
    /// Where agents connect, `HOST:PORT`.
    pub agent_endpoint: String,
}

/// The runs.
#[derive(Debug)]
pub struct Runs {
    pub(crate) with: Foundations,
    active: Mutex<HashMap<RunId, Arc<ActiveRun>>>,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    pub(crate) record: Mutex<RunRecord>,
    pub(crate) progress: Mutex<Progress>,
    changed: signal::Sender<u64>,
    /// Cancelled when waiting shall end.
    pub(crate) stop: CancellationToken,
}

/// A run as a copy.
#[derive(Debug, Clone)]
pub struct RunView {
    /// What is stored of it.
    pub record: RunRecord,
    /// Where its steps stand.
    pub steps: BTreeMap<StepId, StepRecord>,
}

impl ActiveRun {
    fn new(record: RunRecord, known: BTreeMap<StepId, StepRecord>) -> Arc<Self> {
        let progress = Progress::new(record.plan.clone(), record.stop_requested, known);
        let stop = CancellationToken::new();
        if record.stop_requested {
            stop.cancel();
        }
        let changed = signal::channel(0).0;
        Arc::new(Self { record: Mutex::new(record), progress: Mutex::new(progress), changed, stop })
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn signal(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn id(&self) -> RunId {
        self.record().id.clone()
    }

    fn view(&self) -> RunView {
        let record = self.record().clone();
        let progress = self.progress();
        let steps = record.plan.steps.iter().map(|planned| (planned.id.clone(), progress.step(&planned.id))).collect();
        RunView { record, steps }
    }
}

impl Runs {
    /// Reads runs that were under way; [`Runs::resume`] continues them. From a backup that was `restored` they are only
    /// brought to their end: what they would do may have been done, and undone, since.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(with: Foundations, restored: bool) -> Result<Arc<Self>, RecordError> {
        let mut active = HashMap::new();
        for mut record in with.records.unfinished().await? {
            record.stop_requested |= restored;
            let known = with.records.steps(&record).await?;
            active.insert(record.id.clone(), ActiveRun::new(record, known));
        }
        Ok(Arc::new(Self { with, active: Mutex::new(active) }))
    }

    /// Continues the runs a former process left under way.
    pub fn resume(self: &Arc<Self>) {
        for run in self.under_way_now() {
            let message = format!("run {} goes on after the controller's restart", run.id());
            self.with.events.emit_in_run(EventKind::RunResumed, None, &run.id(), message);
            self.spawn(&run);
        }
    }

    /// Records a run and begins it.
    pub(crate) fn begin(self: &Arc<Self>, record: RunRecord) {
        let run = ActiveRun::new(record, BTreeMap::new());
        self.active().insert(run.id(), Arc::clone(&run));
        let message = {
            let record = run.record();
            let steps = record.plan.steps.len();
            format!("{} began run {} on {}: {steps} steps", record.created_by, record.id, record.plan.subject())
        };
        self.with.events.emit_in_run(EventKind::RunStarted, None, &run.id(), message);
        self.spawn(&run);
    }

    /// Asks a run to stop: no further step begins, and waiting ends.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be written.
    pub async fn stop(&self, id: &RunId, by: &str) -> Result<RunView, Refusal> {
        let Some(run) = self.find(id) else { return self.view(id).await };
        let record = {
            let mut record = run.record();
            record.stop_requested = true;
            record.clone()
        };
        self.with.records.save(&record).await.map_err(|error| crate::join::store(&error))?;
        run.progress().stop_requested = true;
        self.with.events.emit_in_run(EventKind::RunStopRequested, None, id, format!("{by} asked run {id} to stop"));
        run.stop.cancel();
        run.signal();
        Ok(run.view())
    }

    /// A run and where its steps stand.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be read.
    pub async fn view(&self, id: &RunId) -> Result<RunView, Refusal> {
        if let Some(run) = self.find(id) {
            return Ok(run.view());
        }
        let record = self.with.records.get(id).await.map_err(|error| refusal(&error))?.ok_or_else(|| {
            Refusal::new(Reason::NotFound, format!("there is no run {id}")).advise("`windlass get runs` lists them")
        })?;
        let steps = self.with.records.steps(&record).await.map_err(|error| refusal(&error))?;
        Ok(RunView { record, steps })
    }

    /// The newest runs.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list(&self, limit: usize) -> Result<Vec<RunRecord>, Refusal> {
        self.with.records.newest(limit).await.map_err(|error| refusal(&error))
    }

    /// Is told whenever something of a run changes; `None` if the run has ended.
    #[must_use]
    pub fn changes(&self, id: &RunId) -> Option<signal::Receiver<u64>> {
        self.find(id).map(|run| run.changed.subscribe())
    }

    /// What looks at everything.
    #[must_use]
    pub const fn observer(&self) -> &Observer {
        &self.with.observer
    }

    fn under_way_now(&self) -> Vec<Arc<ActiveRun>> {
        self.active().values().cloned().collect()
    }

    fn find(&self, id: &RunId) -> Option<Arc<ActiveRun>> {
        self.active().get(id).cloned()
    }

    fn active(&self) -> MutexGuard<'_, HashMap<RunId, Arc<ActiveRun>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, run: &Arc<ActiveRun>) {
        let (runs, run) = (Arc::clone(self), Arc::clone(run));
        tokio::spawn(async move {
            if let Err(error) = runs.drive(&run).await {
                // The next start of the controller goes on with it.
                tracing::error!(run = %run.id(), error = %ErrorChain(&error), "a run cannot be recorded and rests");
            }
        });
    }

    /// Begins whatever may begin, until every step has ended.
    async fn drive(self: &Arc<Self>, run: &Arc<ActiveRun>) -> Result<(), StoreError> {
        let mut under_way = JoinSet::new();
        loop {
            let left_over = run.progress().left_over();
            for (id, state) in left_over {
                self.ended(run, &id, state, None).await?;
            }
            let ready = run.progress().ready();
            for planned in ready {
                self.began(run, &planned.id).await?;
                let (runs, run) = (Arc::clone(self), Arc::clone(run));
                under_way.spawn(async move { runs.step(&run, planned).await });
            }
            let verdict = run.progress().verdict();
            if let Some(verdict) = verdict {
                return self.finish(run, verdict).await;
            }
            tokio::select! {
                Some(result) = under_way.join_next() => result.unwrap_or(Ok(()))?,
                () = run.stop.cancelled(), if under_way.is_empty() => {}
            }
        }
    }

    async fn step(self: &Arc<Self>, run: &Arc<ActiveRun>, planned: PlannedStep) -> Result<(), StoreError> {
        let id = planned.id.clone();
        let worked = tokio::spawn({
            let (runs, run) = (Arc::clone(self), Arc::clone(run));
            async move { runs.carry_out(&run, &planned).await }
        });
        match worked.await {
            Ok(Ok(())) => self.ended(run, &id, StepState::Done, None).await,
            Ok(Err(StepFailure::Stopped)) => self.ended(run, &id, StepState::Stopped, None).await,
            Ok(Err(failure)) => self.ended(run, &id, StepState::Failed, Some(failure)).await,
            Err(_) => {
                let failure =
                    StepFailure::said("the step ended in an error of the program", "see the controller's log");
                self.ended(run, &id, StepState::Failed, Some(failure)).await
            }
        }
    }

    /// The intent, stored before anything is done.
    async fn began(&self, run: &ActiveRun, id: &StepId) -> Result<(), StoreError> {
        let now = self.with.clock.now();
        let record = run.progress().change(id, |record| {
            record.state = StepState::Running;
            record.started_at.get_or_insert(now);
        });
        self.with.records.save_step(&run.id(), id, &record).await?;
        run.signal();
        self.tell(run, EventKind::StepStarted, id, format!("{id} began"));
        Ok(())
    }

    /// The result.
    async fn ended(
        &self,
        run: &ActiveRun,
        id: &StepId,
        state: StepState,
        failure: Option<StepFailure>,
    ) -> Result<(), StoreError> {
        let now = self.with.clock.now();
        let record = run.progress().change(id, |record| {
            record.state = state;
            record.ended_at = Some(now);
            match failure {
                Some(failure) => failure.write(record),
                None => {
                    record.message.clear();
                    record.advice.clear();
                }
            }
        });
        self.with.records.save_step(&run.id(), id, &record).await?;
        let took =
            record.started_at.map_or_else(String::new, |began| format!(" after {} s", now.since(began).as_secs()));
        match state {
            StepState::Done => self.tell(run, EventKind::StepDone, id, format!("{id} is done{took}")),
            StepState::Failed => {
                self.tell(run, EventKind::StepFailed, id, format!("{id} failed{took}: {}", record.message));
            }
            StepState::Skipped | StepState::Stopped | StepState::Waiting | StepState::Running => {}
        }
        run.signal();
        Ok(())
    }

    async fn finish(&self, run: &Arc<ActiveRun>, verdict: RunState) -> Result<(), StoreError> {
        let mut record = run.record().clone();
        record.state = verdict;
        record.ended_at = Some(self.with.clock.now());
        self.with.records.finish(&record).await?;
        let id = record.id.clone();
        let message = format!("run {id} has {}", ended_as(verdict));
        self.with.events.emit_in_run(EventKind::RunEnded, None, &id, message);
        // Whoever watches is told of the end only when all events up to it can be read.
        self.with.events.flush().await;
        *run.record() = record;
        self.active().remove(&id);
        run.signal();
        Ok(())
    }

    pub(crate) fn tell(&self, run: &ActiveRun, kind: EventKind, step: &StepId, message: String) {
        let node = run.record().plan.step(step).map(|planned| planned.step.node().clone());
        self.with.events.emit_in_run(kind, node.as_ref(), &run.id(), message);
    }
}

const fn ended_as(verdict: RunState) -> &'static str {
    match verdict {
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Stopped => "been stopped",
        RunState::Running => "not ended",
    }
}

/// A run that cannot be recorded or read, as an answer.
pub(crate) fn refusal(error: &RecordError) -> Refusal {
    match error {
        RecordError::Store(error) => crate::join::store(error),
        RecordError::Busy(id) => Refusal::new(Reason::RunInProgress, error.to_string())
            .advise(format!("watch it with `windlass attach {id}`, or end it with `windlass stop {id}`")),
        RecordError::Unreadable { .. } => {
            Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise("see the controller's log")
        }
    }
}
