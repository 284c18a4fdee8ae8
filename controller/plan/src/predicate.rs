// SPDX-License-Identifier: Apache-2.0
//! Whether a node may go down now. One file for each reason not to; all are asked, so that one sees everything at once.
//!
//! They are asked again for every node, with what is known at that moment, and a right that was given is in that knowledge
//! before the next one is asked for.

mod max_unavailable;
mod node_down;
mod other_holder;
mod quarantine;
mod window;

use windlass_types::name::{NodeName, RunId};
use windlass_types::time::UnixMillis;

use crate::policy::Policy;
use crate::snapshot::Snapshot;

/// A moment at which a run asks for the right to take a node down.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What is.
    pub snapshot: &'a Snapshot,
    /// Who asks.
    pub run: &'a RunId,
    /// Under which rules.
    pub policy: &'a Policy,
    /// When.
    pub now: UnixMillis,
}

/// A reason not to let a node go down now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// Which rule.
    pub predicate: &'static str,
    /// Why not.
    pub reason: String,
    /// What a person can do about it.
    pub advice: String,
}

/// Everything that speaks against letting a node go down now; empty if it may.
#[must_use]
pub fn objections(scene: &Scene<'_>, node: &NodeName) -> Vec<Objection> {
    [
        quarantine::objection(scene, node),
        other_holder::objection(scene, node),
        node_down::objection(scene, node),
        max_unavailable::objection(scene, node),
        window::objection(scene, node),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Scene<'_> {
    /// Whether the run has the node in hand already: then it is to finish what it began.
    fn has_in_hand(&self, node: &NodeName) -> bool {
        self.snapshot.lease(node).is_some_and(|status| status.lease.run == *self.run)
    }
}
