// SPDX-License-Identifier: Apache-2.0
//! What the tools of the operating system do to the model, and what they print.

use std::path::PathBuf;

use windlass_types::action::Argv;

use super::{Node, Scripted};

/// What a program prints, and its effects, each to be counted.
type Result = (Scripted, Vec<String>);

/// Runs a tool; `None` if the model knows nothing about it.
pub(super) fn run(node: &mut Node, argv: &Argv) -> Option<Result> {
    let program = argv.program().rsplit('/').next().unwrap_or_default();
    let arguments: Vec<&str> = argv.arguments().iter().map(String::as_str).collect();
    match (program, arguments.as_slice()) {
        ("systemctl", ["--no-block", "reboot"]) => {
            boot(node);
            done("reboot".to_owned())
        }
        ("grub2-reboot", [entry]) => {
            node.next_entry = Some((*entry).to_owned());
            done(format!("boot {entry} once"))
        }
        ("grub2-editenv", [_, "unset", "next_entry"]) => {
            node.next_entry = None;
            done("forget what to boot once".to_owned())
        }
        ("sysctl", ["-w", assignment]) => {
            let (key, value) = assignment.split_once('=')?;
            let path = PathBuf::from(format!("/proc/sys/{}", key.replace('.', "/")));
            let old = node.files.insert(path, format!("{value}\n"));
            if old.is_none_or(|old| old.trim() != value) { done(format!("sysctl {assignment}")) } else { nothing() }
        }
        _ => None,
    }
}

/// The machine goes down and comes back.
pub(super) fn boot(node: &mut Node) {
    node.reboot();
}

#[expect(clippy::unnecessary_wraps, reason = "as the arms of the match need it")]
fn done(effect: String) -> Option<Result> {
    Some((Scripted::default(), vec![effect]))
}

#[expect(clippy::unnecessary_wraps, reason = "as the arms of the match need it")]
fn nothing() -> Option<Result> {
    Some((Scripted::default(), Vec::new()))
}
