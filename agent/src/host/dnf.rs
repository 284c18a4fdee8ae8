// SPDX-License-Identifier: Apache-2.0
//! dnf(8) and yum(8), which take the same words for what steps need.
//!
//! A transaction is looked at, later fetched, which shows it once more, and then done from what is on the disk (`-C`):
//! between the last look and the act no repository is asked, so what was seen is what is done. Signatures are checked as
//! the node's configuration says; nothing here switches that off.
//!
//! Each start of dnf costs a second of a processor and more, so none is made for what another one has told.

pub mod history;
mod table;

use std::path::Path;
use std::time::Duration;

use windlass_types::action::{Argv, BadAction};
use windlass_types::name::on_node::{PackageName, RepositoryId};
use windlass_types::package::{CORE, Package};

use super::Observe;
use super::package_manager::PROGRAMS;
use super::tools::{Program, argv};

pub use table::{Coming, Going, Resolved, left_out, parse};

/// Metadata may have to be fetched.
const LOOK_DEADLINE: Duration = Duration::from_secs(600);

/// Hundreds of packages over a slow line, or with slow scripts.
const CHANGE_DEADLINE: Duration = Duration::from_secs(2 * 3600);

/// Packages that are kernels or belong to one: an update never touches them.
const KERNELS: [&str; 16] = [
    "kernel",
    "kernel-core",
    "kernel-modules",
    "kernel-modules-core",
    "kernel-modules-extra",
    "kernel-devel",
    "kernel-devel-matched",
    "kernel-uki-virt",
    "kernel-debug*",
    "kernel-rt*",
    "kernel-lt*",
    "kernel-ml*",
    "kernel-PAE*",
    "kernel-uek*",
    "kernel-plus*",
    "kernel-64k*",
];

/// What is to be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Everything that is installed, newer.
    All,
    /// What the repositories call security updates.
    Security,
    /// These, the newest.
    Named(&'a [PackageName]),
    /// What undoes a transaction.
    Undo(u32),
    /// Exactly these packages come.
    Come(Vec<Package>),
    /// Exactly these packages go.
    Go(Vec<Package>),
    /// What a file says: some come and some go.
    Script(&'a str),
}

/// The package manager of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manager {
    program: &'static str,
    is_yum: bool,
}

impl Manager {
    /// dnf, for tests.
    #[cfg(test)]
    pub(crate) const DNF: Self = Self { program: "/usr/bin/dnf", is_yum: false };

    /// yum, for tests.
    #[cfg(test)]
    pub(crate) const YUM: Self = Self { program: "/usr/bin/yum", is_yum: true };

    /// Whether it is yum, which has other files than dnf.
    #[must_use]
    pub const fn is_yum(&self) -> bool {
        self.is_yum
    }

    /// `None` if there is none.
    #[must_use]
    pub fn of(host: &dyn Observe) -> Option<Self> {
        let (name, program) = PROGRAMS.into_iter().find(|(_, program)| host.modified(Path::new(program)).is_ok())?;
        Some(Self { program, is_yum: name == "yum" })
    }

    /// Fetches the repositories' metadata anew. The program may ask whether a repository's metadata is to be trusted with the
    /// key that its own file names, and fails without an answer, now and whenever it is called. Yes is what every transaction
    /// with `-y` says to the same question; what packages must be signed with is asked apart from it, when they come.
    #[must_use]
    pub fn refresh(&self) -> Program {
        let words = if self.is_yum { ["-y", "makecache", "fast"] } else { ["-y", "makecache", "--refresh"] };
        Program::query(argv([self.program].into_iter().chain(words)), LOOK_DEADLINE)
    }

    /// Fetches the metadata of one repository whose file is in a directory apart, and trusts the key that it names. The
    /// answer is remembered under the repository's id and address, wherever its file is.
    #[must_use]
    pub fn try_repository(&self, directory: &str, id: &RepositoryId) -> Program {
        let (apart, only) = (format!("--setopt=reposdir={directory}"), format!("--enablerepo={id}"));
        let mut words = vec![self.program, "-y", &apart, "--disablerepo=*", &only];
        // One that cannot be had is a failure; yum knows that word of repositories alone, where it is not said.
        words.extend(if self.is_yum {
            &["makecache", "fast"]
        } else {
            &["--setopt=skip_if_unavailable=False", "makecache"]
        });
        Program::query(argv(words), LOOK_DEADLINE)
    }

    /// Fetches the repositories' metadata anew and shows what would be done; `None` where only yum is, which has no word for
    /// both. Nobody answers a question about a key here: where one is asked, [`Self::refresh`] comes first.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn look_anew(&self, wanted: &Wanted<'_>, exclude: &[PackageName]) -> Result<Option<Program>, BadAction> {
        if self.is_yum { Ok(None) } else { self.looking(&["--refresh", "--assumeno"], wanted, exclude).map(Some) }
    }

    /// Shows what would be done, asking the repositories.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn look(&self, wanted: &Wanted<'_>, exclude: &[PackageName]) -> Result<Program, BadAction> {
        self.looking(&["--assumeno"], wanted, exclude)
    }

    fn looking(&self, options: &[&str], wanted: &Wanted<'_>, exclude: &[PackageName]) -> Result<Program, BadAction> {
        let excluded = KERNELS.into_iter().chain(exclude.iter().map(PackageName::as_str));
        let excluded: Vec<String> = match wanted {
            Wanted::All | Wanted::Security | Wanted::Named(_) => {
                excluded.map(|name| format!("--exclude={name}")).collect()
            }
            Wanted::Undo(_) | Wanted::Come(_) | Wanted::Go(_) | Wanted::Script(_) => Vec::new(),
        };
        Ok(Program::query(self.argv(options, &excluded, wanted)?, LOOK_DEADLINE).answering(1))
    }

    /// Shows every notice about a package that is installed, whatever its version, from what was fetched for the last look.
    #[must_use]
    pub fn notices(&self) -> Program {
        Program::query(argv([self.program, "-q", "-C", "updateinfo", "list", "all"]), LOOK_DEADLINE)
    }

    /// Shows what installing a kernel would do. It comes beside those that are there.
    #[must_use]
    pub fn look_for_kernel(&self, spec: &str) -> Program {
        Program::query(argv([self.program, "--assumeno", "install", spec]), LOOK_DEADLINE).answering(1)
    }

    /// Fetches the packages, showing what would be done, and changes nothing.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn fetch(&self, wanted: &Wanted<'_>) -> Result<Program, BadAction> {
        let program = Program::query(self.argv(&["-y", "--downloadonly"], &[], wanted)?, CHANGE_DEADLINE);
        Ok(Program { is_shown: true, ..program })
    }

    /// Shows what removing packages would do, asking nobody.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn look_at_removing(&self, packages: &[Package]) -> Result<Program, BadAction> {
        let argv = self.argv(&["-C", "--assumeno"], &[], &Wanted::Go(packages.to_vec()))?;
        Ok(Program::query(argv, LOOK_DEADLINE).answering(1))
    }

    /// Does it, asking nobody.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn act(&self, wanted: &Wanted<'_>) -> Result<Program, BadAction> {
        Ok(Program::change(self.argv(&["-C", "-y"], &[], wanted)?, CHANGE_DEADLINE))
    }

    /// Shows its history, newest first.
    #[must_use]
    pub fn history(&self) -> Program {
        let all = ["all"].into_iter().filter(|_| self.is_yum);
        Program::query(argv([self.program, "-q", "history", "list"].into_iter().chain(all)), LOOK_DEADLINE)
    }

    /// Shows its last transaction; `None` where only yum is, which keeps what it has not finished in files.
    #[must_use]
    pub fn last_transaction(&self) -> Option<Program> {
        let ask = || Program::query(argv([self.program, "-q", "history", "info", "last"]), LOOK_DEADLINE);
        (!self.is_yum).then(ask)
    }

    /// Installs packages that are there once more, so that their files are whole and their scripts have run.
    ///
    /// # Errors
    /// If there are too many packages for one command.
    pub fn reinstall(&self, packages: &[Package]) -> Result<Program, BadAction> {
        let words = [self.program, "-y", "reinstall"].into_iter().map(str::to_owned);
        let argv = Argv::new(words.chain(packages.iter().map(Package::to_string)).collect())?;
        Ok(Program::change(argv, CHANGE_DEADLINE))
    }

    /// What a package that is not installed provides; `None` where only yum is: it cannot be asked.
    #[must_use]
    pub fn provides(&self, package: &Package) -> Option<Program> {
        let words = [self.program, "-q", "-C", "repoquery", "--provides"];
        let asked = argv(words.into_iter().chain([package.to_string().as_str()]));
        (!self.is_yum).then(|| Program::query(asked, LOOK_DEADLINE))
    }

    fn argv(&self, options: &[&str], excluded: &[String], wanted: &Wanted<'_>) -> Result<Argv, BadAction> {
        let mut words: Vec<String> = vec![self.program.to_owned()];
        words.extend(options.iter().map(|&option| option.to_owned()));
        words.extend(excluded.iter().cloned());
        // What is recommended is in the list already, or was not wanted.
        if matches!(wanted, Wanted::Come(_) | Wanted::Script(_)) && !self.is_yum {
            words.push("--setopt=install_weak_deps=False".to_owned());
        }
        let specs = |packages: &[Package]| packages.iter().map(Package::to_string).collect::<Vec<_>>();
        let (verbs, specs): (&[&str], _) = match wanted {
            Wanted::All => (&["upgrade"], Vec::new()),
            Wanted::Security => (&["--security", "upgrade"], Vec::new()),
            Wanted::Named(names) => (&["install"], names.iter().map(|name| name.as_str().to_owned()).collect()),
            Wanted::Undo(number) => (&["history", "undo"], vec![number.to_string()]),
            Wanted::Come(packages) => (&["install"], specs(packages)),
            Wanted::Go(packages) => (&["remove"], specs(packages)),
            Wanted::Script(path) => (&["shell"], vec![(*path).to_owned()]),
        };
        words.extend(verbs.iter().map(|&verb| verb.to_owned()));
        words.extend(specs);
        Argv::new(words)
    }
}

/// Whether a package is a kernel or belongs to one.
#[must_use]
pub fn is_kernel(name: &PackageName) -> bool {
    let name = name.as_str();
    KERNELS.iter().any(|kernel| kernel.strip_suffix('*').map_or(name == *kernel, |start| name.starts_with(start)))
}

/// Whether there is a notice of the distribution's own in what [`Manager::notices`] shows: its id, its kind, and the package
/// that it is about. Others, such as EPEL, have notices also where the distribution has none; so one about a package counts
/// that only the distribution brings.
#[must_use]
pub fn has_notice(text: &str) -> bool {
    let is_of_distribution = |word: &str| {
        let name = word.rsplitn(3, '-').nth(2).filter(|_| word.contains('.'));
        name.is_some_and(|name| name.starts_with("kernel") || CORE.contains(&name))
    };
    let mut last_words = text.lines().filter(|line| line.split_whitespace().count() >= 3);
    last_words.any(|line| line.split_whitespace().last().is_some_and(is_of_distribution))
}

/// Whether dnf says that it goes on without a repository.
#[must_use]
pub fn ignores_repositories(stderr: &str) -> bool {
    stderr.contains("Ignoring repositories")
}

/// What a file for `shell` says. A version that goes back has its own word in yum, and only there.
#[must_use]
pub fn script(come: &[Package], back: &[Package], go: &[Package]) -> String {
    let line = |verb: &str, packages: &[Package]| {
        let packages: Vec<String> = packages.iter().map(Package::to_string).collect();
        if packages.is_empty() { String::new() } else { format!("{verb} {}\n", packages.join(" ")) }
    };
    format!("{}{}{}run\nexit\n", line("remove", go), line("downgrade", back), line("install", come))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn shown(program: &Program) -> String {
        program.argv.to_string()
    }

    #[test]
    fn an_update_never_touches_a_kernel_and_a_pinned_transaction_asks_nobody() {
        let manager = Manager::of(&FakeHost::new("node1")).unwrap();
        let held = [PackageName::new("docker-ce").unwrap()];
        let look = shown(&manager.look(&Wanted::Security, &held).unwrap());
        let anew = shown(&manager.look_anew(&Wanted::Security, &held).unwrap().unwrap());
        assert_eq!(anew, look.replace("--assumeno", "--refresh --assumeno"));
        assert!(look.starts_with("/usr/bin/dnf --assumeno --exclude=kernel --exclude=kernel-core"), "{look}");
        assert!(look.ends_with("--exclude=docker-ce --security upgrade"), "{look}");
        let package = Package {
            name: PackageName::new("bash").unwrap(),
            version: "5.2-1".parse().unwrap(),
            arch: "x86_64".parse().unwrap(),
        };
        let act = shown(&manager.act(&Wanted::Come(vec![package.clone()])).unwrap());
        assert_eq!(act, "/usr/bin/dnf -C -y --setopt=install_weak_deps=False install bash-5.2-1.x86_64");
        assert_eq!(
            script(std::slice::from_ref(&package), &[], std::slice::from_ref(&package)),
            "remove bash-5.2-1.x86_64\ninstall bash-5.2-1.x86_64\nrun\nexit\n"
        );
    }

    #[test]
    fn a_notice_is_told_from_other_lines() {
        // As dnf 4 and yum 3 print them.
        for line in [
            "RHSA-2024:2679 Important/Sec. openssl-libs-1:3.0.7-28.el9_4.x86_64\n",
            "i ALSA-2024:3835  Moderate/Sec.  kernel-core-4.18.0-553.el8_10.x86_64\n",
        ] {
            assert!(has_notice(line), "{line}");
        }
        // EPEL has notices also where the distribution has none.
        assert!(!has_notice("FEDORA-EPEL-2023-1 bugfix      htop-3.2.2-1.el7.x86_64\n"));
        for line in ["", "\n", "updateinfo list done\n", "Last metadata expiration check: 0:01:02 ago on Mon.\n"] {
            assert!(!has_notice(line), "{line}");
        }
    }

    #[test]
    fn yum_is_asked_in_its_own_words() {
        let host = FakeHost::new("node1");
        host.change(|node| node.package_manager.name = "yum".into());
        let manager = Manager::of(&host).unwrap();
        assert_eq!(shown(&manager.refresh()), "/usr/bin/yum -y makecache fast");
        let tried = shown(&manager.try_repository("/run/a", &RepositoryId::new("lab").unwrap()));
        assert!(tried.ends_with(" --enablerepo=lab makecache fast"), "{tried}");
        assert_eq!(shown(&manager.act(&Wanted::All).unwrap()), "/usr/bin/yum -C -y upgrade");
        assert_eq!(manager.look_anew(&Wanted::All, &[]).unwrap(), None);
    }
}
