// SPDX-License-Identifier: Apache-2.0
//! `windlass apply` and `windlass destroy`: have a plan carried out, and follow it.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use windlass_plan::Plan;
use windlass_proto::v1;
use windlass_types::digest::Sha256Digest;
use windlass_types::escape::Escaped;
use windlass_types::name::ClusterName;

use super::completion::node_names;
use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::plan::{self, Proposed};
use super::run_watch::{self, RunFormat};
use super::saved_plan;
use super::select::node_name;
use super::{get, nodes_wish};
use crate::spec::Cluster;

/// What may be said beforehand, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct PaceArgs {
    /// The cluster's name: needed where nobody can be asked, if something is destroyed
    #[arg(long, value_name = "CLUSTER")]
    confirm: Option<String>,
    /// Do not wait; print the run's id
    #[arg(long)]
    detach: bool,
    /// How progress and result are written
    #[arg(short, long, value_enum, default_value = "text")]
    output: RunFormat,
}

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The spec
    #[arg(short, long, value_name = "FILE", required_unless_present = "plan", conflicts_with = "plan")]
    file: Option<PathBuf>,
    /// A plan that was saved by `windlass plan -o PLANFILE`
    #[arg(value_name = "PLANFILE")]
    plan: Option<PathBuf>,
    /// Do not ask; what destroys something needs --confirm all the same
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Arguments of `destroy`.
#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    /// The spec of the cluster
    #[arg(short, long, value_name = "FILE", conflicts_with = "cluster")]
    file: Option<PathBuf>,
    /// The cluster, where its spec is not at hand
    #[arg(long, value_name = "CLUSTER", required_unless_present = "file")]
    cluster: Option<ClusterName>,
    /// Only this node; may be given several times
    #[arg(long = "node", value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    nodes: Vec<String>,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Plans, asks, and has it done.
///
/// # Errors
/// If there is no plan, it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: ApplyArgs) -> Result<Exit, Failure> {
    let ApplyArgs { file, plan: planfile, yes, pace } = arguments;
    let (request, plan, sha256) = match (file, planfile) {
        (Some(file), _) => {
            let request = plan::from_spec(&file)?;
            if !pace.detach
                && let Some(exit) = followed(context, &request, &pace).await?
            {
                return Ok(exit);
            }
            let proposed = plan::propose(context, request).await?;
            if let Some(exit) = nothing_to_do(context, &proposed) {
                keep(context, proposed).await?;
                return exit;
            }
            context.terminal.say(plan::shown(&proposed));
            taken_apart(proposed)
        }
        (None, Some(planfile)) => {
            let (request, plan, sha256) = saved_plan::read(&planfile)?;
            context.terminal.say(&plan);
            (request, plan, sha256)
        }
        (None, None) => return Err(Failure::new(Cause::Usage, "apply").because("neither a spec nor a plan was given")),
    };
    let confirmation = confirmed(context, &plan, &pace, yes)?;
    begin(context, v1::ApplyPlanRequest { confirmation, ..wire(request, &plan, sha256)? }, &pace).await
}

/// Follows a run that makes a cluster as some spec says to its end, so that the same command comes to the same end also for
/// somebody who lost the first one. The exit code if that was no good end. One that is paused or stopping, or destroys, is not
/// waited for: the controller says that it is in the way.
async fn followed(
    context: &Context,
    request: &v1::PlanClusterRequest,
    pace: &PaceArgs,
) -> Result<Option<Exit>, Failure> {
    let Some(v1::plan_cluster_request::Wish::Spec(spec)) = &request.wish else { return Ok(None) };
    let Ok(cluster) = Cluster::parse(&spec.text) else { return Ok(None) };
    let is_it = |run: &v1::Run| {
        let goes_on = run.state() == v1::RunState::Running && !run.stop_requested && !run.only_destroys;
        goes_on && run.cluster == cluster.name.as_str()
    };
    let Some(run) = get::runs_under_way(context).await?.into_iter().find(is_it) else { return Ok(None) };
    context.terminal.say(format_args!("run {} is under way there, and is followed first", Escaped(&run.id)));
    let exit = run_watch::watch(context, &run.id, pace.output).await?;
    Ok(Some(exit).filter(|exit| *exit != Exit::Done))
}

/// Plans the end of a cluster or of some of its nodes, asks, and has it done.
///
/// # Errors
/// If it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn destroy(context: &Context, arguments: DestroyArgs) -> Result<Exit, Failure> {
    let (cluster, provider) = match (&arguments.cluster, &arguments.file) {
        (Some(cluster), _) => (cluster.to_string(), String::new()),
        (None, Some(file)) => {
            let understood = Cluster::read(file);
            let failed = |error| Failure::new(Cause::Misconfigured, file.display().to_string()).because_of(&error);
            let understood = understood.map_err(failed)?;
            (understood.name.to_string(), understood.provider().to_string())
        }
        (None, None) => return Err(Failure::new(Cause::Usage, "destroy").because("no cluster was given")),
    };
    let destruction = v1::Destruction { cluster, nodes: arguments.nodes, provider };
    let wish = Some(v1::plan_cluster_request::Wish::Destruction(destruction));
    let proposed = plan::propose(context, v1::PlanClusterRequest { wish }).await?;
    if let Some(exit) = nothing_to_do(context, &proposed) {
        return exit;
    }
    context.terminal.say(plan::shown(&proposed));
    let (request, plan, sha256) = taken_apart(proposed);
    let confirmation = confirmed(context, &plan, &arguments.pace, false)?;
    begin(context, v1::ApplyPlanRequest { confirmation, ..wire(request, &plan, sha256)? }, &arguments.pace).await
}

/// Hooks of a spec count for other commands too: they are kept also where nothing is to be done. While a run is under way
/// they are as it has them.
async fn keep(context: &Context, proposed: Proposed) -> Result<(), Failure> {
    if !proposed.answer.run.is_empty() {
        return Ok(());
    }
    let (request, plan, sha256) = taken_apart(proposed);
    let kept = context.plans().await?.apply_plan(wire(request, &plan, sha256)?).await;
    kept.map(drop).map_err(|status| Failure::call("keep what the spec says of hooks", &status))
}

fn taken_apart(proposed: Proposed) -> (v1::PlanClusterRequest, Plan, Sha256Digest) {
    let sha256 = proposed.plan.hash();
    (proposed.request, proposed.plan, sha256)
}

fn wire(request: v1::PlanClusterRequest, plan: &Plan, sha256: Sha256Digest) -> Result<v1::ApplyPlanRequest, Failure> {
    let text =
        serde_json::to_string(plan).map_err(|error| Failure::new(Cause::Local, "write the plan").because_of(&error))?;
    let sha256 = sha256.as_bytes().to_vec().into();
    Ok(v1::ApplyPlanRequest { request: Some(request), plan: text, sha256, confirmation: String::new() })
}

/// Ends where there is nothing to do, or nothing that may be done.
fn nothing_to_do(context: &Context, proposed: &Proposed) -> Option<Result<Exit, Failure>> {
    if !proposed.plan.steps.is_empty() {
        return None;
    }
    context.terminal.say(plan::shown(proposed));
    Some(nodes_wish::nothing_to_do(&proposed.plan, &format!("apply to {}", proposed.plan.subject())))
}

/// A mild plan is answered with y, a severe one with the cluster's name.
fn confirmed(context: &Context, plan: &Plan, pace: &PaceArgs, yes: bool) -> Result<String, Failure> {
    let cluster = plan.cluster.as_ref().map_or("", ClusterName::as_str);
    let lost = plan.destroyed().len();
    if lost > 0 {
        let nodes = if lost == 1 { "1 node" } else { &format!("{lost} nodes") };
        let question = format!("this destroys {nodes} of {cluster} with all data");
        return context.terminal.confirm_by_name(&question, cluster, pace.confirm.as_deref());
    }
    context
        .terminal
        .confirm("apply this plan?", yes || !cluster.is_empty() && pace.confirm.as_deref() == Some(cluster))?;
    Ok(String::new())
}

async fn begin(context: &Context, request: v1::ApplyPlanRequest, pace: &PaceArgs) -> Result<Exit, Failure> {
    let answer = context.plans().await?.apply_plan(request).await;
    let run = answer.map_err(|status| Failure::call("apply the plan", &status))?.into_inner().run;
    if run.is_empty() {
        context.terminal.say("nothing to do");
        return Ok(Exit::Done);
    }
    if pace.detach {
        context.terminal.say(format_args!("run {0} has begun: windlass run attach {0}", Escaped(&run)));
        run_watch::print_id(context, &run)?;
        return Ok(Exit::Detached);
    }
    run_watch::watch(context, &run, pace.output).await
}
