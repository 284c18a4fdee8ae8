// SPDX-License-Identifier: Apache-2.0
//! The borders of ARCHITECTURE.md and the habits of CONTRIBUTING.md, checked against the tree.
//!
//! Which crate may know which is read from the manifests, through cargo itself. The rest is read from the files. A rule
//! that a compiler lint can hold is not repeated here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// A file longer than this is read by nobody in one go.
const MOST_LINES: usize = 500;

/// A file longer than this says at its head what it is for.
const LINES_WITHOUT_INTRODUCTION: usize = 100;

/// Second TLS stacks, and crates nobody keeps any more. `ring` is not here because Cargo.lock names it although no feature
/// builds it; deny.toml, which knows features, bans it.
const BANNED: &[&str] = &["native-tls", "openssl", "openssl-sys", "serde_yaml", "yaml-rust"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn workspace() -> Result<Metadata> {
    Ok(MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec()?)
}

/// The normal dependencies of a crate, as its manifest has them.
fn dependencies<'a>(workspace: &'a Metadata, krate: &str) -> Result<BTreeSet<&'a str>> {
    let package = workspace.packages.iter().find(|package| package.name == krate).context("no such crate")?;
    let normal = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
    Ok(normal.map(|dependency| dependency.name.as_str()).collect())
}

/// Every crate of the workspace that `krate` can see, through others too.
fn reaches(workspace: &Metadata, krate: &str) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let mut open = vec![krate.to_owned()];
    while let Some(next) = open.pop() {
        for name in dependencies(workspace, &next)? {
            if workspace.packages.iter().any(|package| package.name == name) && seen.insert(name.to_owned()) {
                open.push(name.to_owned());
            }
        }
    }
    Ok(seen)
}

fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.')
}

/// Every file of ours with this extension, with its text.
fn files(extension: &str) -> Result<Vec<(PathBuf, String)>> {
    let (mut found, mut open) = (Vec::new(), vec![root()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if is_ours(&path) {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                found.push((path, text));
            }
        }
    }
    Ok(found)
}

/// Names of the files of ours with this extension for which `breaks` holds.
fn breaking(extension: &str, breaks: impl Fn(&Path, &str) -> bool) -> Result<Vec<PathBuf>> {
    let all = files(extension)?;
    anyhow::ensure!(!all.is_empty(), "no .{extension} file was found: the search is broken");
    Ok(all.into_iter().filter(|(path, text)| breaks(path, text)).map(|(path, _)| path).collect())
}

fn has_line(text: &str, starts: &[&str]) -> bool {
    text.lines().any(|line| starts.iter().any(|start| line.trim_start().starts_with(start)))
}

#[test]
fn types_depends_on_serde_and_thiserror_only() -> Result<()> {
    assert_eq!(dependencies(&workspace()?, "windlass-types")?, BTreeSet::from(["serde", "thiserror"]));
    Ok(())
}

#[test]
fn decisions_are_made_without_io() -> Result<()> {
    let workspace = workspace()?;
    let allowed = BTreeSet::from(["windlass-types", "serde", "serde_json", "thiserror", "jiff", "aws-lc-rs"]);
    assert_eq!(dependencies(&workspace, "windlass-plan")?, allowed);
    assert_eq!(reaches(&workspace, "windlass-plan")?, BTreeSet::from(["windlass-types".to_owned()]));
    let doors = ["std::fs", "std::net", "std::process", "std::env", "std::thread", "std::time", "async fn"];
    let is_tested = |path: &Path| path.ends_with("goldens.rs");
    let opens = |path: &Path, text: &str| {
        path.starts_with(root().join("controller/plan/src"))
            && !is_tested(path)
            && doors.iter().any(|door| text.contains(door))
    };
    assert_eq!(breaking("rs", opens)?, [] as [PathBuf; 0]);
    Ok(())
}

#[test]
fn agent_and_controller_never_see_each_other() -> Result<()> {
    let workspace = workspace()?;
    assert!(!reaches(&workspace, "windlass-agent")?.contains("windlass-controller"));
    assert!(!reaches(&workspace, "windlass-controller")?.contains("windlass-agent"));
    Ok(())
}

#[test]
fn the_contract_sees_only_the_words() -> Result<()> {
    assert_eq!(reaches(&workspace()?, "windlass-proto")?, BTreeSet::from(["windlass-types".to_owned()]));
    Ok(())
}

#[test]
fn nothing_depends_on_the_tests() -> Result<()> {
    let workspace = workspace()?;
    for package in &workspace.packages {
        assert!(package.dependencies.iter().all(|d| d.name != "windlass-tests"), "{}", package.name);
    }
    Ok(())
}

#[test]
fn every_crate_inherits_the_lints() -> Result<()> {
    for package in workspace()?.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has its own lints or none", package.name);
    }
    Ok(())
}

#[test]
fn there_is_one_tls_stack_and_no_abandoned_crate() -> Result<()> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    for banned in BANNED {
        assert!(!lock.contains(&format!("name = \"{banned}\"\n")), "{banned} is in Cargo.lock");
    }
    Ok(())
}

#[test]
fn every_source_file_names_its_licence_first() -> Result<()> {
    let licence =
        |comment: &str, text: &str| text.starts_with(&format!("{comment} SPDX-License-Identifier: Apache-2.0\n"));
    assert_eq!(breaking("rs", |_, text| !licence("//", text))?, [] as [PathBuf; 0]);
    assert_eq!(breaking("proto", |_, text| !licence("//", text))?, [] as [PathBuf; 0]);
    for extension in ["service", "socket"] {
        assert_eq!(breaking(extension, |_, text| !licence("#", text))?, [] as [PathBuf; 0]);
    }
    Ok(())
}

#[test]
fn a_module_with_children_stands_beside_its_folder() -> Result<()> {
    assert_eq!(breaking("rs", |path, _| path.ends_with("mod.rs"))?, [] as [PathBuf; 0]);
    Ok(())
}

#[test]
fn no_file_is_too_long_to_read() -> Result<()> {
    assert_eq!(breaking("rs", |_, text| text.lines().count() > MOST_LINES)?, [] as [PathBuf; 0]);
    Ok(())
}

#[test]
fn every_longer_file_says_what_it_is_for() -> Result<()> {
    let long = |text: &str| text.lines().count() > LINES_WITHOUT_INTRODUCTION;
    assert_eq!(breaking("rs", |_, text| long(text) && !has_line(text, &["//! "]))?, [] as [PathBuf; 0]);
    Ok(())
}

#[test]
fn no_lint_is_silenced_and_no_test_is_skipped() -> Result<()> {
    let silencers = ["#[allow(", "#![allow(", "#[ignore", "#[cfg(any())]"];
    assert_eq!(breaking("rs", |_, text| has_line(text, &silencers))?, [] as [PathBuf; 0]);
    Ok(())
}
