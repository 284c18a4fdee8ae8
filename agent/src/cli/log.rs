// SPDX-License-Identifier: Apache-2.0
//! Where messages go: to the journal with their fields when systemd runs us, else to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

/// What is logged unless WINDLASS_LOG says otherwise.
const DEFAULT_FILTER: &str = "info,h2=warn,hyper=warn,tonic=warn,rustls=error";

/// Begins to log. A second call changes nothing.
pub(super) fn start() {
    let filter = || EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let layer = match journal {
        // NODE and JOB, as the controller writes them: one search finds both sides.
        Some(journal) => journal.with_field_prefix(None).with_filter(filter()).boxed(),
        None => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_filter(filter())
            .boxed(),
    };
    // Fails only if a subscriber is there already, as in tests.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}
