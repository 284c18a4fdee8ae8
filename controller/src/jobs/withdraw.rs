// SPDX-License-Identifier: Apache-2.0
//! Taking orders back: whoever gave one has given it up, and a node that has not heard of it shall not hear of it hours later.

use std::sync::Arc;

use super::Jobs;
use super::run::JobRecord;
use crate::store::StoreError;

impl Jobs {
    /// Takes jobs back. Nodes that do not know of one by then are never told; what a node has begun it brings to its end,
    /// and reports.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn withdraw(self: &Arc<Self>, wanted: impl Fn(&JobRecord) -> bool) -> Result<(), StoreError> {
        for job in self.under_way_now() {
            let record = {
                let mut run = job.run();
                if run.record.withdrawn || !wanted(&run.record) {
                    continue;
                }
                run.record.withdrawn = true;
                run.record.clone()
            };
            if let Err(error) = self.records.save(&record).await {
                // Whoever asks again shall find it as it is stored.
                job.run().record.withdrawn = false;
                return Err(error);
            }
        }
        Ok(())
    }
}
