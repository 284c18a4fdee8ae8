// SPDX-License-Identifier: Apache-2.0
//! Which steps may begin beside those under way, how many further nodes may come into the run's hands for that, and which
//! need not stay there.

use std::collections::BTreeSet;

use windlass_plan::PlannedStep;
use windlass_types::name::NodeName;
use windlass_types::run::StepState;

use super::{Progress, StepRecord};

impl Progress {
    /// Steps that may begin now, within the plan's limit and in its order; first those of nodes in the run's hands, which
    /// count as down already. Steps of nodes that are `away` are left out.
    #[must_use]
    pub fn ready(&self, is_away: impl Fn(&NodeName) -> bool) -> Vec<PlannedStep> {
        let free = self.free();
        if free == 0 {
            return Vec::new();
        }
        let may = |planned: &&PlannedStep| {
            let node = planned.step.node();
            self.may_begin(node) && (!planned.lease || self.holds(node)) && !node.is_some_and(&is_away)
        };
        let held: BTreeSet<_> = self.in_hand.iter().flat_map(|node| self.ready_of(node)).collect();
        let others = self.ready.iter().copied().filter(|at| !held.contains(at));
        let steps = held.iter().copied().chain(others).map(|at| &self.plan.steps[at]);
        steps.filter(may).take(free).cloned().collect()
    }

    /// Steps that may begin beside those under way.
    fn free(&self) -> usize {
        (self.plan.policy.parallel as usize).saturating_sub(self.running)
    }

    /// Steps of a node that wait for no other any more.
    fn ready_of(&self, node: &NodeName) -> impl Iterator<Item = usize> {
        self.of_node.get(node).into_iter().flatten().copied().filter(|at| self.ready.contains(at))
    }

    /// How many further nodes could begin at once what is done under a lease. A node in the run's hands that is about to go
    /// on has its place. More are not asked for: whoever is in hand is brought to its end, also after a failure or a pause.
    #[must_use]
    pub fn places(&self) -> usize {
        let about_to_go_on = self.in_hand.iter().filter(|node| self.ready_of(node).next().is_some()).count();
        self.free().saturating_sub(about_to_go_on)
    }

    /// Nodes in the run's hands that need not be any more: nothing that was to be done under the lease is left, or nothing
    /// of it was begun. Any other whose chain failed is kept: nobody knows how it is.
    #[must_use]
    pub fn finished_with(&self) -> Vec<NodeName> {
        let is_whole = |node: &&NodeName| {
            let mut leased = self.records_of(node).filter(|(planned, _)| planned.lease);
            leased.all(|(_, record)| record.state == StepState::Done)
        };
        let untouched = |node: &&NodeName| {
            let mut leased = self.records_of(node).filter(|(planned, _)| planned.lease);
            leased.all(|(_, record)| record.state.is_final() && has_changed_nothing(record))
        };
        self.in_hand.iter().filter(|node| is_whole(node) || untouched(node)).cloned().collect()
    }
}

/// Whether what was done for a step has changed nothing: its node was not told, or saw first that it cannot be done.
const fn has_changed_nothing(record: &StepRecord) -> bool {
    match record.state {
        StepState::Done => record.was_done && !record.begun,
        _ => (record.was_never_told() || record.blocked) && !record.begun,
    }
}
