// SPDX-License-Identifier: Apache-2.0
//! A node that somebody has put aside is left alone.

use windlass_types::name::NodeName;

use super::{Objection, Scene};

pub(super) fn objection(scene: &Scene<'_>, node: &NodeName) -> Option<Objection> {
    let reason = scene.snapshot.quarantined.get(node)?;
    Some(Objection {
        predicate: "quarantine",
        reason: format!("{node} is in quarantine: {reason}"),
        advice: format!("windlass node release {node}"),
    })
}
