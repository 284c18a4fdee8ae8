// SPDX-License-Identifier: Apache-2.0
//! Which step waits for which: as few as possible, so that one that fails holds up no other node.

use std::collections::BTreeSet;

use windlass_types::machine::{MachineSpec, ProviderKind};
use windlass_types::name::ClusterName;

use crate::plan::Plan;
use crate::policy::Policy;
use crate::procedures::{Decided, Known};
use crate::step::{Mark, PlannedStep, Step, StepId};
use crate::turn::turns_of_leaving;

/// Puts steps in order: what goes, what changes, what comes.
pub(crate) fn arrange(
    cluster: ClusterName,
    provider: &ProviderKind,
    policy: &Policy,
    known: &Known<'_>,
    decided: Decided,
) -> Plan {
    let Decided { mut steps, blocked, notes } = decided;
    let rank = |step: &PlannedStep| match (&step.step, step.step.mark()) {
        (Step::ClearCloud { .. }, _) => 4,
        (Step::PrepareCloud { .. }, _) => 2,
        (_, Mark::Remove) => 0,
        (_, Mark::Change) => 1,
        (_, Mark::Add) => 3,
    };
    steps.sort_by_key(rank);
    for index in 0..steps.len() {
        steps[index].after = waits_for(&steps[..index], &steps[index].step, known);
    }
    let empty = Plan::empty(Some(cluster), policy.clone());
    let mut plan = Plan { provider: Some(provider.clone()), steps, blocked, notes, ..empty };
    plan.turns = turns_of_leaving(known.snapshot(), &plan.leaving());
    plan
}

/// A step waits for earlier ones of its own node, and a new machine for the one that holds its address or its port. What
/// machines share is there before any that is new, and goes when all are gone.
fn waits_for(earlier: &[PlannedStep], step: &Step, known: &Known<'_>) -> Vec<StepId> {
    let holds_up = |other: &&PlannedStep| {
        (step.node().is_some() && other.step.node() == step.node())
            || match (&other.step, step) {
                (Step::PrepareCloud { .. }, Step::CreateMachine { .. })
                | (Step::DeleteMachine { .. }, Step::ClearCloud { .. }) => true,
                (Step::DeleteMachine { name, .. }, Step::CreateMachine { machine, .. }) => {
                    let old = known.machine(name).and_then(|report| report.spec.as_deref());
                    old.is_none_or(|old| share_something(old, machine))
                }
                _ => false,
            }
    };
    earlier.iter().filter(holds_up).map(|other| other.id.clone()).collect()
}

fn share_something(old: &MachineSpec, new: &MachineSpec) -> bool {
    let ports = |spec: &MachineSpec| -> BTreeSet<_> {
        spec.forwards.iter().map(|forward| (forward.protocol, forward.host_port)).collect()
    };
    let address = |spec: &MachineSpec| {
        let in_cloud = spec.server.as_ref().and_then(|server| server.address);
        spec.address.map(|address| address.address()).or(in_cloud)
    };
    address(old).is_some_and(|old| Some(old) == address(new)) || !ports(old).is_disjoint(&ports(new))
}
