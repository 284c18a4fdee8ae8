// SPDX-License-Identifier: Apache-2.0
//! `windlass audit`: whether the record of all changes is whole.

use std::io::Write as _;

use clap::{Args, Subcommand};
use serde::Serialize;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::show::{self, ResultFormat};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditArgs {
    /// Check the chain of the audit log from its first record
    Verify(VerifyArgs),
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

#[derive(Serialize)]
struct Verified {
    whole: bool,
    records: u64,
    fault: Option<String>,
    head: String,
}

/// Does it.
///
/// # Errors
/// If the controller cannot be reached or refuses. A broken chain is an exit code and a message.
pub(crate) async fn run(context: &Context, arguments: AuditArgs) -> Result<Exit, Failure> {
    let AuditArgs::Verify(arguments) = arguments;
    let answer = context.admin().await?.verify_audit(v1::VerifyAuditRequest {}).await;
    let answer = answer.map_err(|status| Failure::call("verify the audit log", &status))?.into_inner();
    let fault = Some(answer.fault).filter(|fault| !fault.is_empty());
    let verified = Verified { whole: fault.is_none(), records: answer.records, fault, head: answer.head };
    let mut out = context.terminal.out();
    match (arguments.output, &verified.fault) {
        (ResultFormat::Json, _) => show::json_document(&mut out, "AuditVerification", &verified)?,
        (ResultFormat::Text, None) => {
            writeln!(out, "the audit log is whole: {} records", verified.records)?;
            writeln!(
                out,
                "head {} (keep it elsewhere: it shows if records are cut off later)",
                Escaped(&verified.head)
            )?;
        }
        (ResultFormat::Text, Some(fault)) => {
            writeln!(out, "the audit log is BROKEN after {} records: {}", verified.records, Escaped(fault))?;
        }
    }
    out.flush()?;
    Ok(if verified.whole { Exit::Done } else { Exit::Failed })
}
