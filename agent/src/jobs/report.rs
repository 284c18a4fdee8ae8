// SPDX-License-Identifier: Apache-2.0
//! What the controller is told of jobs, until it knows.

use std::collections::VecDeque;
use std::time::Duration;

use windlass_proto::v1;
use windlass_types::name::JobId;
use windlass_types::outcome::Outcome;

use super::Jobs;
use super::table::MOST_REFUSALS;
use crate::output::{Spool, Stream};

/// Output that is this short and came this soon travels with the outcome; everything else goes over a connection of its
/// own. A job this short is not announced as started either: its outcome says so.
const INLINE_BYTES: u64 = 4 * 1024;
pub(super) const QUICK: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    Started(JobId),
    Ended(JobId),
    Refused(JobId, Outcome),
}

impl Jobs {
    /// A new session: everything the controller does not know is reported again.
    pub fn report_all(&self) {
        self.reached.cancel();
        let mut table = self.table();
        table.outbox.retain(|report| matches!(report, Report::Refused(..)));
        let started: Vec<_> = table.running.keys().cloned().map(Report::Started).collect();
        let ended: Vec<_> = table.ready.keys().cloned().map(Report::Ended).collect();
        table.outbox.extend(started.into_iter().chain(ended));
        drop(table);
        self.reports.notify_one();
    }

    pub(super) fn post(&self, report: Report) {
        let mut table = self.table();
        if let Report::Refused(job, _) = &report {
            make_room_for_refusal(&mut table.outbox, job);
        }
        if !table.outbox.contains(&report) {
            table.outbox.push_back(report);
        }
        drop(table);
        self.reports.notify_one();
    }

    /// The next report. May be dropped while it waits.
    pub async fn next_report(&self) -> v1::JobReport {
        loop {
            let report = self.table().outbox.pop_front();
            match report {
                Some(report) => {
                    if let Some(wire) = self.to_wire(report) {
                        return wire;
                    }
                }
                None => self.reports.notified().await,
            }
        }
    }

    fn to_wire(&self, report: Report) -> Option<v1::JobReport> {
        use v1::job_report::State;
        let (job, state) = match report {
            Report::Refused(job, outcome) => (job, State::Outcome((&outcome).into())),
            Report::Started(job) => {
                let pid = *self.table().running.get(&job)?;
                (job, State::Started(v1::JobStarted { pid }))
            }
            Report::Ended(job) => {
                let outcome = self.table().ready.get(&job)?.clone();
                let mut wire = v1::JobOutcome::from(&outcome);
                if let Some([stdout, stderr]) = self.inline_output(&job, &outcome) {
                    (wire.stdout, wire.stderr) = (stdout, stderr);
                }
                (job, State::Outcome(wire))
            }
        };
        Some(v1::JobReport { job: job.as_str().to_owned(), state: Some(state) })
    }

    /// Both outputs if they travel with the outcome.
    fn inline_output(&self, job: &JobId, outcome: &Outcome) -> Option<[bytes::Bytes; 2]> {
        if outcome.stdout_bytes == 0 && outcome.stderr_bytes == 0 {
            return None;
        }
        let spool = Spool::open(&self.spool_root(), job, 0).ok().filter(|spool| is_inline(spool, outcome))?;
        let most = usize::try_from(INLINE_BYTES).unwrap_or(0);
        let read = |stream| spool.read(stream, 0, most).unwrap_or_default();
        Some([read(Stream::Stdout), read(Stream::Stderr)])
    }
}

/// One refusal of a job is as good as many. The newest are told: the controller orders again what it was not told of, or gives
/// it up.
fn make_room_for_refusal(outbox: &mut VecDeque<Report>, job: &JobId) {
    outbox.retain(|waiting| !matches!(waiting, Report::Refused(before, _) if before == job));
    let is_refusal = |report: &Report| matches!(report, Report::Refused(..));
    if outbox.iter().filter(|report| is_refusal(report)).count() >= MOST_REFUSALS
        && let Some(oldest) = outbox.iter().position(is_refusal)
    {
        outbox.remove(oldest);
    }
}

/// Decided by what is on disk and in the outcome alone, so that a restarted agent decides the same.
pub(super) fn is_inline(spool: &Spool, outcome: &Outcome) -> bool {
    outcome.duration <= QUICK && Stream::BOTH.iter().all(|stream| spool.kept(*stream) <= INLINE_BYTES)
}
