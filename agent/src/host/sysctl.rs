// SPDX-License-Identifier: Apache-2.0
//! sysctl(8): kernel parameters, their files, and how they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use windlass_types::name::on_node::SysctlKey;

use super::tools::{Program, argv};

const DEADLINE: Duration = Duration::from_secs(30);

/// The file of a parameter. As sysctl(8) reads a key: what separates first, separates; the other one stands for itself.
/// `None` if the key leads out of the tree.
#[must_use]
pub fn path_of(key: &SysctlKey) -> Option<PathBuf> {
    let separator = key.as_str().chars().find(|c| "./".contains(*c)).unwrap_or('.');
    let parts = key.as_str().split(separator);
    let parts: Vec<String> =
        parts.map(|part| if separator == '.' { part.replace('/', ".") } else { part.to_owned() }).collect();
    let climbs = parts.iter().any(|part| part.is_empty() || part == "." || part == "..");
    (!climbs).then(|| PathBuf::from(format!("/proc/sys/{}", parts.join("/"))))
}

/// The file by which it is set at every boot. After those that the distribution brings.
#[must_use]
pub fn drop_in_of(key: &SysctlKey) -> PathBuf {
    PathBuf::from(format!("/etc/sysctl.d/99-windlass-{}.conf", key.as_str().replace('/', ",")))
}

/// What is in that file.
#[must_use]
pub fn drop_in(key: &SysctlKey, value: &str) -> String {
    format!("# Written by Windlass.\n{key} = {value}\n")
}

/// Asks what is in the file of a parameter; 1 if there is none.
#[must_use]
pub fn read(path: &Path) -> Program {
    Program::query(argv(["cat", "--", &path.to_string_lossy()]), DEADLINE).answering(1)
}

/// Sets it now.
#[must_use]
pub fn set(key: &SysctlKey, value: &str) -> Program {
    Program::change(argv(["sysctl", "-w", &format!("{key}={value}")]), DEADLINE)
}

/// Values that mean the same: the kernel separates several by tabs.
#[must_use]
pub fn normal(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_to_its_file_and_nowhere_else() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            ("net/ipv4/conf/eth0.7/forwarding", Some("/proc/sys/net/ipv4/conf/eth0.7/forwarding")),
            ("net.ipv4.conf.eth0/7.forwarding", Some("/proc/sys/net/ipv4/conf/eth0.7/forwarding")),
            ("net/../../../etc/passwd", None),
            ("a..b", None),
            ("a.//.b", None),
        ] {
            let found = path_of(&SysctlKey::new(key).unwrap());
            assert_eq!(found.as_deref().and_then(std::path::Path::to_str), path, "{key}");
        }
    }
}
