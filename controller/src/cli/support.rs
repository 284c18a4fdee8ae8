// SPDX-License-Identifier: Apache-2.0
//! `windlass support`: one file that says how everything is, to send to whoever helps. It has no secrets.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::check::{self, Check};
use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::get;
use super::show::event::EventView;
use super::show::job::JobView;
use super::show::node::NodeView;
use super::show::operator::OperatorView;
use super::show::token::TokenView;
use super::show::{self, utc};
use super::version::VERSION;
use super::{events, support_redaction};

/// Enough to see what led to a problem, and still a file that can be mailed.
const NEWEST_EVENTS: u32 = 1_000;
const NEWEST_JOBS: u32 = 200;

/// Arguments of `support`.
#[derive(Debug, Args)]
pub(crate) struct SupportArgs {
    /// File to make; windlass-support-TIME.json in this directory if absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Bundle {
    made_at: String,
    version: &'static str,
    controller_version: String,
    epoch: u64,
    read_only: bool,
    sessions: u32,
    checks: Vec<Check>,
    nodes: Vec<NodeView>,
    jobs: Vec<JobView>,
    events: Vec<EventView>,
    tokens: Vec<TokenView>,
    operators: Vec<OperatorView>,
}

/// Collects and writes the bundle.
///
/// # Errors
/// If the controller cannot be reached or refuses, or the file exists or cannot be written.
pub(crate) async fn run(context: &Context, arguments: SupportArgs) -> Result<Exit, Failure> {
    let now = utc(context.now());
    let path = arguments.out.unwrap_or_else(|| format!("windlass-support-{}.json", now.replace(':', "")).into());
    let bundle = collect(context, now).await?;
    let write = |error: std::io::Error| {
        Failure::new(Cause::Local, format!("write {}", path.display()))
            .because_of(&error)
            .advise("name a file that does not exist yet with --out")
    };
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(write)?;
    show::json_document(&mut file, "SupportBundle", &redacted(&bundle)).map_err(write)?;
    file.sync_all().map_err(write)?;
    let mut out = context.terminal.out();
    writeln!(out, "{}", Escaped(&path.display().to_string()))?;
    out.flush()?;
    context.terminal.say("read it before you send it: it names nodes, addresses and who did what");
    Ok(Exit::Done)
}

fn redacted(bundle: &Bundle) -> Value {
    let mut value = serde_json::to_value(bundle).unwrap_or(Value::Null);
    support_redaction::redact(&mut value);
    value
}

async fn collect(context: &Context, made_at: String) -> Result<Bundle, Failure> {
    let answer = context.admin().await?.get_status(v1::GetStatusRequest {}).await;
    let status = answer.map_err(|status| Failure::call("ask the controller", &status))?.into_inner();
    let mut jobs = get::jobs(context, NEWEST_JOBS).await?;
    jobs.iter_mut().for_each(|job| job.summary = support_redaction::without_arguments(&job.summary));
    Ok(Bundle {
        made_at,
        version: VERSION,
        checks: check::of_controller(&status),
        controller_version: status.version,
        epoch: status.epoch,
        read_only: status.read_only,
        sessions: status.sessions,
        nodes: get::list_nodes(context, None).await?,
        jobs,
        events: events::newest(context, NEWEST_EVENTS).await?,
        tokens: get::tokens(context).await?,
        operators: get::operators(context).await?,
    })
}
