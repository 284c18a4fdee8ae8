// SPDX-License-Identifier: Apache-2.0
//! Whether a reboot is pending, and why.

use std::path::Path;

use crate::host::Observe;

/// Debian's packages leave this file behind; /var/run leads to /run.
const REQUIRED: &str = "/run/reboot-required";

/// The names of those packages.
const PACKAGES: &str = "/run/reboot-required.pkgs";

/// Most packages that are named.
const MOST_NAMED: usize = 10;

pub(super) fn observe(host: &dyn Observe, running: &str, default_release: Option<&str>) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(default) = default_release.filter(|&default| default != running && !running.is_empty()) {
        reasons.push(format!("kernel {running} runs, {default} is the default"));
    }
    if host.modified(Path::new(REQUIRED)).is_ok() {
        reasons.push(asked_for_by(&host.read(Path::new(PACKAGES)).unwrap_or_default()));
    }
    reasons
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
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_new_default_kernel_and_debians_file_are_reasons() {
        let host = FakeHost::new("node1");
        assert!(observe(&host, "6.0", Some("6.0")).is_empty());
        assert!(observe(&host, "6.0", None).is_empty());
        host.change(|node| {
            node.files.insert(REQUIRED.into(), "*** System restart required ***\n".into());
            node.files.insert(PACKAGES.into(), "linux-image\nlibc6\nlibc6\n".into());
        });
        assert_eq!(
            observe(&host, "6.0", Some("6.1")),
            ["kernel 6.0 runs, 6.1 is the default", "/run/reboot-required exists because of libc6, linux-image"]
        );
    }
}
