// SPDX-License-Identifier: Apache-2.0
//! `windlass run`: plans that are being carried out, or were.

use std::io::Write as _;

use clap::{Args, Subcommand};
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::RunId;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::folded::folded;
use super::get::{self, ListArgs};
use super::run_sheet::{Sheet, release};
use super::run_watch::{self, RunFormat};
use super::show::run::RunView;
use super::show::{self, Format, Listed as _};

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunArgs {
    /// List runs, newest first
    #[command(after_help = "Examples:\n  windlass run list\n  windlass run list --newest 5 -o json")]
    List(RunListArgs),
    /// Show where a run and each of its steps stand, and what holds it up
    #[command(after_help = "Examples:\n  windlass run show r7\n  windlass run show r7 -o json")]
    Show(ShowArgs),
    /// Show a run from its beginning and follow it
    #[command(
        after_help = "Examples:\n  windlass run attach r7\n  windlass run attach r7 2>&1 | cat     all that happened, line by line"
    )]
    Attach(AttachArgs),
    /// Let a run begin no further node; nodes in its hands are brought to their end
    #[command(after_help = "Examples:\n  windlass run pause r7\n  windlass run resume r7")]
    Pause(IdArgs),
    /// Let a paused run go on; what failed is not tried again, and holds up others while it counts as down
    #[command(after_help = "Examples:\n  windlass run resume r7\n  windlass run retry r7     what failed first")]
    Resume(IdArgs),
    /// End a run: nothing further begins, and waiting ends, but for a node that boots
    #[command(after_help = "Examples:\n  windlass run stop r7\n  windlass run attach r7     until it has ended")]
    Stop(IdArgs),
    /// Try again what did not end well, also after the run has ended
    #[command(after_help = "Examples:\n  windlass run retry r7\n  windlass run retry r7 --detach")]
    Retry(RetryArgs),
}

/// Arguments of `run list`.
#[derive(Debug, Args)]
pub(crate) struct RunListArgs {
    /// So many of the newest, besides those under way
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    newest: u32,
    #[command(flatten)]
    list: ListArgs,
}

/// Names a run.
#[derive(Debug, Args)]
pub(crate) struct IdArgs {
    /// Its id, such as r7
    #[arg(value_name = "RUN", value_parser = run_id)]
    run: String,
}

/// Arguments of `run show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    id: IdArgs,
    #[command(flatten)]
    list: ListArgs,
}

/// Arguments of `run attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    id: IdArgs,
    /// How progress and result are written
    #[arg(short, long, value_enum, default_value = "text")]
    output: RunFormat,
}

/// Arguments of `run retry`.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    #[command(flatten)]
    id: IdArgs,
    /// Do not wait
    #[arg(long)]
    detach: bool,
    /// How progress and result are written
    #[arg(short, long, value_enum, default_value = "text")]
    output: RunFormat,
}

fn run_id(text: &str) -> Result<String, String> {
    RunId::new(text).map(String::from).map_err(|error| error.to_string())
}

/// Does it.
///
/// # Errors
/// If there is no such run, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: RunArgs) -> Result<Exit, Failure> {
    match arguments {
        RunArgs::List(arguments) => {
            let runs = get::runs(context, arguments.newest).await?;
            let exit = get::print(context, &runs, arguments.list.output)?;
            let is_table = matches!(arguments.list.output, Format::Table | Format::Wide);
            if let Some(run) = runs.iter().find(|run| is_table && run.is_under_way()) {
                context.terminal.say(format_args!("next: windlass run show {}", Escaped(&run.name())));
            }
            Ok(exit)
        }
        RunArgs::Show(arguments) => show(context, &arguments.id.run, arguments.list.output).await,
        RunArgs::Attach(arguments) => run_watch::watch(context, &arguments.id.run, arguments.output).await,
        RunArgs::Pause(IdArgs { run: id }) => {
            let answer = context.runs().await?.pause_run(v1::PauseRunRequest { id: id.clone() }).await;
            answer.map_err(|status| Failure::call(format!("pause run {id}"), &status))?;
            told(context, &format!("run {id} begins no further node: windlass run resume {id}"))
        }
        RunArgs::Resume(IdArgs { run: id }) => {
            let answer = context.runs().await?.resume_run(v1::ResumeRunRequest { id: id.clone() }).await;
            answer.map_err(|status| Failure::call(format!("resume run {id}"), &status))?;
            told(context, &format!("run {id} goes on: windlass run attach {id}"))
        }
        RunArgs::Stop(IdArgs { run: id }) => stop(context, id).await,
        RunArgs::Retry(arguments) => retry(context, arguments).await,
    }
}

fn told(context: &Context, text: &str) -> Result<Exit, Failure> {
    let mut out = context.terminal.out();
    writeln!(out, "{}", Escaped(text))?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn stop(context: &Context, id: String) -> Result<Exit, Failure> {
    let answer = context.runs().await?.stop_run(v1::StopRunRequest { id: id.clone() }).await;
    let run = answer.map_err(|status| Failure::call(format!("stop run {id}"), &status))?.into_inner().run;
    let run = run.unwrap_or_default();
    let is_over = !matches!(run.state(), v1::RunState::Running | v1::RunState::Paused);
    let state = if is_over { "has ended" } else { "is stopping; what was made stays" };
    if !run.holds.is_empty() {
        context.terminal.say(still_holds(&id, &run.holds));
    }
    told(context, &format!("run {id} {state}: windlass run attach {id}"))
}

/// Both ways for nodes that a stopped run has in the middle: to their end, or out of its hands.
fn still_holds(id: &str, holds: &[String]) -> String {
    let held = holds.join(", ");
    format!(
        "it holds {}, which may be half done; once the run has ended\n  windlass run retry {} goes on with that\n  {} gives it up",
        Escaped(&held),
        Escaped(id),
        release(holds)
    )
}

async fn retry(context: &Context, arguments: RetryArgs) -> Result<Exit, Failure> {
    let id = arguments.id.run;
    let answer = context.runs().await?.retry_run(v1::RetryRunRequest { id: id.clone() }).await;
    answer.map_err(|status| Failure::call(format!("retry run {id}"), &status))?;
    if arguments.detach {
        context.terminal.say(format_args!("run {id} goes on: windlass run attach {id}"));
        return Ok(Exit::Detached);
    }
    run_watch::watch(context, &id, arguments.output).await
}

/// A run as it stands now.
///
/// # Errors
/// If there is no such run, or the controller cannot be reached.
pub(crate) async fn now(context: &Context, id: &str) -> Result<v1::Run, Failure> {
    let failed = |status| Failure::call(format!("show run {id}"), &status);
    let request = v1::WatchRunRequest { id: id.to_owned(), after: u64::MAX };
    let mut stream = context.runs().await?.watch_run(request).await.map_err(failed)?.into_inner();
    let first = stream.message().await.map_err(failed)?;
    first
        .and_then(|message| message.run)
        .ok_or_else(|| Failure::new(Cause::Local, format!("show run {id}")).because("the controller sent no such run"))
}

async fn show(context: &Context, id: &str, format: Format) -> Result<Exit, Failure> {
    let run = now(context, id).await?;
    let mut out = context.terminal.out();
    match format {
        Format::Json => show::json_document(&mut out, RunView::KIND, &RunView::from(run))?,
        Format::Yaml => show::yaml_document(&mut out, RunView::KIND, &RunView::from(run))?,
        Format::Name => writeln!(out, "{}", Escaped(&run.id))?,
        Format::Table | Format::Wide => {
            let sheet = Sheet(&run).to_string();
            write!(out, "{}", if context.terminal.stdout_is_terminal { folded(&sheet) } else { sheet })?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stopped_run_holds_can_be_brought_to_its_end_or_given_up() {
        assert_eq!(
            still_holds("r7", &["node1".into(), "node2\u{1b}".into()]),
            "it holds node1, node2\\u{1b}, which may be half done; once the run has ended\n  windlass run retry r7 goes on with that\n  \
             windlass node release NODE --reason TEXT gives it up"
        );
    }
}
