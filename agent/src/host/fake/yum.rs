// SPDX-License-Identifier: Apache-2.0
//! yum on the model: it does what dnf does, and says it in words of its own. The words are those of yum 3.4.3.

use std::fmt::Write as _;

use super::packages::{Answer, dnf, says};
use super::{Node, history};

pub(super) fn yum(node: &mut Node, arguments: &[&str]) -> Option<Answer> {
    let (options, words): (Vec<&str>, Vec<&str>) = arguments.iter().partition(|word| word.starts_with('-'));
    match words.as_slice() {
        ["history", "list", "all"] => return Some(says(0, list(node))),
        // It has no plugin for the one, and tells the other by files.
        ["repoquery", ..] | ["history", "info", ..] => return Some(says(1, "")),
        ["makecache", "fast"] => return dnf(node, &[&options[..], &["makecache"]].concat()),
        _ => {}
    }
    let (mut scripted, effects) = dnf(node, arguments)?;
    let nothing = match words.as_slice() {
        ["upgrade"] if options.contains(&"--security") => "No packages needed for security; 2 packages available\n",
        ["upgrade"] => "No packages marked for update\n",
        ["history", "undo", ..] => "Undoing transaction 1, from Thu Jan  1 00:00:00 2026\nhistory undo\n",
        _ => "Nothing to do\n",
    };
    if let Some(unknown) = scripted.stdout.strip_prefix("No match for argument: ") {
        let name = unknown.lines().next().unwrap_or_default();
        scripted.stdout = without(node, arguments, name)?;
    }
    scripted.stdout = scripted
        .stdout
        .replace("Dependencies resolved.\nNothing to do.\nComplete!\n", nothing)
        .replace("Dependencies resolved.", "Dependencies Resolved\n")
        .replace("Upgrading:", "Updating:")
        .replace("Operation aborted.", "Exiting on user command\nYour transaction was saved, rerun it with:");
    Some((scripted, effects))
}

/// It goes on with the other packages, and complains elsewhere if there is none.
fn without(node: &mut Node, arguments: &[&str], name: &str) -> Option<String> {
    let others: Vec<&str> = arguments.iter().copied().filter(|word| *word != name).collect();
    let shows = others.contains(&"--assumeno") && others.last() != Some(&"install");
    let rest = if shows { dnf(node, &others)?.0.stdout } else { String::new() };
    Some(format!("No package {name} available.\n{rest}"))
}

fn list(node: &Node) -> String {
    let mut text = String::from("ID     | Login user               | Date and time    | Action(s)      | Altered\n");
    for (number, count, is_whole) in history::told(node) {
        let mark = if is_whole { "" } else { "**" };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{number:>6} | root <root>              | 2026-01-01 00:00 | Update         | {count:>4} {mark}"
        );
    }
    text + "history list\n"
}
