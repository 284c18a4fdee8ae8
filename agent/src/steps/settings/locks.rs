// SPDX-License-Identifier: Apache-2.0
//! Packages that stay as they are, whoever calls the package manager: a line of its own configuration, dnf.conf(5) and
//! yum.conf(5), that excludes them. The line is ours, with a remark above it; one of the site is left alone and named.

use std::io;
use std::path::{Path, PathBuf};

use windlass_types::name::on_node::PackageName;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due, file};
use crate::host::dnf::Manager;

const REMARK: &str = "# Written by Windlass: packages.locked of the cluster's spec.";

/// Both names of the setting, for either program.
const KEYS: [&str; 2] = ["excludepkgs", "exclude"];

/// A configuration with the line of the site that is in the way.
#[derive(Debug, PartialEq, Eq)]
struct Foreign(String);

pub(super) fn look(here: &Here<'_>, names: &[PackageName]) -> Result<Found<SettingDue>, StepError> {
    let Some(manager) = Manager::of(here.host) else {
        return Ok(blocked("there is no package manager that could lock packages", "install dnf or yum first"));
    };
    let (path, text) = configuration(here, manager)?;
    match locking(&text, manager, names) {
        Err(Foreign(line)) => Ok(blocked(
            format!("{} excludes packages already: {line}", path.display()),
            "name these packages in packages.locked and remove that line",
        )),
        Ok(wished) if wished == text => Ok(Found::AsWished),
        Ok(wished) => {
            let diff = similar::TextDiff::from_lines(&text, &wished);
            let name = path.display().to_string();
            let changes = diff.unified_diff().context_radius(0).header(&name, &name).to_string();
            Ok(due(text.as_bytes(), changes.lines().map(str::to_owned).collect()))
        }
    }
}

pub(super) async fn apply(here: &Here<'_>, names: &[PackageName]) -> Result<(), StepError> {
    let (path, text) = configuration(here, here.manager()?)?;
    let wished = locking(&text, here.manager()?, names).map_err(|Foreign(line)| {
        StepError::blocked(format!("{} excludes packages already: {line}", path.display()), "plan again")
    })?;
    // The password of a proxy may be in it, which not everybody may read.
    file::rewrite(here, &path, &wished).await
}

/// One that cannot be read is never taken for an empty one: it would be written over.
fn configuration(here: &Here<'_>, manager: Manager) -> Result<(PathBuf, String), StepError> {
    let path = Path::new(if manager.is_yum() { "/etc/yum.conf" } else { "/etc/dnf/dnf.conf" });
    match here.host.read(path) {
        Ok(text) => Ok((path.to_owned(), text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), String::new())),
        Err(error) => Err(StepError::file("read", path)(error)),
    }
}

/// The same configuration with exactly these packages locked.
fn locking(text: &str, manager: Manager, names: &[PackageName]) -> Result<String, Foreign> {
    let mut lines: Vec<&str> = text.lines().collect();
    if let Some(at) = lines.iter().position(|line| *line == REMARK) {
        let has_ours = lines.get(at + 1).is_some_and(|line| is_exclusion(line));
        lines.drain(at..=at + usize::from(has_ours));
    }
    if let Some(line) = foreign(&lines) {
        return Err(Foreign(line.trim().to_owned()));
    }
    let mut locked = lines.join("\n");
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(PackageName::as_str).collect();
        let key = if manager.is_yum() { KEYS[1] } else { KEYS[0] };
        let ours = format!("{REMARK}\n{key}={}", names.join(" "));
        let at = lines.iter().position(|line| line.trim() == "[main]");
        locked = match at {
            Some(at) => [&lines[..=at], &[ours.as_str()], &lines[at + 1..]].concat().join("\n"),
            None => format!("[main]\n{ours}\n{locked}"),
        };
    }
    if !locked.is_empty() && !locked.ends_with('\n') {
        locked.push('\n');
    }
    Ok(locked)
}

/// A line in the main section that excludes packages.
fn foreign<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let main = lines.iter().skip_while(|line| line.trim() != "[main]").skip(1);
    let mut main = main.take_while(|line| !line.starts_with('['));
    main.find(|line| is_exclusion(line)).copied()
}

fn is_exclusion(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| KEYS.contains(&key.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<PackageName> {
        names.iter().map(|name| PackageName::new(*name).unwrap()).collect()
    }

    #[test]
    fn the_line_comes_changes_and_goes_and_everything_else_stays() {
        let site = "[main]\ngpgcheck=1\n\n[extra]\nexclude=a\n";
        let locked = locking(site, Manager::DNF, &names(&["kubelet", "docker-ce"])).unwrap();
        assert_eq!(
            locked,
            format!("[main]\n{REMARK}\nexcludepkgs=kubelet docker-ce\ngpgcheck=1\n\n[extra]\nexclude=a\n")
        );
        let fewer = locking(&locked, Manager::DNF, &names(&["kubelet"])).unwrap();
        assert!(fewer.contains("excludepkgs=kubelet\n"), "{fewer}");
        assert_eq!(locking(&fewer, Manager::DNF, &[]).unwrap(), site);
        assert_eq!(locking("", Manager::YUM, &names(&["a"])).unwrap(), format!("[main]\n{REMARK}\nexclude=a\n"));
        assert_eq!(locking("", Manager::YUM, &[]).unwrap(), "");
        let torn = format!("[main]\n{REMARK}\ngpgcheck=1\n");
        assert_eq!(locking(&torn, Manager::DNF, &[]).unwrap(), "[main]\ngpgcheck=1\n", "somebody removed our line");
    }

    #[test]
    fn what_the_site_excludes_is_left_alone() {
        for line in ["exclude = kernel*", "excludepkgs=a"] {
            let text = format!("[main]\n{line}\n");
            assert_eq!(locking(&text, Manager::DNF, &names(&["b"])), Err(Foreign(line.to_owned())));
        }
    }
}
