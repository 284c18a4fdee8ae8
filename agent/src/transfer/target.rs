// SPDX-License-Identifier: Apache-2.0
//! Where a file shall be: whether it is there already, and how it comes there. As with the files of steps, root follows no
//! link on the way that another user could have put there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use tokio_util::sync::CancellationToken;

use super::apart::{apart, digest_of, require_waited_for};
use super::file::{FileError, Put, local};
use crate::durable_file;
use crate::host::change::FileKind;
use crate::host::directory::Place;
use crate::host::label::{Label, Labels};

/// Whether the target has this content and mode already.
pub(super) async fn is_in_place(put: Put<'_>) -> Result<bool, FileError> {
    let (path, size, mode) = (PathBuf::from(put.path.as_str()), put.size, put.mode);
    let found = apart(move |given_up| {
        let file = open_if_alike(&path, size, mode)?;
        file.map(|file| digest_of(&file, given_up)).transpose()
    });
    match found.await {
        Ok(digest) => Ok(digest == Some(put.sha256)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            Err(FileError::NotRegular { path: put.path.clone() })
        }
        Err(source) => Err(local("read", Path::new(put.path.as_str()))(source)),
    }
}

/// Opens the target if it is a file of that size and mode.
fn open_if_alike(path: &Path, size: u64, mode: u32) -> io::Result<Option<File>> {
    let place = Place::of(path)?;
    let about = std::fs::symlink_metadata(place.path())?;
    if about.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !about.is_file() || about.len() != size || about.permissions().mode() & 0o7777 != mode {
        return Ok(None);
    }
    // Since the look a link or a pipe may have come there: neither is followed or waited for.
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(place.path())?;
    Ok(Some(file))
}

/// The label that the target shall have.
pub(super) async fn label_of(target: &Path) -> Option<Label> {
    let labels = Labels::default();
    let (asked, path) = (labels.clone(), target.to_owned());
    let kept = apart(move |_| Ok(asked.kept(&Place::of(&path)?.path()))).await.ok()?;
    labels.or_of_policy(kept, target, FileKind::File).await
}

/// Copies beside the target, makes it durable, puts it in place unless nobody waits for that any more.
pub(super) fn place(
    from: &Path,
    target: &Path,
    mode: u32,
    label: Option<&Label>,
    given_up: &CancellationToken,
) -> io::Result<()> {
    let place = Place::of(target)?;
    let temporary = place.beside(".windlass-new");
    copy(from, &temporary, mode, label)
        .and_then(|()| require_waited_for(given_up))
        .and_then(|()| std::fs::rename(&temporary, place.path()))
        .inspect_err(|_| {
            // The first error matters more than one of the clean-up.
            let _ = durable_file::remove(&temporary);
        })?;
    place.directory.sync_all()
}

fn copy(from: &Path, to: &Path, mode: u32, label: Option<&Label>) -> io::Result<()> {
    durable_file::remove(to)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut target)?;
    target.flush()?;
    if let Some(label) = label {
        label.give(&target);
    }
    target.set_permissions(std::fs::Permissions::from_mode(mode))?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use windlass_types::action::NodePath;
    use windlass_types::error_chain::ErrorChain;

    use super::*;

    #[tokio::test]
    async fn a_file_comes_into_a_users_directory_and_not_where_their_link_leads() {
        if !nix::unistd::geteuid().is_root() {
            return; // Only root could be led astray.
        }
        let dir = tempfile::tempdir().unwrap();
        let (home, etc, from) = (dir.path().join("home"), dir.path().join("etc"), dir.path().join("part"));
        std::fs::create_dir(&home).unwrap();
        std::fs::create_dir(&etc).unwrap();
        std::fs::write(&from, "new").unwrap();
        symlink(&etc, home.join("link")).unwrap();
        for path in [&home, &home.join("link")] {
            lchown(path, Some(12_345), Some(12_345)).unwrap();
        }
        let waits = CancellationToken::new();
        place(&from, &home.join("file"), 0o640, None, &waits).unwrap();
        assert_eq!(std::fs::read_to_string(home.join("file")).unwrap(), "new");
        let astray = home.join("link/file");
        let error = place(&from, &astray, 0o640, None, &waits).unwrap_err();
        assert!(ErrorChain(&error).to_string().contains("name the place that it leads to"), "{error}");
        assert_eq!(std::fs::read_dir(&etc).unwrap().count(), 0);
        let path = NodePath::new(astray.to_str().unwrap()).unwrap();
        let sha256 = digest_of(&File::open(&from).unwrap(), &CancellationToken::new()).unwrap();
        assert!(is_in_place(Put { path: &path, sha256, size: 3, mode: 0o640 }).await.is_err());
    }

    #[tokio::test]
    async fn only_a_file_of_the_same_content_and_mode_is_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("part");
        std::fs::write(&from, "new").unwrap();
        let sha256 = digest_of(&File::open(&from).unwrap(), &CancellationToken::new()).unwrap();
        let path = NodePath::new(dir.path().join("file").to_str().unwrap()).unwrap();
        let put = Put { path: &path, sha256, size: 3, mode: 0o640 };
        assert!(!is_in_place(put).await.unwrap());
        place(&from, Path::new(path.as_str()), 0o640, None, &CancellationToken::new()).unwrap();
        assert!(is_in_place(put).await.unwrap());
        assert!(!is_in_place(Put { mode: 0o600, ..put }).await.unwrap());
        let taken = NodePath::new(dir.path().to_str().unwrap()).unwrap();
        assert!(matches!(is_in_place(Put { path: &taken, ..put }).await, Err(FileError::NotRegular { .. })));
    }
    #[test]
    fn what_nobody_waits_for_any_more_is_not_placed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, target, given_up) = (dir.path().join("part"), dir.path().join("file"), CancellationToken::new());
        std::fs::write(&from, "new").unwrap();
        given_up.cancel();
        assert!(place(&from, &target, 0o640, None, &given_up).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing lies beside the target");
    }
}
