// SPDX-License-Identifier: Apache-2.0
//! The directory of all machines: which there are, and what a killed controller has left half done.

use std::fs;
use std::path::Path;

use windlass_types::name::{ClusterName, NodeName};

use super::record::{Record, RecordError};
use super::{QemuError, QemuProvider};
use crate::provider::MachineKey;

/// What directories begin with that are being removed, or were when the controller was killed.
pub(super) const DELETED: &str = ".deleted-";

/// What directories begin with that are being made, or were when the controller was killed.
const UNFINISHED: &str = ".new-";

impl QemuProvider {
    /// Every machine with a tag, of one cluster or all.
    pub(super) fn records(&self, only: Option<&ClusterName>) -> Result<Vec<Record>, QemuError> {
        let mut records = Vec::new();
        for cluster in entries(&self.place)? {
            let Ok(cluster) = ClusterName::new(cluster) else { continue };
            if only.is_some_and(|only| *only != cluster) {
                continue;
            }
            for name in entries(&self.place.join(cluster.as_str()))? {
                let Ok(name) = NodeName::new(name) else { continue };
                let key = MachineKey::new(cluster.clone(), name);
                match Record::read(&self.directory(&key), &key) {
                    Ok(record) => records.extend(record),
                    Err(RecordError::Read { path, source }) => return Err(RecordError::Read { path, source }.into()),
                    // None of our business; making one there is refused.
                    Err(error) => tracing::debug!(%error, "a directory among the machines is passed over"),
                }
            }
        }
        Ok(records)
    }
}

/// The names in a directory; none if it is not there.
pub(super) fn entries(directory: &Path) -> Result<Vec<String>, QemuError> {
    let failed = |source| QemuError::File { path: directory.to_owned(), source };
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Removes what a killed controller was removing or about to make: nothing runs from there.
pub(super) fn sweep(place: &Path) {
    for cluster in entries(place).unwrap_or_default() {
        let cluster = place.join(cluster);
        for name in entries(&cluster).unwrap_or_default() {
            if name.starts_with(DELETED) || name.starts_with(UNFINISHED) {
                let path = cluster.join(name);
                if let Err(error) = fs::remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %error, "what is left of a machine cannot be removed");
                }
            }
        }
    }
}
