// SPDX-License-Identifier: Apache-2.0
//! proc(5): the moment of boot, the boot's id, and what is mounted.

use windlass_types::time::UnixMillis;

/// Where the moment of boot is.
pub const STAT: &str = "/proc/stat";

/// Where the boot's id is.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How old the boot is, in seconds.
pub const UPTIME: &str = "/proc/uptime";

/// What the first process sees mounted: the agent's own view may be narrowed by its sandbox.
pub const MOUNTS: &str = "/proc/1/mountinfo";

/// The `btime` line of /proc/stat.
#[must_use]
pub fn parse_boot_time(stat: &str) -> Option<UnixMillis> {
    let seconds: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    seconds.checked_mul(1000).map(UnixMillis)
}

/// One mount of a whole file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number, `major:minor`.
    pub device_number: String,
    /// Where.
    pub target: String,
    /// What, often a path under /dev.
    pub source: String,
}

/// Reads mountinfo. Bind mounts of a part of a file system are left out: they say nothing new about the device, and a
/// container host has thousands.
#[must_use]
pub fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(2);
    let (number, root, target) = (fields.next()?, fields.next()?, fields.next()?);
    let source = after.split(' ').nth(1)?;
    let whole = root == "/";
    whole.then(|| Mount { device_number: number.into(), target: unescape(target), source: unescape(source) })
}

/// Undoes the kernel's octal escapes of blank, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut plain = text.to_owned();
    for (escape, c) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(escape, c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn reads_the_moment_of_boot() {
        assert_eq!(
            parse_boot_time("cpu  1 2\nctxt 5\nbtime 1700000000\nprocesses 9\n"),
            Some(UnixMillis(1_700_000_000_000))
        );
        for garbage in ["", "btime", "btime x", "btime 9223372036854775807"] {
            assert_eq!(parse_boot_time(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn reads_mounts_of_whole_file_systems() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                    30 27 253:2 / /data\\040one rw shared:3 - xfs /dev/mapper/vg-data rw,attr2\n\
                    31 27 253:2 /pods/a /var/lib/a rw - xfs /dev/mapper/vg-data rw\n\
                    nonsense\n";
        let mount = |number: &str, target: &str, source: &str| Mount {
            device_number: number.into(),
            target: target.into(),
            source: source.into(),
        };
        assert_eq!(
            parse_mounts(text),
            [mount("254:0", "/", "/dev/vda"), mount("253:2", "/data one", "/dev/mapper/vg-data")]
        );
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = parse_boot_time(&text);
            let _ = parse_mounts(&text);
            let _ = parse_mounts(&format!("1 2 {text} - a {text}"));
        }
    }
}
