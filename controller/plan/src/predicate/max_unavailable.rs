// SPDX-License-Identifier: Apache-2.0
//! Never more nodes down than the policy allows: those that are down, whatever the cause, and those that may go down.

use std::collections::BTreeSet;

use windlass_types::name::NodeName;

use super::{Objection, Scene};
use crate::snapshot::NodeStatus;

/// Names that are shown; more help nobody.
const SHOWN: usize = 5;

pub(super) fn objection(scene: &Scene<'_>, unavailable: &BTreeSet<&NodeName>, node: &NodeName) -> Option<Objection> {
    if scene.has_in_hand(node) {
        return None;
    }
    // With a node that goes for good and is down already nothing more is lost. Others of which that is so, too, do not hold
    // it up, for of two neither could go; nodes that stay, and those that anybody has in hand, do.
    let is_down = scene.removes(node) && unavailable.contains(node);
    let is_lost = |other: &NodeName| is_down && scene.removes(other) && scene.snapshot.lease(other).is_none();
    let counted = || unavailable.iter().filter(|other| **other != node && !is_lost(other));
    // Nobody else is looked at for one of thousands of nodes that is not such a one.
    let others = if is_down { counted().count() } else { unavailable.len() - usize::from(unavailable.contains(node)) };
    if (others as u64) < u64::from(scene.policy.max_unavailable) {
        return None;
    }
    let mut names: Vec<_> = counted().take(SHOWN).map(|name| name.as_str().to_owned()).collect();
    if others > SHOWN {
        names.push(format!("{} more", others - SHOWN));
    }
    let most = scene.policy.max_unavailable;
    Some(Objection {
        predicate: "max-unavailable",
        reason: format!("{others} down or in hand, and {most} may be: {}", names.join(", ")),
        advice: "it goes on when they are healthy and no run holds them: windlass status says which is not so; one that a run \
                 holds that has ended: windlass node release NODE --reason TEXT"
            .to_owned(),
    })
}

/// Nodes that are down or may go down. Of a cluster its members are looked at, and whatever anybody has in hand; without
/// a cluster all nodes. A member that is not trusted any more is missed until it is removed; of all nodes nobody knows whether
/// one that is not trusted was ever of use.
pub(super) fn unavailable<'a>(scene: &Scene<'a>) -> BTreeSet<&'a NodeName> {
    let members: BTreeSet<_> = scene.snapshot.members.iter().collect();
    let counts = |name: &NodeName| members.is_empty() || members.contains(name);
    let is_down = |status: &&NodeStatus| match status.is_revoked {
        true => !members.is_empty(),
        false => !(status.is_connected && status.is_healthy),
    };
    let down = scene.snapshot.nodes.iter().filter(is_down).filter(|status| counts(&status.name));
    let held = scene.snapshot.leases.iter().map(|status| &status.lease);
    let held = held.filter(|lease| lease.run == *scene.run || counts(&lease.node));
    down.map(|status| &status.name).chain(held.map(|lease| &lease.node)).collect()
}
