// SPDX-License-Identifier: Apache-2.0
//! Nodes that count when it is asked how many are down.

use std::collections::BTreeSet;

use windlass_plan::Plan;
use windlass_proto::refusal::Refusal;
use windlass_types::name::NodeName;

use super::apply::unobserved;
use super::{ActiveRun, Runs};

impl Runs {
    /// Nodes that count when it is asked how many are down; empty if all do. A run may wait for days, and its nodes'
    /// clusters grow meanwhile; the one whose spec is applied does not.
    pub(super) async fn members(&self, run: &ActiveRun) -> Vec<NodeName> {
        let (is_of_spec, known, nodes) = {
            let record = run.record();
            let nodes: Vec<_> = record.inputs.wishes.keys().cloned().collect();
            (record.plan.cluster.is_some(), record.members.clone(), nodes)
        };
        if is_of_spec { known } else { self.neighbours(nodes.iter()).await.unwrap_or(known) }
    }

    /// Nodes that count when it is asked how many are down: those of the same clusters. One that belongs to none may be
    /// needed by anybody, so then all count.
    pub(super) async fn neighbours(&self, nodes: impl Iterator<Item = &NodeName>) -> Result<Vec<NodeName>, Refusal> {
        let companies = self.with.observer.companies().await.map_err(|error| unobserved(&error))?;
        let clusters: Option<BTreeSet<_>> = nodes.map(|node| companies.get(node)).collect();
        let Some(clusters) = clusters else { return Ok(Vec::new()) };
        let same = companies.iter().filter(|(_, cluster)| clusters.contains(cluster));
        Ok(same.map(|(node, _)| node.clone()).collect())
    }
}

/// Nodes that count when it is asked how many are down. Of a cluster also those that are to go, and those that are left as they
/// are, for as long as they are there.
pub(super) fn counted(plan: &Plan, mut members: Vec<NodeName>) -> Vec<NodeName> {
    if plan.cluster.is_some() {
        let known: BTreeSet<_> = members.iter().cloned().collect();
        let others: BTreeSet<_> = plan.named().filter(|node| !known.contains(*node)).cloned().collect();
        members.extend(others);
    }
    members
}
