// SPDX-License-Identifier: Apache-2.0
//! Watching a job: from its beginning to its end, in batches, whoever else watches and however slowly.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use windlass_proto::v1;
use windlass_proto::v1::job_event::Happening as Wire;
use windlass_types::name::JobId;

use super::ActiveJob;
use super::output::Outputs;
use super::run::{Happening, JobRecord};

/// Events in one message at most: many small ones make one frame, none makes a message too large.
const MOST_EVENTS: usize = 200;

/// Bytes of output in one message at most.
const MOST_BYTES: usize = 256 * 1024;

/// What happens within this time goes in one message: shorter than anybody notices, and a tenth of the work.
const TOGETHER: Duration = Duration::from_millis(5);

/// One piece of spooled output.
const PIECE: u64 = 64 * 1024;

/// Follows one job.
#[derive(Debug)]
pub struct Watcher {
    job: Arc<ActiveJob>,
    outputs: Outputs,
    changed: watch::Receiver<u64>,
    index: usize,
    /// Where to go on within a spooled happening.
    within: Option<u64>,
    has_begun: bool,
    is_over: bool,
}

impl Watcher {
    pub(super) fn new(job: Arc<ActiveJob>, outputs: Outputs) -> Self {
        let changed = job.changed.subscribe();
        Self { job, outputs, changed, index: 0, within: None, has_begun: false, is_over: false }
    }

    /// The next batch; `None` after the job's end.
    pub async fn next(&mut self) -> Option<v1::WatchJobResponse> {
        while !self.is_over {
            self.changed.mark_unchanged();
            let events = self.gather();
            if !events.is_empty() {
                return Some(v1::WatchJobResponse { events });
            }
            if self.changed.changed().await.is_err() {
                // The controller is ending; the caller attaches again.
                return None;
            }
            self.more_or_the_end().await;
        }
        None
    }

    /// Ends of many nodes come one by one and close together: they are shown together.
    async fn more_or_the_end(&mut self) {
        let job = Arc::clone(&self.job);
        let ended = self.changed.wait_for(|_| job.run().record.state.is_final());
        let _more_meanwhile = tokio::time::timeout(TOGETHER, ended).await;
    }

    fn gather(&mut self) -> Vec<v1::JobEvent> {
        let (pending, id, now, is_final) = {
            let run = self.job.run();
            let pending: Vec<_> = run.since(self.index).iter().take(MOST_EVENTS).cloned().collect();
            (pending, run.record.id.clone(), summary(&run.record, run.tally()), run.record.state.is_final())
        };
        let mut events = Vec::with_capacity(pending.len() + 1);
        if !self.has_begun {
            self.has_begun = true;
            events.push(event("", Wire::Begun(now.clone())));
        }
        let mut bytes = 0;
        let count = pending.len();
        for happening in pending {
            if bytes >= MOST_BYTES {
                return events;
            }
            let (event, size, is_done) = self.show(&id, happening);
            events.extend(event);
            bytes += size;
            if is_done {
                self.index += 1;
            }
        }
        if count < MOST_EVENTS && is_final && self.job.run().since(self.index).is_empty() {
            self.is_over = true;
            events.push(event("", Wire::Ended(now)));
        }
        events
    }

    fn show(&mut self, job: &JobId, happening: Happening) -> (Option<v1::JobEvent>, usize, bool) {
        match happening {
            Happening::Started { node, pid } => {
                (Some(event(node.as_str(), Wire::Started(v1::JobStarted { pid }))), 0, true)
            }
            Happening::Ended { node, outcome } => {
                (Some(event(node.as_str(), Wire::Outcome((&outcome).into()))), 0, true)
            }
            Happening::Inline { node, stream, data } => {
                let size = data.len();
                let output = v1::JobOutput { stream: stream.into(), data };
                (Some(event(node.as_str(), Wire::Output(output))), size, true)
            }
            Happening::Spooled { node, stream, offset, end } => {
                let from = self.within.take().unwrap_or(offset);
                let most = usize::try_from((end - from).min(PIECE)).unwrap_or_default();
                let data = self.outputs.read(job, &node, stream, from, most).unwrap_or_else(|error| {
                    tracing::warn!(%job, %node, %error, "stored output cannot be read");
                    Vec::new()
                });
                let size = data.len();
                let next = from + size as u64;
                let is_done = size == 0 || next >= end;
                self.within = (!is_done).then_some(next);
                let output = v1::JobOutput { stream: stream.into(), data: data.into() };
                (Some(event(node.as_str(), Wire::Output(output))), size, is_done)
            }
        }
    }
}

fn event(node: &str, happening: Wire) -> v1::JobEvent {
    v1::JobEvent { node: node.to_owned(), happening: Some(happening) }
}

/// A job for a list.
#[must_use]
pub(crate) fn summary(record: &JobRecord, (succeeded, failed): (usize, usize)) -> v1::Job {
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    v1::Job {
        id: record.id.to_string(),
        state: v1::JobState::from(record.state).into(),
        summary: record.action.to_string(),
        created_by: record.created_by.clone(),
        created_unix_millis: record.created_at.0,
        ended_unix_millis: record.ended_at.map(|at| at.0).unwrap_or_default(),
        nodes: small(record.nodes.len()),
        succeeded: small(succeeded),
        failed: small(failed),
    }
}
