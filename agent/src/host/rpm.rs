// SPDX-License-Identifier: Apache-2.0
//! rpm(8): what is installed, and since when.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::FcntlArg;
use windlass_types::name::on_node::{Architecture, PackageName, PackageVersion};
use windlass_types::package::{CORE, Package, is_core};
use windlass_types::time::UnixMillis;

use super::exec::CommandSpec;
use super::tools::{Program, argv};

/// Where it is installed, if it is.
pub(super) const PROGRAM: &str = "/usr/bin/rpm";

/// Files of its database that change with every transaction, by the generations of rpm.
pub(super) const DATABASES: [&str; 4] =
    ["/var/lib/rpm/Packages", "/var/lib/rpm/Packages.db", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite-wal"];

/// That of EL 8 and before.
pub(super) const BERKELEY_DATABASE: &str = DATABASES[0];

/// A few packages by name, found by the index.
const CORE_DEADLINE: Duration = Duration::from_secs(30);

/// A database of thousands of packages on a slow disk.
const DEADLINE: Duration = Duration::from_secs(120);

/// Every file of a kernel is read.
const VERIFY_DEADLINE: Duration = Duration::from_secs(600);

/// Putting the database together again.
const REBUILD_DEADLINE: Duration = Duration::from_secs(900);

const FORMAT: &str = "%{NAME}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{INSTALLTIME}\\n";

/// A package that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub package: Package,
    /// Since when.
    pub at: UnixMillis,
}

impl Installed {
    /// Why this is a reason to reboot, if it is one: everything uses it, and what runs since boot uses what was there before.
    #[must_use]
    pub fn reason_to_reboot(&self, booted_at: UnixMillis) -> Option<String> {
        let Self { package, at } = self;
        let is_newer = is_core(&package.name) && *at > booted_at;
        is_newer.then(|| format!("{package} was installed after the node was booted"))
    }
}

/// Asks for the packages that everything uses.
pub(super) fn core_command() -> CommandSpec {
    let arguments = [&["-q", "--qf", FORMAT], &CORE[..]].concat();
    let mut command = CommandSpec::new(PROGRAM, &arguments, CORE_DEADLINE);
    // The code is the number of those that are not installed.
    command.answers.extend(0..=i32::from(u8::MAX));
    command
}

/// Asks for all packages.
#[must_use]
pub fn list() -> Program {
    Program::query(argv(["rpm", "-qa", "--qf", FORMAT]), DEADLINE)
}

/// Asks whose files these are. A file that is nobody's is an answer too.
#[must_use]
pub fn owners(paths: &[String]) -> Program {
    let paths = paths.iter().map(String::as_str);
    let mut program = Program::query(argv(["rpm", "-qf", "--qf", FORMAT].into_iter().chain(paths)), DEADLINE);
    // The code is the number of files that are nobody's.
    program.answers.extend(0..=i32::from(u8::MAX));
    program
}

/// Asks what a package that is installed provides.
#[must_use]
pub fn provides(package: &Package) -> Program {
    Program::query(argv(["rpm", "-q", "--provides", &package.to_string()]), DEADLINE)
}

/// Compares the files of a package with what it brought. What differs is an answer too.
#[must_use]
pub fn verify(package: &Package) -> Program {
    // Owners, modes and times are not what keeps a file from being read.
    let ignored =
        ["deps", "scripts", "user", "group", "mtime", "mode", "rdev", "caps"].map(|what| format!("--no{what}"));
    let words = ["rpm", "-V"].into_iter().chain(ignored.iter().map(String::as_str));
    Program::query(argv(words.chain([package.to_string().as_str()])), VERIFY_DEADLINE).answering(1)
}

/// Takes packages out that another version has replaced, or that are to come again; what needs them stays.
#[must_use]
pub fn erase(packages: &[String]) -> Program {
    let packages = packages.iter().map(String::as_str);
    Program::change(argv(["rpm", "-e", "--nodeps"].into_iter().chain(packages)), REBUILD_DEADLINE)
}

/// Puts the database together again.
#[must_use]
pub fn rebuild() -> Program {
    Program::change(argv(["rpm", "--rebuilddb"]), REBUILD_DEADLINE)
}

/// Reads what [`list`] prints. Keys that are imported look like packages and are left out.
///
/// # Errors
/// If a line is not one of a package.
pub fn parse_list(text: &str) -> Result<Vec<Installed>, String> {
    let lines = text.lines().filter(|line| !line.starts_with("gpg-pubkey\t"));
    lines.map(|line| parse_line(line).ok_or_else(|| format!("{line:?} is not a package"))).collect()
}

/// Reads what is printed about packages asked for by name; that one is not installed is no line of a package.
#[must_use]
pub fn parse_found(text: &str) -> Vec<Installed> {
    text.lines().filter_map(parse_line).collect()
}

/// Reads what [`owners`] prints, one line for each file asked for; `None` where it is nobody's.
#[must_use]
pub fn parse_owners(text: &str) -> Vec<Option<Package>> {
    text.lines().map(|line| Some(parse_line(line)?.package)).collect()
}

/// Reads what [`verify`] prints: the first file that is missing or has other content. Configuration may differ; what a
/// package only lays claim to is made by others, and so are the indexes of modules.
#[must_use]
pub fn damaged(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (flags, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let (attribute, path) = rest.split_once(' ').filter(|(word, _)| word.len() == 1).unwrap_or(("", rest));
        let path = path.trim_start();
        let differs = flags == "missing" || flags.contains(['S', '5', 'L']);
        let is_index = path.rsplit('/').next().is_some_and(|name| name.starts_with("modules."));
        (differs && !is_index && !["c", "g"].contains(&attribute)).then_some(path)
    })
}

fn parse_line(line: &str) -> Option<Installed> {
    let mut fields = line.split('\t');
    let (name, version, arch, at) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    Some(Installed {
        package: Package {
            name: PackageName::new(name).ok()?,
            version: version_of(version)?,
            arch: Architecture::new(arch).ok()?,
        },
        at: UnixMillis(at.parse::<i64>().ok()?.checked_mul(1000)?),
    })
}

/// A version with its epoch left out if that is 0.
#[must_use]
pub fn version_of(text: &str) -> Option<PackageVersion> {
    PackageVersion::new(text.strip_prefix("0:").unwrap_or(text)).ok()
}

/// Held by whoever runs a transaction, by whatever name: dnf, yum, PackageKit, or rpm itself.
pub const LOCKS: [&str; 2] = ["/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock"];

/// Whether another process holds such a lock, as fcntl(2) tells.
#[must_use]
pub fn is_held(lock: &Path) -> bool {
    let Ok(file) = File::open(lock) else { return false };
    let mut asked = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let answered = nix::fcntl::fcntl(&file, FcntlArg::F_GETLK(&mut asked));
    answered.is_ok() && asked.l_type == nix::libc::F_WRLCK as nix::libc::c_short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn reads_the_packages_of_the_labs_guest() {
        let installed = parse_list(include_str!("fixtures/lab-rpm-4.18-qa")).unwrap();
        let shown: Vec<String> = installed.iter().map(|installed| installed.package.to_string()).collect();
        assert_eq!(shown, ["lab-base-12-1.noarch", "lab-words-1-1.noarch", "lab-web-1-1.noarch"]);
        assert_eq!(installed[1].at, UnixMillis(1_795_396_784_000));
        assert!(parse_list("error: rpmdb open failed\n").is_err());
    }

    #[test]
    fn packages_that_are_not_installed_are_left_out() {
        let found = parse_found("glibc\t0:2.34-100.el9\tx86_64\t1700000000\npackage gnutls is not installed\n");
        assert_eq!(found.iter().map(|i| i.package.to_string()).collect::<Vec<_>>(), ["glibc-2.34-100.el9.x86_64"]);
        let command = core_command().to_string();
        assert!(command.starts_with("/usr/bin/rpm -q --qf ") && command.contains(" glibc systemd "), "{command}");
    }

    #[test]
    fn tells_files_of_nobody() {
        let text = "kernel-core\t0:5.14.0-503.el9\tx86_64\t1\nfile /boot/vmlinuz-x is not owned by any package\n";
        let owners = parse_owners(text);
        assert_eq!(owners[0].as_ref().unwrap().to_string(), "kernel-core-5.14.0-503.el9.x86_64");
        assert_eq!(owners[1], None);
    }

    #[test]
    fn a_file_with_other_content_is_damage_and_a_configuration_or_a_made_file_is_not() {
        let harmless = "S.5......  c /etc/sysconfig/kernel\n.......T.    /boot/config-x\nmissing  g /boot/initramfs-x.img\n\
                        S.5......    /lib/modules/x/modules.dep\n";
        assert_eq!(damaged(harmless), None);
        let empty = format!("{harmless}S.5......    /boot/vmlinuz-x\n");
        assert_eq!(damaged(&empty), Some("/boot/vmlinuz-x"));
        assert_eq!(damaged("missing     /lib/modules/x/a b.ko\n"), Some("/lib/modules/x/a b.ko"));
    }

    #[test]
    fn an_epoch_of_zero_is_left_out_and_another_kept() {
        assert_eq!(version_of("0:1-1").unwrap().as_str(), "1-1");
        assert_eq!(version_of("1:1-1").unwrap().as_str(), "1:1-1");
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = (parse_list(&text), parse_found(&text), parse_owners(&text), damaged(&text));
        }
    }

    #[test]
    fn a_lock_that_somebody_else_holds_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".rpm.lock");
        assert!(!is_held(&path), "there is none");
        let file = File::create(&path).unwrap();
        assert!(!is_held(&path), "nobody holds it");
        let whole = nix::libc::flock {
            l_type: nix::libc::F_WRLCK as nix::libc::c_short,
            l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // Owned by the open file, and so by somebody else than this process.
        nix::fcntl::fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
        assert!(is_held(&path));
        drop(file);
        assert!(!is_held(&path), "it is given back");
    }
}
