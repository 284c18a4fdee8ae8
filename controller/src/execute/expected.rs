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
