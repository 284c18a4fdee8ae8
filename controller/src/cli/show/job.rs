// SPDX-License-Identifier: Apache-2.0
//! Jobs, as lists show them.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::job::JobState;
use windlass_types::time::UnixMillis;

use super::{Listed, utc, utc_unless_never};
use crate::cli::table::Cell;
use crate::cli::terminal::Tone;
use crate::duration::Age;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct JobView {
    /// Its id.
    pub(crate) id: String,
    /// Where it stands; absent when a newer controller says what this program does not know.
    pub(crate) state: Option<JobState>,
    /// What it does.
    pub(crate) summary: String,
    /// Who asked.
    pub(crate) created_by: String,
    /// When.
    pub(crate) created_at: String,
    /// When it ended.
    pub(crate) ended_at: Option<String>,
    /// Nodes in all.
    pub(crate) nodes: u32,
    /// Nodes that ended well.
    pub(crate) succeeded: u32,
    /// Nodes that ended otherwise.
    pub(crate) failed: u32,
    #[serde(skip)]
    created: UnixMillis,
}

impl From<v1::Job> for JobView {
    fn from(job: v1::Job) -> Self {
        let state = match job.state() {
            v1::JobState::Unspecified => None,
            v1::JobState::Running => Some(JobState::Running),
            v1::JobState::Succeeded => Some(JobState::Succeeded),
            v1::JobState::Failed => Some(JobState::Failed),
            v1::JobState::Stopped => Some(JobState::Stopped),
        };
        Self {
            id: job.id,
            state,
            summary: job.summary,
            created_by: job.created_by,
            created_at: utc(UnixMillis(job.created_unix_millis)),
            ended_at: utc_unless_never(UnixMillis(job.ended_unix_millis)),
            nodes: job.nodes,
            succeeded: job.succeeded,
            failed: job.failed,
            created: UnixMillis(job.created_unix_millis),
        }
    }
}

/// Longest summary in a narrow table, characters: what is left of 80 beside the other columns.
const LONGEST_SUMMARY: usize = 36;

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST_SUMMARY {
        return text.to_owned();
    }
    text.chars().take(LONGEST_SUMMARY - 1).chain(['…']).collect()
}

impl Listed for JobView {
    const KIND: &'static str = "Job";

    fn name(&self) -> String {
        windlass_types::escape::Escaped(&self.id).to_string()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["ID", "STATE", "NODES", "OK", "FAILED", "AGE", "WHAT"];
        if wide {
            header.extend(["BY", "CREATED", "ENDED"]);
        }
        header
    }

    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell> {
        let tone = match self.state {
            Some(JobState::Succeeded) => Tone::Good,
            Some(JobState::Failed) => Tone::Bad,
            Some(JobState::Running | JobState::Stopped) | None => Tone::Warning,
        };
        let mut cells = vec![
            Cell::new(&self.id),
            Cell::new(self.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string())).toned(tone),
            Cell::new(self.nodes),
            Cell::new(self.succeeded),
            Cell::new(self.failed),
            Cell::new(Age(now.since(self.created))),
            Cell::new(if wide { self.summary.clone() } else { shortened(&self.summary) }),
        ];
        if wide {
            cells.push(Cell::new(&self.created_by));
            cells.push(Cell::new(&self.created_at));
            cells.push(Cell::new(self.ended_at.as_deref().unwrap_or_default()));
        }
        cells
    }
}
