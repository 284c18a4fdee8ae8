// SPDX-License-Identifier: Apache-2.0
//! SELinux labels of files that are placed.
//!
//! A new file gets the label that its directory gives, and what is placed has another name until it is whole, by which no
//! rule of the policy knows it. So it is given the label of the file that it replaces, or else the one that the policy has
//! for its path, before it takes its place: crond, for one, reads no crontab with another label.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{XattrFlags, fsetxattr, lgetxattr};
use windlass_types::error_chain::ErrorChain;

use super::change::FileKind;
use super::exec::{self, CommandSpec};

/// It reads all rules of the policy.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longer than any label: names and hundreds of categories.
const MOST_LABEL_BYTES: usize = 4096;

/// How labels are learned and given.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    /// There while SELinux runs. Without it labels on the disk mean nothing, and nobody may write them.
    enforce: PathBuf,
    attribute: &'static str,
    /// Knows the policy's labels: matchpathcon(8).
    matchpathcon: PathBuf,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            enforce: "/sys/fs/selinux/enforce".into(),
            attribute: "security.selinux",
            matchpathcon: "/usr/sbin/matchpathcon".into(),
        }
    }
}

/// What a file or a directory is to be labelled with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Label {
    attribute: &'static str,
    value: Vec<u8>,
}

impl Labels {
    /// The label for what is to be at `path`, where now `there` leads. `None` where there are no labels, or none is known.
    pub(crate) async fn wished(&self, there: &Path, path: &Path, kind: FileKind) -> Option<Label> {
        let kept = if kind == FileKind::File { self.kept(there) } else { None };
        self.or_of_policy(kept, path, kind).await
    }

    /// The label of the file that is there, which whatever takes its place keeps.
    pub(crate) fn kept(&self, there: &Path) -> Option<Label> {
        let value = self.enforce.exists().then(|| self.of_file(there)).flatten()?;
        Some(Label { attribute: self.attribute, value })
    }

    /// A label that is kept, or else the policy's for `path`.
    pub(crate) async fn or_of_policy(&self, kept: Option<Label>, path: &Path, kind: FileKind) -> Option<Label> {
        if kept.is_some() || !self.enforce.exists() {
            return kept;
        }
        let value = self.of_policy(path, kind).await?;
        Some(Label { attribute: self.attribute, value })
    }

    fn of_file(&self, path: &Path) -> Option<Vec<u8>> {
        std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let mut value = vec![0; MOST_LABEL_BYTES];
        let length = lgetxattr(path, self.attribute, value.as_mut_slice()).ok().filter(|length| *length > 0)?;
        value.truncate(length);
        Some(value)
    }

    async fn of_policy(&self, path: &Path, kind: FileKind) -> Option<Vec<u8>> {
        if !self.matchpathcon.exists() {
            return None;
        }
        let kind = if kind == FileKind::Directory { "dir" } else { "file" };
        let command = CommandSpec::new(&self.matchpathcon, &["-N", "-n", "-m", kind, path.to_str()?], DEADLINE);
        match exec::run(command).await {
            Ok(captured) => parse(&captured.stdout),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %ErrorChain(&error), "the policy does not tell this path's label");
                None
            }
        }
    }
}

impl Label {
    /// Gives it. Where that is not to be, as on a file system without labels, the file keeps what its directory gave it:
    /// what is in it matters more.
    pub(crate) fn give(&self, file: &File) {
        if let Err(error) = fsetxattr(file, self.attribute, &self.value, XattrFlags::empty()) {
            let label = String::from_utf8_lossy(&self.value);
            let label = label.trim_end_matches('\0');
            tracing::warn!(label, error = %io::Error::from(error), "a placed file does not get its label; see `restorecon -v`");
        }
    }
}

/// What matchpathcon prints: a label, ended in an attribute by a zero, or that the policy has none.
fn parse(printed: &[u8]) -> Option<Vec<u8>> {
    let label = printed.trim_ascii();
    let is_label = label.iter().filter(|byte| **byte == b':').count() >= 2 && label.iter().all(u8::is_ascii_graphic);
    is_label.then(|| [label, b"\0"].concat())
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// An attribute that every user may write.
    pub(in crate::host) const ATTRIBUTE: &str = "user.windlass-test";

    /// Labels as on a node with SELinux, whose policy has for each path one that ends with its kind.
    pub(in crate::host) fn modelled(dir: &Path) -> Labels {
        let (enforce, matchpathcon) = (dir.join("enforce"), dir.join("matchpathcon"));
        std::fs::write(&enforce, "1").unwrap();
        std::fs::write(&matchpathcon, "#!/bin/sh\necho system_u:object_r:policy_$4_t:s0\n").unwrap();
        std::fs::set_permissions(&matchpathcon, std::fs::Permissions::from_mode(0o755)).unwrap();
        Labels { enforce, attribute: ATTRIBUTE, matchpathcon }
    }

    pub(in crate::host) fn label_of(path: &Path) -> String {
        let mut value = vec![0; MOST_LABEL_BYTES];
        let length = lgetxattr(path, ATTRIBUTE, value.as_mut_slice()).unwrap();
        String::from_utf8_lossy(&value[..length]).into_owned()
    }

    #[test]
    fn only_a_label_is_taken_for_one() {
        assert_eq!(
            parse(b"system_u:object_r:system_cron_spool_t:s0\n").unwrap(),
            b"system_u:object_r:system_cron_spool_t:s0\0"
        );
        for other in [&b"<<none>>\n"[..], b"", b"matchpathcon: no such file: /etc: none\n", b"a:b\n"] {
            assert_eq!(parse(other), None);
        }
    }

    #[tokio::test]
    async fn without_selinux_nothing_is_labelled() {
        let dir = tempfile::tempdir().unwrap();
        let labels = Labels { enforce: dir.path().join("none"), ..modelled(dir.path()) };
        assert_eq!(labels.wished(dir.path(), dir.path(), FileKind::File).await, None);
    }
}
