// SPDX-License-Identifier: Apache-2.0
//! What is reported about the node: everything when a session opens or somebody asks, then only news; and the pulse that
//! goes with every heartbeat.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use windlass_proto::convert::facts::to_wire;
use windlass_proto::v1;
use windlass_types::facts::Fact;
use windlass_types::time::UnixMillis;

use crate::host::{Look, Observe};
use crate::observe::{FactTracker, observe_all};

const BYTES_PER_MEBIBYTE: u64 = 1024 * 1024;

/// Observes the node for one session.
#[derive(Debug)]
pub struct NodeFacts {
    host: Arc<dyn Observe>,
    watched: Vec<String>,
    tracker: FactTracker,
    observed_at: Instant,
}

impl NodeFacts {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(host: Arc<dyn Observe>, watched: Vec<String>) -> Self {
        Self { host, watched, tracker: FactTracker::default(), observed_at: Instant::now() }
    }

    /// Observes the node. Needs no `self`, so that the session goes on meanwhile.
    pub fn observing(&self, look: Look) -> impl Future<Output = Vec<Fact>> + Send + use<> {
        let (host, watched) = (Arc::clone(&self.host), self.watched.clone());
        async move { observe_all(&*host, &watched, look).await }
    }

    /// Takes over what was observed; what is to be sent, unless that is nothing.
    pub fn report(&mut self, observed: Vec<Fact>, request: Option<u64>) -> Option<v1::FactsReport> {
        self.observed_at = Instant::now();
        let news = self.tracker.changed(observed, self.observed_at);
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
