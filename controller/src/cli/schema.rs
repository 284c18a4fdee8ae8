// SPDX-License-Identifier: Apache-2.0
//! `windlass schema`: the JSON Schema of cluster.yaml, for editors.

use std::io::Write as _;

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use crate::spec::schema;

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {}

/// Prints the schema.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn run(context: &Context, _arguments: &SchemaArgs) -> Result<Exit, Failure> {
    let text = serde_json::to_string_pretty(&schema::schema())
        .map_err(|error| Failure::new(Cause::Local, "write the schema").because_of(&error))?;
    let mut out = context.terminal.out();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(Exit::Done)
}
