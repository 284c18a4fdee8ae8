// SPDX-License-Identifier: Apache-2.0
//! The package manager.

use std::path::Path;

use windlass_types::facts::PackageManager;

use super::Unobservable;
use crate::host::{Observe, package_manager};

pub(super) async fn observe(host: &dyn Observe) -> Result<PackageManager, Unobservable> {
    let mut installed = package_manager::PROGRAMS.iter().map(|(name, program)| (name, Path::new(program)));
    let Some((name, program)) = installed.find(|(_, program)| host.modified(program).is_ok()) else {
        return Ok(PackageManager::default());
    };
    let text = host.package_manager_version(program).await?;
    let silent = || Unobservable::Silent { path: program.into(), what: "its version" };
    let version = package_manager::parse_version(&text).ok_or_else(silent)?;
    Ok(PackageManager { name: (*name).to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[tokio::test]
    async fn a_node_without_one_says_so() {
        let host = FakeHost::new("node1");
        let expected = host.node().package_manager;
        assert_eq!(observe(&host).await.unwrap(), expected);
        host.change(|node| node.package_manager = PackageManager::default());
        assert_eq!(observe(&host).await.unwrap(), PackageManager::default());
    }
}
