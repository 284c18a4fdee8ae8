// SPDX-License-Identifier: Apache-2.0
//! The steps of a plan: plain data, each with what it disrupts, what it does to disks, and whether it can be undone.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use windlass_types::cloud::{MachinePart, SharedReport, SharedSpec};
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::{DiskReport, DiskSpec, MachineSpec};
use windlass_types::name::{DiskSerial, LabelKey, LabelValue, MachineId, NodeName, VolumeName};
use windlass_types::node_step::NodeStep;
use windlass_types::setting::Setting;

/// The id of a step in its plan, such as `create/node1`. The same step has the same id in every plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(String);

impl StepId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// Make a machine, or finish one whose making was interrupted, and wait until its node is healthy.
    CreateMachine {
        /// What to make.
        machine: Box<MachineSpec>,
        /// The hash it is marked with.
        spec_hash: Sha256Digest,
    },
    /// Wait for a machine that is made and has not joined yet; reset it if its first boot has ended in vain.
    AwaitMachine {
        /// The node.
        name: NodeName,
        /// The machine.
        id: MachineId,
    },
    /// Wait for a machine that is there already to join.
    AdoptMachine {
        /// The node.
        name: NodeName,
    },
    /// Switch a machine on and wait until its node is healthy.
    StartMachine {
        /// The node.
        name: NodeName,
        /// The machine.
        id: MachineId,
    },
    /// Give a machine a further disk.
    AttachDisk {
        /// The node.
        name: NodeName,
        /// The machine.
        id: MachineId,
        /// The disk.
        disk: DiskSpec,
    },
    /// Change a node's labels.
    LabelNode {
        /// The node.
        name: NodeName,
        /// Labels to set.
        set: BTreeMap<LabelKey, LabelValue>,
        /// Labels to take away.
        remove: Vec<LabelKey>,
    },
    /// Revoke a node, forget it, and delete its machine with all its disks.
    DeleteMachine {
        /// The node.
        name: NodeName,
        /// The machine.
        id: MachineId,
        /// Its data disks, which are destroyed too.
        disks: Vec<DiskReport>,
        /// What else it consists of.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<MachinePart>,
    },
    /// Revoke and forget a node that has no machine of ours.
    ForgetNode {
        /// The node.
        name: NodeName,
    },
    /// Make what the machines of a cluster share, or change it in place.
    PrepareCloud {
        /// What is missing, or is not as it shall be.
        shared: Vec<SharedSpec>,
    },
    /// Remove what the machines of a cluster shared.
    ClearCloud {
        /// All that there is of it.
        shared: Vec<SharedReport>,
    },
    /// Have a node do something itself.
    OnNode {
        /// The node.
        node: NodeName,
        /// What.
        step: Box<NodeStep>,
    },
}

impl Step {
    /// The node it is about; `None` if it is about what the nodes of a cluster share.
    #[must_use]
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::PrepareCloud { .. } | Self::ClearCloud { .. } => None,
            Self::CreateMachine { machine, .. } => Some(&machine.name),
            Self::AwaitMachine { name, .. }
            | Self::AdoptMachine { name }
            | Self::StartMachine { name, .. }
            | Self::AttachDisk { name, .. }
            | Self::LabelNode { name, .. }
            | Self::DeleteMachine { name, .. }
            | Self::ForgetNode { name } => Some(name),
            Self::OnNode { node, .. } => Some(node),
        }
    }

    /// What it does, in a word.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::CreateMachine { .. } => "create",
            Self::AwaitMachine { .. } => "await",
            Self::AdoptMachine { .. } => "adopt",
            Self::StartMachine { .. } => "start",
            Self::AttachDisk { .. } => "attach",
            Self::LabelNode { .. } => "label",
            Self::DeleteMachine { .. } => "delete",
            Self::ForgetNode { .. } => "forget",
            Self::PrepareCloud { .. } => "prepare",
            Self::ClearCloud { .. } => "clear",
            Self::OnNode { step, .. } => step.verb(),
        }
    }

    /// What it is about, in a word: a node, or what nodes share.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.node().map_or("cloud", NodeName::as_str)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StepId {
        let (verb, node) = (self.verb(), self.subject());
        StepId(match self {
            Self::AttachDisk { disk, .. } => format!("{verb}/{node}/{}", disk.name),
            Self::OnNode { step, .. } => match step.as_ref() {
                NodeStep::ApplySetting { setting, .. } => format!("{verb}/{node}/{}", setting.key()),
                NodeStep::Survey(_)
                | NodeStep::RepairPackages
                | NodeStep::ChangePackages(_)
                | NodeStep::InstallKernel { .. }
                | NodeStep::Boot { .. }
                | NodeStep::ConfirmKernel { .. }
                | NodeStep::PruneKernels { .. }
                | NodeStep::RestartServices { .. }
                | NodeStep::Hook { .. } => format!("{verb}/{node}"),
            },
            Self::CreateMachine { .. }
            | Self::AwaitMachine { .. }
            | Self::AdoptMachine { .. }
            | Self::StartMachine { .. }
            | Self::LabelNode { .. }
            | Self::DeleteMachine { .. }
            | Self::ForgetNode { .. }
            | Self::PrepareCloud { .. }
            | Self::ClearCloud { .. } => format!("{verb}/{node}"),
        })
    }

    /// How a list of changes marks it.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        match self {
            Self::CreateMachine { .. } | Self::AdoptMachine { .. } | Self::PrepareCloud { .. } => Mark::Add,
            Self::AwaitMachine { .. }
            | Self::StartMachine { .. }
            | Self::AttachDisk { .. }
            | Self::LabelNode { .. }
            | Self::OnNode { .. } => Mark::Change,
            Self::DeleteMachine { .. } | Self::ForgetNode { .. } | Self::ClearCloud { .. } => Mark::Remove,
        }
    }

    /// Who notices.
    #[must_use]
    pub fn disruption(&self) -> Disruption {
        match self {
            Self::OnNode { step, .. } => on_node_disruption(step),
            Self::DeleteMachine { .. } | Self::ForgetNode { .. } => Disruption::NodeGone,
            Self::CreateMachine { .. }
            | Self::AwaitMachine { .. }
            | Self::AdoptMachine { .. }
            | Self::StartMachine { .. }
            | Self::AttachDisk { .. }
            | Self::LabelNode { .. }
            | Self::PrepareCloud { .. }
            | Self::ClearCloud { .. } => Disruption::None,
        }
    }

    /// Whether there is a way back.
    #[must_use]
    pub fn undo(&self) -> Undo {
        match self {
            Self::OnNode { step, .. } => on_node_undo(step),
            Self::CreateMachine { .. }
            | Self::AdoptMachine { .. }
            | Self::StartMachine { .. }
            | Self::LabelNode { .. }
            | Self::PrepareCloud { .. }
            | Self::ClearCloud { .. } => Undo::Possible,
            Self::AwaitMachine { .. } => Undo::Nothing,
            Self::AttachDisk { .. } => Undo::ForwardOnly,
            Self::DeleteMachine { .. } | Self::ForgetNode { .. } => Undo::Impossible,
        }
    }

    /// What becomes of disks.
    #[must_use]
    pub fn disks(&self) -> Vec<DiskEffect> {
        let made = |disk: &DiskSpec| DiskEffect::new(Fate::Made, &disk.name, disk.serial.as_ref(), disk.size_bytes);
        let destroyed =
            |disk: &DiskReport| DiskEffect::new(Fate::Destroyed, &disk.name, Some(&disk.serial), disk.size_bytes);
        match self {
            Self::CreateMachine { machine, .. } => machine.data_disks.iter().map(made).collect(),
            Self::AttachDisk { disk, .. } => vec![made(disk)],
            Self::DeleteMachine { disks, .. } => disks.iter().map(destroyed).collect(),
            Self::AwaitMachine { .. }
            | Self::AdoptMachine { .. }
            | Self::StartMachine { .. }
            | Self::LabelNode { .. }
            | Self::ForgetNode { .. }
            | Self::PrepareCloud { .. }
            | Self::ClearCloud { .. }
            | Self::OnNode { .. } => Vec::new(),
        }
    }
}

fn on_node_disruption(step: &NodeStep) -> Disruption {
    match step {
        NodeStep::Boot { .. } => Disruption::Reboot,
        NodeStep::ChangePackages(_)
        | NodeStep::RepairPackages
        | NodeStep::RestartServices { .. }
        | NodeStep::Hook { .. } => Disruption::Services,
        NodeStep::ApplySetting { setting, .. } => match setting.as_ref() {
            Setting::Service { on: false, .. } => Disruption::Services,
            Setting::Service { on: true, .. }
            | Setting::Repository(_)
            | Setting::File(_)
            | Setting::Sysctl { .. }
            | Setting::PackageLocks { .. }
            | Setting::SwapOff
            | Setting::TimeSync
            | Setting::Selinux { .. }
            | Setting::User(_) => Disruption::None,
        },
        NodeStep::Survey(_)
        | NodeStep::InstallKernel { .. }
        | NodeStep::ConfirmKernel { .. }
        | NodeStep::PruneKernels { .. } => Disruption::None,
    }
}

fn on_node_undo(step: &NodeStep) -> Undo {
    match step {
        NodeStep::Survey(_) | NodeStep::RestartServices { .. } => Undo::Nothing,
        NodeStep::ApplySetting { setting, .. } => match setting.as_ref() {
            // What was there before can be wished for.
            Setting::File(_)
            | Setting::Sysctl { .. }
            | Setting::PackageLocks { .. }
            | Setting::Selinux { .. }
            | Setting::User(_)
            | Setting::Service { .. } => Undo::Possible,
            Setting::Repository(_) | Setting::SwapOff | Setting::TimeSync => Undo::ForwardOnly,
        },
        // As long as the repositories have the old versions; another kernel can become the default likewise.
        NodeStep::ChangePackages(_) | NodeStep::ConfirmKernel { .. } => Undo::Possible,
        NodeStep::InstallKernel { .. } | NodeStep::Boot { .. } | NodeStep::RepairPackages | NodeStep::Hook { .. } => {
            Undo::ForwardOnly
        }
        NodeStep::PruneKernels { .. } => Undo::Impossible,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// How a list of changes marks a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Something new.
    Add,
    /// Something changes.
    Change,
    /// Something goes.
    Remove,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Add => "+",
            Self::Change => "~",
            Self::Remove => "-",
        })
    }
}

/// Who notices a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disruption {
    /// Nobody.
    None,
    /// Whoever uses what runs there, for a moment.
    Services,
    /// The node is down until it has booted.
    Reboot,
    /// The node goes away, with all that runs on it.
    NodeGone,
}

/// Whether there is a way back from a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// It changes nothing.
    Nothing,
    /// Another step undoes it.
    Possible,
    /// What it made stays.
    ForwardOnly,
    /// What it destroys is lost.
    Impossible,
}

/// What becomes of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskEffect {
    /// What becomes of it.
    pub fate: Fate,
    /// Its name in the spec.
    pub name: VolumeName,
    /// Its identity in the machine; `None` if it gets one when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<DiskSerial>,
    /// Bytes.
    pub size_bytes: u64,
}

impl DiskEffect {
    fn new(fate: Fate, name: &VolumeName, serial: Option<&DiskSerial>, size_bytes: u64) -> Self {
        Self { fate, name: name.clone(), serial: serial.cloned(), size_bytes }
    }
}

/// What becomes of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is made, empty.
    Made,
    /// It is destroyed with all that is on it.
    Destroyed,
}

/// A step in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its id.
    pub id: StepId,
    /// Steps that must have ended well before it may begin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<StepId>,
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: String,
    /// Who notices.
    pub disruption: Disruption,
    /// Whether there is a way back.
    pub undo: Undo,
    /// Done under the node's lease: not before the node may go down, and while it counts as down.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lease: bool,
    /// Disks it makes or destroys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskEffect>,
    /// What it changes, a line each, where the step itself does not show that: of a file, a unified diff.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

impl PlannedStep {
    /// A step that waits for no other.
    #[must_use]
    pub fn new(step: Step, reason: impl Into<String>) -> Self {
        let (disruption, undo, disks) = (step.disruption(), step.undo(), step.disks());
        let (id, reason) = (step.id(), reason.into());
        Self { id, after: Vec::new(), step, reason, disruption, undo, lease: false, disks, changes: Vec::new() }
    }

    /// The same step with the lines it changes.
    #[must_use]
    pub(crate) fn showing(mut self, changes: &[String]) -> Self {
        self.changes = changes.to_vec();
        self
    }

    /// The same step with a further word in its id: a node may have several of its kind.
    #[must_use]
    pub(crate) fn keyed(mut self, key: &str) -> Self {
        self.id = StepId(format!("{}/{key}", self.id));
        self
    }
}
