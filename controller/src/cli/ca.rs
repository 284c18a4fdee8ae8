// SPDX-License-Identifier: Apache-2.0
//! `windlass ca`: the certificate authority of the fleet.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::show::{self, ResultFormat};

/// What to do with the CA.
#[derive(Debug, Subcommand)]
pub(crate) enum CaArgs {
    /// Move the fleet to a new CA, one stage per call; without --yes only tells what would be done
    #[command(after_help = "Examples:\n  windlass ca rotate          what the next stage would do\n  \
        windlass ca rotate --yes    do it; repeat until it says that nothing is left")]
    Rotate(RotateArgs),
    /// Show the pins by which agents know this controller
    Show(ShowArgs),
}

/// Arguments of `ca rotate`.
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Do it
    #[arg(short, long, visible_alias = "no-dry-run")]
    yes: bool,
    /// Go on although nodes would be left behind; they must join again
    #[arg(long)]
    leave_behind: bool,
    /// Without --yes: exit with 2 if a rotation is under way
    #[arg(long, conflicts_with = "yes")]
    detailed_exitcode: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// Arguments of `ca show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

#[derive(Debug, Serialize)]
struct Rotation {
    dry_run: bool,
    stage: String,
    behind: Vec<String>,
    ca_pins: Vec<String>,
    complete: bool,
}

#[derive(Serialize)]
struct Ca {
    ca_pins: Vec<String>,
}

/// Does it.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: CaArgs) -> Result<Exit, Failure> {
    match arguments {
        CaArgs::Rotate(arguments) => rotate(context, arguments).await,
        CaArgs::Show(arguments) => show_pins(context, arguments.output).await,
    }
}

async fn rotate(context: &Context, arguments: RotateArgs) -> Result<Exit, Failure> {
    let dry_run = !arguments.yes;
    let request = v1::RotateCaRequest { dry_run, leave_behind: arguments.leave_behind };
    let answer = context.admin().await?.rotate_ca(request).await;
    let answer = answer.map_err(|status| Failure::call("rotate the CA", &status))?.into_inner();
    let rotation = Rotation {
        dry_run,
        stage: answer.stage,
        behind: answer.behind,
        ca_pins: answer.ca_pins,
        complete: answer.complete,
    };
    let mut out = context.terminal.out();
    match arguments.output {
        ResultFormat::Json => show::json_document(&mut out, "CaRotation", &rotation)?,
        ResultFormat::Text => write_rotation(&mut out, &rotation)?,
    }
    out.flush()?;
    Ok(if arguments.detailed_exitcode && !rotation.complete { Exit::ChangesPresent } else { Exit::Done })
}

fn write_rotation(out: &mut dyn Write, rotation: &Rotation) -> io::Result<()> {
    let prefix = if rotation.dry_run { "nothing was changed; the next stage " } else { "" };
    writeln!(out, "{prefix}{}", Escaped(&rotation.stage))?;
    if !rotation.behind.is_empty() {
        writeln!(out, "not there yet: {}", Escaped(&rotation.behind.join(", ")))?;
    }
    for pin in &rotation.ca_pins {
        writeln!(out, "pin for new agents: {}", Escaped(pin))?;
    }
    match (rotation.dry_run, rotation.complete) {
        (true, _) => writeln!(out, "to do it: windlass ca rotate --yes"),
        (false, true) => writeln!(out, "nothing is left to do"),
        (false, false) => writeln!(out, "next: windlass ca rotate"),
    }
}

async fn show_pins(context: &Context, format: ResultFormat) -> Result<Exit, Failure> {
    let answer = context.admin().await?.get_status(v1::GetStatusRequest {}).await;
    let ca = Ca { ca_pins: answer.map_err(|status| Failure::call("show the CA", &status))?.into_inner().ca_pins };
    let mut out = context.terminal.out();
    match format {
        ResultFormat::Json => show::json_document(&mut out, "Ca", &ca)?,
        ResultFormat::Text => {
            for pin in &ca.ca_pins {
                writeln!(out, "{}", Escaped(pin))?;
            }
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_says_so_and_names_the_next_command() {
        let rotation = Rotation {
            dry_run: true,
            stage: "would make a second CA".into(),
            behind: vec!["node1".into()],
            ca_pins: vec!["sha256:aa".into()],
            complete: false,
        };
        let mut out = Vec::new();
        write_rotation(&mut out, &rotation).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("nothing was changed; the next stage would make a second CA\n"), "{text}");
        assert!(text.ends_with("to do it: windlass ca rotate --yes\n"), "{text}");
    }
}
