// SPDX-License-Identifier: Apache-2.0
//! `windlass exec`: runs a program on many nodes. Also `attach`, which shows a job that runs already.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use windlass_proto::v1;
use windlass_types::action::Argv;
use windlass_types::name::RunId;

use super::collected::Collected;
use super::context::{Context, job_client};
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::follow::{self, Followed, Sink};
use super::lines::{Lines, Stream};
use super::select::ChoiceArgs;
use super::show::{self, ResultFormat};
use super::{stop, suggest, verdict};
use crate::duration;

/// How often a job is asked for when the connection breaks at the wrong moment; the request id makes it one job.
const MOST_ATTEMPTS: u32 = 5;

const PAUSE: Duration = Duration::from_millis(300);

/// How much at once, and when to stop.
#[derive(Debug, Clone, Args)]
pub(crate) struct PaceArgs {
    /// At most N nodes at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: Option<u32>,
    /// Begin no further node once more than N have failed
    #[arg(long, value_name = "N")]
    pub(crate) max_failures: Option<u32>,
    /// Longest time on each node, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait; print the job's id
    #[arg(long)]
    pub(crate) detach: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    pub(crate) output: ResultFormat,
}

/// Arguments of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    pace: PaceArgs,
    /// The program and its arguments, run as they are: no shell reads them
    #[arg(last = true, required = true, value_name = "ARGV")]
    argv: Vec<String>,
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Id of the job, such as 42
    #[arg(value_name = "JOB")]
    id: String,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// Runs a program on nodes and follows it.
///
/// # Errors
/// If the job cannot be made or followed; a program that fails is no error but an exit code.
pub(crate) async fn run(context: &Context, arguments: ExecArgs) -> Result<Exit, Failure> {
    let argv =
        Argv::new(arguments.argv).map_err(|error| Failure::new(Cause::Usage, "run a program").because_of(&error))?;
    let selector = arguments.choice.selector()?;
    let action = v1::create_job_request::Action::Exec(v1::ExecAction { argv: argv.into() });
    let job = create(context, selector, action, &arguments.pace, "run the program").await?;
    if arguments.pace.detach {
        return detached(context, &job, arguments.pace.output);
    }
    show_to_its_end(context, &job.id, arguments.pace.output).await
}

/// Shows a job from its beginning and follows it.
///
/// # Errors
/// If there is no such thing, or the controller is gone for a minute.
pub(crate) async fn attach(context: &Context, arguments: AttachArgs) -> Result<Exit, Failure> {
    if RunId::new(arguments.id.as_str()).is_ok() {
        return Err(stop::is_a_run("attach", &arguments.id));
    }
    show_to_its_end(context, &arguments.id, arguments.output).await
}

/// Makes a job. If the connection breaks while asking, asks again: the request id makes it the same job.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn create(
    context: &Context,
    selector: v1::NodeSelector,
    action: v1::create_job_request::Action,
    pace: &PaceArgs,
    what: &str,
) -> Result<v1::CreateJobResponse, Failure> {
    let names = selector.names.clone();
    let request = v1::CreateJobRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        selector: Some(selector),
        batch: pace.batch.unwrap_or(0),
        max_failures: pace.max_failures,
        timeout_millis: pace.timeout.map_or(0, |timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        action: Some(action),
    };
    let mut client = context.jobs().await?;
    let mut attempts = 1;
    loop {
        let failure = match client.create_job(request.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => Failure::call(what, &status),
        };
        if attempts == MOST_ATTEMPTS || !follow::may_pass(failure.cause) {
            return Err(suggest::near_node(context, failure, &names).await);
        }
        tokio::time::sleep(PAUSE * attempts).await;
        attempts += 1;
        if let Ok(channel) = context.connect().await {
            client = job_client(channel);
        }
    }
}

/// Tells how to go on with a job that nobody watches.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn detached(context: &Context, job: &v1::CreateJobResponse, format: ResultFormat) -> Result<Exit, Failure> {
    let mut out = context.terminal.out();
    match format {
        ResultFormat::Text => {
            writeln!(out, "{}", job.id)?;
            let nodes = match job.nodes.len() {
                1 => "1 node".to_owned(),
                more => format!("{more} nodes"),
            };
            context.terminal.say(format_args!("job {} runs on {nodes}: windlass attach {}", job.id, job.id));
        }
        ResultFormat::Json => {
            show::json_document(&mut out, "JobResult", &Collected::default().into_result(&job.id, false))?
        }
    }
    out.flush()?;
    Ok(Exit::Detached)
}

/// Follows a job, prints what its nodes write, and gives the exit code of it all.
///
/// # Errors
/// If it cannot be followed or printed.
pub(crate) async fn show_to_its_end(context: &Context, id: &str, format: ResultFormat) -> Result<Exit, Failure> {
    let followed = match format {
        ResultFormat::Text => {
            let terminal = context.terminal;
            let stdout = Stream { out: terminal.out(), is_terminal: terminal.stdout_is_terminal };
            let stderr = Stream { out: io::stderr(), is_terminal: terminal.stderr_is_terminal };
            follow::follow(context, id, &mut Lines::new(stdout, stderr)).await?
        }
        ResultFormat::Json => {
            let mut collected = Collected::default();
            let followed = follow::follow(context, id, &mut collected).await?;
            let mut out = context.terminal.out();
            show::json_document(&mut out, "JobResult", &collected.into_result(id, followed.job.is_some()))?;
            out.flush()?;
            followed
        }
    };
    Ok(conclude(context, id, &followed))
}

/// Says what failed, or how to go on, and gives the exit code.
pub(crate) fn conclude(context: &Context, id: &str, followed: &Followed) -> Exit {
    if followed.job.is_none() {
        context.terminal.say(format_args!("\njob {id} continues; `windlass attach {id}`, `windlass stop {id}`"));
        return Exit::Detached;
    }
    if let Some(summary) = verdict::summary(&followed.outcomes) {
        context.terminal.say(summary);
    }
    verdict::exit(&followed.outcomes)
}

/// A sink for jobs whose nodes write nothing, such as copies.
#[derive(Debug, Default)]
pub(crate) struct Silent;

impl Sink for Silent {
    fn output(&mut self, _node: &str, _stream: v1::OutputStream, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn ended(
        &mut self,
        _node: &str,
        _outcome: &windlass_types::outcome::Outcome,
        _missing: [u64; 2],
    ) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
