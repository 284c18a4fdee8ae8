// SPDX-License-Identifier: Apache-2.0
//! Directories to work in, reached by a way that nobody but root can turn.
//!
//! Whoever may write a directory may put a link in the place of anything in it, and root would work where that link leads:
//! a file for `/home/ada/.config/x` would come to lie in `/etc`. So root goes from one directory to the next, holding each
//! open, and follows a link only if it is root's and lies where only root can put one, as `/var/run` does.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};

/// As many links as the kernel follows on one way.
const MOST_LINKS: u32 = 40;

/// Permission bits of those who are not the owner to write.
const OTHERS_WRITE: u32 = 0o022;

/// The directory that holds what a path leads to, open, and the name of that in it.
pub(crate) struct Place<'a> {
    /// The directory.
    pub(crate) directory: File,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    /// Of an absolute path.
    pub(crate) fn of(path: &'a Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { directory: open(path.parent().unwrap_or_else(|| Path::new("/")))?, name })
    }

    /// A path to it that leads nowhere else whatever becomes of the directories above. Good while this lives; a link of
    /// that name is still one.
    pub(crate) fn path(&self) -> PathBuf {
        within(&self.directory, self.name)
    }

    /// Likewise, to a file beside it that is on its way there.
    pub(crate) fn beside(&self, ending: &str) -> PathBuf {
        let mut temporary = OsString::from(".");
        temporary.push(self.name);
        temporary.push(ending);
        within(&self.directory, &temporary)
    }
}

/// Opens what a path leads to for reading, with further `flags`. A link in its last part is followed as one on the way is.
pub(crate) fn open_followed(path: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    if !nix::unistd::geteuid().is_root() {
        return options.custom_flags(flags).open(path);
    }
    options.custom_flags(flags | O_NOFOLLOW);
    let mut way = path.to_owned();
    for _ in 0..=MOST_LINKS {
        if way.file_name().is_none() {
            return open(&way);
        }
        let place = Place::of(&way)?;
        let found = std::fs::symlink_metadata(place.path())?;
        if !found.is_symlink() {
            return options.open(place.path());
        }
        if !is_roots_alone(&found, &place.directory.metadata()?) {
            break;
        }
        let target = std::fs::read_link(place.path())?;
        way.pop();
        way.push(target);
    }
    Err(not_followed(&way))
}

/// Opens a directory.
fn open(path: &Path) -> io::Result<File> {
    if nix::unistd::geteuid().is_root() {
        walk(path)
    } else {
        // A user has no rights that somebody else's link could use.
        open_directory(path, 0)
    }
}

fn walk(path: &Path) -> io::Result<File> {
    let (mut here, mut shown) = (open_directory(Path::new("/"), 0)?, PathBuf::from("/"));
    let (mut rest, mut links) = (steps_reversed(path), 0);
    while let Some(name) = rest.pop() {
        let next = within(&here, &name);
        let found = std::fs::symlink_metadata(&next)?;
        shown.push(&name);
        if !found.is_symlink() {
            // Whatever has taken its place since is not followed.
            here = open_directory(&next, O_NOFOLLOW)?;
            continue;
        }
        links += 1;
        if links > MOST_LINKS || !is_roots_alone(&found, &here.metadata()?) {
            return Err(not_followed(&shown));
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            here = open_directory(Path::new("/"), 0)?;
        }
        rest.extend(steps_reversed(&target));
    }
    Ok(here)
}

/// The names on the way, the last one first. Of two dots the kernel says where they lead.
fn steps_reversed(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    steps.collect()
}

/// Whether a link was put there by root, and nobody else could have.
fn is_roots_alone(link: &Metadata, directory: &Metadata) -> bool {
    link.uid() == 0 && directory.uid() == 0 && directory.mode() & OTHERS_WRITE == 0
}

fn not_followed(link: &Path) -> io::Error {
    let text = format!(
        "{} is a link that another user than root made or could change, and root does not follow it; name the place that it leads to",
        link.display()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

fn open_directory(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_DIRECTORY | flags).open(path)
}

/// A name in a directory that is open, whatever its path leads to by now.
pub(crate) fn within(directory: &File, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    use super::*;

    /// Some user who is not root.
    const ADA: u32 = 12_345;

    fn is_same(opened: &File, path: &Path) -> bool {
        let (opened, path) = (opened.metadata().unwrap(), path.metadata().unwrap());
        (opened.dev(), opened.ino()) == (path.dev(), path.ino())
    }

    /// A directory of root's with a link in it, whose owner and whose directory's mode are to be chosen.
    fn linked(uid: u32, mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("real/deep")).unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        lchown(dir.path().join("link"), Some(uid), None).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn a_way_without_links_leads_where_the_kernel_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        assert!(is_same(&open(&dir.path().join("a/b")).unwrap(), &dir.path().join("a/b")));
        assert_eq!(open(&dir.path().join("c")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(open(&dir.path().join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(Place::of(Path::new("/")).err().unwrap().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn root_follows_its_own_links_wherever_they_are_on_the_way() {
        let own = nix::unistd::geteuid().as_raw();
        let dir = linked(own, 0o755);
        symlink(dir.path().join("link/deep"), dir.path().join("absolute")).unwrap();
        symlink("../real", dir.path().join("real/up")).unwrap();
        for (way, end) in [("link/deep", "real/deep"), ("absolute", "real/deep"), ("link/up/deep", "real/deep")] {
            assert!(is_same(&open(&dir.path().join(way)).unwrap(), &dir.path().join(end)), "{way}");
        }
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(open(&dir.path().join("loop")).is_err());
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        assert_eq!(open(&dir.path().join("dangling")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn root_follows_no_link_that_somebody_else_made_or_could_change() {
        if !nix::unistd::geteuid().is_root() {
            return; // Who is not root follows every link.
        }
        for (uid, mode) in [(ADA, 0o755), (0, 0o775), (0, 0o757), (0, 0o1777)] {
            let dir = linked(uid, mode);
            for way in ["link", "link/deep"] {
                let error = open(&dir.path().join(way)).unwrap_err();
                assert!(error.to_string().contains("link is a link"), "{uid} {mode:o} {way}: {error}");
            }
            assert!(open(&dir.path().join("real/deep")).is_ok(), "{uid} {mode:o}");
        }
        let dir = linked(0, 0o755);
        lchown(dir.path(), Some(ADA), None).unwrap();
        assert!(open(&dir.path().join("link")).is_err(), "its directory is another's");
    }
    #[test]
    fn a_file_is_opened_by_roots_links_and_not_by_another_users() {
        let own = nix::unistd::geteuid().as_raw();
        let dir = linked(own, 0o755);
        std::fs::write(dir.path().join("real/file"), "content").unwrap();
        symlink("../link/file", dir.path().join("real/up")).unwrap();
        symlink("..", dir.path().join("real/back")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        for way in ["real/file", "link/file", "link/up"] {
            assert!(is_same(&open_followed(&dir.path().join(way), 0).unwrap(), &dir.path().join("real/file")), "{way}");
        }
        assert!(is_same(&open_followed(&dir.path().join("real/back"), 0).unwrap(), dir.path()));
        assert!(is_same(&open_followed(Path::new("/"), 0).unwrap(), Path::new("/")));
        assert!(open_followed(&dir.path().join("loop"), 0).is_err());
        if !nix::unistd::geteuid().is_root() {
            return; // Who is not root follows every link.
        }
        lchown(dir.path().join("real/up"), Some(ADA), None).unwrap();
        let error = open_followed(&dir.path().join("link/up"), 0).unwrap_err();
        assert!(error.to_string().contains("up is a link that another user"), "{error}");
        assert!(open_followed(&dir.path().join("real/file"), 0).is_ok());
    }
}
