// SPDX-License-Identifier: Apache-2.0
//! The controller's metrics (Prometheus naming: base units, `_total` for counters, bounded labels).

use std::sync::OnceLock;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use windlass_types::condition::ConditionKind;

use crate::fleet::NodeView;

/// The one recorder of this process; made when first asked for.
pub fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Another recorder can only have been set by this process's own tests; then ours renders nothing.
        let _already_set = metrics::set_global_recorder(recorder);
        gauge!("windlass_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        // An alert cannot see a counter rise that is not there before its first failure.
        counter!("windlass_audit_write_failures_total").absolute(0);
        handle
    })
}

/// A request came to the gate.
pub fn request(method: &'static str, admitted: bool) {
    counter!("windlass_rpc_requests_total", "method" => method, "admitted" => if admitted { "yes" } else { "no" })
        .increment(1);
}

/// A TLS handshake did not come about.
pub fn handshake_failed(reason: &'static str) {
    counter!("windlass_tls_handshake_failures_total", "reason" => reason).increment(1);
}

/// Somebody tried to join or renew.
pub fn join_attempt(result: &'static str) {
    counter!("windlass_join_attempts_total", "result" => result).increment(1);
}

/// Gauges that are worked out when somebody asks.
pub fn fleet(nodes: &[NodeView], state_bytes: u64, jobs_under_way: usize) {
    let with = |kind| nodes.iter().filter(|node| node.conditions.iter().any(|c| c.kind == kind && c.holds)).count();
    for kind in ConditionKind::ALL {
        gauge!("windlass_nodes", "state" => kind.to_string()).set(float(with(kind)));
    }
    for node in nodes {
        let name = node.record.name.to_string();
        #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch fit")]
        let seen = node.last_seen.0 as f64 / 1000.0;
        gauge!("windlass_node_last_seen_timestamp_seconds", "node" => name.clone()).set(seen);
        let reboot = node.conditions.iter().any(|c| c.kind == ConditionKind::RebootNeeded && c.holds);
        gauge!("windlass_node_reboot_required", "node" => name).set(f64::from(u8::from(reboot)));
    }
    #[expect(clippy::cast_precision_loss, reason = "a database of petabytes is not")]
    gauge!("windlass_db_size_bytes").set(state_bytes as f64);
    gauge!("windlass_jobs_under_way").set(float(jobs_under_way));
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
