// SPDX-License-Identifier: Apache-2.0
//! `windlass version`.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::show::{self, ResultFormat};

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: &'static str,
}

/// Prints the version.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn run(context: &Context, arguments: &VersionArgs) -> Result<Exit, Failure> {
    let mut out = context.terminal.out();
    match arguments.output {
        ResultFormat::Text => writeln!(out, "windlass {VERSION}")?,
        ResultFormat::Json => {
            show::json_document(&mut out, "Version", &Version { version: VERSION, protocol: "windlass.v1" })?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
