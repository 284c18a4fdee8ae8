// SPDX-License-Identifier: Apache-2.0
//! Carrying a job forward: whose turn it is, orders out, ends recorded, silence noticed.
//!
//! May be entered from several tasks at once; the run's lock decides who takes a turn or records an end, and nothing is
//! awaited while it is held.

use std::sync::Arc;
use std::time::Duration;

use windlass_proto::v1;
use windlass_proto::v1::OutputStream;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::order_payload::Payload;
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

/// Agents dial again within this time after the controller is back: their longest pause and a handshake.
const REDIAL: Duration = Duration::from_secs(20);

/// Silence is noticed to this.
const LOOK: Duration = Duration::from_secs(1);

/// Between the two signals of a stopped job.
const STOP_GRACE: Duration = Duration::from_secs(5);

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
                if self.send_order(job, &node).is_ok() {
                    continue;
                }
                match self.expected_until(&node) {
                    Some(until) => job.run().await_agent(&node, until),
                    None => self.record_end(job, &node, Outcome::bare(Ending::Unreachable)).await,
                }
            }
            for node in left_over {
                self.record_end(job, &node, Outcome::bare(Ending::Skipped)).await;
            }
        }
        self.finish(job).await;
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
    }

    pub(super) fn send_order(&self, job: &ActiveJob, node: &NodeName) -> Result<(), NotConnected> {
        let mut order = {
            // Not cloned: the record names every node of the job, and there is an order for each.
            let record = &job.run().record;
            v1::Order {
                job: record.id.to_string(),
                node: node.to_string(),
                epoch: self.epoch.number(),
                sequence: 0,
                expires_unix_millis: self.clock.now().plus(record.timeout).plus(SILENCE).0,
                timeout_millis: u64::try_from(record.timeout.as_millis()).unwrap_or(u64::MAX),
                output_limit_bytes: self.output_limit_bytes,
                action: Some((&record.action).into()),
            }
        };
        // Numbered while the node's outbox is locked: orders of two jobs must leave in the order of their numbers.
        self.fleet.send_with(node, || {
            order.sequence = self.epoch.next_sequence();
            Down::Order(self.order_key.sign(Payload::Order(order)))
        })
    }

    pub(super) fn send_stop(&self, id: &JobId, node: &NodeName) {
        let grace_millis = u32::try_from(STOP_GRACE.as_millis()).unwrap_or(u32::MAX);
        // A node that is not connected is told at the beginning of its next session.
        let stop = v1::StopOrder { job: id.to_string(), grace_millis, node: node.to_string() };
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
