// SPDX-License-Identifier: Apache-2.0
//! What is known of all jobs at this moment: the journal, and beside it what need not survive.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::Outcome;

use super::accept::Known;
use super::report::Report;
use crate::journal::{JobStage, Journal, Record};

#[derive(Debug)]
pub(super) struct Table {
    pub(super) journal: Journal,
    pub(super) stops: BTreeMap<JobId, mpsc::Sender<Duration>>,
    /// Programs that run and were announced, by process id.
    pub(super) running: BTreeMap<JobId, u32>,
    /// Ended, output stored, not acknowledged.
    pub(super) ready: BTreeMap<JobId, Outcome>,
    pub(super) outbox: VecDeque<Report>,
    /// How jobs were refused of which the controller gave the order, which may have been told by now; the newest last.
    pub(super) refused: VecDeque<(JobId, Outcome)>,
}

/// Refusals that are kept, and that wait for a session: whoever has orders forged by the thousand and takes no reports is not
/// told of each.
pub(super) const MOST_REFUSALS: usize = 256;

impl Table {
    /// Keeps how a job was refused, of the newest ones.
    pub(super) fn keep_refusal(&mut self, job: JobId, outcome: Outcome) {
        self.refused.retain(|(before, _)| *before != job);
        self.refused.push_back((job, outcome));
        let surplus = self.refused.len().saturating_sub(MOST_REFUSALS);
        self.refused.drain(..surplus);
    }

    /// How a job was refused, if it was.
    pub(super) fn refusal(&self, job: &JobId) -> Option<Outcome> {
        self.refused.iter().find(|(before, _)| before == job).map(|(_, outcome)| outcome.clone())
    }

    /// Whether a job was obeyed before.
    pub(super) fn known(&self, job: &JobId) -> Known {
        let state = self.journal.state();
        match state.job(job).map(|(_, stage)| stage) {
            None if state.done().has(job) => Known::Acknowledged,
            None if state.done().is_too_old(job) => Known::TooOld,
            None => Known::No,
            Some(JobStage::Ended(_)) if self.ready.contains_key(job) => Known::EndedUnacknowledged,
            Some(JobStage::Acknowledged) => Known::Acknowledged,
            Some(_) => Known::Yes,
        }
    }

    /// Records what has happened, at once or as soon as that can be done; tells whether it was at once.
    pub(super) fn note(&mut self, record: Record) -> bool {
        let noted = self.journal.note(record);
        if let Err(error) = &noted {
            let why = ErrorChain(error);
            tracing::error!(error = %why, "what happened could not be recorded: make room on the disk, or mend it; it is \
                recorded then, unless this agent ends before");
        }
        noted.is_ok()
    }

    /// Drops history from the journal if there is much of it.
    pub(super) fn compact(&mut self) {
        if let Err(error) = self.journal.compact_if_large() {
            tracing::warn!(error = %ErrorChain(&error), "the journal could not be compacted; that is tried again");
        }
    }
}
