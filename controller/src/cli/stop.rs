// SPDX-License-Identifier: Apache-2.0
//! `windlass stop`: ends a job.

use std::io::Write as _;

use clap::Args;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::RunId;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Id of the job, such as 42
    #[arg(value_name = "JOB")]
    id: String,
}

/// Asks the controller to end a job.
///
/// # Errors
/// If there is no such thing or the caller may not.
pub(crate) async fn run(context: &Context, arguments: StopArgs) -> Result<Exit, Failure> {
    let id = arguments.id;
    if RunId::new(id.as_str()).is_ok() {
        return Err(is_a_run("stop", &id));
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

/// The id of a run where one of a job is wanted.
pub(crate) fn is_a_run(verb: &str, id: &str) -> Failure {
    let id = Escaped(id);
    Failure::new(Cause::Usage, format!("{verb} {id}"))
        .because(format!("{id} is a run, not a job"))
        .advise(format!("windlass run {verb} {id}"))
}
