// SPDX-License-Identifier: Apache-2.0
//! Replaces a file so that after a crash there is either the old content or the new one, never a mixture.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Makes a directory that only its owner may enter, with its parents; an existing one is left as it is.
///
/// # Errors
/// If the directory cannot be made.
pub fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes `content` beside `path`, makes it durable, and puts it in the place of `path`, readable by its owner only. What
/// root writes belongs to whom the directory belongs to: the front reads what was written for it when the node joined.
///
/// # Errors
/// If any step fails; then `path` is what it was, or the new content is there and a power cut may take it back.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, content)?;
    sync_parent(path)
}

/// The same for a caller that goes on writing to the new file. Its name is not durable before [`sync_parent`].
///
/// # Errors
/// If any step fails; then `path` is what it was.
pub fn place(path: &Path, content: &[u8]) -> io::Result<File> {
    let temporary = beside(path);
    let written = write_new(&temporary, content).and_then(|file| std::fs::rename(&temporary, path).map(|()| file));
    if written.is_err() {
        std::fs::remove_file(&temporary).or_else(ignore_absent)?;
    }
    written
}

/// Makes the names in the directory of `path` durable.
///
/// # Errors
/// If the directory cannot be opened or flushed.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// If it is there and stays.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path).or_else(ignore_absent)
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<File> {
    // Made anew: whoever owns the directory may have put a link there.
    remove(path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let parent = parent_of(path).metadata()?;
    if nix::unistd::geteuid().is_root() && parent.uid() != 0 {
        std::os::unix::fs::fchown(&file, Some(parent.uid()), Some(parent.gid()))?;
    }
    file.write_all(content)?;
    file.sync_all()?;
    Ok(file)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn leaves_the_old_content_when_the_new_cannot_be_placed() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("taken");
        std::fs::create_dir(&target).expect("a directory in the way");
        assert!(replace(&target, b"new").is_err());
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).expect("readable").map(|e| e.expect("entry").file_name()).collect();
        assert_eq!(names, ["taken"], "nothing half done is left behind");
    }

    #[test]
    fn replaces_the_whole_content_for_the_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let target = dir.path().join("identity.json");
        replace(&target, b"a longer content").expect("written");
        replace(&target, b"short").expect("replaced");
        assert_eq!(std::fs::read(&target).expect("readable"), b"short");
        assert_eq!(std::fs::metadata(&target).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
