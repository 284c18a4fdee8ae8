// SPDX-License-Identifier: Apache-2.0
//! `windlass backup`: a consistent copy of all state, while the controller runs.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::show::size;

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// File to make; it will hold all keys
    file: PathBuf,
}

/// Writes the backup beside its place and moves it there when it is whole.
///
/// # Errors
/// If the file exists or cannot be written, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    let path = arguments.file;
    if path.exists() {
        return Err(local(&path, "it exists already").advise("name another file, or remove this one"));
    }
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let bytes = match receive(context, &part).await {
        Ok(bytes) => bytes,
        Err(failure) => {
            // Half a backup is worth nothing; if even this fails, its name says what it is.
            let _ = std::fs::remove_file(&part);
            return Err(failure);
        }
    };
    std::fs::rename(&part, &path).map_err(|error| local(&path, "").because_of(&error))?;
    let shown = path.display().to_string();
    let mut out = context.terminal.out();
    writeln!(out, "{}: {}", Escaped(&shown), size(bytes))?;
    out.flush()?;
    context.terminal.say("it holds every key of this fleet: keep it as safe as the controller itself");
    Ok(Exit::Done)
}

fn local(path: &Path, why: &str) -> Failure {
    Failure::new(Cause::Local, format!("write the backup {}", path.display())).because(why)
}

async fn receive(context: &Context, part: &Path) -> Result<u64, Failure> {
    let failed = |status| Failure::call("take a backup", &status);
    let mut admin = context.admin().await?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part).map_err(
            |error| local(part, "").because_of(&error).advise("is the directory there, and can it be written?"),
        )?;
    let mut stream = admin.backup(v1::BackupRequest {}).await.map_err(failed)?.into_inner();
    let mut bytes = 0;
    while let Some(piece) = stream.message().await.map_err(failed)? {
        file.write_all(&piece.data).map_err(|error| local(part, "").because_of(&error))?;
        bytes += piece.data.len() as u64;
    }
    if bytes == 0 {
        return Err(local(part, "the controller sent nothing"));
    }
    file.sync_all().map_err(|error| local(part, "").because_of(&error))?;
    Ok(bytes)
}
