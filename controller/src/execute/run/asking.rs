// SPDX-License-Identifier: Apache-2.0
//! Whose turn it is to be taken down.

use std::collections::BTreeSet;

use windlass_plan::PlannedStep;
use windlass_types::name::NodeName;
use windlass_types::run::StepState;

use super::Progress;

/// Steps that wait for their node to come into the run's hands, by the turns of their nodes.
#[derive(Debug)]
pub struct Asking<'a> {
    /// Those whose turn it may be.
    pub now: Vec<&'a PlannedStep>,
    /// Those before whose turn another node's comes that is not ready for it.
    pub later: Vec<&'a PlannedStep>,
}

impl Progress {
    /// Steps that wait for their node to come into the run's hands, by the turns of their nodes. Whoever is done with what it
    /// does before its turn does not overtake those before it, unless they are `away`.
    #[must_use]
    pub fn asking(&self, is_away: impl Fn(&NodeName) -> bool) -> Asking<'_> {
        let steps = self.ready.iter().map(|at| &self.plan.steps[*at]);
        let asks = |planned: &&PlannedStep| {
            let node = planned.step.node();
            planned.lease && !self.holds(node) && self.may_begin(node)
        };
        let mut asking: Vec<_> = steps.filter(asks).collect();
        asking.sort_by_key(|planned| self.turn(planned.step.node()));
        let barrier = self.unready_turn(&asking, is_away);
        let later = asking.partition_point(|planned| self.turn(planned.step.node()) < barrier);
        let later = asking.split_off(later);
        Asking { now: asking, later }
    }

    fn turn(&self, node: Option<&NodeName>) -> usize {
        node.and_then(|node| self.turns.get(node)).copied().unwrap_or(usize::MAX)
    }

    /// The first turn that cannot begin: of those who ask, none; of the others, where something is still to be done before.
    fn unready_turn(&self, asking: &[&PlannedStep], is_away: impl Fn(&NodeName) -> bool) -> usize {
        let Some(last) = asking.last().map(|planned| self.turn(planned.step.node())) else { return usize::MAX };
        let ask: BTreeSet<_> = asking.iter().filter_map(|planned| planned.step.node()).collect();
        let mut first = last.saturating_add(1);
        for (link, planned) in self.links.iter().zip(&self.plan.steps) {
            let node = planned.step.node();
            let is_to_come = planned.lease && link.waits > 0 && link.record.state == StepState::Waiting;
            if is_to_come
                && self.turn(node) < first
                && !node.is_some_and(|node| ask.contains(node))
                && !self.holds(node)
                && !node.is_some_and(&is_away)
            {
                first = self.turn(node);
            }
        }
        first
    }
}
