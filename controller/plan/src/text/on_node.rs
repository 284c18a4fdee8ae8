// SPDX-License-Identifier: Apache-2.0
//! What is done on nodes, turn by turn. Nodes that follow each other and on which the same is done are shown once.

use std::collections::BTreeMap;
use std::fmt;

use windlass_types::name::NodeName;
use windlass_types::node_step::NodeStep;
use windlass_types::package::{PackageChange, Transaction};

use super::wrap::{named, verbatim, wrapped_at};
use super::{many, size};
use crate::plan::Plan;
use crate::step::{PlannedStep, Step, Undo};

/// Where the particulars of a step on a node begin.
const INDENT: usize = 8;

/// Packages that are shown; all of them are in the plan's JSON.
const SHOWN_PACKAGES: usize = 12;

/// Lines of a difference that are shown.
const SHOWN_LINES: usize = 24;

pub(super) fn write(f: &mut fmt::Formatter<'_>, plan: &Plan) -> fmt::Result {
    let mut chains: BTreeMap<&NodeName, Vec<&PlannedStep>> = BTreeMap::new();
    for planned in &plan.steps {
        if let Step::OnNode { node, .. } = &planned.step {
            chains.entry(node).or_default().push(planned);
        }
    }
    // What is done with machines, and not on nodes, stands before.
    let mut turns = plan.turns.iter().map(|turn| &turn.node).filter(|node| chains.contains_key(node)).peekable();
    while let Some(first) = turns.next() {
        let text = body(&chains, first);
        let mut nodes = vec![first.as_str()];
        while let Some(next) = turns.next_if(|next| body(&chains, next) == text) {
            nodes.push(next.as_str());
        }
        wrapped_at(f, 2, &format!("on {}:", named(nodes)))?;
        f.write_str(&text)?;
    }
    Ok(())
}

fn body(chains: &BTreeMap<&NodeName, Vec<&PlannedStep>>, node: &NodeName) -> String {
    let steps = chains.get(node).into_iter().flatten();
    steps.map(|planned| Body(planned).to_string()).collect()
}

struct Body<'a>(&'a PlannedStep);

impl fmt::Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step::OnNode { step, .. } = &self.0.step else { return Ok(()) };
        wrapped_at(f, 4, &format!("~ {}", title(step)))?;
        particulars(f, step)?;
        let is_setting = matches!(**step, NodeStep::ApplySetting { .. });
        let line = |f: &mut fmt::Formatter<'_>, line: &String| {
            if is_setting { verbatim(f, INDENT, line) } else { wrapped_at(f, INDENT, line) }
        };
        let (shown, rest) = self.0.changes.split_at(self.0.changes.len().min(SHOWN_LINES));
        shown.iter().try_for_each(|text| line(f, text))?;
        if !rest.is_empty() {
            wrapped_at(f, INDENT, &format!("and {}", many(rest.len(), "more line")))?;
        }
        wrapped_at(f, INDENT, &format!("why: {}", self.0.reason))?;
        match self.0.undo {
            Undo::Impossible => wrapped_at(f, INDENT, "cannot be undone"),
            // Nobody expects a boot or a hook to be taken back.
            Undo::ForwardOnly if matches!(**step, NodeStep::ApplySetting { .. } | NodeStep::InstallKernel { .. }) => {
                wrapped_at(f, INDENT, "stays: no step takes it back")
            }
            Undo::Nothing | Undo::Possible | Undo::ForwardOnly => Ok(()),
        }
    }
}

fn title(step: &NodeStep) -> String {
    match step {
        NodeStep::ChangePackages(transaction) => {
            let count = |fits: fn(&PackageChange) -> bool| transaction.changes.iter().filter(|c| fits(c)).count();
            let parts = [
                (count(|change| change.from.is_some() && change.to.is_some()), "to other versions"),
                (count(|change| change.from.is_none()), "new"),
                (count(|change| change.to.is_none()), "removed"),
            ];
            let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
            format!("change packages: {}{}", parts.collect::<Vec<_>>().join(", "), download(transaction))
        }
        NodeStep::PruneKernels { remove } => format!("remove {}", many(remove.len(), "old kernel")),
        NodeStep::RestartServices { units } => format!("restart {}", many(units.len(), "service")),
        NodeStep::RepairPackages => "mend what an interrupted package transaction left".to_owned(),
        NodeStep::Survey(_)
        | NodeStep::ApplySetting { .. }
        | NodeStep::InstallKernel { .. }
        | NodeStep::Boot { .. }
        | NodeStep::ConfirmKernel { .. }
        | NodeStep::Hook { .. } => step.to_string(),
    }
}

/// Rounded up: nobody plans with bytes.
fn download(transaction: &Transaction) -> String {
    match transaction.download_bytes {
        0 => String::new(),
        bytes => format!("; {} to fetch", size(bytes.div_ceil(1 << 20) << 20)),
    }
}

fn particulars(f: &mut fmt::Formatter<'_>, step: &NodeStep) -> fmt::Result {
    match step {
        NodeStep::ChangePackages(transaction) => packages(f, &transaction.changes),
        NodeStep::InstallKernel { package, changes, .. } => {
            wrapped_at(f, INDENT, &package.to_string())?;
            let others: Vec<_> = changes.iter().filter(|change| change.target().as_ref() != Some(package)).collect();
            if others.is_empty() {
                return Ok(());
            }
            wrapped_at(f, INDENT, "with it:")?;
            packages(f, others)
        }
        NodeStep::PruneKernels { remove } => {
            remove.iter().try_for_each(|package| wrapped_at(f, INDENT, &package.to_string()))
        }
        NodeStep::RestartServices { units } => wrapped_at(f, INDENT, &named(units.iter().map(|unit| unit.as_str()))),
        NodeStep::Survey(_)
        | NodeStep::ApplySetting { .. }
        | NodeStep::RepairPackages
        | NodeStep::Boot { .. }
        | NodeStep::ConfirmKernel { .. }
        | NodeStep::Hook { .. } => Ok(()),
    }
}

/// The first of them, and how many more there are.
fn packages<'a>(f: &mut fmt::Formatter<'_>, changes: impl IntoIterator<Item = &'a PackageChange>) -> fmt::Result {
    let changes: Vec<_> = changes.into_iter().collect();
    let (shown, rest) = changes.split_at(changes.len().min(SHOWN_PACKAGES));
    shown.iter().try_for_each(|change| wrapped_at(f, INDENT, &change.to_string()))?;
    match rest.len() {
        0 => Ok(()),
        more => wrapped_at(f, INDENT, &format!("and {more} more; -o json has all")),
    }
}
