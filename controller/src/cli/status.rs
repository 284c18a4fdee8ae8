// SPDX-License-Identifier: Apache-2.0
//! `windlass status`: is everything well, and if not, what is not; which run has which node, and what waits for what. The
//! same conditions that let a run go on to the next node.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::time::Instant;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::folded::folded;
use super::get;
use super::run::now;
use super::run_sheet::{resume, retry_or_release};
use super::show::{self, ResultFormat, local_in, utc};
use crate::duration;

/// How often a waiting command looks.
const EVERY: Duration = Duration::from_secs(2);

/// Steps that wait and are named; a run of many nodes has many, all for the same reason.
const MOST_WAITING: usize = 3;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Wait until all nodes are healthy, none is quarantined and no run is under way
    #[arg(long)]
    wait: bool,
    /// Longest wait
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30m")]
    timeout: Duration,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// How everything is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusView {
    is_well: bool,
    nodes: usize,
    ill: Vec<Ill>,
    reboot_needed: Vec<Ill>,
    holds: Vec<HoldView>,
    runs: Vec<UnderWay>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Ill {
    node: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct HoldView {
    node: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    run: String,
    since: String,
    by: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip)]
    since_millis: UnixMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct UnderWay {
    id: String,
    done: u32,
    steps: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    paused: String,
    waiting: Vec<String>,
    /// How it is let go on, if it is paused and somebody must.
    #[serde(skip)]
    resume: Option<String>,
}

/// Shows how everything is.
///
/// # Errors
/// If the controller cannot be reached.
pub(crate) async fn run(context: &Context, arguments: StatusArgs) -> Result<Exit, Failure> {
    let until = Instant::now() + arguments.timeout;
    let mut view = look(context).await?;
    while arguments.wait && !(view.is_well && view.runs.is_empty()) && Instant::now() < until {
        tokio::time::sleep(EVERY).await;
        view = look(context).await?;
    }
    let mut out = context.terminal.out();
    match arguments.output {
        ResultFormat::Text => {
            let text = text(&view, &TimeZone::system());
            write!(out, "{}", if context.terminal.stdout_is_terminal { folded(&text) } else { text })?;
        }
        ResultFormat::Json => show::json_document(&mut out, "Status", &view)?,
    }
    out.flush()?;
    Ok(match (view.is_well && (view.runs.is_empty() || !arguments.wait), arguments.wait) {
        (true, _) => Exit::Done,
        (false, true) => Exit::TimedOut,
        (false, false) => Exit::NodesFailed,
    })
}

async fn look(context: &Context) -> Result<StatusView, Failure> {
    let nodes = get::raw_nodes(context, None).await?;
    let mut view = StatusView { nodes: nodes.len(), ..StatusView::default() };
    for node in &nodes {
        let condition = |kind| node.conditions.iter().find(|condition| condition.kind() == kind);
        let holds = |kind| condition(kind).is_some_and(|condition| condition.holds);
        let ill = |kind| {
            let reason = condition(kind).map(|condition| condition.reason.clone()).unwrap_or_default();
            Ill { node: node.name.clone(), reason }
        };
        if !holds(v1::ConditionKind::Healthy) && !holds(v1::ConditionKind::Revoked) {
            view.ill.push(ill(v1::ConditionKind::Healthy));
        }
        if holds(v1::ConditionKind::RebootNeeded) {
            view.reboot_needed.push(ill(v1::ConditionKind::RebootNeeded));
        }
    }
    let mut client = context.runs().await?;
    let held = client.list_holds(v1::ListHoldsRequest {}).await;
    let held = held.map_err(|status| Failure::call("list who holds what", &status))?.into_inner().holds;
    view.holds = held.into_iter().map(HoldView::from).collect();
    for listed in get::runs_under_way(context).await? {
        view.runs.push(UnderWay::from(now(context, &listed.id).await?));
    }
    view.is_well = view.ill.is_empty() && view.quarantined().next().is_none();
    Ok(view)
}

impl StatusView {
    fn quarantined(&self) -> impl Iterator<Item = &HoldView> {
        self.holds.iter().filter(|hold| hold.run.is_empty())
    }

    /// A run that has ended and holds nodes still, with these nodes.
    fn left_in_hand(&self) -> Option<(&str, Vec<String>)> {
        let has_ended = |hold: &&HoldView| !hold.run.is_empty() && !self.runs.iter().any(|run| run.id == hold.run);
        let run = &self.holds.iter().find(has_ended)?.run;
        Some((run, self.holds.iter().filter(|hold| hold.run == *run).map(|hold| hold.node.clone()).collect()))
    }
}

impl From<v1::Hold> for HoldView {
    fn from(hold: v1::Hold) -> Self {
        let since_millis = UnixMillis(hold.since_unix_millis);
        let since = utc(since_millis);
        Self { node: hold.node, run: hold.run, since, by: hold.by, reason: hold.reason, since_millis }
    }
}

impl From<v1::Run> for UnderWay {
    fn from(run: v1::Run) -> Self {
        let waits = |step: &&v1::RunStep| step.state() == v1::StepState::Waiting && !step.message.is_empty();
        let waiting = run.steps.iter().filter(waits).map(|step| format!("{} {}", step.id, step.message));
        let awaited = run.queued.iter().map(|queued| format!("{} is waited for: {}", queued.node, queued.reason));
        let waiting = waiting.chain(awaited).collect();
        let resume = if run.state() == v1::RunState::Paused { resume(&run) } else { None };
        Self { waiting, resume, id: run.id, done: run.done_count, steps: run.step_count, paused: run.paused }
    }
}

/// The first line: all of it in a few words.
fn summary(view: &StatusView) -> String {
    let nodes = match (view.ill.len(), view.nodes) {
        (0, 1) => "1 node, healthy".to_owned(),
        (0, nodes) => format!("{nodes} nodes, all healthy"),
        (ill, nodes) => format!("{ill} of {nodes} nodes not healthy"),
    };
    match view.quarantined().count() {
        0 => nodes,
        quarantined => format!("{nodes}; {quarantined} quarantined"),
    }
}

fn text(view: &StatusView, zone: &TimeZone) -> String {
    let mut text = format!("{}\n", summary(view));
    for ill in &view.ill {
        text.push_str(&format!("  {}: {}\n", Escaped(&ill.node), Escaped(&ill.reason)));
    }
    for ill in &view.reboot_needed {
        text.push_str(&format!("  {} needs a reboot: {}\n", Escaped(&ill.node), Escaped(&ill.reason)));
    }
    for hold in &view.holds {
        let (node, by, since) = (Escaped(&hold.node), Escaped(&hold.by), local_in(hold.since_millis, zone.clone()));
        text.push_str(&match hold.run.as_str() {
            "" => format!("  {node} is quarantined by {by} since {since}: {}\n", Escaped(&hold.reason)),
            run => format!("  {node} is held by run {} of {by} since {since}\n", Escaped(run)),
        });
    }
    for run in &view.runs {
        let paused = if run.paused.is_empty() { String::new() } else { format!(", paused: {}", Escaped(&run.paused)) };
        text.push_str(&format!("run {}: {} of {} steps done{paused}\n", Escaped(&run.id), run.done, run.steps));
        for waiting in run.waiting.iter().take(MOST_WAITING) {
            text.push_str(&format!("  {}\n", Escaped(waiting)));
        }
        if run.waiting.len() > MOST_WAITING {
            text.push_str(&format!("  and {} more that wait\n", run.waiting.len() - MOST_WAITING));
        }
    }
    next(view).iter().for_each(|command| text.push_str(&format!("next: {command}\n")));
    text
}

/// What to type next, the most urgent first.
fn next(view: &StatusView) -> Vec<String> {
    let run = view.runs.first().map(|run| format!("windlass run show {}", Escaped(&run.id)));
    let resume = view.runs.iter().find_map(|run| run.resume.clone());
    let held = view.left_in_hand().map(|(run, nodes)| retry_or_release(run, &nodes));
    let ill = view.ill.first().map(|ill| format!("windlass get node {}", Escaped(&ill.node)));
    let aside = view.quarantined().next().map(|hold| {
        let node = Escaped(&hold.node);
        let holder = view.holds.iter().find(|other| other.node == hold.node && !other.run.is_empty());
        match holder.map(|holder| Escaped(&holder.run)) {
            None => format!("windlass node release {node}, once that is over"),
            Some(run) => {
                format!("windlass node release {node} --reason TEXT, once that is over; it takes it from run {run} too")
            }
        }
    });
    let idle = view.runs.is_empty() && !view.reboot_needed.is_empty();
    let reboot = idle.then(|| "windlass reboot --rolling --all --if-needed".to_owned());
    [run, resume, held, ill, aside, reboot].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ill(node: &str, reason: &str) -> Ill {
        Ill { node: node.into(), reason: reason.into() }
    }

    fn hold(node: &str, run: &str, reason: &str) -> HoldView {
        HoldView::from(v1::Hold {
            node: node.into(),
            run: run.into(),
            since_unix_millis: 1_767_225_600_000,
            by: "alice".into(),
            reason: reason.into(),
            ..v1::Hold::default()
        })
    }

    fn said(view: &StatusView) -> String {
        text(view, &TimeZone::fixed(jiff::tz::offset(2)))
    }

    #[test]
    fn what_is_not_well_is_named_and_who_waits_for_whom() {
        let run = UnderWay {
            id: "r7".into(),
            done: 2,
            steps: 9,
            paused: String::new(),
            waiting: (2..7).map(|nth| format!("boot/node{nth} waits: 1 down")).collect(),
            resume: None,
        };
        let view = StatusView {
            is_well: false,
            nodes: 9,
            ill: vec![ill("node1", "not connected\u{1b}[2J")],
            reboot_needed: vec![ill("node2", "kernel")],
            holds: vec![hold("node1", "r7", ""), hold("node9", "", "smoke")],
            runs: vec![run],
        };
        assert_eq!(
            said(&view),
            "1 of 9 nodes not healthy; 1 quarantined\n  node1: not connected\\u{1b}[2J\n  node2 needs a reboot: kernel\n  \
             node1 is held by run r7 of alice since 2026-01-01T02:00:00+02:00\n  node9 is quarantined by alice since \
             2026-01-01T02:00:00+02:00: smoke\n\
             run r7: 2 of 9 steps done\n  boot/node2 waits: 1 down\n  boot/node3 waits: 1 down\n  boot/node4 waits: 1 down\n  \
             and 2 more that wait\nnext: windlass run show r7\nnext: windlass get node node1\n\
             next: windlass node release node9, once that is over\n"
        );
    }

    #[test]
    fn a_node_that_an_ended_run_holds_has_a_way_out() {
        let view = StatusView { nodes: 3, holds: vec![hold("node1", "r7", "")], ..StatusView::default() };
        assert_eq!(
            said(&view),
            "3 nodes, all healthy\n  node1 is held by run r7 of alice since 2026-01-01T02:00:00+02:00\n\
             next: windlass run retry r7, or windlass node release node1 --reason TEXT\n"
        );
        let both = StatusView { holds: vec![hold("node1", "r7", ""), hold("node1", "", "smoke")], ..view };
        assert!(
            said(&both).contains("node1 --reason TEXT, once that is over; it takes it from run r7 too"),
            "{both:?}"
        );
    }

    #[test]
    fn a_paused_run_says_how_it_goes_on() {
        let step = v1::RunStep { state: v1::StepState::Failed.into(), ..Default::default() };
        let run = v1::Run {
            id: "r7".into(),
            state: v1::RunState::Paused.into(),
            paused: "boot/node1 failed".into(),
            steps: vec![step],
            step_count: 1,
            ..Default::default()
        };
        let view = StatusView { is_well: true, nodes: 1, runs: vec![UnderWay::from(run)], ..StatusView::default() };
        assert_eq!(
            said(&view),
            "1 node, healthy\nrun r7: 0 of 1 steps done, paused: boot/node1 failed\nnext: windlass run show r7\n\
             next: windlass run resume r7, or windlass run retry r7\n"
        );
    }
}
