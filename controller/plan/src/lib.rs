// SPDX-License-Identifier: Apache-2.0
//! The decisions. [`plan()`] compares what is ([`Snapshot`]) with what shall be ([`ClusterSpec`]) and answers what to do
//! about it ([`Plan`]), as data. No I/O, no clock, no randomness: the same question always has the same answer.
//!
//! How it decides, machine by machine, in the order of their names:
//! 1. Only machines with the tag of this cluster are looked at. All others might as well not exist.
//! 2. A machine of the spec that is not there is created; one whose making was interrupted is finished.
//! 3. One that differs in what can be changed in place is changed; one that would have to be made anew is blocked, with
//!    the differences: nothing that holds data is ever replaced in passing.
//! 4. One that is off is started; one that has not joined yet is awaited while its token lives.
//! 5. One that is no longer in the spec is deleted, which whoever applies the plan must confirm by name. Where its node has
//!    joined, that takes the node down, and is done under its lease; not so when the whole cluster is destroyed.
//!
//! What machines of a cloud share is made before them, and goes after them, when the whole cluster is destroyed. What of
//! it cannot be changed in place blocks them all: the spec is one of another cluster then.
//!
//! Then node by node, from what each said of itself: its settings, packages, kernel and boot, as one chain of steps, in
//! which what takes the node down is done under one lease. In which order nodes go is in [`turn`], and whether one may go
//! down at a given moment in [`predicate`].
//!
//! - [`snapshot`]: everything that may be known.
//! - [`spec`]: what shall be; [`wish`]: what shall become of a node.
//! - [`policy`]: under which rules; [`window`]: when nodes may go down.
//! - [`mod@plan`]: what is to be done.
//! - [`step`]: the steps, what each disrupts and whether it can be undone.
//! - [`predicate`]: the reasons for which a node may not go down now.
//! - [`turn`]: which node goes first.
//! - [`text`]: a plan as an operator reads it.
//! - [`difference`]: what became of a saved plan when the world changed.

pub mod difference;
mod later;
mod order;
pub mod plan;
pub mod policy;
pub mod predicate;
mod procedures;
pub mod snapshot;
pub mod spec;
pub mod step;
pub mod text;
pub mod turn;
pub mod window;
pub mod wish;

#[cfg(test)]
mod example;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod scenes;

use std::collections::BTreeMap;

use windlass_types::machine::ProviderKind;
use windlass_types::name::{ClusterName, NodeName};
use windlass_types::time::UnixMillis;

use procedures::Parting;

pub use plan::{Blocked, Note, Plan, Queued, Turn};
pub use policy::{OnFailure, Policy, Unreachable};
pub use predicate::{Objection, Overview, Scene, objections, objections_by_hand, put_aside};
pub use snapshot::{LeaseStatus, NodeStatus, Snapshot, TokenStatus};
pub use spec::{ClusterSpec, base_hash};
pub use step::{Disruption, PlannedStep, Step, StepId, Undo};
pub use turn::order_of_nodes;
pub use window::Window;
pub use wish::{Hook, Hooks, NodeWish, RebootWish};

/// What to do so that the cluster becomes as its spec says.
#[must_use]
pub fn plan(snapshot: &Snapshot, spec: &ClusterSpec, policy: &Policy, now: UnixMillis) -> Plan {
    let mut decided = procedures::Decided::default();
    let known = procedures::Known::of(snapshot, &spec.name);
    let mut machines: Vec<_> = spec.machines.iter().collect();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    match procedures::shared(snapshot, spec, &mut decided) {
        Ok(()) => {
            for machine in &machines {
                procedures::machine(&known, &spec.provider, machine, now, &mut decided);
            }
        }
        Err(unlike) => machines.iter().for_each(|machine| decided.refuse(machine, &unlike)),
    }
    for name in known.names().filter(|name| !machines.iter().any(|machine| machine.name == **name)) {
        procedures::removal(&known, name, Parting::LeftSpec, &mut decided);
    }
    let mut plan = order::arrange(spec.name.clone(), &spec.provider, policy, &known, decided);
    procedures::nodes(snapshot, &spec.wishes, &mut plan);
    plan
}

/// What to do so that nodes become as it is wished for, whatever cluster they belong to.
#[must_use]
pub fn plan_nodes(
    snapshot: &Snapshot,
    wishes: &BTreeMap<NodeName, NodeWish>,
    policy: &Policy,
    _now: UnixMillis,
) -> Plan {
    let mut plan = Plan::empty(None, policy.clone());
    procedures::nodes(snapshot, wishes, &mut plan);
    plan
}

/// What to do so that nothing of the cluster is left, or nothing of the named nodes.
#[must_use]
pub fn plan_destroy(
    snapshot: &Snapshot,
    cluster: &ClusterName,
    provider: &ProviderKind,
    names: &[NodeName],
    policy: &Policy,
) -> Plan {
    let mut decided = procedures::Decided::default();
    let known = procedures::Known::of(snapshot, cluster);
    let parting = if names.is_empty() { Parting::Whole } else { Parting::Named };
    for name in known.names().filter(|name| names.is_empty() || names.contains(name)) {
        procedures::removal(&known, name, parting, &mut decided);
    }
    if names.is_empty() {
        procedures::clearance(snapshot, &mut decided);
    }
    order::arrange(cluster.clone(), provider, policy, &known, decided)
}
