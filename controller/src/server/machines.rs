// SPDX-License-Identifier: Apache-2.0
//! What happens to machines becomes events.

use std::sync::Arc;

use windlass_types::event::EventKind;

use super::Controller;
use crate::provider::{MachineNews, Provider};

impl Controller {
    /// Listens to every provider that tells something, until the controller ends.
    pub fn watch_machines(self: &Arc<Self>) {
        for provider in self.runs.observer().providers.fixed.values() {
            let (controller, provider) = (Arc::clone(self), Arc::clone(provider));
            tokio::spawn(
                async move { controller.stop.run_until_cancelled(controller.pass_on(provider.as_ref())).await },
            );
        }
    }

    async fn pass_on(&self, provider: &dyn Provider) {
        loop {
            let MachineNews { machine, kind, message } = provider.news().await;
            self.events.emit(kind, Some(&machine.name), None, message);
            if kind == EventKind::MachineStopped {
                self.runs.look_at_machines();
            }
        }
    }
}
