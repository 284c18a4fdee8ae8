// SPDX-License-Identifier: Apache-2.0
//! `windlass update packages`, `windlass upgrade kernel` and `windlass reboot`: a plan for nodes that are there is made and
//! shown, confirmed, carried out and followed, as `windlass apply` does it for a cluster.

use std::io::Write as _;

use clap::{Args, Subcommand};
use windlass_plan::Plan;
use windlass_proto::refusal::Reason;
use windlass_proto::v1;
use windlass_proto::v1::nodes_wish::Wish;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::run_watch::{self, RunFormat};
use super::select::ChoiceArgs;
use super::{plan, suggest};

/// What to update.
#[derive(Debug, Subcommand)]
pub(crate) enum UpdateArgs {
    /// Update packages, node by node; exactly what is shown is installed
    #[command(
        after_help = "Examples:\n  windlass update packages --all\n  windlass update packages --all --security\n  \
        windlass update packages -l role/worker=yes --exclude docker-ce\n  \
        windlass update packages node1 --only openssl --only curl --reboot-if-needed\n\n\
        Kernels are never touched here: windlass upgrade kernel --all."
    )]
    Packages(PackagesArgs),
}

/// What to upgrade.
#[derive(Debug, Subcommand)]
pub(crate) enum UpgradeArgs {
    /// Install a kernel beside the old one, boot it once, and keep it if the node is healthy
    #[command(
        after_help = "Examples:\n  windlass upgrade kernel --all\n  windlass upgrade kernel -l role/worker=yes --channel \
        elrepo-lt\n  windlass upgrade kernel node1 --version 5.4.278-1.el7"
    )]
    Kernel(KernelArgs),
}

/// Arguments of `update packages`.
#[derive(Debug, Args)]
pub(crate) struct PackagesArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Only what the repositories call security updates
    #[arg(long, conflicts_with = "only")]
    security: bool,
    /// Only this package, by its exact name; may be given again. One that is not installed is installed
    #[arg(long, value_name = "PACKAGE")]
    only: Vec<String>,
    /// Never this package, by its exact name; may be given again. Kernels are never touched here
    #[arg(long, value_name = "PACKAGE")]
    exclude: Vec<String>,
    /// Reboot nodes on which what runs is not what is installed afterwards
    #[arg(long)]
    reboot_if_needed: bool,
    #[command(flatten)]
    rules: RulesArgs,
}

/// Arguments of `upgrade kernel`.
#[derive(Debug, Args)]
pub(crate) struct KernelArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Where it comes from: distribution, elrepo-lt, elrepo-ml, or the name of a package; its repository must be on the node
    /// already
    #[arg(long, value_name = "CHANNEL", default_value = "distribution")]
    channel: String,
    /// Exactly this version and release, such as 5.4.278-1.el7; otherwise the newest
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Old kernels that stay beside the new one; 1 keeps the one before
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    #[command(flatten)]
    rules: RulesArgs,
}

/// Arguments of `reboot`.
#[derive(Debug, Args)]
pub(crate) struct RebootArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    /// One after the other: the next begins when the previous one is healthy again; needed for more than one node
    #[arg(long)]
    rolling: bool,
    /// Only nodes on which what runs is not what is installed
    #[arg(long)]
    if_needed: bool,
    #[command(flatten)]
    rules: RulesArgs,
}

/// The rules of the run, and how it is shown.
#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// Nodes that may be down at once; those that are down anyway count too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    max_unavailable: u32,
    /// When nodes may go down, such as "Tue 02:00-06:00 Europe/Berlin"; several are separated by ;
    #[arg(long, value_name = "WINDOW")]
    window: Option<String>,
    /// What becomes of the others when a node fails: stop, pause, or continue:N for at most N failures
    #[arg(long, value_name = "RULE", default_value = "stop")]
    on_failure: String,
    /// What becomes of nodes that are not connected: wait, skip or fail
    #[arg(long, value_name = "RULE", default_value = "wait", value_parser = ["wait", "skip", "fail"])]
    unreachable: String,
    /// Leave out the hooks that the spec of the nodes' cluster has for before and after they go down
    #[arg(long)]
    no_hooks: bool,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: end with 2 if there is something to do
    #[arg(long, requires = "dry_run")]
    detailed_exitcode: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Do not wait; print the run's id
    #[arg(long)]
    detach: bool,
    /// How progress and result are written; with --dry-run, the plan
    #[arg(short, long, value_enum, default_value = "text")]
    output: RunFormat,
}

/// Updates.
///
/// # Errors
/// If there is no plan, it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn update(context: &Context, arguments: UpdateArgs) -> Result<Exit, Failure> {
    let UpdateArgs::Packages(arguments) = arguments;
    let packages = v1::UpdatePackages {
        security: arguments.security,
        names: arguments.only,
        exclude: arguments.exclude,
        reboot_if_needed: arguments.reboot_if_needed,
        undo: 0,
    };
    carry_out(context, &arguments.choice, Wish::Packages(packages), arguments.rules, "update the packages").await
}

/// Upgrades.
///
/// # Errors
/// If there is no plan, it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn upgrade(context: &Context, arguments: UpgradeArgs) -> Result<Exit, Failure> {
    let UpgradeArgs::Kernel(arguments) = arguments;
    let version = arguments.version.unwrap_or_default();
    let kernel = v1::UpgradeKernel { channel: arguments.channel, version, keep: arguments.keep };
    carry_out(context, &arguments.choice, Wish::Kernel(kernel), arguments.rules, "upgrade the kernel").await
}

/// Reboots.
///
/// # Errors
/// If there is no plan, it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn reboot(context: &Context, arguments: RebootArgs) -> Result<Exit, Failure> {
    drop(arguments.choice.selector()?);
    if !arguments.rolling && arguments.choice.nodes.len() != 1 {
        return Err(Failure::new(Cause::Usage, "reboot nodes")
            .because("more than one node is rebooted one after the other only")
            .advise("add --rolling; --max-unavailable N says how many may be down at once"));
    }
    let wish = Wish::Reboot(v1::Reboot { if_needed: arguments.if_needed });
    carry_out(context, &arguments.choice, wish, arguments.rules, "reboot nodes").await
}

/// Plans, shows, confirms, carries out and follows.
///
/// # Errors
/// If there is no plan, it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn carry_out(
    context: &Context,
    choice: &ChoiceArgs,
    wish: Wish,
    rules: RulesArgs,
    what: &str,
) -> Result<Exit, Failure> {
    let wish = v1::NodesWish {
        selector: Some(choice.selector()?),
        wish: Some(wish),
        max_unavailable: rules.max_unavailable,
        window: rules.window.clone().unwrap_or_default(),
        on_failure: rules.on_failure.clone(),
        without_hooks: rules.no_hooks,
        unreachable: rules.unreachable.clone(),
    };
    context.terminal.announce("asking the nodes, which may take minutes; nothing is changed by it");
    let answer = context.plans().await?.plan_nodes(v1::PlanNodesRequest { wish: Some(wish.clone()) }).await;
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Err(suggest::near_node(context, Failure::call(what, &status), &choice.nodes).await),
    };
    let planned: Plan = serde_json::from_str(&answer.plan).map_err(|error| {
        Failure::new(Cause::Local, "read the controller's plan")
            .because_of(&error)
            .advise("install the same version of Windlass on both machines")
    })?;
    if rules.dry_run && rules.output == RunFormat::Json {
        let mut out = context.terminal.out();
        plan::json(&mut out, &planned, (answer.expected_millis, answer.expected_is_guess), "")?;
        out.flush()?;
        return Ok(plan::told(&planned, rules.detailed_exitcode));
    }
    if rules.dry_run {
        let mut out = context.terminal.out();
        writeln!(out, "{}", shown(&planned, &answer))?;
        out.flush()?;
    } else {
        context.terminal.say(shown(&planned, &answer));
    }
    if rules.dry_run && !planned.steps.is_empty() {
        context.terminal.say("to do this: the same command without --dry-run");
        return Ok(plan::told(&planned, rules.detailed_exitcode));
    }
    if planned.steps.is_empty() {
        return nothing_to_do(&planned, what);
    }
    context.terminal.confirm("do this?", rules.yes)?;
    let request = v1::ApplyNodesRequest { wish: Some(wish), plan: answer.plan, sha256: answer.sha256 };
    context.terminal.announce("asking the nodes once more");
    let begun = context.plans().await?.apply_nodes(request).await;
    let run = begun.map_err(|status| Failure::call(what, &status))?.into_inner().run;
    if rules.detach {
        context.terminal.say(format_args!("run {0} has begun: windlass run attach {0}", Escaped(&run)));
        run_watch::print_id(context, &run)?;
        return Ok(Exit::Detached);
    }
    run_watch::watch(context, &run, rules.output).await
}

/// How a command ends whose plan has no steps: well only if nothing is blocked and nobody is away.
///
/// # Errors
/// Says what to do first.
pub(super) fn nothing_to_do(planned: &Plan, what: &str) -> Result<Exit, Failure> {
    if planned.blocked.is_empty() && planned.queued.is_empty() {
        return Ok(Exit::Done);
    }
    let advice = if planned.blocked.is_empty() {
        "what `why:` above says of each, such as bringing back one that is not connected; then the same command"
    } else {
        "what is named above with `do:`, then the same command"
    };
    Err(Failure::new(Cause::Refused(Reason::Unsafe), what).because("nothing of it can be done now").advise(advice))
}

fn shown(planned: &Plan, answer: &v1::PlanNodesResponse) -> String {
    let mut text = planned.to_string();
    text.push_str(&plan::expected(answer.expected_millis, answer.expected_is_guess));
    if !answer.run.is_empty() {
        let run = Escaped(&answer.run);
        text.push_str(&format!("\nRun {run} has one of these nodes: windlass run attach {run}\n"));
    }
    text
}
