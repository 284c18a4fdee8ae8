// SPDX-License-Identifier: Apache-2.0
//! Whether a run that has ended is told truly: what its steps say adds up, and the nodes are as they say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use windlass_agent::host::fake::Node as Model;
use windlass_controller::execute::run::StepRecord;
use windlass_plan::{PlannedStep, Step};
use windlass_types::name::{NodeName, RunId};
use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::run::{RunState, StepState};
use windlass_types::setting::Setting;

use super::book::Book;
use super::deeds::Deeds;
use super::model::{number, path_of};
use crate::node::Node;

/// What was seen of the nodes.
pub(crate) struct Seen<'a> {
    pub(crate) nodes: &'a [Arc<Node>],
    /// In which boot a run changed the packages of a node, last.
    pub(crate) changed_in: &'a BTreeMap<(RunId, NodeName), u64>,
    pub(crate) deeds: &'a Deeds,
    /// What each was ordered to do, the oldest first.
    pub(crate) orders: BTreeMap<NodeName, Vec<StepOrder>>,
}

impl Seen<'_> {
    /// What is wrong with the end of a run.
    pub(crate) fn told_truly(&self, book: &Book, run: &RunId) -> Option<String> {
        let record = &book.runs[run];
        let states: Vec<_> = record.plan.steps.iter().map(|planned| book.step(run, planned.id.as_str())).collect();
        if let Some(open) = states.iter().position(|step| !step.state.is_final()) {
            return Some(format!("(16) run {run} has ended, and {} has not", record.plan.steps[open].id));
        }
        // A run that was stopped while a node was still to be planned for, or gave one up, has not done all.
        let is_whole = record.plan.queued.is_empty() && record.failed.is_empty();
        let all_done = is_whole && states.iter().all(|step| step.state == StepState::Done);
        if all_done != (record.state == RunState::Succeeded) {
            return Some(format!("(17) run {run} is told as {:?}, its steps are {states:?}", record.state));
        }
        let silent = states.iter().position(|step| step.state == StepState::Failed && step.message.is_empty());
        if let Some(silent) = silent {
            return Some(format!("(16) run {run}: {} failed and does not say why", record.plan.steps[silent].id));
        }
        if !all_done {
            return None;
        }
        let mut steps = record.plan.steps.iter().zip(&states);
        let lie = steps.find_map(|(planned, state)| self.is_not_so(run, planned, state));
        lie.map(|why| format!("(17) run {run} has succeeded, and {why}"))
    }

    /// Why a step that is told as done is not.
    fn is_not_so(&self, run: &RunId, planned: &PlannedStep, state: &StepRecord) -> Option<String> {
        let Step::OnNode { node, step } = &planned.step else { return None };
        let model = self.nodes.iter().find(|other| other.name == *node)?.machine.host.node();
        match step.as_ref() {
            NodeStep::Boot { .. } => {
                let changed_in = self.changed_in.get(&(run.clone(), node.clone())).copied();
                if let Some(boot) = changed_in.filter(|boot| *boot == model.boots) {
                    return Some(format!("{node} is in boot {boot}, in which it was changed"));
                }
                if state.was_done {
                    // When the node was asked again, nothing spoke for a reboot any more.
                    return None;
                }
            }
            NodeStep::Hook { .. } if !state.was_done && !self.deeds.has_begun(run, planned.id.as_str()) => {
                return Some(format!("{} was never run", planned.id));
            }
            step if self.is_anothers_by_now(run, node, step) => return None,
            _ => {}
        }
        is_not(&model, step).map(|why| format!("{} is not done: {why}", planned.id))
    }

    /// Whether another run was the last to have the same thing changed. What a run has done it does not do again when it is
    /// tried again, whatever became of that since.
    fn is_anothers_by_now(&self, run: &RunId, node: &NodeName, step: &NodeStep) -> bool {
        let is_the_same = |order: &&StepOrder| match (step, &order.step) {
            (NodeStep::ApplySetting { setting, .. }, NodeStep::ApplySetting { setting: other, .. }) => {
                setting.key() == other.key()
            }
            (step, NodeStep::ChangePackages(_)) => {
                matches!(step, NodeStep::ChangePackages(_) | NodeStep::RestartServices { .. })
            }
            _ => false,
        };
        let last = self.orders.get(node).and_then(|orders| orders.iter().rfind(is_the_same));
        last.is_some_and(|order| order.run.as_ref() != Some(run))
    }
}

/// Why a step is not done on a node.
fn is_not(node: &Model, step: &NodeStep) -> Option<String> {
    match step {
        NodeStep::Boot { boot_id, .. } => {
            let boot = format!("00000000-0000-4000-8000-{:012}", node.boots);
            (boot == boot_id.as_str()).then(|| format!("it is still in boot {boot}"))
        }
        NodeStep::ChangePackages(transaction) => transaction.changes.iter().find_map(|change| {
            let (name, to) = (change.name.as_str(), change.to.as_ref()?);
            let there = node.packages.iter().any(|p| p.name == name && number(&p.version) >= number(to.as_str()));
            (!there).then(|| format!("{name} {to} is not there: {:?}", node.packages))
        }),
        NodeStep::InstallKernel { release, .. } => {
            let is_there =
                node.running_kernel == release.as_str() || node.kernels.iter().any(|k| k == release.as_str());
            (!is_there).then(|| format!("kernel {release} is not there"))
        }
        NodeStep::ConfirmKernel { release } => {
            let is_default = node.default_kernel.as_deref() == Some(release.as_str());
            (!is_default).then(|| format!("the default is {:?}", node.default_kernel))
        }
        NodeStep::ApplySetting { setting, .. } => is_not_set(node, setting),
        NodeStep::RestartServices { units } => units.iter().find_map(|unit| {
            let started = node.started.get(unit.as_str()).copied().unwrap_or(node.booted_at);
            let is_its = |name: &str| unit.as_str().strip_suffix(".service") == Some(name);
            let newer = node.packages.iter().find(|p| is_its(&p.name) && p.at * 1000 > started.0)?;
            Some(format!("{unit} runs since {started:?}, and {} came later", newer.full()))
        }),
        NodeStep::Survey(_) | NodeStep::RepairPackages | NodeStep::PruneKernels { .. } | NodeStep::Hook { .. } => None,
    }
}

fn is_not_set(node: &Model, setting: &Setting) -> Option<String> {
    let is = |path: &Path, wished: &str| {
        let there = node.files.get(path).map_or("", String::as_str);
        (there.trim() != wished.trim()).then(|| format!("{} has {there:?}", path.display()))
    };
    match setting {
        Setting::File(file) => is(Path::new(file.path.as_str()), &file.content),
        Setting::Sysctl { key, value } => is(&path_of(key.as_str()), value),
        Setting::Repository(_)
        | Setting::PackageLocks { .. }
        | Setting::SwapOff
        | Setting::TimeSync
        | Setting::Selinux { .. }
        | Setting::User(_)
        | Setting::Service { .. } => None,
    }
}
