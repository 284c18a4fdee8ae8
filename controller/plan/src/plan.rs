// SPDX-License-Identifier: Apache-2.0
//! A plan: what is to be done, in which order, and what cannot be done. Complete: no choice is left for execution.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::ProviderKind;
use windlass_types::name::{ClusterName, NodeName};

use crate::policy::Policy;
use crate::spec::sha256;
use crate::step::{Disruption, Mark, PlannedStep, Step, StepId};

/// The form of a plan. One of another form is not run.
pub const SCHEMA: u32 = 3;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`] of whoever made it.
    pub schema: u32,
    /// For this cluster; `None` if it is about nodes, whatever cluster they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Through this provider; `None` if no machine is made or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderKind>,
    /// The rules of its run.
    #[serde(default)]
    pub policy: Policy,
    /// What to do; each step stands behind those it waits for.
    pub steps: Vec<PlannedStep>,
    /// Nodes on which something is done, in the order of their turns. Several may go at once if the rules allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// What is asked for and is not done.
    pub blocked: Vec<Blocked>,
    /// Nodes that cannot be asked yet what they lack. The run waits for them; what that is, is planned when they can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<Queued>,
    /// What an operator should know besides. Not a part of the hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// The turn of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The node.
    pub node: NodeName,
    /// Why it stands where it stands.
    pub why: String,
}

/// A node that is planned for while the plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The node.
    pub node: NodeName,
    /// Why it cannot be asked.
    pub reason: String,
    /// The step that has to be done first; `None` if it only has to be back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<StepId>,
}

/// Something that is asked for and is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The node.
    pub node: NodeName,
    /// What of it, such as `packages`; empty if nothing of it is done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Why not.
    pub reason: String,
    /// What a person can do about it.
    pub advice: String,
}

/// Something to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The node.
    pub node: NodeName,
    /// What.
    pub text: String,
}

impl Blocked {
    /// Nothing of a node is done.
    pub(crate) fn whole(node: NodeName, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { node, part: String::new(), reason: reason.into(), advice: advice.into() }
    }

    /// Whether the same is not done, whatever the words for the reason are.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.node, &self.part) == (&other.node, &other.part)
    }
}

impl Plan {
    /// A plan that does nothing.
    #[must_use]
    pub fn empty(cluster: Option<ClusterName>, policy: Policy) -> Self {
        Self {
            schema: SCHEMA,
            cluster,
            provider: None,
            policy: Policy { parallel: policy.parallel.max(1), ..policy },
            steps: Vec::new(),
            turns: Vec::new(),
            blocked: Vec::new(),
            queued: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Whether there is nothing to do and nothing in the way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty() && self.queued.is_empty()
    }

    /// What it is about, in words.
    #[must_use]
    pub fn subject(&self) -> String {
        self.cluster.as_ref().map_or_else(|| "nodes".to_owned(), |cluster| format!("cluster {cluster}"))
    }

    /// Nodes that are lost when it runs.
    #[must_use]
    pub fn destroyed(&self) -> Vec<&NodeName> {
        self.steps.iter().filter(|step| step.step.mark() == Mark::Remove).filter_map(|step| step.step.node()).collect()
    }

    /// Nodes with which it does something, and those that it leaves as they are.
    pub fn named(&self) -> impl Iterator<Item = &NodeName> {
        let steps = self.steps.iter().filter_map(|step| step.step.node());
        steps.chain(self.blocked.iter().map(|blocked| &blocked.node))
    }

    /// Nodes that it removes, each in its turn and when it may go down. With a whole cluster there is nobody left to be spared:
    /// then there are none.
    #[must_use]
    pub fn leaving(&self) -> BTreeSet<NodeName> {
        let leaving = self.steps.iter().filter(|step| step.lease && step.step.mark() == Mark::Remove);
        leaving.filter_map(|step| step.step.node().cloned()).collect()
    }

    /// Nodes of which nothing was known when it was made: they did not answer.
    #[must_use]
    pub fn unanswered(&self) -> BTreeSet<NodeName> {
        let queued = self.queued.iter().filter(|queued| queued.after.is_none()).map(|queued| &queued.node);
        let whole = self.blocked.iter().filter(|blocked| blocked.part.is_empty()).map(|blocked| &blocked.node);
        queued.chain(whole).cloned().collect()
    }

    /// How many steps have this mark.
    #[must_use]
    pub fn count(&self, mark: Mark) -> usize {
        self.steps.iter().filter(|step| step.step.mark() == mark).count()
    }

    /// A step by its id.
    #[must_use]
    pub fn step(&self, id: &StepId) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// Nodes that reboot when it runs, in the order of their turns.
    #[must_use]
    pub fn rebooted(&self) -> Vec<&NodeName> {
        let boots = self.steps.iter().filter(|step| step.disruption == Disruption::Reboot);
        boots.filter_map(|step| step.step.node()).collect()
    }

    /// Machines it makes.
    #[must_use]
    pub fn creates(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.step, Step::CreateMachine { .. })).count()
    }

    /// SHA-256 over everything it does and does not do. Two plans with one hash do the same.
    ///
    /// # Panics
    /// Never: a plan is always JSON.
    #[must_use]
    pub fn hash(&self) -> Sha256Digest {
        let Self { schema, cluster, provider, policy, steps, turns, blocked, queued, notes: _ } = self;
        // Why a node cannot be asked is told anew each time, with times in it; that it cannot is what counts.
        let queued: Vec<_> = queued.iter().map(|queued| (&queued.node, &queued.after)).collect();
        let blocked: Vec<_> = blocked.iter().map(|blocked| (&blocked.node, &blocked.part)).collect();
        let all = (schema, cluster, provider, policy, steps, turns, blocked, queued);
        sha256(&serde_json::to_vec(&all).expect("a plan is always JSON"))
    }
}
