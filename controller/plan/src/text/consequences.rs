// SPDX-License-Identifier: Apache-2.0
//! What no list of changes shows: what goes down and in which order, what is lost, what becomes of a failure.

use std::collections::BTreeSet;
use std::fmt;

use windlass_types::name::NodeName;
use windlass_types::node_step::NodeStep;

use super::many;
use super::wrap::{named, wrapped_at};
use crate::plan::{Plan, Turn};
use crate::policy::OnFailure;
use crate::step::{Disruption, PlannedStep, Step, Undo};

pub(super) fn write(f: &mut fmt::Formatter<'_>, plan: &Plan) -> fmt::Result {
    if plan.steps.is_empty() {
        let settled = if plan.blocked.is_empty() { "that is over" } else { "that is settled" };
        return writeln!(f, "Nothing can be done until {settled}.");
    }
    sentences(plan).iter().try_for_each(|sentence| wrapped_at(f, 0, sentence))
}

fn sentences(plan: &Plan) -> Vec<String> {
    let mut all = Vec::new();
    if plan.steps.len() > 1 {
        all.push(format!("Up to {} at once.", many(plan.policy.parallel as usize, "step")));
    }
    let lost = plan.destroyed();
    let goes_down = plan.steps.iter().any(|planned| planned.lease);
    if goes_down {
        disruption(plan, &mut all);
    }
    irreversible(plan, &mut all);
    if !plan.queued.is_empty() {
        let most = many(plan.policy.max_unavailable as usize, "node");
        all.push(format!("What is planned later may take nodes down, by the same rules: never more than {most}."));
    }
    match (lost.is_empty(), goes_down) {
        (true, false) if !plan.queued.is_empty() => all.push("No data is destroyed.".to_owned()),
        (true, false) => all.push("No node is taken down and no data is destroyed.".to_owned()),
        (true, true) => all.push("No data is destroyed.".to_owned()),
        (false, _) => all.push(format!("Lost for good, with all data: {}.", list(&lost))),
    }
    all
}

fn disruption(plan: &Plan, all: &mut Vec<String>) {
    let leased: BTreeSet<_> = plan.steps.iter().filter(|step| step.lease).filter_map(|step| step.step.node()).collect();
    let mut turns: Vec<&Turn> = plan.turns.iter().collect();
    turns.retain(|turn| leased.contains(&turn.node));
    let window = plan.policy.window.as_ref().map(|window| format!(", in the window {window}")).unwrap_or_default();
    let most = many(plan.policy.max_unavailable as usize, "node");
    all.push(format!("Turn by turn, never more than {most} down at once{window}:"));
    all.extend(order(&turns).into_iter().map(|line| format!("  {line}")));
    let rebooted = plan.rebooted();
    if !rebooted.is_empty() {
        all.push(format!("Rebooted, in this order: {}.", list(&rebooted)));
    }
    let boots: BTreeSet<_> = rebooted.iter().copied().collect();
    let restarts = |step: &&PlannedStep| step.disruption == Disruption::Services && step.lease;
    let restarted: BTreeSet<_> = plan.steps.iter().filter(restarts).filter_map(|step| step.step.node()).collect();
    let stays_up = |node: &&NodeName| restarted.contains(*node) && !boots.contains(*node);
    let services: Vec<_> = turns.iter().map(|turn| &turn.node).filter(stays_up).collect();
    if !services.is_empty() {
        all.push(format!("Services may stop or restart on: {}.", list(&services)));
    }
    failures(plan, all);
}

/// What becomes of the others when one that is taken down fails.
fn failures(plan: &Plan, all: &mut Vec<String>) {
    let leased = || plan.steps.iter().filter(|planned| planned.lease);
    let is_on_node = |planned: &PlannedStep| matches!(planned.step, Step::OnNode { .. });
    let failure = match (leased().any(is_on_node), leased().all(is_on_node)) {
        (true, true) => "a node does not come back well",
        (true, false) => "a node does not come back well, or cannot be removed",
        (false, _) => "a node cannot be removed",
    };
    all.push(match plan.policy.on_failure {
        OnFailure::Stop => format!("If {failure}, no other is begun."),
        OnFailure::Pause => {
            format!("If {failure}, the run waits until you resume it; that node counts as down then, too.")
        }
        OnFailure::Continue { most } => {
            let fail = if most == 1 { "fails" } else { "fail" };
            format!("If more than {} {fail}, no other is begun.", many(most as usize, "node"))
        }
    });
    let most_down = plan.policy.max_unavailable;
    if let OnFailure::Continue { most } = plan.policy.on_failure
        && most >= most_down
    {
        let they = if most_down == 1 {
            "1 that failed while it was down".to_owned()
        } else {
            format!("{most_down} that failed while they were down")
        };
        all.push(format!("Beside {they} the others wait: {most_down} may be down at once."));
    }
}

/// Neighbours with one reason on one line.
fn order(turns: &[&Turn]) -> Vec<String> {
    let groups: Vec<_> = turns.chunk_by(|one, next| one.why == next.why).collect();
    let names = |group: &[&Turn]| named(group.iter().map(|turn| turn.node.as_str()));
    match groups[..] {
        [group] => vec![names(group)],
        _ => groups.iter().map(|group| format!("{} ({})", names(group), group[0].why)).collect(),
    }
}

fn irreversible(plan: &Plan, all: &mut Vec<String>) {
    let mut kernels: Vec<&NodeName> = Vec::new();
    for planned in plan.steps.iter().filter(|planned| planned.undo == Undo::Impossible) {
        if let Step::OnNode { node, step } = &planned.step
            && matches!(**step, NodeStep::PruneKernels { .. })
        {
            kernels.push(node);
        }
    }
    if !kernels.is_empty() {
        all.push(format!("Cannot be undone: the removal of old kernels on {}.", list(&kernels)));
    }
}

fn list(names: &[&NodeName]) -> String {
    named(names.iter().map(|name| name.as_str()))
}
