// SPDX-License-Identifier: Apache-2.0
//! A node that is not connected when its turn has come: the plan's rules say whether its step waits, is left out or fails.
//! One that somebody has put aside: what needs no lease is not begun there either.

use windlass_plan::{Objection, StepId, Unreachable, put_aside};
use windlass_types::name::NodeName;
use windlass_types::run::StepState;

use super::health::waits_for_its_node;
use super::hold::Held;
use super::on_node::request_id;
use super::steps::StepFailure;
use super::stored::stored;
use super::{ActiveRun, Runs};

/// What becomes of such a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its node is about to dial again: nobody takes its place until that is decided.
    Expected,
    /// It waits, and others go on.
    Waits,
    /// It goes on: its node has been told already, and reports when it is back.
    GoesOn,
    /// It was left out, or failed.
    Ended,
}

impl Runs {
    /// Whether a node that is at work for the run, or could be told something, is within reach.
    pub(super) fn is_within_reach(&self, run: &ActiveRun, node: &NodeName) -> bool {
        run.progress().in_hand().contains(node) || self.is_connected(node)
    }

    /// Whether a node can be told something now.
    pub(super) fn is_connected(&self, node: &NodeName) -> bool {
        self.with.fleet.standing(node).is_some_and(|standing| standing.is_connected)
    }

    /// Decides about a step whose node is out of reach. After a restart of the controller nodes are expected to dial again
    /// before anything is decided.
    pub(super) async fn decide(&self, run: &ActiveRun, held: &mut Held, step: &StepId, node: &NodeName) -> Fate {
        let (id, policy) = (run.id(), run.record().plan.policy.unreachable);
        if let Some(redials) = self.with.jobs.expected_within(node) {
            held.look_again_within(redials);
            return Fate::Expected;
        }
        if policy == Unreachable::Wait {
            return Fate::Waits;
        }
        if self.was_told(run, step).await {
            return Fate::GoesOn;
        }
        let message = format!("{node} is not connected");
        if policy == Unreachable::Skip {
            let failure = StepFailure::said(message, format!("`windlass run retry {id}` when it is back"));
            self.ended(run, step, StepState::Skipped, Some(failure)).await;
        } else {
            let failure = StepFailure::said(message, format!("bring it back, then `windlass run retry {id}`"));
            self.failed(run, step, failure).await;
        }
        run.nudge.notify_one();
        Fate::Ended
    }

    /// What keeps a step from beginning on a node that somebody has put aside. What the run has in hand, has begun or has
    /// told the node it brings to its end.
    pub(super) async fn put_aside(&self, run: &ActiveRun, step: &StepId, node: &NodeName) -> Option<Objection> {
        let reason = self.with.arbiter.quarantine_of(node)?;
        let (is_in_hand, is_begun) = {
            let progress = run.progress();
            (progress.in_hand().contains(node), progress.step(step).begun)
        };
        let goes_on = is_in_hand || is_begun || self.was_told(run, step).await;
        (!goes_on).then(|| put_aside(node, &reason))
    }

    /// Whether the node of a step was told to do it, in the attempt that goes on.
    async fn was_told(&self, run: &ActiveRun, step: &StepId) -> bool {
        let known = run.progress().step(step);
        let request = request_id(&run.id(), step, known.attempt);
        !known.was_never_told() && stored(run, || self.with.jobs.is_known(&request)).await
    }

    /// Tells that a step waits for its node.
    pub(super) fn tell_it_waits(&self, run: &ActiveRun, step: &StepId, node: &NodeName) {
        let (message, advice) = (format!("waits until {node} is connected"), waits_for_its_node(&run.id(), node));
        self.holds_up(run, step, vec!["connection"], message, advice);
    }

    /// Whether a node could have had its turn if only it were connected. Others that are away are no reason to wait for it,
    /// but those that the run has in hand are.
    pub(super) fn is_only_away(&self, run: &ActiveRun, node: &NodeName, why: &[Objection]) -> bool {
        let is_idle = run.progress().in_hand().is_empty();
        let is_of_it = |one: &Objection| one.predicate == "node-down" || is_idle && one.predicate == "max-unavailable";
        !self.is_connected(node) && why.iter().any(|one| one.predicate == "node-down") && why.iter().all(is_of_it)
    }
}
