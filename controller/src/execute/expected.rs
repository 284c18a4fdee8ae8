// SPDX-License-Identifier: Apache-2.0
//! How long a plan takes: as learned of its machines and its steps, else by a guess.

use std::collections::BTreeMap;

use windlass_plan::{Plan, Step};
use windlass_proto::refusal::Refusal;
use windlass_types::machine::ProviderKind;

use super::Runs;
use super::apply::unobserved;
use super::times::{Crowd, Times};
use crate::store::StoreError;

impl Runs {
    /// How long a plan takes, milliseconds, and whether that is a guess: first the machines, then the nodes, so many at
    /// once as may be down.
    pub(super) async fn expected(&self, plan: &Plan) -> Result<(u64, bool), Refusal> {
        let (machines, is_guess) = self.expected_of_machines(plan).await?;
        let nodes = self.expected_of_nodes(plan).await.map_err(|error| crate::join::store(&error))?;
        Ok((machines + nodes.0, is_guess || nodes.1))
    }

    async fn expected_of_nodes(&self, plan: &Plan) -> Result<(u64, bool), StoreError> {
        let (mut free, mut leased): (BTreeMap<_, u64>, BTreeMap<_, u64>) = Default::default();
        let mut is_guess = false;
        for planned in &plan.steps {
            if let Step::OnNode { node, step } = &planned.step {
                let part = if planned.lease { &mut leased } else { &mut free };
                let (expected, is_guessed) = self.with.step_times.expected_or_guess(step).await?;
                *part.entry(node).or_default() += expected;
                is_guess |= is_guessed;
            }
        }
        let longest = leased.values().max().copied().unwrap_or(0);
        let at_once = u64::from(plan.policy.max_unavailable.max(1));
        let down = (leased.values().sum::<u64>() / at_once).max(longest);
        Ok((free.values().max().copied().unwrap_or(0) + down, is_guess))
    }

    async fn expected_of_machines(&self, plan: &Plan) -> Result<(u64, bool), Refusal> {
        let kind = plan.provider.as_ref().filter(|kind| **kind != ProviderKind::Existing);
        let Some(kind) = kind else { return Ok((0, false)) };
        let provider = self.with.observer.provider(kind).await.map_err(|error| unobserved(&error))?;
        let new = plan.steps.iter().find_map(|planned| match &planned.step {
            Step::CreateMachine { machine, .. } => Some(machine),
            _ => None,
        });
        let accel = match new {
            Some(machine) => provider.accel(machine).await,
            None => None,
        };
        let known = self.with.times.known(kind, accel).await.map_err(|error| crate::join::store(&error))?;
        let is_guess = known.is_none();
        let alone = known.unwrap_or_else(|| Times::guess(accel));
        Ok((Crowd::of(plan, provider.processors()).whole(&alone), is_guess))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use windlass_plan::{PlannedStep, Policy};
    use windlass_types::name::NodeName;
    use windlass_types::node_step::NodeStep;

    use super::*;
    use crate::server::testing::controller;
    use crate::store::memory::MemoryStore;

    const PRUNE: NodeStep = NodeStep::PruneKernels { remove: Vec::new() };
    const REPAIR: NodeStep = NodeStep::RepairPackages;
    const RESTART: NodeStep = NodeStep::RestartServices { units: Vec::new() };

    async fn runs() -> Arc<Runs> {
        let directory = tempfile::tempdir().expect("a directory");
        Arc::clone(&controller(MemoryStore::new(), directory.path()).await.runs)
    }

    /// On each node these steps, each with whether it needs the lease.
    fn plan(max_unavailable: u32, nodes: &[&[(NodeStep, bool)]]) -> Plan {
        let mut plan = Plan::empty(None, Policy { max_unavailable, ..Policy::default() });
        for (nth, steps) in nodes.iter().enumerate() {
            let node = NodeName::new(format!("node{nth}")).expect("a name");
            plan.steps.extend(steps.iter().map(|(step, lease)| {
                let step = Step::OnNode { node: node.clone(), step: Box::new(step.clone()) };
                PlannedStep { lease: *lease, ..PlannedStep::new(step, "a test") }
            }));
            plan.steps.push(PlannedStep::new(Step::ForgetNode { name: node }, "not done on a node"));
        }
        plan
    }

    async fn seconds(runs: &Runs, plan: &Plan) -> (u64, bool) {
        let (millis, is_guess) = runs.expected_of_nodes(plan).await.expect("readable");
        (millis / 1000, is_guess)
    }

    #[tokio::test]
    async fn nodes_take_turns_for_what_takes_them_down_and_do_the_rest_side_by_side() {
        let runs = runs().await;
        // 20 s side by side; then 60 s and 10 s in the node's turn, of which one may take longer than its share of all.
        let chain = [(PRUNE, false), (REPAIR, true), (RESTART, true)];
        for (max_unavailable, expected) in [(1, 20 + 3 * 70), (2, 20 + 3 * 70 / 2), (5, 20 + 70), (0, 20 + 3 * 70)] {
            let plan = plan(max_unavailable, &[&chain, &chain, &chain]);
            assert_eq!(seconds(&runs, &plan).await, (expected, true), "{max_unavailable} at once");
        }
        let unlike =
            plan(1, &[&[(PRUNE, false), (PRUNE, false)], &[(PRUNE, false), (RESTART, true)], &[(REPAIR, true)]]);
        assert_eq!(seconds(&runs, &unlike).await, (40 + 10 + 60, true), "the longest, then one after the other");
        assert_eq!(seconds(&runs, &plan(1, &[])).await, (0, false), "nothing is known of nothing");
    }

    #[tokio::test]
    async fn it_is_a_guess_until_each_kind_of_step_was_done_once() {
        let runs = runs().await;
        let plan = plan(1, &[&[(PRUNE, false), (REPAIR, true)], &[(REPAIR, true)]]);
        for (step, took, expected) in [(REPAIR, 7, (20 + 7 + 7, true)), (PRUNE, 5, (5 + 7 + 7, false))] {
            runs.with.step_times.learn(step.verb(), Duration::from_secs(took)).await.expect("readable");
            assert_eq!(seconds(&runs, &plan).await, expected, "after {step}");
        }
    }
}
