// SPDX-License-Identifier: Apache-2.0
//! grubby(8), which knows every boot loader of the Red Hat family and is the authority on the default kernel there.

use std::time::Duration;

use super::exec::CommandSpec;

/// Where it is installed, if it is.
pub const PROGRAM: &str = "/usr/sbin/grubby";

/// Files and directories that change when the default kernel may have.
pub const DEPENDS_ON: [&str; 5] = [
    "/boot/loader/entries",
    "/boot/grub2/grubenv",
    "/boot/grub2/grub.cfg",
    "/etc/grub2-efi.cfg", // leads to the one on the EFI system partition, as on CentOS 7
    PROGRAM,
];

const DEADLINE: Duration = Duration::from_secs(20);

/// Asks for the path of the default kernel.
pub(super) fn default_kernel_command() -> CommandSpec {
    CommandSpec::new(PROGRAM, &["--default-kernel"], DEADLINE)
}

/// The release in a path such as `/boot/vmlinuz-5.14.0-503.el9.x86_64`.
#[must_use]
pub fn release_of(kernel_path: &str) -> Option<String> {
    let file = kernel_path.trim().rsplit('/').next()?;
    let release = file.strip_prefix("vmlinuz-").or_else(|| file.strip_prefix("kernel-"))?;
    (!release.is_empty() && !release.contains(char::is_whitespace)).then(|| release.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_release_from_a_kernel_path() {
        for (path, release) in [
            ("/boot/vmlinuz-3.10.0-1160.el7.x86_64\n", Some("3.10.0-1160.el7.x86_64")),
            ("(hd0,gpt2)/vmlinuz-6.1.0-18-amd64", Some("6.1.0-18-amd64")),
            ("/boot/vmlinuz", None),
            ("/boot/vmlinuz-", None),
            ("grubby fatal error: unable to find a suitable template", None),
            ("", None),
        ] {
            assert_eq!(release_of(path).as_deref(), release, "{path}");
        }
    }
}
