// SPDX-License-Identifier: Apache-2.0
//! dnf(8) and yum(8): which one is there and how old it is.

use std::path::Path;
use std::time::Duration;

use super::exec::CommandSpec;

/// Names and programs, the preferred first.
pub const PROGRAMS: [(&str, &str); 2] = [("dnf", "/usr/bin/dnf"), ("yum", "/usr/bin/yum")];

/// Generous: on a busy machine the interpreter alone takes seconds to start.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks for the version.
pub(super) fn version_command(program: &Path) -> CommandSpec {
    CommandSpec::new(program, &["--version"], DEADLINE)
}

/// The version in the first line: yum and dnf print it alone, dnf5 after its name.
#[must_use]
pub fn parse_version(text: &str) -> Option<String> {
    let version = text.lines().next()?.split_whitespace().next_back()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_each_generation() {
        for (text, version) in [
            ("3.4.3\n  Installed: rpm-4.11.3-48.el7_9.x86_64 at 2022-03-01 10:00\n", Some("3.4.3")),
            ("4.14.0\n  Installed: dnf-0:4.14.0-17.el9.noarch at Mon 02 Dec 2024\n", Some("4.14.0")),
            ("dnf5 version 5.2.6.2\ndnf5 plugin API version 2.0\n", Some("5.2.6.2")),
            ("error: cannot open Packages database\n", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), version, "{text}");
        }
    }
}
