// SPDX-License-Identifier: Apache-2.0
//! How a node differs from what it shall be: what is asked of it, and what it answers. Asking changes nothing there.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::name::on_node::{BootId, KernelRelease, PackageName, UnitName};
use crate::package::{Package, PackageChange, PackagesWish, PastTransaction, Transaction};
use crate::setting::Setting;

/// The form of an answer. One of another form is not used.
pub const SCHEMA: u32 = 1;

/// Where kernels come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum KernelChannel {
    /// The distribution's own `kernel`.
    Distribution,
    /// ELRepo's long-term `kernel-lt`.
    ElrepoLt,
    /// ELRepo's mainline `kernel-ml`.
    ElrepoMl,
    /// A package of another name.
    Package(PackageName),
}

impl KernelChannel {
    /// The package it consists of.
    #[must_use]
    pub fn package(&self) -> &str {
        match self {
            Self::Distribution => "kernel",
            Self::ElrepoLt => "kernel-lt",
            Self::ElrepoMl => "kernel-ml",
            Self::Package(name) => name.as_str(),
        }
    }
}

/// What shall become of a node's kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelWish {
    /// Where it comes from.
    pub channel: KernelChannel,
    /// Exactly this version and release; `None` for the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<crate::name::on_node::PackageVersion>,
    /// Kernels kept besides the one that runs and the one that is confirmed; at least 1.
    pub keep: u32,
}

/// What is asked of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurveyRequest {
    /// Is it so?
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// What would the package manager do?
    #[serde(default)]
    pub packages: Option<PackagesWish>,
    /// Which kernel would it be?
    #[serde(default)]
    pub kernel: Option<KernelWish>,
    /// Fetch the repositories' metadata first, however young what is there may be.
    #[serde(default)]
    pub refresh: bool,
    /// Which packages are installed? Left out where it is not asked, for agents that do not know the question.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub list: bool,
    /// What are so many of the newest transactions of the package manager? Left out likewise.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub history: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// [`SCHEMA`] of whoever made it.
    pub schema: u32,
    /// The boot in which it was made.
    pub boot_id: BootId,
    /// The kernels.
    pub kernels: Kernels,
    /// Why it should be rebooted, one sentence each.
    pub reboot_reasons: Vec<String>,
    /// Units that still run what an update replaced, or will once the packages that are due are changed.
    pub outdated_services: Vec<UnitName>,
    /// What an interrupted transaction of the package manager left; `None` if nothing.
    pub interrupted: Option<String>,
    /// The package database cannot be read: nothing is known of packages and kernel. It is among what was interrupted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unreadable: bool,
    /// For each setting asked for, in the same order.
    pub settings: Vec<Found<SettingDue>>,
    /// If packages were asked for.
    pub packages: Option<Found<Transaction>>,
    /// If the kernel was asked for.
    pub kernel: Option<Found<KernelDue>>,
    /// If it was asked what is installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub installed: Vec<Package>,
    /// If it was asked what the package manager did; newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PastTransaction>,
}

/// How something is, compared with what it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Found<T> {
    /// As it shall be.
    AsWished,
    /// It can be brought about by this.
    Due {
        /// What is to be done.
        due: T,
    },
    /// It cannot be brought about.
    Blocked {
        /// Why not.
        reason: String,
        /// What a person can do about it.
        advice: String,
    },
}

/// A setting that is not as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingDue {
    /// Fingerprint of what is there now: it is changed only while it is still so.
    pub seen: Sha256Digest,
    /// What would change, a line each; of a file, a unified diff.
    pub changes: Vec<String>,
}

/// A kernel that is to be installed, booted or made the default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDue {
    /// Its release.
    pub release: KernelRelease,
    /// The package to be installed; `None` if it is there.
    pub install: Option<Package>,
    /// All that the package manager would do for it.
    pub changes: Vec<PackageChange>,
    /// Kernels that would be removed once it is confirmed.
    pub prune: Vec<Package>,
}

/// The kernels of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernels {
    /// The one that runs.
    pub running: KernelRelease,
    /// The one that the boot loader starts by default; `None` if that could not be told.
    pub default: Option<KernelRelease>,
    /// The one that it starts only the next time; `None` if that is the default.
    pub once: Option<KernelRelease>,
    /// All that are there.
    pub installed: Vec<InstalledKernel>,
}

/// A kernel that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledKernel {
    /// Its release.
    pub release: KernelRelease,
    /// The package it came with; `None` if none owns it.
    pub package: Option<Package>,
}

impl fmt::Display for KernelChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Distribution => "distribution",
            Self::ElrepoLt => "elrepo-lt",
            Self::ElrepoMl => "elrepo-ml",
            Self::Package(name) => name.as_str(),
        })
    }
}
