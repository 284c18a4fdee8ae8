// SPDX-License-Identifier: Apache-2.0
//! `windlass stop`: ends a job or a run.

use std::io::Write as _;

use clap::Args;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::RunId;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Id of the job, such as 42, or of the run, such as r7
    #[arg(value_name = "JOB|RUN")]
    id: String,
}

/// Asks the controller to end a job or a run.
///
/// # Errors
/// If there is no such thing or the caller may not.
pub(crate) async fn run(context: &Context, arguments: StopArgs) -> Result<Exit, Failure> {
    let id = arguments.id;
    if RunId::new(id.as_str()).is_ok() {
        return stop_run(context, id).await;
    }
    let answer = context.jobs().await?.stop_job(v1::StopJobRequest { id: id.clone() }).await;
    let job = answer.map_err(|status| Failure::call(format!("stop job {id}"), &status))?.into_inner().job;
    let running = job.is_some_and(|job| job.state() == v1::JobState::Running);
    let mut out = context.terminal.out();
    let id = Escaped(&id);
    if running {
        writeln!(out, "job {id} is stopping: windlass attach {id}")?;
    } else {
        writeln!(out, "job {id} has ended: windlass attach {id}")?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn stop_run(context: &Context, id: String) -> Result<Exit, Failure> {
    let answer = context.runs().await?.stop_run(v1::StopRunRequest { id: id.clone() }).await;
    let run = answer.map_err(|status| Failure::call(format!("stop run {id}"), &status))?.into_inner().run;
    let is_running = run.is_some_and(|run| run.state() == v1::RunState::Running);
    let state = if is_running { "is stopping; what was made stays" } else { "has ended" };
    let mut out = context.terminal.out();
    writeln!(out, "run {id} {state}: windlass attach {id}")?;
    out.flush()?;
    Ok(Exit::Done)
}
