// SPDX-License-Identifier: Apache-2.0
//! `windlass restore`: puts a backup into an empty state directory, and later confirms the new epoch.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use windlass_proto::refusal::Reason;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use crate::backup::{self, RestoreError};

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(required_unless_present = "confirm", conflicts_with = "confirm")]
    file: Option<PathBuf>,
    /// State directory to fill; it must be empty
    #[arg(long, value_name = "DIR", env = "WINDLASS_STATE_DIR", default_value = "/var/lib/windlass")]
    state_dir: PathBuf,
    /// On a running controller that was restored: end its read-only time
    #[arg(long)]
    confirm: bool,
}

/// Restores, or confirms.
///
/// # Errors
/// If the backup or the directory cannot be used, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: RestoreArgs) -> Result<Exit, Failure> {
    match arguments.file {
        Some(file) => offline(context, &file, &arguments.state_dir),
        None => confirm(context).await,
    }
}

fn offline(context: &Context, file: &std::path::Path, directory: &std::path::Path) -> Result<Exit, Failure> {
    backup::restore(file, directory, context.now()).map_err(|error| failure(&error))?;
    let mut out = context.terminal.out();
    writeln!(out, "restored into {}", Escaped(&directory.display().to_string()))?;
    writeln!(out, "the controller starts read-only; make sure that no other controller of this fleet runs, then:")?;
    writeln!(out, "  systemctl start windlass-controller && windlass restore --confirm")?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn confirm(context: &Context) -> Result<Exit, Failure> {
    let answer = context.admin().await?.confirm_epoch(v1::ConfirmEpochRequest {}).await;
    let epoch = answer.map_err(|status| Failure::call("confirm the restored state", &status))?.into_inner().epoch;
    let mut out = context.terminal.out();
    writeln!(out, "the controller works again, in epoch {epoch}")?;
    out.flush()?;
    Ok(Exit::Done)
}

fn failure(error: &RestoreError) -> Failure {
    let what = "restore the backup";
    let (cause, advice) = match error {
        RestoreError::Backup { .. } => (Cause::Local, "name the file that `windlass backup` made"),
        RestoreError::Damaged { .. } => (Cause::Local, "use another backup: nothing was restored"),
        RestoreError::Newer { .. } => (Cause::Local, "install that version of Windlass or a newer one"),
        RestoreError::InUse { .. } => (Cause::Locked, "systemctl stop windlass-controller"),
        RestoreError::NotEmpty(_) => (Cause::Refused(Reason::Unsafe), "move it away, or name another with --state-dir"),
        RestoreError::Directory { .. } => (Cause::Local, "run as root, or name another directory with --state-dir"),
        RestoreError::Database { .. } => (Cause::Local, "is the disk full?"),
    };
    Failure::new(cause, what).because_of(error).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_controller_and_a_filled_directory_have_their_own_exit_codes() {
        let in_use = RestoreError::InUse { directory: "/d".into(), pid: Some(7) };
        assert_eq!(failure(&in_use).exit().code(), 6);
        assert_eq!(failure(&RestoreError::NotEmpty("/d".into())).exit().code(), 4);
    }
}
