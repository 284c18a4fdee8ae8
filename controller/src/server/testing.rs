// SPDX-License-Identifier: Apache-2.0
//! A controller without listeners, for tests of its parts.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Controller, Parts};
use crate::audit::{AuditLog, MemorySink};
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::store::Store;

/// A controller over this store, with its files below `directory`.
pub(crate) async fn controller(store: Arc<dyn Store>, directory: &Path) -> Arc<Controller> {
    let clock = Arc::new(SystemClock);
    Controller::open(Parts {
        store,
        database: None,
        audit: AuditLog::in_memory(MemorySink::default(), clock.clone()),
        clock,
        settings: Settings::for_tests(directory),
        agent_endpoint: "bastion:7600".to_owned(),
        join_endpoint: "bastion:7601".to_owned(),
        providers: Vec::new(),
        stop: CancellationToken::new(),
        ballast: None,
    })
    .await
    .expect("it opens")
}
