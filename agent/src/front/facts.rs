// SPDX-License-Identifier: Apache-2.0
//! What is reported about the node: everything when a session opens or somebody asks, then only news; and the pulse that
//! goes with every heartbeat.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use windlass_proto::convert::facts::to_wire;
use windlass_proto::v1;
use windlass_types::error_chain::ErrorChain;
use windlass_types::facts::Fact;
use windlass_types::time::UnixMillis;

use crate::host::Observe;
use crate::observe::{FactTracker, observe_network};

const BYTES_PER_MEBIBYTE: u64 = 1024 * 1024;

/// What is known of the node, and what of it the controller was told.
#[derive(Debug)]
pub struct NodeFacts {
    host: Arc<dyn Observe>,
    tracker: FactTracker,
    observed_at: Instant,
}

impl NodeFacts {
    /// Nothing is known yet. The front looks at the network, load and memory itself.
    #[must_use]
    pub fn new(host: Arc<dyn Observe>) -> Self {
        Self { host, tracker: FactTracker::default(), observed_at: Instant::now() }
    }

    /// Takes over what the executor saw; what is to be sent, unless that is nothing.
    pub fn report(&mut self, observed: v1::NodeObserved, request: Option<u64>) -> Option<v1::FactsReport> {
        self.observed_at = Instant::now();
        let mut facts: Vec<Fact> = observed.facts.into_iter().filter_map(readable).collect();
        facts.push(observe_network(&*self.host));
        let news = self.tracker.changed(facts, self.observed_at);
        let complete = request.is_some();
        let facts: Vec<_> = if complete {
            self.tracker.all(self.observed_at).into_iter().map(|(fact, age)| to_wire(fact, age)).collect()
        } else {
            news.into_iter().map(|fact| to_wire(fact, Duration::ZERO)).collect()
        };
        let report = v1::FactsReport { facts, complete, request: request.unwrap_or_default() };
        (complete || !report.facts.is_empty()).then_some(report)
    }

    /// What goes with a heartbeat.
    #[must_use]
    pub fn heartbeat(&self, now: UnixMillis) -> v1::Heartbeat {
        let age = self.observed_at.elapsed().as_millis();
        v1::Heartbeat {
            unix_millis: now.0,
            load_one_centi: self.host.load().map_or(0, |[one, ..]| centi(one)),
            memory_available_mebibytes: self
                .host
                .memory()
                .map_or(0, |memory| u32::try_from(memory.available / BYTES_PER_MEBIBYTE).unwrap_or(u32::MAX)),
            facts_age_millis: u32::try_from(age).unwrap_or(u32::MAX),
        }
    }

    /// The boot id; empty if the kernel does not tell.
    #[must_use]
    pub fn boot_id(&self) -> String {
        let read = self.host.read(std::path::Path::new("/proc/sys/kernel/random/boot_id"));
        read.map(|text| text.trim().to_owned()).unwrap_or_default()
    }
}

fn readable(fact: v1::Fact) -> Option<Fact> {
    fact.try_into()
        .inspect_err(
            |error| tracing::warn!(error = %ErrorChain(error), "the executor tells a fact that cannot be read"),
        )
        .ok()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what fits")]
fn centi(load: f64) -> u32 {
    (load * 100.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_heartbeat_costs_less_than_forty_bytes() {
        let largest = v1::Heartbeat {
            unix_millis: i64::MAX,
            load_one_centi: u32::MAX,
            memory_available_mebibytes: u32::MAX,
            facts_age_millis: u32::MAX,
        };
        let message = v1::connect_request::Message::Heartbeat(largest);
        let request = v1::ConnectRequest { message: Some(message) };
        assert!(request.encoded_len() < 40, "{} bytes", request.encoded_len());
    }
}
