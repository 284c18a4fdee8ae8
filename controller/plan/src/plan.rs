// SPDX-License-Identifier: Apache-2.0
//! A plan: what is to be done, in which order, and what cannot be done. Complete: no choice is left for execution.

use serde::{Deserialize, Serialize};
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::ProviderKind;
use windlass_types::name::{ClusterName, NodeName};

use crate::spec::sha256;
use crate::step::{Mark, PlannedStep, Step, StepId};

/// The form of a plan. One of another form is not run.
pub const SCHEMA: u32 = 1;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`SCHEMA`] of whoever made it.
    pub schema: u32,
    /// For this cluster.
    pub cluster: ClusterName,
    /// Through this provider.
    pub provider: ProviderKind,
    /// Steps under way at once.
    pub parallel: u32,
    /// What to do; each step stands behind those it waits for.
    pub steps: Vec<PlannedStep>,
    /// What the spec asks for and is not done.
    pub blocked: Vec<Blocked>,
    /// What an operator should know besides. Not a part of the hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Something the spec asks for and that is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// The node.
    pub node: NodeName,
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

impl Plan {
    /// Whether there is nothing to do and nothing in the way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty()
    }

    /// Nodes that are lost when it runs.
    #[must_use]
    pub fn destroyed(&self) -> Vec<&NodeName> {
        self.steps.iter().filter(|step| step.step.mark() == Mark::Remove).map(|step| step.step.node()).collect()
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
        let without_notes = Self { notes: Vec::new(), ..self.clone() };
        sha256(&serde_json::to_vec(&without_notes).expect("a plan is always JSON"))
    }
}
