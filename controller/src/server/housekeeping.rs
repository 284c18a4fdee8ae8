// SPDX-License-Identifier: Apache-2.0
//! What the daemon does once a day, and at its start: renew its own certificate, forget what nobody can use any more.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use windlass_types::error_chain::ErrorChain;

use super::{Controller, backup};
use crate::join::RENEW_AFTER_EXPIRY;
use crate::listener::tls::ServerConfigs;

/// The controller's certificate is valid for thirty days, so a day's delay of any of this does no harm.
const EVERY: Duration = Duration::from_secs(86_400);

/// Files on their way are kept this long: a copy that was cut off is taken up again the same week or never.
const KEEP_FILES: Duration = Duration::from_secs(7 * 86_400);

/// Keeps house until the controller ends.
pub(super) async fn run(controller: Arc<Controller>, configs: ServerConfigs) {
    // Only now is nobody making one.
    if let Err(error) = backup::remove_leftovers(&controller.settings.state_dir) {
        tracing::warn!(%error, "could not remove what an interrupted backup left");
    }
    loop {
        forget(&controller).await;
        if controller.stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
        if let Err(error) = configs.renew(controller.trust.authority()) {
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
    let oldest =
        UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or_default()).saturating_sub(KEEP_FILES);
    if let Err(error) = controller.files.forget_older(oldest) {
        tracing::warn!(%error, "could not remove old files");
    }
}
