// SPDX-License-Identifier: Apache-2.0
//! What to do on the nodes that are there: whose turn it is, who is left out and why.

use std::collections::{BTreeMap, BTreeSet};

use windlass_types::name::NodeName;
use windlass_types::survey::{self, Survey};

use super::chain::Chain;
use crate::plan::{Blocked, Plan, Queued, Turn};
use crate::policy::Unreachable;
use crate::snapshot::{NodeStatus, Snapshot};
use crate::step::{Step, StepId};
use crate::turn::order_of_nodes;
use crate::wish::NodeWish;

/// Adds what is to be done on nodes to a plan that has what is to be done with machines.
pub(crate) fn nodes(snapshot: &Snapshot, wishes: &BTreeMap<NodeName, NodeWish>, plan: &mut Plan) {
    let last: BTreeMap<NodeName, (StepId, bool)> = plan
        .steps
        .iter()
        .filter_map(|planned| Some((planned.step.node()?.clone(), (planned.id.clone(), comes_or_goes(&planned.step)))))
        .collect();
    let stuck: BTreeSet<NodeName> = plan.blocked.iter().map(|blocked| blocked.node.clone()).collect();
    let wished = wishes.iter().filter(|(name, wish)| !wish.is_empty() && !stuck.contains(*name));
    let names: Vec<_> = wished.map(|(name, _)| name.clone()).collect();
    let known: BTreeMap<_, _> = snapshot.nodes.iter().map(|node| (&node.name, node)).collect();
    let mut out_of_reach = Vec::new();
    for (name, why) in order_of_nodes(snapshot, &names) {
        let before = last.get(&name);
        if before.is_some_and(|(_, comes_or_goes)| *comes_or_goes) {
            let (after, reason) = (before.map(|(id, _)| id.clone()), "it has to run first".to_owned());
            plan.queued.push(Queued { node: name, reason, after });
            continue;
        }
        match standing(snapshot, known.get(&name).copied(), &name, &wishes[&name]) {
            Standing::LeftOut { reason, advice } => plan.blocked.push(Blocked::whole(name, reason, advice)),
            Standing::OutOfReach(reason) => out_of_reach.push((name, reason)),
            Standing::Known(survey) => {
                let before = before.map(|(id, _)| id.clone());
                turn(Chain::of(&name, &wishes[&name], survey), before, why, plan);
            }
        }
    }
    without(out_of_reach, plan);
}

/// What is known of a node that shall become something.
enum Standing<'a> {
    Known(&'a Survey),
    OutOfReach(String),
    LeftOut { reason: String, advice: String },
}

fn standing<'a>(snapshot: &'a Snapshot, node: Option<&NodeStatus>, name: &NodeName, wish: &NodeWish) -> Standing<'a> {
    let left_out = |reason: String, advice: String| Standing::LeftOut { reason, advice };
    let Some(node) = node else {
        return left_out("it has not joined".to_owned(), "`windlass get nodes` lists those that have".to_owned());
    };
    if node.is_revoked {
        let advice = format!("windlass node remove {name}, then have it join anew");
        return left_out("its certificates were revoked".to_owned(), advice);
    }
    if let Some(reason) = snapshot.quarantined.get(name) {
        return left_out(format!("it is in quarantine: {reason}"), format!("windlass node release {name}"));
    }
    if let Some(reason) = snapshot.unsurveyed.get(name) {
        return Standing::OutOfReach(reason.clone());
    }
    match snapshot.surveys.get(name) {
        None => Standing::OutOfReach("it was not asked".to_owned()),
        Some(survey) if !answers(survey, wish) => {
            let advice = "update the agent and the controller to the same version".to_owned();
            left_out("its answer does not fit what was asked".to_owned(), advice)
        }
        Some(survey) => Standing::Known(survey),
    }
}

fn answers(survey: &Survey, wish: &NodeWish) -> bool {
    survey.schema == survey::SCHEMA
        && survey.settings.len() == wish.settings.len()
        && survey.packages.is_some() == wish.packages.is_some()
        && survey.kernel.is_some() == wish.kernel.is_some()
}

/// Whether a step makes, starts or ends a machine, so that nothing can be said of the node yet.
const fn comes_or_goes(step: &Step) -> bool {
    match step {
        Step::CreateMachine { .. }
        | Step::AwaitMachine { .. }
        | Step::AdoptMachine { .. }
        | Step::StartMachine { .. }
        | Step::DeleteMachine { .. }
        | Step::ForgetNode { .. } => true,
        Step::AttachDisk { .. }
        | Step::LabelNode { .. }
        | Step::PrepareCloud { .. }
        | Step::ClearCloud { .. }
        | Step::OnNode { .. } => false,
    }
}

fn turn(chain: Chain<'_>, before: Option<StepId>, why: String, plan: &mut Plan) {
    let Chain { node, steps, blocked, notes, later, .. } = chain;
    if !steps.is_empty() {
        plan.turns.push(Turn { node: node.clone(), why });
    }
    let mut previous = before;
    for mut step in steps {
        step.after.extend(previous.replace(step.id.clone()));
        plan.steps.push(step);
    }
    plan.queued.extend(later.map(|reason| Queued { node: node.clone(), reason, after: previous }));
    plan.blocked.extend(blocked);
    plan.notes.extend(notes);
}

/// What becomes of nodes that cannot be asked, and of the others because of them.
fn without(out_of_reach: Vec<(NodeName, String)>, plan: &mut Plan) {
    if out_of_reach.is_empty() {
        return;
    }
    match plan.policy.unreachable {
        Unreachable::Wait => {
            plan.queued.extend(out_of_reach.into_iter().map(|(node, reason)| Queued { node, reason, after: None }));
        }
        Unreachable::Skip => plan.blocked.extend(out_of_reach.into_iter().map(|(node, reason)| {
            Blocked::whole(node, format!("cannot be asked, and is skipped: {reason}"), "apply again once it is back")
        })),
        Unreachable::Fail => {
            plan.steps.retain(|planned| !matches!(planned.step, Step::OnNode { .. }));
            let leaving = plan.leaving();
            plan.turns.retain(|turn| leaving.contains(&turn.node));
            let others = plan.queued.drain(..).map(|queued| (queued.node, queued.reason));
            let all: Vec<_> = out_of_reach.into_iter().chain(others).collect();
            plan.blocked.extend(all.into_iter().map(|(node, reason)| {
                let reason = format!("cannot be asked, and without it nothing is done on any node: {reason}");
                Blocked::whole(node, reason, "bring it back, or let the policy skip nodes or wait for them")
            }));
        }
    }
}
