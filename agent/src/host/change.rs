// SPDX-License-Identifier: Apache-2.0
//! Changes to the machine's files. A file is there as it was or as it shall be, whenever the power goes, and in the directory
//! that was meant, whatever links other users put on the way.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use async_trait::async_trait;
use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};

use super::directory::{Place, within};
use super::label::Label;
use super::{MOST_FILE_BYTES, Observe, RealHost};

/// What a path leads to. A link in its last part is not followed, and on the way there only links that are root's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Whose.
    pub uid: u32,
    /// Whose.
    pub gid: u32,
    /// Bytes in it.
    pub size: u64,
}

impl Attributes {
    fn of(found: &Metadata) -> Self {
        let kind = match found.file_type() {
            kind if kind.is_file() => FileKind::File,
            kind if kind.is_dir() => FileKind::Directory,
            _ => FileKind::Other,
        };
        Self { kind, mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), size: found.size() }
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A link, a device or something else that is not replaced.
    Other,
}

/// A file as it shall be.
#[derive(Debug, Clone, Copy)]
pub struct NewFile<'a> {
    /// What is in it.
    pub content: &'a [u8],
    /// Permission bits.
    pub mode: u32,
    /// Whose.
    pub uid: u32,
    /// Whose.
    pub gid: u32,
}

impl<'a> NewFile<'a> {
    /// A file of root's that everybody may read.
    #[must_use]
    pub const fn of_root(content: &'a [u8]) -> Self {
        Self { content, mode: 0o644, uid: 0, gid: 0 }
    }
}

/// What steps may do to the files of the machine.
#[async_trait]
pub trait Change: Observe {
    /// What is at a path.
    ///
    /// # Errors
    /// As lstat(2).
    fn attributes(&self, path: &Path) -> io::Result<Attributes>;

    /// A file with its content, every byte of it: both are of one and the same file, whoever puts another one there
    /// meanwhile. A link in the last part of the path is not followed.
    ///
    /// # Errors
    /// As read(2), and if it is no file or larger than any configuration.
    fn file(&self, path: &Path) -> io::Result<(Attributes, Vec<u8>)>;

    /// Likewise, its content alone.
    ///
    /// # Errors
    /// As [`Change::file`].
    fn content(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.file(path).map(|(_, content)| content)
    }

    /// Puts a file in the place of what is there, at once and durably. Its directory must exist.
    ///
    /// # Errors
    /// If it is not in place; then what was there is there still.
    async fn place(&self, path: &Path, file: &NewFile<'_>) -> io::Result<()>;

    /// Makes a directory whose parent exists.
    ///
    /// # Errors
    /// As mkdir(2).
    async fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// As unlink(2).
    async fn remove(&self, path: &Path) -> io::Result<()>;
}

#[async_trait]
impl Change for RealHost {
    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        let found = match Place::of(path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => std::fs::symlink_metadata(path)?,
            place => std::fs::symlink_metadata(place?.path())?,
        };
        Ok(Attributes::of(&found))
    }

    fn file(&self, path: &Path) -> io::Result<(Attributes, Vec<u8>)> {
        let place = Place::of(path)?;
        // Where others may write, a link could lead to what they may not read, and a pipe would hold root up for ever.
        let careful = O_NOFOLLOW | O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(careful).open(place.path())?;
        let attributes = Attributes::of(&file.metadata()?);
        if attributes.kind != FileKind::File {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        let mut bytes = Vec::new();
        file.take(MOST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok((attributes, bytes))
    }

    async fn place(&self, path: &Path, file: &NewFile<'_>) -> io::Result<()> {
        let place = Place::of(path)?;
        let temporary = place.beside(".windlass");
        std::fs::remove_file(&temporary).or_else(ignore_absent)?;
        let label = self.labels.wished(&place.path(), path, FileKind::File).await;
        write_new(&temporary, file, label.as_ref())
            .and_then(|()| std::fs::rename(&temporary, place.path()))
            .inspect_err(|_| {
                // What is left has a name of its own and goes with the next attempt.
                let _ = std::fs::remove_file(&temporary);
            })?;
        place.directory.sync_all()
    }

    async fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        let place = Place::of(path)?;
        // By another name until it is as it shall be: one that is there is taken for done.
        let temporary = place.beside(".windlass");
        let label = self.labels.wished(&place.path(), path, FileKind::Directory).await;
        std::fs::remove_dir(&temporary).or_else(ignore_absent)?;
        DirBuilder::new().mode(0o700).create(&temporary)?;
        let made = open_made(&temporary)?;
        if let Some(label) = label {
            label.give(&made);
        }
        std::os::unix::fs::fchown(&made, Some(uid), Some(gid))?;
        made.set_permissions(std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&temporary, place.path())?;
        place.directory.sync_all()
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        let place = match Place::of(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        std::fs::remove_file(place.path()).or_else(ignore_absent)?;
        place.directory.sync_all()
    }
}

/// Opens a directory that was just made. Whoever owns the one that it is in may have put another in its place since, such as
/// one of root's, which must not be given away.
fn open_made(path: &Path) -> io::Result<File> {
    let made = OpenOptions::new().read(true).custom_flags(O_DIRECTORY | O_NOFOLLOW).open(path)?;
    let about = made.metadata()?;
    let is_ours = about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o777 == 0o700;
    if !is_ours || std::fs::read_dir(within(&made, OsStr::new(".")))?.next().is_some() {
        let text = format!("another directory came to {} while one was made there", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(made)
}

fn write_new(path: &Path, new: &NewFile<'_>, label: Option<&Label>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW).open(path)?;
    file.write_all(new.content)?;
    if let Some(label) = label {
        label.give(&file);
    }
    std::os::unix::fs::fchown(&file, Some(new.uid), Some(new.gid))?;
    // After the owner: chown(2) takes special bits away.
    file.set_permissions(std::fs::Permissions::from_mode(new.mode))?;
    file.sync_all()
}

fn ignore_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::label::tests as tests_of_labels;

    fn own(content: &[u8]) -> NewFile<'_> {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        NewFile { content, mode: 0o640, uid, gid }
    }

    #[tokio::test]
    async fn a_file_is_placed_whole_with_its_mode_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (host, path) = (RealHost::default(), dir.path().join("a.conf"));
        for content in [&b"first"[..], b"2nd"] {
            host.place(&path, &own(content)).await.unwrap();
            assert_eq!(host.content(&path).unwrap(), content);
        }
        assert_eq!(host.attributes(&path).unwrap().mode, 0o640);
        assert_eq!(host.list(dir.path()).unwrap(), ["a.conf"]);
        host.remove(&path).await.unwrap();
        host.remove(&path).await.unwrap();
        assert!(host.attributes(&path).is_err());
    }

    #[test]
    fn a_file_comes_with_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (host, path) = (RealHost::default(), dir.path().join("a.conf"));
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        let (about, content) = host.file(&path).unwrap();
        assert_eq!((about, content.as_slice()), (host.attributes(&path).unwrap(), &b"text"[..]));
        assert_eq!(about.mode, 0o604);
        assert!(host.file(dir.path()).is_err());
    }

    #[test]
    fn a_directory_that_is_not_the_one_just_made_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let swapped = |mode, holds: bool| {
            let path = dir.path().join(format!("{mode:o}{holds}"));
            DirBuilder::new().mode(mode).create(&path).unwrap();
            if holds {
                std::fs::write(path.join("precious"), "").unwrap();
            }
            open_made(&path)
        };
        assert!(swapped(0o700, false).is_ok());
        assert!(swapped(0o755, false).is_err() && swapped(0o700, true).is_err());
    }

    #[tokio::test]
    async fn a_link_in_place_of_a_file_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (host, victim, path) = (RealHost::default(), dir.path().join("victim"), dir.path().join("keys"));
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert_eq!(host.attributes(&path).unwrap().kind, FileKind::Other);
        assert!(host.content(&path).is_err());
        host.place(&path, &own(b"new")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(host.attributes(&path).unwrap().kind, FileKind::File);
    }

    #[test]
    fn a_pipe_in_place_of_a_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(RealHost::default().content(&path).is_err());
    }

    #[tokio::test]
    async fn a_file_keeps_the_label_of_what_was_there_and_a_new_one_gets_that_of_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let (crontab, new, made) = (dir.path().join("crontab"), dir.path().join("new"), dir.path().join("made"));
        let labels = tests_of_labels::modelled(dir.path());
        let host = RealHost { labels, ..RealHost::default() };
        std::fs::write(&crontab, "old").unwrap();
        let old = std::fs::File::open(&crontab).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&old, tests_of_labels::ATTRIBUTE, b"u:r:system_cron_spool_t:s0\0", flags).unwrap();
        host.place(&crontab, &own(b"new")).await.unwrap();
        host.place(&new, &own(b"new")).await.unwrap();
        host.make_directory(&made, 0o750, own(b"").uid, own(b"").gid).await.unwrap();
        assert_eq!(tests_of_labels::label_of(&crontab), "u:r:system_cron_spool_t:s0\0");
        assert_eq!(tests_of_labels::label_of(&new), "system_u:object_r:policy_file_t:s0\0");
        assert_eq!(tests_of_labels::label_of(&made), "system_u:object_r:policy_dir_t:s0\0");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_placed_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (host, path) = (RealHost::default(), dir.path().join("taken"));
        std::fs::create_dir(&path).unwrap();
        assert!(host.place(&path, &own(b"new")).await.is_err());
        assert_eq!(host.list(dir.path()).unwrap(), ["taken"]);
        assert!(host.place(&dir.path().join("no/such"), &own(b"new")).await.is_err());
    }

    #[tokio::test]
    async fn what_is_meant_for_a_users_directory_does_not_follow_their_link_to_another() {
        if !nix::unistd::geteuid().is_root() {
            return; // Only root could be led astray.
        }
        let dir = tempfile::tempdir().unwrap();
        let (host, home, victim) = (RealHost::default(), dir.path().join("home"), dir.path().join("etc/app"));
        std::fs::create_dir_all(&victim).unwrap();
        std::fs::write(victim.join("app.conf"), "precious").unwrap();
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink("../etc", home.join(".config")).unwrap();
        for path in [&home, &home.join(".config")] {
            std::os::unix::fs::lchown(path, Some(12_345), Some(12_345)).unwrap();
        }
        let path = home.join(".config/app/app.conf");
        assert!(host.place(&path, &own(b"new")).await.is_err());
        assert!(host.make_directory(&home.join(".config/new"), 0o755, 0, 0).await.is_err());
        assert!(host.remove(&path).await.is_err());
        assert!(host.content(&path).is_err() && host.attributes(&path).is_err());
        assert_eq!(std::fs::read_to_string(victim.join("app.conf")).unwrap(), "precious");
        assert_eq!(host.list(&dir.path().join("etc")).unwrap(), ["app"]);
        assert_eq!(host.list(&victim).unwrap(), ["app.conf"]);
    }

    #[tokio::test]
    async fn a_directory_gets_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (host, path) = (RealHost::default(), dir.path().join(".ssh"));
        let file = own(b"");
        host.make_directory(&path, 0o750, file.uid, file.gid).await.unwrap();
        let made = host.attributes(&path).unwrap();
        assert_eq!((made.kind, made.mode), (FileKind::Directory, 0o750));
        assert_eq!(host.list(dir.path()).unwrap(), [".ssh"]);
        // What an interrupted one left is in nobody's way.
        std::fs::create_dir(dir.path().join(".new.windlass")).unwrap();
        host.make_directory(&dir.path().join("new"), 0o755, file.uid, file.gid).await.unwrap();
        assert_eq!(host.list(dir.path()).unwrap(), [".ssh", "new"]);
    }
}
