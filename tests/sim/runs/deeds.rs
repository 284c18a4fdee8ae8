// SPDX-License-Identifier: Apache-2.0
//! That nothing is done twice on a node, whoever forgets what was done: the agent that was killed, the controller that was,
//! or the run that is tried again.
//!
//! - An order begins a program once in a boot, and does with it what that does once; no order does what its step has done.
//! - A run does something once, until another run has done something on the node.
//! - What says that all is well and changes nothing did what was done already: a kernel that is the default is not made the
//!   default.
//! - What is to be booted once is said once in a boot: only that boot uses it up. A service is restarted once for each version
//!   of its package that came since it was started.
//! - A package comes back in an older version only where somebody undoes something.
//!
//! Not so hooks: only the site knows whether they are done. An order that was begun anew in another boot runs them again.

use std::collections::{BTreeMap, BTreeSet};

use windlass_types::name::{JobId, NodeName, RunId};
use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::package::UpdateScope;
use windlass_types::run::StepState;

use super::check::job_of;
use super::model::number;
use crate::ledger::Ledger;
use crate::machine::Deed;

/// What an order may begin more than once in a boot: that a machine goes down takes time, in which an agent may begin anew;
/// and a kernel's scripts may have changed the default since.
const MAY_BE_REPEATED: [&str; 2] = ["--no-block reboot", "--set-default="];

/// What says that it is so, also if it was.
const ALWAYS_SAID: &str = "sysctl -w ";

/// What was done on all nodes.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    nodes: BTreeMap<usize, OfNode>,
    /// Steps for which something was begun.
    begun: BTreeSet<(RunId, String)>,
}

/// What was done on a node.
#[derive(Debug, Default)]
struct OfNode {
    boot: u64,
    /// What orders began, and in which boot.
    begun: BTreeSet<(JobId, u64, String)>,
    /// What orders did.
    by_orders: BTreeSet<(JobId, String)>,
    /// The run that did something last, on which disk of the controller, and what it did since another one did something.
    last: Option<(usize, RunId)>,
    by_last: BTreeSet<String>,
    /// What is done once, whoever does it.
    ever: BTreeSet<String>,
    /// What was done in this boot.
    in_boot: BTreeSet<String>,
    /// Units of which a package came since they were started.
    outdated: BTreeSet<String>,
    /// In which version each package came last.
    versions: BTreeMap<String, u32>,
}

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// By each order once, and by each run until another one does something.
    OnceByRun,
    /// Once, whoever does it.
    Once,
    /// Once in a boot.
    OnceInBoot,
    /// For each version of a package once.
    OnceForPackage,
    /// As often as it is begun.
    AsBegun,
}

impl Bound {
    fn of(effect: &str, step: &NodeStep) -> Self {
        let (verb, rest) = effect.split_once(' ').unwrap_or((effect, ""));
        match verb {
            _ if matches!(step, NodeStep::Hook { .. }) => Self::AsBegun,
            "make" if rest.ends_with(" the default") => Self::AsBegun,
            "forget" => Self::AsBegun,
            "reinstall" | "boot" => Self::OnceInBoot,
            "restart" => Self::OnceForPackage,
            // Nobody undoes kernels.
            "install" | "remove" | "erase" if rest.starts_with("kernel") => Self::Once,
            _ => Self::OnceByRun,
        }
    }
}

impl Deeds {
    /// A program is started that changes something, for an order from a disk of the controller.
    pub(crate) fn begins(
        &mut self,
        (node, boot): (usize, u64),
        (program, what): (&JobId, &str),
        (era, order): (usize, &StepOrder),
        ledger: &Ledger,
    ) -> Result<(), String> {
        let Some(run) = &order.run else { return Err(format!("did `{what}` without a run")) };
        self.begun.insert((run.clone(), order.id.clone()));
        // A kernel that was tried is tried again where the node was started without it since; hooks may be.
        let is_for_once = !matches!(order.step, NodeStep::Boot { .. } | NodeStep::Hook { .. });
        let state = ledger.with_era_at(era, |era| era.book.step(run, &order.id).state);
        if is_for_once && state == StepState::Done {
            return Err(format!("did `{what}` for {} of run {run}, which was done", order.id));
        }
        let node = self.nodes.entry(node).or_default();
        let job = job_of(program).expect("it was ordered");
        if !MAY_BE_REPEATED.iter().any(|repeated| what.contains(repeated))
            && !node.begun.insert((job.clone(), boot, what.to_owned()))
        {
            return Err(format!("began `{what}` twice for order {job}"));
        }
        Ok(())
    }

    /// One of these has ended.
    pub(crate) fn ended(&mut self, node: usize, name: &NodeName, deed: &Deed, ledger: &Ledger) -> Result<(), String> {
        let Deed { program, what, boot, effects, was_in_vain } = deed;
        let job = job_of(program).ok_or("did something for nobody")?;
        let (era, order) = ledger.order_of(&job).ok_or("did something that nobody ordered")?;
        let run = order.run.clone().ok_or("did something without a run")?;
        let is_hook = matches!(order.step, NodeStep::Hook { .. });
        if *was_in_vain && !is_hook && !what.contains(ALWAYS_SAID) {
            return Err(format!("did `{what}` for {} of run {run}, and it was so already", order.id));
        }
        let undoes = ledger.with_era_at(era, |era| {
            let wish = era.book.runs.get(&run).and_then(|record| record.inputs.wishes.get(name));
            let update = wish.and_then(|wish| wish.packages.as_ref()).map(|packages| &packages.update);
            matches!(update, Some(UpdateScope::Undo(_)))
        });
        let node = self.nodes.entry(node).or_default();
        node.is_in_boot(*boot);
        node.is_worked_on_by(era, &run);
        for effect in effects {
            let told = |often| format!("did `{effect}` {often}, the last time for {} of run {run} ({job})", order.id);
            node.take(effect, Bound::of(effect, &order.step), &job).map_err(told)?;
            node.goes_on(effect, undoes).map_err(told)?;
        }
        Ok(())
    }

    /// Whether something was begun for a step.
    pub(crate) fn has_begun(&self, run: &RunId, step: &str) -> bool {
        self.begun.contains(&(run.clone(), step.to_owned()))
    }
}

impl OfNode {
    /// All services were started with the boot.
    fn is_in_boot(&mut self, boot: u64) {
        if std::mem::replace(&mut self.boot, boot) != boot {
            self.in_boot.clear();
            self.outdated.clear();
        }
    }

    fn is_worked_on_by(&mut self, era: usize, run: &RunId) {
        if self.last.as_ref().is_none_or(|last| *last != (era, run.clone())) {
            self.last = Some((era, run.clone()));
            self.by_last.clear();
        }
    }

    fn take(&mut self, effect: &str, bound: Bound, job: &JobId) -> Result<(), &'static str> {
        let is_new = match bound {
            Bound::AsBegun => return Ok(()),
            Bound::OnceInBoot => {
                return if self.in_boot.insert(effect.to_owned()) { Ok(()) } else { Err("twice in one boot") };
            }
            Bound::OnceForPackage => {
                let unit = effect.split_once(' ').map_or("", |(_, unit)| unit);
                return if self.outdated.remove(unit) {
                    Ok(())
                } else {
                    Err("and nothing of it had come since it was started")
                };
            }
            Bound::Once => self.ever.insert(effect.to_owned()),
            Bound::OnceByRun => self.by_last.insert(effect.to_owned()),
        };
        if !self.by_orders.insert((job.clone(), effect.to_owned())) {
            return Err("twice for one order");
        }
        if is_new { Ok(()) } else { Err("twice") }
    }

    /// What follows from what happens to packages.
    fn goes_on(&mut self, effect: &str, undoes: bool) -> Result<(), &'static str> {
        if let Some(erased) = effect.strip_prefix("erase ") {
            self.forget(&format!("install {erased}"));
        }
        let Some(installed) = effect.strip_prefix("install ") else { return Ok(()) };
        self.forget(&format!("erase {installed}"));
        let mut parts = installed.rsplitn(3, '-').skip(1);
        let (Some(version), Some(name)) = (parts.next(), parts.next()) else { return Ok(()) };
        self.outdated.insert(format!("{name}.service"));
        let before = self.versions.insert(name.to_owned(), number(version)).unwrap_or(1);
        // Those of kernels are not numbered, and read as 0.
        if !undoes && number(version) > 0 && number(version) <= before {
            Err("and a newer one had come")
        } else {
            Ok(())
        }
    }

    /// Whoever mends a transaction that was cut off takes out what of it is older: that may come again.
    fn forget(&mut self, effect: &str) {
        self.by_last.remove(effect);
        self.ever.remove(effect);
        self.by_orders.retain(|(_, done)| done != effect);
    }
}
