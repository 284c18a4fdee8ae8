// SPDX-License-Identifier: Apache-2.0
//! One step of a run on one node, as it is ordered. Complete: nothing is left for the node to choose.
//!
//! Each kind can be looked at before (is it done already?), done, and proved after; each may be done twice. What takes
//! the node or what runs on it down needs a [`Lease`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::Argv;
use crate::digest::Sha256Digest;
use crate::name::on_node::{BootId, KernelRelease, UnitName};
use crate::name::{NodeName, RunId};
use crate::package::{Package, PackageChange, Transaction};
use crate::setting::Setting;
use crate::survey::SurveyRequest;

/// What a node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeStep {
    /// Tell how it differs from what it shall be. The answer is the step's output, as JSON.
    Survey(Box<SurveyRequest>),
    /// Make a setting so.
    ApplySetting {
        /// Which.
        setting: Box<Setting>,
        /// What was there when this was planned; with anything else there the step stops.
        seen: Sha256Digest,
        /// An earlier order of the same run failed half way: what is there now may be of its making.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        begun: bool,
    },
    /// Mend what an interrupted transaction of the package manager left.
    RepairPackages,
    /// Do exactly this with packages, or stop.
    ChangePackages(Transaction),
    /// Install a kernel beside those that are there. The one that runs is the default meanwhile.
    InstallKernel {
        /// The package.
        package: Package,
        /// The release it has.
        release: KernelRelease,
        /// All that the package manager may do for it.
        changes: Vec<PackageChange>,
    },
    /// Reboot. Done when another boot has begun.
    Boot {
        /// The boot that is to end.
        boot_id: BootId,
        /// Only this time into this kernel; `None` for the default.
        #[serde(default)]
        once: Option<KernelRelease>,
    },
    /// Make the kernel that runs the default: it has proved itself.
    ConfirmKernel {
        /// The one that must run.
        release: KernelRelease,
    },
    /// Remove kernels that are neither running nor the default.
    PruneKernels {
        /// Which.
        remove: Vec<Package>,
    },
    /// Restart units that still run what an update replaced.
    RestartServices {
        /// Which.
        units: Vec<UnitName>,
    },
    /// Run a program of the site: before a node goes down, or after it is back. Must be idempotent.
    Hook {
        /// The program.
        argv: Argv,
        /// Milliseconds it may take.
        timeout_millis: u64,
    },
}

impl NodeStep {
    /// What it does, in a word or two.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Survey(_) => "survey",
            Self::ApplySetting { .. } => "set",
            Self::RepairPackages => "repair-packages",
            Self::ChangePackages(_) => "packages",
            Self::InstallKernel { .. } => "install-kernel",
            Self::Boot { .. } => "boot",
            Self::ConfirmKernel { .. } => "confirm-kernel",
            Self::PruneKernels { .. } => "prune-kernels",
            Self::RestartServices { .. } => "restart-services",
            Self::Hook { .. } => "hook",
        }
    }

    /// Whether it takes the node, or what runs on it, down for a while.
    #[must_use]
    pub const fn needs_lease(&self) -> bool {
        match self {
            Self::ChangePackages(_)
            | Self::RepairPackages
            | Self::Boot { .. }
            | Self::RestartServices { .. }
            | Self::Hook { .. } => true,
            Self::ApplySetting { setting, .. } => matches!(**setting, Setting::Service { on: false, .. }),
            Self::Survey(_) | Self::InstallKernel { .. } | Self::ConfirmKernel { .. } | Self::PruneKernels { .. } => {
                false
            }
        }
    }
}

/// The right to take one node down. Granted by the controller's arbiter, carried in the order, checked again on the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Rises with every lease of a controller: a node refuses one lower than it has seen.
    pub number: u64,
    /// Whose.
    pub node: NodeName,
    /// For which run.
    pub run: RunId,
}

/// A step as it is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOrder {
    /// The run it belongs to; `None` for a survey outside of one.
    #[serde(default)]
    pub run: Option<RunId>,
    /// Its id in the plan.
    pub id: String,
    /// What to do.
    pub step: NodeStep,
    /// The right to do it, if it needs one.
    #[serde(default)]
    pub lease: Option<Lease>,
}

impl fmt::Display for NodeStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survey(_) => f.write_str("survey"),
            Self::ApplySetting { setting, .. } => write!(f, "set {setting}"),
            Self::RepairPackages => f.write_str("repair packages"),
            Self::ChangePackages(transaction) => write!(f, "change {} packages", transaction.changes.len()),
            Self::InstallKernel { release, .. } => write!(f, "install kernel {release}"),
            Self::Boot { once: Some(release), .. } => write!(f, "boot once into kernel {release}"),
            Self::Boot { once: None, .. } => f.write_str("reboot"),
            Self::ConfirmKernel { release } => write!(f, "make kernel {release} the default"),
            Self::PruneKernels { remove } => write!(f, "remove {} old kernels", remove.len()),
            Self::RestartServices { units } => write!(f, "restart {} services", units.len()),
            Self::Hook { argv, .. } => write!(f, "hook {argv}"),
        }
    }
}

impl fmt::Display for StepOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run {
            Some(run) => write!(f, "{} ({run} {})", self.step, crate::escape::Escaped(&self.id)),
            None => self.step.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_being_written_and_refuses_what_it_does_not_know() {
        let order = StepOrder {
            run: RunId::new("r1").ok(),
            id: "boot/node1".into(),
            step: NodeStep::Boot {
                boot_id: BootId::new("0-1").expect("an id"),
                once: KernelRelease::new("6.1.0-9-amd64").ok(),
            },
            lease: Some(Lease {
                number: 1,
                node: NodeName::new("node1").expect("a name"),
                run: RunId::new("r1").expect("an id"),
            }),
        };
        let text = serde_json::to_string(&order).expect("JSON");
        assert_eq!(serde_json::from_str::<StepOrder>(&text).expect("the same"), order);
        assert!(serde_json::from_str::<StepOrder>(r#"{"id":"a","step":{"kind":"format-disk"}}"#).is_err());
    }
}
