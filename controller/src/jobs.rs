// SPDX-License-Identifier: Apache-2.0
//! Jobs: one action on many nodes, recorded so that neither the caller, the controller nor an agent can lose it.
//!
//! A job is stored before the first order leaves. An order is sent again whenever it may have been lost; the agent knows
//! the job's id and never does it twice. A node's end is stored together with its output before it is acknowledged, so
//! it is reported again until it is. What follows from a report is decided in [`run`], which does no I/O.
//!
//! An order under a lease leaves only while that lease stands.

pub mod answers;
mod dispatch;
pub mod output;
pub mod record;
pub mod run;
pub(crate) mod watch;
mod withdraw;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::Instant;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::OutputStream;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_types::action::Action;
use windlass_types::digest::Sha256Digest;
use windlass_types::event::EventKind;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::{Ending, Outcome};
use windlass_types::time::UnixMillis;

use crate::arbiter::Arbiter;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::fleet::Fleet;
use crate::orders::Epoch;
use crate::pki::OrderKey;
use crate::store::StoreError;
use dispatch::{Unsent, released};
use output::Outputs;
use record::Records;
use run::{Happening, JobRecord, NodeRun, Run};
pub use watch::Watcher;

/// The jobs.
#[derive(Debug)]
pub struct Jobs {
    records: Records,
    outputs: Outputs,
    fleet: Arc<Fleet>,
    arbiter: Arc<Arbiter>,
    events: Arc<EventLog>,
    clock: Arc<dyn Clock>,
    epoch: Arc<Epoch>,
    order_key: Arc<OrderKey>,
    output_limit_bytes: u64,
    started_at: UnixMillis,
    opened: Instant,
    active: Mutex<HashMap<JobId, Arc<ActiveJob>>>,
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct ActiveJob {
    run: Mutex<Run>,
    changed: signal::Sender<u64>,
    /// Nobody will ask for it once it has ended.
    is_forgotten: AtomicBool,
}

impl ActiveJob {
    fn new(run: Run) -> Arc<Self> {
        Arc::new(Self { run: Mutex::new(run), changed: signal::channel(0).0, is_forgotten: AtomicBool::new(false) })
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}

/// What jobs stand on.
#[derive(Debug)]
pub struct Foundations {
    /// The stored jobs.
    pub records: Records,
    /// The files with output.
    pub outputs: Outputs,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// Which leases stand.
    pub arbiter: Arc<Arbiter>,
    /// The events.
    pub events: Arc<EventLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Epoch and order sequence.
    pub epoch: Arc<Epoch>,
    /// Signs orders.
    pub order_key: Arc<OrderKey>,
    /// Most bytes kept of each output of a node.
    pub output_limit_bytes: u64,
}

/// What a job is made of.
#[derive(Debug)]
pub struct NewJob {
    /// Chosen by the caller.
    pub request_id: String,
    /// What.
    pub action: Action,
    /// Where.
    pub nodes: Vec<NodeName>,
    /// Nodes at once; 0 for all.
    pub batch: u32,
    /// Failures after which no further node begins.
    pub max_failures: Option<u32>,
    /// What a node may take.
    pub timeout: Duration,
    /// Who asked.
    pub created_by: String,
}

impl Jobs {
    /// Reads jobs that were under way; [`Jobs::resume`] continues them.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(foundations: Foundations) -> Result<Arc<Self>, StoreError> {
        let Foundations { records, outputs, fleet, arbiter, events, clock, epoch, order_key, output_limit_bytes } =
            foundations;
        let active = Mutex::default();
        let started_at = clock.now();
        let opened = Instant::now();
        let jobs = Self {
            records,
            outputs,
            fleet,
            arbiter,
            events,
            clock,
            epoch,
            order_key,
            output_limit_bytes,
            started_at,
            opened,
            active,
        };
        let is_restored = jobs.epoch.is_read_only();
        for mut record in jobs.records.unfinished().await? {
            if is_restored && !record.restored {
                // Stored, because the next start will not know any more where this state came from.
                record.restored = true;
                jobs.records.save(&record).await?;
            }
            let id = record.id.clone();
            let give_up_at = jobs.give_up_at(&record);
            let run = jobs.records.load_run(record, Some(give_up_at)).await?;
            jobs.active().insert(id, ActiveJob::new(run));
        }
        Ok(Arc::new(jobs))
    }

    /// Continues the jobs a former process left under way; while the controller is read-only only their watching.
    pub async fn resume(self: &Arc<Self>) {
        self.under_way_now().iter().for_each(|job| self.supervise(job));
        self.carry_on().await;
    }

    /// Carries every job forward, once the controller may act.
    pub async fn carry_on(self: &Arc<Self>) {
        for job in self.under_way_now() {
            self.advance(&job).await;
        }
    }

    fn under_way_now(&self) -> Vec<Arc<ActiveJob>> {
        self.active().values().cloned().collect()
    }

    /// Records a job and starts it; the same request gives the same job.
    ///
    /// # Errors
    /// If no node was chosen or the store cannot be written.
    pub async fn create(self: &Arc<Self>, new: NewJob) -> Result<JobRecord, Refusal> {
        if new.nodes.is_empty() {
            return Err(Refusal::new(Reason::BadRequest, "no node matches").advise(
                "`windlass get nodes -o wide` shows the labels; revoked nodes are left out unless they are named",
            ));
        }
        let (record, is_new) =
            self.records.create(new, self.clock.now()).await.map_err(|error| crate::join::store(&error))?;
        if is_new {
            let job = ActiveJob::new(Run::new(record.clone()));
            self.active().insert(record.id.clone(), Arc::clone(&job));
            let message = format!(
                "{} started job {} on {}: {}",
                record.created_by,
                record.id,
                count(record.nodes.len()),
                record.action
            );
            self.emit(&record, EventKind::JobStarted, None, message);
            self.supervise(&job);
            self.advance(&job).await;
        }
        Ok(record)
    }

    /// Whether nothing is ordered, because this controller was restored from a backup.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.epoch.is_read_only()
    }

    /// Whether a job was made for this request and is still known.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn is_known(&self, request_id: &str) -> Result<bool, StoreError> {
        self.records.is_known(request_id).await
    }

    /// Removes all that is kept of a job that has ended; of one that has not, once it has.
    pub async fn forget(&self, id: &JobId) {
        // Told while nobody can take it from those under way: whoever ends it looks after it did that.
        let is_under_way = self.active().get(id).map(|job| job.is_forgotten.store(true, Ordering::Relaxed)).is_some();
        if !is_under_way && let Err(error) = self.records.forget(id).await {
            // It is forgotten with the others of its age.
            tracing::warn!(job = %id, error = %windlass_types::error_chain::ErrorChain(&error), "could not forget a job");
        }
    }

    /// Tells about a job, unless it is a step of a run: that is told there.
    fn emit(&self, record: &JobRecord, kind: EventKind, node: Option<&NodeName>, message: String) {
        if !matches!(record.action, Action::Step(_)) {
            self.events.emit(kind, node, Some(&record.id), message);
        }
    }

    /// Asks a job to stop: no further node begins, active ones are signalled.
    ///
    /// # Errors
    /// If there is no such job or the store cannot be written.
    pub async fn stop(self: &Arc<Self>, id: &JobId, by: &str) -> Result<(JobRecord, (usize, usize)), Refusal> {
        let Some(job) = self.find(id) else { return self.summary(id).await };
        let record = {
            let mut run = job.run();
            run.record.stop_requested = true;
            run.record.clone()
        };
        self.records.save(&record).await.map_err(|error| crate::join::store(&error))?;
        self.events.emit(EventKind::JobStopRequested, None, Some(id), format!("{by} asked job {id} to stop"));
        let active = job.run().active();
        for name in &active {
            self.send_stop(id, name);
        }
        self.advance(&job).await;
        self.summary(id).await
    }

    /// A job and how many of its nodes ended well and otherwise.
    ///
    /// # Errors
    /// If there is no such job or the store cannot be read.
    pub async fn summary(&self, id: &JobId) -> Result<(JobRecord, (usize, usize)), Refusal> {
        if let Some(job) = self.find(id) {
            let run = job.run();
            return Ok((run.record.clone(), run.tally()));
        }
        let run = self.load(id).await?;
        Ok((run.record.clone(), run.tally()))
    }

    /// Jobs, newest first, beginning before `before`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list(
        &self,
        before: Option<&JobId>,
        limit: usize,
    ) -> Result<Vec<(JobRecord, (usize, usize))>, Refusal> {
        let records = self.records.newest(before, limit).await.map_err(|error| crate::join::store(&error))?;
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            all.push(match record.tally {
                Some(tally) => (record, tally),
                None => self.summary(&record.id).await?,
            });
        }
        Ok(all)
    }

    /// Replays a job and follows it to its end.
    ///
    /// # Errors
    /// If there is no such job or the store cannot be read.
    pub async fn watch(self: &Arc<Self>, id: &JobId) -> Result<Watcher, Refusal> {
        let job = match self.find(id) {
            Some(job) => job,
            None => ActiveJob::new(self.load(id).await?),
        };
        Ok(Watcher::new(job, self.outputs.clone()))
    }

    /// Whether a job under way has this action for this node.
    #[must_use]
    pub fn has_order(&self, id: &JobId, node: &NodeName, wanted: impl Fn(&Action) -> bool) -> bool {
        self.find(id).is_some_and(|job| {
            let run = job.run();
            matches!(run.node(node), Some(NodeRun::Active { .. })) && wanted(&run.record.action)
        })
    }

    /// Whether a job that has not ended places this file.
    #[must_use]
    pub fn needs(&self, wanted: Sha256Digest) -> bool {
        let jobs: Vec<_> = self.active().values().map(Arc::clone).collect();
        jobs.iter().any(|job| matches!(job.run().record.action, Action::PutFile { sha256, .. } if sha256 == wanted))
    }

    /// An agent's session began: orders it does not know of may have been lost.
    pub async fn connected(self: &Arc<Self>, node: &NodeName, known: &[String]) {
        if self.epoch.is_read_only() {
            return;
        }
        let jobs: Vec<_> = self.active().iter().map(|(id, job)| (id.clone(), Arc::clone(job))).collect();
        for (id, job) in jobs {
            let (is_active, stopping, restored, withdrawn) = {
                let JobRecord { stop_requested, restored, withdrawn, .. } = job.run().record;
                let is_active = matches!(job.run().node(node), Some(NodeRun::Active { .. }));
                (is_active, stop_requested, restored, withdrawn)
            };
            match (is_active, known.iter().any(|known| *known == id.as_str()), stopping) {
                (true, true, true) => self.send_stop(&id, node),
                (true, false, _) if restored => self.end_and_advance(&job, node, restored_unknown()).await,
                (true, false, _) if stopping || withdrawn => {
                    self.end_and_advance(&job, node, Outcome::bare(Ending::Stopped)).await
                }
                (true, false, _) => match self.send_order(&job, node) {
                    Ok(()) => {
                        let mut run = job.run();
                        let give_up_at = self.give_up_at(&run.record);
                        run.ordered(node, give_up_at);
                    }
                    Err(Unsent::Released) => self.end_and_advance(&job, node, released(node)).await,
                    // Its next session comes here again.
                    Err(Unsent::NotConnected) => {}
                },
                (true, true, false) | (false, ..) => {}
            }
        }
    }

    /// A node is trusted no longer: nothing more will be heard of it.
    pub async fn lost(self: &Arc<Self>, node: &NodeName) {
        for job in self.under_way_now() {
            let ending = match job.run().node(node) {
                Some(NodeRun::Active { .. }) => {
                    Ending::Unknown { message: "the node was revoked while it was at work".to_owned() }
                }
                Some(NodeRun::Waiting) => Ending::Skipped,
                Some(NodeRun::Recording | NodeRun::Ended(_)) | None => continue,
            };
            self.end_and_advance(&job, node, Outcome::bare(ending)).await;
        }
    }

    /// Takes an agent's report; an end is acknowledged once it is stored.
    ///
    /// # Errors
    /// If the store cannot be written; then nothing was taken and the agent will report again.
    pub async fn report(self: &Arc<Self>, node: &NodeName, report: v1::JobReport) -> Result<(), StoreError> {
        let Ok(id) = JobId::new(report.job.clone()) else { return Ok(()) };
        let job = self.find(&id);
        match report.state {
            Some(v1::job_report::State::Started(started)) => {
                if let Some(job) = job.filter(|job| job.run().node(node).is_some()) {
                    job.run().happened(Happening::Started { node: node.clone(), pid: started.pid });
                    job.signal();
                }
            }
            Some(v1::job_report::State::Outcome(message)) => {
                if let Some(job) = job {
                    let ended = read_outcome(&message);
                    self.end(&job, node, ended, &message).await?;
                    self.advance(&job).await;
                }
                // Also for a job that is over or was never this node's: the agent should forget it.
                let _told_next_time = self.fleet.send(node, Down::Ack(v1::ReportAck { job: report.job }));
            }
            None => {}
        }
        Ok(())
    }

    /// A piece of output that is stored in a file now.
    pub fn spooled(&self, id: &JobId, node: &NodeName, stream: OutputStream, offset: u64, end: u64) {
        if let Some(job) = self.find(id)
            && end > offset
        {
            job.run().happened(Happening::Spooled { node: node.clone(), stream, offset, end });
            job.signal();
        }
    }

    /// The files with output.
    #[must_use]
    pub const fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Most bytes kept of each output of a node.
    #[must_use]
    pub const fn output_limit_bytes(&self) -> u64 {
        self.output_limit_bytes
    }

    /// Jobs under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.active().len()
    }

    async fn load(&self, id: &JobId) -> Result<Run, Refusal> {
        let stored = async {
            match self.records.get(id).await? {
                Some(record) => self.records.load_run(record, None).await.map(Some),
                None => Ok(None),
            }
        };
        stored.await.map_err(|error: StoreError| crate::join::store(&error))?.ok_or_else(|| {
            Refusal::new(Reason::NotFound, format!("there is no job {id}")).advise("`windlass get jobs` lists them")
        })
    }

    fn find(&self, id: &JobId) -> Option<Arc<ActiveJob>> {
        self.active().get(id).cloned()
    }

    fn active(&self) -> MutexGuard<'_, HashMap<JobId, Arc<ActiveJob>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restored_unknown() -> Outcome {
    let message = "the controller was restored from a backup; whether the node did this is not known".to_owned();
    Outcome::bare(Ending::Unknown { message })
}

fn count(nodes: usize) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

/// An end this version does not understand is kept as unknown: it must not be reported for ever.
fn read_outcome(message: &v1::JobOutcome) -> Outcome {
    Outcome::try_from(message).unwrap_or_else(|error| {
        Outcome::bare(Ending::Unknown { message: format!("the agent's report cannot be read: {error}") })
    })
}
