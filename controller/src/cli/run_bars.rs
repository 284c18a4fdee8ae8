// SPDX-License-Identifier: Apache-2.0
//! Bars for a run, one for each step that was begun, where a person looks. Below them stands what holds the run up.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::folded::folded;
use super::run_sheet::resume;

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
    /// What holds the run up, below all others.
    notice: Option<ProgressBar>,
    colour: bool,
}

impl Bars {
    /// None yet.
    pub(crate) fn new(colour: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { all, bars: HashMap::new(), awaited: HashMap::new(), notice: None, colour }
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
        self.show_notice(run);
    }

    fn show_notice(&mut self, run: &v1::Run) {
        let Some(text) = notice(run) else {
            if let Some(bar) = self.notice.take() {
                self.all.remove(&bar);
            }
            return;
        };
        let bar = self.notice.get_or_insert_with(|| {
            let bar = self.all.add(ProgressBar::no_length());
            bar.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_message(text);
    }

    fn add(&self, bar: ProgressBar) -> ProgressBar {
        match &self.notice {
            Some(notice) => self.all.insert_before(notice, bar),
            None => self.all.add(bar),
        }
    }

    fn show_awaited(&mut self, run: &v1::Run) {
        let is_over = |node: &String| !run.queued.iter().any(|queued| queued.node == *node);
        for (_, bar) in self.awaited.extract_if(|node, _| is_over(node)) {
            self.all.remove(&bar);
        }
        for queued in run.queued.iter().take(MOST_BARS) {
            if !self.awaited.contains_key(&queued.node) {
                let bar = self.add(ProgressBar::no_length());
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
        self.awaited.values().chain(&self.notice).for_each(ProgressBar::abandon);
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
        let bar = self.add(ProgressBar::new(step.expected_millis.max(1)));
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

/// What holds a run up: why it is paused and how it goes on, or what its next step waits for. Steps that wait have no bar, so
/// without this the screen of a run that only waits is empty.
fn notice(run: &v1::Run) -> Option<String> {
    let text = match run.state() {
        v1::RunState::Paused => paused(run),
        v1::RunState::Running => {
            let waits = |step: &&v1::RunStep| step.state() == v1::StepState::Waiting && !step.message.is_empty();
            let step = run.steps.iter().find(waits)?;
            format!("{} {}", Escaped(&step.id), Escaped(&step.message))
        }
        v1::RunState::Succeeded | v1::RunState::Failed | v1::RunState::Stopped | v1::RunState::Unspecified => {
            return None;
        }
    };
    Some(folded(&text).trim_end().to_owned())
}

/// The whole of what the first bar of a failed step has no room for, and what to type.
fn paused(run: &v1::Run) -> String {
    let mut text = format!("PAUSED: {}\n", Escaped(&run.paused));
    if let Some(step) = run.steps.iter().find(|step| step.state() == v1::StepState::Failed) {
        text.push_str(&format!("  {}: {}\n", Escaped(&step.id), Escaped(&step.message)));
        if !step.advice.is_empty() {
            text.push_str(&format!("  do: {}\n", Escaped(&step.advice)));
        }
    }
    text.extend(resume(run).map(|command| format!("next: {command}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(id: &str, state: v1::StepState, message: &str) -> v1::RunStep {
        v1::RunStep { id: id.into(), state: state.into(), message: message.into(), ..Default::default() }
    }

    fn run(state: v1::RunState, paused: &str, steps: &[v1::RunStep]) -> v1::Run {
        v1::Run {
            id: "r7".into(),
            state: state.into(),
            paused: paused.into(),
            steps: steps.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn a_run_that_only_waits_says_for_what() {
        use v1::StepState::{Done, Waiting};
        let closed = "waits: the window Tue 02:00-06:00 Europe/Berlin is closed; it opens Tue 02:00";
        let steps = [step("a/node1", Done, "x"), step("boot/node1", Waiting, ""), step("boot/node2", Waiting, closed)];
        let said = "boot/node2 waits: the window Tue 02:00-06:00 Europe/Berlin is closed; it opens\n  Tue 02:00";
        assert_eq!(notice(&run(v1::RunState::Running, "", &steps)).as_deref(), Some(said));
        assert_eq!(notice(&run(v1::RunState::Running, "", &steps[..2])), None);
        assert_eq!(notice(&run(v1::RunState::Stopped, "", &steps)), None);
    }

    #[test]
    fn a_paused_run_says_why_and_what_to_type() {
        let failed = v1::RunStep {
            advice: "mend it".into(),
            ..step("boot/node2", v1::StepState::Failed, "node2 was not connected\u{1b}[2J")
        };
        let paused = run(v1::RunState::Paused, "boot/node2 failed", &[failed]);
        assert_eq!(
            notice(&paused).as_deref(),
            Some(
                "PAUSED: boot/node2 failed\n  boot/node2: node2 was not connected\\u{1b}[2J\n  do: mend it\n\
                 next: windlass run resume r7, or windlass run retry r7"
            )
        );
        let rests = run(v1::RunState::Paused, "the disk is full; it goes on by itself", &[]);
        assert_eq!(notice(&rests).as_deref(), Some("PAUSED: the disk is full; it goes on by itself"));
    }

    #[test]
    fn what_holds_it_up_stands_below_bars_that_come_later() {
        let mut bars = Bars::new(false);
        bars.all.set_draw_target(ProgressDrawTarget::hidden());
        let waits = step("boot/node1", v1::StepState::Waiting, "waits: 1 down");
        bars.show(&run(v1::RunState::Running, "", std::slice::from_ref(&waits)), 0);
        assert_eq!(bars.notice.as_ref().map(ProgressBar::message).as_deref(), Some("boot/node1 waits: 1 down"));
        let begun = step("boot/node2", v1::StepState::Running, "");
        bars.show(&run(v1::RunState::Running, "", &[begun, waits]), 0);
        bars.show(&run(v1::RunState::Running, "", &[]), 0);
        assert!(bars.notice.is_none() && bars.bars.len() == 1);
    }

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
