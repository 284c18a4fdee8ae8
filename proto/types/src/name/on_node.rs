// SPDX-License-Identifier: Apache-2.0
//! Names of things on a node. They become arguments of programs there, so none can be taken for an option or a path.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{BadName, checked, name};

/// Longest name, version or release: rpm itself has no limit, packages stay far below.
const LONGEST: usize = 128;

/// useradd(8).
const LONGEST_USER: usize = 32;

name!(
    /// The name of a package, as rpm knows it.
    PackageName,
    "package name",
    "letters, digits, '.', '_', '+' and '-', and begins with a letter, a digit or '_'",
    LONGEST,
    |index, c| c.is_ascii_alphanumeric() || c == '_' || (index > 0 && ".+-".contains(c))
);

name!(
    /// Epoch, version and release of a package: `[EPOCH:]VERSION-RELEASE`. An epoch of 0 is left out.
    PackageVersion,
    "package version",
    "letters, digits, '.', '_', '+', '~', '^', ':' and '-', and begins with a letter or digit",
    LONGEST,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "._+~^:-".contains(c))
);

name!(
    /// What a package is built for, such as `x86_64` or `noarch`.
    Architecture,
    "architecture",
    "letters, digits and '_'",
    LONGEST,
    |_, c| c.is_ascii_alphanumeric() || c == '_'
);

name!(
    /// The id of a repository in the package manager's configuration.
    RepositoryId,
    "repository id",
    "letters, digits, '-', '_', '.' and ':', and begins with a letter or digit",
    LONGEST,
    |index, c| c.is_ascii_alphanumeric() || (index > 0 && "-_.:".contains(c))
);

name!(
    /// What uname(2) calls the release of a kernel.
    KernelRelease,
    "kernel release",
    "letters, digits, '.', '_', '+', '~' and '-', and begins with a digit",
    LONGEST,
    |index, c| if index == 0 { c.is_ascii_digit() } else { c.is_ascii_alphanumeric() || "._+~-".contains(c) }
);

name!(
    /// The id of one boot of a machine: /proc/sys/kernel/random/boot_id.
    BootId,
    "boot id",
    "digits, a-f and '-'",
    36,
    |_, c| c.is_ascii_hexdigit() || c == '-'
);

name!(
    /// A systemd unit.
    UnitName,
    "unit name",
    "letters, digits, '-', '_', '.', '@', ':' and '\\', and begins with a letter, a digit or '_'",
    LONGEST,
    |index, c| c.is_ascii_alphanumeric() || c == '_' || (index > 0 && "-.@:\\".contains(c))
);

name!(
    /// The name of a user or group of a node: useradd(8).
    UserName,
    "user name",
    "a-z, 0-9, '_' and '-', and begins with a letter or '_'",
    LONGEST_USER,
    |index, c| c.is_ascii_lowercase() || c == '_' || (index > 0 && (c.is_ascii_digit() || c == '-'))
);

name!(
    /// A kernel parameter with dots, such as `net.ipv4.ip_forward`: sysctl(8).
    SysctlKey,
    "sysctl",
    "letters, digits, '.', '_', '-' and '/', and begins with a letter",
    LONGEST,
    |index, c| if index == 0 { c.is_ascii_alphabetic() } else { c.is_ascii_alphanumeric() || "._-/".contains(c) }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_nodes_have() {
        assert!(PackageName::new("libstdc++").is_ok() && PackageName::new("kernel-lt").is_ok());
        assert!(PackageVersion::new("1:1.1.1k-12.el8_9").is_ok() && PackageVersion::new("5.0~rc1-1^git").is_ok());
        assert!(KernelRelease::new("3.10.0-1160.el7.x86_64").is_ok());
        assert!(UnitName::new("dev-disk-by\\x2dlabel-swap.swap").is_ok() && SysctlKey::new("vm.swappiness").is_ok());
        assert!(UserName::new("_apt").is_ok() && RepositoryId::new("elrepo-kernel").is_ok());
    }

    #[test]
    fn refuses_what_a_program_would_take_for_something_else() {
        for text in ["--setopt=gpgcheck=0", "-y", "a b", "a;reboot", "../a", "/etc/a.rpm", "a\n", "", "@group", "a*"] {
            assert!(PackageName::new(text).is_err(), "{text:?}");
            assert!(RepositoryId::new(text).is_err(), "{text:?}");
            assert!(KernelRelease::new(text).is_err(), "{text:?}");
            assert!(UserName::new(text).is_err(), "{text:?}");
        }
        assert!(SysctlKey::new("../../etc/passwd").is_err() && UnitName::new("-a.service").is_err());
    }
}
