// SPDX-License-Identifier: Apache-2.0
//! A plan that grows while it is carried out, by nodes that could not be asked when it was made: they were away, or had to
//! be made or to get their repositories first. Each is planned for by itself, under the same wishes and rules, when it can
//! be asked. Nothing that was in the plan changes.

use windlass_types::name::NodeName;

use crate::plan::{Blocked, Plan};
use crate::step::PlannedStep;

impl Plan {
    /// Takes in what was planned for a node that was queued, which may be a part again. Its steps come behind what is to be done with it already; its
    /// turn comes before those of the nodes that stand behind it in `order`.
    pub fn take_in(&mut self, node: &NodeName, later: Self, order: &[NodeName]) {
        self.queued.retain(|queued| queued.node != *node);
        let mut previous =
            self.steps.iter().rfind(|planned| planned.step.node() == Some(node)).map(|last| last.id.clone());
        let is_new = |planned: &PlannedStep| self.step(&planned.id).is_none();
        let (new, again): (Vec<_>, Vec<_>) = later.steps.into_iter().partition(is_new);
        if !again.is_empty() {
            let reason = "what was set there is not so any more";
            self.blocked.push(Blocked::whole(node.clone(), reason, "see who changes it, then make a new plan for it"));
            return;
        }
        for mut planned in new {
            planned.after = previous.replace(planned.id.clone()).into_iter().collect();
            self.steps.push(planned);
        }
        let behind: Vec<_> = order.iter().skip_while(|other| *other != node).skip(1).collect();
        let place = self.turns.iter().position(|turn| behind.contains(&&turn.node)).unwrap_or(self.turns.len());
        let has_turn = self.turns.iter().any(|turn| turn.node == *node);
        self.turns.splice(place..place, later.turns.into_iter().filter(|_| !has_turn));
        self.queued.extend(later.queued);
        self.blocked.extend(later.blocked);
        self.notes.extend(later.notes);
    }

    /// What a queued node had to wait for is done, and the node is not there: it only has to be back.
    pub fn await_back(&mut self, node: &NodeName, reason: &str) {
        for queued in self.queued.iter_mut().filter(|queued| queued.node == *node) {
            (queued.reason, queued.after) = (reason.to_owned(), None);
        }
    }

    /// Leaves out a node that was queued, by name.
    pub fn leave_out(&mut self, node: &NodeName, reason: impl Into<String>, advice: impl Into<String>) {
        self.queued.retain(|queued| queued.node != *node);
        self.blocked.push(Blocked::whole(node.clone(), reason, advice));
    }
}
