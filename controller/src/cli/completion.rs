// SPDX-License-Identifier: Apache-2.0
//! `windlass completion SHELL`, and answering the shell when it asks what could come next.

use std::ffi::OsStr;
use std::io::Write as _;
use std::time::Duration;

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use windlass_proto::v1;

use super::connection::ConnectionArgs;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::terminal::Terminal;

/// The variable by which the shell's script asks.
const VARIABLE: &str = "COMPLETE";

/// Whoever presses Tab does not wait longer than this for names.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shells whose completion is generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// Fish
    Fish,
}

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script of a shell.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn run(context: &Context, arguments: &CompletionArgs) -> Result<Exit, Failure> {
    let shell: &dyn EnvCompleter = match arguments.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut out = context.terminal.out();
    shell.write_registration(VARIABLE, "windlass", "windlass", "windlass", &mut out)?;
    out.flush()?;
    Ok(Exit::Done)
}

/// If the shell asks for completions, answers and ends the program; otherwise does nothing.
pub fn answer_the_shell() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(super::Arguments::command).var(VARIABLE).complete();
    }
}

/// Names of nodes that begin with what was typed. Without a controller there are none, and that is no error here.
pub(crate) fn node_names(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    // The shell asks through a function that is not async, before the program's own runtime exists.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let names = runtime.block_on(async { tokio::time::timeout(PATIENCE, all_names()).await });
    let names = names.ok().and_then(Result::ok).unwrap_or_default();
    names.into_iter().filter(|name| name.starts_with(typed)).map(CompletionCandidate::new).collect()
}

async fn all_names() -> Result<Vec<String>, Failure> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(Into::into);
    let connection = ConnectionArgs { socket: path("WINDLASS_SOCKET"), profile: path("WINDLASS_PROFILE") };
    let context = Context::new(Terminal::new(true, true), connection, super::connection::Typed::default());
    let answer = context.nodes().await?.list_nodes(v1::ListNodesRequest::default()).await;
    let nodes = answer.map_err(|status| Failure::call("list the nodes", &status))?.into_inner().nodes;
    Ok(nodes.into_iter().map(|node| node.name).collect())
}
