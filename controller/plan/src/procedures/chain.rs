// SPDX-License-Identifier: Apache-2.0
//! What to do on one node, in the order in which it is done:
//!
//! 1. settings that disrupt nothing, each by itself;
//! 2. then, under one lease if anything is disrupted: the hook before, services that are switched off, what an interrupted
//!    transaction left, packages, the kernel, one boot, the kernel's confirmation, old kernels, services that still run what
//!    was replaced, the hook after.
//!
//! What a node said of packages and kernel it said of the repositories it has. Where the settings bring others, the second
//! part is planned after the first is done. So it is where the package database has to be mended before it can be read. That
//! is done between hooks too, which have ids of their own: those of the part after it are other steps of the same plan.

use windlass_types::name::NodeName;
use windlass_types::name::on_node::KernelRelease;
use windlass_types::node_step::NodeStep;
use windlass_types::package::{Transaction, UpdateScope};
use windlass_types::setting::Setting;
use windlass_types::survey::{Found, KernelDue, KernelWish, Kernels, Survey};

use crate::plan::{Blocked, Note};
use crate::step::{PlannedStep, Step};
use crate::wish::{Hook, NodeWish, RebootWish};

/// What is decided for one node.
pub(crate) struct Chain<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) blocked: Vec<Blocked>,
    pub(crate) notes: Vec<Note>,
    /// Why the second part cannot be planned yet.
    pub(crate) later: Option<String>,
    wish: &'a NodeWish,
    survey: &'a Survey,
}

impl<'a> Chain<'a> {
    pub(crate) fn of(node: &'a NodeName, wish: &'a NodeWish, survey: &'a Survey) -> Self {
        let (steps, blocked, notes) = Default::default();
        let mut chain = Self { node, steps, blocked, notes, later: None, wish, survey };
        let (brings_repositories, mut disruptive) = chain.settings();
        if brings_repositories && (wish.packages.is_some() || wish.kernel.is_some()) {
            // With them what disrupts: one lease, and one pair of hooks.
            chain.later = Some("it gets other repositories first".to_owned());
            return chain;
        }
        let first = chain.steps.len();
        chain.steps.append(&mut disruptive);
        if survey.is_unreadable && (wish.packages.is_some() || wish.kernel.is_some()) {
            chain.repair(false);
            chain.under_a_lease(first, ["before-repair", "after-repair"]);
            chain.later = Some("its package database is mended first".to_owned());
            return chain;
        }
        let packages = chain.found("packages", survey.packages.as_ref());
        let kernel = chain.found("kernel", survey.kernel.as_ref());
        let boot = chain.boot(packages, kernel);
        let boots = boot.is_some();
        chain.repair(boots);
        chain.packages(packages);
        chain.kernel(kernel, boot);
        chain.services(boots);
        chain.under_a_lease(first, ["before", "after"]);
        chain
    }

    fn plan(&self, step: NodeStep, reason: impl Into<String>) -> PlannedStep {
        PlannedStep::new(Step::OnNode { node: self.node.clone(), step: Box::new(step) }, reason)
    }

    fn push(&mut self, step: NodeStep, reason: impl Into<String>) {
        self.steps.push(self.plan(step, reason));
    }

    fn block(&mut self, part: impl Into<String>, reason: impl Into<String>, advice: impl Into<String>) {
        let (reason, advice) = (reason.into(), advice.into());
        self.blocked.push(Blocked { node: self.node.clone(), part: part.into(), reason, advice });
    }

    fn note(&mut self, text: String) {
        self.notes.push(Note { node: self.node.clone(), text });
    }

    /// Plans settings that are not as wished. Says whether a repository is among them, and gives those that disrupt
    /// something.
    fn settings(&mut self) -> (bool, Vec<PlannedStep>) {
        let (mut brings_repositories, mut disruptive) = (false, Vec::new());
        for (setting, found) in self.wish.settings.iter().zip(&self.survey.settings) {
            match found {
                Found::AsWished => {}
                Found::Due { due } => {
                    brings_repositories |= matches!(setting, Setting::Repository(_));
                    let step =
                        NodeStep::ApplySetting { setting: Box::new(setting.clone()), seen: due.seen, begun: false };
                    let needs_lease = step.needs_lease();
                    let step = self.plan(step, "it is not as wished for").showing(&due.changes);
                    if needs_lease { disruptive.push(step) } else { self.steps.push(step) }
                }
                Found::Blocked { reason, advice } => self.block(setting.to_string(), reason, advice),
            }
        }
        (brings_repositories, disruptive)
    }

    fn found<T>(&mut self, part: &str, found: Option<&'a Found<T>>) -> Option<&'a T> {
        match found {
            None | Some(Found::AsWished) => None,
            Some(Found::Due { due }) => Some(due),
            Some(Found::Blocked { reason, advice }) => {
                self.block(part, reason, advice);
                None
            }
        }
    }

    /// Whether it boots, into which kernel if not the default one, and why.
    fn boot(&mut self, packages: Option<&Transaction>, kernel: Option<&KernelDue>) -> Option<Boot> {
        let kernels = &self.survey.kernels;
        if let Some(due) = kernel.filter(|due| due.release != kernels.running) {
            let reason = format!("{} runs, and {} is to run", kernels.running, due.release);
            return Some(Boot { once: Some(due.release.clone()), reason });
        }
        // Runs, and is not the default yet: a plain boot would leave it again.
        let once = kernel.map(|due| due.release.clone());
        let mut needed = self.survey.reboot_reasons.clone();
        needed.extend(packages.and_then(core_packages));
        let reason = match self.wish.reboot {
            RebootWish::Always => "a reboot was asked for".to_owned(),
            RebootWish::AfterChanges if packages.is_some() => "its packages change".to_owned(),
            RebootWish::IfNeeded if !needed.is_empty() => needed.join("; "),
            RebootWish::IfNeeded => return None,
            RebootWish::Never | RebootWish::AfterChanges => {
                if !needed.is_empty() {
                    self.note(format!("should be rebooted: {}", needed.join("; ")));
                }
                return None;
            }
        };
        Some(Boot { once, reason })
    }

    /// Nothing is installed and nothing boots on top of what an interrupted transaction left.
    fn repair(&mut self, boots: bool) {
        let Some(left) = &self.survey.interrupted else { return };
        if boots || self.wish.packages.is_some() || self.wish.kernel.is_some() {
            self.push(NodeStep::RepairPackages, left.clone());
        } else {
            self.note(format!("has an interrupted transaction of its package manager: {left}"));
        }
    }

    fn packages(&mut self, packages: Option<&Transaction>) {
        let (Some(transaction), Some(wish)) = (packages, &self.wish.packages) else { return };
        let reason = match &wish.update {
            UpdateScope::All => "its repositories have newer packages".to_owned(),
            UpdateScope::Security => "its repositories have security updates".to_owned(),
            UpdateScope::Named(_) => "these packages are to be current".to_owned(),
            UpdateScope::Undo(number) => format!("transaction {number} of its package manager is to be undone"),
        };
        self.push(NodeStep::ChangePackages(transaction.clone()), reason);
    }

    fn kernel(&mut self, due: Option<&KernelDue>, boot: Option<Boot>) {
        if let Some(KernelDue { release, install: Some(package), changes, .. }) = due {
            let (package, release, changes) = (package.clone(), release.clone(), changes.clone());
            let reason = self.wish.kernel.as_ref().map(newest).unwrap_or_default();
            let step = self.plan(NodeStep::InstallKernel { package, release, changes }, reason);
            self.steps.push(step.showing(&[self.kept_default()]));
        }
        if let Some(Boot { once, reason }) = boot {
            let shown: Vec<_> = once.iter().map(|release| self.way_back(release, due)).collect();
            let step = self.plan(NodeStep::Boot { boot_id: self.survey.boot_id.clone(), once }, reason);
            self.steps.push(step.showing(&shown));
        }
        let Some(due) = due else { return };
        // One that is the default and was never run does not stay it until it has proved itself.
        let kernels = &self.survey.kernels;
        if kernels.running != due.release || kernels.default.as_ref() != Some(&due.release) {
            let (release, reason) = (due.release.clone(), "by then the node is healthy with it");
            let shown = format!("default {} -> {release}", self.default_kernel());
            let step = self.plan(NodeStep::ConfirmKernel { release }, reason).showing(&[shown]);
            self.steps.push(step);
        }
        if !due.prune.is_empty() {
            let keep = self.wish.kernel.as_ref().map_or(1, |wish| wish.keep);
            let stay = if keep == 1 { "1 old one stays".to_owned() } else { format!("{keep} old ones stay") };
            let reason = format!("beside the new kernel, {stay}");
            self.push(NodeStep::PruneKernels { remove: due.prune.clone() }, reason);
        }
    }

    fn default_kernel(&self) -> &str {
        self.survey.kernels.default.as_ref().map_or("what the boot loader chooses", KernelRelease::as_str)
    }

    /// The kernel that runs is the default until another has proved itself.
    fn kept_default(&self) -> String {
        let running = &self.survey.kernels.running;
        match &self.survey.kernels.default {
            Some(other) if other != running => format!("until then the default is {running}, which runs, not {other}"),
            _ => format!("the default stays {running}"),
        }
    }

    fn way_back(&self, once: &KernelRelease, due: Option<&KernelDue>) -> String {
        let Kernels { running, default, .. } = &self.survey.kernels;
        let installs = due.is_some_and(|due| due.install.is_some());
        let back = if installs || default.as_ref() == Some(once) { running.as_str() } else { self.default_kernel() };
        format!("if it is not healthy then, the next boot is into {back} again")
    }

    fn services(&mut self, boots: bool) {
        let units = &self.survey.outdated_services;
        if !boots && !units.is_empty() && self.wish.packages.is_some() {
            let step = NodeStep::RestartServices { units: units.clone() };
            self.push(step, "they still run what an update replaced");
        }
    }

    /// Puts the steps from `first` on between the hooks, with these words in their ids, and under a lease, if one of them
    /// disrupts anything.
    fn under_a_lease(&mut self, first: usize, [key_before, key_after]: [&str; 2]) {
        let needs = |planned: &PlannedStep| matches!(&planned.step, Step::OnNode { step, .. } if step.needs_lease());
        if !self.steps[first..].iter().any(needs) {
            return;
        }
        let hook = |hook: &Hook| NodeStep::Hook { argv: hook.argv.clone(), timeout_millis: hook.timeout_millis };
        if let Some(before) = &self.wish.hooks.before {
            let step = self.plan(hook(before), "before anything goes down").keyed(key_before);
            self.steps.insert(first, step);
        }
        if let Some(after) = &self.wish.hooks.after {
            let step = self.plan(hook(after), "everything is back").keyed(key_after);
            self.steps.push(step);
        }
        self.steps[first..].iter_mut().for_each(|step| step.lease = true);
    }
}

struct Boot {
    once: Option<KernelRelease>,
    reason: String,
}

/// Why a kernel is installed.
fn newest(wish: &KernelWish) -> String {
    let package = wish.channel.package();
    match &wish.version {
        Some(version) => format!("{package} {version} was asked for"),
        None => format!("it is the newest {package} of its repositories"),
    }
}

/// What a transaction replaces that everything runs on: only a reboot ends the last use of it.
fn core_packages(transaction: &Transaction) -> Option<String> {
    let core: Vec<_> = transaction.changes.iter().filter(|change| change.needs_reboot()).collect();
    let names: Vec<_> = core.iter().map(|change| change.name.as_str()).collect();
    (!names.is_empty()).then(|| format!("{} changes, on which everything runs", names.join(", ")))
}
