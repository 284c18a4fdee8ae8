// SPDX-License-Identifier: Apache-2.0
//! A package repository: its file, and its key beside the others. What comes from it must be signed with that key.

use std::path::{Path, PathBuf};

use windlass_types::setting::Repository;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due_if_any};
use crate::host::change::NewFile;

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
        }
        was.push_str(&there);
        was.push('\0');
    }
    Ok(due_if_any(&was, changes))
}

pub(super) async fn apply(here: &Here<'_>, repository: &Repository) -> Result<(), StepError> {
    for (path, content) in files(repository) {
        if here.host.read(&path).is_ok_and(|there| there == content) {
            continue;
        }
        let placed = here.host.place(&path, &NewFile::of_root(content.as_bytes())).await;
        placed.map_err(StepError::file("write", &path))?;
    }
    Ok(())
}

/// The key first: the repository is of no use without it.
fn files(repository: &Repository) -> [(PathBuf, String); 2] {
    let Repository { id, url, gpg_key, signed_metadata } = repository;
    let key = Path::new("/etc/pki/rpm-gpg").join(format!("RPM-GPG-KEY-windlass-{id}"));
    let text = format!(
        "# Written by Windlass.\n[{id}]\nname={id}\nbaseurl={url}\nenabled=1\ngpgcheck=1\nrepo_gpgcheck={}\ngpgkey=file://{}\n",
        u8::from(*signed_metadata),
        key.display()
    );
    [(key, format!("{}\n", gpg_key.trim())), (Path::new("/etc/yum.repos.d").join(format!("{id}.repo")), text)]
}
