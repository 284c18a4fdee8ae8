// SPDX-License-Identifier: Apache-2.0
//! Clusters of nodes that are there already, to be applied.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::unistd::{Group, User, getegid, geteuid};

use crate::ours::Caller;
use crate::process::run;

/// The beginning of a spec: a policy under which all nodes may be at work at once, and the nodes.
pub(crate) fn head(nodes: usize, prefix: &str) -> String {
    let mut text = String::from("apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: bench}\nspec:\n");
    text.push_str("  provider: {existing: {}}\n  policy: {parallel: 1000}\n  nodes:\n");
    for node in 0..nodes {
        text.push_str(&format!("    - {{name: {prefix}{node}}}\n"));
    }
    text
}

/// Applies a spec.
///
/// # Errors
/// If it fails.
pub(crate) fn apply(caller: &Caller, spec: &Path) -> Result<Applied> {
    let said = run(caller.windlass(&["apply", "--yes", "-f"]).arg(spec))?;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    Ok(Applied { is_as_wished: said.contains(": nothing to do"), said })
}

/// What `windlass apply` found.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Every node was asked, and has all that is wished for.
    pub(crate) is_as_wished: bool,
    /// What it said.
    pub(crate) said: String,
}

/// A spec with this many files on each node. Every agent has its own, although all share a file system: their path leads
/// through the working directory of each.
#[derive(Debug)]
pub(crate) struct Files {
    /// Where the spec is written to.
    pub(crate) spec: PathBuf,
    /// Files of each node.
    pub(crate) count: usize,
}

impl Files {
    /// Writes the spec.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn write(&self, nodes: usize, content: &str) -> Result<()> {
        let user = User::from_uid(geteuid())?.context("this user has no name")?.name;
        let group = Group::from_gid(getegid())?.context("this group has no name")?.name;
        let mut text = head(nodes, "node") + "  settings:\n    files:\n";
        for (name, content) in self.contents(content) {
            let path = format!("/proc/self/cwd/settings/{name}");
            writeln!(text, "      - {{path: {path}, content: \"{content}\\n\", owner: {user}, group: {group}}}")?;
        }
        fs::write(&self.spec, text).with_context(|| format!("write {}", self.spec.display()))
    }

    /// Names and contents; each differs from the others.
    pub(crate) fn contents(&self, content: &str) -> Vec<(String, String)> {
        (0..self.count).map(|file| (format!("file{file:02}"), format!("{content}, file {file}"))).collect()
    }

    /// Applies it.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) fn apply(&self, caller: &Caller) -> Result<()> {
        apply(caller, &self.spec).map(drop)
    }
}
