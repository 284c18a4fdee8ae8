// SPDX-License-Identifier: Apache-2.0
//! What a small part of a node shall be. Each can be looked at, brought about, and looked at again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::NodePath;
use crate::name::on_node::{PackageName, RepositoryId, SysctlKey, UnitName, UserName};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Setting {
    /// A package repository with the key its packages are signed with.
    Repository(Repository),
    /// A file with this content; what was there is kept beside it once.
    File(ManagedFile),
    /// A kernel parameter, now and after every boot.
    Sysctl {
        /// Which.
        key: SysctlKey,
        /// Its value, as sysctl(8) prints it.
        value: String,
    },
    /// Packages that stay as they are, whoever calls the package manager; none, if there are none.
    PackageLocks {
        /// Which.
        names: Vec<PackageName>,
    },
    /// No swap, now and after every boot: the kubelet refuses to work beside it.
    SwapOff,
    /// The clock follows others: chronyd or systemd-timesyncd is enabled and runs.
    TimeSync,
    /// The mode of SELinux, now and after every boot.
    Selinux {
        /// Which.
        mode: SelinuxMode,
    },
    /// A user who can log in with a key.
    User(User),
    /// A unit that is enabled and runs, or neither.
    Service {
        /// Which.
        unit: UnitName,
        /// Enabled and running, or disabled and stopped.
        on: bool,
    },
}

/// A package repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its id; the file is named after it.
    pub id: RepositoryId,
    /// Where it is: `http`, `https`, `ftp` or `file`.
    pub url: String,
    /// The key its packages are signed with, ASCII-armoured.
    pub gpg_key: String,
    /// Its metadata is signed with that key too, and that is checked.
    #[serde(default)]
    pub signed_metadata: bool,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedFile {
    /// Where.
    pub path: NodePath,
    /// What is in it. Text: these are configuration files.
    pub content: String,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Whose.
    pub owner: UserName,
    /// Whose.
    pub group: UserName,
    /// Not shown in plans and differences.
    #[serde(default)]
    pub secret: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name.
    pub name: UserName,
    /// False if there shall be no such user; the home directory stays.
    pub present: bool,
    /// Groups besides their own.
    #[serde(default)]
    pub groups: Vec<UserName>,
    /// All public keys that may log in as this user, as in authorized_keys(5); `None` leaves them alone.
    #[serde(default)]
    pub authorized_keys: Option<Vec<String>>,
    /// May become root without a password.
    #[serde(default)]
    pub sudo: bool,
}

/// The mode of SELinux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SelinuxMode {
    /// Refuses.
    Enforcing,
    /// Only logs.
    Permissive,
}

impl fmt::Display for SelinuxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enforcing => "enforcing",
            Self::Permissive => "permissive",
        })
    }
}

impl Setting {
    /// What it is called in ids of steps: unique among the settings of a node.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Repository(repository) => format!("repository:{}", repository.id),
            Self::File(file) => format!("file:{}", file.path.as_str()),
            Self::Sysctl { key, .. } => format!("sysctl:{key}"),
            Self::PackageLocks { .. } => "locks".to_owned(),
            Self::SwapOff => "swap".to_owned(),
            Self::TimeSync => "time".to_owned(),
            Self::Selinux { .. } => "selinux".to_owned(),
            Self::User(user) => format!("user:{}", user.name),
            Self::Service { unit, .. } => format!("service:{unit}"),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(repository) => write!(f, "package repository {}", repository.id),
            Self::File(file) => write!(f, "file {}", file.path),
            Self::Sysctl { key, value } => write!(f, "sysctl {key} = {}", crate::escape::Escaped(value)),
            Self::PackageLocks { names } if names.is_empty() => f.write_str("no locked packages"),
            Self::PackageLocks { names } => {
                let names: Vec<_> = names.iter().map(PackageName::as_str).collect();
                write!(f, "locked packages {}", names.join(", "))
            }
            Self::SwapOff => f.write_str("no swap"),
            Self::TimeSync => f.write_str("time synchronisation"),
            Self::Selinux { mode } => write!(f, "SELinux {mode}"),
            Self::User(user) if user.present => write!(f, "user {}", user.name),
            Self::User(user) => write!(f, "no user {}", user.name),
            Self::Service { unit, on: true } => write!(f, "service {unit} on"),
            Self::Service { unit, on: false } => write!(f, "service {unit} off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_survives_being_written_and_refuses_what_it_does_not_know() {
        let setting = Setting::Service { unit: UnitName::new("a.service").expect("a name"), on: true };
        let text = serde_json::to_string(&setting).expect("JSON");
        assert_eq!(serde_json::from_str::<Setting>(&text).expect("the same"), setting);
        assert_eq!(setting.key(), "service:a.service");
        let unknown = r#"{"kind":"selinux","mode":"enforcing","and":1}"#;
        assert!(serde_json::from_str::<Setting>(unknown).is_err());
    }
}
