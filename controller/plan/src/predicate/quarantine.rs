// SPDX-License-Identifier: Apache-2.0
//! A node that somebody has put aside is left alone.

use windlass_types::name::NodeName;

use super::{Objection, Scene};

pub(super) fn objection(scene: &Scene<'_>, node: &NodeName) -> Option<Objection> {
    scene.snapshot.quarantined.get(node).map(|reason| put_aside(node, reason))
}

/// What speaks against anything that a run begins on a node that is in quarantine for this reason.
#[must_use]
pub fn put_aside(node: &NodeName, reason: &str) -> Objection {
    Objection {
        predicate: "quarantine",
        reason: format!("{node} is in quarantine: {reason}"),
        advice: format!("windlass node release {node}"),
    }
}
