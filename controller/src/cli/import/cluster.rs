// SPDX-License-Identifier: Apache-2.0
//! `windlass import cluster`: what another controller made of a cluster.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::show::{self, ResultFormat};
use crate::cli::table::{Cell, Table};

/// Arguments of `import cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// A spec with the cluster's name and its cloud
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// Does it.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(super) async fn run(context: &Context, arguments: ClusterArgs) -> Result<Exit, Failure> {
    let ClusterArgs { file, yes, output } = arguments;
    let request = v1::ClaimClusterRequest { spec: Some(super::spec(&file)?), shown: Vec::new() };
    let parts = ask(context, "look at the cluster", request.clone()).await?;
    if output == ResultFormat::Text {
        show_all(context, &parts)?;
    }
    if !parts.is_empty() {
        context
            .terminal
            .confirm("is the controller that made these gone for good, and are they to be this one's?", yes)?;
        ask(context, "take over the cluster", v1::ClaimClusterRequest { shown: parts.clone(), ..request }).await?;
    }
    match (output, parts.is_empty()) {
        (ResultFormat::Json, _) => {
            let mut out = context.terminal.out();
            show::json_document(&mut out, "ClaimResult", &views(&parts))?;
            out.flush()?;
        }
        (ResultFormat::Text, true) => context.terminal.say("nothing of it is another controller's"),
        (ResultFormat::Text, false) => {
            context.terminal.say(format_args!("taken over. See what it is: windlass plan -f {}", file.display()));
        }
    }
    Ok(Exit::Done)
}

async fn ask(context: &Context, what: &str, request: v1::ClaimClusterRequest) -> Result<Vec<v1::ForeignPart>, Failure> {
    let answer = context.machines().await?.claim_cluster(request).await;
    Ok(answer.map_err(|status| Failure::call(what, &status))?.into_inner().parts)
}

fn show_all(context: &Context, parts: &[v1::ForeignPart]) -> Result<(), Failure> {
    let mut out = context.terminal.out();
    let controllers: BTreeSet<_> = parts.iter().map(|part| &part.controller).collect();
    for controller in controllers {
        writeln!(out, "The controller {} made:", Escaped(controller))?;
        let mut table = Table::new(vec!["WHAT", "ID"]);
        for part in parts.iter().filter(|part| part.controller == *controller) {
            table.row(vec![Cell::new(&part.kind), Cell::new(&part.id)]);
        }
        table.write(&mut out, context.terminal.colours_stdout(), "  ")?;
    }
    out.flush()?;
    Ok(())
}

#[derive(serde::Serialize)]
struct PartView<'a> {
    kind: &'a str,
    id: &'a str,
    controller: &'a str,
}

#[derive(serde::Serialize)]
struct ClaimResult<'a> {
    items: Vec<PartView<'a>>,
}

fn views(parts: &[v1::ForeignPart]) -> ClaimResult<'_> {
    fn view(part: &v1::ForeignPart) -> PartView<'_> {
        PartView { kind: &part.kind, id: &part.id, controller: &part.controller }
    }
    ClaimResult { items: parts.iter().map(view).collect() }
}
