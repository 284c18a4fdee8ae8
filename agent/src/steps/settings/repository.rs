// SPDX-License-Identifier: Apache-2.0
//! A package repository: its file, and its key beside the others. What comes from it must be signed with that key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use windlass_types::setting::Repository;
use windlass_types::survey::{Found, SettingDue};

use super::file::{keep, unified};
use super::{Here, StepError, blocked, due_if_any};
use crate::host::change::NewFile;
use crate::host::tools::ToolError;

/// Where a repository is tried before it is put beside the others: the package manager looks into all of them each time.
const TRIED: &str = "/run/windlass-repositories";

/// The first line of what we write.
const OURS: &str = "# Written by Windlass.";

/// Ways to a repository that a package manager knows.
const SCHEMES: [&str; 4] = ["https://", "http://", "ftp://", "file:///"];

pub(super) fn look(here: &Here<'_>, repository: &Repository) -> Result<Found<SettingDue>, StepError> {
    let Repository { id, url, gpg_key, .. } = repository;
    let is_plain = !url.contains(|c: char| c.is_control() || c.is_whitespace());
    if !is_plain || !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(blocked(
            format!("the address of repository {id} is none"),
            "begin it with https://, http://, ftp:// or file:///",
        ));
    }
    if !gpg_key.trim_start().starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----") {
        return Ok(blocked(
            format!("the key of repository {id} is none"),
            "give it as `gpg --armor --export` prints it",
        ));
    }
    let mut changes = Vec::new();
    let mut was = String::new();
    for (path, content) in files(repository) {
        let there = here.host.read(&path).unwrap_or_default();
        if there != content {
            let verb = if there.is_empty() { "new file" } else { "another content in" };
            changes.push(format!("{verb} {}", path.display()));
            // A key says nothing to anybody.
            if !there.is_empty() && path.extension().is_some() {
                changes.extend(unified(&there, &content));
            }
        }
        was.push_str(&there);
        was.push('\0');
    }
    Ok(due_if_any(&was, changes))
}

pub(super) async fn apply(here: &Here<'_>, repository: &Repository) -> Result<(), StepError> {
    if repository.signed_metadata {
        try_out(here, repository).await?;
    }
    for (path, content) in files(repository) {
        match here.host.read(&path) {
            Ok(there) if there == content => continue,
            Ok(there) if there.starts_with(OURS) => {}
            Ok(_) | Err(_) => keep(here, &path).await?,
        }
        place(here, &path, &content).await?;
    }
    Ok(())
}

/// Fetches the metadata once, apart from the other repositories, so that the package manager has the answer to whether it
/// trusts the key for it. Without one each later call that nobody answers would fail, for packages of other repositories too.
async fn try_out(here: &Here<'_>, repository: &Repository) -> Result<(), StepError> {
    let id = &repository.id;
    let files = files_in(Path::new(TRIED), Path::new(TRIED), repository);
    if here.host.attributes(Path::new(TRIED)).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let made = here.host.make_directory(Path::new(TRIED), 0o755, 0, 0).await;
        made.map_err(StepError::file("make", TRIED))?;
    }
    for (path, content) in &files {
        place(here, path, content).await?;
    }
    // What was tried stays until the next boot, as it is no secret.
    match here.tools.run(&here.manager()?.try_repository(TRIED, id)).await {
        Err(error @ ToolError::Failed { .. }) => Err(StepError::blocked(
            format!("repository {id} cannot be read with its key: {error}"),
            "see its address, and whether its metadata is signed with that key; the node does not have it yet",
        )),
        ran => Ok(ran.map(drop)?),
    }
}

async fn place(here: &Here<'_>, path: &Path, content: &str) -> Result<(), StepError> {
    let placed = here.host.place(path, &NewFile::of_root(content.as_bytes())).await;
    placed.map_err(StepError::file("write", path))
}

fn files(repository: &Repository) -> [(PathBuf, String); 2] {
    files_in(Path::new("/etc/pki/rpm-gpg"), Path::new("/etc/yum.repos.d"), repository)
}

/// The key first: the repository is of no use without it.
fn files_in(keys: &Path, repositories: &Path, repository: &Repository) -> [(PathBuf, String); 2] {
    let Repository { id, url, gpg_key, signed_metadata } = repository;
    let key = keys.join(format!("RPM-GPG-KEY-windlass-{id}"));
    let text = format!(
        "{OURS}\n[{id}]\nname={id}\nbaseurl={url}\nenabled=1\ngpgcheck=1\nrepo_gpgcheck={}\ngpgkey=file://{}\n",
        u8::from(*signed_metadata),
        key.display()
    );
    [(key, format!("{}\n", gpg_key.trim())), (repositories.join(format!("{id}.repo")), text)]
}
