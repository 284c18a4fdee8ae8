// SPDX-License-Identifier: Apache-2.0
//! Carries plans out. It may stop; it may not improvise: every choice is in the plan.
//!
//! Where a step stands is stored before it begins and when it has ended, so a controller that is killed goes on where it
//! was. A step that was under way then is begun anew: it looks first, and does what is not done; one that a node does is
//! found again by the id of its order. Steps of different nodes go on side by side, within the plan's limit.
//!
//! - [`run`]: which step may begin; pure.
//! - [`record`]: what is stored.
//! - [`drive`]: begins what may begin, until all has ended.
//! - [`hold`]: asks the arbiter for nodes, and gives them back; [`request`]: for one of them.
//! - `members`: nodes that count when it is asked how many are down.
//! - [`control`]: stop, pause, resume, retry.
//! - [`later`]: brings in nodes that were away when the run was planned; `absent`: those that are away when that is due.
//! - [`steps`]: what each step does; [`on_node`]: those that a node does itself; [`boots`]: reboots of them.
//! - [`shared`]: what the machines of a cluster share.
//! - [`as_planned`]: whether a node still is as it was when it was planned for.
//! - [`power`]: machines that lose their power are switched on again.
//! - [`machine`], [`health`]: following a machine, and a node, until it is healthy.
//! - [`console`]: what a machine says on its console. [`stages`]: how far it is.
//! - [`times`], [`step_times`]: how long that takes; [`expected`]: how long a plan does.
//! - [`stored`]: what happens while the state cannot be written.
//! - [`out_of_reach`]: what becomes of a step whose node is away at its turn.
//! - `trouble`: what is said of a machine that does not become a node.
//! - [`by_hand`]: what people do to a node without a run.
//! - [`apply`]: from a plan that was shown to a run; [`possible`]: whether it could be carried out.

mod absent;
pub mod apply;
mod as_planned;
mod asked;
mod boots;
mod by_hand;
pub mod console;
mod console_tail;
mod control;
mod drive;
mod expected;
mod health;
mod hold;
mod later;
pub mod machine;
mod members;
mod on_node;
mod out_of_reach;
mod possible;
mod power;
pub mod record;
mod request;
pub mod run;
mod shared;
pub mod stages;
pub mod step_times;
pub mod steps;
mod stored;
pub mod times;
mod trouble;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch as signal};
use tokio_util::sync::CancellationToken;
use windlass_plan::StepId;
use windlass_plan::plan::SCHEMA;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::{NodeName, RunId};
use windlass_types::run::RunState;
use windlass_types::time::UnixMillis;

use self::record::{Busy, RecordError, Records, RunRecord};
use self::run::{Progress, StepRecord, Told};
use self::step_times::StepTimes;
use self::times::TimesStore;
use crate::arbiter::Arbiter;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::fleet::Fleet;
use crate::jobs::Jobs;
use crate::observe::Observer;
use crate::survey::Surveyor;
use crate::tokens::Tokens;
use crate::trust::Trust;

/// What runs stand on.
#[derive(Debug)]
pub struct Foundations {
    /// Looks at everything.
    pub observer: Observer,
    /// Asks nodes how they differ from what they shall be.
    pub surveyor: Surveyor,
    /// Who may take which node down.
    pub arbiter: Arc<Arbiter>,
    /// The stored runs.
    pub records: Records,
    /// How long machines take.
    pub times: TimesStore,
    /// How long steps on nodes take.
    pub step_times: StepTimes,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// Who is trusted.
    pub trust: Arc<Trust>,
    /// The jobs: what nodes do, and what ends when their node is removed.
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
    /// Those that were under way and cannot be understood.
    left: Mutex<BTreeSet<RunId>>,
    /// Who makes a run that has ended one that is under way: one after the other.
    reopening: tokio::sync::Mutex<()>,
    /// Changes whenever something happened to a machine.
    machines: signal::Sender<u64>,
}

/// A run under way.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    pub(crate) record: Mutex<RunRecord>,
    pub(crate) progress: Mutex<Progress>,
    changed: signal::Sender<u64>,
    /// Cancelled when waiting shall end.
    pub(crate) stop: CancellationToken,
    /// Somebody told it something.
    pub(crate) nudge: Notify,
    /// When nodes were last asked how they are.
    pub(crate) surveyed: Mutex<HashMap<NodeName, UnixMillis>>,
    /// Nodes that were waited for and are being asked what they lack.
    pub(crate) asked: Mutex<BTreeSet<NodeName>>,
    /// Who changes the record and stores it: one after the other, so that what is stored last is what is so.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// Why it rests: what has to be stored cannot be.
    rests: Mutex<Option<String>>,
}

/// A run as a copy.
#[derive(Debug, Clone)]
pub struct RunView {
    /// What is stored of it.
    pub record: RunRecord,
    /// Where its steps stand.
    pub steps: BTreeMap<StepId, StepRecord>,
    /// Nodes in its hands.
    pub holds: Vec<NodeName>,
}

impl ActiveRun {
    pub(crate) fn new(record: RunRecord, known: BTreeMap<StepId, StepRecord>) -> Arc<Self> {
        let told = Told { stop: record.stop_requested, pause: record.paused.clone() };
        let mut progress = Progress::new(record.plan.clone(), told, known);
        record.failed.iter().for_each(|node| progress.count_as_failed(node));
        let progress = Mutex::new(progress);
        let stop = CancellationToken::new();
        if record.stop_requested {
            stop.cancel();
        }
        let (changed, record) = (signal::channel(0).0, Mutex::new(record));
        let (nudge, surveyed, asked, recording, rests) = Default::default();
        Arc::new(Self { record, progress, changed, stop, nudge, surveyed, asked, recording, rests })
    }

    pub(crate) fn record(&self) -> MutexGuard<'_, RunRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn surveyed(&self) -> MutexGuard<'_, HashMap<NodeName, UnixMillis>> {
        self.surveyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self) -> MutexGuard<'_, BTreeSet<NodeName>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record that is stored is the run's from now on, unless its end was seen meanwhile.
    pub(crate) fn take_over(&self, stored: RunRecord) {
        let mut record = self.record();
        if !record.state.is_final() {
            *record = stored;
        }
    }

    /// What keeps the run from being stored, if something does.
    pub(crate) fn set_rests(&self, why: Option<String>) {
        let mut rests = self.rests.lock().unwrap_or_else(PoisonError::into_inner);
        if *rests != why {
            *rests = why;
            drop(rests);
            self.signal();
        }
    }

    fn rests(&self) -> Option<String> {
        self.rests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn signal(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn id(&self) -> RunId {
        self.record().id.clone()
    }
}

impl Runs {
    /// Reads runs that were under way; [`Runs::resume_all`] continues them. From a backup that was `restored`, and where
    /// another version planned them, they are only brought to their end: what they would do may have been done, and undone,
    /// since, or be meant otherwise.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(with: Foundations, restored: bool) -> Result<Arc<Self>, RecordError> {
        let (mut active, mut left) = (HashMap::new(), BTreeSet::new());
        for id in with.records.unfinished().await? {
            match Self::read(&with, &id, restored).await {
                Ok(run) => active.extend(run.map(|run| (id, run))),
                // Of all that is there, one run cannot go on: no reason for a fleet to be without a controller.
                Err(error @ RecordError::Unreadable { .. }) => {
                    let why = ErrorChain(&error);
                    let message = format!(
                        "run {id} does not go on, and keeps what it has: {why}; windlass run stop {id} gives it up"
                    );
                    with.events.emit_in_run(EventKind::RunPaused, None, &id, message);
                    left.insert(id);
                }
                Err(error) => return Err(error),
            }
        }
        let (active, left, machines) = (Mutex::new(active), Mutex::new(left), signal::channel(0).0);
        Ok(Arc::new(Self { with, active, left, reopening: tokio::sync::Mutex::default(), machines }))
    }

    async fn read(with: &Foundations, id: &RunId, restored: bool) -> Result<Option<Arc<ActiveRun>>, RecordError> {
        let Some(mut record) = with.records.get(id).await? else { return Ok(None) };
        // A plan of another version may mean something else by now.
        let is_foreign = record.plan.schema != SCHEMA;
        if (restored || is_foreign) && !record.stop_requested {
            // Stored, because the next start will not know any more where this state came from.
            record.stop_requested = true;
            with.records.save(&record).await?;
        }
        let known = with.records.steps(&record).await?;
        Ok(Some(ActiveRun::new(record, known)))
    }

    /// Continues the runs a former process left under way.
    pub fn resume_all(self: &Arc<Self>) {
        for run in self.under_way_now() {
            let (id, is_foreign) = (run.id(), run.record().plan.schema != SCHEMA);
            let message = if is_foreign {
                format!("run {id} was planned by another version of Windlass: it is only brought to its end")
            } else {
                format!("run {id} goes on after the controller's restart")
            };
            self.with.events.emit_in_run(EventKind::RunResumed, None, &id, message);
            self.spawn(&run);
        }
    }

    /// Begins a run that is recorded. Its nodes were asked just now.
    pub(crate) fn begin(self: &Arc<Self>, record: RunRecord) {
        let run = ActiveRun::new(record, BTreeMap::new());
        let message = {
            let (record, now) = (run.record(), self.with.clock.now());
            run.surveyed().extend(record.plan.turns.iter().map(|turn| (turn.node.clone(), now)));
            let (steps, what) = (record.plan.steps.len(), record.plan.subject());
            format!("{} began run {} on {what}: {steps} steps", record.created_by, record.id)
        };
        self.active().insert(run.id(), Arc::clone(&run));
        self.with.events.emit_in_run(EventKind::RunStarted, None, &run.id(), message);
        self.spawn(&run);
    }

    /// A run and where its steps stand.
    ///
    /// # Errors
    /// If there is no such run or the store cannot be read.
    pub async fn view(&self, id: &RunId) -> Result<RunView, Refusal> {
        if let Some(run) = self.find(id) {
            return Ok(self.seen(&run));
        }
        let record = self.with.records.get(id).await.map_err(|error| refusal(&error))?.ok_or_else(|| {
            Refusal::new(Reason::NotFound, format!("there is no run {id}")).advise("`windlass run list` lists them")
        })?;
        let steps = self.with.records.steps(&record).await.map_err(|error| refusal(&error))?;
        Ok(RunView { record, steps, holds: self.held_by(id) })
    }

    pub(crate) fn seen(&self, run: &ActiveRun) -> RunView {
        let mut record = run.record().clone();
        // Its steps are over; that it has ended is told when that is stored, with its end and all that it said.
        if record.ended_at.is_none() && record.state.is_final() {
            record.state = RunState::Running;
        }
        if let Some(why) = run.rests() {
            (record.state, record.paused) = (
                RunState::Paused,
                Some(format!("its state cannot be stored ({why}); when it can, it goes on by itself")),
            );
        }
        let steps = run.progress().records().map(|(planned, known)| (planned.id.clone(), known.clone())).collect();
        RunView { holds: self.held_by(&record.id), record, steps }
    }

    /// How many steps of a run under way have ended well; `None` if it is not under way.
    #[must_use]
    pub fn done(&self, id: &RunId) -> Option<u32> {
        Some(self.find(id)?.progress().done_count())
    }

    /// Nodes in a run's hands.
    #[must_use]
    pub fn held_by(&self, id: &RunId) -> Vec<NodeName> {
        let known = self.with.arbiter.known();
        known.leases.into_iter().filter(|(_, held)| held.lease.run == *id).map(|(node, _)| node).collect()
    }

    /// The newest runs, and after them those under way, however old, each as it is `shown`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list<T>(&self, limit: usize, shown: impl Fn(&RunRecord) -> T) -> Result<Vec<T>, Refusal> {
        let mut older: Vec<_> = self.under_way_now().iter().map(|run| self.seen(run).record).collect();
        let with_id = |record: &RunRecord| (record.id.clone(), shown(record));
        let newest = self.with.records.newest(limit, with_id).await.map_err(|error| refusal(&error))?;
        let left = self.left().clone();
        let newest = newest.into_iter().filter(|(id, _)| !left.contains(id));
        let (ids, mut listed): (BTreeSet<_>, Vec<_>) = newest.unzip();
        older.retain(|run| !ids.contains(&run.id));
        older.sort_by_key(|run| Reverse((run.created_at, run.id.as_str().len(), run.id.clone())));
        listed.extend(older.iter().map(shown));
        Ok(listed)
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

    /// What asks nodes how they differ from what they shall be.
    #[must_use]
    pub const fn surveyor(&self) -> &Surveyor {
        &self.with.surveyor
    }

    /// Who may take which node down.
    #[must_use]
    pub const fn arbiter(&self) -> &Arc<Arbiter> {
        &self.with.arbiter
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

    pub(crate) fn left(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(self: &Arc<Self>, run: &Arc<ActiveRun>) {
        let (runs, run) = (Arc::clone(self), Arc::clone(run));
        tokio::spawn(async move {
            tokio::select! {
                () = runs.drive(&run) => {}
                never = runs.keep_on(&run) => match never {},
            }
        });
    }

    pub(crate) fn tell(&self, run: &ActiveRun, kind: EventKind, step: &StepId, message: String) {
        let node = run.progress().planned(step).and_then(|planned| planned.step.node().cloned());
        self.with.events.emit_in_run(kind, node.as_ref(), &run.id(), message);
    }
}

/// A run that cannot be recorded or read, as an answer.
pub(crate) fn refusal(error: &RecordError) -> Refusal {
    match error {
        RecordError::Store(error) => crate::join::store(error),
        RecordError::Busy(Busy { run, .. }) => Refusal::new(Reason::RunInProgress, error.to_string())
            .advise(format!("watch it with `windlass run attach {run}`, or end it with `windlass run stop {run}`")),
        RecordError::Unreadable { .. } => Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise(
            "another version wrote it, or it is damaged: start that version, or give it up: windlass run stop RUN",
        ),
    }
}
