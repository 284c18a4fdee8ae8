// SPDX-License-Identifier: Apache-2.0
//! A run as a state machine: which steps may begin, which never will, when it is over. Pure, no I/O, no clock.
//!
//! A step may begin when all it waits for are done. One that is done under a lease waits besides until its node is in the
//! run's hands, which the arbiter decides. When a node fails, the plan's rules say what becomes of the others; nodes that
//! are in the run's hands are brought to their end in any case, for nobody shall be left half done.

mod asking;
mod failure;
mod places;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use windlass_plan::{Plan, PlannedStep, Queued, StepId};
use windlass_types::name::NodeName;
use windlass_types::run::{RunState, StepState};

pub use self::asking::Asking;
pub use self::failure::counts;
pub use self::record::StepRecord;

/// What somebody, or a failure, told a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// To stop: nothing further begins, and waiting ends.
    pub stop: bool,
    /// To begin no further node for now, and why.
    pub pause: Option<String>,
}

/// A plan under way.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The plan.
    pub plan: Plan,
    told: Told,
    in_hand: BTreeSet<NodeName>,
    index: BTreeMap<StepId, usize>,
    links: Vec<Link>,
    /// The steps of each node, in the order of the plan.
    of_node: BTreeMap<NodeName, Vec<usize>>,
    /// Steps that wait for no other any more, in the order of the plan.
    ready: BTreeSet<usize>,
    /// Steps that wait for one that was not done.
    lost: Vec<usize>,
    failed: BTreeSet<NodeName>,
    turns: BTreeMap<NodeName, usize>,
    open: usize,
    running: usize,
}

/// A step and its neighbours.
#[derive(Debug, Clone, Default)]
struct Link {
    record: StepRecord,
    /// Of what kind that is for which it waits, as far as that was told.
    waits_for: Vec<&'static str>,
    /// Steps before it that are not done.
    waits: usize,
    next: Vec<usize>,
}

impl Progress {
    /// A plan of which so much is known. A step that was under way begins anew: every step may be done twice.
    #[must_use]
    pub fn new(plan: Plan, told: Told, mut known: BTreeMap<StepId, StepRecord>) -> Self {
        let index: BTreeMap<_, _> = plan.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at)).collect();
        let turns = plan.turns.iter().enumerate().map(|(at, turn)| (turn.node.clone(), at)).collect();
        let link = |planned: &PlannedStep| {
            let mut record = known.remove(&planned.id).unwrap_or_default();
            if record.state == StepState::Running {
                record.state = StepState::Waiting;
            }
            Link { record, ..Link::default() }
        };
        let links = plan.steps.iter().map(link).collect();
        let (of_node, ready, lost, failed, in_hand) = Default::default();
        let (open, running) = (0, 0);
        let mut progress =
            Self { plan, told, in_hand, index, links, of_node, ready, lost, failed, turns, open, running };
        progress.connect(0);
        progress
    }

    /// The plan has grown: steps at its end, turns anywhere.
    pub fn extend(&mut self, plan: Plan) {
        let first = self.links.len();
        let new = plan.steps.iter().enumerate().skip(first);
        self.index.extend(new.map(|(at, planned)| (planned.id.clone(), at)));
        self.turns = plan.turns.iter().enumerate().map(|(at, turn)| (turn.node.clone(), at)).collect();
        self.links.resize_with(plan.steps.len(), Link::default);
        self.plan = plan;
        self.connect(first);
    }

    /// Connects the steps from `first` on with those before them.
    fn connect(&mut self, first: usize) {
        for at in first..self.links.len() {
            if let Some(node) = self.plan.steps[at].step.node() {
                self.of_node.entry(node.clone()).or_default().push(at);
            }
            for before in &self.plan.steps[at].after {
                // A plan whose step waits for one that is not in it was refused before.
                let Some(before) = self.index.get(before).copied() else { continue };
                self.links[before].next.push(at);
                let state = self.links[before].record.state;
                self.links[at].waits += usize::from(state != StepState::Done);
                if state.is_final() && state != StepState::Done {
                    self.lost.push(at);
                }
            }
        }
        for at in first..self.links.len() {
            let state = self.links[at].record.state;
            self.open += usize::from(!state.is_final());
            if state == StepState::Waiting && self.links[at].waits == 0 {
                self.ready.insert(at);
            }
            if state == StepState::Failed {
                self.note_failure(at);
            }
        }
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the run was told.
    #[must_use]
    pub const fn told(&self) -> &Told {
        &self.told
    }

    /// Tells the run something.
    pub fn tell(&mut self, told: Told) {
        self.told = told;
    }

    /// The arbiter gave a node to the run, or took it back.
    pub fn set_in_hand(&mut self, node: &NodeName, is_in_hand: bool) {
        if is_in_hand {
            self.in_hand.insert(node.clone());
        } else {
            self.in_hand.remove(node);
        }
    }

    /// The nodes in the run's hands.
    #[must_use]
    pub const fn in_hand(&self) -> &BTreeSet<NodeName> {
        &self.in_hand
    }

    /// What is known of a step.
    #[must_use]
    pub fn step(&self, id: &StepId) -> StepRecord {
        self.index.get(id).map(|at| self.links[*at].record.clone()).unwrap_or_default()
    }

    /// Where a step stands.
    #[must_use]
    pub fn state(&self, id: &StepId) -> StepState {
        self.index.get(id).map(|at| self.links[*at].record.state).unwrap_or_default()
    }

    /// All that is known, in the order of the plan.
    pub fn records(&self) -> impl Iterator<Item = (&PlannedStep, &StepRecord)> {
        self.plan.steps.iter().zip(self.links.iter().map(|link| &link.record))
    }

    /// How many steps have ended well.
    #[must_use]
    pub fn done_count(&self) -> u32 {
        let done = self.links.iter().filter(|link| link.record.state == StepState::Done).count();
        u32::try_from(done).unwrap_or(u32::MAX)
    }

    /// A step of the plan.
    #[must_use]
    pub fn planned(&self, id: &StepId) -> Option<&PlannedStep> {
        self.index.get(id).map(|at| &self.plan.steps[*at])
    }

    /// All that is known of the steps of a node, in the order of the plan.
    pub fn records_of(&self, node: &NodeName) -> impl DoubleEndedIterator<Item = (&PlannedStep, &StepRecord)> {
        let steps = self.of_node.get(node).map_or(&[][..], Vec::as_slice);
        steps.iter().map(|at| (&self.plan.steps[*at], &self.links[*at].record))
    }

    /// Changes what is known of a step; gives what is known now.
    pub fn change(&mut self, id: &StepId, change: impl FnOnce(&mut StepRecord)) -> StepRecord {
        let Some(at) = self.index.get(id).copied() else { return StepRecord::default() };
        let before = self.links[at].record.state;
        change(&mut self.links[at].record);
        let after = before.becomes(self.links[at].record.state).unwrap_or_else(|invalid| {
            tracing::error!(step = %id, error = %invalid, "a mistake in Windlass; the step stays as it was");
            before
        });
        self.links[at].record.state = after;
        if before != after {
            self.moved(at, before, after);
        }
        self.links[at].record.clone()
    }

    /// Notes of what kind that is for which a step waits; says whether that is to be told. Who of many nodes is in the way
    /// changes with each of them, and is not.
    pub fn waits_for(&mut self, id: &StepId, kinds: Vec<&'static str>) -> bool {
        let Some(at) = self.index.get(id).copied() else { return false };
        let is_new = self.links[at].waits_for != kinds;
        self.links[at].waits_for = kinds;
        is_new
    }

    fn moved(&mut self, at: usize, before: StepState, after: StepState) {
        self.links[at].waits_for.clear();
        self.running =
            self.running + usize::from(after == StepState::Running) - usize::from(before == StepState::Running);
        self.open = self.open + usize::from(!after.is_final()) - usize::from(!before.is_final());
        if after == StepState::Waiting && self.links[at].waits == 0 {
            self.ready.insert(at);
        } else {
            self.ready.remove(&at);
        }
        if after == StepState::Failed {
            self.note_failure(at);
        }
        if after.is_final() {
            self.release_next(at, after == StepState::Done);
        }
    }

    fn release_next(&mut self, at: usize, is_done: bool) {
        for next in self.links[at].next.clone() {
            if !is_done {
                self.lost.push(next);
                continue;
            }
            self.links[next].waits = self.links[next].waits.saturating_sub(1);
            if self.links[next].waits == 0 && self.links[next].record.state == StepState::Waiting {
                self.ready.insert(next);
            }
        }
    }

    fn may_begin(&self, node: Option<&NodeName>) -> bool {
        let holds_back = self.told.pause.is_some() || self.has_failed_too_often();
        !self.told.stop && (!holds_back || self.holds(node))
    }

    fn holds(&self, node: Option<&NodeName>) -> bool {
        node.is_some_and(|node| self.in_hand.contains(node))
    }

    /// Nodes that could not be asked yet and are to be planned for when they can; none while no further node may begin.
    #[must_use]
    pub fn awaited(&self) -> Vec<NodeName> {
        let is_due = |queued: &&Queued| queued.after.as_ref().is_none_or(|step| self.state(step) == StepState::Done);
        let nodes = self.plan.queued.iter().filter(is_due).map(|queued| &queued.node);
        nodes.filter(|node| self.may_begin(Some(node))).cloned().collect()
    }

    /// Whether a node is still to be planned for. One that has to wait for a step that did not end well never will be.
    fn awaits(&self) -> bool {
        let is_lost = |step: &StepId| self.state(step).is_final() && self.state(step) != StepState::Done;
        self.plan.queued.iter().any(|queued| !queued.after.as_ref().is_some_and(is_lost))
    }

    /// Steps that wait and will never begin, and what becomes of them.
    #[must_use]
    pub fn left_over(&mut self) -> Vec<(StepId, StepState)> {
        let mut fates = BTreeMap::new();
        for at in std::mem::take(&mut self.lost) {
            if self.links[at].record.state == StepState::Waiting {
                fates.insert(at, StepState::Skipped);
            }
        }
        let everything = match (self.told.stop, self.has_failed_too_often()) {
            (true, _) => Some(StepState::Stopped),
            (false, true) => Some(StepState::Skipped),
            (false, false) => None,
        };
        if let Some(fate) = everything {
            for at in 0..self.links.len() {
                let is_waiting = self.links[at].record.state == StepState::Waiting;
                if is_waiting && !self.may_begin(self.plan.steps[at].step.node()) {
                    fates.entry(at).or_insert(fate);
                }
            }
        }
        fates.into_iter().map(|(at, fate)| (self.plan.steps[at].id.clone(), fate)).collect()
    }

    /// The final state, once every step has ended and no node is waited for.
    #[must_use]
    pub fn verdict(&self) -> Option<RunState> {
        let awaits = self.awaits();
        if self.open > 0 || awaits && !self.told.stop && !self.has_failed_too_often() {
            return None;
        }
        let has = |state| self.links.iter().any(|link| link.record.state == state);
        Some(if has(StepState::Failed) || !self.failed.is_empty() {
            RunState::Failed
        } else if has(StepState::Stopped) || awaits {
            RunState::Stopped
        } else if has(StepState::Skipped) {
            RunState::Failed
        } else {
            RunState::Succeeded
        })
    }

    /// What did not end well waits again. Gives the steps for which that is so.
    pub fn retry(&mut self) -> Vec<(StepId, StepRecord)> {
        let is_unwell =
            |record: &StepRecord| matches!(record.state, StepState::Failed | StepState::Skipped | StepState::Stopped);
        let unwell: Vec<_> =
            self.records().filter(|(_, record)| is_unwell(record)).map(|(planned, _)| planned.id.clone()).collect();
        self.failed.clear();
        let again = |id: StepId| {
            let record = self.change(&id, |record| *record = record.again());
            (id, record)
        };
        let changed = unwell.into_iter().map(again).collect();
        self.lost.clear();
        changed
    }
}
