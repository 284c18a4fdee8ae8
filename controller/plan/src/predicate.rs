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

use std::collections::{BTreeMap, BTreeSet};

use windlass_types::name::{NodeName, RunId};
use windlass_types::time::UnixMillis;

pub use self::quarantine::put_aside;
use crate::policy::Policy;
use crate::snapshot::{NodeStatus, Snapshot};

/// A moment at which a run asks for the right to take a node down.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// What is.
    pub snapshot: &'a Snapshot,
    /// Who asks.
    pub run: &'a RunId,
    /// Under which rules.
    pub policy: &'a Policy,
    /// Nodes that it removes for good.
    pub leaving: &'a BTreeSet<NodeName>,
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
    against(scene, scene.snapshot.node(node), &max_unavailable::unavailable(scene), node)
}

fn against(
    scene: &Scene<'_>,
    status: Option<&NodeStatus>,
    unavailable: &BTreeSet<&NodeName>,
    node: &NodeName,
) -> Vec<Objection> {
    [
        quarantine::objection(scene, node),
        other_holder::objection(scene, node),
        node_down::objection(scene, status, node),
        max_unavailable::objection(scene, unavailable, node),
        window::objection(scene, node),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A scene in which many nodes are asked for: what is looked for among all nodes is looked for once.
#[derive(Debug)]
pub struct Overview<'a> {
    scene: Scene<'a>,
    nodes: BTreeMap<&'a NodeName, &'a NodeStatus>,
    unavailable: BTreeSet<&'a NodeName>,
}

impl<'a> Overview<'a> {
    /// Of this scene.
    #[must_use]
    pub fn of(scene: Scene<'a>) -> Self {
        let nodes = scene.snapshot.nodes.iter().map(|status| (&status.name, status)).collect();
        Self { nodes, unavailable: max_unavailable::unavailable(&scene), scene }
    }

    /// As [`objections`].
    #[must_use]
    pub fn objections(&self, node: &NodeName) -> Vec<Objection> {
        against(&self.scene, self.nodes.get(node).copied(), &self.unavailable, node)
    }
}

/// What speaks against a person who takes a node down, without a run: a run that is at work there, also while the node boots
/// for it, and too many others that are down. Windows and quarantines hold back runs, and not people; with a node that is down
/// already nothing more is lost.
#[must_use]
pub fn objections_by_hand(scene: &Scene<'_>, node: &NodeName) -> Vec<Objection> {
    let is_well = scene.snapshot.node(node).is_some_and(|status| status.is_connected && status.is_healthy);
    let others = is_well.then(|| max_unavailable::objection(scene, &max_unavailable::unavailable(scene), node));
    [other_holder::objection(scene, node), others.flatten()].into_iter().flatten().collect()
}

impl Scene<'_> {
    /// Whether the run has the node in hand already: then it is to finish what it began.
    fn has_in_hand(&self, node: &NodeName) -> bool {
        self.snapshot.lease(node).is_some_and(|status| status.lease.run == *self.run)
    }

    /// Whether the run takes the node down for good.
    fn removes(&self, node: &NodeName) -> bool {
        self.leaving.contains(node)
    }
}

#[cfg(test)]
mod tests {
    use windlass_types::node_step::Lease;

    use super::*;
    use crate::snapshot::LeaseStatus;

    fn named(name: &str) -> NodeName {
        NodeName::new(name).expect("a name")
    }

    fn node(name: &str, is_connected: bool, is_healthy: bool) -> NodeStatus {
        let (reason, labels, is_revoked) = (String::new(), BTreeMap::new(), false);
        NodeStatus { name: named(name), is_connected, is_healthy, is_revoked, reason, labels }
    }

    fn rules(nodes: Vec<NodeStatus>, held: &[&str]) -> Vec<&'static str> {
        let run = RunId::new("r7").expect("a run");
        let lease = |name: &&str| LeaseStatus {
            lease: Lease { number: 1, node: named(name), run: run.clone() },
            since: UnixMillis(0),
            by: "admin".to_owned(),
        };
        let leases = held.iter().map(lease).collect();
        let snapshot = Snapshot { nodes, leases, ..Snapshot::default() };
        let (nobody, leaving) = (RunId::new("r0").expect("a run"), BTreeSet::new());
        let policy = Policy::default();
        let scene = Scene { snapshot: &snapshot, run: &nobody, policy: &policy, leaving: &leaving, now: UnixMillis(0) };
        objections_by_hand(&scene, &named("node1")).into_iter().map(|objection| objection.predicate).collect()
    }

    #[test]
    fn a_person_takes_a_node_down_unless_a_run_has_it_or_another_is_down() {
        assert_eq!(rules(vec![node("node1", true, true), node("node2", true, true)], &[]), [""; 0]);
        assert_eq!(rules(vec![node("node1", true, true), node("node2", false, false)], &[]), ["max-unavailable"]);
        assert_eq!(rules(vec![node("node1", true, true)], &["node1"]), ["other-holder"]);
        assert_eq!(rules(vec![node("node1", true, true), node("node2", true, true)], &["node2"]), ["max-unavailable"]);
    }

    #[test]
    fn with_a_node_that_is_down_nothing_more_is_lost() {
        assert_eq!(rules(vec![node("node1", false, false), node("node2", false, false)], &[]), [""; 0]);
        assert_eq!(rules(vec![node("node1", true, false), node("node2", false, false)], &[]), [""; 0]);
        assert_eq!(rules(vec![node("node2", false, false)], &[]), [""; 0]);
        // The run that has it may be what mends it, or may have it boot.
        assert_eq!(rules(vec![node("node1", false, false)], &["node1"]), ["other-holder"]);
        assert_eq!(rules(vec![node("node1", true, false), node("node2", false, false)], &["node1"]), ["other-holder"]);
    }
}
