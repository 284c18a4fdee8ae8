// SPDX-License-Identifier: Apache-2.0
//! livez, readyz and metrics over plain HTTP, on loopback unless configured otherwise. Read only.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::server::Controller;

/// Serves until `stop`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, controller: Arc<Controller>, stop: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(controller);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(controller): State<Arc<Controller>>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let checks = controller.checks().await;
    let all = checks.iter().all(|check| check.ok);
    let status = if all { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose =
        query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    if !verbose {
        return (status, if all { "ok\n" } else { "not ready\n" }.to_owned());
    }
    let line = |check: &windlass_proto::v1::StatusCheck| {
        format!("{} {}: {}\n", if check.ok { "ok" } else { "FAILED" }, check.name, check.detail)
    };
    (status, checks.iter().map(line).collect())
}

async fn metrics(State(controller): State<Arc<Controller>>) -> String {
    let nodes = controller.fleet.list(None, usize::MAX);
    crate::metrics::fleet(&nodes, controller.state_size_bytes(), controller.jobs.under_way());
    crate::metrics::recorder().render()
}
