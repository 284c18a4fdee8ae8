// SPDX-License-Identifier: Apache-2.0
//! Everything the planner may know. A silent node is a fact here, not an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_types::cloud::SharedReport;
use windlass_types::machine::MachineReport;
use windlass_types::name::{LabelKey, LabelValue, NodeName};
use windlass_types::node_step::Lease;
use windlass_types::survey::Survey;
use windlass_types::time::UnixMillis;

/// What is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Everything the provider says exists, ours or not.
    pub machines: Vec<MachineReport>,
    /// What the provider says the machines of this cluster share.
    #[serde(default)]
    pub shared: Vec<SharedReport>,
    /// Every node that has joined this controller.
    pub nodes: Vec<NodeStatus>,
    /// The join tokens.
    pub tokens: Vec<TokenStatus>,
    /// Nodes for which this controller made or adopted a machine of this cluster and has not undone it.
    pub members: Vec<NodeName>,
    /// What the nodes that were asked said of themselves.
    #[serde(default)]
    pub surveys: BTreeMap<NodeName, Survey>,
    /// Nodes that were to be asked and could not be, with the reason.
    #[serde(default)]
    pub unsurveyed: BTreeMap<NodeName, String>,
    /// Rights to take nodes down that are out.
    #[serde(default)]
    pub leases: Vec<LeaseStatus>,
    /// Nodes that somebody has put aside, with the reason.
    #[serde(default)]
    pub quarantined: BTreeMap<NodeName, String>,
}

impl Snapshot {
    /// How a node is.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The right to take a node down, if it is out.
    #[must_use]
    pub fn lease(&self, name: &NodeName) -> Option<&LeaseStatus> {
        self.leases.iter().find(|status| status.lease.node == *name)
    }
}

/// A right to take a node down, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The right.
    pub lease: Lease,
    /// Since when.
    pub since: UnixMillis,
    /// Who began the run that has it.
    pub by: String,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Its agent has a session.
    pub is_connected: bool,
    /// Connected, and everything it watches is well.
    pub is_healthy: bool,
    /// Its certificates are refused.
    pub is_revoked: bool,
    /// Why it is not healthy; empty if it is.
    pub reason: String,
    /// Its labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

/// What is known of a join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenStatus {
    /// The node it is for.
    pub node: NodeName,
    /// When it ends.
    pub expires: UnixMillis,
    /// Somebody joined with it.
    pub is_used: bool,
}
