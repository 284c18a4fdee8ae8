// SPDX-License-Identifier: Apache-2.0
//! Orders: accepted or refused, carried out once, reported until the controller knows.
//!
//! - [`accept`]: which orders are obeyed.
//! - [`signature`]: which are the controller's at all.
//! - [`runner`]: who runs programs; [`process_group`] is the one without systemd.
//! - `report`: what the controller is told; `table`: what is known at the moment.
//! - `step`: programs, lease and output of one step of a run.
//! - `work`: what happens to one accepted order.
//!
//! An order is in the journal before anything is started, its outcome before it is reported ([`crate::journal`] says what
//! of it survives a power cut). What an earlier agent left is taken up by [`Jobs::recover`]: programs that still run are
//! watched on, files are moved on (doing that twice does no harm), and a program about which nothing is known is reported
//! as just that. No program is started twice.

pub mod accept;
pub mod process_group;
mod report;
pub mod runner;
pub mod signature;
mod step;
mod table;
mod work;

#[cfg(any(test, feature = "testing"))]
pub mod fake;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_proto::v1::order_payload::Payload;
use windlass_types::action::Action;
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::{Ending, ErrorClass, Outcome};

use accept::{Rules, Verdict};
use report::Report;
use runner::Runner;
use signature::{OrderKey, Unsigned};
use table::Table;

use crate::host::change::Change;
use crate::host::clock::Clock;
use crate::journal::{DoneJobs, JobStage, Journal, JournalError, Order, Record};
use crate::output::Spool;
use crate::transfer::{Carriers, Files};

/// What the jobs of one node need.
#[derive(Debug)]
pub struct JobParts {
    /// This node.
    pub node: NodeName,
    /// Where journal and spool are.
    pub state_dir: PathBuf,
    /// Whether programs may be run.
    pub exec: bool,
    /// The key orders must be signed with.
    pub order_key: OrderKey,
    /// Who runs them.
    pub runner: Arc<dyn Runner>,
    /// The machine that steps change.
    pub host: Arc<dyn Change>,
    /// Whoever carries output and files.
    pub carriers: Arc<Carriers>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the agent ends: nothing is watched or reported any more, and programs go on.
    pub ended: CancellationToken,
}

/// All jobs of this node.
#[derive(Debug)]
pub struct Jobs {
    parts: JobParts,
    files: Files,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
    table: Mutex<Table>,
    /// A report waits.
    reports: Notify,
    /// The controller has stored an end.
    acknowledged: Notify,
    /// An order is done with, or its end is known to the controller.
    settled: Notify,
    /// Cancelled when this agent has opened a session.
    reached: CancellationToken,
}

impl Jobs {
    /// Opens the journal. Nothing is done yet; see [`Jobs::recover`].
    ///
    /// # Errors
    /// If the journal cannot be used.
    pub fn open(parts: JobParts) -> Result<Arc<Self>, JournalError> {
        let journal = Journal::open(&parts.state_dir.join("journal"))?;
        let files = Files::new(Arc::clone(&parts.carriers), parts.ended.clone());
        let table = Mutex::new(Table {
            journal,
            stops: BTreeMap::new(),
            running: BTreeMap::new(),
            ready: BTreeMap::new(),
            outbox: VecDeque::new(),
            refused: VecDeque::new(),
        });
        let [reports, acknowledged, settled] = std::array::from_fn(|_| Notify::new());
        Ok(Arc::new(Self {
            parts,
            files,
            turn: tokio::sync::Mutex::default(),
            table,
            reports,
            acknowledged,
            settled,
            reached: CancellationToken::new(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spool_root(&self) -> PathBuf {
        self.parts.state_dir.join("jobs")
    }

    /// Takes up what an earlier agent left.
    pub fn recover(self: &Arc<Self>) {
        let left: Vec<_> = {
            let table = self.table();
            table.journal.state().jobs().map(|(order, stage)| (order.clone(), stage.clone())).collect()
        };
        let is_open = |stage: &JobStage| matches!(stage, JobStage::Accepted | JobStage::Started(_));
        self.files.sweep(left.iter().filter_map(|(order, stage)| match &order.action {
            Action::PutFile { sha256, .. } if is_open(stage) => Some(*sha256),
            _ => None,
        }));
        for (order, stage) in left {
            if matches!(stage, JobStage::Acknowledged | JobStage::Ended(_)) {
                // Left by an agent that was killed before it could.
                self.forget_programs(&order.job);
            }
            match stage {
                JobStage::Acknowledged => self.forget_output(&order.job),
                JobStage::Ended(outcome) => self.spawn_delivery(order, outcome),
                JobStage::Accepted | JobStage::Started(_) if self.is_out_of_reach(&order) => {
                    tracing::error!(job = %order.job, "a step waits: its programs would be bound by this sandbox; see why \
                        systemd does not start them; the next executor goes on, which comes by itself once the bus is there, \
                        or with `systemctl restart windlass-executor`");
                }
                JobStage::Accepted => self.spawn_work(order, work::Beginning::Recovered(None)),
                JobStage::Started(mark) => self.spawn_work(order, work::Beginning::Recovered(Some(mark))),
            }
        }
        // Not before: what the acknowledged ones left is found by their records.
        self.table().compact();
    }

    /// Whether a step was begun where programs have the rights of root, and they have not here. It is not for this sandbox
    /// to fail it, and what its program does meanwhile cannot be seen from here.
    fn is_out_of_reach(&self, order: &Order) -> bool {
        matches!(order.action, Action::Step(_)) && !self.parts.runner.is_unconfined()
    }

    /// Kinds of order this node obeys.
    #[must_use]
    pub fn abilities(&self) -> Vec<String> {
        let exec = self.parts.exec.then_some("exec");
        let step = self.parts.runner.is_unconfined().then_some("step");
        exec.into_iter().chain(["put-file", "get-file"]).chain(step).map(str::to_owned).collect()
    }

    /// The highest (epoch, sequence) obeyed.
    #[must_use]
    pub fn position(&self) -> (u64, u64) {
        self.table().journal.state().position()
    }

    /// Jobs whose end the controller does not know.
    #[must_use]
    pub fn open_jobs(&self) -> Vec<String> {
        let table = self.table();
        let open = table.journal.state().jobs().filter(|(_, stage)| **stage != JobStage::Acknowledged);
        open.map(|(order, _)| order.job.as_str().to_owned()).collect()
    }

    /// Whose jobs they are.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.parts.node
    }

    /// Whether no order is in hand: none is carried out or waits to be.
    #[must_use]
    pub fn are_at_rest(&self) -> bool {
        self.table().stops.is_empty()
    }

    /// Waits until no order is in hand. For one caller.
    pub async fn at_rest(&self) {
        while !self.are_at_rest() {
            self.settled.notified().await;
        }
    }

    /// Waits until the controller knows the end of every order. For one caller.
    pub async fn known(&self) {
        while !self.open_jobs().is_empty() {
            self.settled.notified().await;
        }
    }

    /// Does what the controller signed; says that it does not do what nobody vouches for.
    pub fn obey(self: &Arc<Self>, signed: &v1::SignedOrder) {
        match self.parts.order_key.open(signed) {
            Ok(Payload::Order(order)) => self.begin_or_refuse(order),
            Ok(Payload::Stop(stop)) => self.stop(&stop),
            Err(unsigned) => {
                tracing::error!(error = %unsigned, "an order is refused");
                let Unsigned::Forged { job } = &unsigned else { return };
                if let Ok(job) = JobId::new(job.clone()) {
                    let ending = Ending::Refused { message: unsigned.to_string() };
                    self.post(Report::Refused(job, Outcome::bare(ending)));
                }
            }
        }
    }

    /// Obeys an order, or refuses it, or does nothing because it was obeyed before.
    fn begin_or_refuse(self: &Arc<Self>, wire: v1::Order) {
        let Ok(job) = JobId::new(wire.job.clone()) else {
            tracing::warn!(job = %Escaped(&wire.job), "an order has a bad job id; ignoring it");
            return;
        };
        let number = (wire.node == self.parts.node.as_str()).then_some((wire.epoch, wire.sequence));
        let verdict = {
            let table = self.table();
            let state = table.journal.state();
            let rules = Rules {
                node: &self.parts.node,
                exec: self.parts.exec,
                steps: self.parts.runner.is_unconfined(),
                position: state.position(),
                now: self.parts.clock.now(),
            };
            accept::judge(wire, &job, table.known(&job), &rules)
        };
        match verdict {
            Verdict::Ignore => tracing::debug!(job = %job, "this order was obeyed before"),
            Verdict::ReportAgain => self.post(Report::Ended(job)),
            Verdict::Forgotten(why) => {
                let ending = Ending::Unknown { message: why.to_owned() };
                self.post(Report::Refused(job, Outcome::bare(ending)));
            }
            Verdict::Refuse(message) => self.refuse(number, job, Ending::Refused { message }),
            Verdict::Accept(order) => self.begin_unless_refused(order),
        }
    }

    /// The controller orders a job anew whose refusal it has not heard of. It may be about to, and takes that for the end.
    fn begin_unless_refused(self: &Arc<Self>, order: Order) {
        let refusal = self.table().refusal(&order.job);
        match refusal {
            None => self.begin(order),
            Some(outcome) => {
                self.pass_over(Some((order.epoch, order.sequence)));
                self.post(Report::Refused(order.job, outcome));
            }
        }
    }

    /// A refused order stays refused: should it come again once its reason is gone, the controller has already been told
    /// that it was not obeyed.
    fn pass_over(&self, number: Option<(u64, u64)>) {
        let mut table = self.table();
        // One that comes again adds nothing: whoever repeats it must not have the journal grow.
        let Some((epoch, sequence)) = number.filter(|number| *number > table.journal.state().position()) else {
            return;
        };
        table.note(Record::Position { epoch, sequence, done: DoneJobs::default() });
        table.compact();
    }

    fn refuse(&self, number: Option<(u64, u64)>, job: JobId, ending: Ending) {
        tracing::warn!(job = %job, "order refused: {ending}");
        self.pass_over(number);
        let outcome = Outcome::bare(ending);
        self.table().keep_refusal(job.clone(), outcome.clone());
        self.post(Report::Refused(job, outcome));
    }

    fn begin(self: &Arc<Self>, order: Order) {
        let accepted = self.table().journal.append_durably(Record::Accepted(order.clone()));
        if let Err(error) = accepted {
            let message = format!("the order cannot be recorded, so it was not begun: {}", ErrorChain(&error));
            let number = Some((order.epoch, order.sequence));
            return self.refuse(number, order.job, Ending::Failed { message, class: ErrorClass::Operator });
        }
        tracing::info!(job = %order.job, "order accepted: {}", order.action);
        self.spawn_work(order, work::Beginning::Fresh);
    }

    fn spawn_work(self: &Arc<Self>, order: Order, beginning: work::Beginning) {
        let (stop, stops) = mpsc::channel(1);
        self.table().stops.insert(order.job.clone(), stop);
        self.spawn(work::carry_out(Arc::clone(self), order, beginning, stops));
    }

    fn spawn_delivery(self: &Arc<Self>, order: Order, outcome: Outcome) {
        self.spawn(work::deliver(Arc::clone(self), order, outcome, None));
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.parts.ended.clone();
        tokio::spawn(async move { ended.run_until_cancelled(work).await });
    }

    /// Stops a job: SIGTERM to all its processes, SIGKILL after the grace.
    fn stop(&self, order: &v1::StopOrder) {
        if order.node != self.parts.node.as_str() {
            tracing::warn!(node = %Escaped(&order.node), "somebody stops a job of another node here; ignoring it");
            return;
        }
        let table = self.table();
        if order.epoch < table.journal.state().position().0 {
            tracing::warn!(epoch = order.epoch, "a stop comes from an older controller; ignoring it");
            return;
        }
        match table.stops.get(order.job.as_str()) {
            // A full channel means that it is being stopped already.
            Some(stop) => drop(stop.try_send(Duration::from_millis(order.grace_millis.into()))),
            None => tracing::debug!(job = %Escaped(&order.job), "nothing to stop: the job is not running"),
        }
    }

    /// The controller has stored the end of this job.
    pub fn acknowledge(&self, job: &str) {
        let mut table = self.table();
        let Some(job) = table.ready.remove_entry(job).map(|(job, _)| job) else { return };
        table.note(Record::Acknowledged { job: job.clone() });
        table.compact();
        drop(table);
        self.acknowledged.notify_waiters();
        self.settled.notify_one();
        self.forget_output(&job);
    }

    fn forget_programs(&self, job: &JobId) {
        let last = self.table().journal.state().step(job).program;
        if let Err(error) = step::forget_programs(&self.parts.state_dir, job, last) {
            tracing::warn!(job = %job, %error, "what the programs of a step printed could not be removed");
        }
    }

    fn forget_output(&self, job: &JobId) {
        if let Err(error) = Spool::remove_of(&self.spool_root(), job) {
            tracing::warn!(job = %job, %error, "the job's output could not be removed");
        }
    }
}

/// Where unfinished files are kept.
#[must_use]
pub fn transfers_directory(state_dir: &Path) -> PathBuf {
    state_dir.join("transfers")
}
