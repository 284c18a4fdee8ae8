// SPDX-License-Identifier: Apache-2.0
//! A node that is not well is not taken down on top of that: nobody could tell afterwards what made it so. The run that has
//! it in hand may go on with it, for that may be what mends it. One that goes for good may be in any state: that may be why it
//! goes.

use windlass_types::name::NodeName;

use super::{Objection, Scene};
use crate::snapshot::NodeStatus;

pub(super) fn objection(scene: &Scene<'_>, status: Option<&NodeStatus>, node: &NodeName) -> Option<Objection> {
    let object = |reason: String| {
        let advice = format!("mend it, or see what is wrong: windlass get node {node}");
        Some(Objection { predicate: "node-down", reason, advice })
    };
    if scene.removes(node) {
        return None;
    }
    match status {
        None => object(format!("{node} has not joined")),
        Some(status) if status.is_revoked => object(format!("the certificates of {node} are revoked")),
        Some(_) if scene.has_in_hand(node) => None,
        Some(status) if !status.is_connected => object(format!("{node} is not connected")),
        Some(status) if !status.is_healthy => object(format!("{node} is not healthy: {}", status.reason)),
        Some(_) => None,
    }
}
