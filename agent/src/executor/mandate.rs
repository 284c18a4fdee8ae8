// SPDX-License-Identifier: Apache-2.0
//! In whose name orders are obeyed: the node's name and the controller's order key, as they were when the node joined.
//!
//! Kept where only the executor can write. The front has the node's own key and may talk to whomever it likes; what this
//! file says it cannot change.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use windlass_types::name::NodeName;

use crate::durable_file;

const MANDATE_FILE: &str = "mandate.json";

/// In whose name orders are obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mandate {
    /// This node.
    pub node: NodeName,
    /// The key the controller's orders are signed with, Ed25519; empty if the controller named none.
    pub order_key: Vec<u8>,
}

/// The mandate cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum MandateError {
    /// There is none.
    #[error("this machine has not joined (no {}): run `windlass-agent join` first", path.display())]
    Absent {
        /// Where it would be.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged: remove it and join again with a new token", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Mandate {
    /// Reads it from the executor's directory.
    ///
    /// # Errors
    /// If it is not there or not as it was written.
    pub fn load(directory: &Path) -> Result<Self, MandateError> {
        let path = directory.join(MANDATE_FILE);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| MandateError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(MandateError::Absent { path }),
            Err(source) => Err(MandateError::Read { path, source }),
        }
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// If it cannot be written; then what was there is there still.
    pub fn save(&self, directory: &Path) -> Result<(), MandateError> {
        let path = directory.join(MANDATE_FILE);
        let written = durable_file::private_directory(directory)
            .and_then(|()| serde_json::to_vec(self).map_err(io::Error::from))
            .and_then(|text| durable_file::replace(&path, &text));
        written.map_err(|source| MandateError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Mandate::load(dir.path()), Err(MandateError::Absent { .. })));
        let mandate = Mandate { node: NodeName::new("node1").unwrap(), order_key: vec![7; 32] };
        mandate.save(&dir.path().join("new")).unwrap();
        assert_eq!(Mandate::load(&dir.path().join("new")).unwrap(), mandate);
        std::fs::write(dir.path().join(MANDATE_FILE), "{\"node\": \"node1\"}").unwrap();
        assert!(matches!(Mandate::load(dir.path()), Err(MandateError::Damaged { .. })));
    }
}
