// SPDX-License-Identifier: Apache-2.0
//! Which nodes an operator means.

use std::collections::BTreeMap;

use crate::name::{LabelKey, LabelValue, NodeName};

/// Which nodes. An empty selector chooses none, so that a forgotten argument never means the whole fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSelector {
    /// Every node that is not revoked.
    pub all: bool,
    /// These nodes.
    pub names: Vec<NodeName>,
    /// Nodes having all of these labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Nodes whose facts, as printed in JSON, have these values at these dotted paths, such as `os.id` = `centos`.
    pub facts: BTreeMap<String, String>,
}

impl NodeSelector {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty() && self.labels.is_empty() && self.facts.is_empty()
    }

    /// Whether the labels are among `labels`.
    #[must_use]
    pub fn has_labels(&self, labels: &BTreeMap<LabelKey, LabelValue>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
