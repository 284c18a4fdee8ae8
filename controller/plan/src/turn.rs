// SPDX-License-Identifier: Apache-2.0
//! Which node goes first: the one whose loss would cost least.

use std::collections::BTreeSet;

use windlass_types::machine::MachineRole;
use windlass_types::name::NodeName;

use crate::plan::Turn;
use crate::snapshot::{NodeStatus, Snapshot};
use crate::spec::ROLE_PREFIX;

/// Roles that make a node go later, the one that goes last first.
const LATER: [(MachineRole, &str); 3] = [
    (MachineRole::ControlPlane, "the control plane comes last"),
    (MachineRole::Etcd, "etcd members after nodes that no quorum needs"),
    (MachineRole::Gluster, "gluster servers after nodes that hold no data"),
];

/// Nodes in the order of their turns, each with why it stands where it stands.
#[must_use]
pub fn order_of_nodes(snapshot: &Snapshot, nodes: &[NodeName]) -> Vec<(NodeName, String)> {
    let known: std::collections::BTreeMap<_, _> = snapshot.nodes.iter().map(|node| (&node.name, node)).collect();
    let mut ranked: Vec<_> = nodes.iter().map(|name| (rank(known.get(name).copied()), name)).collect();
    ranked.sort();
    ranked.dedup();
    ranked.into_iter().map(|((_, why), name)| (name.clone(), why.to_owned())).collect()
}

/// Turns of nodes that go for good, before those of all others: what comes may wait for their addresses. One that is not well
/// comes first, for nothing else may go down until it is gone.
pub(crate) fn turns_of_leaving(snapshot: &Snapshot, nodes: &BTreeSet<NodeName>) -> Vec<Turn> {
    let statuses = snapshot.nodes.iter().filter(|status| nodes.contains(&status.name));
    let mut ranked: Vec<_> = statuses.map(|status| (rank_of_leaving(status), &status.name)).collect();
    ranked.sort();
    ranked.into_iter().map(|((_, why), name)| Turn { node: name.clone(), why: format!("removed; {why}") }).collect()
}

fn rank_of_leaving(node: &NodeStatus) -> (usize, &'static str) {
    if !(node.is_connected && node.is_healthy) {
        return (0, "not healthy, so first: until it is gone nothing else may go down");
    }
    let (place, why) = rank(Some(node));
    (place + 1, why)
}

/// One that is not well comes last: nothing may go down beside it, and by then it may be well again.
fn rank(node: Option<&NodeStatus>) -> (usize, &'static str) {
    let Some(node) = node else { return (LATER.len() + 1, "not joined") };
    if !node.is_healthy {
        return (LATER.len() + 1, "not healthy, so last: nothing else may go down meanwhile");
    }
    let has = |role: &MachineRole| {
        node.labels.keys().any(|key| key.as_str().strip_prefix(ROLE_PREFIX) == Some(role.as_str()))
    };
    match LATER.iter().position(|(role, _)| has(role)) {
        Some(index) => (LATER.len() - index, LATER[index].1),
        None => (0, "nothing waits for them"),
    }
}
