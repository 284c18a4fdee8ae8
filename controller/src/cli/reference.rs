// SPDX-License-Identifier: Apache-2.0
//! The manual as far as it can be generated: man pages and the reference of all commands, from the tree itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};

/// Arguments of the hidden `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory for the pages
    directory: PathBuf,
}

/// Arguments of the hidden `reference`.
#[derive(Debug, Args)]
pub(crate) struct ReferenceArgs {
    /// Markdown file to write
    file: PathBuf,
}

/// Writes one man page per command.
///
/// # Errors
/// If the directory cannot be written.
pub(crate) fn man(_context: &Context, arguments: &ManArgs) -> Result<Exit, Failure> {
    std::fs::create_dir_all(&arguments.directory)
        .and_then(|()| clap_mangen::generate_to(super::Arguments::command(), &arguments.directory))
        .map_err(|error| {
            Failure::new(Cause::Local, format!("write man pages to {}", arguments.directory.display()))
                .because_of(&error)
        })?;
    Ok(Exit::Done)
}

/// Writes the reference.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn reference(_context: &Context, arguments: &ReferenceArgs) -> Result<Exit, Failure> {
    std::fs::write(&arguments.file, markdown(super::Arguments::command())).map_err(|error| {
        Failure::new(Cause::Local, format!("write the reference {}", arguments.file.display())).because_of(&error)
    })?;
    Ok(Exit::Done)
}

fn markdown(mut tree: Command) -> String {
    tree.build();
    let mut text = String::from("# The command line\n\nGenerated from the program: `windlass reference FILE`.\n");
    text.push_str("\n## Exit codes\n\n| Code | Meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        let _ = writeln!(text, "| {} | {} |", exit.code(), exit.meaning());
    }
    text.push_str("\n## Options of every command\n\n");
    for argument in tree.get_arguments().filter(|argument| argument.is_global_set()) {
        option(&mut text, argument);
    }
    section(&mut text, &tree, "");
    text
}

/// A leaf becomes a section; a group only introduces its leaves.
fn section(text: &mut String, command: &Command, parents: &str) {
    let path = format!("{parents} {}", command.get_name()).trim().to_owned();
    let visible: Vec<_> = command.get_subcommands().filter(|child| !child.is_hide_set()).collect();
    let is_option = |argument: &&clap::Arg| !argument.is_global_set() && argument.get_id() != "help";
    let does_something_itself = !parents.is_empty() && command.get_arguments().any(|argument| is_option(&argument));
    if visible.is_empty() || does_something_itself {
        leaf(text, command, &path);
    }
    visible.into_iter().for_each(|child| section(text, child, &path));
}

fn leaf(text: &mut String, command: &Command, path: &str) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage: ");
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## `{path}`\n\n{about}.\n\n```\n{usage}\n```\n\n");
    for argument in command.get_arguments() {
        if !argument.is_global_set() && argument.get_id() != "help" {
            option(text, argument);
        }
    }
    if let Some(more) = command.get_after_help() {
        let _ = write!(text, "\n```\n{}\n```\n", more.to_string().trim_end());
    }
}

fn option(text: &mut String, argument: &clap::Arg) {
    let value = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let mut name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => String::new(),
    };
    if argument.get_action().takes_values() {
        name = format!("{name} {value}").trim().to_owned();
    }
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let environment = argument.get_env().map(|name| format!(" (`{}`)", name.to_string_lossy())).unwrap_or_default();
    let _ = writeln!(text, "- `{name}`: {help}{}{environment}", values(argument));
}

/// What an option takes, and what it is without being given, where clap knows either.
fn values(argument: &clap::Arg) -> String {
    if !argument.get_action().takes_values() {
        return String::new();
    }
    let list = |values: Vec<String>| values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    let possible = argument.get_possible_values();
    let possible = possible.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned());
    let default = argument.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let said =
        [("possible", possible.collect::<Vec<_>>()), ("default", default.filter(|value| !value.is_empty()).collect())];
    let said: Vec<_> = said.into_iter().filter(|(_, values)| !values.is_empty()).collect();
    let said: Vec<_> = said.into_iter().map(|(what, values)| format!("{what}: {}", list(values))).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_every_command_and_every_exit_code() {
        let text = markdown(super::super::Arguments::command());
        for part in
            ["## `windlass exec`", "## `windlass get nodes`", "## `windlass node revoke`", "| 69 |", "WINDLASS_SOCKET"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("## `windlass man`"), "hidden commands stay hidden");
    }

    #[test]
    fn what_an_option_takes_and_its_default_are_in_the_reference() {
        let text = markdown(super::super::Arguments::command());
        for part in [
            "(possible: `wait`, `skip`, `fail`; default: `wait`)\n",
            "one before (default: `1`)\n",
            "is written (possible: `text`, `json`; default: `text`)\n",
            "- `--yes`: Do not ask\n",
            "- `--reason TEXT`: Why, for the record\n",
        ] {
            assert!(text.contains(part) || text.contains(&part.replace("`--yes`", "`-y, --yes`")), "{part}\n{text}");
        }
    }

    #[test]
    fn every_command_has_a_man_page() {
        let directory = tempfile::tempdir().expect("a directory");
        clap_mangen::generate_to(super::super::Arguments::command(), directory.path()).expect("written");
        for page in ["windlass.1", "windlass-exec.1", "windlass-get-nodes.1"] {
            assert!(directory.path().join(page).exists(), "{page}");
        }
    }
}
