// SPDX-License-Identifier: Apache-2.0
//! One run at a time has a node in hand. A right does not end by itself: what holds it may still be at work.

use windlass_types::name::NodeName;

use super::{Objection, Scene};

pub(super) fn objection(scene: &Scene<'_>, node: &NodeName) -> Option<Objection> {
    let holder = scene.snapshot.lease(node).filter(|status| status.lease.run != *scene.run)?;
    let run = &holder.lease.run;
    Some(Objection {
        predicate: "other-holder",
        reason: format!("run {run} of {} has {node} in hand", holder.by),
        advice: format!(
            "wait for it; if it has ended without giving the node back (windlass run show {run}): windlass node release {node} \
             --reason TEXT, or stop this run and then windlass run retry {run}"
        ),
    })
}
