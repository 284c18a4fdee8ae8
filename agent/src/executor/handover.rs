// SPDX-License-Identifier: Apache-2.0
//! When another executor may take over: jobs as units would outlive the change, but process groups and files on their way
//! would not, so a package that brings a new one asks the old one to leave instead of ending it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::jobs::Jobs;

/// How long the controller has to acknowledge the last ends. What it has not by then the next one reports.
const LAST_REPORTS: Duration = Duration::from_secs(2);

/// Waits until it is `asked` for, and then for a moment without an order in hand.
pub(super) async fn released(asked: CancellationToken, jobs: Arc<Jobs>) {
    asked.cancelled().await;
    loop {
        jobs.at_rest().await;
        let known = tokio::time::timeout(LAST_REPORTS, jobs.known()).await.is_ok();
        // Another order may have come meanwhile.
        if jobs.are_at_rest() {
            tracing::info!(all_ends_reported = known, "no job in hand: making room for the next executor");
            return;
        }
    }
}
