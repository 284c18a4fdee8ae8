// SPDX-License-Identifier: Apache-2.0
//! Making and removing what the machines of a cluster share. One after the other: each stands on those before it.

use std::sync::Arc;

use windlass_plan::StepId;
use windlass_types::cloud::{SharedReport, SharedSpec};
use windlass_types::event::EventKind;

use super::steps::StepFailure;
use super::{ActiveRun, Runs};

impl Runs {
    /// Makes what is missing, and changes what is not as it shall be.
    pub(super) async fn prepare(
        &self,
        run: &Arc<ActiveRun>,
        id: &StepId,
        shared: &[SharedSpec],
    ) -> Result<(), StepFailure> {
        let (cluster, provider) = self.provider_of(run).await?;
        for wanted in shared {
            if run.stop.is_cancelled() {
                return Err(StepFailure::Stopped);
            }
            provider.prepare(&cluster, wanted).await.map_err(|error| StepFailure::provider(&error))?;
            self.tell(
                run,
                EventKind::CloudPrepared,
                id,
                format!("the {} of cluster {cluster} is there", wanted.kind()),
            );
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) async fn clear(
        &self,
        run: &Arc<ActiveRun>,
        id: &StepId,
        shared: &[SharedReport],
    ) -> Result<(), StepFailure> {
        let (cluster, provider) = self.provider_of(run).await?;
        for report in shared {
            if run.stop.is_cancelled() {
                return Err(StepFailure::Stopped);
            }
            provider.clear(&cluster, report).await.map_err(|error| StepFailure::provider(&error))?;
            let message = format!("the {} {} of cluster {cluster} is removed", report.is.kind(), report.id);
            self.tell(run, EventKind::CloudCleared, id, message);
        }
        Ok(())
    }
}
