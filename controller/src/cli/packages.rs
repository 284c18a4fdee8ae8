// SPDX-License-Identifier: Apache-2.0
//! `windlass packages`: what is installed on nodes, what their repositories have newer, what their package managers did,
//! and the way back. `windlass update packages` installs.

use clap::{Args, Subcommand};
use windlass_proto::v1;
use windlass_proto::v1::nodes_wish::Wish;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::get::{self, ListArgs};
use super::nodes_wish::{self, RulesArgs};
use super::select::{ChoiceArgs, FilterArgs, node_name};
use super::show::package::{ChangeView, PackageView, PastView};
use super::show::{Format, Listed};
use super::suggest;

/// What to do with packages.
#[derive(Debug, Subcommand)]
pub(crate) enum PackagesArgs {
    /// List what is installed
    #[command(
        after_help = "Examples:\n  windlass packages list node1\n  windlass packages list --all --name openssl-libs"
    )]
    List(InstalledArgs),
    /// List what the nodes' repositories have newer; `windlass update packages` installs it
    #[command(
        after_help = "Examples:\n  windlass packages updates --all --security\n  windlass packages updates node1 --refresh"
    )]
    Updates(UpdatesArgs),
    /// List what the nodes' package managers did, newest first
    #[command(
        after_help = "Examples:\n  windlass packages history node1\n  windlass packages history --all --newest 1"
    )]
    History(HistoryArgs),
    /// Undo a transaction of one node: a plan with the versions that come back, and after a confirmation exactly that
    #[command(after_help = "Examples:\n  windlass packages undo node1 17 --dry-run\n  windlass packages undo node1 17")]
    Undo(UndoArgs),
    /// Have nodes fetch the lists of their repositories anew
    #[command(after_help = "Examples:\n  windlass packages refresh --all")]
    Refresh(RefreshArgs),
}

/// Arguments of `packages list`.
#[derive(Debug, Args)]
pub(crate) struct InstalledArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Only this package; may be given again
    #[arg(long, value_name = "PACKAGE")]
    name: Vec<String>,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `packages updates`.
#[derive(Debug, Args)]
pub(crate) struct UpdatesArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Only what the repositories call security updates
    #[arg(long)]
    security: bool,
    /// Fetch the lists of the repositories first
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `packages history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// At most this many of the newest of each node
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    newest: u32,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `packages undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name)]
    node: String,
    /// The number of the transaction, as `windlass packages history NODE` shows it
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    number: u32,
    /// Reboot it if what runs is not what is installed afterwards
    #[arg(long)]
    reboot_if_needed: bool,
    #[command(flatten)]
    rules: RulesArgs,
}

/// Arguments of `packages refresh`.
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
}

/// Does it.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: PackagesArgs) -> Result<Exit, Failure> {
    match arguments {
        PackagesArgs::List(arguments) => {
            let ask = v1::ListPackagesRequest { installed: true, ..Default::default() };
            let is_wanted = |name: &str| arguments.name.is_empty() || arguments.name.iter().any(|one| one == name);
            let row = |node: v1::NodePackages| {
                let views = node.installed.into_iter().map(move |package| PackageView::new(&node.node, package));
                views.filter(|view| is_wanted(&view.name)).collect()
            };
            list(context, &arguments.choice, ask, arguments.list, ("there are no such packages", row)).await
        }
        PackagesArgs::Updates(arguments) => {
            let updates = Some(v1::UpdatePackages { security: arguments.security, ..Default::default() });
            let ask = v1::ListPackagesRequest { updates, refresh: arguments.refresh, ..Default::default() };
            let row = |node: v1::NodePackages| {
                node.updates.into_iter().map(|change| ChangeView::new(&node.node, change)).collect()
            };
            list(context, &arguments.choice, ask, arguments.list, ("nothing is newer", row)).await
        }
        PackagesArgs::History(arguments) => {
            let ask = v1::ListPackagesRequest { history: arguments.newest, ..Default::default() };
            let row =
                |node: v1::NodePackages| node.history.into_iter().map(|past| PastView::new(&node.node, past)).collect();
            list(context, &arguments.choice, ask, arguments.list, ("nothing was ever done", row)).await
        }
        PackagesArgs::Undo(arguments) => undo(context, arguments).await,
        PackagesArgs::Refresh(arguments) => refresh(context, &arguments.choice).await,
    }
}

async fn ask(
    context: &Context,
    choice: &ChoiceArgs,
    question: v1::ListPackagesRequest,
) -> Result<Vec<v1::NodePackages>, Failure> {
    let question = v1::ListPackagesRequest { selector: Some(choice.selector()?), ..question };
    match context.plans().await?.list_packages(question).await {
        Ok(answer) => Ok(answer.into_inner().nodes),
        Err(status) => {
            let failure = Failure::call("ask nodes for their packages", &status);
            Err(suggest::near_node(context, failure, &choice.nodes).await)
        }
    }
}

async fn list<T: Listed>(
    context: &Context,
    choice: &ChoiceArgs,
    question: v1::ListPackagesRequest,
    format: ListArgs,
    (nothing, rows): (&str, impl Fn(v1::NodePackages) -> Vec<T>),
) -> Result<Exit, Failure> {
    let nodes = ask(context, choice, question).await?;
    let exit = name_silent(context, &nodes);
    let rows: Vec<T> = nodes.into_iter().flat_map(rows).collect();
    if rows.is_empty() && matches!(format.output, Format::Table | Format::Wide) {
        // Who did not answer was named.
        if exit == Exit::Done {
            context.terminal.say(nothing);
        }
        return Ok(exit);
    }
    get::print(context, &rows, format.output)?;
    Ok(exit)
}

/// Says who did not answer, or cannot.
fn name_silent(context: &Context, nodes: &[v1::NodePackages]) -> Exit {
    let mut exit = Exit::Done;
    for node in nodes {
        let why = if node.failure.is_empty() { &node.blocked } else { &node.failure };
        if !why.is_empty() {
            context.terminal.say(format_args!("{}: {}", Escaped(&node.node), Escaped(why)));
            exit = Exit::NodesFailed;
        }
    }
    exit
}

async fn undo(context: &Context, arguments: UndoArgs) -> Result<Exit, Failure> {
    let UndoArgs { node, number, reboot_if_needed, rules } = arguments;
    let choice = ChoiceArgs { nodes: vec![node], all: false, filter: FilterArgs::default() };
    let packages = v1::UpdatePackages { undo: number, reboot_if_needed, ..Default::default() };
    nodes_wish::carry_out(context, &choice, Wish::Packages(packages), rules, "undo the transaction").await
}

async fn refresh(context: &Context, choice: &ChoiceArgs) -> Result<Exit, Failure> {
    let question = v1::ListPackagesRequest { refresh: true, ..Default::default() };
    let nodes = ask(context, choice, question).await?;
    let exit = name_silent(context, &nodes);
    for node in nodes.iter().filter(|node| node.failure.is_empty()) {
        context.terminal.say(format_args!("{} has the newest lists of its repositories", Escaped(&node.node)));
    }
    Ok(exit)
}
