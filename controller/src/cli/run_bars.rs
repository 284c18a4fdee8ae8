// SPDX-License-Identifier: Apache-2.0
//! Bars for a run, one for each step, where a person looks.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use windlass_proto::v1;
use windlass_types::escape::Escaped;

/// Steps shown at once: more do not fit above the prompt of a small terminal. What ended well makes room first.
const MOST_BARS: usize = 16;

/// Often enough for a clock of seconds.
const TICK: Duration = Duration::from_millis(250);

/// Columns for the name of a step.
const NAME_COLUMNS: usize = 20;

/// The bars.
pub(crate) struct Bars {
    all: MultiProgress,
    bars: HashMap<String, ProgressBar>,
    /// Nodes that are waited for, below the steps.
    awaited: HashMap<String, ProgressBar>,
    colour: bool,
}

impl Bars {
    /// None yet.
    pub(crate) fn new(colour: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { all, bars: HashMap::new(), awaited: HashMap::new(), colour }
    }

    /// Shows how a run stands.
    pub(crate) fn show(&mut self, run: &v1::Run, now_millis: i64) {
        for step in &run.steps {
            if self.bars.len() >= MOST_BARS && !self.bars.contains_key(&step.id) {
                self.make_room(run);
            }
            if step.state() == v1::StepState::Waiting
                || self.bars.len() >= MOST_BARS && !self.bars.contains_key(&step.id)
            {
                continue;
            }
            let bar = self.bar(step, now_millis);
            bar.set_position(position(step, now_millis));
            bar.set_message(said(step, now_millis));
            if step.ended_unix_millis != 0 && !bar.is_finished() {
                bar.abandon();
            }
        }
        self.show_awaited(run);
    }

    fn show_awaited(&mut self, run: &v1::Run) {
        let is_over = |node: &String| !run.queued.iter().any(|queued| queued.node == *node);
        for (_, bar) in self.awaited.extract_if(|node, _| is_over(node)) {
            self.all.remove(&bar);
        }
        for queued in run.queued.iter().take(MOST_BARS) {
            if !self.awaited.contains_key(&queued.node) {
                let bar = self.all.add(ProgressBar::no_length());
                let template = format!("{{prefix:{NAME_COLUMNS}!}} {{wide_msg}}");
                bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(Escaped(&queued.node).to_string());
                bar.set_message(format!("is waited for: {}", Escaped(&queued.reason)));
                self.awaited.insert(queued.node.clone(), bar);
            }
        }
    }

    /// The last state stays on the screen.
    pub(crate) fn finish(&mut self) {
        self.awaited.values().for_each(ProgressBar::abandon);
        self.bars.values().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
    }

    fn make_room(&mut self, run: &v1::Run) {
        let done =
            run.steps.iter().find(|step| step.state() == v1::StepState::Done && self.bars.contains_key(&step.id));
        if let Some(bar) = done.and_then(|step| self.bars.remove(&step.id)) {
            self.all.remove(&bar);
        }
    }

    fn bar(&mut self, step: &v1::RunStep, now_millis: i64) -> ProgressBar {
        if let Some(bar) = self.bars.get(&step.id) {
            return bar.clone();
        }
        let bar = self.all.add(ProgressBar::new(step.expected_millis.max(1)));
        let elapsed = u64::try_from(now_millis - step.started_unix_millis).unwrap_or(0);
        let colour = if self.colour { ".cyan" } else { "" };
        let template = format!("{{prefix:{NAME_COLUMNS}!}} {{bar:16{colour}}} {{elapsed:>4}} {{wide_msg}}");
        let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        let bar = bar.with_elapsed(Duration::from_millis(elapsed));
        bar.set_prefix(Escaped(&step.id).to_string());
        bar.enable_steady_tick(TICK);
        self.bars.insert(step.id.clone(), bar.clone());
        bar
    }
}

/// How full a bar is: what of the expected time is over, but never full before the end, and never behind the stage.
fn position(step: &v1::RunStep, now_millis: i64) -> u64 {
    let whole = step.expected_millis.max(1);
    if step.state() == v1::StepState::Done {
        return whole;
    }
    let elapsed = u64::try_from(now_millis - step.started_unix_millis).unwrap_or(0);
    elapsed.min(step.expected_stage_millis.max(1)).min(whole.saturating_mul(19) / 20)
}

fn said(step: &v1::RunStep, now_millis: i64) -> String {
    let stage = match step.stage() {
        v1::MachineStage::Unspecified if step.verb == "adopt" && step.state() == v1::StepState::Running => {
            "waiting for it to join"
        }
        v1::MachineStage::Unspecified => "",
        v1::MachineStage::Created => "created",
        v1::MachineStage::Booting => "booting",
        v1::MachineStage::CloudInit => "cloud-init",
        v1::MachineStage::AgentInstalled => "agent installed",
        v1::MachineStage::Enrolled => "enrolled",
        v1::MachineStage::Healthy => "healthy",
    };
    match step.state() {
        v1::StepState::Done if stage.is_empty() => "done".to_owned(),
        v1::StepState::Done => stage.to_owned(),
        v1::StepState::Failed => format!("FAILED {}", Escaped(&step.message)),
        v1::StepState::Stopped => "stopped".to_owned(),
        v1::StepState::Skipped => "skipped".to_owned(),
        _ if !step.message.is_empty() => format!("{stage}, {}", Escaped(&step.message)),
        _ => format!("{stage}{}", left(step, now_millis)),
    }
}

fn left(step: &v1::RunStep, now_millis: i64) -> String {
    let elapsed = u64::try_from(now_millis - step.started_unix_millis).unwrap_or(0);
    match step.expected_millis.checked_sub(elapsed) {
        Some(left) if left >= 1000 => format!(", about {} s left", left / 1000),
        Some(_) | None if step.expected_millis > 0 => ", longer than usual".to_owned(),
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_full_before_the_end_nor_ahead_of_its_stage() {
        let mut step = v1::RunStep {
            state: v1::StepState::Running.into(),
            started_unix_millis: 1_000,
            expected_millis: 100_000,
            expected_stage_millis: 30_000,
            ..Default::default()
        };
        assert_eq!(position(&step, 11_000), 10_000);
        assert_eq!(position(&step, 91_000), 30_000);
        step.expected_stage_millis = 100_000;
        assert_eq!(position(&step, 1_000_000), 95_000);
        assert!(said(&step, 1_000_000).contains("longer than usual"));
        step.state = v1::StepState::Done.into();
        assert_eq!(position(&step, 1_000_000), 100_000);
    }
}
