// SPDX-License-Identifier: Apache-2.0
//! What dnf and yum remember on the model: its transactions, also one in which the power failed.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::packages::ModelPackage;
use super::{Node, Scripted};
use crate::host::dnf::history::LOCKS;

/// The number of a dnf that is not there any more.
const NOBODY: &str = "4242";

/// A transaction of the model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelTransaction {
    /// What came, or was to come.
    pub come: Vec<ModelPackage>,
    /// What went, or was to go.
    pub go: Vec<ModelPackage>,
    /// It came to its end.
    pub is_whole: bool,
}

pub(super) fn begin(node: &mut Node, come: Vec<ModelPackage>, go: Vec<ModelPackage>) {
    node.history.push(ModelTransaction { come, go, is_whole: false });
    for path in traces(node) {
        node.files.insert(path.into(), NOBODY.to_owned());
    }
}

/// What is there from the begin of a transaction to its end.
fn traces(node: &Node) -> &'static [&'static str] {
    match node.package_manager.name.as_str() {
        "yum" => {
            &["/var/lib/yum/transaction-all.2026-01-01.00:00.00", "/var/lib/yum/transaction-done.2026-01-01.00:00.00"]
        }
        _ => &[LOCKS[0]],
    }
}

pub(super) fn end(node: &mut Node) {
    if let Some(last) = node.history.last_mut() {
        last.is_whole = true;
    }
    for path in traces(node) {
        node.files.remove(std::path::Path::new(path));
    }
}

/// Number, packages and whether it came to its end, the newest first.
pub(super) fn told(node: &Node) -> impl Iterator<Item = (usize, usize, bool)> {
    let past = node.history.iter().enumerate().rev();
    past.map(|(at, past)| (at + 1, past.come.len().max(past.go.len()), past.is_whole))
}

pub(super) fn list(node: &Node) -> Scripted {
    let mut text = String::from("ID     | Command line | Date and time    | Action(s) | Altered\n");
    text.push_str(&"-".repeat(79));
    for (number, count, is_whole) in told(node) {
        let mark = if is_whole { "" } else { "##" };
        let _ = write!(text, "\n {number:>5} | upgrade      | 2026-01-01 00:00 | Upgrade   | {count:>4} {mark}");
    }
    text.push('\n');
    Scripted { exit_code: 0, stdout: text }
}

pub(super) fn last(node: &Node) -> Scripted {
    let Some(past) = node.history.last() else {
        return Scripted { exit_code: 1, stdout: "No transactions\n".to_owned() };
    };
    let end = if past.is_whole { "9169a7fb" } else { " **" };
    let mut text = format!("Transaction ID : {}\nBegin rpmdb    : 9169a7fb\n", node.history.len());
    let _ = writeln!(text, "End rpmdb      : {end}\nPackages Altered:");
    for (action, packages) in [("Upgrade ", &past.come), ("Upgraded", &past.go)] {
        for package in packages {
            let _ = writeln!(text, " ** {action} {} @model", package.full());
        }
    }
    Scripted { exit_code: 0, stdout: text }
}
