// SPDX-License-Identifier: Apache-2.0
//! What failed, and when that is so much that nothing further begins.

use windlass_plan::{OnFailure, PlannedStep, Step};
use windlass_types::name::NodeName;

use super::Progress;

impl Progress {
    pub(super) fn note_failure(&mut self, at: usize) {
        let planned = &self.plan.steps[at];
        if counts(planned) {
            self.failed.extend(planned.step.node().cloned());
        }
    }

    /// A node that could not be planned for counts as one that failed.
    pub fn count_as_failed(&mut self, node: &NodeName) {
        self.failed.insert(node.clone());
    }

    /// Whether so much failed that no further node may begin and the run comes to its end.
    #[must_use]
    pub fn has_failed_too_often(&self) -> bool {
        match self.plan.policy.on_failure {
            OnFailure::Stop => !self.failed.is_empty(),
            OnFailure::Continue { most } => self.failed.len() > most as usize,
            OnFailure::Pause => false,
        }
    }
}

/// Whether a failure of a step counts under the plan's rules. Machines that cannot be made hold up nobody: whether the others
/// are made does not depend on them. One that cannot be removed may be down, as any node that was taken down.
#[must_use]
pub const fn counts(planned: &PlannedStep) -> bool {
    planned.lease || matches!(planned.step, Step::OnNode { .. })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use windlass_plan::{Plan, Policy, Turn};
    use windlass_types::run::{RunState, StepState};

    use super::*;
    use crate::execute::run::Told;

    fn name(text: &str) -> NodeName {
        NodeName::new(text).expect("a name")
    }

    /// Two nodes that are removed, each in its turn; the first is in hand.
    fn leaving() -> Progress {
        let mut plan = Plan::empty(None, Policy::default());
        for node in ["n0", "n1"].map(name) {
            plan.turns.push(Turn { node: node.clone(), why: "a test".into() });
            plan.steps.push(PlannedStep { lease: true, ..PlannedStep::new(Step::ForgetNode { name: node }, "a test") });
        }
        let mut progress = Progress::new(plan, Told::default(), BTreeMap::new());
        progress.set_in_hand(&name("n0"), true);
        progress
    }

    fn sweep(progress: &mut Progress) {
        for (id, state) in progress.left_over() {
            progress.change(&id, |record| record.state = state);
        }
    }

    fn asking(progress: &Progress) -> Vec<&str> {
        progress.asking(|_| false).now.iter().map(|planned| planned.step.subject()).collect()
    }

    #[test]
    fn a_node_whose_removal_began_is_kept_when_that_fails_and_counts_as_failed() {
        let mut progress = leaving();
        let id = progress.ready(|_| false)[0].id.clone();
        progress.change(&id, |record| (record.state, record.begun) = (StepState::Running, true));
        progress.change(&id, |record| record.state = StepState::Failed);
        sweep(&mut progress);
        assert!(progress.finished_with().is_empty(), "nobody knows how much of it was done");
        assert!(asking(&progress).is_empty());
        assert_eq!(progress.verdict(), Some(RunState::Failed));
        progress.retry();
        assert_eq!(progress.ready(|_| false)[0].id, id, "it is held still");
        progress.change(&id, |record| record.state = StepState::Running);
        progress.change(&id, |record| record.state = StepState::Done);
        assert_eq!((progress.finished_with(), asking(&progress)), (vec![name("n0")], vec!["n1"]));
    }

    #[test]
    fn a_node_whose_removal_did_not_begin_is_given_back() {
        let mut progress = leaving();
        progress.tell(Told { stop: true, pause: None });
        sweep(&mut progress);
        assert_eq!((progress.finished_with(), progress.verdict()), (vec![name("n0")], Some(RunState::Stopped)));
    }
}
