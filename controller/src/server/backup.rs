// SPDX-License-Identifier: Apache-2.0
//! A backup for whoever asks: made beside the state, sent in pieces, removed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tonic::Status;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;

use super::Controller;
use crate::transfer::pieces_of;

/// Begins the name of a backup that is being sent.
const PREFIX: &str = "outgoing-backup-";

/// Makes a backup and returns its pieces.
///
/// # Errors
/// If it cannot be made.
pub async fn make(controller: &Arc<Controller>) -> Result<BoxStream<'static, Result<Bytes, Status>>, Refusal> {
    let Some(database) = controller.database.clone() else {
        return Err(Refusal::new(Reason::SwitchedOff, "this controller's state is not in a database file"));
    };
    let state_dir = controller.settings.state_dir.clone();
    let path = state_dir.join(format!("{PREFIX}{}", uuid::Uuid::new_v4()));
    let now = controller.clock.now();
    // The audit log goes along; what it adds to the database is told by the disk itself.
    controller.room.require(database.size_bytes()).map_err(|no_room| {
        Refusal::new(Reason::DiskFull, no_room.to_string()).advise("make room on the disk with the state directory")
    })?;
    let made = tokio::task::spawn_blocking(move || {
        crate::backup::backup(&database, &state_dir, &path, now).map_err(|error| failed(&error))?;
        // Open and unlinked: whatever happens from here on, nothing stays behind.
        let file = std::fs::File::open(&path).map_err(|error| failed(&error))?;
        std::fs::remove_file(&path).map_err(|error| failed(&error))?;
        Ok(file)
    });
    Ok(pieces_of(made.await.map_err(|error| failed(&error))??))
}

/// Removes what a controller that was killed while it made a backup left behind: it holds private keys.
///
/// # Errors
/// If the directory cannot be read or a file not be removed.
pub fn remove_leftovers(state_dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(state_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().trim_start_matches('.').starts_with(PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::StateUnavailable, ErrorChain(error).to_string()).advise("see the controller's log")
}
