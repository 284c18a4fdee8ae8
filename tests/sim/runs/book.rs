// SPDX-License-Identifier: Apache-2.0
//! What the controller has stored of runs and leases, and what its operators know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use windlass_controller::arbiter::Held;
use windlass_controller::execute::record::RunRecord;
use windlass_controller::execute::run::StepRecord;
use windlass_types::name::{NodeName, RunId};
use windlass_types::node_step::Lease;
use windlass_types::run::StepState;

use crate::ledger::json;

/// Runs and leases on one disk of the controller.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) runs: BTreeMap<RunId, RunRecord>,
    steps: BTreeMap<RunId, BTreeMap<String, StepRecord>>,
    pub(crate) leases: BTreeMap<NodeName, Lease>,
    highest: u64,
    /// Which run is under way on a node.
    locks: BTreeMap<NodeName, RunId>,
    /// Leases that ended since somebody looked.
    over: Vec<Lease>,
    /// Runs that ended since somebody looked.
    ended: Vec<RunId>,
    /// Runs that were under way in the backup of which this is a copy.
    of_backup: BTreeSet<RunId>,
    /// Leases that an operator took from a run.
    pub(crate) broken: BTreeSet<u64>,
}

impl Book {
    /// Takes what was stored under a key; what is wrong with it.
    pub(crate) fn take(&mut self, prefix: &str, rest: &str, value: Option<&[u8]>) -> Result<(), String> {
        match (prefix, value) {
            ("runs", Some(value)) => {
                let record: RunRecord = json(value)?;
                let before = self.runs.insert(record.id.clone(), record.clone());
                if before.as_ref().is_some_and(|before| before.state.is_final()) {
                    // Somebody tries it again, and knows what that means.
                    self.of_backup.remove(&record.id);
                }
                if record.state.is_final() && before.is_none_or(|before| !before.state.is_final()) {
                    self.ended.push(record.id);
                }
            }
            ("run-steps", Some(value)) => {
                let (run, step) = rest.split_once('/').ok_or("a step without a run")?;
                let run = RunId::new(run).map_err(|error| error.to_string())?;
                let record: StepRecord = json(value)?;
                if record.state == StepState::Running && self.of_backup.contains(&run) {
                    return Err(format!("(18) run {run} of a backup goes on with {step}"));
                }
                self.steps.entry(run).or_default().insert(step.to_owned(), record);
            }
            ("node-run", value) => {
                let node = NodeName::new(rest).map_err(|error| error.to_string())?;
                self.locks.remove(&node);
                if let Some(run) = value.and_then(|value| RunId::new(String::from_utf8_lossy(value)).ok()) {
                    self.locks.insert(node, run);
                }
            }
            ("leases", value) => return self.lease(rest, value),
            _ => {}
        }
        Ok(())
    }

    fn lease(&mut self, node: &str, value: Option<&[u8]>) -> Result<(), String> {
        let node = NodeName::new(node).map_err(|error| error.to_string())?;
        let Some(value) = value else {
            self.over.extend(self.leases.remove(&node));
            return Ok(());
        };
        let lease = json::<Held>(value)?.lease;
        let highest = self.highest;
        self.highest = highest.max(lease.number);
        let before = self.leases.insert(node.clone(), lease.clone());
        match before {
            Some(before) if before != lease => Err(format!("(14) {node} went from {before:?} to {lease:?} at once")),
            Some(_) => Ok(()),
            None if lease.number <= highest => {
                Err(format!("(14) lease {} of {node} was given after lease {highest}", lease.number))
            }
            None => Ok(()),
        }
    }

    /// Leases that ended, since the last time.
    pub(crate) fn over(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.over)
    }

    /// Runs that ended, since the last time.
    pub(crate) fn ended(&mut self) -> Vec<RunId> {
        std::mem::take(&mut self.ended)
    }

    /// This is a copy of another disk: what ended was looked at there, and what had not is not to go on here.
    pub(crate) fn is_a_copy(&mut self) {
        let under_way = self.runs.values().filter(|record| !record.state.is_final());
        self.of_backup = under_way.map(|record| record.id.clone()).collect();
        self.over.clear();
        self.ended.clear();
    }

    /// Where a step stands.
    pub(crate) fn step(&self, run: &RunId, step: &str) -> StepRecord {
        self.steps.get(run).and_then(|steps| steps.get(step)).cloned().unwrap_or_default()
    }

    /// A run that is told as under way and does not have its nodes for itself.
    pub(crate) fn without_its_nodes(&self) -> Option<String> {
        let under_way = self.runs.values().filter(|record| !record.state.is_final());
        under_way.into_iter().find_map(|record| {
            let mut nodes = record.plan.steps.iter().filter_map(|planned| planned.step.node());
            let other = nodes.find(|node| self.locks.get(*node) != Some(&record.id))?;
            let has = self.locks.get(other);
            Some(format!("(14) run {} is {:?}, and {other} is with {has:?}", record.id, record.state))
        })
    }

    /// Whether a node is left half done by its run: something was begun there under the lease, and not all was done.
    pub(crate) fn is_half_done(&self, run: &RunId, node: &NodeName, has_acted: bool) -> bool {
        let Some(record) = self.runs.get(run) else { return false };
        let leased = record.plan.steps.iter().filter(|planned| planned.lease && planned.step.node() == Some(node));
        let states: Vec<_> = leased.map(|planned| self.step(run, planned.id.as_str())).collect();
        let is_whole = states.iter().all(|step| step.state == StepState::Done);
        let is_untouched = |step: &StepRecord| {
            let is_over = (step.state == StepState::Failed && step.blocked || step.was_never_told()) && !step.begun;
            step.state != StepState::Running && is_over
        };
        let is_untouched = !has_acted && states.iter().all(is_untouched);
        !is_whole && !is_untouched
    }
}

/// What the operators know and have done.
#[derive(Debug, Default)]
pub(crate) struct Dealings(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    runs: BTreeMap<(usize, usize), String>,
    released: BTreeSet<NodeName>,
    /// Why not everything is at its end yet; `None` if it is.
    unsettled: Option<String>,
}

impl Dealings {
    pub(crate) fn new() -> Arc<Self> {
        let known = Known { unsettled: Some("nobody has looked yet".to_owned()), ..Known::default() };
        Arc::new(Self(Mutex::new(known)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A wish became a run, in this era.
    pub(crate) fn began(&self, era: usize, wish: usize, run: &str) {
        self.known().runs.insert((era, wish), run.to_owned());
    }

    /// The run of a wish.
    pub(crate) fn run_of(&self, era: usize, wish: usize) -> Option<String> {
        self.known().runs.get(&(era, wish)).cloned()
    }

    /// Somebody takes a node from whoever holds it.
    pub(crate) fn releases(&self, node: &NodeName) {
        self.known().released.insert(node.clone());
    }

    /// Whether somebody has ever done that.
    pub(crate) fn has_released(&self, node: &NodeName) -> bool {
        self.known().released.contains(node)
    }

    /// What is left to do, once all is healed.
    pub(crate) fn left(&self, what: Option<String>) {
        self.known().unsettled = what;
    }

    /// Why not everything is at its end yet.
    pub(crate) fn unsettled(&self) -> Option<String> {
        self.known().unsettled.clone()
    }
}
