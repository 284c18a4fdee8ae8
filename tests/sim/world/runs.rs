// SPDX-License-Identifier: Apache-2.0
//! What belongs to runs: machines that go down and come back, what goes wrong then, and what must hold of it.

use super::{BACK_WITHIN, OTHER_DESK, World};
use crate::bastion::BASTION;
use crate::operator::Wish;
use crate::runs::power::Happened;
use crate::runs::{RunStep, files, model};
use crate::trace;

/// How many packages are installed before the power fails.
const INSTALLED_BEFORE_FAILING: usize = 2;

impl World<'_> {
    pub(super) const fn has_runs(&self) -> bool {
        self.other_wishes.is_some()
    }

    fn wish_at(&self, desk: usize, wish: Wish) {
        match &self.other_wishes {
            Some(other) if desk > 0 => other.send(wish).expect("the operators never leave"),
            _ => self.wish(wish),
        }
    }

    pub(super) fn perform_of_runs(&mut self, step: &RunStep, era: usize) {
        match step {
            RunStep::Begin(wish) => self.wish_at(wish.desk, Wish::Run { wish: wish.clone(), era }),
            RunStep::Tell { run, what, desk } => {
                self.wish_at(*desk, Wish::Tell { run: *run, what: *what, era });
            }
            RunStep::TellLate { run, what } => self.wish(Wish::TellLate { run: run.clone(), what: *what }),
            RunStep::Quarantine(node) => self.wish(Wish::Quarantine(*node)),
            RunStep::Release(node) => self.wish(Wish::Release(*node)),
            RunStep::NewPackages(version) => {
                self.nodes.iter().for_each(|node| model::offer(&node.machine.host, *version));
            }
            RunStep::HangsAtBoot(node) => self.power.hang(*node),
            RunStep::FailsInTransaction(node) => {
                let fail = Some(INSTALLED_BEFORE_FAILING);
                self.nodes[*node].machine.host.change(|node| node.power_fails_after = fail);
            }
            RunStep::BreakKernel(node) => model::break_kernel(&self.nodes[*node].machine.host, true),
        }
    }

    /// Lets happen to the machines what happens to them by now.
    pub(super) fn machines(&mut self) -> Vec<Happened> {
        let now = self.sim.elapsed();
        let happened = self.power.look(now);
        for one in &happened {
            trace::line(|| format!("{one:?}"));
            let node = one.node();
            match one {
                Happened::Acts { .. } | Happened::Did { .. } => {}
                Happened::GoesDown { .. } | Happened::LostPower { .. } => self.crash(node),
                Happened::ComesUp { .. } => self.start(node),
            }
            self.reactions.react(one, now);
        }
        for step in self.reactions.due(now) {
            trace::line(|| format!("in reaction: {step:?}"));
            self.perform(&step);
        }
        happened
    }

    pub(super) fn after_step_of_runs(&mut self, happened: &[Happened]) -> Result<(), String> {
        if !self.has_runs() {
            return Ok(());
        }
        let (controller, now) = (self.bastion.controller(), self.sim.elapsed());
        self.run_checker.after_step(now, happened, &self.power, controller.as_deref())?;
        for run in std::mem::take(&mut self.run_checker.ended) {
            trace::line(|| format!("run {run} ended"));
            self.reactions.ended(&run, now);
        }
        Ok(())
    }

    pub(super) fn heal_runs(&mut self) {
        if !self.has_runs() {
            return;
        }
        self.reactions.clear();
        self.power.heal(self.sim.elapsed());
        self.sim.repair(OTHER_DESK, BASTION);
        for node in &self.nodes {
            node.machine.host.change(|node| node.power_fails_after = None);
            model::break_kernel(&node.machine.host, false);
        }
        self.wish(Wish::Settle { by_spec: self.settles_by_spec });
    }

    /// Of nodes that are missing, those whose machine is up for so long that they should not be.
    pub(super) fn late(&self, missing: &[String]) -> Vec<String> {
        let now = self.sim.elapsed();
        let is_late = |name: &&String| {
            let node = self.nodes.iter().position(|node| node.name.as_str() == *name);
            node.is_none_or(|node| self.power.is_up_since(node).is_some_and(|since| now - since >= BACK_WITHIN))
        };
        missing.iter().filter(is_late).cloned().collect()
    }

    /// Adds to the course of events how the runs stand that have not ended.
    pub(super) fn tell_runs(&self) {
        if let Some(controller) = self.bastion.controller() {
            self.run_checker.tell(&controller);
        }
    }

    /// What the operators have still to do.
    pub(super) fn unsettled(&self) -> Option<String> {
        self.dealings.unsettled().filter(|_| self.has_runs())
    }

    /// Everything that must hold of runs once all is well again.
    pub(super) fn runs_at_the_end(&self) -> Result<(), String> {
        if !self.has_runs() {
            return Ok(());
        }
        trace::line(|| format!("{} reboots by runs", self.run_checker.reboots()));
        let mut broken = Vec::new();
        for node in &self.nodes {
            let host = &node.machine.host;
            let unfinished = model::unfinished(&host.node()).map(|what| format!("(19) {} {what}", node.name));
            let orders = self.ledger.orders_to(&node.name);
            let too_often = files::too_often(&host.effects(), host.boots(), &orders);
            broken.extend(unfinished.into_iter().chain(too_often.map(|what| format!("(15) {} {what}", node.name))));
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }
}
