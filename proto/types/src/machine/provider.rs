// SPDX-License-Identifier: Apache-2.0
//! Who makes machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{BadName, CloudName};

/// Who makes machines. As text `qemu`, `existing` or `openstack/CLOUD`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProviderKind {
    /// Virtual machines on the controller's own machine.
    Qemu,
    /// Nobody: the machines are there already.
    Existing,
    /// An OpenStack cloud.
    Openstack(
        /// Which of those the controller knows.
        CloudName,
    ),
}

/// A text that names no provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownProvider {
    /// Of no kind that is known.
    #[error("{0:?} is no provider: there are qemu, existing and openstack/CLOUD")]
    Kind(String),
    /// A cloud that cannot be called so.
    #[error(transparent)]
    Cloud(#[from] BadName),
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu => f.pad("qemu"),
            Self::Existing => f.pad("existing"),
            Self::Openstack(cloud) => f.pad(&format!("openstack/{cloud}")),
        }
    }
}

impl FromStr for ProviderKind {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        match (text, text.strip_prefix("openstack/")) {
            ("qemu", _) => Ok(Self::Qemu),
            ("existing", _) => Ok(Self::Existing),
            (_, Some(cloud)) => Ok(Self::Openstack(CloudName::new(cloud)?)),
            (_, None) => Err(UnknownProvider::Kind(text.to_owned())),
        }
    }
}

impl TryFrom<String> for ProviderKind {
    type Error = UnknownProvider;

    fn try_from(text: String) -> Result<Self, UnknownProvider> {
        text.parse()
    }
}

impl From<ProviderKind> for String {
    fn from(kind: ProviderKind) -> Self {
        kind.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_read_as_it_is_written() {
        let cloud = ProviderKind::Openstack(CloudName::new("cybera").expect("a name"));
        for kind in [ProviderKind::Qemu, ProviderKind::Existing, cloud] {
            assert_eq!(kind.to_string().parse(), Ok(kind.clone()));
            let json = serde_json::to_string(&kind).expect("JSON");
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<ProviderKind>(&json).expect("a provider"), kind);
        }
        for wrong in ["", "openstack", "openstack/", "openstack/a/b", "vmware"] {
            assert!(wrong.parse::<ProviderKind>().is_err(), "{wrong}");
        }
    }
}
