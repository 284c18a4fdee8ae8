// SPDX-License-Identifier: Apache-2.0
//! Runs.

use std::time::Duration;

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::machine::MachineStage;
use windlass_types::time::UnixMillis;

use super::{Listed, utc, utc_unless_never};
use crate::cli::run_summary;
use crate::cli::table::Cell;
use crate::cli::terminal::Tone;
use crate::duration::Age;

/// A plan that is or was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunView {
    id: String,
    cluster: String,
    what: String,
    state: &'static str,
    created_by: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    step_count: u32,
    done_count: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    paused: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<StepView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queued: Vec<QueuedView>,
    #[serde(skip_serializing_if = "is_zero")]
    plan_revision: u32,
    #[serde(skip)]
    created_millis: UnixMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct QueuedView {
    node: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepView {
    id: String,
    node: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    joining_millis: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    attempt: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    was_done: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    advice: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StageView {
    stage: &'static str,
    reached_at: String,
    after_millis: u64,
}

impl From<v1::Run> for RunView {
    fn from(run: v1::Run) -> Self {
        let state = match run.state() {
            v1::RunState::Running => "running",
            v1::RunState::Succeeded => "succeeded",
            v1::RunState::Failed => "failed",
            v1::RunState::Stopped => "stopped",
            v1::RunState::Paused => "paused",
            v1::RunState::Unspecified => "unknown",
        };
        Self {
            state,
            created_at: utc(UnixMillis(run.created_unix_millis)),
            ended_at: (run.ended_unix_millis != 0).then(|| utc(UnixMillis(run.ended_unix_millis))),
            created_millis: UnixMillis(run.created_unix_millis),
            steps: run.steps.into_iter().map(StepView::from).collect(),
            step_count: run.step_count,
            blocked: run.blocked,
            queued: run
                .queued
                .into_iter()
                .map(|queued| QueuedView { node: queued.node, reason: queued.reason })
                .collect(),
            plan_revision: run.plan_revision,
            id: run.id,
            cluster: run.cluster,
            what: run.what,
            created_by: run.created_by,
            paused: run.paused,
            holds: run.holds,
            done_count: run.done_count,
        }
    }
}

impl From<v1::RunStep> for StepView {
    fn from(step: v1::RunStep) -> Self {
        let state = step_state(&step);
        Self {
            attempt: step.attempt,
            was_done: step.was_done,
            started_at: utc_unless_never(UnixMillis(step.started_unix_millis)),
            ended_at: utc_unless_never(UnixMillis(step.ended_unix_millis)),
            stages: step.stages.iter().filter_map(|time| stage(&step, time)).collect(),
            joining_millis: run_summary::joining(&step).map(millis),
            id: step.id,
            node: step.node,
            state,
            message: step.message,
            advice: step.advice,
        }
    }
}

fn stage(step: &v1::RunStep, time: &v1::StageTime) -> Option<StageView> {
    let known = MachineStage::ALL.into_iter().find(|stage| v1::MachineStage::from(*stage) == time.stage())?;
    Some(StageView {
        stage: known.as_str(),
        reached_at: utc(UnixMillis(time.unix_millis)),
        after_millis: millis(run_summary::after(step, time.stage())?),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where a step stands, in a word.
pub(crate) fn step_state(step: &v1::RunStep) -> &'static str {
    match step.state() {
        v1::StepState::Waiting => "waiting",
        v1::StepState::Running => "running",
        v1::StepState::Done => "done",
        v1::StepState::Failed => "failed",
        v1::StepState::Skipped => "skipped",
        v1::StepState::Stopped => "stopped",
        v1::StepState::Unspecified => "unknown",
    }
}

impl RunView {
    /// Whether it has not ended.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self.state, "running" | "paused")
    }

    /// Where it stands, in a word.
    pub(crate) const fn state(&self) -> &'static str {
        self.state
    }
}

impl Listed for RunView {
    const KIND: &'static str = "Run";

    fn name(&self) -> String {
        self.id.clone()
    }

    fn header(_wide: bool) -> Vec<&'static str> {
        vec!["RUN", "WHAT", "STATE", "DONE", "BY", "AGE"]
    }

    fn cells(&self, _wide: bool, now: UnixMillis) -> Vec<Cell> {
        let tone = match self.state {
            "succeeded" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Warning,
        };
        vec![
            Cell::new(&self.id),
            Cell::new(&self.what),
            Cell::new(self.state).toned(tone),
            Cell::new(format!("{}/{}", self.done_count, self.step_count)),
            Cell::new(&self.created_by),
            Cell::new(Age(now.since(self.created_millis))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::{self, Format};

    #[test]
    fn a_list_says_on_what_and_how_far_each_run_came() {
        let run = |id: &str, what: &str, state: v1::RunState, done_count| {
            let (id, what, created_by) = (id.into(), what.into(), "alice".into());
            RunView::from(v1::Run {
                id,
                what,
                created_by,
                state: state.into(),
                done_count,
                step_count: 9,
                ..Default::default()
            })
        };
        let runs = [
            run("r7", "reboot 3 nodes", v1::RunState::Running, 2),
            run("r6", "apply k8s1", v1::RunState::Succeeded, 9),
        ];
        let mut out = Vec::new();
        show::list(&mut out, &runs, Format::Table, false, UnixMillis(60_000)).expect("a vector takes everything");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "RUN  WHAT            STATE      DONE  BY     AGE\nr7   reboot 3 nodes  running    2/9   alice  1m\n\
             r6   apply k8s1      succeeded  9/9   alice  1m\n"
        );
    }
}
