// SPDX-License-Identifier: Apache-2.0
//! rpm and dnf on the model: as little of them as steps need, but with repositories that change, packages that need
//! others, and power that goes in the middle of a transaction.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use windlass_types::action::Argv;
use windlass_types::name::on_node::PackageVersion;

use super::{Node, Scripted, history};
use crate::host::rpm_version::compare;

/// A package of the model, installed or in its repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPackage {
    /// Name.
    pub name: String,
    /// Version and release.
    pub version: String,
    /// Architecture.
    pub arch: String,
    /// The kernel release that it says it brings.
    pub provides_release: Option<String>,
    /// It needs the newest of these, or exactly that if it is a full name.
    pub needs: Vec<String>,
    /// When it was installed, seconds since the epoch.
    pub at: i64,
    /// Its repository has a notice that says it mends security.
    pub is_security: bool,
}

impl ModelPackage {
    /// A package without needs.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        let (name, version, arch) = (name.to_owned(), version.to_owned(), "x86_64".to_owned());
        Self { name, version, arch, ..Self::default() }
    }

    /// Name, version and architecture in one.
    #[must_use]
    pub fn full(&self) -> String {
        format!("{}-{}.{}", self.name, self.version, self.arch)
    }

    fn release(&self) -> String {
        self.provides_release.clone().unwrap_or_else(|| format!("{}.{}", self.version, self.arch))
    }

    fn is_kernel(&self) -> bool {
        self.name.starts_with("kernel")
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        let version = |package: &Self| PackageVersion::new(package.version.as_str()).expect("a version");
        compare(&version(self), &version(other)).is_gt()
    }
}

#[derive(Default)]
struct Plan {
    come: Vec<ModelPackage>,
    go: Vec<ModelPackage>,
}

pub(super) type Answer = (Scripted, Vec<String>);

pub(super) fn says(exit_code: i32, stdout: impl Into<String>) -> Answer {
    (Scripted { exit_code, stdout: stdout.into() }, Vec::new())
}

fn line(p: &ModelPackage) -> String {
    format!("{}\t0:{}\t{}\t{}\n", p.name, p.version, p.arch, p.at)
}

/// What rpm says of packages asked for by name.
pub(super) fn by_name(node: &Node, names: &[&str]) -> String {
    let of_name = |name: &&str| {
        let found: String = node.packages.iter().filter(|p| p.name == **name).map(line).collect();
        if found.is_empty() { format!("package {name} is not installed\n") } else { found }
    };
    names.iter().map(of_name).collect()
}

pub(super) fn rpm(node: &mut Node, arguments: &[&str]) -> Option<Answer> {
    if node.database_is_broken {
        if let ["--rebuilddb"] = arguments {
            node.database_is_broken = false;
            return Some((Scripted::default(), vec!["rebuild the database".to_owned()]));
        }
        return Some(says(1, "error: cannot open Packages database in /var/lib/rpm"));
    }
    match arguments {
        ["-qa", ..] => Some(says(0, node.packages.iter().map(line).collect::<String>())),
        ["-qf", "--qf", _, paths @ ..] => {
            let owner = |path: &&str| {
                let file = path.rsplit('/').next().unwrap_or_default();
                let kernel = file.strip_prefix("vmlinuz-").unwrap_or("-");
                let unit = file.strip_suffix(".service").unwrap_or("-").trim_end_matches('@');
                let owns = |p: &&ModelPackage| p.name == unit || (p.is_kernel() && p.release() == kernel);
                let owner = node.packages.iter().find(owns);
                owner.map_or_else(|| format!("file {path} is not owned by any package\n"), line)
            };
            Some(says(0, paths.iter().map(owner).collect::<String>()))
        }
        ["-V", .., package] => Some(match node.damaged.iter().any(|damaged| damaged == package) {
            true => says(1, "S.5......    /boot/vmlinuz-x\n"),
            false => says(0, ""),
        }),
        ["-q", "--provides", package] => Some(says(0, provides(&node.packages, package))),
        ["-e", "--nodeps", gone @ ..] => {
            let effects = gone.iter().map(|package| format!("erase {package}")).collect();
            node.packages.retain(|package| !gone.contains(&package.full().as_str()));
            node.damaged.retain(|package| !gone.contains(&package.as_str()));
            Some((Scripted::default(), effects))
        }
        _ => None,
    }
}

fn provides(packages: &[ModelPackage], full: &str) -> String {
    let package = packages.iter().find(|package| package.full() == full);
    let release = package.and_then(|package| package.provides_release.as_ref());
    release.map(|release| format!("kernel-uname-r = {release}\n")).unwrap_or_default()
}

pub(super) fn dnf(node: &mut Node, arguments: &[&str]) -> Option<Answer> {
    if node.database_is_broken {
        return Some(says(1, "Error: Could not run transaction: rpmdb open failed"));
    }
    let (options, words): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|word| word.starts_with('-'));
    if node.repositories_are_down && options.contains(&"--downloadonly") {
        return Some(says(1, "Error: Error downloading packages:\n  Status code: 503 for http://mirror/words.rpm"));
    }
    if node.repositories_are_down && options.contains(&"--refresh") {
        return Some(says(1, "Error: Failed to download metadata for repo 'baseos'\n"));
    }
    let excluded: Vec<&str> = options.iter().filter_map(|option| option.strip_prefix("--exclude=")).collect();
    let asks_repositories = !options.contains(&"-C") && words.first() != Some(&"history");
    if let Some(refused) = untrusted(node, &options).filter(|_| asks_repositories) {
        return Some(says(1, refused));
    }
    let plan = match words.as_slice() {
        ["makecache"] => return Some(says(0, "")),
        ["history", "list"] => return Some((history::list(node), Vec::new())),
        ["history", "info", "last"] => return Some((history::last(node), Vec::new())),
        ["history", "undo", number] => match way_back(node, number) {
            Ok(plan) => plan,
            Err(why) => return Some(says(1, why)),
        },
        ["reinstall", specs @ ..] => return Some(reinstall(node, specs)),
        ["shell", path] => scripted(node, path)?,
        ["repoquery", package] => return Some(says(0, provides(&node.repository, package))),
        ["updateinfo", "list", "all"] => return Some(says(0, notices(node))),
        ["upgrade"] => newer(node, &excluded, options.contains(&"--security")),
        ["install", specs @ ..] => match coming(node, specs) {
            Ok(plan) => plan,
            Err(spec) => {
                let text = format!("No match for argument: {spec}\nError: Unable to find a match: {spec}\n");
                return Some(says(1, text));
            }
        },
        ["remove", specs @ ..] => {
            let goes = |p: &&ModelPackage| {
                let needs_one = p.needs.iter().any(|need| specs.contains(&need.as_str()));
                needs_one || specs.contains(&p.full().as_str())
            };
            Plan { go: node.packages.iter().filter(goes).cloned().collect(), come: Vec::new() }
        }
        _ => return None,
    };
    if plan.come.is_empty() && plan.go.is_empty() {
        return Some(says(0, "Dependencies resolved.\nNothing to do.\nComplete!\n"));
    }
    let table = table(node, &plan);
    if options.contains(&"--assumeno") {
        return Some(says(1, format!("{table}Operation aborted.\n")));
    }
    if options.contains(&"--downloadonly") {
        node.packages.extend(node.comes_meanwhile.take());
        return Some(says(0, table));
    }
    let exit_code = i32::from(node.transactions_fail);
    Some((Scripted { exit_code, stdout: table }, carry_out(node, plan)))
}

/// What dnf says beside its answer.
pub(super) fn complaint(node: &Node, argv: &Argv) -> String {
    let asks_repositories = argv.as_slice().iter().all(|word| word != "-C" && word != "history");
    let is_heard = node.repository_is_skipped && asks_repositories && argv.as_slice()[0].ends_with("/dnf");
    if is_heard { "Ignoring repositories: extras\n".to_owned() } else { String::new() }
}

/// What it says where a repository's metadata is signed and nobody answers whether its key is trusted.
fn untrusted(node: &mut Node, options: &[&str]) -> Option<String> {
    let directory = options.iter().find_map(|option| option.strip_prefix("--setopt=reposdir="));
    let directory = PathBuf::from(directory.unwrap_or("/etc/yum.repos.d"));
    for (path, text) in node.all_files() {
        if path.parent() != Some(&directory) || !text.contains("repo_gpgcheck=1") {
            continue;
        }
        let id = path.file_stem()?.to_string_lossy().into_owned();
        if options.contains(&"-y") {
            node.trusted.insert(id);
        } else if !node.trusted.contains(&id) {
            return Some(format!(
                "Error: Failed to download metadata for repo '{id}': repomd.xml GPG signature verification error: Signing \
                 key not found\n"
            ));
        }
    }
    None
}

/// What undoes a transaction: what went comes again, and what came goes.
fn way_back(node: &Node, number: &str) -> Result<Plan, String> {
    let at: usize = number.parse().map_err(|_| format!("Error: {number} is no number\n"))?;
    let past = at.checked_sub(1).and_then(|at| node.history.get(at));
    let past = past.ok_or_else(|| format!("Error: Transaction ID \"{number}\" not found.\n"))?;
    let is_there = |package: &&ModelPackage| node.packages.iter().any(|p| p.full() == package.full());
    let mut plan = Plan::default();
    for came in past.come.iter().filter(is_there) {
        match past.go.iter().find(|old| old.name == came.name) {
            None => plan.go.push(came.clone()),
            Some(old) => {
                let found = node.repository.iter().find(|p| p.full() == old.full());
                plan.come.push(found.ok_or_else(|| format!("Error: No match for {}\n", old.full()))?.clone());
            }
        }
    }
    Ok(plan)
}

fn reinstall(node: &mut Node, specs: &[&str]) -> Answer {
    if let Some(gone) = specs.iter().find(|spec| !node.repository.iter().any(|p| p.full() == **spec)) {
        return says(
            1,
            format!("Installed package {gone} (from model) not available.\nError: Nothing to reinstall.\n"),
        );
    }
    let again: Vec<_> = node.packages.iter().filter(|p| specs.contains(&p.full().as_str())).cloned().collect();
    history::begin(node, again.clone(), again.clone());
    for kernel in again.iter().filter(|package| package.is_kernel()) {
        node.run_scripts_of(kernel.release(), false);
    }
    history::end(node);
    (Scripted::default(), specs.iter().map(|spec| format!("reinstall {spec}")).collect())
}

/// What a file says: what goes, what goes back, what comes.
fn scripted(node: &Node, path: &str) -> Option<Plan> {
    let text = node.all_files().remove(std::path::Path::new(path))?;
    let mut plan = Plan::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (verb, specs) = (words.next()?, words.collect::<Vec<_>>());
        let of = |packages: &[ModelPackage]| -> Vec<ModelPackage> {
            packages.iter().filter(|p| specs.contains(&p.full().as_str())).cloned().collect()
        };
        match verb {
            "remove" => plan.go.extend(of(&node.packages)),
            "downgrade" | "install" => plan.come.extend(of(&node.repository)),
            _ => {}
        }
    }
    plan.come.sort_by_key(ModelPackage::full);
    Some(plan)
}

/// The newest of each installed package, or the newest that mends its security.
fn newer(node: &Node, excluded: &[&str], only_security: bool) -> Plan {
    let is_held =
        |name: &str| excluded.iter().any(|e| *e == name || e.strip_suffix('*').is_some_and(|p| name.starts_with(p)));
    let wanted = node.packages.iter().filter(|p| !is_held(&p.name));
    let newer = |old: &ModelPackage| {
        let of_name = node.repository.iter().filter(|p| p.name == old.name && (p.is_security || !only_security));
        of_name.filter(|p| p.is_newer_than(old)).reduce(|a, b| if b.is_newer_than(a) { b } else { a })
    };
    let specs: Vec<String> = wanted.filter_map(newer).map(ModelPackage::full).collect();
    coming(node, &specs.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default()
}

/// What the repository says about packages of which one is installed.
fn notices(node: &Node) -> String {
    let is_there = |package: &&ModelPackage| node.packages.iter().any(|p| p.name == package.name);
    let about = node.repository.iter().filter(|package| package.is_security).filter(is_there);
    let of_distribution =
        about.clone().next().map(|_| "MODEL-2026:0 Important/Sec. glibc-2.34-100.el9.x86_64\n".to_owned());
    let lines = about.map(|package| format!("MODEL-2026:1 Important/Sec. {}\n", package.full()));
    of_distribution.into_iter().chain(lines).collect()
}

fn newest<'a>(node: &'a Node, name: &str) -> Option<&'a ModelPackage> {
    let of_name = node.repository.iter().filter(|package| package.name == name);
    of_name.reduce(|a, b| if b.is_newer_than(a) { b } else { a })
}

fn coming(node: &Node, specs: &[&str]) -> Result<Plan, String> {
    let mut plan = Plan::default();
    let mut open: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
    while let Some(spec) = open.pop() {
        let found = node.repository.iter().find(|p| p.full() == spec).or_else(|| newest(node, &spec)).ok_or(spec)?;
        let is_known = node.packages.iter().chain(&plan.come).any(|p| p.full() == found.full());
        if is_known {
            continue;
        }
        plan.come.push(found.clone());
        // What it needs comes in its newest version, unless a version was asked for.
        open.extend(
            found.needs.iter().filter(|need| !specs.iter().any(|s| s.starts_with(&format!("{need}-")))).cloned(),
        );
    }
    plan.come.sort_by_key(ModelPackage::full);
    Ok(plan)
}

fn table(node: &Node, plan: &Plan) -> String {
    let rule = "=".repeat(80);
    let mut text = format!("Dependencies resolved.\n{rule}\n Package  Arch  Version  Repository  Size\n{rule}\n");
    let replaces = |p: &&ModelPackage| !p.is_kernel() && node.packages.iter().any(|i| i.name == p.name);
    let (again, new): (Vec<_>, Vec<_>) = plan.come.iter().partition(replaces);
    for (heading, packages) in [("Installing:", new), ("Upgrading:", again), ("Removing:", plan.go.iter().collect())] {
        if !packages.is_empty() {
            let _ = writeln!(text, "{heading}");
        }
        for ModelPackage { name, version, arch, .. } in packages {
            let _ = writeln!(text, " {name}  {arch}  {version}  model  7.0 k");
        }
    }
    text + "\nTransaction Summary\n" + &rule + "\nTotal download size: 13 k\n"
}

/// All that come, then all that go, as rpm does it; perhaps the power goes in between.
fn carry_out(node: &mut Node, plan: Plan) -> Vec<String> {
    let mut effects = Vec::new();
    let Plan { come, mut go } = plan;
    let replaced = |old: &&ModelPackage| come.iter().any(|new| new.name == old.name && !new.is_kernel());
    let goes = node.packages.iter().filter(replaced).chain(&go).cloned().collect();
    history::begin(node, come.clone(), goes);
    for new in &come {
        if node.power_fails_after.take_if(|left| *left == 0).is_some() {
            super::programs::boot(node);
            return effects;
        }
        node.power_fails_after = node.power_fails_after.map(|left| left.saturating_sub(1));
        effects.push(format!("install {}", new.full()));
        if !new.is_kernel() {
            go.extend(node.packages.iter().filter(|old| old.name == new.name).cloned());
        } else {
            node.run_scripts_of(new.release(), node.power_fails_after.is_some());
        }
        node.packages.push(ModelPackage { at: node.now.0 / 1000, ..new.clone() });
    }
    if node.power_fails_after.take().is_some() {
        super::programs::boot(node);
        return effects;
    }
    effects.extend(go.iter().map(|old| format!("remove {}", old.full())));
    node.packages.retain(|package| !go.contains(package));
    node.kernels.retain(|kernel| !go.iter().any(|p| p.is_kernel() && p.release() == *kernel));
    node.packages.sort_by_key(ModelPackage::full);
    history::end(node);
    effects
}
