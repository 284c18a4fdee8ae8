// SPDX-License-Identifier: Apache-2.0
//! Whether a reboot is pending, and why.

use std::path::Path;

use windlass_types::error_chain::ErrorChain;

use super::{Unobservable, read};
use crate::host::Observe;
use crate::host::procfs::{STAT, parse_boot_time};
use crate::host::rpm::parse_found;

/// Debian's packages leave this file behind; /var/run leads to /run.
const REQUIRED: &str = "/run/reboot-required";

/// The names of those packages.
const PACKAGES: &str = "/run/reboot-required.pkgs";

/// Most packages that are named.
const MOST_NAMED: usize = 10;

/// If nobody can say which packages are new, the other reasons are told all the same.
pub(super) async fn observe(
    host: &dyn Observe,
    running: &str,
    default_release: Option<&str>,
) -> Result<Vec<String>, Unobservable> {
    let mut reasons = without_packages(host, running, default_release);
    match updated_packages(host).await {
        Ok(updated) => reasons.extend(updated),
        Err(error) if reasons.is_empty() => return Err(error),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "which packages were updated since boot is not known")
        }
    }
    Ok(reasons)
}

/// What speaks for a reboot besides packages that everything uses.
pub(crate) fn without_packages(host: &dyn Observe, running: &str, default_release: Option<&str>) -> Vec<String> {
    let other = default_release.filter(|&default| default != running && !running.is_empty());
    let kernel = other.map(|default| format!("kernel {running} runs, {default} is the default"));
    let is_asked_for = host.modified(Path::new(REQUIRED)).is_ok();
    let asked = is_asked_for.then(|| asked_for_by(&host.read(Path::new(PACKAGES)).unwrap_or_default()));
    kernel.into_iter().chain(asked).collect()
}

/// Packages that everything uses and that are newer than this boot.
async fn updated_packages(host: &dyn Observe) -> Result<Vec<String>, Unobservable> {
    let installed = parse_found(&host.core_packages().await?);
    let booted_at = if installed.is_empty() { None } else { parse_boot_time(&read(host, STAT)?) };
    let Some(booted_at) = booted_at else { return Ok(Vec::new()) };
    Ok(installed.iter().filter_map(|installed| installed.reason_to_reboot(booted_at)).collect())
}

fn asked_for_by(packages: &str) -> String {
    let mut names: Vec<&str> = packages.split_whitespace().collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(MOST_NAMED);
    names.truncate(MOST_NAMED);
    match (names.is_empty(), more) {
        (true, _) => format!("{REQUIRED} exists"),
        (false, 0) => format!("{REQUIRED} exists because of {}", names.join(", ")),
        (false, more) => format!("{REQUIRED} exists because of {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::host::fake::{FakeHost, Method, ModelPackage};

    #[tokio::test]
    async fn a_new_default_kernel_and_debians_file_are_reasons() {
        let host = FakeHost::new("node1");
        assert!(observe(&host, "6.0", Some("6.0")).await.unwrap().is_empty());
        assert!(observe(&host, "6.0", None).await.unwrap().is_empty());
        host.change(|node| {
            node.files.insert(REQUIRED.into(), "*** System restart required ***\n".into());
            node.files.insert(PACKAGES.into(), "linux-image\nlibc6\nlibc6\n".into());
        });
        assert_eq!(
            observe(&host, "6.0", Some("6.1")).await.unwrap(),
            ["kernel 6.0 runs, 6.1 is the default", "/run/reboot-required exists because of libc6, linux-image"]
        );
    }

    #[tokio::test]
    async fn what_everything_uses_is_a_reason_from_its_update_to_the_next_boot() {
        let host = FakeHost::new("node1");
        let update = |name| {
            host.advance(Duration::from_secs(60));
            host.change(|node| {
                node.packages.push(ModelPackage { at: node.now.0 / 1000, ..ModelPackage::new(name, "2-1") });
            });
        };
        host.change(|node| node.packages.push(ModelPackage::new("openssl-libs", "1-1")));
        update("web");
        assert_eq!(observe(&host, "6.0", None).await.unwrap(), [] as [String; 0]);
        update("glibc");
        let reasons = ["glibc-2-1.x86_64 was installed after the node was booted"];
        assert_eq!(observe(&host, "6.0", None).await.unwrap(), reasons);
        host.reboot();
        assert_eq!(observe(&host, "6.0", None).await.unwrap(), [] as [String; 0]);
    }

    #[tokio::test]
    async fn other_reasons_are_told_where_packages_cannot_be_asked_for() {
        let host = FakeHost::new("node1");
        host.fail_nth(Method::CorePackages, 1, "no");
        assert_eq!(observe(&host, "6.0", Some("6.1")).await.unwrap(), ["kernel 6.0 runs, 6.1 is the default"]);
        host.fail_nth(Method::CorePackages, 1, "no");
        assert!(observe(&host, "6.0", Some("6.0")).await.is_err());
    }
}
