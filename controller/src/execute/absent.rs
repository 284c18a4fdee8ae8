// SPDX-License-Identifier: Apache-2.0
//! Nodes that are to be planned for now and are not there: the plan's rules say whether they are waited for, left out, or
//! count as failed. One that was removed or revoked does not come back, and is left out in any case.

use windlass_plan::{OnFailure, Plan, Unreachable};
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

use super::hold::Held;
use super::later::{Told, queued};
use super::stored::stored;
use super::{ActiveRun, Runs};

/// What becomes of such a node.
#[derive(Debug, PartialEq, Eq)]
enum Absence {
    /// It is waited for from now on.
    Awaited,
    /// It is left out.
    LeftOut { reason: &'static str, advice: String },
    /// It is left out, and counts as one that failed.
    Failed,
}

impl Runs {
    /// Decides about nodes that are to be planned for now and are not there.
    pub(super) async fn look_for_absent(&self, run: &ActiveRun, held: &mut Held) {
        let absent = self.absent(run, held);
        if absent.is_empty() {
            return;
        }
        let is_failed = |(node, absence): &(NodeName, Absence)| (*absence == Absence::Failed).then(|| node.clone());
        let failed: Vec<_> = absent.iter().filter_map(is_failed).collect();
        for node in &failed {
            self.count_as_failed(run, node).await;
        }
        let recording = run.recording.lock().await;
        let mut record = run.record().clone();
        let before = record.plan.clone();
        // Stored with the plan that leaves it out: the next controller finds no step of it that failed.
        record.failed.extend(failed);
        let told = absent.into_iter().map(|(node, absence)| absence.enter(&mut record.plan, node)).collect();
        if !self.replan(run, recording, record, &before, told).await {
            run.nudge.notify_one();
        }
    }

    fn absent(&self, run: &ActiveRun, held: &mut Held) -> Vec<(NodeName, Absence)> {
        let mut due = run.progress().awaited();
        due.retain(|node| !self.is_connected(node) && !run.asked().contains(node));
        due.into_iter().filter_map(|node| self.absence(run, held, &node).map(|absence| (node, absence))).collect()
    }

    /// `None` if nothing is to be decided: it is waited for already, or is about to dial.
    fn absence(&self, run: &ActiveRun, held: &mut Held, node: &NodeName) -> Option<Absence> {
        match self.with.observer.node(node) {
            None => {
                let advice = "have it join anew, then make a new plan for it".to_owned();
                return Some(Absence::LeftOut { reason: "it was removed", advice });
            }
            Some(status) if status.is_revoked => {
                let advice = format!("windlass node remove {node}, then have it join anew");
                return Some(Absence::LeftOut { reason: "its certificates were revoked", advice });
            }
            Some(_) => {}
        }
        if let Some(redials) = self.with.jobs.expected_within(node) {
            held.look_again_within(redials);
            return None;
        }
        let unreachable = run.record().plan.policy.unreachable;
        match unreachable {
            Unreachable::Wait => {
                let record = run.record();
                queued(&record.plan, node).filter(|queued| queued.after.is_some()).map(|_| Absence::Awaited)
            }
            Unreachable::Skip => {
                let advice = "apply again once it is back".to_owned();
                Some(Absence::LeftOut { reason: "it cannot be asked, and is skipped: it is not connected", advice })
            }
            Unreachable::Fail => Some(Absence::Failed),
        }
    }

    /// What follows from that is stored before the node is left out: a controller that is killed in between finds it again.
    async fn count_as_failed(&self, run: &ActiveRun, node: &NodeName) {
        let pauses = run.record().plan.policy.on_failure == OnFailure::Pause;
        if pauses && !run.progress().told().stop {
            stored(run, || self.set_paused(run, Some(format!("{node} is not connected")))).await;
        }
        run.progress().count_as_failed(node);
        self.sweep(run).await;
    }
}

impl Absence {
    /// Enters it in the plan; gives what is told of it.
    fn enter(self, plan: &mut Plan, node: NodeName) -> Told {
        let (reason, advice) = match self {
            Self::Awaited => {
                let reason = "it is not connected";
                plan.await_back(&node, reason);
                let message = format!("{node} is waited for: {reason}");
                return Told { kind: EventKind::StepHeld, node, message };
            }
            Self::LeftOut { reason, advice } => (reason, advice),
            Self::Failed => (
                "it cannot be asked, and so it failed: it is not connected",
                "bring it back, then apply again".to_owned(),
            ),
        };
        plan.leave_out(&node, reason, advice);
        let message = format!("{node} is left out: {reason}");
        Told { kind: EventKind::RunLeftOut, node, message }
    }
}

#[cfg(test)]
mod tests {
    use windlass_plan::{PlannedStep, Policy, Queued, Step};

    use super::*;

    fn node() -> NodeName {
        NodeName::new("node1").expect("a name")
    }

    /// A node that is to be planned for after a step.
    fn plan() -> Plan {
        let step = PlannedStep::new(Step::ForgetNode { name: node() }, "a test");
        let queued = Queued { node: node(), reason: "repositories first".into(), after: Some(step.id.clone()) };
        Plan { steps: vec![step], queued: vec![queued], ..Plan::empty(None, Policy::default()) }
    }

    #[test]
    fn one_that_is_waited_for_is_shown_as_away_and_no_more_as_one_that_comes_later() {
        let mut plan = plan();
        let told = Absence::Awaited.enter(&mut plan, node());
        assert_eq!(told.message, "node1 is waited for: it is not connected");
        assert_eq!(plan.queued, [Queued { node: node(), reason: "it is not connected".into(), after: None }]);
        assert!(plan.blocked.is_empty());
    }

    #[test]
    fn one_that_is_left_out_is_named_and_waited_for_no_more() {
        let removed = Absence::LeftOut { reason: "it was removed", advice: "have it join anew".into() };
        for (absence, why) in [(removed, "it was removed"), (Absence::Failed, "and so it failed")] {
            let mut plan = plan();
            let told = absence.enter(&mut plan, node());
            assert!(told.kind == EventKind::RunLeftOut && told.message.contains(why), "{}", told.message);
            assert!(plan.queued.is_empty() && plan.blocked[0].reason.contains(why), "{plan}");
        }
    }
}
