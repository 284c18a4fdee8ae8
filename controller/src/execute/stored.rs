// SPDX-License-Identifier: Apache-2.0
//! What must be stored before a run goes on. A state that cannot be written is no reason to lose a run, nor to go on without
//! a record: the run rests, says so, and tries again until there is room.

use std::time::Duration;

use windlass_types::error_chain::ErrorChain;

use super::ActiveRun;
use crate::store::StoreError;

/// Somebody who makes room has no reason to wait for longer.
const AGAIN: Duration = Duration::from_secs(5);

/// Does something with the store until it succeeds.
pub(super) async fn stored<T, F>(run: &ActiveRun, attempt: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match attempt().await {
            Ok(done) => {
                run.set_rests(None);
                return done;
            }
            Err(error) => rest(run, &error).await,
        }
    }
}

/// Rests for a while because of that.
pub(super) async fn rest(run: &ActiveRun, error: &StoreError) {
    let why = ErrorChain(error).to_string();
    tracing::error!(run = %run.id(), error = %why, "a run cannot be recorded, and rests");
    run.set_rests(Some(why));
    match error {
        // This process is ending; the next one goes on with it.
        StoreError::Closed => std::future::pending().await,
        StoreError::DiskFull | StoreError::Database { .. } => tokio::time::sleep(AGAIN).await,
    }
}
