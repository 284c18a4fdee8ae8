// SPDX-License-Identifier: Apache-2.0
//! Nodes go down in the maintenance window only. A node that is in hand is finished all the same: half done is worse than
//! late.

use windlass_types::name::NodeName;

use super::{Objection, Scene};

pub(super) fn objection(scene: &Scene<'_>, node: &NodeName) -> Option<Objection> {
    let window = scene.policy.window.as_ref()?;
    if window.is_open(scene.now) || scene.has_in_hand(node) {
        return None;
    }
    let opens = window.opens(scene.now).map_or_else(String::new, |opens| format!("; it opens {}", window.clock(opens)));
    Some(Objection {
        predicate: "window",
        reason: format!("the window {window} is closed{opens}"),
        advice: "it goes on by itself when the window opens".to_owned(),
    })
}
