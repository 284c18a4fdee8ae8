// SPDX-License-Identifier: Apache-2.0
//! `windlass status`: is everything well, and if not, what is not; which run has which node, and what waits for what. The
//! same conditions that let a run go on to the next node.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::get;
use super::run::now;
use super::show::{self, ResultFormat, utc};
use crate::duration;

/// How often a waiting command looks.
const EVERY: Duration = Duration::from_secs(2);

/// Steps that wait and are named; a run of many nodes has many, all for the same reason.
const MOST_WAITING: usize = 3;

/// Runs that are looked through for those under way.
const NEWEST_RUNS: u32 = 50;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Wait until all nodes are healthy and no run is under way
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
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct UnderWay {
    id: String,
    done: u32,
    steps: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    paused: String,
    waiting: Vec<String>,
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
        ResultFormat::Text => write!(out, "{}", text(&view))?,
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
    let listed = client.list_runs(v1::ListRunsRequest { newest: NEWEST_RUNS }).await;
    let listed = listed.map_err(|status| Failure::call("list the runs", &status))?.into_inner().runs;
    for listed in listed.iter().filter(|run| matches!(run.state(), v1::RunState::Running | v1::RunState::Paused)) {
        view.runs.push(UnderWay::from(now(context, &listed.id).await?));
    }
    let is_left_alone = |hold: &HoldView| hold.run.is_empty();
    view.is_well = view.ill.is_empty() && !view.holds.iter().any(is_left_alone);
    Ok(view)
}

impl From<v1::Hold> for HoldView {
    fn from(hold: v1::Hold) -> Self {
        let since = utc(UnixMillis(hold.since_unix_millis));
        Self { node: hold.node, run: hold.run, since, by: hold.by, reason: hold.reason }
    }
}

impl From<v1::Run> for UnderWay {
    fn from(run: v1::Run) -> Self {
        let waits = |step: &&v1::RunStep| step.state() == v1::StepState::Waiting && !step.message.is_empty();
        let waiting = run.steps.iter().filter(waits).map(|step| format!("{} {}", step.id, step.message));
        let awaited = run.queued.iter().map(|queued| format!("{} is waited for: {}", queued.node, queued.reason));
        let waiting = waiting.chain(awaited).collect();
        Self { waiting, id: run.id, done: run.done_count, steps: run.step_count, paused: run.paused }
    }
}

fn text(view: &StatusView) -> String {
    let mut text = match (view.ill.len(), view.nodes) {
        (0, 1) => "1 node, healthy\n".to_owned(),
        (0, nodes) => format!("{nodes} nodes, all healthy\n"),
        (ill, nodes) => format!("{ill} of {nodes} nodes not healthy\n"),
    };
    for ill in &view.ill {
        text.push_str(&format!("  {}: {}\n", Escaped(&ill.node), Escaped(&ill.reason)));
    }
    for ill in &view.reboot_needed {
        text.push_str(&format!("  {} needs a reboot: {}\n", Escaped(&ill.node), Escaped(&ill.reason)));
    }
    for hold in &view.holds {
        let (node, by, since) = (Escaped(&hold.node), Escaped(&hold.by), &hold.since);
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
    let ill = view.ill.first().map(|ill| format!("windlass get node {}", Escaped(&ill.node)));
    let aside = view.holds.iter().find(|hold| hold.run.is_empty());
    let aside = aside.map(|hold| format!("windlass node release {}, once that is over", Escaped(&hold.node)));
    let idle = view.runs.is_empty() && !view.reboot_needed.is_empty();
    let reboot = idle.then(|| "windlass reboot --rolling --all --if-needed".to_owned());
    run.into_iter().chain(ill).chain(aside).chain(reboot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_is_named_and_who_waits_for_whom() {
        let ill = |node: &str, reason: &str| Ill { node: node.into(), reason: reason.into() };
        let hold = |node: &str, run: &str, reason: &str| HoldView {
            node: node.into(),
            run: run.into(),
            since: "2026-01-01T00:00:00Z".into(),
            by: "alice".into(),
            reason: reason.into(),
        };
        let run = UnderWay {
            id: "r7".into(),
            done: 2,
            steps: 9,
            paused: String::new(),
            waiting: (2..7).map(|nth| format!("boot/node{nth} waits: 1 down")).collect(),
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
            text(&view),
            "1 of 9 nodes not healthy\n  node1: not connected\\u{1b}[2J\n  node2 needs a reboot: kernel\n  node1 is held by run \
             r7 of alice since 2026-01-01T00:00:00Z\n  node9 is quarantined by alice since 2026-01-01T00:00:00Z: smoke\n\
             run r7: 2 of 9 steps done\n  boot/node2 waits: 1 down\n  boot/node3 waits: 1 down\n  boot/node4 waits: 1 down\n  \
             and 2 more that wait\nnext: windlass run show r7\nnext: windlass get node node1\n\
             next: windlass node release node9, once that is over\n"
        );
    }
}
