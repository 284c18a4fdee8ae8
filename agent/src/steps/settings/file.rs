// SPDX-License-Identifier: Apache-2.0
//! A file: replaced at once, and what was there before Windlass kept beside it, once and for ever.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use windlass_types::name::on_node::UserName;
use windlass_types::setting::ManagedFile;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due, due_if_any};
use crate::host::accounts;
use crate::host::change::{Attributes, FileKind, NewFile};

/// Differences beyond this are cut: they are for people.
const MOST_LINES: usize = 200;

/// Ending of the copy that is kept. Programs that read whole directories leave names that end with a tilde alone: cron,
/// run-parts, logrotate, sudo, the network's.
pub(super) const KEPT_AS: &str = ".before-windlass~";

pub(super) fn look(
    here: &Here<'_>,
    file: &ManagedFile,
    coming: &BTreeSet<UserName>,
) -> Result<Found<SettingDue>, StepError> {
    let path = Path::new(file.path.as_str());
    let ids = match ids(here, file) {
        Ok(ids) => Some(ids),
        Err(missing) if coming.contains(missing) => None,
        Err(missing) => {
            return Ok(blocked(
                format!("there is no {missing}, whose the file shall be"),
                "give the user or group as a setting before it",
            ));
        }
    };
    match here.host.attributes(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(due(b"nothing", appears(file))),
        Err(error) => return Err(cannot_be_looked_at(path, error)),
        Ok(Attributes { kind: FileKind::Directory | FileKind::Other, .. }) => {
            return Ok(blocked(
                format!("{} is not a file but a directory, a link or a device", file.path),
                "name the file that it leads to, or move it away",
            ));
        }
        Ok(Attributes { kind: FileKind::File, .. }) => {}
    }
    let (there, content) = here.host.file(path).map_err(|error| cannot_be_looked_at(path, error))?;
    let mut changes = Vec::new();
    if content != file.content.as_bytes() {
        changes.extend(difference(file, &String::from_utf8_lossy(&content)));
    }
    if there.mode != file.mode {
        changes.push(format!("mode {:04o} -> {:04o}", there.mode, file.mode));
    }
    if ids != Some((there.uid, there.gid)) {
        changes.push(format!("owner {}:{} -> {}:{}", there.uid, there.gid, file.owner, file.group));
    }
    let mut was = format!("{:o} {} {}\n", there.mode, there.uid, there.gid).into_bytes();
    was.extend(content);
    Ok(if changes.is_empty() { due_if_any("", changes) } else { due(&was, changes) })
}

pub(super) async fn apply(here: &Here<'_>, file: &ManagedFile) -> Result<(), StepError> {
    let path = Path::new(file.path.as_str());
    let (uid, gid) = ids(here, file).map_err(|missing| {
        StepError::blocked(format!("there is no {missing}, whose the file shall be"), "make the user first")
    })?;
    keep(here, path).await?;
    make_parents(here, path).await?;
    let new = NewFile { content: file.content.as_bytes(), mode: file.mode, uid, gid };
    here.host.place(path, &new).await.map_err(StepError::file("write", path))
}

/// Gives a file of the system another content, and nothing else: who may read it stays as it was.
pub(in crate::steps) async fn rewrite(here: &Here<'_>, path: &Path, content: &str) -> Result<(), StepError> {
    let mut file = NewFile::of_root(content.as_bytes());
    if let Ok(there) = here.host.attributes(path) {
        (file.mode, file.uid, file.gid) = (there.mode, there.uid, there.gid);
    }
    keep(here, path).await?;
    here.host.place(path, &file).await.map_err(StepError::file("write", path))
}

/// Keeps what was there before Windlass came.
pub(super) async fn keep(here: &Here<'_>, path: &Path) -> Result<(), StepError> {
    let Attributes { kind, .. } = match here.host.attributes(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(StepError::file("look at", path))?,
    };
    if kind != FileKind::File {
        return Err(StepError::blocked(
            format!("{} is not a file but a directory, a link or a device", path.display()),
            "put a file in its place, or move it away",
        ));
    }
    let mut copy = path.as_os_str().to_owned();
    copy.push(KEPT_AS);
    let copy = PathBuf::from(copy);
    if here.host.attributes(&copy).is_ok() {
        return Ok(());
    }
    // What is kept is read by nobody who could not read it before: whose it is and its content are learned together.
    let (Attributes { mode, uid, gid, .. }, content) = here.host.file(path).map_err(StepError::file("read", path))?;
    here.host
        .place(&copy, &NewFile { content: &content, mode, uid, gid })
        .await
        .map_err(StepError::file("write", &copy))
}

/// A link or a file on the way that is no directory of the machine's own, or a file that is none or larger than any
/// configuration: that is for whoever wishes the file to mend, and does not keep the rest from being told.
pub(super) fn cannot_be_looked_at(path: &Path, error: io::Error) -> StepError {
    const THEIRS: [ErrorKind; 4] =
        [ErrorKind::PermissionDenied, ErrorKind::NotADirectory, ErrorKind::FileTooLarge, ErrorKind::InvalidInput];
    if !THEIRS.contains(&error.kind()) {
        return StepError::file("look at", path)(error);
    }
    let reason = format!("{} cannot be looked at: {error}", path.display());
    StepError::blocked(reason, format!("see `namei -l {}` on the node", path.display()))
}

async fn make_parents(here: &Here<'_>, path: &Path) -> Result<(), StepError> {
    let ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    for directory in ancestors.into_iter().rev() {
        match here.host.attributes(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let made = here.host.make_directory(directory, 0o755, 0, 0).await;
                made.map_err(StepError::file("make", directory))?;
            }
            // A link may be one of root's, as /var/run is: whoever goes through it sees.
            found => drop(found.map_err(StepError::file("look at", directory))?),
        }
    }
    Ok(())
}

/// The numbers of owner and group, or who is not there.
fn ids<'a>(here: &Here<'_>, file: &'a ManagedFile) -> Result<(u32, u32), &'a UserName> {
    let uid = accounts::user(here.host, file.owner.as_str()).ok_or(&file.owner)?.uid;
    let gid = accounts::group(here.host, file.group.as_str()).ok_or(&file.group)?;
    Ok((uid, gid))
}

fn appears(file: &ManagedFile) -> Vec<String> {
    let about =
        format!("new file, {} bytes, mode {:04o}, {}:{}", file.content.len(), file.mode, file.owner, file.group);
    let shown = if file.secret { Vec::new() } else { difference(file, "") };
    std::iter::once(about).chain(shown).collect()
}

fn difference(file: &ManagedFile, old: &str) -> Vec<String> {
    if file.secret {
        return vec![format!("another content of {} bytes, which is a secret", file.content.len())];
    }
    unified(old, &file.content)
}

/// How a text is changed.
pub(super) fn unified(old: &str, new: &str) -> Vec<String> {
    let diff = similar::TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(3).to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.len() > MOST_LINES {
        let more = lines.len() - MOST_LINES;
        lines.truncate(MOST_LINES);
        lines.push(format!("... and {more} lines more"));
    }
    lines
}
