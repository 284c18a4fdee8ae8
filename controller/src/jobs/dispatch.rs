// SPDX-License-Identifier: Apache-2.0
//! Carrying a job forward: whose turn it is, orders out, ends recorded, silence noticed.
//!
//! May be entered from several tasks at once; the run's lock decides who takes a turn or records an end, and nothing is
//! awaited while it is held.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use windlass_proto::v1;
use windlass_proto::v1::OutputStream;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::order_payload::Payload;
use windlass_types::action::Action;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::{Ending, Outcome};

use super::run::{Happening, JobRecord};
use super::{ActiveJob, Jobs};
use crate::fleet::NotConnected;
use crate::store::StoreError;

/// How long beyond its own timeout a node may stay silent before its end counts as unknown: time for the two signals,
/// for a reconnect with backoff, and for pushing output.
const SILENCE: Duration = Duration::from_secs(90);

/// How long a step under a lease may wait on its node for its turn: as long as the node may be at work for a survey. An order
/// that is held back longer on its way is not obeyed: by then another node may be down.
const BEGINS_WITHIN: Duration = Duration::from_secs(300);

/// Agents dial again within this time after the controller is back: their longest pause and a handshake.
const REDIAL: Duration = Duration::from_secs(20);

/// Silence is noticed to this.
const LOOK: Duration = Duration::from_secs(1);

/// Between the two signals of a stopped job.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why an order did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The node is not there.
    NotConnected,
    /// The lease that it was given under stands no longer.
    Released,
}

impl From<NotConnected> for Unsent {
    fn from(_: NotConnected) -> Self {
        Self::NotConnected
    }
}

/// When an order must have begun.
fn begins_within(action: &Action, timeout: Duration) -> Duration {
    let is_leased = matches!(action, Action::Step(order) if order.lease.is_some());
    if is_leased { timeout.min(BEGINS_WITHIN) } else { timeout }
}

/// How a node ends that was released before its order left: it was told nothing.
pub(super) fn released(node: &NodeName) -> Outcome {
    Outcome::bare(Ending::Refused { message: format!("somebody released {node} before the order left") })
}

impl Jobs {
    /// Lets nodes begin whose turn it is, skips those whose turn will never come, and ends the job when all have ended.
    pub(super) async fn advance(self: &Arc<Self>, job: &Arc<ActiveJob>) {
        if self.epoch.is_read_only() {
            return;
        }
        loop {
            let (turn, left_over, batched, id) = {
                let mut run = job.run();
                let give_up_at = self.give_up_at(&run.record);
                let is_over = run.record.restored || run.record.withdrawn;
                let turn = if is_over { Vec::new() } else { run.take_turn(give_up_at) };
                let left_over = if is_over { run.waiting() } else { run.left_over() };
                (turn, left_over, run.record.batch > 0, run.record.id.clone())
            };
            if turn.is_empty() && left_over.is_empty() {
                break;
            }
            if batched && let Err(error) = self.records.begun(&id, &turn).await {
                // Only a restart in this moment would let more nodes work at once than asked for.
                tracing::warn!(error = %ErrorChain(&error), "could not record whose turn it is");
            }
            for node in turn {
                self.begin(job, &node).await;
            }
            for node in left_over {
                self.record_end(job, &node, Outcome::bare(Ending::Skipped)).await;
            }
        }
        self.finish(job).await;
    }

    /// Orders what a node shall do whose turn it is, or records why it cannot be.
    async fn begin(&self, job: &Arc<ActiveJob>, node: &NodeName) {
        match self.send_order(job, node) {
            Ok(()) => {}
            Err(Unsent::Released) => self.record_end(job, node, released(node)).await,
            Err(Unsent::NotConnected) => match self.expected_until(node) {
                Some(until) => job.run().await_agent(node, until),
                None => self.record_end(job, node, Outcome::bare(Ending::Unreachable)).await,
            },
        }
    }

    async fn finish(&self, job: &Arc<ActiveJob>) {
        let record = {
            let mut run = job.run();
            let Some(state) = run.verdict() else { return };
            if run.record.state.is_final() {
                return;
            }
            run.record.state = state;
            run.record.ended_at = Some(self.clock.now());
            run.record.tally = Some(run.tally());
            run.record.clone()
        };
        if let Err(error) = self.records.save(&record).await {
            // Every node's end is stored; the next start draws the same conclusion.
            tracing::error!(error = %ErrorChain(&error), "could not record the end of a job");
        }
        let (well, otherwise) = job.run().tally();
        let message = format!("job {} {}: {well} ok, {otherwise} not", record.id, record.state);
        self.emit(&record, EventKind::JobEnded, None, message);
        job.signal();
        self.active().remove(&record.id);
        if job.is_forgotten.load(Ordering::Relaxed) {
            self.forget(&record.id).await;
        }
    }

    pub(super) fn send_order(&self, job: &ActiveJob, node: &NodeName) -> Result<(), Unsent> {
        let mut order = {
            // Not cloned: the record names every node of the job, and there is an order for each.
            let record = &job.run().record;
            // Looked at here: while the job was being stored, the node may have been taken from its run, and another may
            // have been let go down.
            if !self.stands(&record.action) {
                return Err(Unsent::Released);
            }
            v1::Order {
                job: record.id.to_string(),
                node: node.to_string(),
                epoch: self.epoch.number(),
                sequence: 0,
                expires_unix_millis: self
                    .clock
                    .now()
                    .plus(begins_within(&record.action, record.timeout))
                    .plus(SILENCE)
                    .0,
                timeout_millis: u64::try_from(record.timeout.as_millis()).unwrap_or(u64::MAX),
                output_limit_bytes: self.output_limit_bytes,
                action: Some((&record.action).into()),
            }
        };
        // Numbered while the node's outbox is locked: orders of two jobs must leave in the order of their numbers.
        self.fleet.send_with(node, || {
            order.sequence = self.epoch.next_sequence();
            Down::Order(self.order_key.sign(Payload::Order(order)))
        })?;
        Ok(())
    }

    /// Whether the lease stands that an action needs, if it needs one.
    fn stands(&self, action: &Action) -> bool {
        let Action::Step(order) = action else { return true };
        order.lease.as_ref().is_none_or(|lease| self.arbiter.stands(lease))
    }

    pub(super) fn send_stop(&self, id: &JobId, node: &NodeName) {
        let grace_millis = u32::try_from(STOP_GRACE.as_millis()).unwrap_or(u32::MAX);
        // A node that is not connected is told at the beginning of its next session.
        let stop =
            v1::StopOrder { job: id.to_string(), grace_millis, node: node.to_string(), epoch: self.epoch.number() };
        let _next_session = self.fleet.send(node, Down::Order(self.order_key.sign(Payload::Stop(stop))));
    }

    pub(super) async fn end_and_advance(self: &Arc<Self>, job: &Arc<ActiveJob>, node: &NodeName, outcome: Outcome) {
        self.record_end(job, node, outcome).await;
        self.advance(job).await;
    }

    async fn record_end(&self, job: &Arc<ActiveJob>, node: &NodeName, outcome: Outcome) {
        if let Err(error) = self.end(job, node, outcome, &v1::JobOutcome::default()).await {
            // The node stays active, becomes overdue, and is tried again then.
            tracing::error!(error = %ErrorChain(&error), "could not record the end of a node");
        }
    }

    pub(super) async fn end(
        &self,
        job: &Arc<ActiveJob>,
        node: &NodeName,
        outcome: Outcome,
        message: &v1::JobOutcome,
    ) -> Result<(), StoreError> {
        let id = {
            let mut run = job.run();
            if !run.begin_recording(node) {
                return Ok(());
            }
            run.record.id.clone()
        };
        if let Err(error) = self.records.ended(&id, node, &outcome, message).await {
            let mut run = job.run();
            let give_up_at = self.give_up_at(&run.record);
            run.abandon_recording(node, give_up_at);
            return Err(error);
        }
        if !outcome.ending.is_success() && outcome.ending != Ending::Skipped {
            let text = format!("job {id} on {node}: {}", outcome.ending);
            self.emit(&job.run().record, EventKind::JobNodeFailed, Some(node), text);
        }
        let mut run = job.run();
        for (stream, data) in [(OutputStream::Stdout, &message.stdout), (OutputStream::Stderr, &message.stderr)] {
            if !data.is_empty() {
                run.happened(Happening::Inline { node: node.clone(), stream, data: data.clone() });
            }
        }
        run.recorded(node, outcome);
        drop(run);
        job.signal();
        Ok(())
    }

    /// Gives up nodes that should have been heard of.
    pub(super) fn supervise(self: &Arc<Self>, job: &Arc<ActiveJob>) {
        let jobs = Arc::downgrade(self);
        let job = Arc::clone(job);
        tokio::spawn(async move {
            let mut changed = job.changed.subscribe();
            loop {
                let (next, is_final) = {
                    let run = job.run();
                    (run.next_overdue(), run.record.state.is_final())
                };
                if is_final {
                    return;
                }
                let Some(jobs) = jobs.upgrade() else { return };
                let now = jobs.steady();
                let overdue = job.run().overdue(now);
                for (node, ending) in overdue {
                    jobs.record_end(&job, &node, Outcome::bare(ending)).await;
                }
                jobs.advance(&job).await;
                let is_redialling = now < REDIAL + LOOK;
                drop(jobs);
                let wait = next.map_or(SILENCE, |at| at.saturating_sub(now)).max(LOOK);
                // Nodes that are waited for may be given up before `next`, which was read before they were.
                let wait = if is_redialling { LOOK } else { wait };
                // Reports carry the job forward by themselves; here only silence and the end matter.
                let ended = changed.wait_for(|_| job.run().record.state.is_final());
                let _timed_out = tokio::time::timeout(wait, ended).await;
            }
        });
    }

    /// Until when a node that is not connected may just not have dialled yet since this controller started.
    fn expected_until(&self, node: &NodeName) -> Option<Duration> {
        let joined_before = self.fleet.record(node).is_ok_and(|record| record.joined_at < self.started_at);
        (joined_before && self.steady() < REDIAL).then_some(REDIAL)
    }

    /// How long a node that is not connected may take to dial again, because this controller has only just started; `None`
    /// if it should be there.
    pub(crate) fn expected_within(&self, node: &NodeName) -> Option<Duration> {
        self.expected_until(node).map(|until| until.saturating_sub(self.steady()))
    }

    pub(super) fn give_up_at(&self, record: &JobRecord) -> Duration {
        self.steady() + record.timeout + SILENCE
    }

    /// Time since this controller started, whatever somebody does to the clock.
    fn steady(&self) -> Duration {
        self.opened.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use windlass_types::name::RunId;
    use windlass_types::node_step::{Lease, NodeStep, StepOrder};
    use windlass_types::time::UnixMillis;

    use super::*;
    use crate::arbiter::{Answer, Arbiter};
    use crate::jobs::NewJob;
    use crate::jobs::run::Run;
    use crate::server::testing::controller;
    use crate::store::memory::MemoryStore;

    fn node() -> NodeName {
        NodeName::new("node1").expect("a name")
    }

    async fn granted(arbiter: &Arbiter, run: &str) -> Lease {
        let run = RunId::new(run).expect("an id");
        match arbiter.request(&run, &node(), "root", |_| Vec::<()>::new()).await.expect("writable") {
            Answer::Granted(lease) => lease,
            Answer::Refused(why) => panic!("refused: {why:?}"),
        }
    }

    fn new(request_id: &str, lease: Option<Lease>) -> NewJob {
        let order = StepOrder { run: None, id: "packages/node1".to_owned(), step: NodeStep::RepairPackages, lease };
        NewJob {
            request_id: request_id.to_owned(),
            action: Action::Step(Box::new(order)),
            nodes: vec![node()],
            batch: 0,
            max_failures: None,
            timeout: Duration::from_secs(1),
            created_by: "root".to_owned(),
        }
    }

    /// How an order under this lease ends for a node that is not connected.
    async fn ordered(jobs: &Arc<Jobs>, request_id: &str, lease: Option<Lease>) -> Ending {
        let job = jobs.create(new(request_id, lease)).await.expect("stored");
        let mut answers = jobs.answers(&job.id, None).await.expect("known");
        answers.remove(&node()).expect("it has ended").outcome.ending
    }

    #[tokio::test]
    async fn a_job_that_is_forgotten_under_way_is_kept_until_its_end_and_no_longer() {
        let directory = tempfile::tempdir().expect("a directory");
        let controller = controller(MemoryStore::new(), directory.path()).await;
        let jobs = &controller.jobs;
        let (record, _) = jobs.records.create(new("survey", None), UnixMillis(0)).await.expect("stored");
        let job = ActiveJob::new(Run::new(record.clone()));
        jobs.active().insert(record.id.clone(), Arc::clone(&job));
        jobs.forget(&record.id).await;
        assert!(jobs.is_known("survey").await.expect("read"), "a restart must find it");
        jobs.advance(&job).await;
        assert!(!jobs.is_known("survey").await.expect("read"));
        assert!(ordered(jobs, "kept", None).await == Ending::Unreachable && jobs.is_known("kept").await.expect("read"));
    }

    #[test]
    fn an_order_under_a_lease_begins_within_minutes_however_long_it_may_take() {
        let hours = Duration::from_secs(2 * 3600);
        let action = |lease| {
            let step = NodeStep::RepairPackages;
            Action::Step(Box::new(StepOrder { run: None, id: "packages/node1".to_owned(), step, lease }))
        };
        let lease = Lease { number: 1, node: node(), run: RunId::new("r1").expect("an id") };
        assert_eq!(begins_within(&action(Some(lease.clone())), hours), BEGINS_WITHIN);
        assert_eq!(begins_within(&action(Some(lease)), Duration::from_secs(9)), Duration::from_secs(9));
        assert_eq!(begins_within(&action(None), hours), hours);
    }

    #[tokio::test]
    async fn an_order_under_a_lease_that_was_broken_does_not_leave() {
        let directory = tempfile::tempdir().expect("a directory");
        let controller = controller(MemoryStore::new(), directory.path()).await;
        let (jobs, arbiter) = (&controller.jobs, controller.runs.arbiter());
        let broken = granted(arbiter, "r1").await;
        assert_eq!(ordered(jobs, "stands", Some(broken.clone())).await, Ending::Unreachable);
        arbiter.release(&node(), "it hangs", "root").await.expect("released");
        let refused = Ending::Refused { message: "somebody released node1 before the order left".to_owned() };
        assert_eq!(ordered(jobs, "broken", Some(broken.clone())).await, refused);
        let next = granted(arbiter, "r2").await;
        assert_eq!(ordered(jobs, "another run has it", Some(broken)).await, refused);
        assert_eq!(ordered(jobs, "of that run", Some(next)).await, Ending::Unreachable);
        assert_eq!(ordered(jobs, "needs none", None).await, Ending::Unreachable);
    }
}
