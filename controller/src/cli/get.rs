// SPDX-License-Identifier: Apache-2.0
//! `windlass get`: nodes, machines, tokens, jobs, events and operators.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use jiff::tz::TimeZone;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::ClusterName;

use super::completion::node_names;
use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::select::{self, FilterArgs, node_name};
use super::show::job::JobView;
use super::show::machine::MachineView;
use super::show::node::NodeView;
use super::show::operator::OperatorView;
use super::show::run::RunView;
use super::show::token::TokenView;
use super::show::{self, Format, Listed, node_sheet};
use super::{events, suggest};
use crate::duration;

/// What to get.
#[derive(Debug, Subcommand)]
pub(crate) enum GetArgs {
    /// Nodes, with what is known about them
    #[command(after_help = "Examples:\n  windlass get nodes\n  windlass get nodes -l role/worker=yes -o wide\n  \
        windlass get nodes --fact os.id=centos -o name\n  windlass get nodes --refresh -o json")]
    Nodes(NodesArgs),
    /// One node, with every fact and its age
    Node(NodeArgs),
    /// Join tokens, without their secrets
    Tokens(ListArgs),
    /// Jobs, newest first
    Jobs(JobsArgs),
    /// Machines of all clusters, as their providers report them
    Machines(MachinesArgs),
    /// Events, oldest first
    Events(EventsArgs),
    /// Operators and their roles
    Operators(ListArgs),
}

/// How a list is written.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) output: Format,
}

/// Arguments of `get nodes`.
#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    /// Only these nodes
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    nodes: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    refresh: RefreshArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `get node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    #[command(flatten)]
    refresh: RefreshArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// Whether to look again before showing.
#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// Ask the nodes to observe everything now, and wait for their reports
    #[arg(long)]
    refresh: bool,
    /// Longest wait for the reports
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "10s")]
    refresh_timeout: Duration,
}

/// Arguments of `get jobs`.
#[derive(Debug, Args)]
pub(crate) struct JobsArgs {
    /// At most this many of the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    newest: u32,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `get machines`.
#[derive(Debug, Args)]
pub(crate) struct MachinesArgs {
    /// Only of this cluster
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<ClusterName>,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `get events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    range: events::RangeArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// Prints what was asked for.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: GetArgs) -> Result<Exit, Failure> {
    match arguments {
        GetArgs::Nodes(arguments) => nodes(context, arguments).await,
        GetArgs::Node(arguments) => node(context, arguments).await,
        GetArgs::Tokens(list) => print(context, &tokens(context).await?, list.output),
        GetArgs::Jobs(arguments) => print(context, &jobs(context, arguments.newest).await?, arguments.list.output),
        GetArgs::Machines(arguments) => {
            let machines = machines(context, arguments.cluster).await?;
            let exit = print(context, &machines, arguments.list.output)?;
            if matches!(arguments.list.output, Format::Table | Format::Wide) {
                machines.iter().filter_map(MachineView::trouble).for_each(|line| context.terminal.say(line));
            }
            Ok(exit)
        }
        GetArgs::Events(arguments) => {
            print(context, &events::collect(context, &arguments.range).await?, arguments.list.output)
        }
        GetArgs::Operators(list) => print(context, &operators(context).await?, list.output),
    }
}

/// Prints a list; says so where a table would be empty.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn print<T: Listed>(context: &Context, items: &[T], format: Format) -> Result<Exit, Failure> {
    let is_table = matches!(format, Format::Table | Format::Wide);
    if items.is_empty() && is_table {
        context.terminal.say(format_args!("there are no {}s", T::KIND.to_lowercase()));
        return Ok(Exit::Done);
    }
    let mut out = context.terminal.out();
    show::list(&mut out, items, format, context.terminal.colours_stdout(), context.now())?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn nodes(context: &Context, arguments: NodesArgs) -> Result<Exit, Failure> {
    let filtered =
        !arguments.nodes.is_empty() || !arguments.filter.labels.is_empty() || !arguments.filter.facts.is_empty();
    let selector = if filtered { Some(select::selector(false, &arguments.nodes, &arguments.filter)?) } else { None };
    refresh(context, selector.clone(), &arguments.refresh).await?;
    let nodes = list_nodes(context, selector).await;
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(failure) => return Err(suggest::near_node(context, failure, &arguments.nodes).await),
    };
    let is_table = matches!(arguments.list.output, Format::Table | Format::Wide);
    if nodes.is_empty() && filtered && is_table {
        context.terminal.say("no node matches; windlass get nodes -o wide shows the labels");
        return Ok(Exit::Done);
    }
    if nodes.is_empty() && !filtered {
        context.terminal.say("to add a node: windlass token create NODE");
    }
    print(context, &nodes, arguments.list.output)
}

async fn node(context: &Context, arguments: NodeArgs) -> Result<Exit, Failure> {
    let names = [arguments.node];
    let selector = v1::NodeSelector { names: names.to_vec(), ..Default::default() };
    refresh(context, Some(selector.clone()), &arguments.refresh).await?;
    let node = match list_nodes(context, Some(selector)).await {
        Ok(nodes) => nodes.into_iter().next(),
        Err(failure) => return Err(suggest::near_node(context, failure, &names).await),
    };
    let node = node.ok_or_else(|| {
        Failure::new(Cause::Local, format!("show {}", names[0])).because("the controller sent no such node")
    })?;
    let mut out = context.terminal.out();
    match arguments.list.output {
        Format::Table | Format::Wide => {
            node_sheet::write(&mut out, &node, context.terminal.colours_stdout(), context.now(), TimeZone::system())?;
        }
        Format::Json => show::json_document(&mut out, NodeView::KIND, &node)?,
        Format::Yaml => show::yaml_document(&mut out, NodeView::KIND, &node)?,
        Format::Name => writeln!(out, "{}", Escaped(&node.name))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn refresh(
    context: &Context,
    selector: Option<v1::NodeSelector>,
    arguments: &RefreshArgs,
) -> Result<(), Failure> {
    if !arguments.refresh {
        return Ok(());
    }
    if context.terminal.stderr_is_terminal {
        context.terminal.say("waiting for the nodes' reports…");
    }
    let selector = selector.unwrap_or_else(|| v1::NodeSelector { all: true, ..Default::default() });
    let names = selector.names.clone();
    let timeout_millis = u32::try_from(arguments.refresh_timeout.as_millis()).unwrap_or(u32::MAX);
    let request = v1::RefreshNodesRequest { selector: Some(selector), timeout_millis };
    let silent = match context.nodes().await?.refresh_nodes(request).await {
        Ok(answer) => answer.into_inner().silent,
        Err(status) => {
            return Err(suggest::near_node(context, Failure::call("refresh the facts", &status), &names).await);
        }
    };
    if !silent.is_empty() {
        let names = silent.join(", ");
        context.terminal.say(format_args!("no new report from {}: what is shown of them is older", Escaped(&names)));
    }
    Ok(())
}

/// All chosen nodes, page by page.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn list_nodes(
    context: &Context,
    selector: Option<v1::NodeSelector>,
) -> Result<Vec<NodeView>, Failure> {
    let mut nodes: Vec<_> = raw_nodes(context, selector).await?.into_iter().map(NodeView::from).collect();
    // A controller that does not know of quarantines still knows its nodes.
    if let Ok(answer) = context.runs().await?.list_holds(v1::ListHoldsRequest {}).await {
        let holds = answer.into_inner().holds;
        for hold in holds.into_iter().filter(|hold| hold.run.is_empty()) {
            if let Some(node) = nodes.iter_mut().find(|node| node.name == hold.node) {
                node.quarantine = Some(hold.reason);
            }
        }
    }
    Ok(nodes)
}

/// All chosen nodes, as the controller sends them.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn raw_nodes(context: &Context, selector: Option<v1::NodeSelector>) -> Result<Vec<v1::Node>, Failure> {
    let mut client = context.nodes().await?;
    let mut nodes = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListNodesRequest { selector: selector.clone(), page_size: 0, page_token };
        let answer = client.list_nodes(request).await;
        let page = answer.map_err(|status| Failure::call("list the nodes", &status))?.into_inner();
        nodes.extend(page.nodes);
        if page.next_page_token.is_empty() {
            return Ok(nodes);
        }
        page_token = page.next_page_token;
    }
}

/// All tokens.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn tokens(context: &Context) -> Result<Vec<TokenView>, Failure> {
    let answer = context.tokens().await?.list_tokens(v1::ListTokensRequest {}).await;
    let tokens = answer.map_err(|status| Failure::call("list the tokens", &status))?.into_inner().tokens;
    Ok(tokens.into_iter().map(TokenView::from).collect())
}

/// The newest jobs.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn jobs(context: &Context, newest: u32) -> Result<Vec<JobView>, Failure> {
    let mut client = context.jobs().await?;
    let wanted = usize::try_from(newest).unwrap_or(usize::MAX);
    let mut jobs: Vec<JobView> = Vec::new();
    let mut page_token = String::new();
    while jobs.len() < wanted {
        let page_size = newest - u32::try_from(jobs.len()).unwrap_or(newest);
        let answer = client.list_jobs(v1::ListJobsRequest { page_size, page_token }).await;
        let page = answer.map_err(|status| Failure::call("list the jobs", &status))?.into_inner();
        jobs.extend(page.jobs.into_iter().map(JobView::from));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    jobs.truncate(wanted);
    Ok(jobs)
}

/// All operators.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn operators(context: &Context) -> Result<Vec<OperatorView>, Failure> {
    let answer = context.admin().await?.list_operators(v1::ListOperatorsRequest {}).await;
    let operators = answer.map_err(|status| Failure::call("list the operators", &status))?.into_inner().operators;
    Ok(operators.into_iter().map(OperatorView::from).collect())
}

/// The machines of all clusters, or of one. What could not be asked is said.
async fn machines(context: &Context, cluster: Option<ClusterName>) -> Result<Vec<MachineView>, Failure> {
    Ok(raw_machines(context, cluster).await?.into_iter().map(MachineView::from).collect())
}

/// Machines, as the controller sends them.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn raw_machines(context: &Context, cluster: Option<ClusterName>) -> Result<Vec<v1::Machine>, Failure> {
    let cluster = cluster.map(String::from).unwrap_or_default();
    let answer = context.plans().await?.list_machines(v1::ListMachinesRequest { cluster }).await;
    let answer = answer.map_err(|status| Failure::call("list the machines", &status))?.into_inner();
    for failure in &answer.failures {
        context.terminal.say(format_args!("not listed: {}", Escaped(failure)));
    }
    Ok(answer.machines)
}

/// The newest runs.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn runs(context: &Context, newest: u32) -> Result<Vec<RunView>, Failure> {
    let answer = context.runs().await?.list_runs(v1::ListRunsRequest { newest }).await;
    let runs = answer.map_err(|status| Failure::call("list the runs", &status))?.into_inner().runs;
    Ok(runs.into_iter().map(RunView::from).collect())
}

/// Runs that have not ended.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn runs_under_way(context: &Context) -> Result<Vec<v1::Run>, Failure> {
    // They are listed however many are newer.
    let answer = context.runs().await?.list_runs(v1::ListRunsRequest { newest: 1 }).await;
    let mut runs = answer.map_err(|status| Failure::call("list the runs", &status))?.into_inner().runs;
    runs.retain(|run| matches!(run.state(), v1::RunState::Running | v1::RunState::Paused));
    Ok(runs)
}
