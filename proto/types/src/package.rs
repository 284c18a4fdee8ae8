// SPDX-License-Identifier: Apache-2.0
//! Packages of a node, and what becomes of them in one transaction of its package manager.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::on_node::{Architecture, PackageName, PackageVersion, RepositoryId};

/// One package in one version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: PackageName,
    /// Epoch, version and release.
    pub version: PackageVersion,
    /// What it is built for.
    pub arch: Architecture,
}

impl fmt::Display for Package {
    /// As dnf and yum take it: `name-[epoch:]version-release.arch`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.name, self.version, self.arch)
    }
}

/// What becomes of one package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageChange {
    /// Its name.
    pub name: PackageName,
    /// What it is built for.
    pub arch: Architecture,
    /// The version that goes; `None` if it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PackageVersion>,
    /// The version that comes; `None` if it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PackageVersion>,
    /// Where that comes from; `None` if it is removed or not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
}

/// Packages that everything uses: what runs from before they were updated runs with the old ones.
pub const CORE: [&str; 13] = [
    "glibc",
    "systemd",
    "systemd-libs",
    "openssl-libs",
    "openssl",
    "gnutls",
    "dbus",
    "dbus-daemon",
    "dbus-broker",
    "dbus-libs",
    "linux-firmware",
    "microcode_ctl",
    "polkit",
];

/// Whether everything uses a package, so that a new version is in use everywhere only after a reboot.
#[must_use]
pub fn is_core(name: &PackageName) -> bool {
    CORE.contains(&name.as_str())
}

impl PackageChange {
    /// Whether its effect is complete only after a reboot.
    #[must_use]
    pub fn needs_reboot(&self) -> bool {
        self.to.is_some() && self.from != self.to && is_core(&self.name)
    }

    /// The package as it will be, unless it is removed.
    #[must_use]
    pub fn target(&self) -> Option<Package> {
        let version = self.to.clone()?;
        Some(Package { name: self.name.clone(), version, arch: self.arch.clone() })
    }
}

impl fmt::Display for PackageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, arch, from, to, .. } = self;
        match (from, to) {
            (Some(from), Some(to)) => write!(f, "{name}.{arch} {from} -> {to}"),
            (None, Some(to)) => write!(f, "{name}.{arch} new, {to}"),
            (Some(from), None) => write!(f, "{name}.{arch} {from} removed"),
            (None, None) => write!(f, "{name}.{arch} unchanged"),
        }
    }
}

/// What the package manager would do at once: exactly this is done, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// By name.
    pub changes: Vec<PackageChange>,
    /// To be fetched, bytes; 0 if that is not known.
    #[serde(default)]
    pub download_bytes: u64,
}

/// A transaction in the history of a package manager, as that tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastTransaction {
    /// Its number.
    pub number: u32,
    /// When, by the node's clock.
    pub at: String,
    /// The command; with yum, the user.
    pub what: String,
    /// What it did.
    pub actions: String,
    /// To how many packages.
    pub altered: u32,
    /// Whether it came to its end without failing.
    pub is_whole: bool,
}

/// Which updates are wished for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpdateScope {
    /// Everything that is installed.
    All,
    /// What the repositories call security updates.
    Security,
    /// These packages; one that is not installed is installed.
    Named(Vec<PackageName>),
    /// What undoes the transaction with this number in the package manager's history.
    Undo(u32),
}

/// What shall become of a node's packages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackagesWish {
    /// Which.
    pub update: UpdateScope,
    /// Never touched by an update. Kernels are never touched by one: they have a step of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<PackageName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_c_library_needs_a_reboot_and_a_new_shell_does_not() {
        let change = |name: &str, from: Option<&str>, to: &str| PackageChange {
            name: PackageName::new(name).expect("a name"),
            arch: Architecture::new("x86_64").expect("an architecture"),
            from: from.and_then(|from| PackageVersion::new(from).ok()),
            to: PackageVersion::new(to).ok(),
            repository: None,
        };
        assert!(change("glibc", Some("1-1"), "2-1").needs_reboot());
        assert!(change("systemd-libs", Some("1-1"), "2-1").needs_reboot());
        assert!(!change("bash", Some("1-1"), "2-1").needs_reboot());
        assert!(!change("glibc", Some("1-1"), "1-1").needs_reboot());
        // An agent sees only that it was installed after the boot.
        assert!(change("glibc", None, "1-1").needs_reboot());
    }

    #[test]
    fn says_what_becomes_of_a_package() {
        let mut change = PackageChange {
            name: PackageName::new("bash").expect("a name"),
            arch: Architecture::new("x86_64").expect("an architecture"),
            from: PackageVersion::new("5.1-1").ok(),
            to: PackageVersion::new("5.2-1").ok(),
            repository: None,
        };
        assert_eq!(change.to_string(), "bash.x86_64 5.1-1 -> 5.2-1");
        assert_eq!(change.target().expect("it stays").to_string(), "bash-5.2-1.x86_64");
        change.from = None;
        assert_eq!(change.to_string(), "bash.x86_64 new, 5.2-1");
    }
}
