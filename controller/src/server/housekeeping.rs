// SPDX-License-Identifier: Apache-2.0
//! What the daemon does at its start and every hour: renew its own certificate, forget what nobody can use any more.

use std::sync::Arc;
use std::time::Duration;

use windlass_types::error_chain::ErrorChain;

use super::{Controller, backup};
use crate::join::RENEW_AFTER_EXPIRY;
use crate::listener::tls::ServerConfigs;

/// What is kept longest matters least: of what is forgotten here, parts of files are kept shortest, for a day.
const EVERY: Duration = Duration::from_secs(3600);

/// The controller's certificate is valid for thirty days; making one a day is more than enough.
const RENEW_EVERY: u32 = 24;

/// Keeps house until the controller ends.
pub(super) async fn run(controller: Arc<Controller>, configs: ServerConfigs) {
    // Only now is nobody making one.
    if let Err(error) = backup::remove_leftovers(&controller.settings.state_dir) {
        tracing::warn!(%error, "could not remove what an interrupted backup left");
    }
    for hour in 1_u32.. {
        forget(&controller).await;
        if controller.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
        if hour % RENEW_EVERY == 0
            && let Err(error) = configs.renew(controller.trust.authority())
        {
            tracing::error!(error = %ErrorChain(&error), "the controller's certificate could not be renewed");
        }
    }
}

async fn forget(controller: &Controller) {
    let now = controller.clock.now();
    match controller.trust.forget_ended_before(now.minus(RENEW_AFTER_EXPIRY)).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "forgot certificates that ended long ago"),
        Err(error) => tracing::warn!(error = %ErrorChain(&error), "could not forget old certificates"),
    }
    match controller.tokens.forget_ended().await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "forgot tokens that ended long ago"),
        Err(error) => tracing::warn!(error = %ErrorChain(&error), "could not forget old tokens"),
    }
    if let Err(error) = controller.files.forget_old() {
        tracing::warn!(%error, "could not remove old files");
    }
    if let Some(ballast) = controller.changes.ballast() {
        ballast.restore();
    }
}
